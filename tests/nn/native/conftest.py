"""What the tests of the native kernels share."""

import pytest

from reptile_np.nn import native


@pytest.fixture(scope="module", params=native.available())
def kernels(request):
    """Each variant, on one thread."""
    return native.load(request.param, threads=1)
