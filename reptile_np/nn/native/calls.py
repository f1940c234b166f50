"""Calls of the C functions for one network, and the memory that they work in.

A network is planned once per batch size: the inputs of every position of every convolution are worked out
then, and all work arrays are cut from one block. After that C allocates nothing; Python allocates the
results, and uses the memory of vectors of at least 128 kB again. A plan is used by one call at a time, so a
model may be used from several Python threads. Nothing here locks (list and dict operations are atomic), so a
process may be forked while another of its threads is inside a call.

Verified by ``tests/nn/native/test_network_memory.py`` and ``test_networks.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import Array, Keep
from reptile_np.nn.native.extension import entries_of, ffi
from reptile_np.nn.native.maps import Kernels
from reptile_np.nn.native.memory import aligned_bytes
from reptile_np.nn.native.shapes import Shape
from reptile_np.nn.native.threads import Pace
from reptile_np.nn.native.vector_pool import MAPPED, VectorPool

__all__ = ["IDLE_PLANS", "COptimizer", "LoopResult", "NetworkCalls", "floats", "pointer", "too_large"]

IDLE_PLANS = 4
"""How many plans not in use a network keeps: those used last."""


class COptimizer(NamedTuple):
    """An optimiser's ``rk_optimizer``, and what a loop writes: after each step, or after the last.

    `states` are the optimiser's states; `m` and `v` are the vectors of Adam's moments in them.
    """

    struct: Any
    states: list[Any]
    m: list[Array]
    v: list[Array]
    alive: list[Array]
    """The arrays in the struct."""


class LoopResult(NamedTuple):
    """What a loop wrote: φ after each step, the gradients, the residuals, and the losses (k,).

    With "ends" there are only the last two φ, and one vector of scratch; residuals only with "hessians".
    """

    phis: list[Array]
    grads: list[Array]
    saved: list[Array]
    losses: Array


class _Plan:
    """A block of memory planned for a batch size, with or without Hessian products."""

    def __init__(self, key: tuple[int, bool], block: Array) -> None:
        self.key, self.block = key, block


class NetworkCalls:
    """The C functions for one network shape, on checked arrays: float32, int32 labels, C-contiguous, aligned.

    Vectors are (n,); a batch is (x, y).  Returned vectors are the caller's.
    """

    def __init__(self, kernels: Kernels, shape: Shape) -> None:
        self.entries = entries_of(kernels.table, shape.struct)
        self.optimizer_step = kernels.table.update
        self.struct = ffi.new(f"{shape.struct} *", shape.fields())
        self.parameters = parameters = int(self.entries.parameters(self.struct))
        self.multiply_adds = shape.multiply_adds
        size = 4 * parameters
        self.vectors = VectorPool(lambda: np.empty(parameters, np.float32), size, keep=size >= MAPPED)
        self._saved: dict[int, VectorPool] = {}
        self._idle: list[_Plan] = []
        self._predict, self._gradient, self._hvp, self._loop = (Pace(kernels.team) for _ in range(4))

    def predict(self, phi: Array, x: Array, outputs: int) -> Array:
        """Return the outputs (b, outputs)."""
        y = np.empty((len(x), outputs), np.float32)
        with self._plan(len(x), False) as plan, self._predict.members(self._work(1, x)) as threads:
            self.entries.predict(plan, floats(phi), floats(x), floats(y), threads)
        return y

    def loss_and_grad(
        self, phi: Array, x: Array, y: Array, saved: Array | None = None
    ) -> tuple[float, Array]:
        """Return the loss and its gradient; write into `saved` what later `hvp` calls there need."""
        grad = self.vectors.take()
        with (
            self._plan(len(x), saved is not None) as plan,
            self._gradient.members(self._work(3, x)) as threads,
        ):
            loss = self.entries.loss_and_grad(
                plan, floats(phi), floats(x), pointer(y), floats(saved), floats(grad), threads
            )
        return loss, grad

    def hvp(self, phi: Array, x: Array, y: Array, v: Array, saved: Array | None = None) -> Array:
        """Return H(φ) v; without `saved` the gradient's forward and backward passes are computed first."""
        hv, products = self.vectors.take(), 8 if saved is None else 6
        with self._plan(len(x), True) as plan, self._hvp.members(self._work(products, x)) as threads:
            self.entries.hvp(
                plan, floats(phi), floats(x), pointer(y), floats(saved), floats(v), floats(hv), threads
            )
        return hv

    def loop(
        self, rule: COptimizer, phi: Array, batches: Sequence[tuple[Array, Array]], keep: Keep
    ) -> LoopResult:
        """Run one step of an optimiser per minibatch.

        The result has all gradients unless `keep` is "ends", and residuals if it is "hessians".
        """
        k, every = len(batches), keep != "ends"
        phis = [self.vectors.take() for _ in range(k if every else min(k, 2))]
        grads = [self.vectors.take() for _ in range(k if every else 1)]
        saved = [self.saved(len(x)) for x, _ in batches] if keep == "hessians" else []
        losses = np.empty(k)
        x, y = _pointers([x for x, _ in batches], k), ffi.new("void *[]", [pointer(y) for _, y in batches])
        phi_out, grad, residuals = _pointers(phis, k), _pointers(grads, k), _pointers(saved, k)
        m, v, losses_out = _pointers(rule.m, k), _pointers(rule.v, k), ffi.from_buffer("double[]", losses)
        loop, done = ffi.new("rk_loop *", {"keep_grads": every, "phi_in": floats(phi)}), 0
        for size, group in groupby([len(x) for x, _ in batches]):
            loop.steps = steps = len(list(group))
            loop.x, loop.y, loop.phi, loop.grad = x + done, y + done, phi_out + done, grad + done
            loop.m, loop.v, loop.saved = m and m + done, v and v + done, residuals and residuals + done
            loop.losses = losses_out + done
            work = self._work(3 * steps, batches[done][0])
            with self._plan(size, keep == "hessians") as plan, self._loop.members(work) as threads:
                self.entries.loop(plan, rule.struct, loop, threads)
            done += steps
            loop.phi_in = phi_out[done - 1]
            rule.struct.m_in, rule.struct.v_in = m and m[done - 1], v and v[done - 1]
        return LoopResult(phis, grads, saved, losses)

    def update(self, optimizer: Any, phi: Array, grad: Array) -> Array:
        """Return φ after one step of an ``rk_optimizer``."""
        end = self.vectors.take()
        self.optimizer_step(optimizer, floats(phi), floats(end), floats(grad), self.parameters)
        return end

    def saved(self, batch: int) -> Array:
        """Return memory for the residuals, activations and adjoints, of a batch of this size.

        The pools of the last `IDLE_PLANS` batch sizes are kept, each with at most 256 MB of free blocks.
        """
        pool = self._saved.pop(batch, None)
        if pool is None:
            size = _checked(self.entries.saved_size(self.struct, batch), batch)
            pool = VectorPool(lambda: aligned_bytes(size).view(np.float32), size)
        self._saved[batch] = pool  # the newest last
        for old in list(self._saved)[:-IDLE_PLANS]:
            self._saved.pop(old, None)
        return pool.take()

    def _work(self, products: int, x: Array) -> int:
        """Return the multiply-adds of `products` products of each layer with the batch x."""
        return products * len(x) * self.multiply_adds

    @contextmanager
    def _plan(self, batch: int, hessian: bool) -> Iterator[Any]:
        """Give one call the memory planned for a batch size."""
        key = (batch, hessian)
        plan = self._take_idle(key) or self._new_plan(key)
        try:
            yield pointer(plan.block)
        finally:
            self._idle.append(plan)
            del self._idle[:-IDLE_PLANS]

    def _take_idle(self, key: tuple[int, bool]) -> _Plan | None:
        for plan in reversed(self._idle.copy()):
            if plan.key == key:
                try:
                    self._idle.remove(plan)
                except ValueError:  # another thread took it
                    continue
                return plan
        return None

    def _new_plan(self, key: tuple[int, bool]) -> _Plan:
        block = aligned_bytes(_checked(self.entries.plan_size(self.struct, *key), key[0]))
        self.entries.plan(self.struct, *key, pointer(block))
        return _Plan(key, block)


def _checked(size: int, batch: int) -> int:
    """Return the bytes that C computed: 0 if an offset would not fit in 32 bits, or the size in size_t."""
    if size == 0:
        raise UsageError(too_large(batch))
    return size


def too_large(batch: int) -> str:
    """Return why a minibatch of that size cannot be computed."""
    return f"a minibatch of {batch} is too large for 32-bit kernels; use smaller ones, or NumPy ops"


def _pointers(vectors: Sequence[Array], count: int) -> Any:
    """Return `count` pointers, the first one repeated if there are fewer vectors; NULL for no vectors."""
    found = [floats(vector) for vector in vectors]
    return ffi.new("float *[]", found[:1] * (count - len(found)) + found) if found else ffi.NULL


def pointer(array: Array) -> Any:
    """Return a pointer to an array's memory, which it keeps alive."""
    return ffi.from_buffer(array)


def floats(array: Array | None) -> Any:
    """Return a pointer to a float32 array's memory, which it keeps alive; NULL for None."""
    return ffi.NULL if array is None else ffi.from_buffer("float[]", array)
