"""Hypothesis strategies: exact families of tasks, and shapes, minibatches and trajectories for any model.

The only module of the package that imports Hypothesis (``pip install hypothesis``).

    from hypothesis import given
    from reptile_np.checks import check_grad, strategies
    from reptile_np.nn import models

    model = models.sine_mlp((6, 6))

    @given(strategies.batches((1,)), strategies.vectors(model.layout.size, scale=0.5))
    def test_my_gradient(batch, phi):
        check_grad(model.loss_and_grad, phi, batch)

For images ``batches((28, 28, 1), ways=5)``.  Near a kink of a ReLU or of a maximum no slope can be measured,
and a drawn φ may be near one.  Use drawn φ for smooth networks (tanh); test other networks at a few chosen
points.

Large arrays are made from a drawn seed: Hypothesis shrinks their shapes, not their entries.

Verified by ``tests/checks/test_strategies.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

try:
    from hypothesis import strategies as st
except ImportError as error:  # pragma: no cover - a message, not a behaviour
    raise ImportError("reptile_np.checks.strategies needs Hypothesis; run: pip install hypothesis") from error

from reptile_np.errors import whole
from reptile_np.meta.inner_loop import Array, Trajectory, adapt
from reptile_np.meta.optimizers import Sgd
from reptile_np.theory.expansions import Sampler, TaskFamily, distinct
from reptile_np.theory.polynomials import Polynomials
from reptile_np.theory.rational import rationals

__all__ = [
    "batches",
    "generators",
    "rational_vectors",
    "shapes",
    "small_fractions",
    "task_families",
    "trajectories",
    "vectors",
]


def small_fractions(bound: int = 3, denominator: int = 3) -> st.SearchStrategy[Fraction]:
    """Draw a fraction of at most `bound` in size; simplest first."""
    return st.fractions(-bound, bound, max_denominator=denominator)


def rational_vectors(n: int) -> st.SearchStrategy[Array]:
    """Draw a vector (n,) of `Fraction`."""
    return st.lists(small_fractions(), min_size=n, max_size=n).map(rationals)


@st.composite
def task_families(
    draw: st.DrawFn,
    *,
    variables: int = 2,
    degree: int = 3,
    tasks: int = 2,
    batches: int = 3,
    sampler: Sampler = distinct,
) -> TaskFamily:
    """Draw a finite task distribution of polynomial losses, and a point; everything rational."""
    model = Polynomials(variables, degree)
    size = tasks * batches * model.terms
    top = draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size))
    coefficients = rationals(top).reshape(tasks, batches, model.terms) / draw(st.integers(1, 3))
    return TaskFamily(
        model, [list(task) for task in coefficients], draw(rational_vectors(variables)), sampler
    )


def generators() -> st.SearchStrategy[np.random.Generator]:
    """Draw a random generator with a drawn seed."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def vectors(draw: st.DrawFn, n: int, scale: float = 1.0) -> Array:
    """Draw a vector (n,) float64 of independent normal entries of standard deviation `scale`."""
    return scale * draw(generators()).standard_normal(n)


def shapes(dimensions: int, *, max_side: int = 8, channels: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw the shape of one example: `dimensions` sides of 1 to `max_side`, then 1 to `channels`."""
    return st.tuples(*[st.integers(1, max_side)] * dimensions, st.integers(1, channels))


@st.composite
def batches(
    draw: st.DrawFn,
    input_shape: tuple[int, ...],
    *,
    ways: int | None = None,
    outputs: int = 1,
    max_size: int = 6,
) -> tuple[Array, Array]:
    """Draw a minibatch (x, y): x (b, …) float64 normal, 1 ≤ b ≤ `max_size`.

    With `ways`, y (b,) are int64 labels from 0 to ways - 1; without, float64 normal targets (b, outputs).

    Raises
    ------
    UsageError
        If `ways` is given and no whole number of at least 1.
    """
    labels = None if ways is None else whole("batches: ways", ways, 1)
    rng, size = draw(generators()), draw(st.integers(1, max_size))
    x = rng.standard_normal((size, *input_shape))
    return x, rng.standard_normal((size, outputs)) if labels is None else rng.integers(labels, size=size)


@st.composite
def trajectories(
    draw: st.DrawFn,
    loss_and_grad: Callable[[Array, Any], tuple[Any, Array]],
    phi: Array,
    batches: st.SearchStrategy[Any],
    *,
    max_steps: int = 5,
    max_alpha: float = 0.1,
) -> Trajectory:
    """Draw an inner loop of 1 to `max_steps` SGD steps from φ (n,), on drawn minibatches and step size."""
    drawn = draw(st.lists(batches, min_size=1, max_size=max_steps))
    alpha = draw(st.floats(0, max_alpha, exclude_min=True))
    return adapt(_Model(loss_and_grad), Sgd(alpha), phi, drawn)


class _Model:
    """A plain callable as a model."""

    def __init__(self, loss_and_grad: Callable[[Array, Any], tuple[Any, Array]]) -> None:
        self.loss_and_grad = loss_and_grad
