"""The exception for a user's mistake, two checks of arguments, and text that is safe to print or run."""

import os
import shlex
import subprocess
from collections.abc import Sequence
from numbers import Integral

__all__ = ["UsageError", "check_generator", "printable", "quoted", "whole"]


class UsageError(ValueError):
    """Bad arguments or data: one line that says what, where and what to do.

    The command line prints the line and exits with 2.  Verified by ``tests/test_cli.py``.
    """


def printable(text: object) -> str:
    r"""Return ``str(text)`` in one line; escapes such as ``\n`` replace characters that are not printable.

    File names, archives and answers of servers may hold line breaks and terminal commands.  Verified by
    ``tests/test_errors.py``.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def quoted(words: Sequence[str]) -> str:
    """Return words of a command as the shell of this system reads them; ``tests/test_errors.py``."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def whole(name: str, value: object) -> int:
    """Return an argument that must be a whole number, of Python or NumPy; else raise `UsageError`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{name} is {value!r}; give a whole number")
    return int(value)


def check_generator(rng: object) -> None:
    """Raise `UsageError` if `rng` is None or a whole number, and not a generator."""
    if rng is None or isinstance(rng, Integral):
        raise UsageError(f"rng is {rng!r}; give a generator, such as numpy.random.default_rng({rng or 0})")
