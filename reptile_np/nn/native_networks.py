"""Whole networks in C: which models have a twin, and the memory that a twin works in.

A twin is planned once per batch size: where every position of every convolution reads from is worked
out then, and all work arrays are cut from one block.  After that a call allocates nothing but its
result.  A plan is lent to one call at a time, so a model may be used from several Python threads.

Verified by ``tests/nn/test_native_networks.py`` (against the layers in float64).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.nn.batches import check_inputs, check_labels, check_targets
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy, SquaredError
from reptile_np.nn.ops import Array, Batch, InnerLoop
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu, Tanh
from reptile_np.nn.recycler import Recycler

MOST_BLOCKS = 8
MOST_DENSE = 8
LARGEST = 2**29
"""The most elements of any one work array: byte offsets stay within 32 bits."""
SGD, ADAM = "reptile_np.meta.optimizers.Sgd", "reptile_np.meta.optimizers.Adam"
"""The optimisers with a twin, by name: nn does not import meta."""
IDLE_PLANS = 4
"""How many plans that nobody uses a network keeps: those used last."""


class NativeNetwork:
    """The twin of one model: `reptile_np.nn.ops.Network`, float32 only.

    `kind` is the table's prefix, "network" or "mlp"; `shape` the nested tuple that makes its struct.
    """

    def __init__(
        self, kernels: Any, kind: str, shape: tuple[Any, ...], inputs: tuple[int, ...], outputs: int
    ) -> None:
        self.arguments = (kernels, kind, shape, inputs, outputs)
        self.kernels, self.inputs, self.outputs = kernels, inputs, outputs
        self.targets = np.dtype(np.int32 if kind == "network" else np.float32)
        self.shape = kernels.ffi.new(f"rk_{kind} *", shape)
        names = ("parameters", "widest", "size", "plan", "predict", "loss_and_grad", "hvp", "loop")
        self.entry = {name: getattr(kernels.table, f"{kind}_{name}") for name in names}
        self.parameters: int = self.entry["parameters"](self.shape)
        self.widest: int = self.entry["widest"](self.shape)
        self._vectors = Recycler(self.parameters)
        self._lock = threading.Lock()
        self._idle: list[tuple[tuple[int, bool], Array]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return NativeNetwork, self.arguments

    def predict(self, phi: Array, x: Array) -> Array:
        """Return the outputs (b, o)."""
        phi, x = self._vector("phi", phi), self._inputs(x)
        y = np.empty((len(x), self.outputs), np.float32)
        floats = self.kernels.floats
        with self._plan(len(x), False) as memory:
            self.entry["predict"](memory, floats(phi), floats(x), floats(y), self.kernels.threads)
        return y

    def loss_and_grad(self, phi: Array, batch: Batch) -> tuple[float, Array]:
        """Return the loss and its gradient (n,)."""
        phi, (x, y) = self._vector("phi", phi), self._batch(batch)
        grad = self._vectors.take()
        floats = self.kernels.floats
        with self._plan(len(x), False) as memory:
            loss = self.entry["loss_and_grad"](
                memory, floats(phi), floats(x), self._pointer(y), floats(grad), self.kernels.threads
            )
        return loss, grad

    def hvp(self, phi: Array, batch: Batch, v: Array) -> Array:
        """Return H(phi) v (n,)."""
        phi, v, (x, y) = self._vector("phi", phi), self._vector("v", v), self._batch(batch)
        hv = self._vectors.take()
        floats = self.kernels.floats
        with self._plan(len(x), True) as memory:
            self.entry["hvp"](
                memory, floats(phi), floats(x), self._pointer(y), floats(v), floats(hv), self.kernels.threads
            )
        return hv

    def inner_loop(
        self, optimizer: Any, phi: Array, batches: Sequence[Batch], state: Any
    ) -> InnerLoop | None:
        """Run one optimiser step per minibatch; None where the optimiser is neither `Sgd` nor `Adam`."""
        ffi, floats = self.kernels.ffi, self.kernels.floats
        checked = [self._batch(batch) for batch in batches]
        start, take = self._vector("phi", phi), self._vectors.take
        end, grad, losses = take(), take(), np.empty(len(checked))
        before = take() if len(checked) > 1 else start
        kind = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
        if kind == SGD:
            rule = ffi.new("rk_optimizer *", (0, 0, float(optimizer.learning_rate)))
        elif kind == ADAM and state.v.dtype == np.float32 and state.v.shape == start.shape:
            rates = (optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon)
            moments = (self._vector("m", state.m) if optimizer.beta1 else None, self._vector("v", state.v))
            m, v = take() if optimizer.beta1 else None, take()
            pointers = [ffi.NULL if a is None else floats(a) for a in (*moments, m, v)]
            rule = ffi.new("rk_optimizer *", (1, state.t, *rates, *pointers))
            state = state._replace(m=state.m if m is None else m, v=v, t=state.t + len(checked))
        else:
            return None
        done, point = 0, start
        for size, group in groupby(checked, key=lambda batch: len(batch[0])):
            part = list(group)
            xs = ffi.new("float *[]", [floats(x) for x, _ in part])
            ys = ffi.new("void *[]", [self._pointer(y) for _, y in part])
            left = ffi.from_buffer("double *", losses[done:])
            copy = ffi.NULL if before is start else floats(before)
            vectors = [floats(point), floats(end), copy, floats(grad)]
            loop = ffi.new("rk_loop *", (len(part), xs, ys, *vectors, left))
            with self._plan(size, False) as memory:
                self.entry["loop"](memory, rule, loop, self.kernels.threads)
            rule.m_in, rule.v_in, point = rule.m, rule.v, end
            done += len(part)
        return InnerLoop(before, end, state, losses.tolist())

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
        size = self.entry["size"](self.shape, batch, hessian)
        if batch * self.widest > LARGEST:
            raise UsageError(
                f"a minibatch of {batch} is too large for 32-bit kernels; use smaller ones, or NumPy ops"
            )
        block = self.kernels.aligned(size)
        self.entry["plan"](self.shape, batch, hessian, self._pointer(block))
        return block

    def _pointer(self, array: Array) -> Any:
        return self.kernels.ffi.from_buffer(array)

    def _vector(self, name: str, value: Array) -> Array:
        if value.shape != (self.parameters,) or value.dtype != np.float32:
            raise UsageError(
                f"{name} is {value.dtype} {value.shape}; this model needs float32 ({self.parameters},)"
            )
        return as_kind(value, np.float32)

    def _inputs(self, x: Array) -> Array:
        check_inputs(x, self.inputs, np.dtype(np.float32))
        return as_kind(x, np.float32)

    def _batch(self, batch: Batch) -> Batch:
        x, y = self._inputs(batch[0]), batch[1]
        if self.targets == np.int32:
            check_labels(y, len(x), self.outputs)
        else:
            check_targets(y, (len(x), self.outputs), np.dtype(np.float32))
        return x, as_kind(y, self.targets)


def as_kind(array: Array, dtype: Any) -> Array:
    """Return `array` itself, or a C-contiguous, aligned copy of that dtype."""
    if array.dtype != dtype:
        return array.astype(dtype, order="C")
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy()


def network(kernels: Any, model: Any) -> NativeNetwork | None:
    """Return the twin of a model of convolution blocks or of tanh layers; None for any other."""
    if isinstance(model.loss, SoftmaxCrossEntropy) and len(model.input_shape) == 3:
        shape = _blocks(model)
        return (
            None
            if shape is None
            else NativeNetwork(kernels, "network", shape, model.input_shape, model.output_shape[0])
        )
    if isinstance(model.loss, SquaredError) and len(model.input_shape) == 1:
        shape = _tanh_layers(model)
        return (
            None
            if shape is None
            else NativeNetwork(kernels, "mlp", shape, model.input_shape, model.output_shape[0])
        )
    return None


def _blocks(model: Any) -> tuple[Any, ...] | None:
    """Match 1-8 × [conv, norm, relu, perhaps a pool before or after norm], flatten, dense: rk_network."""
    layers, image = list(model.layers), model.input_shape
    blocks: list[tuple[Any, ...]] = []
    while layers and isinstance(layers[0], Conv2d):
        kinds = tuple(type(layer) for layer in layers[1:4])
        if kinds[:2] == (BatchNorm, Relu):
            length, norm, pool, first = 3, layers[1], None, False
        elif kinds == (BatchNorm, MaxPool, Relu):
            length, norm, pool, first = 4, layers[1], layers[2], False
        elif kinds == (MaxPool, BatchNorm, Relu):
            length, norm, pool, first = 4, layers[2], layers[1], True
        else:
            return None
        if not layers[0].centred:
            return None
        conv = _conv(layers[0], image)
        image = layers[0].out_size(image)
        pooling: tuple[int, ...] | None = (0, 0, 0, 0, 0, 0)
        if pool is not None:
            pooling = _tiling(pool, image, first)
            image = pool.out_size(image)
        if pooling is None:
            return None
        blocks.append((conv, *pooling, norm.epsilon))
        del layers[:length]
    if not 1 <= len(blocks) <= MOST_BLOCKS or [type(layer) for layer in layers] != [Flatten, Dense]:
        return None
    rows, cols, channels = image
    dense = (rows, cols, channels, rows, cols, layers[1].units, 1, 0, 0, 1, 1)
    return len(blocks), model.loss.reduction == "mean", blocks, dense


def _conv(layer: Conv2d, image: tuple[int, ...]) -> tuple[int, ...]:
    """Return the fields of rk_conv."""
    (top, _), (left, _) = layer.pad(*image[:2])
    return (
        *image,
        layer.size,
        layer.size,
        layer.filters,
        layer.stride,
        top,
        left,
        *layer.out_size(image)[:2],
    )


def _tiling(pool: MaxPool, image: tuple[int, ...], first: bool) -> tuple[int, ...] | None:
    """Return rk_block's fields of a pooling whose windows tile the image; None where they do not."""
    (top, _), (left, _) = pool.pad(*image[:2])
    rows, cols = pool.counts(*image[:2])
    tiles = pool.size == pool.stride > 1 and max(top, left) < pool.size
    covers = rows * pool.size - top >= image[0] and cols * pool.size - left >= image[1]
    return (pool.size, first, top, left, rows, cols) if tiles and covers else None


def _tanh_layers(model: Any) -> tuple[Any, ...] | None:
    """Match [dense, tanh] × 0..7, dense: the fields of rk_mlp."""
    dense, tanh = model.layers[::2], model.layers[1::2]
    if len(model.layers) % 2 == 0 or not 1 <= len(dense) <= MOST_DENSE:
        return None
    if any(type(layer) is not Dense for layer in dense) or any(type(layer) is not Tanh for layer in tanh):
        return None
    units = [*model.input_shape, *(layer.units for layer in dense)]
    return len(dense), model.loss.reduction == "mean", units
