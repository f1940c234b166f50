"""Networks computed whole in C: the `Model` that ``model.with_ops(native.load())`` returns.

A network's 3 × 3 convolutions at stride 1 may use Winograd tiles of 4 × 4 outputs, which round, so such a
network is not exact on integers.  A convolution with whole panels of channels uses these tiles if it has at
least 512 output positions and the tiles need at most four fifths of the products of tiles of 2 × 2.  (Single
convolutions never use them; see `reptile_np.nn.native`.)

Verified by ``tests/nn/native/test_networks.py``, ``test_pools.py``, ``test_inner_loops.py`` and
``test_maml.py`` (against the layers in float64), and by ``test_network_threads.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import (
    Array,
    Batch,
    Keep,
    Linearization,
    Optimizer,
    Trajectory,
)
from reptile_np.nn.faces import Layer
from reptile_np.nn.layers import Conv2d
from reptile_np.nn.losses import Loss, SoftmaxCrossEntropy
from reptile_np.nn.models import Model
from reptile_np.nn.native.calls import NetworkCalls, too_large
from reptile_np.nn.native.extension import available
from reptile_np.nn.native.maps import Kernels
from reptile_np.nn.native.matching import NotMatched, match
from reptile_np.nn.native.memory import LABEL, SINGLE, contiguous
from reptile_np.nn.native.optimizers import in_c
from reptile_np.nn.native.shapes import LARGEST
from reptile_np.nn.native.threads import Team
from reptile_np.nn.ops import NUMPY, AModel, Ops
from reptile_np.nn.validation import checked_inputs, checked_labels, checked_pair, checked_targets

__all__ = ["NativeNetwork", "NativeOps", "native_ops", "restored_ops"]


class _Calls:
    """Has the C functions of a network; not as a field, because `dataclasses.asdict` cannot copy them."""

    _made: list[NetworkCalls]
    _most_examples: int


@dataclass(frozen=True)
class NativeNetwork(Model, _Calls):
    """A `Model` that computes float32 calls whole in C, and all others as `Model` does.

    Raises
    ------
    UsageError
        If C cannot compute this network; use `Model.with_ops`, which then returns a `Model`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.ops, NativeOps):
            raise UsageError(f"NativeNetwork: ops are {self.ops.name}; use Model, or ops of native.load()")
        object.__setattr__(self, "_made", [])
        try:
            object.__setattr__(self, "_most_examples", LARGEST // match(self).largest_image)
        except NotMatched as reason:
            raise UsageError(f"C cannot compute this network whole: {reason}; use Model") from None
        _ = self.output_shape  # computed now: see `_calls` about `cached_property`

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored_model, (self.layers, self.input_shape, self.loss, self.ops)

    def with_ops(self, ops: Ops) -> Model:
        """Return the same function computed by another table of kernels."""
        return ops.specialize(Model(self.layers, self.input_shape, self.loss, ops))

    def predict(self, phi: Array, x: Array) -> Array:
        """Return the outputs (b, o)."""
        phi = np.asarray(phi)
        if phi.dtype != SINGLE:
            return super().predict(phi, x)
        return self._calls.predict(self._vector("phi", phi), self._inputs(x), self.output_shape[0])

    def loss_and_grad(self, phi: Array, batch: Batch) -> tuple[float, Array]:
        """Return the loss and its gradient (n,)."""
        phi = np.asarray(phi)
        if phi.dtype != SINGLE:
            return super().loss_and_grad(phi, batch)
        return self._calls.loss_and_grad(self._vector("phi", phi), *self._batch(batch))

    def hvp(self, phi: Array, batch: Batch, v: Array) -> Array:
        """Return H(φ) v (n,)."""
        phi, v = np.asarray(phi), np.asarray(v)
        if not phi.dtype == v.dtype == SINGLE:
            return super().hvp(phi, batch, v)
        return self._calls.hvp(self._vector("phi", phi), *self._batch(batch), self._vector("v", v))

    def linearize(self, phi: Array, batch: Batch) -> Linearization:
        """Return the loss, its gradient (n,), and v ↦ H(φ) v, for which this call's residuals are saved."""
        phi = np.asarray(phi)
        if phi.dtype != SINGLE:
            return super().linearize(phi, batch)
        given, (x, y) = self._vector("phi", phi), self._batch(batch)
        saved = self._calls.saved(len(x))
        loss, grad = self._calls.loss_and_grad(given, x, y, saved)
        return Linearization(loss, grad, _KeptHessian(self, given, batch, (x, y), saved))

    def hvp_from(self, saved: Array, phi: Array, checked: tuple[Array, Array], v: Array) -> Array:
        """Return H(φ) v (n,) for float32 v from the residuals that a gradient at φ saved, with less work."""
        return self._calls.hvp(phi, *checked, self._vector("v", v), saved)

    def adapt(
        self, optimizer: Optimizer, phi: Array, batches: Sequence[Batch], state: Any, keep: Keep
    ) -> Trajectory | None:
        """Run the whole inner loop in C, if φ is float32 and the optimiser is `Sgd`, or `Adam` with one rate.

        Consecutive minibatches of the same size take one call of C.
        """
        start, every = np.asarray(phi), keep != "ends"
        rule = None
        if start.dtype == SINGLE and len(batches) > 0:
            rule = in_c(optimizer, state, len(batches), self._calls, every)
        if rule is None:
            return super().adapt(optimizer, phi, batches, state, keep)
        checked = [self._batch(batch) for batch in batches]
        start = self._vector("phi", start)
        phis, grads, saved, losses = self._calls.loop(rule, start, checked, keep)
        if not every:
            phis, grads = [phi, *phis][-2:], []
        places = zip((start, *phis), batches, checked, saved, strict=False)  # as many as have residuals
        hessians = tuple(_KeptHessian(self, *place) for place in places)
        return Trajectory(
            (phi, *phis),
            tuple(grads),
            tuple(batches),
            tuple(losses.tolist()),
            rule.states[-1],
            hessians,
            (state, *rule.states[:-1]) if every else (),
            optimizer=optimizer,
        )

    def update(self, optimizer: Optimizer, grad: Array, state: Any, phi: Array) -> tuple[Array, Any] | None:
        """Take one step in one pass over memory: float32 only, of `Sgd`, or of `Adam` with one rate."""
        grad, phi = np.asarray(grad), np.asarray(phi)
        if not phi.dtype == grad.dtype == SINGLE:
            return None
        step = in_c(optimizer, state, 1, self._calls)
        if step is None:
            return None
        end = self._calls.update(step.struct, self._vector("phi", phi), self._vector("grad", grad))
        return end, step.states[-1]

    @property
    def _calls(self) -> NetworkCalls:
        """Return the C functions for this network, made once.

        (`functools.cached_property` locks in Python 3.11: a process forked meanwhile would wait for ever.)
        """
        if not self._made:
            assert isinstance(self.ops, NativeOps)
            self._made.append(NetworkCalls(self.ops.kernels, match(self)))
        return self._made[0]  # the first, if several threads made one at the same time

    def _vector(self, name: str, value: Array) -> Array:
        want = self._calls.parameters
        if value.shape != (want,) or value.dtype != SINGLE:
            raise UsageError(f"{name} is {value.dtype} {value.shape}; this model needs float32 ({want},)")
        return contiguous(value, SINGLE)

    def _inputs(self, x: Array) -> Array:
        x = checked_inputs(x, self.input_shape, SINGLE)
        if len(x) > self._most_examples:
            raise UsageError(too_large(len(x)))
        return contiguous(x, SINGLE)

    def _batch(self, batch: Batch) -> tuple[Array, Array]:
        x, y = checked_pair(batch)
        x = self._inputs(x)
        if isinstance(self.loss, SoftmaxCrossEntropy):
            # a copy: C uses labels as offsets, and another thread may write into the array after the check
            labels: Any = y if isinstance(y, list | tuple) else np.array(np.asarray(y))
            return x, contiguous(checked_labels(labels, len(x), self.output_shape[0]), LABEL)
        y = checked_targets(y, (len(x), *self.output_shape), SINGLE)
        return x, contiguous(y, SINGLE)


class _KeptHessian:
    """v ↦ H(φ) v from saved residuals, which are not pickled: each instruction set has its own layout."""

    def __init__(
        self, network: NativeNetwork, phi: Array, batch: Batch, checked: tuple[Array, Array], saved: Array
    ) -> None:
        self._network, self._phi, self._batch = network, phi, batch
        self._checked, self._saved = checked, saved

    def __call__(self, v: Array) -> Array:
        v = np.asarray(v)
        if v.dtype != SINGLE:
            return self._network.hvp(self._phi, self._batch, v)
        return self._network.hvp_from(self._saved, self._phi, self._checked, v)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (self._network.hvp, self._phi, self._batch)


@dataclass(frozen=True)
class NativeOps(Ops):
    """The NumPy table with convolutions in C, and whole networks in C where they match."""

    kernels: Kernels = field(kw_only=True)

    def specialize(self, model: AModel) -> AModel:
        """Return the `NativeNetwork` of a `Model` that C can compute whole; else `model`, subclasses too."""
        if type(model) is not Model:
            return model
        plain: Any = model
        try:
            match(plain)
        except NotMatched:
            return model
        return cast(AModel, NativeNetwork(plain.layers, plain.input_shape, plain.loss, self))

    def describe(self, model: Any) -> str:
        """Return one line: whether `model` is computed whole in C, or why not."""
        if isinstance(model, NativeNetwork):
            return f"{self.name}: the whole network in C for float32"
        try:
            match(model)
        except NotMatched as reason:
            convolutions = any(isinstance(layer, Conv2d) for layer in model.layers)
            in_c = "convolutions in C, the rest" if convolutions else "every layer"
            return f"{self.name}: {in_c} in NumPy, because {reason}"
        why = "it is not from Model.with_ops" if type(model) is Model else "it is a subclass of Model"
        return f"{self.name}: convolutions in C, the rest in NumPy, because {why}"

    def __reduce__(self) -> tuple[Any, ...]:
        return restored_ops, (self.kernels.name, self.kernels.team)


def native_ops(kernels: Kernels) -> NativeOps:
    """Return the table of one instruction set."""
    return NativeOps(
        f"native-{kernels.name}",
        NUMPY.matmul,
        NUMPY.matmul_input,
        NUMPY.matmul_weight,
        kernels.conv2d,
        kernels.conv2d_input,
        kernels.conv2d_weight,
        kernels.team.threads,
        kernels=kernels,
    )


def restored_ops(name: str, team: Team) -> Ops:
    """Return the table of an instruction set, or the best there is on this machine, with a warning."""
    names = available()
    if name in names:
        return native_ops(Kernels(name, team))
    instead = f"native-{names[0]}" if names else NUMPY.name
    warnings.warn(f"native-{name} is not available on this machine: using {instead}", stacklevel=2)
    return native_ops(Kernels(names[0], team)) if names else NUMPY


def _restored_model(layers: tuple[Layer, ...], input_shape: tuple[int, ...], loss: Loss, ops: Ops) -> Model:
    return Model(layers, input_shape, loss).with_ops(ops)
