"""How many threads share a native call: the most that are allowed, and whether several are faster than one.

The members of a team wait for each other some twenty times in a training step.  If another process occupies
one of the cores, all members wait each time for the one that is not running, and two threads are slower than
one.  So `Pace` times both ways in a few calls, uses the faster one for many calls, and tries again.  Results
do not depend on it: they are bitwise identical for any number of threads.

Nothing here locks, so a process may be forked while another of its threads is inside a native call.

Verified by ``tests/nn/native/test_threads.py``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median_low

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.machine import cores

__all__ = ["HOLD", "LEAST_WORK", "LONG", "MOST_THREADS", "TRIAL", "Pace", "Team", "thread_count"]

MOST_THREADS = 64
"""Threads of a call at most: RK_MAX_THREADS of ``csrc/interface.h``."""
LEAST_WORK = 30_000_000
"""Multiply-adds of a call, below which waking a second thread may cost as much time as it saves; they take
0.5 ms on Zen 4, 0.2 ms on Zen 5."""
TRIAL, LONG = 5, 0.01
"""One half of a trial uses all threads, the other half one thread.  A half ends after five calls, or after
ten milliseconds if it has at least two calls.  The medians of the halves are compared (`median_low`), because
a call that meets cold caches or new memory may take several times as long.
"""
HOLD = 40
"""A trial of n calls decides for the next 40 n calls.  So trials cost the same part of the time whether calls
are short or long: 1 % if two threads are twice as fast as one."""


@dataclass(frozen=True)
class Team:
    """How many threads may share a call.

    Parameters
    ----------
    threads
        The largest number of threads of a call.
    least_work
        Calls of fewer multiply-adds run on one thread.
    trials
        Whether `Pace` compares all threads with one; without trials all are used.
    """

    threads: int = 1
    least_work: int = LEAST_WORK
    trials: bool = True

    def members(self, work: int) -> int:
        """Return how many threads may share a call of `work` multiply-adds."""
        return self.threads if work >= self.least_work else 1


class Pace:
    """Chooses one thread or all of them for one kind of call, by timing both.

    Calls from several Python threads may share it; a half of a trial may then have some more calls.
    """

    def __init__(self, team: Team, clock: Callable[[], float] = time.perf_counter) -> None:
        self._team, self._clock = team, clock
        self._together, self._alone = _Half(), _Half()
        self._team_pays = True
        self._calls_left = 0  # until the next trial

    @contextmanager
    def members(self, work: int) -> Iterator[int]:
        """Give the number of threads that are to share a call of `work` multiply-adds; time trial calls."""
        threads = self._team.members(work)
        if threads == 1 or not self._team.trials:
            yield threads
            return
        if self._calls_left > 0:
            self._calls_left -= 1
            yield threads if self._team_pays else 1
            return
        together, alone = self._together, self._alone
        half = alone if together.complete else together
        begin = self._clock()
        yield threads if half is together else 1
        half.add(self._clock() - begin, work)
        if together.complete and alone.complete and together is self._together:  # else it was decided before
            self._decide(together, alone)

    def _decide(self, together: _Half, alone: _Half) -> None:
        self._team_pays = together.cost <= alone.cost
        self._calls_left = HOLD * (together.calls + alone.calls)
        self._together, self._alone = _Half(), _Half()


class _Half:
    """The calls of a trial that used the same number of threads."""

    def __init__(self) -> None:
        self._costs: list[float] = []  # seconds per unit of work
        self._seconds = 0.0

    def add(self, seconds: float, work: int) -> None:
        """Add a call."""
        self._costs.append(seconds / work)
        self._seconds += seconds

    @property
    def complete(self) -> bool:
        """Whether no more calls are needed."""
        return len(self._costs) >= TRIAL or (len(self._costs) >= 2 and self._seconds >= LONG)

    @property
    def calls(self) -> int:
        """Return the number of calls."""
        return len(self._costs)

    @property
    def cost(self) -> float:
        """Return the median of the seconds per unit of work; of an even number the smaller middle one."""
        return median_low(self._costs)


def thread_count(threads: int | None) -> int:
    """Return `threads`, else ``REPTILE_NP_THREADS``, else the number of cores this process may run on.

    Raises
    ------
    UsageError
        If it is not a whole number from 1 to 64.
    """
    if threads is None:
        name, text = "REPTILE_NP_THREADS", os.environ.get("REPTILE_NP_THREADS", "")
        if not text:
            return min(cores(), MOST_THREADS)
        count = int(text) if text.isdecimal() else 0
    else:
        name, text = "threads", repr(threads)
        whole = isinstance(threads, int | np.integer) and not isinstance(threads, bool)
        count = int(threads) if whole else 0
    if not 1 <= count <= MOST_THREADS:
        raise UsageError(f"{name} is {text}; give a whole number from 1 to {MOST_THREADS}")
    return count
