"""Check the gradient and the Hessian product of your own model: any library, any parametrisation.

A model is two plain functions of a flat float64 vector φ (n,) and a batch of any type::

    loss_and_grad(phi, batch) -> (float, (n,))          hvp(phi, batch, v) -> (n,)

Each check returns a `Report`, or raises `CheckFailure`, whose message says in which direction the
derivative is wrong, by how much, and what is probably missing.

>>> from reptile_np.checks import CheckFailure, check_grad, check_hvp
>>> def loss_and_grad(phi, batch):                      # Σ r⁴ / 4 for the residuals r = x φ - y
...     x, y = batch
...     r = x @ phi - y
...     return (r**4).sum() / 4, x.T @ r**3
>>> def hvp(phi, batch, v):
...     x, y = batch
...     return x.T @ (3 * (x @ phi - y) ** 2 * (x @ v))
>>> rng = np.random.default_rng(0)
>>> phi, batch = rng.standard_normal(3), (rng.standard_normal((5, 3)), rng.standard_normal(5))
>>> check_grad(loss_and_grad, phi, batch).holds
True
>>> check_hvp(loss_and_grad, hvp, phi, batch).holds
True
>>> def mean_gradient(phi, batch):
...     loss, grad = loss_and_grad(phi, batch)
...     return loss, grad / 5
>>> try:
...     check_grad(mean_gradient, phi, batch)
... except CheckFailure as failure:
...     print(failure)
gradient: wrong along random direction 0, relative error 1e+00 (tolerance 1e-06)
  suspect: the gradient is 0.2 times the slope of the loss: a mean in one and a sum in the other?

With PyTorch, for a loss ``f(p, batch)`` of a flat float64 tensor (for JAX see ``theory/README.md``)::

    def loss_and_grad(phi, batch):
        p = torch.tensor(phi, requires_grad=True)
        loss = f(p, batch)
        return loss.item(), torch.autograd.grad(loss, p)[0].numpy()

    def hvp(phi, batch, v):
        at, along = torch.tensor(phi), torch.tensor(v)
        return torch.autograd.functional.hvp(lambda p: f(p, batch), at, along)[1].numpy()

Steps are 1 % of the norm of φ (of the piece, if a direction is in one piece), and then smaller and smaller
ones, down to 1e-7 of the norm, until the slope is known.  So the scale of φ as a whole does not matter.  A
single entry may be 1e-5 of the norm; if a smaller one matters, give φ in other units.  A slope that a kink
disturbs at every step cannot be measured: a network with very many ReLUs is checked at a smaller size (fewer
filters, smaller images).

Verified by ``tests/checks/test_checks.py`` (right functions pass, planted errors are found and named),
``test_tolerances.py``, ``test_precision.py`` and ``test_near_kinks.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from reptile_np.checks.comparisons import Comparison, Judge
from reptile_np.checks.differences import norm, slope
from reptile_np.checks.functions import (
    Functions,
    Hvp,
    LossAndGrad,
    Shapes,
    check_options,
    check_phi,
    piece_slices,
)
from reptile_np.checks.report import CheckFailure, Report
from reptile_np.errors import check_callable
from reptile_np.meta.inner_loop import Array, Batch

__all__ = ["Direction", "check_grad", "check_hvp", "random_directions"]


def check_grad(
    loss_and_grad: LossAndGrad,
    phi: Array,
    batch: Batch,
    *,
    shapes: Shapes | None = None,
    directions: int = 4,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Report:
    """Compare the gradient with the slopes of the loss, along random directions and in each piece of φ.

    Parameters
    ----------
    loss_and_grad
        ``(phi, batch) -> (loss, gradient (n,))``, in float64 inside.  A model that computes in float32
        needs a larger tolerance, about 1e-2.
    phi : (n,) float64
        Where to check.
    batch
        Anything; it is handed on.
    shapes
        Names and shapes of the pieces of φ, in order.  Each piece is then checked by itself, relative
        to its own slope, and a wrong one is named.
    directions, seed
        How many random directions over all of φ, and the seed that draws them.
    tolerance
        The largest accepted relative error.

    Raises
    ------
    CheckFailure
        If a slope differs from the gradient's by more than `tolerance` times the slopes' typical size,
        cannot be measured that well (a kink near φ), or jumps at φ (a kink exactly there).
    UsageError
        If φ is not a float64 vector, the loss not one number, the gradient not of φ's shape, if two calls
        do not give the same, if `shapes` does not add up to n, or another argument is out of range.
    """
    model, chosen = _start(loss_and_grad, None, phi, batch, shapes, directions, tolerance, seed)
    grad = model.grad(phi, batch)
    comparisons = []
    for d in chosen:
        measured = slope(
            lambda t, v=d.v: model.loss(phi + t * v, batch),  # type: ignore[misc]
            d.step,
            precision=model.precision,
        )
        typical = None if d.piece is None else norm(grad[d.piece]) / math.sqrt(np.count_nonzero(d.v))
        with np.errstate(invalid="ignore"):  # `Judge` reports that the gradient is not finite
            stated = np.asarray(grad @ d.v)
        comparisons.append(Comparison(d.name, stated, measured, typical))
    judge = Judge("gradient", "the slope of the loss", tolerance, model.single)
    return judge.verdict(comparisons, "a missing term")


def check_hvp(
    loss_and_grad: LossAndGrad,
    hvp: Hvp,
    phi: Array,
    batch: Batch,
    *,
    shapes: Shapes | None = None,
    directions: int = 4,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Report:
    """Check that `hvp` is linear in v, and compare ``H v`` with the slope of the gradient along v.

    Parameters
    ----------
    hvp
        ``(phi, batch, v) -> H v (n,)``.
    loss_and_grad, phi, batch, shapes, directions, tolerance, seed
        As in `check_grad`.

    Raises
    ------
    CheckFailure, UsageError
        As `check_grad`; also if ``H (2u - 3v)`` is not ``2 H u - 3 H v``.
    """
    check_callable(hvp=hvp)
    model, chosen = _start(loss_and_grad, hvp, phi, batch, shapes, directions, tolerance, seed)
    drawn = np.random.default_rng(seed).standard_normal((2, len(phi)))  # two of signs ±1 may be parallel
    u, v = (x / norm(x) for x in drawn)
    hu, hv, both = (model.hvp(phi, batch, x) for x in (u, v, 2 * u - 3 * v))
    rounded = 100 * model.precision
    _check_linear(both, 2 * hu - 3 * hv, 2 * norm(hu) + 3 * norm(hv), max(tolerance, rounded))
    comparisons = []
    for d in chosen:
        measured = slope(
            lambda t, v=d.v: model.grad(phi + t * v, batch),  # type: ignore[misc]
            d.step,
            precision=model.precision,
        )
        stated = model.hvp(phi, batch, d.v)
        typical = None if d.piece is None else norm(stated)
        comparisons.append(Comparison(d.name, stated, measured, typical))
    one, other = u @ hv, v @ hu
    asymmetric = abs(one - other) > tolerance * max(abs(one), abs(other))
    hint = "H is symmetric but wrong: a term that is symmetric by itself is missing (Gauss-Newton?)"
    if asymmetric:
        hint = "H is not symmetric: a second-order term is missing from some layer"
    judge = Judge("Hessian product", "the slope of the gradient", tolerance, model.single)
    return judge.verdict(comparisons, hint, f" (the product is wrong when v is in there); {hint}")


def _check_linear(found: Array, expected: Array, size: float, tolerance: float) -> None:
    """Raise CheckFailure if H (2u - 3v) is finite and not 2 H u - 3 H v."""
    error = norm(found - expected) / max(size, 1e-300)
    if error > tolerance:
        suspect = "H v is not linear in v: is v normalised, or its norm a factor?"
        raise CheckFailure(Report("Hessian product", "2u - 3v, u and v random", error, tolerance, suspect))


class Direction(NamedTuple):
    """A unit vector v (n,), the piece of φ that it is in (None: all of φ), and the first step along it."""

    name: str
    v: Array
    piece: slice | None
    step: float


def _start(
    loss_and_grad: LossAndGrad,
    hvp: Hvp | None,
    phi: Array,
    batch: Batch,
    shapes: Shapes | None,
    count: int,
    tolerance: float,
    seed: int,
) -> tuple[Functions, list[Direction]]:
    """Return the functions, after a few calls that show their precision, and the directions."""
    check_phi(phi)
    check_options(count, tolerance, seed)
    check_callable(loss_and_grad=loss_and_grad)
    pieces = piece_slices(shapes, len(phi))
    model, chosen = Functions(loss_and_grad, hvp), list(_directions(phi, pieces, count, seed))
    for d in chosen[:count]:
        model.loss(phi + d.step * d.v, batch)
    model.check_repeatable(phi, batch)
    return model, chosen


def _directions(phi: Array, pieces: dict[str, slice], count: int, seed: int) -> Iterator[Direction]:
    """Yield random directions: over all of φ, then over each piece."""
    rng = np.random.default_rng(seed)
    rms = norm(phi) / math.sqrt(len(phi)) or 1.0
    for i in range(count):
        v = _unit(rng, len(phi))
        yield Direction(f"random direction {i}", v, None, 1e-2 * rms * math.sqrt(len(phi)))
    for name, piece in pieces.items():
        size = piece.stop - piece.start
        v = np.zeros(len(phi))
        v[piece] = _unit(rng, size)
        own = norm(phi[piece]) or rms * math.sqrt(size)
        yield Direction(f"piece {name}", v, piece, 1e-2 * own)


def _unit(rng: np.random.Generator, size: int) -> Array:
    """Return a random unit vector; no entry is more than three times as large as another.

    Entries of one size would be worse: a softmax of two classes does not change if the biases of both, or
    the two weights of every input, change equally.  One of 2 random directions of the two biases would do
    this, and one of 2ⁿ random directions of the weights of n inputs.
    """
    v = rng.choice([-1.0, 1.0], size) * rng.uniform(0.5, 1.5, size)
    return v / norm(v)


def random_directions(phi: Array, count: int, seed: int) -> list[Array]:
    """Return `count` random unit vectors (n,)."""
    return [d.v for d in _directions(phi, {}, count, seed)]
