"""Sections 1 and 2: the algorithms, and what is and is not joint training; exact.

Verified by ``tests/test_paper.py``; ``tests/theory/test_mutants.py`` shows that for every planted
error a claim here or in `claims.expansion` fails.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from reptile_np.meta.inner_loop import Array
from reptile_np.meta.meta_gradients import reptile
from reptile_np.meta.optimizers import Sgd
from reptile_np.meta.training import begin, meta_train
from reptile_np.theory import expansions
from reptile_np.theory.claims.claim import Claim, equal
from reptile_np.theory.claims.shared import example
from reptile_np.theory.expansions import METHODS, Minibatches, TaskFamily, weighted_gradient
from reptile_np.theory.polynomials import Polynomials, degree_in_alpha
from reptile_np.theory.rational import exact_gradient, polynomial_coefficients, rationals

__all__ = [
    "average_update_gap",
    "curvature_covariance",
    "joint_training",
    "moving_average",
    "multiple_of",
    "one_step",
    "outer_loop",
    "task_loss",
    "verify",
    "where_reptile_ends",
]


def verify() -> list[Claim]:
    """Return the claims of sections 1 and 2."""
    return [*joint_training(), *where_reptile_ends(), *one_step(), *outer_loop()]


def task_loss(task: Minibatches) -> Array:
    """Return the loss of a whole task: the mean of its minibatches'."""
    return np.mean(np.stack(task), axis=0)


def average_update_gap(family: TaskFamily, k: int) -> Array:
    """Return the coefficients (orders, n) in α of ``E_τ[SGD(L_τ, φ, k)] - SGD(E_τ[L_τ], φ, k)``."""
    losses = [task_loss(task) for task in family.tasks]

    def gap(alpha: Fraction) -> Array:
        def moved(loss: Array) -> Any:
            return expansions.run(family.model, family.phi, [loss] * k, alpha).phis[-1]

        return sum(moved(loss) for loss in losses) / len(losses) - moved(task_loss(losses))

    degree = degree_in_alpha(family.model.degree, k) + 1
    return polynomial_coefficients(gap, degree, degree + 1)


def curvature_covariance(family: TaskFamily) -> Array:
    """Return ``E_τ[L_τ'' L_τ'] - E_τ[L_τ''] E_τ[L_τ']`` (n,) at φ."""
    losses = [task_loss(task) for task in family.tasks]
    own = sum(family.hvp(loss, family.grad(loss)) for loss in losses) / len(losses)
    joint = task_loss(losses)
    return own - family.hvp(joint, family.grad(joint))


def joint_training() -> list[Claim]:
    """Return (1), (2), and how (2) fails for k > 1."""
    family = example()
    losses = [task_loss(task) for task in family.tasks]

    def expected_loss(phi: Array) -> Any:
        return sum(family.model.loss_and_grad(phi, loss)[0] for loss in losses) / len(losses)

    mean_gradient = sum(family.grad(loss) for loss in losses) / len(losses)
    rows = [
        equal(
            "E[∇L_τ] = ∇E[L_τ]: the difference",
            "eq. (1)",
            [0] * len(family.phi),
            mean_gradient - exact_gradient(expected_loss, family.phi, family.model.degree),
        ),
        equal(
            "k = 1: E[SGD(L_τ, φ, 1)] - SGD(E[L_τ], φ, 1), every power of α",
            "eq. (2)",
            0,
            sum(abs(average_update_gap(family, 1)).ravel()),
        ),
    ]
    covariance = curvature_covariance(family)
    for k in (2, 3):
        gap = average_update_gap(family, k)
        rows.append(
            equal(
                f"k = {k}: (2) fails at α²; the gap there, in units of Cov_τ(L'', L'), is k(k-1)/2",
                "eq. (2), beyond",
                [0, 0, Fraction(k * (k - 1), 2)],
                [multiple_of(order, covariance) for order in gap[:3]],
            )
        )
    return rows


