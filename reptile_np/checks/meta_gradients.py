"""Find out to which method a meta-gradient belongs, by measuring the expansion of section 4.1.

The meta-gradient may be a function of any library.

Verified by ``tests/checks/test_meta_expansion.py``, ``test_exact_methods.py`` and
``test_expansion_of_quadratics.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from reptile_np.checks.differences import norm
from reptile_np.checks.functions import (
    Functions,
    Hvp,
    LossAndGrad,
    as_array,
    check_phi,
    check_tolerance,
    vector,
)
from reptile_np.checks.meta_expansion import ANY, NONE, MetaExpansion, ratio, report
from reptile_np.checks.report import CheckFailure
from reptile_np.errors import UsageError, check_callable, whole
from reptile_np.meta.inner_loop import Array, Batch
from reptile_np.theory import expansions
from reptile_np.theory.expansions import METHODS, Minibatches, Sampler, TaskFamily, distinct, run

__all__ = ["EXACT", "MetaExpansion", "MetaGradientFunction", "meta_gradient_expansion"]

MetaGradientFunction = Callable[[Array, Sequence[Batch], float], Array]
"""(φ (n,), the k minibatches of a task, α) ↦ a direction (n,), in units of a gradient."""

EXACT = 1e-6
"""Relative difference below which two float64 programs compute the same direction."""
DISPLACEMENT = 0.1
"""A threshold for the ratio of the even part to the odd part in α. At the small α of the central difference
this ratio is more than 2,000 for a gradient and less than 1/3,000 for a displacement on the networks of
`reptile_np.theory.networks`."""


def meta_gradient_expansion(
    meta_gradient: MetaGradientFunction,
    loss_and_grad: LossAndGrad,
    hvp: Hvp,
    phi: Array,
    tasks: Sequence[Minibatches],
    k: int,
    *,
    expect: str | None = None,
    sampler: Sampler = distinct,
    alpha: float | None = None,
    tolerance: float = 1e-2,
) -> MetaExpansion:
    """Measure the coefficients of AvgGrad and AvgGradInner in any implementation of a meta-gradient.

    Parameters
    ----------
    meta_gradient
        ``(phi, batches, alpha) -> direction (n,)``: k steps of size alpha on ``batches[0]``, …,
        ``batches[k-1]`` in this order; the loss of MAML and FOMAML is that of the last one.  Must be smooth
        in alpha around 0, of either sign.  A displacement is to be divided by alpha, or by a positive
        constant times alpha: the method is recognised by the *ratio* of the coefficients.
    loss_and_grad, hvp
        The model's, already checked (`check_grad`, `check_hvp`), in float64.
    phi : (n,) float64
        Where to measure.
    tasks
        Of each task at least k minibatches, and at least 2; few of them, because every tuple that the
        `sampler` can draw is run.
    k
        The number of inner steps.  Take 3 or more: at k = 2 there is one factor I - α H, so that a factor
        that is missing or at the wrong point among several, or momentum, is not seen.
    expect : {"MAML", "FOMAML", "Reptile"}, optional
        Raise unless this is the method found, exactly, but for a positive constant factor.
    sampler
        How the k minibatches of a task are drawn: `distinct` or `independent` of
        `reptile_np.theory.expansions`.
    alpha
        The step of the central difference, at most 1e-2 over the largest curvature; the default is 1e-4 over
        it.  This is not the inner learning rate.
    tolerance
        The largest accepted relative error of the ratio, and angle in radians.

    Raises
    ------
    CheckFailure
        If the method found is not the one expected, or agrees with it to order α only.
    UsageError
        If φ is not float64, k too large for the tasks, `expect` unknown, a function does not return a finite
        vector (n,), or returns another result at a second call, or writes into φ or into what it returned
        before, or the direction is a displacement that was not divided by alpha, or AvgGradInner is zero at φ
        (for k > 1), or `alpha` is too large.

    Examples
    --------
    See ``theory/README.md``: "this MAML is FOMAML".
    """
    check_callable(meta_gradient=meta_gradient, loss_and_grad=loss_and_grad, hvp=hvp, sampler=sampler)
    tasks, k = _checked_arguments(phi, tasks, k, expect, sampler)
    check_tolerance(tolerance)
    real = isinstance(alpha, float | int | np.integer | np.floating) and not isinstance(alpha, bool)
    if alpha is not None and not (real and 0 < abs(alpha) < math.inf):
        raise UsageError(f"alpha is {alpha!r}; give a number that is not 0")
    model = Functions(loss_and_grad, hvp)
    model.check_repeatable(phi, tasks[0][0])
    family = TaskFamily(model, tasks, phi, sampler)
    curvature = family.curvature() or 1.0
    gradients = [family.grad(batch) for task in tasks for batch in task]
    if not (math.isfinite(curvature) and np.isfinite(gradients).all()):
        raise UsageError("a gradient or a Hessian product is not finite at phi; see check_grad and check_hvp")
    step = 1e-4 / curvature if alpha is None else float(abs(alpha))
    if step > 1e-2 / curvature:
        raise UsageError(
            f"alpha is {alpha:.3g}, too large for a central difference: leave it out, or give at most "
            f"{1e-2 / curvature:.2g} (it is not the inner learning rate)"
        )
    direction = _called(meta_gradient, phi)
    first, again = (direction(tasks[0][:k], step) for _ in range(2))
    model.check_same("meta-gradient", first, again, "phi, batches and alpha")
    _check_no_displacement([(direction(task[:k], step), direction(task[:k], -step)) for task in tasks])
    found = _expansion(family, direction, k, step, tolerance)
    if found.method != NONE:
        found = found._replace(exact=_is_exact(family, direction, k, 0.3 / curvature, found))
    if expect is not None and (found.method not in (expect, ANY) or not found.exact):
        if norm(family.avg_grad()) <= 1e-8 * max(map(norm, gradients)):
            raise UsageError(
                "AvgGrad is zero at this phi: the minibatches' gradients cancel; give another phi"
            )
        raise CheckFailure(report(found, expect, k, tolerance))
    return found


def _called(meta_gradient: MetaGradientFunction, phi: Array) -> Callable[[Sequence[Batch], float], Array]:
    """Return (batches, α) ↦ the direction at φ (n,); what a meta-gradient must not do is refused."""
    last: list[Any] = []  # the result of the call before, and a copy of it

    def direction(batches: Sequence[Batch], size: float) -> Array:
        given = phi.copy()
        found = meta_gradient(given, tuple(batches), size)
        if not np.array_equal(given, phi):
            raise UsageError(
                "the meta-gradient changes phi in place, and the next task would start from the changed "
                "values: copy phi in it first"
            )
        result = vector(found, len(phi), "the meta-gradient")
        if last and not np.array_equal(as_array(last[0]), last[1], equal_nan=True):
            raise UsageError(
                "the meta-gradient writes into the direction that it returned before, and a meta-batch adds "
                "the directions of several tasks: return a new array (a copy) at each call"
            )
        last[:] = found, result
        return result.astype(float)

    return direction


def _expansion(
    family: TaskFamily,
    direction: Callable[[Sequence[Batch], float], Array],
    k: int,
    step: float,
    tolerance: float,
) -> MetaExpansion:
    """Return the two orders along the two terms, and the method that has this ratio."""
    grad, inner = family.avg_grad(), family.avg_grad_inner()
    if k > 1 and not inner.any():
        raise UsageError(
            "AvgGradInner is zero at this phi, so Reptile, FOMAML and MAML are the same there up to order "
            "alpha; give another phi, or losses that are not linear (or hvp returns zeros: see check_hvp)"
        )
    up, down = (family.mean(lambda *batches, a=a: direction(batches, a), k) for a in (step, -step))
    order_0, order_1 = (up + down) / 2, (up - down) / (2 * step)
    if not (np.isfinite(order_0).all() and np.isfinite(order_1).all()):
        raise UsageError(f"the meta-gradient is not finite at alpha = ±{step:.3g}")
    # a first order smaller than this is the rounding error of the zeroth
    noise = 1e-12 * norm(order_0) / step
    c_0, c_1 = _coefficient(order_0, grad), _coefficient(order_1, inner)
    angle_0 = math.atan2(norm(order_0 - c_0 * grad), c_0 * norm(grad)) if order_0.any() else 0.0
    size = norm(order_1)
    angle_1 = math.asin(min(1.0, norm(order_1 - c_1 * inner) / size)) if size > noise else 0.0
    found = MetaExpansion(c_0, c_1, angle_0, angle_1, NONE, False)
    if k == 1:
        constant = norm(order_1) <= max(noise, tolerance * abs(c_0) * norm(inner))
        fits = c_0 > 0 and angle_0 <= tolerance and constant
        return found._replace(method=ANY) if fits else found
    return found._replace(method=_recognise(found, k, tolerance))


def _check_no_displacement(pairs: Sequence[tuple[Array, Array]]) -> None:
    """Refuse directions that go to zero with α; of each task the direction at α and at -α."""
    even = max(norm(up + down) for up, down in pairs)
    odd = max(norm(up - down) for up, down in pairs)
    if even < DISPLACEMENT * odd:
        raise UsageError(
            "the meta-gradient goes to zero with alpha, as a displacement does, such as reptile(trajectory), "
            "or grows without limit, as one that is divided twice: divide it by alpha once (or give another "
            "phi, if all gradients of a task add up to zero at this one)"
        )


def _coefficient(vector: Array, axis: Array) -> float:
    """Return the c for which c times the axis is nearest to the vector; 0 if the axis is zero."""
    return float(axis @ vector / (axis @ axis)) if axis.any() else 0.0


def _recognise(found: MetaExpansion, k: int, tolerance: float) -> str:
    if found.avg_grad > 0 and max(found.angle_0, found.angle_1) <= tolerance:
        for name in METHODS:
            wanted = ratio(name, k)
            if abs(found.avg_grad_inner / found.avg_grad - wanted) <= tolerance * abs(wanted):
                return name
    return NONE


def _is_exact(
    family: TaskFamily,
    direction: Callable[[Sequence[Batch], float], Array],
    k: int,
    alpha: float,
    found: MetaExpansion,
) -> bool:
    """Return whether the direction is a constant times the method's own, of every task."""
    method = METHODS["Reptile" if found.method == ANY else found.method](family.model, alpha)
    chosen = [expansions.each_batch_at_each_place(family.sampler(task, k)) for task in family.tasks]
    right = [np.stack([method(run(family.model, family.phi, t, alpha)) for t in task]) for task in chosen]
    theirs = [np.stack([direction(t, alpha) for t in task]) for task in chosen]
    a, b = np.concatenate(theirs).ravel(), np.concatenate(right).ravel()
    constant, rounding = float(a @ b) / (float(b @ b) or 1.0), 1e-12 * norm(a)
    for one, other in zip(theirs, right, strict=True):  # a task of small gradients counts as much
        allowed = EXACT * norm(one) / math.sqrt(len(one)) + rounding
        if not all(norm(error) <= allowed for error in one - constant * other):
            return False
    return True


def _checked_arguments(
    phi: Any, tasks: Any, k: Any, expect: str | None, sampler: Sampler
) -> tuple[list[Minibatches], int]:
    """Return the tasks as lists of minibatches, and k as an int."""
    check_phi(phi)
    lists = isinstance(tasks, Sequence) and all(
        hasattr(task, "__len__") and hasattr(task, "__iter__") and not isinstance(task, Mapping | str)
        for task in tasks
    )
    if not lists or not tasks:
        raise UsageError("tasks must be a non-empty list of tasks; each task must be a list of minibatches")
    tasks, k = [list(task) for task in tasks], whole("k", k, 1)
    fewest = min(map(len, tasks))
    if k > fewest:
        raise UsageError(f"k = {k}, but a task has {fewest} minibatches; give at least k")
    if fewest < 2:
        raise UsageError("a task has one minibatch; AvgGradInner needs two")
    if expect is not None and expect not in tuple(METHODS):
        raise UsageError(f"method {expect!r} is unknown; expect one of {', '.join(METHODS)}")
    if any(not list(sampler(task, k)) for task in tasks):
        raise UsageError(f"the sampler draws no tuple of k = {k} minibatches from a task; see `distinct`")
    return tasks, k
