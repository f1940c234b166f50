"""What the tests of the native kernels share."""

import pytest

from reptile_np.nn import native
from tests import native_kernels


@pytest.fixture(scope="module", params=native.available())
def variant(request):
    """The name of each variant."""
    return request.param


@pytest.fixture(scope="module")
def kernels(variant):
    """The table of each variant, on one thread."""
    return native_kernels.load(variant, threads=1)
