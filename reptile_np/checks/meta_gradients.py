"""Which meta-gradient is it?  The expansion of section 4.1, measured on somebody else's code.

Verified by ``tests/checks/test_checks.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from reptile_np.checks.report import CheckFailure, Report
from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import Array, Batch
from reptile_np.theory.expansions import METHODS, Problem, Sampler, Task, distinct, stated

MetaGradientFunction = Callable[[Array, Sequence[Batch], float], Array]
"""(φ (n,), the k minibatches of a task, α) ↦ a direction (n,), in units of a gradient."""


class MetaExpansion(NamedTuple):
    """``E[g] = avg_grad AvgGrad + avg_grad_inner α AvgGradInner + O(α²)``, as measured.

    `angle` (radian): how far the first order is from the span of the two.  `method`: whose ratio of the
    two coefficients it is, up to 1 %; "none of them" if nobody's; "any of them" at k = 1, where all agree.
    """

    avg_grad: float
    avg_grad_inner: float
    angle: float
    method: str


def meta_gradient_expansion(
    meta_gradient: MetaGradientFunction,
    loss_and_grad: Callable[[Array, Batch], tuple[Any, Array]],
    hvp: Callable[[Array, Batch, Array], Array],
    phi: Array,
    tasks: Sequence[Task],
    k: int,
    *,
    expect: str | None = None,
    sampler: Sampler = distinct,
    alpha: float = 1e-5,
    tolerance: float = 1e-2,
) -> MetaExpansion:
    """Measure the coefficients of AvgGrad and AvgGradInner in any implementation of a meta-gradient.

    Parameters
    ----------
    meta_gradient
        Must be smooth in α around 0, of either sign.  A displacement is to be divided by α, or by any
        constant times α: the method is recognised by the *ratio* of the coefficients.
    loss_and_grad, hvp
        The model's, already checked (`check_grad`, `check_hvp`).
    tasks
        Of each task at least k minibatches, small in number: every tuple the `sampler` can draw is run.
    expect : {"MAML", "FOMAML", "Reptile"}, optional
        Raise unless this is the method found.
    alpha
        The step of the central difference; α times the largest curvature is to be small.

    Raises
    ------
    CheckFailure
        If the method found is not the one expected.
    UsageError
        If φ is not float64, k too large for the tasks, or `expect` unknown.

    Examples
    --------
    See ``theory/README.md``: "this MAML is FOMAML".
    """
    _check_arguments(phi, tasks, k, expect)
    problem = Problem(_Functions(loss_and_grad, hvp), tasks, phi, sampler)
    span = np.stack([problem.avg_grad(), problem.avg_grad_inner()], axis=1)

    def expected(step: float) -> Array:
        return problem.mean(lambda *batches: np.asarray(meta_gradient(phi, batches, step)), k)

    up, down = expected(alpha), expected(-alpha)
    order_0, order_1 = (up + down) / 2, (up - down) / (2 * alpha)
    c_0 = float(np.linalg.lstsq(span[:, :1], order_0)[0][0])
    (_, c_1) = fit = np.linalg.lstsq(span, order_1)[0]
    size = float(np.linalg.norm(order_1))
    # below this, the first order is what rounding leaves of the zeroth
    noise = 1e-12 * float(np.linalg.norm(order_0)) / alpha
    angle = math.asin(min(1.0, float(np.linalg.norm(order_1 - span @ fit)) / size)) if size > noise else 0.0
    found = MetaExpansion(c_0, float(c_1), angle, _recognise(c_0, float(c_1), angle, k, tolerance))
    if expect is not None and found.method not in (expect, "any of them"):
        raise CheckFailure(_report(found, expect, k, tolerance))
    return found


def _recognise(c_0: float, c_1: float, angle: float, k: int, tolerance: float) -> str:
    if k == 1:
        return "any of them"
    if c_0 != 0 and angle <= tolerance:
        for name in METHODS:
            ratio = _ratio(name, k)
            if abs(c_1 / c_0 - ratio) <= tolerance * abs(ratio):
                return name
    return "none of them"


def _ratio(method: str, k: int) -> float:
    (zeroth,), (first,) = stated(method, k)[:2]
    return float(first / zeroth)


def _report(found: MetaExpansion, expect: str, k: int, tolerance: float) -> Report:
    ratio = found.avg_grad_inner / found.avg_grad if found.avg_grad else math.inf
    wanted = _ratio(expect, k)
    if found.method == "FOMAML" and expect == "MAML":
        suspect = "this is FOMAML: the factors I - α H_i are missing"
    elif found.method == "none of them" and found.angle > tolerance:
        suspect = (
            f"the first order is {found.angle:.2g} rad off AvgGrad and AvgGradInner: "
            "not plain SGD inside, or minibatches that are not exchangeable"
        )
    elif found.method == "none of them":
        suspect = "no known method's ratio: too few or too many factors I - α H_i, or a wrong iterate"
    else:
        suspect = f"this is {found.method}"
    measured = f"AvgGradInner : AvgGrad (measured {ratio:.4g}, {expect} has {wanted:.4g})"
    return Report("meta-gradient", measured, abs(ratio - wanted) / abs(wanted), tolerance, suspect)


def _check_arguments(phi: Array, tasks: Sequence[Task], k: int, expect: str | None) -> None:
    if phi.ndim != 1 or phi.dtype != np.float64:
        raise UsageError(f"phi is {phi.dtype} {phi.shape}; checks need a float64 vector (n,)")
    if not 1 <= k <= min(map(len, tasks)):
        raise UsageError(f"k = {k}, but a task has {min(map(len, tasks))} minibatches; give at least k")
    if min(map(len, tasks)) < 2:
        raise UsageError("a task has one minibatch; AvgGradInner needs two")
    if expect is not None and expect not in METHODS:
        raise UsageError(f"method {expect!r} is unknown; expect one of {', '.join(METHODS)}")


class _Functions(NamedTuple):
    """Plain functions as a model."""

    loss_and_grad: Callable[[Array, Batch], tuple[Any, Array]]
    hvp: Callable[[Array, Batch, Array], Array]
