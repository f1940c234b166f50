"""A sitting: a part of a run without interruption; its environment, its saves, and its seconds.

Verified by ``tests/experiments/test_resumed_runs.py`` and ``tests/experiments/test_runs.py``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from reptile_np.errors import UsageError
from reptile_np.experiments import environment
from reptile_np.experiments.progress import notice
from reptile_np.experiments.run_directory import ENVIRONMENT, RESULT, RunDirectory
from reptile_np.meta.training import Step

__all__ = ["SAVE_EVERY", "Sitting"]

SAVE_EVERY = 30.0  # seconds between checkpoints


class Sitting:
    """One uninterrupted part of a run: saves states, and counts steps and seconds beside the environment.

    Without a directory nothing is saved; `earlier` are the sittings of a run that is resumed.
    """

    def __init__(
        self,
        directory: RunDirectory | None,
        environment: dict[str, Any],
        earlier: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.directory = directory
        self._environment = environment
        self._earlier = earlier
        self._first: int | None = None
        self._began = self._saved = 0.0
        self._seconds = 0.0

    def resumed(self, untrained: Step) -> Step:
        """Return the state to continue from; print a notice if this machine or version may round differently.

        Raises
        ------
        UsageError
            If the images are not those of the run, or the run has records but no checkpoint.
        """
        assert self.directory is not None
        if environment.other_images(self._earlier, self._environment["images_sha256"]):
            place = f"--out {self.directory.path}"
            raise UsageError(f"{place}: {environment.OTHER_IMAGES}; give their folder with --data")
        started = self.directory.has_checkpoint()
        trained = any(sitting.get("to_step", 1) for sitting in self._earlier)
        if not started and (trained or (self.directory.path / RESULT).exists()):
            raise UsageError(
                f"--out {self.directory.path}: records of a run without its checkpoint (runs --export leaves "
                "it out), so the training would begin again; give the run itself, or choose another --out"
            )
        step = self.directory.load_to_continue(untrained) if started else untrained
        change = environment.change(self._earlier[-1], self._environment) if self._earlier else None
        if change:
            notice(f"{self.directory.path}: {change}")
        self.directory.forget_after(step.done, evaluations=bool(change))
        return step

    def record(self) -> None:
        """Record the environment before the first step, so that a resumed run reads the same images."""
        if self.directory is not None:
            sitting = {"from_step": 0, "to_step": 0, "seconds": 0.0, **self._environment}
            self.directory.write_json(ENVIRONMENT, {"sittings": [sitting]})

    def begin(self, step: Step) -> None:
        """Start the clock."""
        self._first = step.done
        self._began = self._saved = time.monotonic()

    def save(self, step: Step) -> None:
        """Save a state and what this sitting has done."""
        self._seconds = time.monotonic() - self._began
        if self.directory is not None:
            steps = {"from_step": self._first, "to_step": step.done, "seconds": round(self._seconds, 3)}
            self.directory.save(step, [*self._earlier, {**steps, **self._environment}])
        self._saved = time.monotonic()

    def save_if_due(self, step: Step) -> None:
        """Save a state if the last one is older than `SAVE_EVERY`."""
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save(step)

    def total_seconds(self) -> float:
        """Return the seconds of training up to the last save, over all sittings."""
        return float(sum(sitting["seconds"] for sitting in self._earlier)) + self._seconds
