"""Figure 3: learning curves of ten combinations of inner gradients, 5-shot 5-way Omniglot.

A row of the table is one smoothed point of one curve.  The band around a curve is one standard deviation
of the accuracies in the smoothing window, over the outer steps in it and all seeds.

Verified by ``tests/experiments/test_figure_numbers.py`` and ``test_figure_curves.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reptile_np.errors import UsageError, whole
from reptile_np.experiments.figures import style
from reptile_np.experiments.figures.style import Table

__all__ = ["CURVES", "SIZE", "WINDOW", "Points", "draw", "smooth", "table"]

WINDOW = 7
"""How many evaluations a smoothed point averages, of every seed."""
SIZE = (9.6, 4.2)

CURVES: dict[str, tuple[str, str, str]] = {
    "g1": ("$g_1$", style.GREY, "-"),
    "sum2": ("$g_1+g_2$", style.BLUE, "-"),
    "mean2": ("½$(g_1+g_2)$", style.BLUE, ":"),
    "g2": ("$g_2$", style.BLUE, "--"),
    "sum3": ("$g_1+g_2+g_3$", style.ORANGE, "-"),
    "mean3": ("⅓$(g_1+g_2+g_3)$", style.ORANGE, ":"),
    "g3": ("$g_3$", style.ORANGE, "--"),
    "sum4": ("$g_1+g_2+g_3+g_4$", style.GREEN, "-"),
    "mean4": ("¼$(g_1+g_2+g_3+g_4)$", style.GREEN, ":"),
    "g4": ("$g_4$", style.GREEN, "--"),
}
"""Curve ↦ its label, colour (the number of gradients) and line (solid: sum, dotted: mean, dashed: last)."""

Points = Sequence[tuple[int, float]]
"""(outer step, accuracy) of one run, in order."""


def smooth(runs: Sequence[Points], window: int = WINDOW) -> list[tuple[int, float, float]]:
    """Return (outer step, mean, standard deviation) around each evaluation, over a window and all runs.

    A run may lack an evaluation that diverged, but not its last one: the steps are those that all runs have.
    The window is centred.  At the start, where the curves are steep, it is shorter so that it stays centred;
    at the end, where they are flat, it is cut.

    Raises
    ------
    UsageError
        If there are no runs, or no outer step after which all were evaluated, if their last ones differ, or
        if `window` is no whole number ≥ 1.
    """
    window = whole("smooth: window", window, 1)
    if not runs:
        raise UsageError("smooth: there are no runs; give at least one")
    steps = sorted(set.intersection(*({step for step, _ in run} for run in runs)))
    if not steps or len({run[-1][0] for run in runs}) > 1:
        raise UsageError(
            "the runs of one curve were evaluated after different outer steps; each needs its last evaluation"
        )
    accuracies = [dict(run) for run in runs]
    values = np.array([[of_run[step] for step in steps] for of_run in accuracies])
    points = []
    for i, step in enumerate(steps):
        reach = min(window // 2, i)
        part = values[:, i - reach : i + reach + 1]
        points.append((step, float(part.mean()), float(part.std())))
    return points


def table(runs: Mapping[str, Sequence[Points]]) -> Table:
    """Return the smoothed curves; `runs` holds for each curve of `CURVES` the points of each seed."""
    rows = [(curve, len(seeds), *point) for curve, seeds in runs.items() if seeds for point in smooth(seeds)]
    return Table(("curve", "seeds", "outer_step", "accuracy", "deviation"), tuple(rows))


def draw(figure: Any, table: Table, theme: dict[str, str]) -> None:
    """Draw every curve that the table has: with its band, and without bands the upper part enlarged."""
    complete, upper = figure.subplots(1, 2)
    for axes in (complete, upper):
        for curve in table.distinct("curve"):
            label, colour, line = CURVES[curve]
            _, _, steps, accuracy, deviation = zip(*table.where(curve=curve), strict=True)
            x, y, d = np.array(steps) / 1000, 100 * np.array(accuracy), 100 * np.array(deviation)
            if axes is complete:
                axes.fill_between(x, y - d, y + d, color=colour, alpha=0.12, linewidth=0)
            axes.plot(x, y, line, color=colour, label=label)
        axes.set(xlabel="outer steps (thousands)", xlim=(0, None))
    complete.set(ylabel="test accuracy (%), non-transductive", ylim=(15, 100))
    upper.set(ylim=(88, 99))
    upper.set_title("the upper part, enlarged", fontsize=9)
    counts = {row[1] for row in table.rows}
    how_many = f"{f'{min(counts)} to ' * (len(counts) > 1)}{max(counts)} seed{'s' * (max(counts) > 1)}"
    figure.suptitle(
        f"Figure 3: combinations of inner gradients, 5-shot 5-way Omniglot, {how_many}",
        fontsize=10,
        color=theme["ink"],
    )
    upper.legend(ncols=1, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
