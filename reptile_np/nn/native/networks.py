"""Whole networks in C: the calls, and the memory that they work in.

A twin is planned once per batch size: where every position of every convolution reads from is worked
out then, and all work arrays are cut from one block.  After that a call allocates nothing but its
result.  A plan is lent to one call at a time, so a model may be used from several Python threads.

Networks with stride-1 maps of 7 × 7 and more are not exact on integers: their 3 × 3 convolutions may go by
Winograd tiles of 4 × 4 outputs, which round (single convolutions do not; see `reptile_np.nn.native`).

Verified by ``tests/nn/native/test_networks.py`` (against the layers in float64).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.nn.native.matching import multiply_adds, struct_of
from reptile_np.nn.native.threads import Pace
from reptile_np.nn.native.vector_pool import Recycler
from reptile_np.nn.ops import Array, Batch, InnerLoop, Linearization
from reptile_np.nn.validation import check_inputs, check_labels, check_targets

LARGEST = 2**29
"""The most elements of any one work array: byte offsets stay within 32 bits."""
SGD, ADAM = "reptile_np.meta.optimizers.Sgd", "reptile_np.meta.optimizers.Adam"
"""The optimisers with a twin, by name: nn does not import meta."""
IDLE_PLANS = 4
"""How many plans that nobody uses a network keeps: those used last."""


class _Rule(NamedTuple):
    """An optimiser for the kernels, its state after the steps, and what the struct points to."""

    struct: Any
    state: Any
    alive: tuple[Array | None, ...]


class NativeNetwork:
    """The twin of one model: `reptile_np.nn.ops.Network`, float32 only.

    `kind` is the table's prefix, "network" or "mlp"; `fields` the nested tuple that makes its struct.
    """

    def __init__(
        self, kernels: Any, kind: str, fields: tuple[Any, ...], inputs: tuple[int, ...], outputs: int
    ) -> None:
        self.arguments = (kernels, kind, fields, inputs, outputs)
        self.kernels, self.inputs, self.outputs = kernels, inputs, outputs
        self.targets = np.dtype(np.int32 if kind == "network" else np.float32)
        self.shape = kernels.ffi.new(f"rk_{kind} *", fields)
        names = ("parameters", "widest", "size", "point", "plan", "predict", "loss_and_grad", "hvp", "loop")
        self.entry = {name: getattr(kernels.table, f"{kind}_{name}") for name in names}
        self.parameters: int = self.entry["parameters"](self.shape)
        self.widest: int = self.entry["widest"](self.shape)
        self.work = multiply_adds(kind, fields)
        self._vectors = Recycler(lambda: np.empty(self.parameters, np.float32))
        self._points: dict[int, Recycler] = {}
        self._paces = {name: Pace() for name in self.entry}
        self._lock = threading.Lock()
        self._idle: list[tuple[tuple[int, bool], Array]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return NativeNetwork, self.arguments

    def predict(self, phi: Array, x: Array) -> Array:
        """Return the outputs (b, o)."""
        phi, x = self._vector("phi", phi), self._inputs(x)
        y, floats = np.empty((len(x), self.outputs), np.float32), self.kernels.floats
        self._run("predict", len(x), False, len(x), floats(phi), floats(x), floats(y))
        return y

    def loss_and_grad(self, phi: Array, batch: Batch) -> tuple[float, Array]:
        """Return the loss and its gradient (n,)."""
        return self._gradient(self._vector("phi", phi), self._batch(batch), None)

    def hvp(self, phi: Array, batch: Batch, v: Array) -> Array:
        """Return H(phi) v (n,)."""
        return self._product(self._vector("phi", phi), self._batch(batch), None, v)

    def linearize(self, phi: Array, batch: Batch) -> Linearization:
        """Return the loss, its gradient (n,), and v ↦ H(phi) v from what the gradient's passes left."""
        phi, batch = self._vector("phi", phi), self._batch(batch)
        point = self._recycled_points(len(batch[0])).take()
        loss, grad = self._gradient(phi, batch, point)
        return Linearization(loss, grad, lambda v: self._product(phi, batch, point, v))

    def optimizer_step(self, optimizer: Any, grad: Array, state: Any, phi: Array) -> tuple[Array, Any] | None:
        """Take one step in one pass over memory; None where the optimiser is neither `Sgd` nor `Adam`."""
        rule = self._rule(optimizer, state, 1)
        if rule is None:
            return None
        floats, end = self.kernels.floats, self._vectors.take()
        phi, grad = self._vector("phi", phi), self._vector("grad", grad)
        self.kernels.table.update(rule.struct, floats(phi), floats(end), floats(grad), self.parameters)
        return end, rule.state

    def inner_loop(
        self, optimizer: Any, phi: Array, batches: Sequence[Batch], state: Any
    ) -> InnerLoop | None:
        """Run one optimiser step per minibatch; None where the optimiser is neither `Sgd` nor `Adam`."""
        ffi, floats = self.kernels.ffi, self.kernels.floats
        checked = [self._batch(batch) for batch in batches]
        rule = self._rule(optimizer, state, len(checked))
        if rule is None:
            return None
        start, take = self._vector("phi", phi), self._vectors.take
        end, grad, losses = take(), take(), np.empty(len(checked))
        before = take() if len(checked) > 1 else start
        done, point = 0, start
        for size, group in groupby(checked, key=lambda batch: len(batch[0])):
            part = list(group)
            xs = ffi.new("float *[]", [floats(x) for x, _ in part])
            ys = ffi.new("void *[]", [self._pointer(y) for _, y in part])
            left = ffi.from_buffer("double *", losses[done:])
            copy = ffi.NULL if before is start else floats(before)
            vectors = [floats(point), floats(end), copy, floats(grad)]
            loop = ffi.new("rk_loop *", (len(part), xs, ys, *vectors, left))
            self._run("loop", size, False, 3 * size * len(part), rule.struct, loop)
            rule.struct.m_in, rule.struct.v_in, point = rule.struct.m, rule.struct.v, end
            done += len(part)
        return InnerLoop(before, end, rule.state, losses.tolist())

    def _gradient(self, phi: Array, batch: Batch, point: Array | None) -> tuple[float, Array]:
        """Return the loss and its gradient; leave at `point` what products there read."""
        (x, y), grad, floats = batch, self._vectors.take(), self.kernels.floats
        place = floats(phi), floats(x), self._pointer(y), self._floats_or_null(point)
        loss = self._run("loss_and_grad", len(x), point is not None, 3 * len(x), *place, floats(grad))
        return loss, grad

    def _product(self, phi: Array, batch: Batch, point: Array | None, v: Array) -> Array:
        """Return H(phi) v; without a point the kernels go through the gradient's passes first."""
        (x, y), hv, floats = batch, self._vectors.take(), self.kernels.floats
        v, products = self._vector("v", v), 8 if point is None else 6
        place = floats(phi), floats(x), self._pointer(y), self._floats_or_null(point)
        self._run("hvp", len(x), True, products * len(x), *place, floats(v), floats(hv))
        return hv

    def _rule(self, optimizer: Any, state: Any, steps: int) -> _Rule | None:
        """Describe an `Sgd` or `Adam` whose moments move to new vectors; None for any other optimiser."""
        ffi, take = self.kernels.ffi, self._vectors.take
        kind = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
        if kind == SGD:
            return _Rule(ffi.new("rk_optimizer *", (0, 0, float(optimizer.learning_rate))), state, ())
        if kind != ADAM or state.v.dtype != np.float32 or state.v.shape != (self.parameters,):
            return None
        rates = (optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon)
        m_in, m = (self._vector("m", state.m), take()) if optimizer.beta1 else (None, None)
        v_in, v = self._vector("v", state.v), take()
        pointers = [self._floats_or_null(a) for a in (m_in, v_in, m, v)]
        struct = ffi.new("rk_optimizer *", (1, state.t, *rates, *pointers))
        after = state._replace(m=state.m if m is None else m, v=v, t=state.t + steps)
        return _Rule(struct, after, (m_in, v_in))

    def _recycled_points(self, batch: int) -> Recycler:
        """Return the memory for points at a batch size; that of sizes not used lately goes."""
        with self._lock:
            points = self._points.pop(batch, None)
            if points is None:
                size = self.entry["point"](self.shape, batch)
                points = Recycler(lambda: self.kernels.aligned(size).view(np.float32))
            self._points[batch] = points
            for old in list(self._points)[:-IDLE_PLANS]:
                del self._points[old]
            return points

    def _run(self, name: str, batch: int, hessian: bool, products: int, *arguments: Any) -> Any:
        """Call an entry that takes so many examples through a layer's product, in memory planned for it."""
        work = products * self.work
        pace, team = self._paces[name], self.kernels.team(work)
        with self._plan(batch, hessian) as memory, pace.members(team, work) as threads:
            return self.entry[name](memory, *arguments, threads)

    @contextmanager
    def _plan(self, batch: int, hessian: bool) -> Iterator[Any]:
        """Lend memory planned for a batch size to one call."""
        key, block = (batch, hessian), None
        with self._lock:
            for i in reversed(range(len(self._idle))):
                if self._idle[i][0] == key:
                    block = self._idle.pop(i)[1]
                    break
        if block is None:
            block = self._new_plan(batch, hessian)
        try:
            yield self._pointer(block)
        finally:
            with self._lock:
                self._idle.append((key, block))
                del self._idle[:-IDLE_PLANS]

    def _new_plan(self, batch: int, hessian: bool) -> Array:
        block = self.kernels.aligned(self.entry["size"](self.shape, batch, hessian))
        self.entry["plan"](self.shape, batch, hessian, self._pointer(block))
        return block

    def _pointer(self, array: Array) -> Any:
        return self.kernels.ffi.from_buffer(array)

    def _floats_or_null(self, array: Array | None) -> Any:
        return self.kernels.ffi.NULL if array is None else self.kernels.floats(array)

    def _vector(self, name: str, value: Array) -> Array:
        if value.shape != (self.parameters,) or value.dtype != np.float32:
            raise UsageError(
                f"{name} is {value.dtype} {value.shape}; this model needs float32 ({self.parameters},)"
            )
        return as_kind(value, np.float32)

    def _inputs(self, x: Array) -> Array:
        check_inputs(x, self.inputs, np.dtype(np.float32))
        if len(x) * self.widest > LARGEST:
            raise UsageError(
                f"a minibatch of {len(x)} is too large for 32-bit kernels; use smaller ones, or NumPy ops"
            )
        return as_kind(x, np.float32)

    def _batch(self, batch: Batch) -> Batch:
        x, y = self._inputs(batch[0]), batch[1]
        if self.targets == np.int32:
            check_labels(y, len(x), self.outputs)
        else:
            check_targets(y, (len(x), self.outputs), np.dtype(np.float32))
        return x, as_kind(y, self.targets)


def network(kernels: Any, model: Any) -> NativeNetwork | None:
    """Return the twin of a model of convolution blocks or of tanh layers; None for any other."""
    matched = struct_of(model)
    if matched is None:
        return None
    return NativeNetwork(kernels, *matched, model.input_shape, model.output_shape[0])


def as_kind(array: Array, dtype: Any) -> Array:
    """Return `array` itself, or a C-contiguous, aligned copy of that dtype."""
    if array.dtype != dtype:
        return array.astype(dtype, order="C")
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy()
