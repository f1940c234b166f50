"""The outer loop, as a generator: Algorithms 1 and 2 with any meta-gradient and any outer optimiser.

Verified by ``tests/meta/test_training.py`` and, against the released program, ``tests/test_golden.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import (
    Array,
    Batch,
    Differentiable,
    Keep,
    Optimizer,
    adapt,
    optimizer_step,
)
from reptile_np.meta.meta_gradients import MetaGradient

__all__ = ["Episodes", "Step", "begin", "meta_train"]

Episodes = Callable[[int, int], Sequence[Batch]]
"""(outer step, index in the meta-batch) ↦ the minibatches of one task; a pure function.

A run can be resumed after any outer step with bitwise identical results, because no generator state has to be
saved.
"""


@dataclass(frozen=True)
class Step:
    """The state of a run after `done` outer steps: all that is needed to resume it.

    `first_loss` and `last_loss` are the losses of the first and the last inner minibatch, each before
    its update, averaged over the meta-batch; None before the first outer step.
    """

    done: int
    phi: Array
    inner_state: Any
    outer_state: Any
    first_loss: float | None = None
    last_loss: float | None = None


def begin(phi: Array, inner: Optimizer, outer: Optimizer) -> Step:
    """Return the state before the first outer step; `outer` is the outer optimiser of any step."""
    return Step(0, phi, inner.init(phi), outer.init(phi))


def meta_train(
    model: Differentiable,
    start: Step,
    episodes: Episodes,
    *,
    meta_gradient: MetaGradient,
    inner: Optimizer,
    outer: Callable[[int], Optimizer],
    outer_steps: int,
    meta_batch: int = 1,
    keep: Keep = "all",
) -> Iterator[Step]:
    """Yield the run's state after each outer step, from ``start.done + 1`` to `outer_steps`.

    One outer step is Algorithm 2 (Algorithm 1 for ``meta_batch = 1``): n inner loops, all from the *same* φ;
    then the outer optimiser ``outer(i)`` takes one step along the mean of their directions.  With `reptile`
    and ``outer = lambda i: Sgd(ε(i))`` that is ``φ ← φ + ε_i · (1/n) Σ (W_j - φ)``.

    The inner optimiser's state continues from task to task and from step to step, so the order of the tasks
    of a meta-batch matters; only the parameters return to φ.

    Parameters
    ----------
    model, start
        The function of φ, and the state to begin with: of `begin`, or of an earlier run.
    episodes
        ``episodes(i, j)`` is the list of minibatches of task j of outer step i.
    meta_gradient
        A function of `reptile_np.meta.meta_gradients`, or any function from a trajectory to a direction (n,).
    inner
        The optimiser of the inner loops.
    outer
        ``outer(i)`` is the optimiser of outer step i = 0, 1, …: a schedule changes its learning rate.  All
        must share one kind of state.
    keep
        How much of each trajectory `meta_gradient` needs: "ends" for Reptile and FOMAML (faster, less
        memory), "all" for any, "hessians" for exact MAML (faster, more memory).  Results do not depend on it.

    Differs from the paper as printed: Algorithm 2 there divides by k; 1/n is meant, and used.

    Raises
    ------
    UsageError
        If a loss, or φ after an outer step, is not finite.
    """
    step = start
    for i in range(start.done, outer_steps):
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # what they mean is raised below
            step = _outer_step(model, step, episodes, meta_gradient, inner, outer(i), meta_batch, keep)
        yield step


def _outer_step(
    model: Differentiable,
    step: Step,
    episodes: Episodes,
    meta_gradient: MetaGradient,
    inner: Optimizer,
    outer: Optimizer,
    meta_batch: int,
    keep: Keep,
) -> Step:
    """Return the state after one more outer step; `outer` is the optimiser of this step."""
    i = step.done
    state, total = step.inner_state, 0 * step.phi
    first = last = 0.0
    for j in range(meta_batch):
        t = adapt(model, inner, step.phi, episodes(i, j), state, keep=keep)
        _check_losses(t.losses, i, j)
        state = t.state
        total += meta_gradient(t)
        first, last = first + t.losses[0], last + t.losses[-1]
    phi, outer_state = optimizer_step(model, outer, total / meta_batch, step.outer_state, step.phi)
    if phi.dtype.kind == "f" and not np.isfinite(phi).all():
        raise UsageError(f"outer step {i + 1}: the parameters are not finite; lower the outer learning rate")
    return Step(i + 1, phi, state, outer_state, first / meta_batch, last / meta_batch)


def _check_losses(losses: Sequence[float], i: int, j: int) -> None:
    for k, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise UsageError(
                f"outer step {i + 1}, task {j + 1}, inner step {k + 1}: the loss is {loss}; "
                "look for NaN in the data, or lower the inner learning rate"
            )
