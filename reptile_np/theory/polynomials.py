"""Polynomial losses: models on which the code that trains runs in exact arithmetic.

The inner loop on a polynomial loss computes polynomials in α and in φ.  Their coefficients are found
exactly, so that a Taylor series "up to O(α²)" is checked as an equality of fractions.

Verified by ``tests/theory/test_polynomials.py`` (derivatives from values alone, symmetry).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from reptile_np.errors import UsageError, whole
from reptile_np.meta.inner_loop import Array
from reptile_np.theory.rational import over_one_denominator, quotients, rationals

__all__ = ["Exponents", "Polynomials", "degree_in_alpha", "random_tasks"]

Exponents: TypeAlias = tuple[int, ...]
"""One power per variable."""


@dataclass(frozen=True)
class Polynomials:
    """All polynomial losses of `variables` unknowns up to `degree`; a *batch* is the coefficients (m,).

    ``L(φ) = Σ_j batch[j] Π_i φ_i^exponents[j][i]``.  The mean of two batches is the batch of the mean
    loss, as for minibatches of examples without batch norm.  φ, v and the gradient are (n,), of
    `Fraction`; floats and complex numbers work too.

    Raises
    ------
    UsageError
        If `variables` is no whole number of at least 1, or `degree` none of at least 0.  In calls, if φ or a
        batch has another shape.

    Examples
    --------
    >>> model = Polynomials(variables=2, degree=2)
    >>> model.exponents                                   # 1, y, x, y², xy, x²
    [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0)]
    >>> batch = rationals([0, 0, 0, 1, 3, 0])             # L = y² + 3xy
    >>> loss, grad = model.loss_and_grad(rationals([1, 2]), batch)
    >>> print(loss, *grad)
    10 6 7
    """

    variables: int
    degree: int

    def __post_init__(self) -> None:
        whole("Polynomials: variables", self.variables, 1)
        whole("Polynomials: degree", self.degree, 0)

    @cached_property
    def exponents(self) -> list[Exponents]:
        """The exponents of the m monomials, by total degree."""
        powers = itertools.product(range(self.degree + 1), repeat=self.variables)
        return sorted((power for power in powers if sum(power) <= self.degree), key=sum)

    @property
    def terms(self) -> int:
        """The number m of monomials, the length of a batch."""
        return len(self.exponents)

    def loss_and_grad(self, phi: Array, batch: Array) -> tuple[Any, Array]:
        """Return ``L(φ)`` and ``L'(φ)`` (n,)."""
        loss, grad = self._derivatives(phi, batch, 0, 1)
        return loss[()], grad

    def hvp(self, phi: Array, batch: Array, v: Array) -> Array:
        """Return ``L''(φ) v`` (n,)."""
        return self._derivatives(phi, batch, 2)[0] @ v

    def third(self, phi: Array, batch: Array, u: Array, v: Array) -> Array:
        """Return ``L'''(φ)[u, v]`` (n,)."""
        return self._derivatives(phi, batch, 3)[0] @ v @ u

    def _derivatives(self, phi: Array, batch: Array, *orders: int) -> list[Array]:
        """Return all partial derivatives of each order (the lowest first) at φ: arrays (n,) * order.

        Fractions are summed as integers over one denominator, ``φ = p / d``: several times faster.
        """
        if phi.shape != (self.variables,) or batch.shape != (self.terms,):
            raise UsageError(
                f"phi has shape {phi.shape}, the batch {batch.shape}; give ({self.variables},) and "
                f"({self.terms},)"
            )
        (p, d), (coefficients, divisor) = over_one_denominator(phi), over_one_denominator(batch)
        powers: list[Any] = [p[0] ** 0]
        for earlier, i in self._products[1 : len(self._differentiated[orders[0]][2])]:
            powers.append(powers[earlier] * p[i])
        derivatives = []
        for order in orders:
            source, factor, missing = self._differentiated[order]
            d_powers = [d**j for j in range(max(self.degree - order, 0) + 1)]
            # φ^e = p^e d^(highest - |e|) / d^highest, the highest |e| of this order's monomials
            values = [power * d_powers[j] for power, j in zip(powers, missing, strict=False)]
            sums = (factor * coefficients[source]) @ np.array(values, dtype=p.dtype)
            derivatives.append(quotients(sums, divisor * d_powers[-1]).reshape((self.variables,) * order))
        return derivatives

    @cached_property
    def _products(self) -> list[tuple[int, int]]:
        """For each monomial, the earlier one and the variable that it is the product of."""
        place = {power: j for j, power in enumerate(self.exponents)}
        products = [(0, 0)]
        for power in self.exponents[1:]:
            i = next(i for i, p in enumerate(power) if p)
            products.append((place[(*power[:i], power[i] - 1, *power[i + 1 :])], i))
        return products

    @cached_property
    def _differentiated(self) -> list[tuple[Array, Array, list[int]]]:
        """For each order and lower monomial: a derivative's coefficient there, its factor, highest - |e|.

        Coefficients (as places in a batch) and factors have the shape (n^order, lower monomials).
        """
        place = {power: j for j, power in enumerate(self.exponents)}
        tables = []
        for order in range(4):
            lower = [power for power in self.exponents if sum(power) <= self.degree - order]
            source, factor = [], []
            for directions in itertools.product(range(self.variables), repeat=order):
                times = [directions.count(i) for i in range(self.variables)]
                higher = [tuple(p + t for p, t in zip(power, times, strict=True)) for power in lower]
                source.append([place[power] for power in higher])
                factor.append([math.prod(map(math.perm, power, times)) for power in higher])
            missing = [self.degree - order - sum(power) for power in lower]
            tables.append((np.array(source, dtype=int), np.array(factor, dtype=int), missing))
        return tables


def random_tasks(rng: np.random.Generator, model: Polynomials, tasks: int, batches: int) -> list[list[Array]]:
    """Return `tasks` tasks of `batches` minibatches each, coefficients from {-2, …, 2} / {1, 2}."""
    shape = (tasks, batches, model.terms)
    top, bottom = rng.integers(-2, 3, shape), rng.integers(1, 3, shape)
    coefficients = rationals(top) / rationals(bottom)
    return [list(task) for task in coefficients]


def degree_in_alpha(loss_degree: int, k: int) -> int:
    """Return the degree in α of MAML's gradient after k steps, the highest of all the directions'.

    A gradient of degree q makes ``deg φ_{i+1} = 1 + q deg φ_i``; MAML multiplies ``g_k`` by the
    ``I - α H_i``, each of degree ``1 + (q - 1) deg φ_i``.
    """
    q = loss_degree - 1
    point = [0]
    for _ in range(k - 1):
        point.append(1 + q * point[-1])
    return q * point[-1] + sum(1 + (q - 1) * d for d in point[:-1])
