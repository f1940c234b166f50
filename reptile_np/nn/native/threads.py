"""Whether a team of threads pays just now, found by trial.

The members of a team meet some thirty times in a training step.  Where another process has one of the
cores, all of them wait each time for the one that is not running, and two threads are slower than one.
So every few hundred calls both ways are tried, and the faster is kept until the next trial.  Results do
not depend on it: they are bitwise the same for any number of threads.

Verified by ``tests/nn/native/test_threads.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

TRIAL = 5
"""How many calls each way a trial takes; their medians are compared, for some meet cold caches."""
PERIOD = 256
"""Every how many calls there is a trial."""


class Pace:
    """The pace of one kind of call.  Calls from several Python threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._calls = 0
        self._together: list[float] = []  # seconds per unit of work in the last trial
        self._alone: list[float] = []
        self._team_pays = True

    @contextmanager
    def members(self, threads: int, work: int) -> Iterator[int]:
        """Give how many of `threads` are to share a call of so much work, and time it."""
        if threads == 1:
            yield 1
            return
        place = self._calls % PERIOD
        self._calls += 1
        if place >= 2 * TRIAL:
            if self._together and self._alone:
                self._team_pays = median(self._together) <= median(self._alone)
                self._together, self._alone = [], []
            yield threads if self._team_pays else 1
            return
        costs = self._together if place < TRIAL else self._alone
        begin = self._clock()
        yield threads if place < TRIAL else 1
        costs.append((self._clock() - begin) / work)
