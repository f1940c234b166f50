"""Exact arithmetic: object arrays of `fractions.Fraction`, interpolation and linear systems.

Floats are refused with TypeError, by `rationals`.  Verified by ``tests/theory/test_rational.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from numbers import Rational
from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import Array

__all__ = [
    "coordinates",
    "exact_gradient",
    "over_one_denominator",
    "polynomial_coefficients",
    "quotients",
    "rationals",
    "solve",
]


def rationals(values: Any) -> Array:
    """Return `values` (integers or rationals, any shape) as an object array of `Fraction`.

    Raises
    ------
    TypeError
        If a value is not rational by type; a float is never rounded in silence.
    """
    given = np.asarray(values, dtype=object)
    exact = np.empty(given.shape, dtype=object)
    for place, value in np.ndenumerate(given):
        if not isinstance(value, Rational | np.integer):
            raise TypeError(f"entry {place} is {value!r}; exact arithmetic takes integers and Fractions")
        exact[place] = Fraction(int(value)) if isinstance(value, np.integer) else Fraction(value)
    return exact


def over_one_denominator(values: Array) -> tuple[Array, int]:
    """Return (integers (n,), d) with ``values = integers / d`` for rational `values` (n,).

    Arrays of floats or complex numbers are returned as they are, with d = 1.
    """
    if values.dtype != object:
        return values, 1
    d = math.lcm(*(value.denominator for value in values))
    integers = [value.numerator * (d // value.denominator) for value in values]
    return np.array(integers, dtype=object), d


def quotients(values: Array, divisor: int) -> Array:
    """Return ``values / divisor``, any shape; whole numbers in an object array become `Fraction`."""
    if values.dtype != object:
        return values / divisor
    divided = [Fraction(n, divisor) if isinstance(n, int) else n / divisor for n in values.flat]
    return np.array(divided, dtype=object).reshape(values.shape)


def polynomial_coefficients(f: Callable[[Fraction], Array], degree: int, count: int) -> Array:
    """Return the coefficients of x⁰ … x^(count-1) of the polynomial f, exactly: (count, …).

    `f` is evaluated at ``degree + 2`` whole numbers, none of them 0 (so that f may divide by x): the values
    at the first ``degree + 1`` fix the polynomial, and the value at the one further point must fit.  No
    power x^m with m < 0 or m > degree fits, and no sum of powers with m > degree whose coefficients all have
    one sign.  Finitely many values cannot show more: any function that has a polynomial's values at these
    points is accepted.

    Raises
    ------
    ArithmeticError
        If the value at the further point does not fit.
    TypeError
        If f returns floats or other numbers that are not rational by type.
    """
    nodes = _nodes(degree + 2)
    values = rationals(np.stack([f(x) for x in nodes]))
    difference = np.tensordot(_divided_difference(degree + 2), values, 1)
    if np.any(difference != 0):
        raise ArithmeticError(f"not a polynomial of degree {degree}")
    return np.tensordot(_lagrange(degree + 1, count), values[:-1], 1)


def exact_gradient(f: Callable[[Array], Any], phi: Array, degree: int) -> Array:
    """Return the gradient (n,) at φ (n,) of a polynomial f of that degree, from its values alone.

    If f returns (m,), the result is its Jacobian (m, n).  The chain rule is not used, so that everything
    that uses it can be checked against this function.  The errors are those of `polynomial_coefficients`.
    """
    axes = rationals(np.eye(len(phi), dtype=int))
    slopes = [
        polynomial_coefficients(lambda x, e=e: np.asarray(f(phi + x * e)), degree, 2)[1]  # type: ignore[misc]
        for e in axes
    ]
    return np.stack(slopes, axis=-1)


def solve(matrix: Array, rhs: Array) -> Array:
    """Return x (n,) with ``matrix x = rhs`` exactly, for a square matrix (n, n): Gauss-Jordan.

    Raises
    ------
    ArithmeticError
        If the matrix is singular.
    UsageError
        If the matrix is not square, or `rhs` has another length.
    """
    n = len(matrix)
    if np.shape(matrix) != (n, n) or np.shape(rhs) != (n,):
        raise UsageError(f"solve: shapes {np.shape(matrix)} and {np.shape(rhs)}; give (n, n) and (n,)")
    rows = rationals(np.concatenate([matrix, np.reshape(rhs, (n, 1))], axis=1))
    for i in range(n):
        pivot = next((j for j in range(i, n) if rows[j, i] != 0), None)
        if pivot is None:
            raise ArithmeticError("the matrix is singular")
        rows[[i, pivot]] = rows[[pivot, i]]
        rows[i] = rows[i] / rows[i, i]
        for j in range(n):
            if j != i and rows[j, i] != 0:
                rows[j] = rows[j] - rows[j, i] * rows[i]
    return rows[:, n]


def coordinates(basis: Array, vector: Array) -> tuple[Array, Array]:
    """Return (c, residual) with ``vector = basis c + residual``, the residual orthogonal to the basis.

    Shapes: basis (n, terms) of full column rank, vector and residual (n,), c (terms,).
    """
    c = solve(basis.T @ basis, basis.T @ vector)
    return c, vector - basis @ c


def _nodes(count: int) -> list[Fraction]:
    """2, -1, 1, 3, -2, 4, -3, …: small whole numbers that for no count ≥ 2 are symmetric about 0.

    At an even number of nodes symmetric about 0 the divided difference of every even function is 0.  Here
    that of x^m is positive for m ≥ count - 1: it is the coefficient of t^(m - count + 1) in the product of
    all 1 / (1 - x t); a pair ±x gives 1 / (1 - x²t²), and the other one or two nodes are positive.  (For
    count = 2 it is (2^m - (-1)^m) / 3.)  With 1 / x for x it follows that it is not 0 for m < 0.
    """
    nodes = [Fraction(x) for x in (2, -1, 1)]
    for m in range(3, count):
        nodes += [Fraction(m), Fraction(1 - m)]
    return nodes[:count]


@lru_cache
def _lagrange(points: int, count: int) -> Array:
    """Return W (count, points): coefficient r of the polynomial through the values f is ``(W f)[r]``."""
    nodes = _nodes(points)
    weights = np.empty((count, points), dtype=object)
    for j, xj in enumerate(nodes):
        basis = [Fraction(1)] + [Fraction(0)] * (count - 1)  # Π (x - x_i) / (x_j - x_i), truncated
        for i, xi in enumerate(nodes):
            if i != j:
                shifted = [Fraction(0), *basis[:-1]]
                basis = [(s - xi * b) / (xj - xi) for s, b in zip(shifted, basis, strict=True)]
        weights[:, j] = basis
    return weights


@lru_cache
def _divided_difference(points: int) -> Array:
    nodes = _nodes(points)
    inverse = [1 / math.prod((x - y for y in nodes if y != x), start=Fraction(1)) for x in nodes]
    return rationals(inverse)
