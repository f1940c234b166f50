"""What was measured of a meta-gradient, and what is said of it if it is not the method expected.

Verified by ``tests/checks/test_meta_expansion.py`` and ``test_bad_meta_gradients.py``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from reptile_np.checks.report import Report
from reptile_np.theory.expansions import stated

__all__ = ["ANY", "NONE", "MetaExpansion", "ratio", "report"]

ANY, NONE = "any of them", "none of them"


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
        times that method's.  If not, the two agree to order α only.  From every task enough tuples are
        taken that each minibatch is at least once at each place where the sampler draws it: at most
        k (n - 1) + 1 for n minibatches, each with k gradients and at most k - 1 products by `hvp`.
        (The coefficients take every tuple, twice.)  An error that shows only with two certain minibatches
        at two certain places may be missed.
    """

    avg_grad: float
    avg_grad_inner: float
    angle_0: float
    angle_1: float
    method: str
    exact: bool


def ratio(method: str, k: int) -> float:
    """Return the coefficient of α AvgGradInner divided by that of AvgGrad."""
    (zeroth,), (first,) = stated(method, k)[:2]
    return float(first / zeroth)


def report(found: MetaExpansion, expect: str, k: int, tolerance: float) -> Report:
    """Return the report that `found` is not `expect`: what differs most, and the suspected cause."""
    found_ratio = found.avg_grad_inner / found.avg_grad if found.avg_grad else math.inf
    wanted = ratio(expect, k)
    measured = f"AvgGradInner : AvgGrad (measured {found_ratio:.4g}, {expect} has {wanted:.4g})"
    error = abs(found_ratio - wanted) / (abs(wanted) or 1.0)
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
        measured, error = "AvgGradInner (order α¹)", found.angle_1
        suspect = (
            f"the first order is {found.angle_1:.2g} rad off AvgGradInner: "
            "the inner optimiser is not plain SGD, or the minibatches are not exchangeable"
        )
    elif found.method == NONE:
        suspect = "no known method's ratio: too few or too many factors I - α H_i, or a wrong iterate"
    else:
        suspect = f"this is {found.method}"
    return Report("meta-gradient", measured, error, tolerance, suspect)
