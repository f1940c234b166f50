"""The runs under a directory, read from the JSON files that runs write; no arrays are loaded.

Verified by ``tests/experiments/test_run_list.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reptile_np.errors import UsageError
from reptile_np.experiments.progress import notice
from reptile_np.experiments.run_directory import RunDirectory

__all__ = ["RunSummary", "find", "read"]


@dataclass(frozen=True)
class RunSummary:
    """One run.

    `accuracy` maps a mode to a fraction: of the last ``evaluate`` of the test set of its own images, else of
    the end of training; None for a run that is not finished, or of sine waves (see `error`).
    """

    name: str
    path: Path
    preset: str
    seed: int
    outer_steps: int
    outer_steps_planned: int
    accuracy: dict[str, float] | None
    error: float | None
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
        If its config.json is not that of a run, or its result or records are damaged.
    """
    name = str(run.relative_to(root)) if run.is_relative_to(root) and run != root else str(run)
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        settings = config["preset"]
        about = str(settings["name"]), int(config["seed"]), int(settings["outer"]["steps"])
    except OSError as error:
        raise UsageError(f"{run}: no run here ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{run / 'config.json'}: not a whole config.json of a run") from None
    done, accuracy, error_ = _progress_of(run)
    preset, seed, planned = about
    return RunSummary(name, run, preset, seed, done, planned, accuracy, error_, settings)


def _progress_of(run: Path) -> tuple[int, dict[str, float] | None, float | None]:
    """Return the outer steps done, and the accuracy or the error if there is one yet."""
    done, accuracy, error = 0, None, None
    directory = RunDirectory(run)
    try:
        if result := directory.result():
            accuracy, error = result.get("accuracy"), result.get("error")
            done = int(result.get("outer_steps", 0))
        for record in directory.records():
            done = max(done, int(record["outer_step"]))
            evaluation = record.get("evaluation", {})
            if evaluation.get("split") == "test" and not evaluation.get("other_images"):
                error = evaluation.get("error", error)
                if "accuracy" in evaluation:
                    accuracy = {mode: value["mean"] for mode, value in evaluation["accuracy"].items()}
    except (TypeError, KeyError, AttributeError, OverflowError):
        raise UsageError(f"{run}: a value in its result or its records that no run writes") from None
    return done, accuracy, error
