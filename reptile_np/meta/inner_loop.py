"""The inner loop ``W = U_τ^k(φ)``: k optimiser steps on the minibatches of one task.

Of this package the file imports only `reptile_np.errors`, so that every other file may import it.  It also
defines what the loop needs of a model (`Differentiable`) and of an optimiser (`Optimizer`), and the one
interface by which a model may run inner loops itself (`RunsInnerLoops`), for example in C.

Verified by ``tests/meta/test_inner_loop.py``, ``tests/meta/test_kept_trajectories.py`` and, in exact
arithmetic, ``tests/theory``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np

from reptile_np.errors import UsageError

__all__ = [
    "Array",
    "Batch",
    "Differentiable",
    "Keep",
    "Linearization",
    "Optimizer",
    "RunsInnerLoops",
    "Segment",
    "Trajectory",
    "adapt",
    "check_array",
    "check_optimizer",
    "optimizer_step",
    "plain_loop",
]

Array = np.ndarray[Any, np.dtype[Any]]
Batch = Any
"""Whatever the model's loss takes; the networks of `reptile_np.nn` take (x, y)."""
Keep = Literal["ends", "sqrt", "all", "hessians"]
"""What a trajectory keeps, each more than the one before; `adapt` says what."""
_KEEPS = get_args(Keep)


@runtime_checkable
class Differentiable(Protocol):
    """All that the inner loop needs of a model: a function of φ (n,) and a minibatch.

    It must not change φ, and must return a new gradient at each call: the loop keeps both, without copying
    them.  `reptile_np.checks.check_grad` refuses functions that change φ, or the gradient returned last.
    """

    def loss_and_grad(self, phi: Array, batch: Batch) -> tuple[Any, Array]:
        """Return the loss and its gradient (n,)."""


@runtime_checkable
class Optimizer(Protocol):
    """What `adapt` and `meta_train` need of an optimiser; see `reptile_np.meta.optimizers`."""

    def init(self, phi: Array) -> Any:
        """Return the state before the first step."""

    def update(self, grad: Array, state: Any, phi: Array) -> tuple[Array, Any]:
        """Return φ and the state after one step."""


class Linearization(NamedTuple):
    """A minibatch's loss at φ, its gradient g (n,), and the gradient's derivative v ↦ H(φ) v.

    `hvp` reads φ and the minibatch again: they must not be changed before.
    """

    loss: Any
    grad: Array
    hvp: Callable[[Array], Array]


class Segment(NamedTuple):
    """Consecutive steps of an inner loop that can be run again: their start, and their minibatches."""

    phi: Array
    state: Any
    batches: tuple[Batch, ...]


@dataclass(frozen=True)
class Trajectory:
    """The points, gradients and losses of k steps; every meta-gradient is a function of it.

    With the paper's indices, for minibatches L_1 … L_k::

        phis      φ_1, φ_2, …, φ_{k+1}      k + 1 points (n,); phis[0] is the initialisation
        grads     g_1, …, g_k               g_i = L_i'(φ_i), each (n,)
        states    s_1, …, s_k               the optimiser's state before each step
        losses    L_1(φ_1), …, L_k(φ_k)
        state     s_{k+1}                   the optimiser's state after the last step
        hessians  v ↦ H_1 v, …, v ↦ H_k v   H_i = L_i''(φ_i), if they were kept
        segments  the loop in ⌈k / ⌈√k⌉⌉ pieces, if it was adapted with ``keep="sqrt"``
        optimizer the optimiser that made the steps; None if this is not known

    A loop adapted with ``keep="ends"`` or "sqrt" has the three points ``phis = (φ_1, φ_k, φ_{k+1})`` for
    every k (for k = 1, φ_1 twice), no grads and no states.
    """

    phis: tuple[Array, ...]
    grads: tuple[Array, ...]
    batches: tuple[Batch, ...]
    losses: tuple[Any, ...]
    state: Any
    hessians: tuple[Callable[[Array], Array], ...] = ()
    states: tuple[Any, ...] = ()
    segments: tuple[Segment, ...] = ()
    optimizer: Optimizer | None = None


