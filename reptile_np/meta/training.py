"""The outer loop, as a generator: Algorithms 1 and 2 with any meta-gradient and any outer optimiser.

Verified by ``tests/meta/test_training.py``, ``tests/meta/test_executors.py`` and, against the released
program, ``tests/test_golden.py``.
"""

from __future__ import annotations

import cmath
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock
from typing import Any, NamedTuple

import numpy as np

from reptile_np.errors import UsageError, check_callable, whole
from reptile_np.meta.inner_loop import (
    Array,
    Batch,
    Differentiable,
    Keep,
    Optimizer,
    adapt,
    check_array,
    check_optimizer,
    optimizer_step,
)
from reptile_np.meta.meta_gradients import MetaGradient, gradient_sum, maml

__all__ = ["Step", "TaskBatches", "begin", "meta_train"]

TaskBatches = Callable[[int, int], Sequence[Batch]]
"""(outer step, index in the meta-batch) ↦ the minibatches of one task; a pure function.

A run can be resumed after any outer step, bitwise identically: no generator state has to be saved.
"""


@dataclass(frozen=True)
class Step:
    """The state of a run after `done` outer steps: all that is needed to resume it.

    `phi` are the parameters (n,), of any dtype that holds fractions; `inner_state` and `outer_state` are the
    states of the two optimisers, as their `init` returns them.
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
    """Return the state before the first outer step; `outer` is the outer optimiser of any step.

    Raises
    ------
    UsageError
        If φ is None or a list, `inner` or `outer` is no optimiser, or its rates do not fit φ.
    """
    check_array("begin: phi", phi)
    check_optimizer("begin: the inner optimizer", inner)
    check_optimizer("begin: the outer optimizer", outer)
    return Step(0, phi, inner.init(phi), outer.init(phi))


def meta_train(
    model: Differentiable,
    start: Step,
    episodes: TaskBatches,
    *,
    meta_gradient: MetaGradient,
    inner: Optimizer,
    outer: Callable[[int], Optimizer],
    outer_steps: int,
    meta_batch: int = 1,
    keep: Keep = "all",
    executor: Executor | None = None,
) -> Iterator[Step]:
    """Yield the run's state after each outer step, from ``start.done + 1`` to `outer_steps`.

    One outer step is Algorithm 2 (Algorithm 1 for ``meta_batch = 1``): n inner loops, all from the *same* φ;
    then the outer optimiser ``outer(i)`` takes one step along the mean of their directions.  With `reptile`
    and ``outer = lambda i: Sgd(ε(i))`` that is ``φ ← φ + ε_i · (1/n) Σ (W_j - φ)``.

    The inner optimiser's state continues from task to task and from step to step, so the order of the tasks
    of a meta-batch matters; only the parameters return to φ.  If the inner optimiser has no state, as `Sgd`,
    the tasks do not depend on each other and may run at the same time.

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
        ``outer(i)`` is the optimiser of outer step i = 0, 1, …: a schedule changes its learning rate.
        All optimisers that `outer` returns must have the same kind of state.
    keep
        How much of each trajectory `meta_gradient` needs: "ends" for Reptile and FOMAML (faster, less
        memory), "all" for any, "hessians" for exact MAML (faster for few steps, more memory), "sqrt" for MAML
        through many steps (slower, less memory).  Results do not depend on it.
    executor
        Any `concurrent.futures.Executor`, to run the tasks of a meta-batch at the same time.  The results are
        added in the tasks' order, so they are bitwise those without an executor, for any number of workers.
        Threads are enough for networks in C (``native.load(threads=1)``), whose calls let other threads run;
        for processes all arguments must be picklable.

    Differs from the paper as printed: Algorithm 2 there divides by k; 1/n is meant, and used.

    Raises
    ------
    UsageError
        At the first `next`: if `meta_batch` or `outer_steps` is no whole number, `outer`, `episodes` or
        `meta_gradient` is not a function, `start` is no `Step`, φ cannot hold fractions, or there is an
        executor and the inner optimiser has a state.  Later: if `outer` returns no optimiser, or one that
        changes φ's shape, a loss, or φ after an outer step, is not finite, or a direction does not fit φ.
    """
    if not callable(outer):
        raise UsageError(f"meta_train: outer is {outer!r}; give a function, such as lambda i: Sgd(0.1)")
    check_callable(episodes=episodes, meta_gradient=meta_gradient)
    makers: tuple[Any, ...] = (maml, gradient_sum)
    if meta_gradient in makers:
        raise UsageError("meta_train: give what maml or gradient_sum returns, such as maml(model, 0.1)")
    if not isinstance(start, Step):
        raise UsageError(f"meta_train: start is a {type(start).__name__}; give begin(phi, inner, outer)")
    meta_batch = whole("meta_train: meta_batch", meta_batch, 1)
    outer_steps = whole("meta_train: outer_steps", outer_steps, 0)
    if start.phi.dtype.kind not in "fcO":
        raise UsageError(f"meta_train: phi is {start.phi.dtype}, which holds no fractions; give floats")
    has_state = not (isinstance(start.inner_state, tuple) and len(start.inner_state) == 0)
    if executor is not None and has_state:
        raise UsageError(
            f"meta_train: the state of {type(inner).__name__} continues from task to task, so the tasks of a "
            "meta-batch cannot run at the same time: leave out executor, or use Sgd inside"
        )
    step = start
    for i in range(start.done, outer_steps):
        with _quiet():
            task = partial(_task, model, step.phi, episodes, meta_gradient, inner, keep, i)
            step = _outer_step(model, step, task, outer(i), meta_batch, executor)
        yield step


def _quiet() -> np.errstate:
    """Return a context without NumPy's warnings: what is not finite is reported as `UsageError`."""
    return np.errstate(over="ignore", divide="ignore", invalid="ignore")


