"""What the tests of the native kernels share."""

import time

import pytest

from tests import native_kernels
from tests.nn.native import teams
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


@pytest.fixture
def before():
    """This process's threads, none of them a helper; ended again after the test."""
    teams.close()
    time.sleep(0.02)  # Linux wakes who waits for a thread shortly before it removes the thread
    yield teams.tasks() if teams.TASKS.exists() else set()
    teams.close()
