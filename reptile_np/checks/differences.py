"""The derivative of a black box along a line, with an estimate of its own error.

Verified by ``tests/checks/test_differences.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from reptile_np.meta.inner_loop import Array

__all__ = ["ENOUGH", "TINY", "Slope", "norm", "slope"]

ENOUGH = 1e-10
"""Two estimates that agree to this relative accuracy end the halving of the step."""
TINY = (1e-7, 1.3e-7, 1.7e-7)
"""Factors of the first step.  Second differences at such small steps show rounding errors, not curvature; a
kink exactly at φ shows too, by h times its jump."""


@dataclass(frozen=True)
class Slope:
    """A measured derivative of a scalar or of an array.

    Attributes
    ----------
    value : Array
        The derivative.
    uncertainty : float
        How far the best estimate is from its neighbours, or its rounding error if that is larger; in
        the unit of `value`.
    rounding : float
        The rounding error of `value`.
    jump : float
        The derivative from the right less that from the left, as a norm; 0 if none is seen.
    """

    value: Array
    uncertainty: float
    rounding: float = 0.0
    jump: float = 0.0


@dataclass
class _Limit:
    """The limit, as h → 0, of a quantity with the error ``c_1 h^p_1 + c_2 h^p_2 + …`` (Ridders, 1982).

    Each column of the tableau removes one power.  Of all entries the one that agrees best with its
    neighbours is kept: at larger steps curvature and kinks disturb it, at smaller ones rounding.
    """

    powers: Callable[[int], int]
    value: Array
    uncertainty: float = np.inf
    rounding: float = np.inf
    row: tuple[Array, ...] = ()

    def add(self, measured: Array, rounding: float) -> None:
        """Take the quantity at half the step before, and its rounding error."""
        column = [measured]
        for order, coarser in enumerate(self.row, start=1):
            column.append(column[-1] + (column[-1] - coarser) / (2 ** self.powers(order) - 1))
            change = max(norm(column[-1] - column[-2]), norm(column[-1] - coarser))
            if max(change, rounding) <= self.uncertainty:
                self.value, self.uncertainty, self.rounding = column[-1], max(change, rounding), rounding
        self.row = tuple(column)

    def restart(self) -> None:
        """Forget the values at larger steps, of which one was not finite."""
        self.row = ()


def slope(
    f: Callable[[float], Any],
    step: float = 1e-2,
    levels: int = 10,
    precision: float = float(np.finfo(float).eps),
) -> Slope:
    """Return f'(0) from the values of f at ±`step`, ±step/2, ±step/4, …: at most 2 `levels` + 7 values.

    If f is smooth, the central difference errs by even powers of h, and the difference of the two
    one-sided slopes has odd powers only, with limit 0.  At a kink exactly there both have all powers, and
    the second tends to the jump of the derivative, which the central difference does not show. The rounding
    error of f is taken to be the largest second difference at three tiny steps, and at least `precision`
    times |f|.  Steps at which f is not finite are left out.  The returned value is not finite if f is not
    finite at 0, at a tiny step, or at all other steps.
    """
    middle = np.array(f(0.0))
    unknown = Slope(np.full_like(middle, np.nan, dtype=float), math.inf, math.inf, 0.0)

    def sides(h: float) -> tuple[Array, Array]:
        return np.array(f(h)), np.array(f(-h))  # copies: f may return the same memory again

    noise = precision * norm(middle)
    for h in TINY:
        right, left = sides(h * step)
        if not np.isfinite([middle, right, left]).all():
            return unknown
        noise = max(noise, norm(right - middle - (middle - left)))
    central = _Limit(lambda order: 2 * order, unknown.value)
    jump = _Limit(lambda order: 2 * order - 1, central.value)
    for level in range(levels):
        h = step / 2**level
        right, left = sides(h)
        if not np.isfinite([right, left]).all():
            central.restart()
            jump.restart()
            continue
        central.add((right - left) / (2 * h), noise / h)
        jump.add((right - middle - (middle - left)) / h, 4 * noise / h)
        enough = max(ENOUGH * norm(central.value), 2 * central.rounding)
        if level >= 3 and central.uncertainty <= enough and jump.uncertainty <= 100 * enough:
            break
    seen = norm(jump.value) if jump.uncertainty <= 0.1 * norm(jump.value) else 0.0
    return Slope(central.value, central.uncertainty, central.rounding, seen)


def norm(x: Array) -> float:
    """Return the Euclidean norm of all entries."""
    return float(np.linalg.norm(x))
