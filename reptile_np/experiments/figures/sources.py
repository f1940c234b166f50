"""Where the numbers of the figures come from: run directories, or for Figure 1 a training of seconds.

Verified by ``tests/experiments/test_figures.py`` and ``test_figure_curves.py``.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reptile_np.errors import UsageError, quoted
from reptile_np.experiments import comparison, presets, reproduction, run_list, targets
from reptile_np.experiments.experiment import Experiment, make_experiment
from reptile_np.experiments.figures import figure_1, figure_2, figure_3, inner_curve, same_k
from reptile_np.experiments.figures.style import Table
from reptile_np.experiments.progress import Progress
from reptile_np.experiments.reproduction import OtherRun, PlannedRun
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.experiments.targets import Target
from reptile_np.meta.inner_loop import Array
from reptile_np.meta.training import Step
from reptile_np.nn.models import Model
from reptile_np.nn.ops import Ops

__all__ = ["FIGURES", "SINE", "table"]

SINE = {"joint training": "sine-joint", "MAML": "sine-maml", "Reptile": "sine-reptile"}
FIGURES = {
    "1": figure_1,
    "2": figure_2,
    "3": figure_3,
    "curve": inner_curve,
    "same-k": same_k,
    "same-k-omniglot": same_k,
}


def table(name: str, runs: Path | None, ops: Ops, quiet: bool = False) -> Table:
    """Return the numbers of a figure, from the runs in a folder.

    Parameters
    ----------
    name
        One of `FIGURES`.
    runs
        The folder of the runs (default: "runs"; for Figure 1 none: it trains its three networks).  Figure 2
        needs no runs.

    Raises
    ------
    UsageError
        If the runs that a figure needs are not there, not done, or were begun with other settings.
    """
    if name == "1":
        return figure_1.table(*_sine(runs, ops, quiet))
    if name == "2":
        return figure_2.table()
    runs = Path("runs") if runs is None else runs
    if name == "3":
        return figure_3.table({curve: _watched(runs, f"figure3-{curve}") for curve in figure_3.CURVES})
    if name == "curve":
        return inner_curve.table(_curves(runs))
    return _same_k(runs, targets.get(name))


def _sine(runs: Path | None, ops: Ops, quiet: bool) -> tuple[Model, dict[str, Array]]:
    """Return the sine network, and φ at random and after training by each method."""
    experiments = {name: make_experiment(presets.get(preset), 0, ops) for name, preset in SINE.items()}
    initialisations = {"random parameters": experiments["Reptile"].start().phi}
    for name, experiment in experiments.items():
        initialisations[name] = _trained(experiment, runs, quiet).phi
    return experiments["Reptile"].model, initialisations


def _trained(experiment: Experiment, runs: Path | None, quiet: bool) -> Step:
    preset = experiment.preset
    start = experiment.start()
    if runs is not None:
        (run,) = _plan(targets.get("figure1").only(preset.name), [0], runs)
        if not run.trained():
            command = f"reptile-np reproduce figure1 --out {quoted([str(runs)])}"
            raise UsageError(f"{run.path}: not a finished run; run: {command}")
        return RunDirectory(run.path).load(start)
    progress = Progress(f"train {preset.name}", preset.outer.steps, quiet=quiet)
    (last,) = deque(progress.over(experiment.outer_steps(start)), maxlen=1)
    return last


def _watched(runs: Path, preset: str) -> list[figure_3.Points]:
    """Return the accuracies while training of every finished run of a preset."""
    found: list[figure_3.Points] = []
    for run in _planned(runs, targets.get("figure3").only(preset)):
        if not run.trained():
            continue
        records = [record for record in RunDirectory(run.path).records() if "accuracy" in record]
        points = [(int(r["outer_step"]), float(r["accuracy"]["non_transductive"])) for r in records]
        if points:
            found.append(points)
    if not found:
        raise UsageError(
            f"{runs}: no finished run of {preset} with accuracies while training; "
            f"run: reptile-np reproduce figure3 --out {quoted([str(runs)])}"
        )
    return found


def _curves(runs: Path) -> inner_curve.Curves:
    """Return the test curves of the runs in a folder, or of one run: one for each run and K.

    Like the accuracies of `run_list`, they are those of a run's last state, of the most tasks, and the latest
    of several.  They are called after the presets, or after the runs if a preset and K have several.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for summary in run_list.find(runs):
        records = RunDirectory(summary.path).records()
        for evaluation in run_list.test_evaluations(
            records, summary.outer_steps, summary.preset, summary.seed
        ):
            if "curve" in evaluation and "accuracy" in evaluation:
                key = summary.name, evaluation["shots"]
                if key not in found or evaluation["tasks"] >= found[key]["tasks"]:
                    found[key] = evaluation
    alone = len({(evaluation["preset"], shots) for (_, shots), evaluation in found.items()}) == len(found)
    curves = {
        f"{evaluation['preset'] if alone else run}, {shots}-shot": {
            mode: [(point["mean"], point["ci95"]) for point in points]
            for mode, points in evaluation["curve"].items()
        }
        for (run, shots), evaluation in found.items()
    }
    if not curves:
        raise UsageError(
            f"{runs}: no evaluation of a run's last state on its test classes with --curve; "
            "run: reptile-np evaluate DIR --curve"
        )
    return curves


def _same_k(runs: Path, target: Target) -> Table:
    """Return the rows of a study of the same k, from the seeds that are there."""
    planned = [run for run in _planned(runs, target) if run.done()]
    if not planned:
        raise UsageError(
            f"{runs}: no runs of the study; "
            f"run: reptile-np reproduce {target.name} --out {quoted([str(runs)])}"
        )
    return same_k.table(comparison.rows(target, planned))


def _planned(runs: Path, target: Target) -> list[PlannedRun]:
    """Return the runs of a target, of the seeds that are there."""
    names = (re.fullmatch(r"(.+)-seed(\d+)", path.name) for path in runs.glob("*"))
    seeds = sorted({int(name[2]) for name in names if name and name[1] in target.presets})
    return _plan(target, seeds, runs)


def _plan(target: Target, seeds: Sequence[int], runs: Path) -> list[PlannedRun]:
    """Return the runs of a target, with the presets' own settings; refuse what was begun with others."""
    try:
        return reproduction.plan(target, seeds, runs)
    except OtherRun as error:
        raise UsageError(f"{error}: a figure is drawn from runs with the presets' own settings") from None