class RunsInnerLoops:
    """A model that may run inner loops and optimiser steps itself.

    `adapt`, `meta_train` and `maml` call these methods first, if the model derives from this class.  None
    means that the model does not handle this optimiser, dtype or `keep`; Python then computes the result.
    Any other result must equal Python's up to rounding.  The methods must not change their arguments.
    """

    def adapt(
        self, optimizer: Optimizer, phi: Array, batches: Sequence[Batch], state: Any, keep: Keep
    ) -> Trajectory | None:
        """Return the trajectory of the inner loop from `phi` (n,), or None; `keep` is never "sqrt"."""
        return None

    def update(self, optimizer: Optimizer, grad: Array, state: Any, phi: Array) -> tuple[Array, Any] | None:
        """Return what ``optimizer.update(grad, state, phi)`` returns, or None.

        `maml` gives an adjoint as `phi`.
        """
        return None


def adapt(
    model: Differentiable,
    optimizer: Optimizer,
    phi: Array,
    batches: Sequence[Batch],
    state: Any = None,
    *,
    keep: Keep = "all",
) -> Trajectory:
    """Run ``φ_{i+1} = update(g_i, φ_i)`` over the minibatches, from φ_1 = `phi` (n,).

    Parameters
    ----------
    model
        Has ``loss_and_grad(phi, batch)``; of any dtype, `fractions.Fraction` in object arrays included.
    phi
        An array; for plain SGD also a number.
    optimizer, state
        `state` is the optimiser's from an earlier loop (default: a new one) and is not changed.
    batches
        The k ≥ 1 minibatches of one task, in order.
    keep
        For every choice, points and meta-gradients are bitwise identical.

        * "ends" keeps what Reptile and FOMAML need: O(n) memory.
        * "sqrt" keeps every ⌈√k⌉-th point, and the optimiser's state there: O(√k n).  Exact MAML runs each of
          the segments between them once more, one at a time.
        * "all" keeps every point, gradient and state: O(k n).
        * "hessians" keeps, beyond "all", each step's residuals, the intermediate results that Hessian
          products read, if the model can (as `reptile_np.nn.models.Model` can): exact MAML then does not
          compute them again.

    Raises
    ------
    UsageError
        If there is no minibatch, no optimiser, the model has no `loss_and_grad` or returns anything but one
        number and a gradient, `keep` is none of the four, φ or the gradient is a list, the gradient has
        another shape than φ, or the state is of another optimiser.
    """
    if keep not in _KEEPS:
        raise UsageError(f'keep is {keep!r}; give "ends", "sqrt", "all" or "hessians"')
    if not _has_methods(model, Differentiable):
        raise UsageError(f"adapt: the model is {model!r}; give an object that has loss_and_grad(phi, batch)")
    check_optimizer("adapt: the optimizer", optimizer)
    if not isinstance(batches, Sequence):
        raise UsageError(f"adapt: batches is a {type(batches).__name__}; give a list of minibatches")
    if len(batches) == 0:
        raise UsageError("adapt needs at least one minibatch")
    check_array("adapt: phi", phi)
    if state is None:
        state = optimizer.init(phi)
    if keep == "sqrt":
        return _loop_in_segments(model, optimizer, phi, batches, state)
    if isinstance(model, RunsInnerLoops):
        trajectory = model.adapt(optimizer, phi, batches, state, keep)
        if trajectory is not None:
            return trajectory
    return plain_loop(model, optimizer, phi, batches, state, keep)


def check_array(what: str, value: Any) -> None:
    """Raise `UsageError` if the value is None, or a list or a tuple of numbers."""
    if value is None or isinstance(value, Sequence):
        raise UsageError(f"{what} is a {type(value).__name__}; give an array")


def check_optimizer(what: str, value: Any) -> None:
    """Raise `UsageError` unless the value has `init` and `update`."""
    if not _has_methods(value, Optimizer):
        raise UsageError(f"{what} is {value!r}; give one, such as Sgd(0.1)")


