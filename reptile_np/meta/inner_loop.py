"""The inner loop ``W = U_τ^k(φ)``: k optimiser steps on the minibatches of one task.

Verified by ``tests/meta/test_inner_loop.py`` and, in exact arithmetic, ``tests/theory``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from reptile_np.meta.optimizers import Optimizer

Array = np.ndarray[Any, np.dtype[Any]]
Batch = Any


class Differentiable(Protocol):
    """All that the inner loop asks of a model: a function of φ (n,) and a minibatch."""

    def loss_and_grad(self, phi: Array, batch: Batch) -> tuple[Any, Array]:
        """Return the loss and its gradient (n,)."""


@dataclass(frozen=True)
class Trajectory:
    """What k steps leave behind; every meta-gradient is a function of it.

    With the paper's indices, for minibatches L_1 … L_k::

        phis    φ_1, φ_2, …, φ_{k+1}      k + 1 points (n,); phis[0] is the initialisation
        grads   g_1, …, g_k               g_i = L_i'(φ_i), each (n,)
        losses  L_1(φ_1), …, L_k(φ_k)

    A loop adapted with ``keep="ends"`` has only ``phis = (φ_1, φ_k, φ_{k+1})`` and no grads.
    """

    phis: tuple[Array, ...]
    grads: tuple[Array, ...]
    batches: tuple[Batch, ...]
    losses: tuple[Any, ...]
    state: Any


def adapt(
    model: Differentiable,
    optimizer: Optimizer,
    phi: Array,
    batches: Sequence[Batch],
    state: Any = None,
    *,
    keep: Literal["all", "ends"] = "all",
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
        read, and lets a model with an `inner_loop` of its own run all k steps in place.

    Raises
    ------
    ValueError
        If there is no minibatch.
    """
    if len(batches) == 0:
        raise ValueError("adapt needs at least one minibatch")
    if state is None:
        state = optimizer.init(phi)
    phis, grads, losses = [phi], [], []
    fused = getattr(model, "inner_loop", None) if keep == "ends" else None
    ends = fused(optimizer, phi, batches, state) if fused else None
    if ends is not None:
        phis += [ends.phi_before_last, ends.phi_last]
        losses, state = list(ends.losses), ends.state
    else:
        for batch in batches:
            loss, grad = model.loss_and_grad(phis[-1], batch)
            phi, state = optimizer.update(grad, state, phis[-1])
            losses.append(loss)
            phis.append(phi)
            if keep == "all":
                grads.append(grad)
            else:
                del phis[1:-2]
    return Trajectory(tuple(phis), tuple(grads), tuple(batches), tuple(losses), state)
