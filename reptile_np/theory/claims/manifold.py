"""Section 4.2 and the sine waves of section 3: the geometric argument, in closed form.

Verified by ``tests/test_paper.py`` and ``tests/theory/test_claim_mutants.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from reptile_np.meta.inner_loop import Array
from reptile_np.meta.optimizers import Sgd
from reptile_np.theory import expansions
from reptile_np.theory.claims.claim import Claim, at_least, close, equal
from reptile_np.theory.manifolds import (
    Affine,
    Sphere,
    alternate,
    cycle_limit,
    distance_gradient,
    half_squared_distance,
    move,
    nearest_point,
)
from reptile_np.theory.polynomials import Polynomials
from reptile_np.theory.rational import exact_gradient, polynomial_coefficients, rationals

__all__ = [
    "approaches",
    "figure_2",
    "line",
    "partial_minimisation",
    "projection_gradient",
    "sine_waves",
    "skew_task",
    "two_objectives",
    "verify",
    "without_common_point",
]


def verify() -> list[Claim]:
    """Return the claims of sections 4.2 and 3."""
    sections = (
        projection_gradient,
        figure_2,
        two_objectives,
        without_common_point,
        partial_minimisation,
        sine_waves,
    )
    return [claim for section in sections for claim in section()]


def line(normal: list[int | Fraction], offset: int | Fraction) -> Affine:
    """Return the affine manifold ``normal · φ = offset``."""
    return Affine(rationals([normal]), rationals([offset]))


def projection_gradient() -> list[Claim]:
    """Return (19)-(23): the gradient of the distance, and the update; erratum 7."""
    plane, phi, epsilon = line([1, 2, -2], 3), rationals([1, -2, 5]), Fraction(2, 7)
    gradient = distance_gradient(plane, phi)
    exact = exact_gradient(lambda p: half_squared_distance(plane, p), phi, degree=2)
    sphere, point, h = Sphere(np.array([0.5, -1.0, 2.0]), 1.5), np.array([3.0, 1.0, 0.5]), 1e-30
    both = [point, np.array([1.0, -1.5, 2.25])]  # outside and inside
    closed_form = [(np.linalg.norm(p - sphere.centre) - sphere.radius) ** 2 / 2 for p in both]
    curved = [half_squared_distance(sphere, point + 1j * h * e).imag / h for e in np.eye(3)]
    stepped, _ = Sgd(epsilon).update(gradient, (), phi)
    return [
        equal("∂½D² = φ - P(φ), a plane: the difference", "eqs (18)-(20)", [0] * 3, gradient - exact),
        close(
            "½D² = ½(|φ - c| - r)², a sphere, centre c, radius r: the larger error of φ outside and φ inside",
            "eqs (18)-(20)",
            0.0,
            float(np.abs(np.subtract([half_squared_distance(sphere, p) for p in both], closed_form)).max()),
            1e-14,
        ),
        close(
            "∂½D² = φ - P(φ), a sphere (P moves with φ): the error, by complex step",
            "eqs (18)-(20), envelope theorem",
            0.0,
            float(np.abs(distance_gradient(sphere, point) - curved).max()),
            1e-14,
        ),
        equal(
            "φ - ε∂½D² = (1-ε)φ + εP(φ): the difference",
            "eqs (21)-(23)",
            [0] * 3,
            stepped - move(plane, phi, epsilon),
        ),
        equal(
            "φ - ε(P(φ) - φ), as printed, with ε = 2/7: ½D² there in units of ½D² at φ",
            "erratum 7: the sign in eq. (22)",
            [(1 + epsilon) ** 2],
            [half_squared_distance(plane, phi + epsilon * gradient) / half_squared_distance(plane, phi)],
        ),
    ]


def approaches(lines: list[Affine], point: Array, epsilon: Fraction) -> bool:
    """Return whether a sweep of moves shortens the way to `point`, from every other φ of the plane.

    If so, sweep after sweep converges to `point`.  Moves towards lines are affine: if `point` stays where
    it is, the way d becomes M d.  This is shorter for every d ≠ 0 if I - MᵀM is positive definite, that
    is, if its leading minors are positive.
    """
    axes = rationals(np.eye(2, dtype=int))
    stays = not np.any(alternate(lines, point, epsilon, 1) - point)
    m = np.stack([alternate(lines, point + e, epsilon, 1) - point for e in axes], axis=1)
    (a, b), (c, d) = axes - m.T @ m
    return bool(stays and a > 0 and a * d - b * c > 0)


def figure_2() -> list[Claim]:
    """Return the claims about alternating moves towards two lines that cross, at an angle of cosine 3/5."""
    lines = [line([0, 1], 2), line([4, -3], -2)]
    crossing = nearest_point(lines)
    away = rationals([3, 4])  # along the second line
    steps = [Fraction(1, 10), Fraction(1, 2), Fraction(1)]
    return [
        equal(
            "two lines that cross: the nearest point to both is on both; its ½D²",
            "figure 2",
            [0, 0],
            [half_squared_distance(manifold, crossing) for manifold in lines],
        ),
        equal(
            "two lines that cross, ε = 1/10, 1/2, 1: the point that a sweep of moves does not move, "
            "minus the crossing",
            "figure 2",
            [0] * 6,
            np.concatenate([cycle_limit(lines, epsilon) - crossing for epsilon in steps]),
        ),
        equal(
            "two lines that cross, ε = 1/10, 1/2, 1: alternating moves converge to the crossing, "
            "since a sweep shortens the way to it from every φ (1: yes)",
            "figure 2",
            [1] * 3,
            [int(approaches(lines, crossing, epsilon)) for epsilon in steps],
        ),
        equal(
            "ε = 1, from the second line: a sweep multiplies the way to the crossing by cos² of the angle",
            "figure 2, beyond",
            away * Fraction(9, 25),
            alternate(lines, crossing + away, 1, sweeps=1) - crossing,
        ),
    ]


def skew_task(c: int) -> tuple[Callable[[Array], Any], Affine]:
    """Return L_τ and W_τ of a task with the targets c and 0; the outputs are z and y - xz, φ = (x, y, z)."""

    def loss(phi: Array) -> Any:
        x, y, z = phi
        return ((z - c) ** 2 + (y - x * z) ** 2) / 2

    return loss, Affine(rationals([[0, 0, 1], [-c, 1, 0]]), rationals([c, 0]))  # z = c and y = cx


def two_objectives() -> list[Claim]:
    """Return the claims that the minimisers of E[L_τ] can form a line when E[D²] has a single minimiser.

    ``E[L_τ] = ½ (1 + z² + (y - xz)²)`` is least where y = z = 0.  The single minimiser of E[D²] is on that
    line (`nearest_point` raises an error if there are several).
    """
    tasks = [skew_task(1), skew_task(-1)]
    nearest, phi = nearest_point([solutions for _, solutions in tasks]), rationals([3, -1, 2])

    def expected(t: Fraction) -> Array:
        """Return E[L_τ] and E[½D²] at the nearest point + (t, 0, 0)."""
        point = nearest + rationals([t, 0, 0])
        return rationals([[loss(point), half_squared_distance(w, point)] for loss, w in tasks]).sum(0) / 2

    return [
        equal(
            "two tasks whose solutions are two skew lines: L_τ at P_τ(φ)",
            "figure 2, caption",
            [0, 0],
            [loss(w.project(phi)) for loss, w in tasks],
        ),
        equal(
            "two tasks whose solutions are two skew lines: at φ = (t, 0, 0) E[L_τ] is 1/2, its minimum, for "
            "every t, and E[½D²] is 1/2 + t²/4; their coefficients of 1, t, t²",
            "figure 2, caption",
            [Fraction(1, 2), 0, 0, Fraction(1, 2), 0, Fraction(1, 4)],
            polynomial_coefficients(expected, degree=2, count=3).T,
        ),
    ]


def without_common_point() -> list[Claim]:
    """Return the claims for the case that no φ solves all tasks: three lines that form a triangle."""
    lines = [line([1, 0], 0), line([0, 1], 0), line([1, 1], 3)]
    nearest = nearest_point(lines)
    mean_step = sum(distance_gradient(m, nearest) for m in lines)

    def gap(epsilon: Fraction) -> float:
        """Return the distance from `nearest` to the limit of the moves, NaN if they do not converge."""
        limit = cycle_limit(lines, epsilon)
        d = limit - nearest
        return float(d @ d) ** 0.5 if approaches(lines, limit, epsilon) else float("nan")

    steps = [Fraction(1, 10**i) for i in range(2, 6)]
    slope = np.polyfit(np.log10([float(s) for s in steps]), np.log10([gap(s) for s in steps]), 1)[0]
    finding = "section 4.2, beyond"
    return [
        equal(
            "a triangle of lines: the point of least mean squared distance to the three lines; "
            "the mean gradient there",
            "eq. (18)",
            [0, 0],
            mean_step,
        ),
        at_least(
            "a triangle of lines: serial moves of constant ε = 1/2 converge, but not to the point of least "
            "mean squared distance; the distance of their limit from it",
            finding,
            0.01,
            gap(Fraction(1, 2)),
        ),
        close(
            "a triangle of lines: serial moves of constant ε converge at a distance O(ε) from the point of "
            "least mean squared distance, so that ε must be annealed; the log-log slope of the distance",
            finding,
            1.0,
            slope,
            0.01,
        ),
    ]


def partial_minimisation() -> list[Claim]:
    """Return the claims that k steps of gradient descent are a partial projection, for a task that is a line.

    For ``L = ½ (a·φ - b)²`` with |a| = 1, k steps of size α multiply the distance by ``(1-α)^k``.
    Reptile with rate ε, its W computed by SGD, is therefore equation (23) with the rate ``ε (1 - (1-α)^k)``.
    """
    a, b, alpha, k = rationals([Fraction(3, 5), Fraction(4, 5)]), Fraction(2), Fraction(1, 3), 4
    model = Polynomials(variables=2, degree=2)
    x, y = a
    expanded: dict[tuple[int, ...], Fraction] = {
        (2, 0): x * x / 2,
        (1, 1): x * y,
        (0, 2): y * y / 2,
        (1, 0): -b * x,
        (0, 1): -b * y,
        (0, 0): b * b / 2,
    }
    batch, phi = rationals([expanded[power] for power in model.exponents]), rationals([1, -1])
    w = expansions.run(model, phi, [batch] * k, alpha).phis[-1]
    partial = move(Affine(a[None], rationals([b])), phi, 1 - (1 - alpha) ** k)
    claim = f"a task that is a line: SGD(L_τ, φ, {k}) goes 1 - (1-α)^{k} of the way to P(φ); the difference"
    return [equal(claim, "section 4.2, end, beyond", [0, 0], w - partial)]


def sine_waves() -> list[Claim]:
    """Return E_τ[f_τ] = 0, and that zero minimises the expected loss.

    The means over these 32 waves are the expectations over all tasks: 16 equally spaced phases give the
    means of sin and sin² over a whole turn, two amplitudes (Gauss's nodes) E[a] and E[a²] of a ~ U[0.1, 5].
    """
    x = np.linspace(-5, 5, 50)
    phases = np.arange(16) * 2 * np.pi / 16
    amplitudes = 2.55 + 2.45 / 3**0.5 * np.array([-1, 1])
    waves = amplitudes[:, None, None] * np.sin(x + phases[:, None])
    f = 1 + x / 5  # neither even nor odd, so that it correlates with sin(x) and with cos(x)

    def expected_loss(prediction: Array) -> float:
        return float(((prediction - waves) ** 2).mean(-1).mean())

    return [
        close(
            "E_τ[f_τ(x)] = 0: the largest on the 50 points",
            "section 3",
            0.0,
            float(np.abs(waves.mean((0, 1))).max()),
            1e-14,
        ),
        close(
            "f = 0 is the best joint fit: E_τ[L_τ(f)] - E_τ[L_τ(0)] = mean f²; 66/49 for f(x) = 1 + x/5",
            "section 3",
            66 / 49,
            expected_loss(f) - expected_loss(0 * x),
            1e-14,
        ),
        close(
            "f = 0 for all tasks or f_τ for each: E_τ[L_τ(0)] - E_τ[L_τ(f_τ)] = E[a²]/2 = 2551/600",
            "section 3, beyond",
            2551 / 600,
            expected_loss(0 * x) - expected_loss(waves),
            1e-14,
        ),
    ]
