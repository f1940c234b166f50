"""Figure 2: alternating moves towards two curves of solutions end between the curves, near to both.

Each task's set of solutions is a circle in the plane of two parameters.  One move is equation (23),
φ ← (1 - ε) φ + ε P(φ), towards the nearest solution P(φ) of one task; the two tasks take turns and ε is
annealed to 0.  The limit is the point of least mean squared distance from both curves.

Verified by ``tests/experiments/test_figure_numbers.py`` (the path ends at the minimiser) and, for the
equation, by ``tests/test_paper.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reptile_np.experiments.figures import style
from reptile_np.experiments.figures.style import Table
from reptile_np.theory.manifolds import Sphere, annealed_path, nearest_by_descent

__all__ = ["CURVES", "DESCENT", "EPSILON", "MOVES", "SIZE", "START", "draw", "table"]

CURVES = (Sphere(np.array([-3.4, -0.9]), 2.0), Sphere(np.array([3.2, 0.9]), 1.9))
START = np.array([2.2, 3.9])
MOVES = 60
EPSILON = 0.6
DESCENT = 2000  # steps to the limit
SIZE = (5.6, 4.4)


def table() -> Table:
    """Return the curves, the path and its limit as rows (part, number, x, y)."""
    angles = np.linspace(0, 2 * np.pi, 181)
    rows: list[tuple[Any, ...]] = []
    for name, curve in zip("AB", CURVES, strict=True):
        circle = curve.centre + curve.radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        rows += [(f"solutions of task {name}", i, *map(float, point)) for i, point in enumerate(circle)]
    points = annealed_path(CURVES, START, MOVES, EPSILON)
    limit = nearest_by_descent(CURVES, points[-1], DESCENT)
    rows += [("path", i, *map(float, point)) for i, point in enumerate(points)]
    rows.append(("limit", 0, *map(float, limit)))
    return Table(("part", "number", "x", "y"), tuple(rows))


def draw(figure: Any, table: Table, theme: dict[str, str]) -> None:
    """Draw both curves, the path from its start, and the limit."""
    axes = figure.add_subplot()
    for part, colour, line in (("A", style.BLUE, "-"), ("B", style.ORANGE, "--")):
        _, _, x, y = zip(*table.where(part=f"solutions of task {part}"), strict=True)
        axes.plot(x, y, line, color=colour, label=f"solutions of task {part}")
    _, _, x, y = zip(*table.where(part="path"), strict=True)
    axes.plot(x, y, "-o", color=theme["ink"], linewidth=0.8, markersize=3, label="iterates φ")
    axes.annotate("start", (x[0], y[0]), xytext=(6, 4), textcoords="offset points")
    ((_, _, x0, y0),) = table.where(part="limit")
    axes.plot(
        [x0], [y0], "*", color=style.GREEN, markersize=11, zorder=5, label="least mean squared distance"
    )
    axes.set(xlabel="$\\phi_1$", ylabel="$\\phi_2$", aspect="equal", xlim=(-5.6, 5.3), ylim=(-3.9, 4.2))
    axes.legend(loc="lower right", fontsize=8)
    axes.set_title("Figure 2: alternating moves towards two curves of solutions")