def _has_methods(value: Any, protocol: Any) -> bool:
    """Return whether the value, not a type, has a protocol's methods."""
    if isinstance(value, type):
        return False
    return _type_has_methods(value.__class__, protocol) or isinstance(value, protocol)


@cache
def _type_has_methods(kind: type, protocol: Any) -> bool:
    """Return whether values of the type have the methods; kept, because the test of a protocol is slow."""
    return issubclass(kind, protocol)


def plain_loop(
    model: Differentiable, optimizer: Optimizer, phi: Array, batches: Sequence[Batch], state: Any, keep: Keep
) -> Trajectory:
    """Run the inner loop step by step, with the model's gradients and the optimiser's updates.

    The arguments are `adapt`'s.  No Hessians are kept: the loop calls only the model's `loss_and_grad`.
    """
    points, steps = (2, 0) if keep == "ends" else (None, None)  # how many are kept: the last ones, or all
    phis, grads, states, losses = deque([phi], points), deque[Array]([], steps), deque[Any]([], steps), []
    for batch in batches:
        loss, grad = _checked(model.loss_and_grad(phis[-1], batch), phi)
        states.append(state)
        next_phi, state = optimizer.update(grad, state, phis[-1])
        phis.append(next_phi)
        grads.append(grad)
        losses.append(loss)
    kept = (phi, *phis) if keep == "ends" else tuple(phis)
    return Trajectory(
        kept, tuple(grads), tuple(batches), tuple(losses), state, states=tuple(states), optimizer=optimizer
    )


def _checked(answer: Any, phi: Array) -> tuple[Any, Array]:
    """Return the loss, one number of any type, and the gradient that `loss_and_grad` returned at φ."""
    try:
        loss, grad = answer
    except (TypeError, ValueError):
        raise UsageError(
            f"loss_and_grad returned a {type(answer).__name__}; return (loss, gradient)"
        ) from None
    if np.shape(grad) != np.shape(phi):  # NumPy would broadcast it
        raise UsageError(f"loss_and_grad: the gradient has shape {np.shape(grad)}, phi {np.shape(phi)}")
    check_array("loss_and_grad: the gradient", grad)
    if isinstance(loss, float):  # first, because the other tests are slow
        return loss, grad
    if loss is None or isinstance(loss, Sequence) or (isinstance(loss, np.ndarray) and loss.ndim > 0):
        found = type(loss).__name__
        raise UsageError(f"loss_and_grad: the loss is a {found}; return one number for the minibatch")
    return loss, grad


def _loop_in_segments(
    model: Differentiable, optimizer: Optimizer, phi: Array, batches: Sequence[Batch], state: Any
) -> Trajectory:
    """Run the inner loop in segments of ⌈√k⌉ steps, and keep the start of each."""
    batches = tuple(batches)
    length = math.isqrt(len(batches) - 1) + 1
    segments: list[Segment] = []
    losses: list[Any] = []
    start = phi
    for i in range(0, len(batches), length):
        segments.append(Segment(phi, state, batches[i : i + length]))
        t = adapt(model, optimizer, phi, segments[-1].batches, state, keep="ends")
        losses += t.losses
        phi, state = t.phis[-1], t.state
    phis = (start, *t.phis[1:])
    return Trajectory(phis, (), batches, tuple(losses), state, segments=tuple(segments), optimizer=optimizer)


def optimizer_step(
    model: Differentiable, optimizer: Optimizer, grad: Array, state: Any, phi: Array
) -> tuple[Array, Any]:
    """Return ``optimizer.update(grad, state, phi)``, computed by the model if it can.

    `meta_train` takes its outer steps with this function, and `maml` its adjoint steps of SGD with one rate.
    In C with fused multiply-adds an update rounds one time fewer than in NumPy.
    """
    answer = model.update(optimizer, grad, state, phi) if isinstance(model, RunsInnerLoops) else None
    return optimizer.update(grad, state, phi) if answer is None else answer