def where_reptile_ends() -> list[Claim]:
    """Return the claim that for k > 1 Reptile does not end where the expected loss is least.

    Two tasks with the losses ½ φ² and (3/2) (φ - 1)².  W is affine in φ, and so is the expected step
    E[W] - φ: its values at 0 and 1 give the point at which it is zero.
    """
    model, alpha = Polynomials(variables=1, degree=2), Fraction(1, 5)
    losses = [rationals([0, 0, Fraction(1, 2)]), rationals([Fraction(3, 2), -3, Fraction(3, 2)])]

    def step(phi: int, k: int) -> Any:
        start = rationals([phi])
        ends = [expansions.run(model, start, [loss] * k, alpha).phis[-1] for loss in losses]
        return (sum(ends) / 2 - start)[0]

    at_zero, at_one = (model.loss_and_grad(rationals([phi]), task_loss(losses))[1][0] for phi in (0, 1))
    ends = [step(0, k) / (step(0, k) - step(1, k)) for k in (1, 2, 5)]
    return [
        equal(
            "½ φ² and (3/2)(φ - 1)²: the minimum of E[L_τ], and where E[W] = φ for k = 1, 2, 5 and α = 1/5",
            "section 2, after eq. (2)",
            [Fraction(3, 4), Fraction(3, 4), Fraction(7, 10), Fraction(3093, 5194)],
            [at_zero / (at_zero - at_one), *ends],
        )
    ]


def one_step() -> list[Claim]:
    """Return the claim that at k = 1 all methods give the same direction, for every α (V. Kurin's notes)."""
    family, alpha = example(), Fraction(3, 7)
    directions = family.expected({**METHODS, "w": weighted_gradient([1])}, 1, alpha)
    distance = abs(directions - family.avg_grad()).sum()
    claim = "k = 1: Reptile, FOMAML, MAML and g_1 all equal AvgGrad: the difference"
    return [equal(claim, "reading notes, remark 1", 0, distance)]


def outer_loop() -> list[Claim]:
    """Return the claims about Algorithms 1 and 2 and the moving average, run by `meta_train` itself."""
    family, alpha, epsilon = example(), Fraction(1, 5), Fraction(1, 3)
    phi, (first, second) = family.phi, family.tasks

    def train(*meta_batches: list[Minibatches]) -> Array:
        """Run one outer step on each meta-batch of tasks."""
        start = begin(phi, Sgd(alpha), Sgd(epsilon))
        *_, last = meta_train(
            family.model,
            start,
            lambda i, j: meta_batches[i][j],
            meta_gradient=reptile,
            inner=Sgd(alpha),
            outer=lambda i: Sgd(epsilon),
            outer_steps=len(meta_batches),
            meta_batch=len(meta_batches[0]),
        )
        return last.phi

    def solution(phi: Array, task: Minibatches) -> Array:
        return expansions.run(family.model, phi, task, alpha).phis[-1]

    w_first, w_second = solution(phi, first), solution(phi, second)
    serial = phi + epsilon * (w_first - phi)
    w_after = solution(serial, second)
    two_serial = train([first], [second])
    copies = train([first, first])
    printed = epsilon * (2 * w_first - 2 * phi) / len(first)
    erratum, zero = "erratum 2: Algorithm 2 prints 1/k", [0, 0]
    return [
        equal(
            "φ ← φ + ε(W - φ), two iterations: the difference",
            "Algorithm 1",
            zero,
            two_serial - (serial + epsilon * (w_after - serial)),
        ),
        equal(
            "φ ← φ + ε (1/n) Σ(W_i - φ), n = 2: the difference",
            "Algorithm 2",
            zero,
            train([first, second]) - (phi + epsilon * (w_first + w_second - 2 * phi) / 2),
        ),
        equal(
            "a meta-batch of n copies of a task is the serial step: the difference",
            erratum,
            zero,
            copies - serial,
        ),
        equal(
            f"with 1/k as printed (n = 2, k = {len(first)}) its step would be n/k as long",
            erratum,
            Fraction(2, len(first)),
            multiple_of(printed, copies - phi),
        ),
        equal(
            "φ_t = (1-ε)^t φ_0 + Σ ε(1-ε)^(t-s) W_s, t = 2: the difference",
            "eq. (23), as a moving average",
            zero,
            two_serial - moving_average(phi, [w_first, w_after], epsilon),
        ),
    ]


def moving_average(phi: Array, solutions: list[Array], epsilon: Any) -> Array:
    """Return ``(1-ε)^t φ_0 + Σ_s ε (1-ε)^(t-s) W_s`` for the t solutions W_1 … W_t, each (n,)."""
    t = len(solutions)
    phi = (1 - epsilon) ** t * phi
    for s, solution in enumerate(solutions, start=1):
        phi = phi + epsilon * (1 - epsilon) ** (t - s) * solution
    return phi


def multiple_of(vector: Array, unit: Array) -> Fraction | None:
    """Return c with ``vector = c unit``, or None if there is none."""
    c = (vector @ unit) / (unit @ unit)
    return c if np.all(vector == c * unit) else None
