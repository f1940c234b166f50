"""How the progress of a run is shown: as a bar on a terminal, as plain lines elsewhere.

Losses are shown as running means, because the loss differs much from task to task.

Verified by ``tests/experiments/test_progress.py``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from reptile_np.errors import printable

__all__ = [
    "BAR",
    "LINE_EVERY",
    "MEMORY",
    "Item",
    "Progress",
    "Report",
    "Reporter",
    "RunningMean",
    "duration",
    "notice",
    "notice_if_unfinished",
]

Item = TypeVar("Item")

Report = Callable[[str, int, int], None]
"""A callback (job, rounds done, all rounds); it is called in addition to the display."""

LINE_EVERY = 10.0  # seconds between plain lines
BAR = "{desc}: {percentage:.0f}%|{bar}| {n_fmt}/{total_fmt} {remaining}{postfix}"
"""At least a tenth of 80 columns is left for the bar itself."""
MEMORY = 100  # outer steps that the running mean averages, roughly


def notice(text: str) -> None:
    """Print a line that the user must see to standard error; if that fails, the program goes on."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"reptile-np: {printable(text)}", file=sys.stderr, flush=True)


def notice_if_unfinished(run: str, done: int, planned: int) -> None:
    """Print how many outer steps a state that is evaluated has, if it is not the last of its run."""
    if done < planned:
        notice(f"{run}: evaluated after {done:,} of {planned:,} outer steps")


class RunningMean:
    """An exponential moving average without bias at its start: a constant input gives that constant."""

    def __init__(self, memory: int = MEMORY) -> None:
        self._keep = 1 - 1 / memory
        self._total = self._weight = 0.0

    def add(self, value: float) -> float:
        """Take one more value; return the mean."""
        self._total = self._keep * self._total + value
        self._weight = self._keep * self._weight + 1
        return self._total / self._weight


class Progress:
    """Report on a loop of `total` rounds to standard error, and estimate the time that is left.

    A standard error that is closed, or that cannot be written any more, ends the reports, not the loop.
    """

    def __init__(
        self, what: str, total: int, done: int = 0, quiet: bool = False, report: Report | None = None
    ) -> None:
        self._report = report
        self._what, self._total, self._start = printable(what), total, done
        self._quiet = quiet or sys.stderr is None
        self._began = self._last_line = time.monotonic()
        self._bar = None if self._quiet else _tqdm(self._what, total, done)

    def update(self, done: int, note: str = "") -> None:
        """Say that `done` rounds are done."""
        if self._report is not None:
            self._report(self._what, done, self._total)
        if self._quiet:
            return
        try:
            self._show(done, note)
        except OSError:
            self._quiet = True

    def _show(self, done: int, note: str) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last_line < LINE_EVERY and (done < self._total or not self._total):
            return
        self._last_line = now
        if not self._total:  # not known
            print(f"{self._what}: {done}", file=sys.stderr, flush=True)
            return
        left = (now - self._began) / max(done - self._start, 1) * (self._total - done)
        parts = [f"{self._what}: {done}/{self._total}", *([note] if note else []), f"{duration(left)} to go"]
        print("  ".join(parts), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Finish the bar's line."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items, counting them."""
        try:
            for done, item in enumerate(items, start=1):
                yield item
                self.update(done)
        finally:
            self.close()


class Reporter:
    """Show several jobs one after another: called with (what, done, total), total None if not known."""

    def __init__(self, quiet: bool = False) -> None:
        self._what, self._quiet = "", quiet
        self._progress = Progress("", 0, quiet=True)

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Say how far the job `what` is."""
        if what != self._what:
            self._progress.close()
            self._what, self._progress = what, Progress(what, total or 0, done, self._quiet)
        self._progress.update(done)
        if done == total:
            self._progress.close()


def duration(seconds: float) -> str:
    """Return 75 as "1m15s", 7400 as "2h03m"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def _tqdm(what: str, total: int, done: int) -> Any:
    """Return a bar if tqdm is installed and standard error is a terminal, else None."""
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(desc=what, total=total, initial=done, dynamic_ncols=True, bar_format=BAR)
