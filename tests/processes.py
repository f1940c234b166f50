"""How many processes run the tests, and in which order; hooks of ``conftest.py`` call these functions."""

import os
from collections import Counter
from pathlib import Path

MOST = 8  # some tests start processes of their own


def divide(config):
    """Divide the whole suite among one process per core, at most `MOST`, if pytest-xdist is there.

    A file of tests is not divided.  ``pytest -n 0`` uses one process for all; so do chosen files or tests,
    unless ``-n`` is given.
    """
    whole_suite = [Path(argument).resolve() for argument in config.args] == [Path(__file__).parent.resolve()]
    if "PYTEST_XDIST_WORKER" in os.environ or not whole_suite:
        return  # a process of pytest-xdist calls this function too
    if config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None:
        config.option.numprocesses, config.option.maxprocesses = "auto", MOST
        config.option.dist = "loadfile"  # a file's fixtures are made once
        config.option.loadscopereorder = False  # or the files of the fewest and longest tests would be last


def files_of_few_tests_first(items):
    """Sort the files of collected tests: tests that are alone in a file take the longest time.

    The files of many short tests come last, so that all processes end at about the same time.
    """
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (tests[item.path], item.path))  # a file's own order is kept
