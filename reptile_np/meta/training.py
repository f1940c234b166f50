"""The outer loop, as a generator: Algorithms 1 and 2 with any meta-gradient and any outer optimiser.

Verified by ``tests/meta/test_training.py`` and, against the released program, ``tests/test_golden.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import Array, Batch, Differentiable, adapt, optimizer_step
from reptile_np.meta.meta_gradients import MetaGradient, read_by
from reptile_np.meta.optimizers import Optimizer

Episodes = Callable[[int, int], Sequence[Batch]]
"""(outer step, place in the meta-batch) ↦ the minibatches of one task.

A pure function, so that a run may stop after any outer step and go on to the bit: there is no
generator whose position would have to be saved.
"""


@dataclass(frozen=True)
class Step:
    """The state of a run after `done` outer steps: all that is needed to go on from there.

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
    """Return the state before the first outer step."""
    return Step(0, phi, inner.init(phi), outer.init(phi))


def meta_train(
    model: Differentiable,
    start: Step,
    episodes: Episodes,
    *,
    meta_gradient: MetaGradient,
    inner: Optimizer,
    outer: Any,
    rate: Callable[[int], Any],
    outer_steps: int,
    meta_batch: int = 1,
) -> Iterator[Step]:
    """Yield the run's state after each outer step, from ``start.done + 1`` to `outer_steps`.

    One outer step is Algorithm 2 (Algorithm 1 for ``meta_batch = 1``): n tasks, every inner loop from
    the *same* φ; the mean of their directions goes to the outer optimiser with learning rate
    ``rate(i)``.  With ``outer = Sgd`` and `reptile` that is ``φ ← φ + ε_i · (1/n) Σ (W_j - φ)``.

    The inner optimiser's state runs on from task to task and step to step (the tasks of a meta-batch
    are in order because of it); only the parameters go back to φ.

    Differs from the paper as printed: Algorithm 2 there divides by k; 1/n is meant, and runs.

    Raises
    ------
    UsageError
        If a loss is not finite.
    """
    keep = read_by(meta_gradient)
    step = start
    for i in range(start.done, outer_steps):
        state, total = step.inner_state, 0 * step.phi
        first = last = 0.0
        for j in range(meta_batch):
            with np.errstate(over="ignore", invalid="ignore"):  # reported below, with its place
                t = adapt(model, inner, step.phi, episodes(i, j), state, keep=keep)
            _check_finite(t.losses, i, j)
            state = t.state
            total += meta_gradient(t)
            first, last = first + t.losses[0], last + t.losses[-1]
        now = replace(outer, learning_rate=rate(i))
        phi, outer_state = optimizer_step(model, now, total / meta_batch, step.outer_state, step.phi)
        step = Step(i + 1, phi, state, outer_state, first / meta_batch, last / meta_batch)
        yield step


def _check_finite(losses: Sequence[float], i: int, j: int) -> None:
    for k, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise UsageError(
                f"outer step {i + 1}, task {j + 1}, inner step {k + 1}: the loss is {loss}; "
                "look for NaN in the data, or lower the inner learning rate"
            )
