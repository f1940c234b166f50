"""The runs under a directory, read from the JSON files that runs write; no arrays are loaded.

Verified by ``tests/experiments/test_run_list.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reptile_np.errors import UsageError
from reptile_np.experiments.progress import notice
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.experiments.run_json import is_own
from reptile_np.experiments.settings import to_json

__all__ = ["RunSummary", "find", "read", "test_evaluations"]


@dataclass(frozen=True)
class RunSummary:
    """One run.

    `accuracy` maps a mode to a fraction.  It comes from an ``evaluate`` on the test set: one with the
    preset's number of `shots` if there is one, and among equals the one with the most tasks.  Without any
    ``evaluate`` it comes from the end of training.  None for a run that is not finished, or of sine waves
    (see `error`).  `tasks` is None if there was no such ``evaluate``.
    """

    name: str
    path: Path
    preset: str
    seed: int
    outer_steps: int
    outer_steps_planned: int
    accuracy: dict[str, float] | None
    error: float | None
    tasks: int | None
    shots: int
    settings: dict[str, Any]


def find(directory: Path) -> list[RunSummary]:
    """Return the runs in `directory` and in the folders below it, by name; what is damaged is left out.

    Raises
    ------
    UsageError
        If there is none.
    """
    runs, refusals = [], []
    for config in sorted(directory.rglob("config.json")):
        try:
            runs.append(read(config.parent, directory))
        except UsageError as error:
            refusals.append(str(error))
    if not runs:
        none = f"{directory}: no runs here (no config.json); reptile-np train --out makes one"
        raise UsageError(refusals[0] if refusals else none)
    for refusal in refusals:
        notice(f"{refusal}; left out")
    return runs


def read(run: Path, root: Path) -> RunSummary:
    """Return the summary of one run; its name is the path from `root`, where it is below it.

    Raises
    ------
    UsageError
        If its config.json is not that of a run, or it was altered, or its result or records are damaged.
    """
    name = str(run.relative_to(root)) if run.is_relative_to(root) and run != root else str(run)
    if (run / "config.json").exists() and not (run / "config.json").is_file():  # a pipe would wait
        raise UsageError(f"{run / 'config.json'}: is not a file")
    directory = RunDirectory(run)
    preset, seed = directory.config()
    try:
        done, accuracy, error_, tasks, shots = 0, None, None, None, preset.evaluation.shots
        if result := directory.result():
            accuracy, error_ = result.get("accuracy"), result.get("error")
            done = int(result.get("outer_steps", 0))
        records = directory.records()
        done = max([done, *(int(record["outer_step"]) for record in records)])
        if best := _best_known(test_evaluations(records, done, preset.name, seed), shots):
            error_, tasks, shots = best.get("error"), int(best["tasks"]), int(best["shots"])
            modes = best.get("accuracy", {})
            accuracy = {mode: float(value["mean"]) for mode, value in modes.items()} or None
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{run}: its result or its records have an invalid value") from None
    about = name, run, preset.name, seed, done, preset.outer.steps
    return RunSummary(*about, accuracy, error_, tasks, shots, to_json(preset))


def test_evaluations(
    records: Sequence[dict[str, Any]], done: int, preset: str, seed: int
) -> list[dict[str, Any]]:
    """Return a run's evaluations after outer step `done` on the test classes of its own images."""
    return [
        evaluation
        for record in records
        if record["outer_step"] == done
        and (evaluation := record.get("evaluation", {})).get("split") == "test"
        and not evaluation.get("other_images")
        and is_own(evaluation, preset, seed)
    ]


def _best_known(evaluations: Sequence[dict[str, Any]], shots: int) -> dict[str, Any] | None:
    """Return the evaluation, if possible with `shots`, that has the most tasks; the latest of several."""
    return max(reversed(evaluations), key=lambda e: (e["shots"] == shots, e["tasks"]), default=None)
