"""The status lines of `reproduce`: what each run does while the command works.

Verified by ``tests/cli/test_status.py``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from reptile_np.cli.terminal import WIDTH

__all__ = ["LINES_EVERY", "Status"]

if TYPE_CHECKING:
    from reptile_np.experiments.reproduction import PlannedRun

LINES_EVERY = 30.0  # seconds between the status lines of all runs, if they are not shown in place


class Status:
    """A line for each run: waiting, what it does and when it should be done, or done.

    On a terminal the lines are shown in place; elsewhere those of runs at work are printed now and then.
    """

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self._runs = runs
        self._began: dict[tuple[str, str], tuple[float, int, int]] = {}
        self._finished: set[str] = set()
        self._shown = 0
        self._last = float("-inf")
        self._in_place = sys.stderr is not None and sys.stderr.isatty()

    def show(self) -> None:
        """Show the state of all runs."""
        now = time.monotonic()
        if not self._in_place and now - self._last < LINES_EVERY:
            return
        self._last = now
        lines = [line for run in self._runs if (line := self._line(run, now))]
        size = _size()
        room = size.lines - 2
        if self._in_place and len(lines) > room > 0:  # those at work first
            lines.sort(key=lambda line: line.endswith((": done", ": waiting")))
            lines = [*lines[: room - 1], f"… and {len(lines) - room + 1} more"]
        try:
            if self._shown:
                sys.stderr.write(f"\x1b[{self._shown}F\x1b[J")
            sys.stderr.write("".join(f"{line[: min(WIDTH, size.columns) - 1]}\n" for line in lines))
            sys.stderr.flush()
            self._shown = len(lines) if self._in_place else 0
        except OSError:
            return

    def _line(self, run: PlannedRun, now: float) -> str:
        from reptile_np.experiments.progress import duration
        from reptile_np.experiments.reproduction import progress_of

        progress = progress_of(run)
        if progress is None:
            with suppress(OSError):  # the next look may succeed
                if run.name not in self._finished and run.done():
                    self._finished.add(run.name)  # so that its records are not read every second
            state = "done" if run.name in self._finished else "waiting"
            return f"{run.name}: {state}" if self._in_place else ""
        what, done, total = progress
        began, first, last = self._began.get((run.name, what), (now, done, done))
        if done < last:  # the next evaluation, or the run was begun again
            began, first = now, done
        self._began[run.name, what] = began, first, done
        left = f"{duration((now - began) / (done - first) * (total - done))} to go" if done > first else ""
        what = what.partition(" ")[0]
        return f"{run.name}: {what} {done:,}/{total:,}  {left}"


def _size() -> os.terminal_size:
    """Return the size of the terminal of standard error, or what is usual if it has none."""
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        size = os.terminal_size((0, 0))
    return os.terminal_size((size.columns or WIDTH, size.lines or 24))
