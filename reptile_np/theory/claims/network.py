"""Section 4.1 on real networks in float64: remainders, fitted coefficients, angles.

Step sizes are in units of the curvature: ``s = α |H|`` over three decades, 1e-6 to 1e-3.  Below them the
remainder is smaller than rounding errors; above them the inner loop of the small convolutional network
crosses kinks of its ReLUs, beyond which no expansion holds.  Reptile and FOMAML are computed as sums of
gradients: the same in exact arithmetic, since ``φ_1 - φ_{k+1} = α Σ g_i``
(``tests/meta/test_meta_gradients.py``), and the rounding error of φ is not divided by α.

Verified by ``tests/test_paper.py`` and ``tests/theory/test_claim_mutants.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reptile_np.meta.inner_loop import Array
from reptile_np.nn.models import Model
from reptile_np.theory import expansions
from reptile_np.theory.claims.claim import Claim, close
from reptile_np.theory.claims.shared import directions, remainders
from reptile_np.theory.expansions import METHODS, Minibatches, TaskFamily, stated
from reptile_np.theory.networks import sine_waves, small_images

__all__ = [
    "COEFFICIENT_TOLERANCE",
    "COMPLEX_STEP_TOLERANCE",
    "NETWORKS",
    "SLOPE_TOLERANCE",
    "STEPS",
    "complex_step",
    "complex_step_error",
    "fitted_coefficients",
    "remainder_slopes",
    "verify",
]

NETWORKS: dict[str, Callable[[], TaskFamily]] = {"sine MLP": sine_waves, "conv + batch norm": small_images}
STEPS = np.logspace(-6, -3, 7)
"""α |H|."""
SLOPE_TOLERANCE = 0.05
# central difference at s = 1e-4: a relative error of about k² s² = 1e-7, and rounding 1e-16 / s
COEFFICIENT_TOLERANCE = 1e-5
COMPLEX_STEP_TOLERANCE = 1e-12


def verify() -> list[Claim]:
    """Return the claims about networks."""
    rows = []
    for name, make in NETWORKS.items():
        family = make()
        for k in (2, 3):
            rows += remainder_slopes(name, family, k)
            rows += fitted_coefficients(name, family, k)
        rows.append(complex_step(name, family))
    return rows


def remainder_slopes(name: str, family: TaskFamily, k: int) -> list[Claim]:
    """Return the claims that the remainder after two terms is O(α²): a slope of 2 in log-log."""
    decades = np.log10(STEPS[-1] / STEPS[0])
    left = remainders(family, k, STEPS)
    slopes = np.polyfit(np.log10(STEPS), np.log10(left), 1)[0]
    return [
        close(
            f"E[g_{method}], k = {k}, {name}: log-log slope of the remainder over {decades:.3g} decades of α",
            "eqs (15)-(17), O(α²)",
            2.0,
            slope,
            SLOPE_TOLERANCE,
        )
        for method, slope in zip(directions(k), slopes, strict=True)
    ]


def fitted_coefficients(name: str, family: TaskFamily, k: int) -> list[Claim]:
    """Return the coefficients of AvgGrad and AvgGradInner, and the angle to their span, at α → 0."""
    methods, alpha = directions(k), 1e-4 / family.curvature()
    span = np.stack([family.avg_grad(), family.avg_grad_inner()], axis=1)
    order_0 = family.expected(methods, k, 0.0)
    up, down = (family.expected(methods, k, sign * alpha) for sign in (1, -1))
    order_1 = (up - down) / (2 * alpha)
    rows = []
    for i, method in enumerate(methods):
        (c_0,), (c_1,) = stated(method, k)[:2]
        fit_0, fit_1 = (np.linalg.lstsq(span, order[i])[0] for order in (order_0, order_1))
        angle = np.arcsin(np.linalg.norm(order_1[i] - span @ fit_1) / np.linalg.norm(order_1[i]))
        what = f"E[g_{method}], k = {k}, {name}"
        rows += [
            close(f"{what}: AvgGrad in α⁰", "section 4.1", float(c_0), fit_0[0], COEFFICIENT_TOLERANCE),
            close(f"{what}: AvgGradInner in α¹", "section 4.1", float(c_1), fit_1[1], COEFFICIENT_TOLERANCE),
            close(f"{what}: α¹'s angle to the two, radian", "section 4.1", 0.0, angle, COEFFICIENT_TOLERANCE),
        ]
    return rows


def complex_step(name: str, family: TaskFamily, k: int = 3) -> Claim:
    """Return the claim that MAML differentiates the adapted loss, by a complex step through the loop."""
    model, batches = family.model, family.tasks[0][:k]
    error = complex_step_error(model, family.phi, batches, 0.1 / family.curvature())
    return close(
        f"g_MAML, k = {k}, {name}: relative error against a complex step through the inner loop",
        "eq. (11)",
        0.0,
        error,
        COMPLEX_STEP_TOLERANCE,
    )


def complex_step_error(model: Model, phi: Array, batches: Minibatches, alpha: float) -> float:
    """Return the largest ``|g·v - Im L_k(U_{k-1} ∘ … ∘ U_1(φ + ihv)) / h| / |g|`` over 4 random v.

    The entries of v are standard normal, so that |g| is the typical size of g·v.
    """
    g = METHODS["MAML"](model, alpha)(expansions.run(model, phi, batches, alpha))
    h, worst = 1e-30, 0.0
    for v in np.random.default_rng(0).standard_normal((4, len(phi))):
        adapted = expansions.run(model, phi + 1j * h * v, batches, alpha).losses[-1]
        worst = max(worst, abs(adapted.imag / h - g @ v) / np.linalg.norm(g))
    return float(worst)
