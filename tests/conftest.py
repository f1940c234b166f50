"""Profiles, data folders, and the fixture that holds every table of kernels to the same tests.

Environment: REPTILE_NP_PROFILE (or HYPOTHESIS_PROFILE) = dev | ci | deep, and ci where CI is set;
REPTILE_NP_GOLDEN and REPTILE_NP_DATA name the folders with recorded vectors and with real data sets.
"""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

from reptile_np.cli.arguments import one_blas_thread

one_blas_thread()  # the next imports load NumPy

from reptile_np.nn import native  # noqa: E402
from reptile_np.nn.ops import NUMPY  # noqa: E402
from reptile_np.tasks import omniglot  # noqa: E402
from tests import native_kernels, processes  # noqa: E402

# deadlines measure the machine's other load, not the code
settings.register_profile("dev", max_examples=15, deadline=None)
settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("deep", max_examples=1000, deadline=None)
settings.load_profile(
    os.environ.get("REPTILE_NP_PROFILE")
    or os.environ.get("HYPOTHESIS_PROFILE")
    or ("ci" if os.environ.get("CI") else "dev")
)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads its options
def pytest_cmdline_main(config):
    """Choose the number of processes."""
    processes.divide(config)


@pytest.hookimpl(trylast=True)  # after pytest's own order by fixtures
def pytest_collection_modifyitems(items):
    """Begin with the files whose tests take the longest time."""
    processes.files_of_few_tests_first(items)


def pytest_collection_finish(session):
    """Keep the thousands of collected tests out of every garbage collection, which they would slow down."""
    gc.collect()
    gc.freeze()


def folder(variable):
    """The folder an environment variable names; (None, reason) where there is none."""
    value = os.environ.get(variable)
    if not value:
        return None, f"{variable} is not set"
    path = Path(value)
    return (path, "") if path.is_dir() else (None, f"{variable}={value} is not a folder")


def folder_or_skip(variable):
    path, reason = folder(variable)
    return path or pytest.skip(reason)


@pytest.fixture(scope="session")
def golden():
    """The folder of vectors recorded from the authors' released program."""
    return folder_or_skip("REPTILE_NP_GOLDEN")


@pytest.fixture(scope="session")
def data():
    """The folder of real data sets."""
    return folder_or_skip("REPTILE_NP_DATA")


@pytest.fixture(scope="session")
def drawings(data, tmp_path_factory):
    """The real Omniglot: importing its two zip files takes seconds, so they are imported once."""
    pytest.importorskip("PIL")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # one for all processes: the second import finds the first one's
    return omniglot.load(omniglot.import_omniglot(data / "omniglot", folder / "omniglot"))


@pytest.fixture
def omniglot_data(drawings, data, monkeypatch):
    """The folder of real data sets, from which Omniglot is not imported again."""
    monkeypatch.setattr(omniglot, "load", lambda source: drawings)
    return data


def tables():
    """NUMPY and every native variant that this machine can run, small calls on all threads too."""
    return [NUMPY, *map(native_kernels.load, native.available())]


@pytest.fixture(scope="session", params=tables(), ids=lambda table: table.name)
def ops(request):
    """A table of kernels: a test of the *function* takes this, and so holds every variant."""
    return request.param


@pytest.fixture(scope="session", params=tables()[:2], ids=lambda table: table.name)
def default_ops(request):
    """The tables that are chosen if the user names none, NUMPY and the best native one: for whole runs."""
    return request.param


def pytest_generate_tests(metafunc):
    """Give a test that asks for `golden_file` each recorded run in turn, `sgd_golden_file` those with SGD."""
    for name, pattern in (("golden_file", "*.npz"), ("sgd_golden_file", "*_sgd*.npz")):
        if name in metafunc.fixturenames:
            path, reason = folder("REPTILE_NP_GOLDEN")
            files = sorted(path.glob(pattern)) if path else []
            skip = pytest.mark.skip(reason=reason or f"no {pattern} there")
            ids = [file.stem for file in files] or None
            absent = pytest.param(None, marks=skip, id="absent")
            metafunc.parametrize(name, files or [absent], ids=ids, scope="module")
