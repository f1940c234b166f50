"""Find out to which method a meta-gradient belongs, by measuring the expansion of section 4.1.

The meta-gradient may be a function of any library.

Verified by ``tests/checks/test_meta_expansion.py``, ``test_exact_methods.py`` and
``test_expansion_of_quadratics.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from reptile_np.checks.differences import norm
from reptile_np.checks.functions import (
    Functions,
    Hvp,
    LossAndGrad,
    check_phi,
    check_tolerance,
    vector,
)
from reptile_np.checks.report import CheckFailure, Report
from reptile_np.errors import UsageError, check_callable, whole
from reptile_np.meta.inner_loop import Array, Batch
from reptile_np.theory import expansions
from reptile_np.theory.expansions import METHODS, Minibatches, Sampler, TaskFamily, distinct, run, stated

__all__ = ["EXACT", "MetaExpansion", "MetaGradientFunction", "meta_gradient_expansion"]

MetaGradientFunction = Callable[[Array, Sequence[Batch], float], Array]
"""(φ (n,), the k minibatches of a task, α) ↦ a direction (n,), in units of a gradient."""

ANY, NONE = "any of them", "none of them"
EXACT = 1e-6
"""Relative difference below which two float64 programs compute the same direction."""
DISPLACEMENT = 0.1
"""A threshold for the ratio of the even part to the odd part in α. At the small α of the central difference
this ratio is more than 2,000 for a gradient and less than 1/3,000 for a displacement on the networks of
`reptile_np.theory.networks`."""


class MetaExpansion(NamedTuple):
    """``E[g] = avg_grad AvgGrad + avg_grad_inner α AvgGradInner + O(α²)``, as measured.

    Attributes
    ----------
    avg_grad, avg_grad_inner : float
        The two coefficients.
    angle_0, angle_1 : float
        Angles in radians: between the α⁰ term and AvgGrad (π if opposite), and between the α¹ term and the
        line spanned by AvgGradInner.
    method : str
        "MAML", "FOMAML" or "Reptile": the method whose ratio ``avg_grad_inner / avg_grad`` equals the
        measured one within the tolerance.  That is a statement to order α, on average over minibatches.
        "none of them" if no method has this ratio; "any of them" at k = 1, where all are AvgGrad.
    exact : bool
        Whether the direction is also, on single tuples of minibatches and at a larger α, a constant
        times that method's.  If not, the two agree to order α only.  Of every task so many tuples are
        looked at that each minibatch is at least once at each place where the sampler draws it: at most
        k (n - 1) + 1 of n minibatches, each with k gradients and at most k - 1 products by `hvp`.  (The
        coefficients take every tuple, twice.)  An error that shows only with two certain minibatches at
        two certain places may be missed.
    """

    avg_grad: float
    avg_grad_inner: float
    angle_0: float
    angle_1: float
    method: str
    exact: bool


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
        The number of inner steps.
    expect : {"MAML", "FOMAML", "Reptile"}, optional
        Raise unless this is the method found, exactly.
    sampler
        How the k minibatches of a task are drawn: `distinct` or `independent` of
        `reptile_np.theory.expansions`.
    alpha
        The step of the central difference; the default is 1e-4 over the largest curvature.
    tolerance
        The largest accepted relative error of the ratio, and angle in radians.

    Raises
    ------
    CheckFailure
        If the method found is not the one expected, or agrees with it to order α only.
    UsageError
        If φ is not float64, k too large for the tasks, `expect` unknown, a function does not return a finite
        vector (n,), or returns another result at a second call, or the direction is a displacement that was
        not divided by alpha, or AvgGradInner is zero at φ (for k > 1).

    Examples
    --------
    See ``theory/README.md``: "this MAML is FOMAML".
    """
    _check_arguments(phi, tasks, k, expect)
    check_callable(meta_gradient=meta_gradient, loss_and_grad=loss_and_grad, hvp=hvp, sampler=sampler)
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
    step = 1e-4 / curvature if alpha is None else abs(alpha)

    def direction(batches: Sequence[Batch], size: float) -> Array:
        found = meta_gradient(phi.copy(), tuple(batches), size)
        return vector(found, len(phi), "the meta-gradient").astype(float)

    first, again = (direction(tasks[0][:k], step) for _ in range(2))
    model.check_same("meta-gradient", first, again, "phi, batches and alpha")
    _check_no_displacement([(direction(task[:k], step), direction(task[:k], -step)) for task in tasks])
    found = _expansion(family, direction, k, step, tolerance)
    if found.method != NONE:
        found = found._replace(exact=_is_exact(family, direction, k, 0.3 / curvature, found))
    if expect is not None and (found.method not in (expect, ANY) or not found.exact):
        raise CheckFailure(_report(found, expect, k, tolerance))
    return found


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
            "the meta-gradient goes to zero with alpha, as a displacement does, such as reptile(trajectory): "
            "divide it by alpha (or give another phi, if all gradients of a task add up to zero at this one)"
        )


