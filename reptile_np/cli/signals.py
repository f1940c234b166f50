"""Ctrl-C, ``kill``, a closed terminal: the program ends at once, or a command saves its work and ends.

At once is the rule, because an exception that is raised inside an import is lost, or becomes another one:
NumPy turns it into its advice on broken installations.

Verified by ``tests/cli/test_ctrl_c.py``.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from reptile_np.machine import TERMINAL_SIGNALS

__all__ = ["EXIT_CODE", "IGNORE_SECONDS", "STOPS", "end_at_once", "ignore", "raise_instead"]

EXIT_CODE = 130
STOPS = (*TERMINAL_SIGNALS, signal.SIGTERM)


def _nothing_had_begun() -> object:
    return os.write(2, b"reptile-np: stopped; nothing had begun\n")


IGNORE_SECONDS = 3.0
"""Seconds after a signal during which further signals are ignored: the command saves its work, or ends its
processes."""

_say: Callable[[], object] = _nothing_had_begun
_raised_at = -math.inf


def _end(number: int, frame: FrameType | None) -> None:
    try:
        _say()
    finally:
        os._exit(EXIT_CODE)


def end_at_once(say: Callable[[], object] = _nothing_had_begun) -> None:
    """Install handlers: a signal calls `say` and ends the process; a signal that is ignored stays ignored."""
    global _say
    _say = say
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _raise(number: int, frame: FrameType | None) -> None:
    global _raised_at
    now = time.monotonic()
    if now - _raised_at >= IGNORE_SECONDS:
        _raised_at = now
        raise KeyboardInterrupt


def ignore() -> None:
    """Ignore further signals: the program has saved its work and is about to end."""
    for number in STOPS:
        if signal.getsignal(number) is _raise:
            signal.signal(number, signal.SIG_IGN)


def raise_instead() -> None:
    """Let a signal raise KeyboardInterrupt from now on, so that the command can save or clean up.

    It has no effect if `end_at_once` was not called, as in a test.
    """
    import numpy.random  # noqa: F401  # NumPy imports it at its first use, and would lose the exception there

    for number in STOPS:
        if signal.getsignal(number) is _end:
            signal.signal(number, _raise)
