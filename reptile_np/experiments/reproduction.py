"""The runs that a table or figure needs: what is done, what is left, and the work of one process.

A run is trained in ``OUT/PRESET-seedS``, resumed if it was interrupted, and evaluated; finished parts are
kept.  `work` can therefore be begun again after its process was killed.

Verified by ``tests/experiments/test_reproduction.py``, ``test_reproduction_evaluations.py`` and
``test_reproduction_interrupted.py``.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reptile_np.errors import UsageError
from reptile_np.experiments import presets, run_json, runs
from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.environment import OTHER_IMAGES
from reptile_np.experiments.limits import check_settings
from reptile_np.experiments.run_directory import RunDirectory, RunIsBusy
from reptile_np.experiments.specs import EvaluationSpec, Preset
from reptile_np.experiments.targets import Target
from reptile_np.experiments.workers import saves_when_told_to_stop
from reptile_np.meta.evaluation import MODES
from reptile_np.meta.training import Step
from reptile_np.nn.ops import Ops

__all__ = [
    "BUSY",
    "PROGRESS",
    "PROGRESS_EVERY",
    "OtherRun",
    "PlannedRun",
    "ProgressFile",
    "plan",
    "progress_of",
    "work",
]

PROGRESS = "progress.json"
PROGRESS_EVERY = 1.0  # seconds between two reports of a run
BUSY = 60.0  # seconds to wait until an earlier process, which is stopping, releases the directory


class OtherRun(UsageError):
    """Another preset or seed, or other settings, ran in the run's directory."""


@dataclass(frozen=True)
class PlannedRun:
    """A preset with a seed, its directory, and the evaluations that its table needs."""

    preset: Preset
    seed: int
    path: Path
    evaluations: tuple[EvaluationSpec, ...]
    ops: str = "auto"
    data: Path | None = None

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.path.name

    def steps_done(self) -> int:
        """Return the outer steps done, as far as the records tell; 0 if what runs here cannot be read.

        Raises
        ------
        OtherRun
            If another preset or seed, or other settings, ran in the directory.
        """
        directory = RunDirectory(self.path)
        if not (self.path / "config.json").is_file():
            return 0
        try:
            begun = directory.config()
        except UsageError:
            return 0  # `work` will raise this error for this run; the other runs are still done
        if other := presets.differences(begun, (self.preset, self.seed)):
            raise OtherRun(f"{self.path}: was begun with {other}; use another folder")
        if self._result() is not None:
            return self.preset.outer.steps
        return max((int(record["outer_step"]) for record in directory.records()), default=0)

    def _is_here(self) -> bool:
        """Return whether the directory says that this preset and seed ran in it."""
        try:
            return RunDirectory(self.path).config() == (self.preset, self.seed)
        except UsageError:
            return False

    def trained(self) -> bool:
        """Return whether the training and its own evaluations are done; raises as `steps_done` does."""
        return self.steps_done() > 0 and self._result() is not None

    def _result(self) -> dict[str, Any] | None:
        """Return the result; None if there is none or it is damaged: a resumed run writes it again."""
        try:
            return RunDirectory(self.path).result() if self._is_here() else None
        except UsageError:
            return None

    def evaluation(self, spec: EvaluationSpec) -> dict[str, Any] | None:
        """Return the recorded evaluation of the test tasks of `spec` at the end of the training."""
        if not self._is_here():
            return None
        wanted = {"split": "test", "tasks": spec.tasks, "shots": spec.shots}
        waves = self.preset.tasks.source == "sine"
        for record in reversed(RunDirectory(self.path).records()):
            found = record.get("evaluation", {})
            whole = record["outer_step"] == self.preset.outer.steps and not found.get("other_images")
            own = run_json.is_own(found, self.preset.name, self.seed)
            if own and whole and wanted.items() <= found.items() and _has_scores(found, waves):
                return dict(found)
        return None

    def left(self) -> list[EvaluationSpec]:
        """Return the evaluations that are not recorded yet."""
        return [spec for spec in self.evaluations if self.evaluation(spec) is None]

    def done(self) -> bool:
        """Return whether nothing is left to do; False if another preset, seed or setting ran here."""
        try:
            return self.trained() and not self.left()
        except OtherRun:
            return False

    def seconds_left(self) -> float:
        """Return roughly how long the rest takes on one core with native kernels."""
        preset = self.preset
        left = 0 if self.trained() else preset.gradients * (1 - self.steps_done() / preset.outer.steps)
        evaluations = sum(spec.tasks * spec.gradients(preset.tasks.ways) for spec in self.left())
        return presets.seconds(preset) * (left + evaluations) / preset.gradients

    def seconds_of_training(self) -> float | None:
        """Return the recorded seconds of the training, over all sittings; None if it is not done."""
        result = self._result()
        return None if result is None else float(result["seconds"])


