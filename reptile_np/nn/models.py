"""A network as a function of one flat vector φ: its prediction, loss, gradient and Hessian product.

Verified by ``tests/nn/test_models.py`` (complex step at 1e-12, symmetry) and, against vectors recorded
from the authors' program, by ``tests/test_golden.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.nn.layers import Arrays, BatchNorm, Bilinear, Conv2d, Dense, Layer, Shape
from reptile_np.nn.layout import Layout
from reptile_np.nn.losses import Loss, SoftmaxCrossEntropy, SquaredError, reduce
from reptile_np.nn.ops import NUMPY, Array, Batch, InnerLoop, Linearization, Network, Ops
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu, Tanh
from reptile_np.nn.validation import check_inputs, check_labels, check_targets


@dataclass(frozen=True)
class Model:
    """A stack of layers and a loss; a pure function of φ (n,).

    Shapes: φ, its gradient, v and H v are (n,); a batch is (x, y) with x (b, *input_shape) and y (b,)
    integer labels or (b, o) targets.  Results have φ's dtype.  The first layer is dense or a
    convolution.  Where `ops` has a whole-network twin it serves float32 calls; the layers serve the rest.

    Raises
    ------
    UsageError
        Where a batch does not fit: wrong shape, integer pixels, wider floats than φ's, labels out of range.
    """

    layers: tuple[Layer, ...]
    input_shape: Shape
    loss: Loss
    ops: Ops = NUMPY

    def __post_init__(self) -> None:
        if not isinstance(self.layers[0], Bilinear):
            raise UsageError("a Model's first layer must be Dense or Conv2d")

    @cached_property
    def layout(self) -> Layout:
        """The names and shapes of φ's pieces: for each layer in turn kernel, bias or gamma, beta."""
        return Layout({name: shape for names in self._names for name, shape in names.items()})

    @cached_property
    def output_shape(self) -> Shape:
        """The shape of one example's prediction."""
        size = self.input_shape
        for layer in self.layers:
            size = layer.out_size(size)
        return size

    def with_ops(self, ops: Ops) -> Model:
        """Return the same function computed by another table of kernels."""
        return replace(self, ops=ops)

    def init(self, rng: np.random.Generator, dtype: Any = np.float32) -> Array:
        """Return a starting φ (n,), as each layer says."""
        sizes = [self.input_shape]
        for layer in self.layers:
            sizes.append(layer.out_size(sizes[-1]))
        values = [layer.init(rng, size) for layer, size in zip(self.layers, sizes, strict=False)]
        return np.concatenate([piece.ravel() for pieces in values for piece in pieces]).astype(dtype)

    def predict(self, phi: Array, x: Array) -> Array:
        """Return the outputs (b, ways) of the images x; batch norm sees exactly this batch."""
        if self._twin is not None and phi.dtype == np.float32:
            return self._twin.predict(phi, x)
        check_inputs(x, self.input_shape, phi.dtype)
        return self._forward(phi, x)[0]

    def loss_and_grad(self, phi: Array, batch: Batch) -> tuple[float, Array]:
        """Return L(φ) and L'(φ) on one minibatch, reduced as `loss` says."""
        if self._twin is not None and phi.dtype == np.float32:
            return self._twin.loss_and_grad(phi, batch)
        self._check_batch(phi, batch)
        z, at = self._forward(phi, batch[0])
        grads = [theta_bar for _, theta_bar in self._backward(at, self.loss.adjoint(z, batch[1]))]
        return self._reduced(z, batch), _flat(grads)

    def hvp(self, phi: Array, batch: Batch, v: Array) -> Array:
        """Return ``H(φ) v = L''(φ) v``, exactly: the four faces of every layer, once each.

        Pearlmutter (1994): the tangent, along v, of the gradient.
        """
        if self._twin is not None and phi.dtype == v.dtype == np.float32:
            return self._twin.hvp(phi, batch, v)
        return self._linearize(phi, batch).hvp(v)

    def linearize(self, phi: Array, batch: Batch) -> Linearization:
        """Return L(φ), L'(φ) and the map v ↦ H(φ) v, which may be asked for any number of products.

        A product, v ↦ H v of shape (n,), then costs the tangents alone: six products a layer, where `hvp`
        has eight in C and nine here.  The map holds `phi`, `batch` and the activations of this pass; they
        must not change meanwhile.  v has φ's dtype.
        """
        if self._twin is not None and phi.dtype == np.float32:
            return self._twin.linearize(phi, batch)
        return self._linearize(phi, batch)

    def optimizer_step(self, optimizer: Any, grad: Array, state: Any, phi: Array) -> tuple[Array, Any]:
        """Return what ``optimizer.update(grad, state, phi)`` does, in C where there is a twin for it."""
        done = None
        if self._twin is not None and phi.dtype == grad.dtype == np.float32:
            done = self._twin.optimizer_step(optimizer, grad, state, phi)
        return optimizer.update(grad, state, phi) if done is None else done

    def inner_loop(
        self, optimizer: Any, phi: Array, batches: Sequence[Batch], state: Any
    ) -> InnerLoop | None:
        """Run an inner loop in place, in the whole-network twin; None where there is none for it."""
        if self._twin is None or phi.dtype != np.float32:
            return None
        return self._twin.inner_loop(optimizer, phi, batches, state)

    def _linearize(self, phi: Array, batch: Batch) -> Linearization:
        """`linearize` by the layers."""
        self._check_batch(phi, batch)
        z, at = self._forward(phi, batch[0])
        back = list(self._backward(at, self.loss.adjoint(z, batch[1])))

        def hvp(v: Array) -> Array:
            if v.shape != phi.shape:
                raise UsageError(f"v has shape {v.shape}, phi {phi.shape}: they must be the same")
            dots: list[Any] = []
            z_dot: Array | None = None
            for layer, place, theta_dot in zip(self.layers, at, self._split(v), strict=True):
                z_dot, dot = layer.forward_dot(place, theta_dot, z_dot, self.ops)
                dots.append(dot)
            assert z_dot is not None
            y_bar_dot: Array | None = self.loss.adjoint_dot(z, z_dot, batch[1])
            grads_dot: list[Arrays] = []
            for i, (y_bar, _) in zip(reversed(range(len(self.layers))), back, strict=True):
                assert y_bar_dot is not None
                y_bar_dot, theta_bar_dot = self.layers[i].backward_dot(
                    at[i], dots[i], y_bar, y_bar_dot, self.ops, i > 0
                )
                grads_dot.append(theta_bar_dot)
            return _flat(grads_dot)

        return Linearization(self._reduced(z, batch), _flat([theta_bar for _, theta_bar in back]), hvp)

    @cached_property
    def _twin(self) -> Network | None:
        return self.ops.network(self)

    @cached_property
    def _names(self) -> list[dict[str, Shape]]:
        """Per layer, name → shape; layers that share a label are numbered from 1."""
        total = Counter(layer.label for layer in self.layers)
        seen: Counter[str] = Counter()
        names, size = [], self.input_shape
        for layer in self.layers:
            seen[layer.label] += 1
            label = f"{layer.label}{seen[layer.label]}" if total[layer.label] > 1 else layer.label
            names.append({f"{label}/{key}": shape for key, shape in layer.shapes(size).items()})
            size = layer.out_size(size)
        return names

    def _split(self, phi: Array) -> list[Arrays]:
        views = self.layout.views(phi)
        return [tuple(views[name] for name in names) for names in self._names]

    def _forward(self, phi: Array, x: Array) -> tuple[Array, list[Any]]:
        at = []
        for layer, theta in zip(self.layers, self._split(phi), strict=True):
            x, place = layer.forward(theta, x, self.ops)
            at.append(place)
        return x, at

    def _backward(self, at: list[Any], y_bar: Array | None) -> Iterator[tuple[Array, Arrays]]:
        """Yield (y_bar, θ_bar) of every layer, the last layer first."""
        for i in reversed(range(len(self.layers))):
            assert y_bar is not None
            x_bar, theta_bar = self.layers[i].backward(at[i], y_bar, self.ops, input_too=i > 0)
            yield y_bar, theta_bar
            y_bar = x_bar

    def _reduced(self, z: Array, batch: Batch) -> Any:
        return reduce(self.loss, self.loss.per_example(z, batch[1])).item()

    def _check_batch(self, phi: Array, batch: Batch) -> None:
        x, y = batch
        check_inputs(x, self.input_shape, phi.dtype)
        if isinstance(self.loss, SoftmaxCrossEntropy):
            check_labels(y, len(x), self.output_shape[0])
        else:
            check_targets(y, (len(x), *self.output_shape), phi.dtype)


