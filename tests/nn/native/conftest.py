"""What the tests of the native kernels share."""

import pytest

from tests import native_kernels
from tests.nn.native.networks import PAPERS


@pytest.fixture(scope="module", params=native_kernels.VARIANTS)
def variant(request):
    """The name of each variant."""
    return request.param


@pytest.fixture(scope="module")
def kernels(variant):
    """The table of each variant, on one thread."""
    return native_kernels.load(variant, threads=1)


@pytest.fixture(scope="module", params=PAPERS)
def model(request):
    """Each network of the papers, and narrow ones."""
    return PAPERS[request.param]
