"""Accuracy after each inner step of the fine-tuning at test, of one initialisation or several.

Verified by ``tests/experiments/test_figure_curves.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.experiments.figures import style
from reptile_np.experiments.figures.style import Table

__all__ = ["COLOURS", "LINES", "SIZE", "Curves", "draw", "table"]

SIZE = (8.8, 4.0)
COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.AMBER, style.SKY)
LINES = {"transductive": "-", "non_transductive": "--"}

Curves = Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
"""Run ↦ mode ↦ (mean, half width of the 95 % interval) after 0, 1, … inner steps."""


def table(curves: Curves) -> Table:
    """Return rows (run, mode, inner_step, accuracy, ci95)."""
    rows = [
        (run, mode, step, float(mean), float(ci95))
        for run, modes in curves.items()
        for mode, points in modes.items()
        for step, (mean, ci95) in enumerate(points)
    ]
    return Table(("run", "mode", "inner_step", "accuracy", "ci95"), tuple(rows))


def draw(figure: Any, table: Table, theme: dict[str, str]) -> None:
    """Draw accuracy against inner steps, whole and enlarged: a colour per run, a line style per mode.

    Raises
    ------
    UsageError
        For more runs than `COLOURS`.
    """
    runs = table.distinct("run")
    if len(runs) > len(COLOURS):
        raise UsageError(
            f"{len(runs)} curves; at most {len(COLOURS)} have different colours: "
            "give --runs a folder with fewer runs"
        )
    whole, upper = figure.subplots(1, 2)
    late = []  # of each curve the accuracies in the second half of the steps
    for run, colour in zip(runs, COLOURS, strict=False):
        for mode in table.distinct("mode"):
            _, _, steps, mean, ci95 = zip(*table.where(run=run, mode=mode), strict=True)
            y, half = 100 * np.array(mean), 100 * np.array(ci95)
            label = f"{run}, {mode.replace('_', '-')}"
            for axes in (whole, upper):
                axes.fill_between(steps, y - half, y + half, color=colour, alpha=0.15, linewidth=0)
                axes.plot(steps, y, LINES[mode], color=colour, label=label)
            late += y[len(y) // 2 :].tolist()
    whole.set(ylabel="test accuracy (%)")
    upper.set(ylim=(min(late) - 1, min(max(late) + 1, 100)))
    upper.set_title("the upper part, enlarged", fontsize=9)
    for axes in (whole, upper):
        axes.set(xlabel="inner steps at test", xlim=(0, None))
    figure.suptitle(
        "Accuracy while an initialisation is fine-tuned to new classes, with 95 % intervals over tasks",
        fontsize=10,
        color=theme["ink"],
    )
    whole.legend(fontsize=8)
