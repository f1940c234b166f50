"""What several parts of the paper measure: an exact example, and remainders on a network.

Verified by ``tests/test_paper.py`` and ``tests/theory/test_claim_mutants.py``.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from reptile_np.meta.inner_loop import Array
from reptile_np.theory.expansions import METHODS, Method, TaskFamily, stated, weighted_gradient
from reptile_np.theory.polynomials import Polynomials, random_tasks
from reptile_np.theory.rational import coordinates, rationals

__all__ = ["coordinates_in", "directions", "example", "remainders"]


def example(variables: int = 2, tasks: int = 2, batches: int = 3, degree: int = 3) -> TaskFamily:
    """Return a fixed, generic distribution over polynomial losses, and a point."""
    model = Polynomials(variables, degree)
    drawn = random_tasks(np.random.default_rng(0), model, tasks, batches)
    return TaskFamily(model, drawn, rationals([1, Fraction(-1, 2), 2][:variables]))


def directions(k: int) -> dict[str, Method]:
    """Return the three methods, Reptile and FOMAML as sums of gradients."""
    return {
        "Reptile": weighted_gradient([1] * k),
        "FOMAML": weighted_gradient([0] * (k - 1) + [1]),
        "MAML": METHODS["MAML"],
    }


def remainders(family: TaskFamily, k: int, steps: Array) -> Array:
    """Return ``|E[g] - c_0 AvgGrad - α c_1 AvgGradInner|``: (steps, methods)."""
    methods = directions(k)
    unit = family.curvature()
    c = np.array([[float(x[0]) for x in stated(name, k)[:2]] for name in methods])
    grad, inner = family.avg_grad(), family.avg_grad_inner()
    left = [family.expected(methods, k, s / unit) - c @ np.stack([grad, s / unit * inner]) for s in steps]
    return np.linalg.norm(left, axis=-1)


def coordinates_in(basis: Any, vector: Array) -> list[Fraction | None]:
    """Return the coefficients of a vector in a basis (terms, n), None each if it is not in their span."""
    c, residual = coordinates(np.stack(list(basis)).T, vector)
    return list(c) if np.all(residual == 0) else [None] * len(c)
