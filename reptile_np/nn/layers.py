"""The layers with parameters: `Dense`, `Conv2d` and `BatchNorm`.

What a layer is, and what its four faces compute, is written in `reptile_np.nn.faces`; the layers without
parameters are in `reptile_np.nn.parameter_free`.

Verified by ``tests/nn/test_layers.py`` (complex step, adjoint identity).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np

from reptile_np.errors import UsageError, whole
from reptile_np.nn.faces import Adjoints, Arrays, Bilinear, Layer, Shape
from reptile_np.nn.ops import Array, Ops, Padding, resolve_padding

__all__ = [
    "Adjoints",
    "Arrays",
    "BatchNorm",
    "Bilinear",
    "Conv2d",
    "Dense",
    "Layer",
    "Shape",
    "Windowed",
    "check_image",
]


@dataclass(frozen=True)
class Dense(Bilinear):
    """Fully connected: x (b, i), kernel (i, units), bias (units,) → (b, units).

    `initializer` "glorot" is `Layer.init`; "normal" draws the kernel from N(0, 1), with the bias 0; "fan_in"
    draws kernel *and bias* from U(-r, r), ``r = 1 / √i``: the centres of the tanh units then lie at different
    inputs, not all at 0.  `UsageError` if `units` is not a whole number of at least 1, or there is no such
    initializer.
    """

    units: int
    initializer: Literal["glorot", "normal", "fan_in"] = "glorot"
    label: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        whole("Dense: units", self.units, 1)
        if self.initializer not in ("glorot", "normal", "fan_in"):
            raise UsageError(
                f'Dense: initializer is {self.initializer!r}; give "glorot", "normal" or "fan_in"'
            )

    def init(self, rng: np.random.Generator, size: Shape) -> Arrays:
        """Return kernel and bias."""
        if self.initializer == "glorot":
            return super().init(rng, size)
        if self.initializer == "normal":
            return rng.standard_normal((size[0], self.units)), np.zeros(self.units)
        r = 1 / math.sqrt(size[0])
        return tuple(rng.uniform(-r, r, shape) for shape in self.shapes(size).values())

    def shapes(self, size: Shape) -> dict[str, Shape]:
        """Kernel and bias."""
        return {"kernel": (size[0], self.units), "bias": (self.units,)}

    def out_size(self, size: Shape) -> Shape:
        """One number per unit."""
        if len(size) != 1:
            raise UsageError(
                f"Dense needs a vector for each example, not {size}: put Flatten() or SpatialMean() before "
                "it, after a convolution; as the first layer give it vectors"
            )
        return (self.units,)

    def product(self, x: Array, w: Array, ops: Ops) -> Array:
        """``x w``."""
        return ops.matmul(x, w)

    def input_adjoint(self, y_bar: Array, w: Array, x: Array, ops: Ops) -> Array:
        """``y_bar wᵀ``."""
        return ops.matmul_input(y_bar, w)

    def weight_adjoint(self, x: Array, y_bar: Array, ops: Ops) -> Array:
        """``xᵀ y_bar``."""
        return ops.matmul_weight(x, y_bar)


@dataclass(frozen=True, kw_only=True)
class Windowed(Layer):
    """The part common to convolution and pooling: windows of size × size at steps of `stride`.

    Raises
    ------
    UsageError
        If size or stride is no whole number of at least 1, or the padding is neither "SAME" nor "VALID" nor
        ((top, bottom), (left, right)) of whole numbers of at least 0.
    """

    size: int = 3
    stride: int = 1
    padding: Literal["SAME", "VALID"] | Padding = "SAME"

    def __post_init__(self) -> None:
        whole("a window: its size", self.size, 1)
        whole("a window: its stride", self.stride, 1)
        if not (self.padding in ("SAME", "VALID") if isinstance(self.padding, str) else _pairs(self.padding)):
            raise UsageError(
                f'padding is {self.padding!r}; give "SAME", "VALID" or ((top, bottom), (left, right))'
            )
        if not isinstance(self.padding, str) and min(min(axis) for axis in self.padding) < 0:
            raise UsageError(f"a window has the padding {self.padding}; give at least 0 on each side")

    def pad(self, rows: int, cols: int) -> Padding:
        """Return the explicit padding of an image of (rows, cols)."""
        return resolve_padding(self.padding, (rows, cols), (self.size, self.size), self.stride)

    def counts(self, rows: int, cols: int) -> tuple[int, int]:
        """Return the number of windows along rows and along columns."""
        (top, bottom), (left, right) = self.pad(rows, cols)
        return (
            (rows + top + bottom - self.size) // self.stride + 1,
            (cols + left + right - self.size) // self.stride + 1,
        )


def check_image(layer: Layer, size: Shape) -> None:
    """Raise `UsageError` unless a layer's input is an image (rows, cols, channels)."""
    if len(size) != 3:
        raise UsageError(f"{type(layer).__name__} needs an image (rows, cols, channels), not {size}")


