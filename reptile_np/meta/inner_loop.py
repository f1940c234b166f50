"""The inner loop ``W = U_τ^k(φ)``: k optimiser steps on the minibatches of one task.

Verified by ``tests/meta/test_inner_loop.py`` and, in exact arithmetic, ``tests/theory``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from reptile_np.meta.optimizers import Optimizer

Array = np.ndarray[Any, np.dtype[Any]]
Batch = Any
Keep = Literal["ends", "all", "hessians"]
"""What a trajectory keeps, each more than the one before."""


class Differentiable(Protocol):
    """All that the inner loop asks of a model: a function of φ (n,) and a minibatch."""

    def loss_and_grad(self, phi: Array, batch: Batch) -> tuple[Any, Array]:
        """Return the loss and its gradient (n,)."""


@dataclass(frozen=True)
class Trajectory:
    """What k steps leave behind; every meta-gradient is a function of it.

    With the paper's indices, for minibatches L_1 … L_k::

        phis      φ_1, φ_2, …, φ_{k+1}      k + 1 points (n,); phis[0] is the initialisation
        grads     g_1, …, g_k               g_i = L_i'(φ_i), each (n,)
        losses    L_1(φ_1), …, L_k(φ_k)
        hessians  v ↦ H_1 v, …, v ↦ H_k v   H_i = L_i''(φ_i), where they were kept

    A loop adapted with ``keep="ends"`` has only ``phis = (φ_1, φ_k, φ_{k+1})`` and no grads.
    """

    phis: tuple[Array, ...]
    grads: tuple[Array, ...]
    batches: tuple[Batch, ...]
    losses: tuple[Any, ...]
    state: Any
    hessians: tuple[Callable[[Array], Array], ...] = ()


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
        Gives ``loss_and_grad(phi, batch)``; of any dtype, `fractions.Fraction` in object arrays included.
    optimizer, state
        `state` is the optimiser's from an earlier loop (default: a fresh one) and is not changed.
    batches
        The k ≥ 1 minibatches of one task, in order.
    keep
        "all" keeps every iterate and gradient, O(k n) memory.  "ends" keeps what Reptile and FOMAML
        read, and lets a model with an `inner_loop` of its own run all k steps in place.  "hessians"
        keeps, beyond "all", each step's activations where the model has `linearize`: exact MAML's
        Hessian products then need not make them again.

    Raises
    ------
    ValueError
        If there is no minibatch.
    """
    if len(batches) == 0:
        raise ValueError("adapt needs at least one minibatch")
    if state is None:
        state = optimizer.init(phi)
    phis, grads, losses, hessians = [phi], [], [], []
    linearize = getattr(model, "linearize", None) if keep == "hessians" else None
    fused = getattr(model, "inner_loop", None) if keep == "ends" else None
    ends = fused(optimizer, phi, batches, state) if fused else None
    if ends is not None:
        phis += [ends.phi_before_last, ends.phi_last]
        losses, state = list(ends.losses), ends.state
    else:
        for batch in batches:
            if linearize:
                loss, grad, hessian = linearize(phis[-1], batch)
                hessians.append(hessian)
            else:
                loss, grad = model.loss_and_grad(phis[-1], batch)
            phi, state = optimizer_step(model, optimizer, grad, state, phis[-1])
            losses.append(loss)
            phis.append(phi)
            if keep == "ends":
                del phis[1:-2]
            else:
                grads.append(grad)
    return Trajectory(tuple(phis), tuple(grads), tuple(batches), tuple(losses), state, tuple(hessians))


def optimizer_step(
    model: Differentiable, optimizer: Optimizer, grad: Array, state: Any, phi: Array
) -> tuple[Array, Any]:
    """Return what ``optimizer.update(grad, state, phi)`` does; a model may have a faster way of its own."""
    step = getattr(model, "optimizer_step", None)
    return step(optimizer, grad, state, phi) if step else optimizer.update(grad, state, phi)
