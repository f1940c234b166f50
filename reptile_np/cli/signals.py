"""Ctrl-C and ``kill``: the program ends at once, or with a KeyboardInterrupt if a command has work to save.

At once is the rule, because an exception that is raised inside an import is lost, or becomes another one:
NumPy turns it into its advice on broken installations.

Verified by ``tests/cli/test_surroundings.py``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

__all__ = ["EXIT_CODE", "STOPS", "end_at_once", "raise_instead"]

EXIT_CODE = 130
STOPS = (signal.SIGINT, signal.SIGTERM)


def _nothing_had_begun() -> object:
    return os.write(2, b"reptile-np: stopped; nothing had begun\n")


_say: Callable[[], object] = _nothing_had_begun


def _end(number: int, frame: FrameType | None) -> None:
    try:
        _say()
    finally:
        os._exit(EXIT_CODE)


def end_at_once(say: Callable[[], object] = _nothing_had_begun) -> None:
    """From now on call `say` and end the process; signals that were ignored stay ignored (``nohup``)."""
    global _say
    _say = say
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def raise_instead() -> None:
    """From now on raise KeyboardInterrupt; does nothing outside a program, as in a test."""
    import numpy.random  # noqa: F401  # NumPy imports it at its first use, and would lose the exception there

    for number in STOPS:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.default_int_handler)
