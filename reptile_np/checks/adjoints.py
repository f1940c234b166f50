"""Check the transpose of a linear map.

Verified by ``tests/checks/test_checks.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from reptile_np.checks.comparisons import Comparison, Judge
from reptile_np.checks.differences import Slope
from reptile_np.checks.functions import as_array, check_options
from reptile_np.checks.report import CheckFailure, Report
from reptile_np.errors import UsageError, check_callable
from reptile_np.meta.inner_loop import Array

__all__ = ["check_adjoint"]


def check_adjoint(
    forward: Callable[[Array], Array],
    adjoint: Callable[[Array], Array],
    x: Array,
    *,
    directions: int = 4,
    tolerance: float = 1e-12,
    seed: int = 0,
) -> Report:
    """Check ``<y, A x> = <Aᵀ y, x>`` for a linear map `forward` and its stated adjoint.

    Parameters
    ----------
    forward, adjoint
        ``x -> A x`` and ``y -> Aᵀ y``, for float64 arrays of any shapes.
    x
        An array of the shape of the inputs; its values are not used, inputs are drawn.
    directions, seed
        How many pairs x, y, and the seed that draws them.
    tolerance
        The largest accepted error, relative to the inner products' root mean square.

    Raises
    ------
    CheckFailure
        If the two inner products differ, or the adjoint's shape is not that of x.
    UsageError
        If x, or a result of `forward` or `adjoint`, is not an array of real numbers, a result of `forward`
        is not finite, `forward` or `adjoint` is not a function, or another argument is out of range.
    """
    check_options(directions, tolerance, seed)
    check_callable(forward=forward, adjoint=adjoint)
    rng = np.random.default_rng(seed)
    shape: tuple[int, ...] = _array(x, "x").shape
    comparisons = []
    for i in range(directions):
        x_dot: Array = rng.standard_normal(shape)
        y = _array(forward(x_dot.copy()), "the result of forward")
        if not np.isfinite(y).all():
            raise UsageError("the result of forward is not finite; a linear map gives finite numbers")
        y_bar: Array = rng.standard_normal(tuple(y.shape))
        x_bar = _array(adjoint(y_bar.copy()), "the result of adjoint")
        if x_bar.shape != shape:
            suspect = f"the result of adjoint has shape {x_bar.shape}; it must have the shape of x, {shape}"
            raise CheckFailure(Report("adjoint", f"random direction {i}", math.inf, tolerance, suspect))
        exact = Slope(np.asarray((y_bar * y).sum()), 0.0)
        comparisons.append(Comparison(f"random direction {i}", np.asarray((x_bar * x_dot).sum()), exact))
    return Judge("adjoint", "the transpose", tolerance).verdict(comparisons)


def _array(value: Any, what: str) -> Array:
    array = as_array(value)
    if array.dtype.kind not in "fiu":
        kind = f"{type(value).__name__} of {array.dtype}" if hasattr(value, "dtype") else type(value).__name__
        raise UsageError(f"{what} is a {kind}; it must be an array of real numbers")
    return array
