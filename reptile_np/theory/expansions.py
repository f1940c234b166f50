"""Section 4.1: the directions as power series in the inner learning rate α.

With the minibatches of one task numbered L_1 … L_k and everything at the initial point φ_1, write
``g_i = L_i'(φ_1)``, ``H_i = L_i''(φ_1)``, ``T_i = L_i'''(φ_1)`` (the paper writes ḡ_i and H̄_i; its g_i,
and that of `reptile_np.meta`, is L_i'(φ_i)).  For exchangeable minibatches the
expectation of a product depends only on which of its minibatches are the same, and up to order α² only six
vectors occur (`TERMS`):

    order α⁰   AvgGrad       = E[g_1]
    order α¹   AvgGradInner  = E[H_1 g_2] = ½ E[∂(g_1 · g_2)]
    order α²   E[H_1 H_2 g_3],  E[T_1[g_2, g_3]],  E[T_1[g_2, g_2]],  E[H_1 H_2 g_1]

The paper has the first two orders (equations 15-17 for k = 2; any k in its later versions).  The third
is derived in ``theory/README.md``.  Verified as equalities of fractions by ``tests/test_paper.py`` and
``tests/theory/test_expansions.py``: the first two orders for k = 1 … 5, the third for k = 1, 2, 3 and, as a
sum, for k = 5.  The same functions take a network in float64 (``claims/network.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from reptile_np.errors import UsageError, whole
from reptile_np.meta.inner_loop import Array, Batch, Trajectory, adapt
from reptile_np.meta.meta_gradients import MetaGradient, fomaml, gradient_sum, maml, reptile
from reptile_np.meta.optimizers import Sgd
from reptile_np.theory.polynomials import degree_in_alpha
from reptile_np.theory.rational import polynomial_coefficients

__all__ = [
    "METHODS",
    "TERMS",
    "Coefficients",
    "Method",
    "Minibatches",
    "Sampler",
    "TaskFamily",
    "distinct",
    "each_batch_at_each_place",
    "fomaml_gradient",
    "independent",
    "maml_gradient",
    "reptile_gradient",
    "run",
    "stated",
    "stated_sum",
    "weighted_gradient",
]

Minibatches: TypeAlias = Sequence[Batch]
"""All the minibatches of one task."""
Sampler: TypeAlias = Callable[[Minibatches, int], Iterable[tuple[Batch, ...]]]
"""(task, k) ↦ every k-tuple of minibatches that can be drawn, each as likely as the others."""
Coefficients: TypeAlias = tuple[tuple[Fraction, ...], ...]
"""By order of α, the coefficients of that order's `TERMS`."""
Method: TypeAlias = Callable[[Any, Any], MetaGradient]
"""(model, α) ↦ a direction in units of a gradient."""

TERMS = (("AvgGrad",), ("AvgGradInner",), ("H1 H2 g3", "T1[g2, g3]", "T1[g2, g2]", "H1 H2 g1"))


def distinct(task: Minibatches, k: int) -> Iterable[tuple[Batch, ...]]:
    """Draw without replacement: every ordered k-tuple of different minibatches."""
    return itertools.permutations(task, k)


def independent(task: Minibatches, k: int) -> Iterable[tuple[Batch, ...]]:
    """Draw with replacement: every ordered k-tuple."""
    return itertools.product(task, repeat=k)


def each_batch_at_each_place(drawn: Iterable[tuple[Batch, ...]]) -> list[tuple[Batch, ...]]:
    """Return those of the drawn tuples in which a minibatch is at a place where it was not before."""
    seen: set[tuple[int, int]] = set()
    chosen = []
    for batches in list(drawn):  # the list keeps all minibatches alive, so that no two have the same id
        places = {(place, id(batch)) for place, batch in enumerate(batches)}
        if not places <= seen:
            chosen.append(batches)
            seen |= places
    return chosen


