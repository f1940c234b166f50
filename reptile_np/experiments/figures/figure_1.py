"""Figure 1: a sine wave learned from 10 points by 32 gradient steps, from four initialisations.

Random parameters, joint training, MAML and Reptile start from their own parameters and take the same
steps on the same points; their predictions are shown before, on the way, and at the end.

Verified by ``tests/experiments/test_figure_numbers.py`` and ``test_figures.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reptile_np.experiments.figures import style
from reptile_np.experiments.figures.style import Table
from reptile_np.meta.inner_loop import Array, adapt
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn.models import Model
from reptile_np.tasks.sine import INTERVAL, Wave

__all__ = ["LINES", "SHOWN", "SIZE", "WAVE", "draw", "table"]

STEPS, POINTS, RATE = 32, 10, 0.02
SHOWN = (0, 1, 8, STEPS)
"""After which steps the prediction is shown."""
WAVE = Wave(amplitude=3.5, phase=1.0)
SIZE = (8.6, 5.6)
LINES = {0: ("--", style.GREY), 1: ("-", style.SKY), 8: ("-", style.AMBER), STEPS: ("-", style.ORANGE)}


def table(model: Model, initialisations: Mapping[str, Array], seed: int = 0) -> Table:
    """Return rows (initialisation, curve, x, y).

    Parameters
    ----------
    model
        The sine network.
    initialisations
        Name ↦ φ (n,), in the order of the panels.
    seed
        Draws the 10 points in [-5, 5] from which the wave is learned.

    Notes
    -----
    `curve` is "wave", "points" or "step i", the prediction after i steps on all 10 points.
    """
    points = np.random.default_rng(seed).uniform(*INTERVAL, (POINTS, 1))
    line = np.linspace(*INTERVAL, 201)[:, np.newaxis]
    curves: list[tuple[str, str, Array, Array]] = []
    for name, phi in initialisations.items():
        batch = WAVE.batch(points, phi.dtype)
        phis = adapt(model, Sgd(RATE), phi, [batch] * STEPS).phis
        curves += [(name, "wave", line, WAVE(line)), (name, "points", *batch)]
        curves += [(name, f"step {i}", line, model.predict(phis[i], line.astype(phi.dtype))) for i in SHOWN]
    rows = [
        (name, curve, float(x), float(y))
        for name, curve, xs, ys in curves
        for x, y in zip(xs[:, 0], ys[:, 0], strict=True)
    ]
    return Table(("initialisation", "curve", "x", "y"), tuple(rows))


def draw(figure: Any, table: Table, theme: dict[str, str]) -> None:
    """Draw a panel per initialisation: the wave, its points, and the predictions."""
    names = table.distinct("initialisation")
    grid = figure.subplots(2, (len(names) + 1) // 2, sharex=True, sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        for curve in table.distinct("curve"):
            _, _, x, y = zip(*table.where(initialisation=name, curve=curve), strict=True)
            if curve == "wave":
                axes.plot(x, y, ":", color=theme["ink"], linewidth=1.2, label="the wave")
            elif curve == "points":
                axes.plot(x, y, "o", color=theme["ink"], markersize=4, zorder=5, label=f"its {POINTS} points")
            else:
                step = int(curve.removeprefix("step "))
                line, colour = LINES[step]
                axes.plot(x, y, line, color=colour, label=f"after {step} step{'s' * (step != 1)}")
        axes.set(title=name, ylim=(-6, 6), xlim=INTERVAL)
    for axes in grid[-1]:
        axes.set_xlabel("$x$")
    for axes in grid[:, 0]:
        axes.set_ylabel("$y$")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    figure.suptitle("Figure 1: one wave learned from 10 points", fontsize=10)
