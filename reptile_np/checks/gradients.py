"""Put your own model to the tests of this project: any library, any parametrisation.

A model is two plain functions of a flat float64 vector φ (n,) and a batch of any type::

    loss_and_grad(phi, batch) -> (float, (n,))          hvp(phi, batch, v) -> (n,)

Each check returns a `Report`, or raises `CheckFailure`, whose message says in which direction the
derivative is wrong, by how much, and what is probably missing.

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
gradient: wrong along random direction 0, relative error 8e-01 (tolerance 1e-06)
  suspect: the gradient is 0.2 times the slope of the loss: a mean in one and a sum in the other?

With PyTorch, for a loss ``f(p, batch)`` of a flat float64 tensor (for JAX see ``theory/README.md``)::

    def loss_and_grad(phi, batch):
        p = torch.tensor(phi, requires_grad=True)
        loss = f(p, batch)
        return loss.item(), torch.autograd.grad(loss, p)[0].numpy()

    def hvp(phi, batch, v):
        at, along = torch.tensor(phi), torch.tensor(v)
        return torch.autograd.functional.hvp(lambda p: f(p, batch), at, along)[1].numpy()

Verified by ``tests/checks/test_checks.py``: right functions pass, planted errors are caught and named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from reptile_np.checks.differences import Slope, slope
from reptile_np.checks.meta_gradients import MetaExpansion, meta_gradient_expansion
from reptile_np.checks.report import CheckFailure, Report, passed
from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import Array, Batch

__all__ = [
    "CheckFailure",
    "MetaExpansion",
    "Report",
    "check_adjoint",
    "check_grad",
    "check_hvp",
    "check_taylor_order",
    "meta_gradient_expansion",
]

LossAndGrad: TypeAlias = Callable[[Array, Batch], tuple[Any, Array]]
Hvp: TypeAlias = Callable[[Array, Batch, Array], Array]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Names and shapes of the pieces of φ, in order: ``model.layout.shapes``; to say *where* an error is."""


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

    Raises
    ------
    CheckFailure
        If a slope differs by more than `tolerance` times the slopes' typical size, or cannot be
        measured that well (a kink at φ).
    UsageError
        If φ is not a float64 vector, or the gradient not of its shape.
    """
    loss, grad = _loss_and_grad(loss_and_grad, phi, batch)
    comparisons = []
    for name, v in _directions(phi, shapes, directions, seed):
        measured = slope(lambda t, v=v: loss_and_grad(phi + t * v, batch)[0])  # type: ignore[misc]
        comparisons.append(_Comparison(name, np.asarray(grad @ v), measured))
    hint = "a missing term, or a kink (ReLU, maximum) within 1e-4 of φ"
    return _judge("gradient", comparisons, tolerance, "the slope of the loss", hint, floor=abs(loss))


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
    """Compare ``H v`` with the slope of the gradient along v, for random v and v in each piece of φ.

    Raises
    ------
    CheckFailure, UsageError
        As `check_grad`.
    """
    _, grad = _loss_and_grad(loss_and_grad, phi, batch)
    comparisons = []
    for name, v in _directions(phi, shapes, directions, seed):
        measured = slope(lambda t, v=v: loss_and_grad(phi + t * v, batch)[1])  # type: ignore[misc]
        comparisons.append(_Comparison(name, np.asarray(hvp(phi, batch, v)), measured))
    u, v = (v for _, v in list(_directions(phi, None, 2, seed)))
    one, other = u @ hvp(phi, batch, v), v @ hvp(phi, batch, u)
    asymmetric = abs(one - other) > tolerance * max(abs(one), abs(other))
    hint = "H is symmetric but wrong: a term that is symmetric by itself is missing (Gauss-Newton?)"
    if asymmetric:
        hint = "H is not symmetric: a second-order term is missing from some layer"
    floor = float(np.linalg.norm(grad))
    return _judge("Hessian product", comparisons, tolerance, "the slope of the gradient", hint, floor)


def check_adjoint(
    forward: Callable[[Array], Array],
    adjoint: Callable[[Array], Array],
    x: Array,
    *,
    directions: int = 4,
    tolerance: float = 1e-12,
    seed: int = 0,
) -> Report:
    """Check ``<y, A x> = <Aᵀ y, x>`` for a linear map `forward` and what should be its adjoint.

    `x`, of any shape, only says what the inputs look like; they are drawn.

    Raises
    ------
    CheckFailure
        If the two inner products differ, or the adjoint's shape is not that of x.
    """
    rng = np.random.default_rng(seed)
    comparisons = []
    for i in range(directions):
        x_dot = _normal(rng, x)
        y = forward(x_dot)
        y_bar = _normal(rng, y)
        x_bar = adjoint(y_bar)
        if x_bar.shape != x.shape:
            suspect = f"the adjoint has shape {x_bar.shape}, its input's space {x.shape}"
            raise CheckFailure(Report("adjoint", f"random direction {i}", math.inf, tolerance, suspect))
        exact = Slope(np.asarray((y_bar * y).sum()), 0.0)
        comparisons.append(_Comparison(f"random direction {i}", np.asarray((x_bar * x_dot).sum()), exact))
    return _judge("adjoint", comparisons, tolerance, "the transpose")


def check_taylor_order(
    loss_and_grad: LossAndGrad,
    phi: Array,
    batch: Batch,
    *,
    hvp: Hvp | None = None,
    directions: int = 4,
    tolerance: float = 0.1,
    seed: int = 0,
) -> Report:
    """Check that the Taylor polynomial leaves a remainder of its order: slope 2, with an `hvp` slope 3.

    With R(t) the root mean square, over ±v for each direction v, of
    ``L(φ + tv) - L - t g·v (- t² v·Hv / 2)``, a right derivative keeps ``R / t^order`` bounded; a wrong
    one makes it grow as t falls.  (Along one v alone the next two orders can cancel at some t, and R
    then seems to grow below it; over ±v they cannot.)  The slope is the order less the growth (in
    log-log) from the upper half of the steps at which R stands out of the rounding to the lower half.
    The report's error is what is missing to the order; an R that is all rounding passes.

    Raises
    ------
    CheckFailure
        If the slope is less than the order by more than `tolerance`.
    """
    loss, grad = _loss_and_grad(loss_and_grad, phi, batch)
    order, name = (3 if hvp else 2), f"{directions} random directions"
    steps = np.logspace(-1, -7, 25)
    remainders, largest = [], 0.0
    for _, v in _directions(phi, None, directions, seed):
        curve = v @ hvp(phi, batch, v) if hvp else 0.0
        for t in (steps, -steps):
            values = np.array([float(loss_and_grad(phi + ti * v, batch)[0]) for ti in t])
            remainders.append(values - loss - t * (grad @ v) - t**2 * curve / 2)
            largest = max(largest, float(np.abs(values).max()))
    left = np.sqrt(np.mean(np.square(remainders), axis=0))
    if not np.isfinite(left).all():
        raise CheckFailure(Report("Taylor order", name, math.inf, tolerance, "a value is not finite"))
    visible = int(np.argmin([*(left > 1e-11 * largest), False]))  # up to the first that is not
    if visible < 4:
        return Report("Taylor order", name, 0.0, tolerance)
    half, last = visible // 2, visible - 1
    scaled = left[:visible] / steps[:visible] ** order
    growth = float(scaled[half:].max() / scaled[:half].max())
    found = order - math.log(growth) / math.log(steps[half - 1] / steps[last])
    culprit = "gradient" if found < 1.5 or not hvp else "Hessian product"
    suspect = f"the remainder falls like t^{found:.2f}, not t^{order}: the {culprit} is wrong"
    error = max(order - found, 0.0)
    return passed(Report("Taylor order", name, error, tolerance, suspect if error > tolerance else ""))


@dataclass(frozen=True)
class _Comparison:
    """A stated derivative against a measured one."""

    direction: str
    stated: Array
    measured: Slope

    @property
    def error(self) -> float:
        """What is wrong, or cannot be known."""
        distance = float(np.linalg.norm(self.stated - self.measured.value))
        return math.inf if math.isnan(distance) else max(distance, self.measured.uncertainty)


def _judge(
    check: str,
    comparisons: list[_Comparison],
    tolerance: float,
    truth: str,
    hint: str = "",
    floor: float = 0.0,
) -> Report:
    """Return the report on the worst comparison, or raise.

    Errors are relative to the root mean square of the measured derivatives; where these vanish, to 1e-6
    times the `floor`, the size of what was differentiated.
    """
    squares = [float(np.linalg.norm(c.measured.value)) ** 2 for c in comparisons]
    size = max(math.sqrt(sum(squares) / len(squares)), 1e-6 * floor, 1e-300)
    worst = max(comparisons, key=lambda c: c.error)
    error = worst.error / size
    suspect = ""
    if not error <= tolerance:
        wrong = [c.direction for c in comparisons if not c.error <= tolerance * size]
        suspect = _explanation(check, comparisons, wrong, truth) or hint
        error = math.inf if math.isnan(error) else error
    return passed(Report(check, worst.direction, error, tolerance, suspect))


def _explanation(check: str, comparisons: list[_Comparison], wrong: list[str], truth: str) -> str:
    """Return the first explanation that fits all comparisons, or nothing."""
    stated = np.concatenate([np.ravel(c.stated) for c in comparisons])
    truths = np.concatenate([np.ravel(c.measured.value) for c in comparisons])
    if not np.isfinite(stated).all():
        return f"the {check} is not finite"
    if not stated.any():
        return f"the {check} is zero"
    factor = float(stated @ truths / (truths @ truths)) if truths.any() else 0.0
    if np.linalg.norm(stated - factor * truths) <= 1e-4 * np.linalg.norm(stated):
        return f"the {check} is {factor:.4g} times {truth}: a mean in one and a sum in the other?"
    pieces = [c.direction for c in comparisons if c.direction.startswith("piece")]
    wrong_pieces = [name for name in pieces if name in wrong]
    return f"only {', '.join(wrong_pieces)}" if 0 < len(wrong_pieces) < len(pieces) else ""


def _loss_and_grad(loss_and_grad: LossAndGrad, phi: Array, batch: Batch) -> tuple[float, Array]:
    if phi.ndim != 1 or phi.dtype != np.float64:
        raise UsageError(f"phi is {phi.dtype} {phi.shape}; checks need a float64 vector (n,)")
    loss, grad = loss_and_grad(phi, batch)
    grad = np.asarray(grad)
    if grad.shape != phi.shape:
        raise UsageError(f"the gradient has shape {grad.shape}; phi has {phi.shape}")
    return float(loss), grad


def _normal(rng: np.random.Generator, like: Array) -> Array:
    shape: tuple[int, ...] = like.shape
    return rng.standard_normal(shape)


def _directions(phi: Array, shapes: Shapes | None, count: int, seed: int) -> Iterator[tuple[str, Array]]:
    """Yield unit vectors with entries of one size: over all of φ, then over each piece."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], size=(count, len(phi)))
    for i in range(count):
        yield f"random direction {i}", signs[i] / math.sqrt(len(phi))
    start = 0
    for name, shape in (shapes or {}).items():
        size = math.prod(shape)
        v = np.zeros(len(phi))
        v[start : start + size] = rng.choice([-1.0, 1.0], size=size) / math.sqrt(size)
        start += size
        yield f"piece {name}", v
