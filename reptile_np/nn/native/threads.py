"""How many threads share a native call: the most that are allowed, and whether more than one pays.

The members of a team meet some twenty times in a training step.  If another process occupies one of the
cores, all members wait each time for the one that is not running, and two threads are slower than one.  So
`Pace` times both ways every few hundred calls, and uses the faster one until the next trial.  Results do not
depend on it: they are bitwise identical for any number of threads.

Nothing here locks: counters and deques change atomically.  So a process may be forked while another of its
threads is inside a native call.

Verified by ``tests/nn/native/test_threads.py``.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from reptile_np.errors import UsageError
from reptile_np.machine import cores

__all__ = ["LEAST_WORK", "MOST_THREADS", "PERIOD", "TRIAL", "Pace", "Team", "thread_count"]

MOST_THREADS = 64
LEAST_WORK = 30_000_000
"""Multiply-adds of a call, below which waking a second thread may cost as much time as it saves; they take
half a millisecond on Zen 4, a fifth of one on Zen 5."""
TRIAL = 5
"""Calls in each half of a trial; the medians of the two halves are compared, because some calls meet cold
caches."""
PERIOD = 256
"""Calls from the start of one trial to the start of the next."""


@dataclass(frozen=True)
class Team:
    """How many threads may share a call.

    Parameters
    ----------
    threads
        The most.
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

    Calls from several Python threads may share it.
    """

    def __init__(self, team: Team, clock: Callable[[], float] = time.perf_counter) -> None:
        self._team, self._clock = team, clock
        self._calls = itertools.count()
        self._together: deque[float] = deque(maxlen=TRIAL)  # seconds per unit of work, of the last trial
        self._alone: deque[float] = deque(maxlen=TRIAL)
        self._team_pays = True

    @contextmanager
    def members(self, work: int) -> Iterator[int]:
        """Give the number of threads that are to share a call of `work` multiply-adds; time trial calls."""
        threads = self._team.members(work)
        if threads == 1 or not self._team.trials:
            yield threads
            return
        turn = next(self._calls) % PERIOD
        if turn >= 2 * TRIAL:
            if turn == 2 * TRIAL:
                self._decide()
            yield threads if self._team_pays else 1
            return
        costs = self._together if turn < TRIAL else self._alone
        begin = self._clock()
        yield threads if turn < TRIAL else 1
        costs.append((self._clock() - begin) / work)

    def _decide(self) -> None:
        together, alone = list(self._together), list(self._alone)  # other threads may still append
        if together and alone:
            self._team_pays = median(together) <= median(alone)


def thread_count(threads: int | None) -> int:
    """Return `threads`, else ``REPTILE_NP_THREADS``, else the number of cores this process may run on.

    Raises
    ------
    UsageError
        If it is not a whole number from 1 to 64.
    """
    given = os.environ.get("REPTILE_NP_THREADS", "") if threads is None else str(threads)
    if not given:
        return min(cores(), MOST_THREADS)
    if not given.isdecimal() or not 1 <= int(given) <= MOST_THREADS:
        what = "REPTILE_NP_THREADS" if threads is None else "threads"
        raise UsageError(f"{what} is {given}; give a whole number from 1 to {MOST_THREADS}")
    return int(given)
