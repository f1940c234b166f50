"""How many processes run the tests; a hook of ``conftest.py`` calls `divide`."""

import os
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
