"""A network as a function of one flat vector φ: its prediction, loss, gradient and Hessian product.

Verified by ``tests/nn/test_models.py`` (complex step at 1e-12, symmetry) and, against vectors recorded
from the authors' program, by ``tests/test_golden.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from reptile_np.errors import UsageError, check_generator, whole
from reptile_np.meta.inner_loop import (
    Batch,
    Keep,
    Linearization,
    Optimizer,
    RunsInnerLoops,
    Trajectory,
    plain_loop,
)
from reptile_np.nn.faces import Arrays, Bilinear, Layer, Shape
from reptile_np.nn.layout import Layout
from reptile_np.nn.losses import Loss, SoftmaxCrossEntropy, check_reduction, reduce
from reptile_np.nn.ops import NUMPY, Array, Ops
from reptile_np.nn.validation import (
    HALF,
    checked_dtype,
    checked_inputs,
    checked_labels,
    checked_pair,
    checked_targets,
)

__all__ = ["Model"]


@dataclass(frozen=True)
class Model(RunsInnerLoops):
    """A stack of layers and a loss; a pure function of φ (n,).

    Shapes: φ, its gradient, v and H v are (n,); a batch is (x, y) with x (b, *input_shape) and y (b,)
    integer labels or (b, o) targets.  Logits and gradients have φ's dtype, the loss is a number of Python or
    NumPy.  The first layer is dense or a convolution.

    A `Model` computes layer by layer, with the maps of `ops`.  ``model.with_ops(native.load())`` computes two
    kinds of networks whole, in C, at φ of dtype float32 (other dtypes always use the layers):

    * blocks of convolution (``before_batch_norm=True``), batch norm, optional max-pool and ReLU, then
      `Flatten` or `SpatialMean` and `Dense`, with softmax cross-entropy (how fast: ``benchmarks/speed.md``);
    * dense layers with tanh between them, with the squared error.

    Of any other network only the convolutions are computed in C, layer by layer: three networks without batch
    norm were 1.5 to 2.8 times as fast as with NumPy; a dense network with cross-entropy gains nothing.  The
    property `kernels` says in one line what runs in C, or why it does not.

    A subclass may override `loss_and_grad` and `hvp`, for example to add weight decay: inner loops then call
    these, step by step.  With ``keep="hessians"`` they call `linearize`, if that is overridden too.  A loss
    of your own has targets (b, o); for labels, make it a subclass of `SoftmaxCrossEntropy`.

    Raises
    ------
    UsageError
        If `layers` are no layers or the first is neither dense nor a convolution, `input_shape` is no tuple
        of whole numbers above 0, `loss` is no loss or has no `reduction`, or `ops` no table.  In calls, if φ
        is float16, or a batch does not fit: no pair, wrong shape, integer pixels, wider floats than φ's,
        labels out of range.
    """

    layers: tuple[Layer, ...]
    input_shape: Shape
    loss: Loss
    ops: Ops = NUMPY

    def __post_init__(self) -> None:
        if not isinstance(self.layers, Sequence):
            raise UsageError(f"Model: layers is a {type(self.layers).__name__}; give a tuple of layers")
        object.__setattr__(self, "layers", tuple(self.layers))
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise UsageError(f"Model: {layer!r} is no layer; give one, such as Relu()")
        if not self.layers or not isinstance(self.layers[0], Bilinear):
            raise UsageError("a Model's first layer must be Dense or Conv2d")
        if np.ndim(self.input_shape) != 1:
            raise UsageError(f"Model: input_shape is {self.input_shape!r}; give a tuple, such as (28, 28, 1)")
        if isinstance(self.loss, type) or not isinstance(self.loss, Loss):
            raise UsageError(f'Model: the loss is {self.loss!r}; give one, such as SquaredError("mean")')
        check_reduction(self.loss)
        if not isinstance(self.ops, Ops):
            raise UsageError(f"Model: ops is {self.ops!r}; give a table of kernels, such as NUMPY")
        sides = (whole("Model: a side of input_shape", side, 1) for side in self.input_shape)
        object.__setattr__(self, "input_shape", tuple(sides))

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
        """Return the same function computed by another table of kernels; `UsageError` if `ops` is none."""
        if not isinstance(ops, Ops):
            raise UsageError(
                f'with_ops({ops!r}): give a table of kernels, such as native.load("avx2") or NUMPY'
            )
        return ops.specialize(replace(self, ops=ops))

    @property
    def kernels(self) -> str:
        """One line: which parts of this model C computes, and if not the whole, why."""
        return self.ops.describe(self)

    def init(self, rng: np.random.Generator, dtype: Any = np.float32) -> Array:
        """Return an initial φ (n,): each layer's `init`, in the order of `layout`.

        Raises
        ------
        UsageError
            If `rng` is no generator, or `dtype` is no dtype, cannot hold fractions, or is float16.
        """
        check_generator(rng)
        dtype = checked_dtype("init", dtype)
        if dtype == HALF:
            raise UsageError("init: float16 is too narrow for the sums of a network; use float32")
        sizes = [self.input_shape]
        for layer in self.layers:
            sizes.append(layer.out_size(sizes[-1]))
        values = [layer.init(rng, size) for layer, size in zip(self.layers, sizes, strict=False)]
        return np.concatenate([piece.ravel() for pieces in values for piece in pieces]).astype(dtype)

    def predict(self, phi: Array, x: Array) -> Array:
        """Return the outputs (b, o), in φ's dtype, for the inputs x (b, *input_shape).

        Batch norm uses the statistics of this batch.
        """
        phi = np.asarray(phi)
        return self._forward(phi, checked_inputs(x, self.input_shape, phi.dtype))[0]

    def loss_and_grad(self, phi: Array, batch: Batch) -> tuple[float, Array]:
        """Return L(φ) and L'(φ) on one minibatch, reduced over it as `loss` says."""
        phi, x, y = self._checked(phi, batch)
        z, saved = self._forward(phi, x)
        grads = [theta_bar for _, theta_bar in self._backward(saved, self.loss.adjoint(z, y))]
        return self._reduced(z, y), _flat(grads)

    def hvp(self, phi: Array, batch: Batch, v: Array) -> Array:
        """Return ``H(φ) v = L''(φ) v``, exactly: the four faces of every layer, once each.

        Pearlmutter (1994): the tangent, along v, of the gradient.  The result is (n,), in the dtype of φ + v.

        Raises
        ------
        UsageError
            If v has not φ's shape, or the batch does not fit.
        """
        return Model.linearize(self, phi, batch).hvp(v)

    def adapt(
        self, optimizer: Optimizer, phi: Array, batches: Sequence[Batch], state: Any, keep: Keep
    ) -> Trajectory | None:
        """Run the inner loop and keep each step's residuals.

        Return None if `keep` is not "hessians", or a subclass overrides `loss_and_grad` or `hvp`, but not
        `linearize`.
        """
        own = type(self)
        overridden = own.loss_and_grad is not Model.loss_and_grad or own.hvp is not Model.hvp
        if keep != "hessians" or (overridden and own.linearize is Model.linearize):
            return None
        steps = _Linearized(self)
        trajectory = plain_loop(steps, optimizer, phi, batches, state, "all")
        return replace(trajectory, hessians=tuple(steps.hessians))

    def linearize(self, phi: Array, batch: Batch) -> Linearization:
        """Return L(φ), L'(φ) and the map v ↦ H(φ) v, which can be applied any number of times.

        Each H v (n,) then costs only the tangents: six matrix products or convolutions for each layer but the
        first.  `hvp` needs eight in C and nine here.  The map refers to `phi`, `batch` and the residuals of
        this pass, which must not be changed while it is used.  Shapes, dtypes and errors are `hvp`'s.
        """
        phi, x, y = self._checked(phi, batch)
        z, saved = self._forward(phi, x)
        back = list(self._backward(saved, self.loss.adjoint(z, y)))

        def hvp(v: Array) -> Array:
            v = np.asarray(v)
            if v.shape != phi.shape:
                raise UsageError(f"v has shape {v.shape}, phi {phi.shape}: they must be the same")
            v = v.astype(np.result_type(v, phi), copy=False)  # else a float32 v would lower the precision
            dots: list[Any] = []
            z_dot: Array | None = None
            for layer, own, theta_dot in zip(self.layers, saved, self._split(v), strict=True):
                z_dot, dot = layer.forward_dot(own, theta_dot, z_dot, self.ops)
                dots.append(dot)
            assert z_dot is not None
            y_bar_dot: Array | None = self.loss.adjoint_dot(z, z_dot, y)
            grads_dot: list[Arrays] = []
            for i, (y_bar, _) in zip(reversed(range(len(self.layers))), back, strict=True):
                assert y_bar_dot is not None
                y_bar_dot, theta_bar_dot = self.layers[i].backward_dot(
                    saved[i], dots[i], y_bar, y_bar_dot, self.ops, i > 0
                )
                grads_dot.append(theta_bar_dot)
            return _flat(grads_dot)

        return Linearization(self._reduced(z, y), _flat([theta_bar for _, theta_bar in back]), hvp)

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
        """Return the outputs, and what each layer saved."""
        saved = []
        for layer, theta in zip(self.layers, self._split(phi), strict=True):
            x, own = layer.forward(theta, x, self.ops)
            saved.append(own)
        return x, saved

    def _backward(self, saved: list[Any], y_bar: Array | None) -> Iterator[tuple[Array, Arrays]]:
        """Yield (y_bar, θ_bar) of every layer, the last layer first."""
        for i in reversed(range(len(self.layers))):
            assert y_bar is not None
            x_bar, theta_bar = self.layers[i].backward(saved[i], y_bar, self.ops, want_x_bar=i > 0)
            yield y_bar, theta_bar
            y_bar = x_bar

    def _reduced(self, z: Array, y: Array) -> Any:
        return reduce(self.loss, self.loss.per_example(z, y)).item()

    def _checked(self, phi: Array, batch: Batch) -> tuple[Array, Array, Array]:
        """Return φ, x and y as plain arrays."""
        phi = np.asarray(phi)
        x, y = checked_pair(batch)
        x = checked_inputs(x, self.input_shape, phi.dtype)
        if isinstance(self.loss, SoftmaxCrossEntropy):
            if len(self.output_shape) != 1:
                raise UsageError(
                    f"cross-entropy needs a vector of outputs for each example, not {self.output_shape}; end "
                    "the layers with Flatten() and Dense(ways)"
                )
            return phi, x, checked_labels(y, len(x), self.output_shape[0])
        return phi, x, checked_targets(y, (len(x), *self.output_shape), phi.dtype)


class _Linearized:
    """A model for `plain_loop` that also collects the Hessian of every minibatch it is given."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.hessians: list[Any] = []

    def loss_and_grad(self, phi: Array, batch: Batch) -> tuple[float, Array]:
        """Return the loss and its gradient (n,)."""
        loss, grad, hvp = self.model.linearize(phi, batch)
        self.hessians.append(hvp)
        return loss, grad


def _flat(grads: list[Arrays]) -> Array:
    """Return φ_bar (n,) from the layers' θ_bar, last layer first."""
    return np.concatenate([piece.ravel() for theta_bar in reversed(grads) for piece in theta_bar])
