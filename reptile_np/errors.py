"""The exception for a user's mistake, checks of arguments, and text that is safe to print or run."""

import os
import shlex
import subprocess
from collections.abc import Sequence
from numbers import Integral, Number
from typing import Any

__all__ = [
    "UsageError",
    "check_callable",
    "check_generator",
    "number",
    "printable",
    "quoted",
    "reason",
    "whole",
]


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


def reason(error: BaseException) -> str:
    """Return in one line why an operation failed: the system's message, else the error's, else its type.

    Verified by ``tests/test_errors.py``.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else error
    return printable(" ".join(str(text).split())) or type(error).__name__


def quoted(words: Sequence[str]) -> str:
    """Return words of a command as the shell of this system reads them.

    Verified by ``tests/test_errors.py``.
    """
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def whole(name: str, value: object, least: int) -> int:
    """Return a whole number of Python or NumPy as Python's, which can be written as JSON.

    Raises
    ------
    UsageError
        If it is no whole number, or less than `least`; `name` says which argument it is.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise UsageError(f"{name} is {value!r}; give a whole number of at least {least}")
    return int(value)


def number(name: str, value: Any) -> Any:
    """Return a number, of any type, as it is.

    Raises
    ------
    UsageError
        If it is no number; `name` says which argument it is.
    """
    if not isinstance(value, Number):
        raise UsageError(f"{name} is {printable(repr(value))}; give a number")
    return value


def check_callable(**functions: object) -> None:
    """Raise `UsageError` unless each of the named arguments can be called."""
    for name, function in functions.items():
        if not callable(function):
            short = function is None or isinstance(function, str)
            found = repr(function) if short else f"a {type(function).__name__}"
            raise UsageError(f"{name} is {found}; give a function")


def check_generator(rng: object) -> None:
    """Raise `UsageError` if `rng` is not a generator of NumPy."""
    from numpy.random import Generator  # here: the program sets the BLAS's threads before NumPy is loaded

    if not isinstance(rng, Generator):
        seed = max(int(rng), 0) if isinstance(rng, Integral) else 0
        raise UsageError(f"rng is {rng!r}; give a generator, such as numpy.random.default_rng({seed})")
