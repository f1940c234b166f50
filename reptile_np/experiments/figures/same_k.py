"""Accuracy of Reptile, first-order MAML, MAML and joint training at the same number k of inner steps.

Every run of a figure learned the same images (glyphs or Omniglot) with the same number of inner gradients.  A
point is the mean over seeds, its bar one standard deviation; joint training has k = 1 only, and is drawn as a
line across.

Verified by ``tests/experiments/test_figure_numbers.py`` and ``test_figure_curves.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from reptile_np.experiments.comparison import Row
from reptile_np.experiments.figures import style
from reptile_np.experiments.figures.style import Table

__all__ = ["METHODS", "SIZE", "draw", "table"]

SIZE = (7.2, 4.0)
METHODS = {
    "reptile": ("Reptile", style.BLUE, "-o"),
    "fomaml": ("first-order MAML", style.ORANGE, "--s"),
    "maml": ("MAML", style.GREEN, ":^"),
    "joint": ("joint training", style.GREY, "-."),
}


def table(rows: Iterable[Row]) -> Table:
    """Return rows (images, method, k, mode, seeds, accuracy, deviation) from those of ``reproduce same-k``.

    Accuracies are in per cent; the deviation of a single seed is 0.
    """
    points = []
    for row in rows:
        if row.mean is None:
            continue
        *_, images, method, k = row.preset.split("-")
        mode = row.what.partition(" ")[2]
        accuracy = float(row.mean), float(row.spread or 0)
        points.append((images, method, int(k[1:]), mode, len(row.seeds), *accuracy))
    return Table(("images", "method", "k", "mode", "seeds", "accuracy", "deviation"), tuple(points))


def draw(figure: Any, table: Table, theme: dict[str, str]) -> None:
    """Draw a panel for each mode: accuracy against k, a line for each method."""
    modes = table.distinct("mode")
    panels = figure.subplots(1, len(modes), sharey=True, squeeze=False)
    for axes, mode in zip(panels[0], modes, strict=True):
        for method in table.distinct("method"):
            label, colour, line = METHODS[method]
            _, _, k, _, _, accuracy, deviation = map(
                np.array, zip(*sorted(table.where(method=method, mode=mode)), strict=True)
            )
            if method == "joint":
                axes.axhline(accuracy[0], color=colour, linestyle=line, label=label)
            else:
                axes.errorbar(k, accuracy, deviation, fmt=line, color=colour, label=label, capsize=2)
        axes.set(xlabel="inner steps $k$ in training", title=mode, xticks=sorted({*table.distinct("k")}))
    panels[0][0].set_ylabel("test accuracy (%), 1-shot 5-way")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    (images,) = table.distinct("images")
    figure.suptitle(
        f"{images.capitalize()}: accuracy with k inner steps (bars: standard deviation over the seeds)",
        fontsize=10,
    )
