"""The command as a program of its own, for tests of its streams and of Ctrl-C."""

import os
import subprocess
import sys

PROGRAM = [sys.executable, "-m", "reptile_np"]


def environment(**changes):
    """This environment with some variables changed; None: removed."""
    values = {**os.environ, **changes}
    return {name: value for name, value in values.items() if value is not None}


def run(*args, **options):
    """Run the command to its end; its output as text."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 120} | options
    return subprocess.run([*PROGRAM, *args], **options)
