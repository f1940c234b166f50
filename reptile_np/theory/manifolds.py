"""Section 4.2: moves towards each task's solutions, and the point of least mean squared distance to them.

A manifold W*_τ of solutions has a projection P_τ.  The gradient of ``½ D(φ, W*_τ)²`` is ``φ - P_τ(φ)``
where the nearest point is unique, although P_τ moves with φ as well: by the envelope theorem its derivative
does not contribute.

Affine manifolds run in exact arithmetic; their limits have closed forms.  Verified by
``tests/test_paper.py``, ``tests/theory/test_manifolds.py`` and ``tests/play/test_answers.py`` (the descent).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import Array
from reptile_np.theory.rational import rationals, solve

__all__ = [
    "Affine",
    "Manifold",
    "Sphere",
    "alternate",
    "annealed_path",
    "cycle_limit",
    "distance_gradient",
    "half_squared_distance",
    "move",
    "nearest_by_descent",
    "nearest_point",
]


class Manifold(Protocol):
    """A set of solutions, given by its projection."""

    def project(self, phi: Array) -> Array:
        """Return the point (n,) of the set that is nearest to φ (n,)."""


@dataclass(frozen=True)
class Affine:
    """``{φ: a φ = b}`` with a (m, n) of full row rank and b (m,), both of `Fraction`."""

    a: Array
    b: Array

    def project(self, phi: Array) -> Array:
        """Return ``φ - aᵀ (a aᵀ)⁻¹ (a φ - b)``."""
        return phi - self.a.T @ solve(self.a @ self.a.T, self.a @ phi - self.b)

    def linear(self) -> tuple[Array, Array]:
        """Return (Π, β) with ``φ - P(φ) = Π φ - β``: Π (n, n) the projector on the normals."""
        n = self.a.shape[1]
        origin = self.project(rationals([0] * n))
        columns = [e - (self.project(e) - origin) for e in rationals(np.eye(n, dtype=int))]
        return np.stack(columns, axis=1), origin


@dataclass(frozen=True)
class Sphere:
    """``{φ: |φ - centre| = radius}``: a curved manifold; floats, or complex for a complex step.

    `UsageError` unless radius ≥ 0.
    """

    centre: Array
    radius: float

    def __post_init__(self) -> None:
        if not self.radius >= 0:
            raise UsageError(f"Sphere: radius is {self.radius}; give at least 0")

    def project(self, phi: Array) -> Array:
        """Return the point on the ray from the centre through φ; NaN if φ is the centre."""
        d = phi - self.centre
        return self.centre + self.radius / np.sqrt(d @ d) * d


def half_squared_distance(manifold: Manifold, phi: Array) -> Any:
    """Return ``½ D(φ, W*)²`` (equation 18)."""
    d = phi - manifold.project(phi)
    return d @ d / 2


def distance_gradient(manifold: Manifold, phi: Array) -> Array:
    """Return ``φ - P(φ)`` (n,), the gradient of `half_squared_distance` (equations 19-20)."""
    return phi - manifold.project(phi)


def move(manifold: Manifold, phi: Array, epsilon: Any) -> Array:
    """Return ``(1-ε) φ + ε P(φ)`` (n,), equation (23)."""
    return (1 - epsilon) * phi + epsilon * manifold.project(phi)


def alternate(manifolds: Sequence[Manifold], phi: Array, epsilon: Any, sweeps: int) -> Array:
    """Return φ (n,) after moving towards each manifold in turn, `sweeps` times (figure 2)."""
    for _ in range(sweeps):
        for manifold in manifolds:
            phi = move(manifold, phi, epsilon)
    return phi


def nearest_point(manifolds: Sequence[Affine]) -> Array:
    """Return the minimiser (n,) of the mean squared distance, ``Π̄⁻¹ β̄`` (equation 18).

    Raises
    ------
    ArithmeticError
        If it is not a single point (the manifolds have a direction in common).
    UsageError
        If there is no manifold.
    """
    _check_some(manifolds)
    parts = [manifold.linear() for manifold in manifolds]
    return solve(np.sum([p for p, _ in parts], axis=0), np.sum([beta for _, beta in parts], axis=0))


def cycle_limit(manifolds: Sequence[Affine], epsilon: Any) -> Array:
    """Return the fixed point (n,) of one sweep ``φ ↦ M φ + c``: the limit of `alternate`, if 0 < ε < 2.

    Raises
    ------
    ArithmeticError
        If there is not exactly one.
    UsageError
        If there is no manifold.
    """
    _check_some(manifolds)
    n = manifolds[0].a.shape[1]
    identity = rationals(np.eye(n, dtype=int))
    c = alternate(manifolds, identity[0] * 0, epsilon, 1)
    m = np.stack([alternate(manifolds, e, epsilon, 1) - c for e in identity], axis=1)
    return solve(identity - m, c)


def annealed_path(manifolds: Sequence[Manifold], start: Array, moves: int, epsilon: float) -> list[Array]:
    """Return `start` and the points (n,) after each of `moves` moves towards the manifolds in turn.

    Move i = 0 … moves - 1 has ε = epsilon (1 - i / moves).  `UsageError` if there is no manifold.
    """
    _check_some(manifolds)
    points = [start]
    for i in range(moves):
        points.append(move(manifolds[i % len(manifolds)], points[-1], epsilon * (1 - i / moves)))
    return points


def nearest_by_descent(manifolds: Sequence[Manifold], start: Array, steps: int) -> Array:
    """Return φ (n,) after `steps` steps of size ½ of gradient descent on equation (18), the mean of ½ D².

    The limit is a local minimum; for affine manifolds it is the point of least mean squared distance.
    `UsageError` if there is no manifold.
    """
    _check_some(manifolds)
    phi = start
    for _ in range(steps):
        phi = phi - 0.5 / len(manifolds) * sum(distance_gradient(manifold, phi) for manifold in manifolds)
    return phi


def _check_some(manifolds: Sequence[Manifold]) -> None:
    if not manifolds:
        raise UsageError("no manifolds; give at least one")