def _pairs(padding: Any) -> bool:
    """Return whether a padding is a pair of pairs of whole numbers."""

    def pair(value: Any) -> bool:
        return isinstance(value, tuple | list) and len(value) == 2

    return pair(padding) and all(
        pair(axis) and all(isinstance(n, Integral) for n in axis) for axis in padding
    )


@dataclass(frozen=True, kw_only=True)
class Conv2d(Windowed, Bilinear):
    """Convolution: x (b, h, w, c), kernel (size, size, c, filters) HWIO, bias (filters,), y (b, …, filters).

    ``before_batch_norm=True`` states that a batch norm follows; it is not checked.  A batch norm subtracts
    each channel's mean, so the loss does not depend on the bias: the bias's gradient is exactly zero, and
    exactly zero is returned.  Differs from the released program, which gives Adam the rounding error of that
    gradient (Adam turns it into steps of about ± the learning rate); the function computed is the same.
    """

    filters: int
    before_batch_norm: bool = False
    label: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("Conv2d: filters", self.filters, 1)

    def shapes(self, size: Shape) -> dict[str, Shape]:
        """Kernel and bias."""
        check_image(self, size)
        return {"kernel": (self.size, self.size, size[2], self.filters), "bias": (self.filters,)}

    def out_size(self, size: Shape) -> Shape:
        """(rows, cols, filters)."""
        check_image(self, size)
        return (*self.counts(size[0], size[1]), self.filters)

    def product(self, x: Array, w: Array, ops: Ops) -> Array:
        """Convolve."""
        return ops.conv2d(x, w, self.stride, self.pad(*x.shape[1:3]))

    def input_adjoint(self, y_bar: Array, w: Array, x: Array, ops: Ops) -> Array:
        """Add each output's adjoint, times the kernel, to the inputs that the output depends on."""
        rows, cols = x.shape[1:3]
        return ops.conv2d_input(y_bar, w, self.stride, self.pad(rows, cols), (rows, cols))

    def weight_adjoint(self, x: Array, y_bar: Array, ops: Ops) -> Array:
        """Correlate the inputs with the adjoints of the outputs."""
        return ops.conv2d_weight(x, y_bar, self.stride, self.pad(*x.shape[1:3]), (self.size, self.size))

    def bias_adjoint(self, y_bar: Array) -> Array:
        """Exactly zero before a batch norm."""
        return np.zeros(self.filters, y_bar.dtype) if self.before_batch_norm else super().bias_adjoint(y_bar)


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Normalise each channel by the statistics of the current batch, always; there are no running ones.

    x is (b, c) or (b, h, w, c), and y has the same shape.  Over the p positions (batch, and rows and columns
    where there are any) of a channel::

        x̂ = (x - mean) r,    r = 1 / √(mean((x - mean)²) + epsilon),    y = γ x̂ + β

    With epsilon = 0 a channel that is constant in the batch gives NaN, or ±γ + β if its mean was rounded.  γ
    and β (c,) adapt like every other parameter.  With ``scale=False`` there is no γ: it is 1, a constant.

    Raises
    ------
    UsageError
        If epsilon is negative or not a number.
    """

    epsilon: float = 1e-3
    scale: bool = True
    label: ClassVar[str] = "norm"

    def __post_init__(self) -> None:
        epsilon: Any = self.epsilon
        if not isinstance(epsilon, Real) or not float(epsilon) >= 0:
            raise UsageError(f"BatchNorm: epsilon is {self.epsilon}; give a number of at least 0")
        object.__setattr__(self, "epsilon", float(self.epsilon))  # a numpy.float64 would widen float32

    def shapes(self, size: Shape) -> dict[str, Shape]:
        """γ (if there is one) and β, an entry per channel."""
        channels = (size[-1],)
        return {"gamma": channels, "beta": channels} if self.scale else {"beta": channels}

    def forward(self, theta: Arrays, x: Array, ops: Ops) -> tuple[Array, Any]:
        """``y = (γ r) c + β`` with the centred ``c = x - mean``: x̂ itself is not computed."""
        gamma, beta = self._gamma_beta(theta, 1)
        rows = x.reshape(-1, x.shape[-1])
        centred = rows - _mean(rows)
        r = 1 / np.sqrt(_mean_product(centred, centred) + self.epsilon)
        y = centred * (gamma * r)
        y += beta
        return y.reshape(x.shape), (gamma, centred, r)

    def _gamma_beta(self, theta: Arrays, constant: int) -> tuple[Any, Array]:
        """Return the two parts of θ or of its tangent; a γ that is not there is a constant, its tangent 0."""
        return (theta[0], theta[1]) if self.scale else (constant, theta[0])

    def _own(self, gamma_bar: Array, beta_bar: Array) -> Arrays:
        """Return the adjoints of the parameters that there are."""
        return (gamma_bar, beta_bar) if self.scale else (beta_bar,)

    def backward(self, saved: Any, y_bar: Array, ops: Ops, want_x_bar: bool = True) -> Adjoints:
        """``x_bar = γ r (y_bar - mean(y_bar) - x̂ mean(x̂ y_bar))``."""
        gamma, centred, r = saved
        rows = y_bar.reshape(centred.shape)
        mean, slope = _mean(rows), _mean_product(centred, rows) * r
        x_bar = centred * (-r * slope)
        x_bar += rows
        x_bar -= mean
        x_bar *= gamma * r
        return x_bar.reshape(y_bar.shape), self._own(slope * len(rows), mean * len(rows))

    def forward_dot(self, saved: Any, theta_dot: Arrays, x_dot: Array | None, ops: Ops) -> tuple[Array, Any]:
        """``x̂_dot = r (x_dot - mean(x_dot) - x̂ mean(x̂ x_dot))`` and ``r_dot = -r² mean(x̂ x_dot)``."""
        gamma, centred, r = saved
        gamma_dot, beta_dot = self._gamma_beta(theta_dot, 0)
        assert x_dot is not None, "a network starts with a dense or a convolution layer"
        xhat, rows = centred * r, x_dot.reshape(centred.shape)
        slope = _mean_product(xhat, rows)
        xhat_dot = (rows - _mean(rows) - xhat * slope) * r
        r_dot = -(r**2) * slope
        y_dot = gamma * xhat_dot + gamma_dot * xhat + beta_dot
        return y_dot.reshape(x_dot.shape), (gamma_dot, xhat_dot, r_dot)

    def backward_dot(
        self, saved: Any, dot: Any, y_bar: Array, y_bar_dot: Array, ops: Ops, want_x_bar: bool = True
    ) -> Adjoints:
        """Differentiate ``x_bar = (γ r) z`` with ``z = y_bar - mean(y_bar) - x̂ mean(x̂ y_bar)``."""
        (gamma, centred, r), (gamma_dot, xhat_dot, r_dot) = saved, dot
        x_bar_dot, bars_dot = self.backward(saved, y_bar_dot, ops)
        xhat, rows = centred * r, y_bar.reshape(centred.shape)
        slope, slope_dot = _mean_product(xhat, rows), _mean_product(xhat_dot, rows)
        z = rows - _mean(rows) - xhat * slope
        # second-order terms: x̂ and γ r vary, y_bar is constant
        z_dot = -(xhat_dot * slope + xhat * slope_dot)
        second = (gamma_dot * r + gamma * r_dot) * z + (gamma * r) * z_dot
        if self.scale:
            gamma_bar_dot, beta_bar_dot = bars_dot
            bars_dot = gamma_bar_dot + slope_dot * len(rows), beta_bar_dot
        return x_bar_dot + second.reshape(y_bar.shape), bars_dot


def _mean(rows: Array) -> Array:
    """Return the mean over the positions of (p, c).

    NumPy adds the positions one after another (a single channel's by pairwise summation); the sum is
    multiplied by 1/p.
    This is the released program's order of operations, so float32 runs round as that program does.
    """
    return rows.sum(0) * (1 / len(rows))


def _mean_product(a: Array, b: Array) -> Array:
    """Return the mean over the positions of a·b, both (p, c)."""
    return _mean(a * b)