def _coefficient(vector: Array, axis: Array) -> float:
    """Return the c for which c times the axis is nearest to the vector; 0 if the axis is zero."""
    return float(axis @ vector / (axis @ axis)) if axis.any() else 0.0


def _recognise(found: MetaExpansion, k: int, tolerance: float) -> str:
    if found.avg_grad > 0 and max(found.angle_0, found.angle_1) <= tolerance:
        for name in METHODS:
            ratio = _ratio(name, k)
            if abs(found.avg_grad_inner / found.avg_grad - ratio) <= tolerance * abs(ratio):
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


def _ratio(method: str, k: int) -> float:
    (zeroth,), (first,) = stated(method, k)[:2]
    return float(first / zeroth)


def _report(found: MetaExpansion, expect: str, k: int, tolerance: float) -> Report:
    ratio = found.avg_grad_inner / found.avg_grad if found.avg_grad else math.inf
    wanted = _ratio(expect, k)
    measured = f"AvgGradInner : AvgGrad (measured {ratio:.4g}, {expect} has {wanted:.4g})"
    error = abs(ratio - wanted) / (abs(wanted) or 1.0)
    if found.method in (expect, ANY):
        measured, error = "single tuples of minibatches at a larger α", math.inf
        suspect = (
            f"it agrees with {expect} only to order α, averaged over minibatches; single tuples differ: "
            "I - α Σ H_i in place of the product, factors or minibatches in another order, or a wrong iterate"
        )
    elif found.avg_grad <= 0 and found.angle_0 == 0:
        measured, error, suspect = "AvgGrad (order α⁰)", 1.0, "the meta-gradient is zero"
    elif k > 1 and found.avg_grad_inner == found.angle_1 == 0:
        suspect = "it does not depend on alpha, or not on its sign: use alpha unchanged in every inner step"
    elif found.angle_0 > tolerance:
        measured, error = "AvgGrad (order α⁰)", found.angle_0
        off = f"the order α⁰ is {found.angle_0:.2g} rad off AvgGrad"
        suspect = f"{off}: something is added, or a gradient is wrong"
        if found.angle_0 >= math.pi - tolerance:
            suspect = "its sign is wrong: subtracting this direction from φ increases the loss"
    elif k == 1:
        measured = "α¹ (at k = 1 the direction does not depend on α)"
        error, suspect = math.inf, "at k = 1 every method is the gradient at φ, whatever α"
    elif found.method != NONE and not found.exact:
        suspect = (
            f"it has the ratio of {found.method}, and differs from {found.method} on single tuples of "
            "minibatches: is alpha another one than that of the inner loop, or a factor wrong?"
        )
    elif found.method == "FOMAML" and expect == "MAML":
        suspect = "this is FOMAML: the factors I - α H_i are missing"
    elif found.method == NONE and found.angle_1 > tolerance:
        suspect = (
            f"the first order is {found.angle_1:.2g} rad off AvgGradInner: "
            "the inner optimiser is not plain SGD, or the minibatches are not exchangeable"
        )
    elif found.method == NONE:
        suspect = "no known method's ratio: too few or too many factors I - α H_i, or a wrong iterate"
    else:
        suspect = f"this is {found.method}"
    return Report("meta-gradient", measured, error, tolerance, suspect)


def _check_arguments(phi: Any, tasks: Any, k: Any, expect: str | None) -> None:
    check_phi(phi)
    if not isinstance(tasks, Sequence) or not tasks or not all(hasattr(task, "__len__") for task in tasks):
        raise UsageError("tasks must be a non-empty list of tasks; each task must be a list of minibatches")
    fewest = min(map(len, tasks))
    if whole("k", k, 1) > fewest:
        raise UsageError(f"k = {k}, but a task has {fewest} minibatches; give at least k")
    if fewest < 2:
        raise UsageError("a task has one minibatch; AvgGradInner needs two")
    if expect is not None and expect not in tuple(METHODS):
        raise UsageError(f"method {expect!r} is unknown; expect one of {', '.join(METHODS)}")