def reptile_gradient(model: Any, alpha: Any) -> MetaGradient:
    """Return trajectory ↦ ``g_Reptile = (φ_1 - φ_{k+1}) / α`` (n,), equation (9)."""
    return lambda t: reptile(t) / alpha


def fomaml_gradient(model: Any, alpha: Any) -> MetaGradient:
    """Return trajectory ↦ ``g_FOMAML = (φ_k - φ_{k+1}) / α = g_k(φ_k)`` (n,), equation (14)."""
    return lambda t: fomaml(t) / alpha


def maml_gradient(model: Any, alpha: Any) -> MetaGradient:
    """Return trajectory ↦ ``g_MAML`` (n,), equation (11)."""
    return maml(model, alpha)


def weighted_gradient(w: Sequence[Any]) -> Method:
    """Return the method ``Σ w_i g_i(φ_i)`` (n,) of section 5.2, for k weights w."""
    return lambda model, alpha: gradient_sum(w)


METHODS: Mapping[str, Method] = {
    "Reptile": reptile_gradient,
    "FOMAML": fomaml_gradient,
    "MAML": maml_gradient,
}


def run(model: Any, phi: Array, batches: Sequence[Batch], alpha: Any) -> Trajectory:
    """Return the inner loop of plain SGD, the one that the analysis is about."""
    return adapt(model, Sgd(alpha), phi, batches)


@dataclass(frozen=True)
class TaskFamily:
    """A model, finitely many tasks of equal probability, a point φ (n,), and how minibatches are drawn.

    Expectations are complete enumerations: every task, and every tuple that the sampler can draw.  The
    tasks' minibatches, φ and the model may be rational (`Polynomials`) or float64 (a network).
    """

    model: Any
    tasks: Sequence[Minibatches]
    phi: Array
    sampler: Sampler = distinct

    def mean(self, f: Callable[..., Array], k: int) -> Array:
        """Return ``E[f(batch_1, …, batch_k)]`` over the tasks and the k-tuples of each.

        The result is 0 if no task has a k-tuple, for example for k = 3 if every task has two minibatches.

        Raises
        ------
        UsageError
            If there is no task, or only some of the tasks have a k-tuple.
        """
        drawn = [list(self.sampler(task, k)) for task in self.tasks]
        if not drawn or len({len(tuples) > 0 for tuples in drawn}) > 1:
            counts = ", ".join(str(len(task)) for task in self.tasks) or "no tasks"
            raise UsageError(f"minibatches per task: {counts}; give every task at least {k}")
        if not drawn[0]:
            return 0 * self.phi
        means = []
        for tuples in drawn:
            values = [f(*batches) for batches in tuples]
            means.append(sum(values, 0 * values[0]) / len(values))
        return sum(means, 0 * means[0]) / len(means)

    def grad(self, batch: Batch) -> Array:
        """Return ``L'(φ)`` (n,) of a minibatch."""
        return self.model.loss_and_grad(self.phi, batch)[1]

    def hvp(self, batch: Batch, v: Array) -> Array:
        """Return ``L''(φ) v`` (n,) of a minibatch."""
        return self.model.hvp(self.phi, batch, v)

    def avg_grad(self) -> Array:
        """Return AvgGrad (n,)."""
        return self.mean(self.grad, 1)

    def avg_grad_inner(self) -> Array:
        """Return AvgGradInner (n,)."""
        return self.mean(lambda one, two: self.hvp(one, self.grad(two)), 2)

    def terms(self, order: int) -> Array:
        """Return the vectors (terms, n) of order α⁰, α¹ or α², in the order of `TERMS`.

        Raises
        ------
        UsageError
            If `order` is none of 0, 1 and 2, or `mean` raises it.
        """
        if order not in range(len(TERMS)):
            raise UsageError(f"order {order!r} of α: the terms are known for 0, 1 and 2")
        if order == 0:
            return np.stack([self.avg_grad()])
        if order == 1:
            return np.stack([self.avg_grad_inner()])
        g, h = self.grad, self.hvp
        third = self.model.third
        return np.stack(
            [
                self.mean(lambda one, two, three: h(one, h(two, g(three))), 3),
                self.mean(lambda one, two, three: third(self.phi, one, g(two), g(three)), 3),
                self.mean(lambda one, two: third(self.phi, one, g(two), g(two)), 2),
                self.mean(lambda one, two: h(one, h(two, g(one))), 2),
            ]
        )

    def expected(self, methods: Mapping[str, Method], k: int, alpha: Any) -> Array:
        """Return the expected direction (methods, n) of each method after k inner steps of size α.

        Raises
        ------
        UsageError
            If there is no method, or a task has no k-tuple.
        """
        if not methods:
            raise UsageError("expected: no methods; give at least one, such as METHODS")

        def directions(*batches: Batch) -> Array:
            t = run(self.model, self.phi, batches, alpha)
            return np.stack([method(self.model, alpha)(t) for method in methods.values()])

        expected = self.mean(directions, k)
        if expected.ndim == 1:  # `mean` returns 0 (n,) if no task has a k-tuple
            raise UsageError(f"no task has {k} minibatches to draw; give every task at least {k}")
        return expected

    def expansion(self, methods: Mapping[str, Method], k: int, orders: int = 3) -> Array:
        """Return the exact coefficients (orders, methods, n) of α⁰, α¹, … of `expected`.

        Raises
        ------
        ArithmeticError
            If an expected direction is not a polynomial in α of the degree that it must have.
        UsageError
            As `expected`.
        """
        degree = degree_in_alpha(self.model.degree, k)
        return polynomial_coefficients(lambda alpha: self.expected(methods, k, alpha), degree, orders)

    def curvature(self, iterations: int = 20) -> float:
        """Return roughly the largest |eigenvalue| of the minibatches' Hessians at φ, by power iteration.

        In floating point only.  0 if all Hessians are 0; not finite if one of them is not; `UsageError` if
        there is no minibatch.
        """
        each = [self._curvature(batch, iterations) for task in self.tasks for batch in task]
        if not each:
            raise UsageError("curvature: no minibatches; give at least one task")
        return float(np.max(each))  # NaN if one is NaN, unlike Python's max

    def _curvature(self, batch: Any, iterations: int) -> float:
        v = np.random.default_rng(0).standard_normal(len(self.phi))
        for _ in range(iterations):
            size = float(np.linalg.norm(v))
            if size == 0 or not np.isfinite(size):
                return size
            v = self.hvp(batch, v / size)
        return float(np.linalg.norm(v))


