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
"""Factors of the first step.  At such small steps h the second difference of a smooth function is a rounding
error.  At a kink exactly at φ it is h times the jump of the slope; where the function itself jumps, that
jump."""
COARSE = 10
"""From this level on, f may be a staircase (float32) that the tiny steps do not show: steps at which its
differences do not lie on a curve count less, and one at which it does not change ends the halving."""
SMALL = tuple(2.0**-level for level in range(9, 2, -1))
"""Factors of the first step at which a jump of the function must show too."""


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
        The derivative from the right less that from the left, as a norm; 0 if none is seen.  Infinite
        if the function itself jumps, or if its slope grows without bound (√|t|); `value` is then 0.
    constant : bool
        Whether the function was the same at all steps.
    """

    value: Array
    uncertainty: float
    rounding: float = 0.0
    jump: float = 0.0
    constant: bool = False


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

    def add(self, measured: Array, rounding: float, other: float) -> None:
        """Take the quantity at half the step before, its rounding error, and another error it may have.

        Values extrapolated across steps that were left out are wrong, and agree with no neighbour.
        """
        column = [measured]
        for order, coarser in enumerate(self.row, start=1):
            column.append(column[-1] + (column[-1] - coarser) / (2 ** self.powers(order) - 1))
            change = max(norm(column[-1] - column[-2]), norm(column[-1] - coarser), other)
            if max(change, rounding) <= self.uncertainty:
                self.value, self.uncertainty, self.rounding = column[-1], max(change, rounding), rounding
        self.row = tuple(column)


def slope(
    f: Callable[[float], Any],
    step: float = 1e-2,
    levels: int = 18,
    precision: float = float(np.finfo(float).eps),
) -> Slope:
    """Return f'(0) from the values of f at ±`step`, ±step/2, ±step/4, …, at most `levels` steps.

    If f is smooth, the central difference errs by even powers of h, and the difference of the two
    one-sided slopes has odd powers only, with limit 0.  If f has a kink at 0, both have all powers of h, and
    the difference of the one-sided slopes tends to the jump of f'; the central difference alone does not show
    this jump.  Small steps are needed if a kink is near 0, or if f curves within a small part of `step`; any
    other smooth f needs few.  The rounding error of f is taken to be the largest second difference at three
    tiny steps, and at least `precision` times |f|.  If these differences are large, 14 more values tell
    whether f jumps at 0.  A step needs 2 values, from the level `COARSE` on 4; 0 and the tiny steps need 7.
    Steps at which f is not finite are left out, and small ones at which f does not change.  The returned
    value is not finite if f is not finite at 0, at a tiny step, or at all other steps.
    """
    middle = np.array(f(0.0))
    unknown = Slope(np.full_like(middle, np.nan, dtype=float), math.inf, math.inf, 0.0)

    def sides(h: float) -> tuple[Array, Array]:
        return np.array(f(h)), np.array(f(-h))  # copies: f may return the same memory again

    near = [sides(h * step) for h in TINY]
    if not np.isfinite([(middle, *pair) for pair in near]).all():
        return unknown
    bends = [_bend(middle, *pair) for pair in near]
    noise = max(precision * norm(middle), *map(norm, bends))
    if norm(bends[0]) > 100 * precision * norm(middle):
        near += [sides(h * step) for h in SMALL]
        if _is_jump(middle, near):
            return Slope(np.zeros_like(unknown.value), math.inf, jump=math.inf)
    central = _Limit(lambda order: 2 * order, unknown.value)
    jump = _Limit(lambda order: 2 * order - 1, central.value)
    before, moved = unknown.value, False
    for level in range(levels):
        h = step / 2**level
        right, left = sides(h)
        if not np.isfinite([right, left]).all():
            continue
        still = np.array_equal(right, middle) and np.array_equal(left, middle)
        if still and moved and level >= COARSE:
            break
        between = sides(1.54 * h) if level >= COARSE else None
        with np.errstate(invalid="ignore", over="ignore"):  # a step away, values may be huge
            rough = _roughness(right - left, before, *between) if between else 0.0
            before, moved = right - left, moved or not still
            central.add((right - left) / (2 * h), noise / h, rough / h)
            jump.add(_bend(middle, right, left) / h, 4 * noise / h, 4 * rough / h)
        enough = max(ENOUGH * norm(central.value), 2 * central.rounding)
        if level >= 3 and central.uncertainty <= enough < math.inf and jump.uncertainty <= 100 * enough:
            break
    seen = norm(jump.value) if jump.uncertainty <= 0.1 * norm(jump.value) else 0.0
    return Slope(central.value, central.uncertainty, central.rounding, seen, constant=not moved)


def _bend(middle: Array, right: Array, left: Array) -> Array:
    """Return the second difference."""
    return right - middle - (middle - left)


def _roughness(near: Array, far: Array, right: Array, left: Array) -> float:
    """Return how far the difference at the step 1.54 h is from a cubic curve through those at h and 2 h.

    On a staircase the differences at h and 2 h are whole numbers of stairs, and often agree by chance; then
    that at a step between them does not (1.54 is no ratio of small numbers).  0 if that at 2 h is not known.
    """
    cubic = (far - 2 * near) / 6
    off = norm(right - left - (1.54 * (near - cubic) + 1.54**3 * cubic))
    return off if np.isfinite(off) else 0.0


def _is_jump(middle: Array, near: list[tuple[Array, Array]]) -> bool:
    """Return whether a function jumps at 0, from its values right and left at the steps TINY and SMALL.

    Second differences then grow less than the steps, and each side is nearly straight.  At a kink they grow
    like the steps, and from curvature like their squares.  Rounding errors bend both sides.
    """
    right, left = (np.reshape(side, (len(near), -1)) for side in zip(*near, strict=True))
    sizes = np.linalg.norm(_bend(middle.ravel(), right, left), axis=1)
    slopes = sizes / [*TINY, *SMALL]
    slower = slopes[1:] < 0.95 * slopes[:-1]
    once, twice = slice(len(TINY), -1), slice(len(TINY) + 1, None)  # each of SMALL is twice the one before
    one_sided = [np.linalg.norm(_bend(side[once], side[twice], side[0]), axis=1) for side in (right, left)]
    straight = one_sided < sizes[once] / 3
    return bool(slower.all() and straight.all())


def norm(x: Array) -> float:
    """Return the Euclidean norm of all entries; infinite if its square is too large for float64."""
    with np.errstate(over="ignore"):
        return float(np.linalg.norm(x))