def _flat(grads: list[Arrays]) -> Array:
    """Return φ_bar (n,) from the layers' θ_bar, last layer first."""
    return np.concatenate([piece.ravel() for theta_bar in reversed(grads) for piece in theta_bar])


def sine_mlp(hidden: tuple[int, ...] = (64, 64)) -> Model:
    """Return the sine wave network 1-64-64-1: tanh, mean squared error, as in the authors' demo.

    Its initial values are the demo's too, kernels and biases U(±1/√fan_in).  From Glorot kernels and
    zero biases every unit bends at x = 0 and training is several times slower.
    """
    layers: list[Layer] = []
    for units in hidden:
        layers += [Dense(units, "fan_in"), Tanh()]
    return Model((*layers, Dense(1, "fan_in")), (1,), SquaredError("mean"))


def omniglot_cnn(ways: int, filters: int = 64) -> Model:
    """Return the released Omniglot network on (28, 28, 1): 113,221 parameters at 5-way.

    4 × [conv 3×3 stride 2 SAME → batch norm → ReLU] → flatten 2·2·filters → dense.
    Differs from the paper's "same architecture as Finn et al.": no spatial mean, batch norm with γ.
    """
    layers: list[Layer] = []
    for _ in range(4):
        layers += [Conv2d(filters=filters, stride=2, centred=True), BatchNorm(), Relu()]
    return Model((*layers, Flatten(), Dense(ways)), (28, 28, 1), SoftmaxCrossEntropy("sum"))


def mini_imagenet_cnn(
    ways: int,
    filters: int = 32,
    order: Literal["conv-norm-pool", "conv-pool-norm"] = "conv-norm-pool",
) -> Model:
    """Return the released Mini-ImageNet network on (84, 84, 3): 34,661 parameters at 5-way.

    4 × [conv 3×3 SAME → batch norm → max-pool 2×2 SAME → ReLU] → flatten 6·6·filters → dense.
    Version 1 of the paper pooled before normalising: ``order="conv-pool-norm"``.
    """
    if order not in ("conv-norm-pool", "conv-pool-norm"):
        raise UsageError(f'order {order!r} is unknown; use "conv-norm-pool" or "conv-pool-norm"')
    middle: list[Layer] = [BatchNorm(), MaxPool()]
    if order == "conv-pool-norm":
        middle.reverse()
    block = [Conv2d(filters=filters, centred=True), *middle, Relu()]
    return Model((*block * 4, Flatten(), Dense(ways)), (84, 84, 3), SoftmaxCrossEntropy("sum"))