def stated_sum(w: Sequence[Any]) -> Coefficients:
    """Return the coefficients of ``E[Σ w_i g_i(φ_i)]``, up to α²."""
    weights = [Fraction(x) for x in w]
    total = sum(weights, Fraction(0))
    earlier = sum((x * i for i, x in enumerate(weights)), Fraction(0))
    pairs = sum((x * Fraction(i * (i - 1), 2) for i, x in enumerate(weights)), Fraction(0))
    return (total,), (-earlier,), (pairs, pairs, earlier / 2, Fraction(0))


def stated(method: str, k: int) -> Coefficients:
    """Return the coefficients of a method of `METHODS` after k ≥ 1 inner steps, up to α².

    Raises
    ------
    UsageError
        If k is no whole number of at least 1, or `method` is none of `METHODS`.
    """
    k = whole("stated: k", k, 1)
    if method == "Reptile":
        return stated_sum([1] * k)
    if method == "FOMAML":
        return stated_sum([0] * (k - 1) + [1])
    if method != "MAML":
        raise UsageError(f"method {method!r} is unknown; use one of {', '.join(METHODS)}")
    earlier = Fraction(k - 1)
    pairs = earlier * (k - 2)
    return (Fraction(1),), (-2 * earlier,), (2 * pairs, pairs, earlier / 2, earlier)