def _has_scores(evaluation: dict[str, Any], waves: bool) -> bool:
    """Return whether an evaluation has what a table shows: the error on waves, else the accuracies."""
    try:
        if waves:
            return math.isfinite(evaluation["error"])
        scores = [evaluation["accuracy"][mode] for mode in MODES]
        return all(math.isfinite(score[key]) for score in scores for key in ("mean", "ci95"))
    except (KeyError, TypeError, OverflowError):
        return False


def plan(
    target: Target,
    seeds: Sequence[int],
    out: Path,
    *,
    settings: Sequence[str] = (),
    tasks: int | None = None,
    ops: str = "auto",
    data: Path | None = None,
) -> list[PlannedRun]:
    """Return the runs of a target, those that take longest first.

    Parameters
    ----------
    settings
        Changes of every preset, as ``--set`` takes them.  ``evaluation.tasks`` changes the tasks of the
        table's evaluations as well.
    tasks
        Test tasks of each of the table's evaluations; default: as `settings` or else `target` says.

    Raises
    ------
    UsageError
        For settings that a preset refuses, and a directory in which something else ran.
    """
    planned = []
    for name in target.presets:
        preset = presets.with_settings(presets.get(name), settings)
        check_settings(preset)
        if any(setting.startswith("evaluation.tasks=") for setting in settings):
            target = replace(target, tasks=preset.evaluation.tasks)
        if tasks is not None:
            target = replace(target, tasks=tasks)
        planned += [
            PlannedRun(preset, seed, out / f"{name}-seed{seed}", target.evaluations(preset), ops, data)
            for seed in seeds
        ]
    return sorted(planned, key=PlannedRun.seconds_left, reverse=True)


def work(run: PlannedRun) -> None:
    """Train a run to its end and evaluate it, as far as that is not done.

    Raises
    ------
    UsageError
        As `runs.train` and `runs.evaluate` do.
    """
    with saves_when_told_to_stop():
        ops = choose_ops(run.ops, threads=1)
        report = ProgressFile(run.path / PROGRESS)
        try:
            if not run.trained() or (run.left() and _state(run, ops).done < run.preset.outer.steps):
                _train(run, ops, report)
            for spec in run.left():
                runs.evaluate(
                    run.path,
                    ops,
                    data=run.data,
                    tasks=spec.tasks,
                    shots=spec.shots,
                    jobs=1,
                    quiet=True,
                    report=report,
                )
        finally:
            report.remove()


def _state(run: PlannedRun, ops: Ops) -> Step:
    """Return the newest state of a run; of a finished run an earlier one, if the last one is damaged.

    Raises
    ------
    UsageError
        If the run was trained on other images: its evaluations would not count in a table.
    """
    directory = RunDirectory(run.path)
    experiment, others = runs.reopened(run.preset, run.seed, ops, run.data, directory.sittings())
    if others:
        raise UsageError(f"{run.path}: {OTHER_IMAGES}; give their folder with --data")
    return directory.load(experiment.start())


def _train(run: PlannedRun, ops: Ops, report: ProgressFile) -> None:
    """Begin or resume a run; wait for a process that was at work there and has been told to stop."""
    deadline = time.monotonic() + BUSY
    while True:
        begun = (run.path / "config.json").is_file()
        try:
            runs.train(
                run.preset,
                run.seed,
                ops,
                data=run.data,
                out=run.path,
                resume=begun,
                quiet=True,
                report=report,
            )
            return
        except RunIsBusy:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


class ProgressFile:
    """Shows other processes how far a run is, in a file of its directory that is replaced every second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = float("-inf")

    def __call__(self, what: str, done: int, total: int) -> None:
        """Write the file if the last one is old enough; a failed write is ignored."""
        now = time.monotonic()
        if now - self._written < PROGRESS_EVERY:
            return
        self._written = now
        with suppress(OSError):  # as `files.replacing`, but without waiting for the disk: it is not kept
            partial = self._path.with_name(f".{PROGRESS}.{os.getpid()}.tmp")
            partial.write_text(json.dumps({"what": what, "done": done, "total": total}))
            os.replace(partial, self._path)

    def remove(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self._path.unlink()


def progress_of(run: PlannedRun) -> tuple[str, int, int] | None:
    """Return what a run at work does, the rounds done and all rounds; None without such a report.

    A process that was killed leaves its last report.
    """
    try:
        values = json.loads((run.path / PROGRESS).read_bytes())
        return str(values["what"]), int(values["done"]), int(values["total"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