class _TaskResult(NamedTuple):
    """One task's direction (n,), its first and last loss, and the inner optimiser's state after it."""

    direction: Array
    first_loss: float
    last_loss: float
    state: Any


def _task(
    model: Differentiable,
    phi: Array,
    episodes: TaskBatches,
    meta_gradient: MetaGradient,
    inner: Optimizer,
    keep: Keep,
    i: int,
    j: int,
    state: Any,
) -> _TaskResult:
    """Run task j of outer step i."""
    with _quiet():
        t = adapt(model, inner, phi, episodes(i, j), state, keep=keep)
        _check_losses(t.losses, i, j)
        direction = meta_gradient(t)
        found = np.asarray(direction)
        if found.shape != phi.shape or not np.can_cast(found.dtype, phi.dtype, "same_kind"):
            raise UsageError(f"meta_gradient gave {found.dtype} {found.shape}; φ is {phi.dtype} {phi.shape}")
        return _TaskResult(direction, t.losses[0], t.losses[-1], t.state)


def _outer_step(
    model: Differentiable,
    step: Step,
    task: Callable[[int, Any], _TaskResult],
    outer: Optimizer,
    meta_batch: int,
    executor: Executor | None,
) -> Step:
    """Return the state after one more outer step; `outer` is the optimiser of this step."""
    check_optimizer(f"meta_train: outer({step.done})", outer)
    total = _Total(step.phi, step.inner_state)
    if executor is None:
        for j in range(meta_batch):
            total.add(j, task(j, total.state))
    else:
        _run_in_executor(executor, task, meta_batch, total)
    phi, outer_state = optimizer_step(model, outer, total.direction / meta_batch, step.outer_state, step.phi)
    if np.shape(phi) != step.phi.shape:
        raise UsageError(f"{type(outer).__name__}.update gave φ {np.shape(phi)}; it was {step.phi.shape}")
    if phi.dtype.kind in "fc" and not np.isfinite(phi).all():
        raise UsageError(
            f"outer step {step.done + 1}: the parameters are not finite; "
            "lower the outer or the inner learning rate"
        )
    first, last = total.first_loss / meta_batch, total.last_loss / meta_batch
    return Step(step.done + 1, phi, total.state, outer_state, first, last)


class _Total:
    """The sum of the tasks' results, added in the tasks' order, in whatever order they arrive."""

    def __init__(self, phi: Array, state: Any) -> None:
        self.direction = 0 * phi
        self.first_loss = self.last_loss = 0.0
        self.state = state
        self.added = 0
        self._early: dict[int, _TaskResult] = {}

    def add(self, j: int, result: _TaskResult) -> None:
        """Add task j's result, and those that waited for it; or keep it until its turn."""
        self._early[j] = result
        while self.added in self._early:
            direction, first_loss, last_loss, self.state = self._early.pop(self.added)
            with _quiet():
                self.direction += direction
            self.first_loss += first_loss
            self.last_loss += last_loss
            self.added += 1


def _run_in_executor(
    executor: Executor, task: Callable[[int, Any], _TaskResult], tasks: int, total: _Total
) -> None:
    """Add the results of all tasks to `total`.

    The thread that reports the end of a task (a worker, or the executor's own thread) adds the task's result.
    The calling thread sleeps until all tasks have ended: to wake it for each costs more than an addition.

    Raises the error of the failed task with the lowest number, or of `submit`.
    """
    lock, finished = Lock(), Event()
    running: dict[int, Future[_TaskResult]] = {}
    errors: dict[int, BaseException] = {}
    state, future = total.state, None

    def ended(j: int, future: Future[_TaskResult]) -> None:
        error = CancelledError() if future.cancelled() else future.exception()
        with lock:
            del running[j]  # a future keeps its result
            if error is None:
                try:
                    total.add(j, future.result())
                except Exception as wrong:  # such as a direction of objects without +
                    errors[total.added] = wrong
            else:
                errors[j] = error
            if total.added == tasks or total.added in errors:
                finished.set()

    try:
        for j in range(tasks):
            future = executor.submit(task, j, state)  # without the lock: it may wait for a task to end
            with lock:
                running[j] = future
            future.add_done_callback(partial(ended, j))
        finished.wait()
        if total.added in errors:
            raise errors[total.added]
    except BrokenExecutor:  # a broken executor ends its own futures, and fails if one was cancelled
        raise
    except BaseException:
        with lock:
            rest = list(running.values())
        for future in rest:
            future.cancel()
        raise
    finally:  # the error's traceback refers to this frame, which must not refer to the error: a cycle
        errors.clear()
        future = None


def _check_losses(losses: Sequence[float], i: int, j: int) -> None:
    for k, loss in enumerate(losses):
        if not cmath.isfinite(loss):
            raise UsageError(
                f"outer step {i + 1}, task {j + 1}, inner step {k + 1}: the loss is {loss}; "
                "look for NaN in the data, or lower the inner or the outer learning rate"
            )
