"""The whole suite is divided among processes once; chosen tests and the processes themselves are not."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.processes import divide

TESTS = Path(__file__).parent


def processes(monkeypatch, *args, number=None, plugin=True, worker=False):
    """The number of processes after `divide`; None: pytest-xdist is not used."""
    if worker:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    else:
        monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.chdir(TESTS.parent)
    option = SimpleNamespace(numprocesses=number, maxprocesses=None, dist="no")
    plugins = SimpleNamespace(hasplugin=lambda name: plugin and name == "xdist")
    divide(SimpleNamespace(args=[str(arg) for arg in args], option=option, pluginmanager=plugins))
    return option.numprocesses


@pytest.mark.parametrize("args", [("tests",), ("tests/",), (TESTS,)])
def test_the_whole_suite_is_run_by_one_process_per_core(monkeypatch, args):
    assert processes(monkeypatch, *args) == "auto"


@pytest.mark.parametrize("args", [("tests/test_cli.py",), ("tests/nn",), ("tests/nn", "tests/meta")])
def test_chosen_tests_are_run_by_one_process(monkeypatch, args):
    assert processes(monkeypatch, *args) is None


def test_a_number_of_processes_that_was_given_stays(monkeypatch):
    assert [processes(monkeypatch, "tests", number=number) for number in (0, 3)] == [0, 3]


def test_without_the_plugin_there_is_one_process(monkeypatch):
    assert processes(monkeypatch, "tests", plugin=False) is None


def test_a_process_of_the_plugin_starts_no_others(monkeypatch):
    assert processes(monkeypatch, "tests", worker=True) is None
