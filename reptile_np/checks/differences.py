"""The derivative of a black box along a line, with an estimate of its own error.

Verified by ``tests/checks/test_checks.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from reptile_np.meta.inner_loop import Array


class Slope(NamedTuple):
    """A derivative (a scalar's or an array's) and how far it is to be trusted, in the same unit."""

    value: Array
    uncertainty: float


def slope(f: Callable[[float], Any], step: float = 1e-2, levels: int = 7) -> Slope:
    """Return f'(0) by central differences at `step`, step/2, …, extrapolated to 0 (Ridders, 1982).

    The difference at step h errs by c_2 h² + c_4 h⁴ + …; each column of the tableau removes one power.
    Of all entries the one that agrees best with its neighbours is returned: larger steps suffer from
    curvature and kinks, smaller ones from rounding.
    """
    best = Slope(np.asarray(np.nan), np.inf)
    row: list[Array] = []
    for level in range(levels):
        h = step / 2**level
        column = [(np.asarray(f(h)) - np.asarray(f(-h))) / (2 * h)]
        for order, coarser in enumerate(row, start=1):
            column.append(column[-1] + (column[-1] - coarser) / (4**order - 1))
            change = max(
                float(np.linalg.norm(column[-1] - column[-2])), float(np.linalg.norm(column[-1] - coarser))
            )
            if change <= best.uncertainty:
                best = Slope(column[-1], change)
        row = column
    return best
