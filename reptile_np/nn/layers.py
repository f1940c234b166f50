"""Layers with four hand-written faces.

A layer is a function ``y = f(θ, x)`` of its own parameters θ and its input x.  Write a dot for a
tangent (derivative along a direction) and a bar for an adjoint (gradient of the loss):

    forward        y                             the value
    backward       (x_bar, θ_bar)                vjp: adjoints of x and θ from the adjoint of y
    forward_dot    y_dot                         jvp: tangent of y from the tangents of θ and x
    backward_dot   (x_bar_dot, θ_bar_dot)        jvp of the vjp: the tangents of those adjoints

`backward` is linear in y_bar, so ``backward_dot`` is always *backward of y_bar_dot* plus the
**explicit second-order term**, in which y_bar stands still while θ and x move.  Each layer shows
that term on lines of its own.  Composed over a network the four faces give the exact product
H(φ) v of the loss's Hessian with a vector (`reptile_np.nn.models.Model.hvp`).

Conventions.  x is (b, …), the batch first; θ, θ_dot and θ_bar are tuples in the order of `shapes`.
`forward` also returns ``at`` (where the layer stands: θ and whatever else the later faces read) and
`forward_dot` returns ``dot`` (how that moves).  At the first layer of a network the input neither
moves (``x_dot is None``) nor wants an adjoint (``input_too=False``).  No dtype is named: float32
trains, float64 verifies, complex128 gives complex-step derivatives; hence comparisons look at real
parts and nothing is conjugated.  Kinks: relu'(0) = 0, and the first maximum wins.

The layers without parameters are in `reptile_np.nn.parameter_free`.

Verified by ``tests/nn/test_layers.py`` (complex step, adjoint identity, symmetry).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from reptile_np.nn.ops import Array, Ops, Padding, resolve_padding

Shape: TypeAlias = tuple[int, ...]
Arrays: TypeAlias = tuple[Array, ...]
Adjoints: TypeAlias = tuple[Array | None, Arrays]
"""(x_bar, θ_bar) or their tangents."""


class Layer(ABC):
    """The contract of the four faces; `label` names the layer's parameters in a `Layout`."""

    label: ClassVar[str] = ""

    def shapes(self, size: Shape) -> dict[str, Shape]:
        """Return parameter name → shape for an input of shape (b, *size), in the order of φ."""
        return {}

    def init(self, rng: np.random.Generator, size: Shape) -> Arrays:
        """Return starting values of the parameters: γ = 1, bias = β = 0, kernels Glorot uniform.

        Glorot: U(-r, r), ``r = √(6 / (fan_in + fan_out))``, both fans counting the kernel's taps.
        """
        values = []
        for name, shape in self.shapes(size).items():
            if name == "kernel":
                r = math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
                values.append(rng.uniform(-r, r, shape))
            else:
                values.append(np.ones(shape) if name == "gamma" else np.zeros(shape))
        return tuple(values)

    def out_size(self, size: Shape) -> Shape:
        """Return the output's shape without its batch axis."""
        return size

    @abstractmethod
    def forward(self, theta: Arrays, x: Array, ops: Ops) -> tuple[Array, Any]:
        """Return (y, at)."""

    @abstractmethod
    def backward(self, at: Any, y_bar: Array, ops: Ops, input_too: bool = True) -> Adjoints:
        """Return (x_bar, θ_bar)."""

    @abstractmethod
    def forward_dot(self, at: Any, theta_dot: Arrays, x_dot: Array | None, ops: Ops) -> tuple[Array, Any]:
        """Return (y_dot, dot)."""

    @abstractmethod
    def backward_dot(
        self, at: Any, dot: Any, y_bar: Array, y_bar_dot: Array, ops: Ops, input_too: bool = True
    ) -> Adjoints:
        """Return (x_bar_dot, θ_bar_dot)."""


class Bilinear(Layer):
    """``y = x ∗ w + bias`` for a product ∗ linear in x and in w; its three maps make the four faces."""

    @abstractmethod
    def product(self, x: Array, w: Array, ops: Ops) -> Array:
        """Return x ∗ w."""

    @abstractmethod
    def input_adjoint(self, y_bar: Array, w: Array, x: Array, ops: Ops) -> Array:
        """Return x_bar with <y_bar, x ∗ w> = <x_bar, x>; only the shape of x is read."""

    @abstractmethod
    def weight_adjoint(self, x: Array, y_bar: Array, ops: Ops) -> Array:
        """Return w_bar with <y_bar, x ∗ w> = <w_bar, w>."""

    def bias_adjoint(self, y_bar: Array) -> Array:
        """Return Σ y_bar over everything but the channels."""
        return y_bar.reshape(-1, y_bar.shape[-1]).sum(0)

    def forward(self, theta: Arrays, x: Array, ops: Ops) -> tuple[Array, Any]:
        """``y = x ∗ w + bias``."""
        w, bias = theta
        y = self.product(x, w, ops)
        y += bias
        return y, (w, x)

    def backward(self, at: Any, y_bar: Array, ops: Ops, input_too: bool = True) -> Adjoints:
        """Apply the two adjoints of ∗."""
        w, x = at
        x_bar = self.input_adjoint(y_bar, w, x, ops) if input_too else None
        return x_bar, (self.weight_adjoint(x, y_bar, ops), self.bias_adjoint(y_bar))

    def forward_dot(self, at: Any, theta_dot: Arrays, x_dot: Array | None, ops: Ops) -> tuple[Array, Any]:
        """``y_dot = x ∗ w_dot + x_dot ∗ w + bias_dot``."""
        (w, x), (w_dot, bias_dot) = at, theta_dot
        y_dot = self.product(x, w_dot, ops)
        if x_dot is not None:
            y_dot += self.product(x_dot, w, ops)
        y_dot += bias_dot
        return y_dot, (w_dot, x_dot)

    def backward_dot(
        self, at: Any, dot: Any, y_bar: Array, y_bar_dot: Array, ops: Ops, input_too: bool = True
    ) -> Adjoints:
        """Add to the vjp of y_bar_dot: x_bar moves with w, and w_bar moves with x."""
        (_, x), (w_dot, x_dot) = at, dot
        x_bar_dot, (w_bar_dot, bias_bar_dot) = self.backward(at, y_bar_dot, ops, input_too)
        if x_bar_dot is not None:
            x_bar_dot = x_bar_dot + self.input_adjoint(y_bar, w_dot, x, ops)  # second-order term
        if x_dot is not None:
            w_bar_dot = w_bar_dot + self.weight_adjoint(x_dot, y_bar, ops)  # second-order term
        return x_bar_dot, (w_bar_dot, bias_bar_dot)


@dataclass(frozen=True)
class Dense(Bilinear):
    """Fully connected: x (b, i), kernel (i, units), bias (units,) → (b, units).

    `initializer` "glorot" is `Layer.init`; "fan_in" draws kernel *and bias* from U(-r, r),
    ``r = 1 / √i``: tanh units then bend at different places of the input, not all at 0.
    """

    units: int
    initializer: Literal["glorot", "fan_in"] = "glorot"
    label: ClassVar[str] = "dense"

    def init(self, rng: np.random.Generator, size: Shape) -> Arrays:
        """Return kernel and bias."""
        if self.initializer == "glorot":
            return super().init(rng, size)
        r = 1 / math.sqrt(size[0])
        return tuple(rng.uniform(-r, r, shape) for shape in self.shapes(size).values())

    def shapes(self, size: Shape) -> dict[str, Shape]:
        """Kernel and bias."""
        return {"kernel": (size[0], self.units), "bias": (self.units,)}

    def out_size(self, size: Shape) -> Shape:
        """One number per unit."""
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
    """What a convolution and a pooling share: windows of size × size that move by `stride`."""

    size: int = 3
    stride: int = 1
    padding: Literal["SAME", "VALID"] | Padding = "SAME"

    def pad(self, rows: int, cols: int) -> Padding:
        """Return the explicit padding of an image of (rows, cols)."""
        return resolve_padding(self.padding, (rows, cols), (self.size, self.size), self.stride)

    def counts(self, rows: int, cols: int) -> tuple[int, int]:
        """Return how many windows there are along rows and columns."""
        (top, bottom), (left, right) = self.pad(rows, cols)
        return (
            (rows + top + bottom - self.size) // self.stride + 1,
            (cols + left + right - self.size) // self.stride + 1,
        )


@dataclass(frozen=True, kw_only=True)
class Conv2d(Windowed, Bilinear):
    """Convolution: x (b, h, w, c), kernel (size, size, c, filters) HWIO, bias (filters,).

    `centred` says that a batch norm follows.  It subtracts each channel's mean, so the loss does not
    depend on the bias: its gradient is exactly zero, and is returned as such.  Differs from the
    released program, which feeds Adam the rounding noise found there (Adam makes steps of about ± the
    learning rate of it); the function computed is the same.
    """

    filters: int
    centred: bool = False
    label: ClassVar[str] = "conv"

    def shapes(self, size: Shape) -> dict[str, Shape]:
        """Kernel and bias."""
        return {"kernel": (self.size, self.size, size[2], self.filters), "bias": (self.filters,)}

    def out_size(self, size: Shape) -> Shape:
        """(rows, cols, filters)."""
        return (*self.counts(size[0], size[1]), self.filters)

    def product(self, x: Array, w: Array, ops: Ops) -> Array:
        """Convolve."""
        return ops.conv2d(x, w, self.stride, self.pad(*x.shape[1:3]))

    def input_adjoint(self, y_bar: Array, w: Array, x: Array, ops: Ops) -> Array:
        """Spread each output's adjoint over the inputs it read."""
        rows, cols = x.shape[1:3]
        return ops.conv2d_input(y_bar, w, self.stride, self.pad(rows, cols), (rows, cols))

    def weight_adjoint(self, x: Array, y_bar: Array, ops: Ops) -> Array:
        """Correlate what was read with the adjoint of what it made."""
        return ops.conv2d_weight(x, y_bar, self.stride, self.pad(*x.shape[1:3]), (self.size, self.size))

    def bias_adjoint(self, y_bar: Array) -> Array:
        """Exactly zero before a batch norm."""
        return np.zeros(self.filters, y_bar.dtype) if self.centred else super().bias_adjoint(y_bar)


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Normalise each channel by the statistics of the current batch, always; there are no running ones.

    Over the p positions (batch, and rows and columns where there are any) of a channel::

        x̂ = (x - mean) r,    r = 1 / √(mean((x - mean)²) + epsilon),    y = γ x̂ + β

    γ and β (c,) adapt like every other parameter.
    """

    epsilon: float = 1e-3
    label: ClassVar[str] = "norm"

    def shapes(self, size: Shape) -> dict[str, Shape]:
        """γ and β, an entry per channel."""
        return {"gamma": (size[-1],), "beta": (size[-1],)}

    def forward(self, theta: Arrays, x: Array, ops: Ops) -> tuple[Array, Any]:
        """``y = (γ r) c + β`` with the centred ``c = x - mean``: x̂ itself is never written down."""
        gamma, beta = theta
        rows = x.reshape(-1, x.shape[-1])
        centred = rows - _mean(rows)
        r = 1 / np.sqrt(_mean_product(centred, centred) + self.epsilon)
        y = centred * (gamma * r)
        y += beta
        return y.reshape(x.shape), (gamma, centred, r)

    def backward(self, at: Any, y_bar: Array, ops: Ops, input_too: bool = True) -> Adjoints:
        """``x_bar = γ r (y_bar - mean(y_bar) - x̂ mean(x̂ y_bar))``."""
        gamma, centred, r = at
        rows = y_bar.reshape(centred.shape)
        mean, slope = _mean(rows), _mean_product(centred, rows) * r
        x_bar = centred * (-r * slope)
        x_bar += rows
        x_bar -= mean
        x_bar *= gamma * r
        return x_bar.reshape(y_bar.shape), (slope * len(rows), mean * len(rows))

    def forward_dot(self, at: Any, theta_dot: Arrays, x_dot: Array | None, ops: Ops) -> tuple[Array, Any]:
        """``x̂_dot = r (x_dot - mean(x_dot) - x̂ mean(x̂ x_dot))`` and ``r_dot = -r² mean(x̂ x_dot)``."""
        (gamma, centred, r), (gamma_dot, beta_dot) = at, theta_dot
        assert x_dot is not None, "a network starts with a dense or a convolution layer"
        xhat, rows = centred * r, x_dot.reshape(centred.shape)
        slope = _mean_product(xhat, rows)
        xhat_dot = (rows - _mean(rows) - xhat * slope) * r
        r_dot = -(r**2) * slope
        y_dot = gamma * xhat_dot + gamma_dot * xhat + beta_dot
        return y_dot.reshape(x_dot.shape), (gamma_dot, xhat_dot, r_dot)

    def backward_dot(
        self, at: Any, dot: Any, y_bar: Array, y_bar_dot: Array, ops: Ops, input_too: bool = True
    ) -> Adjoints:
        """Differentiate ``x_bar = (γ r) z`` with ``z = y_bar - mean(y_bar) - x̂ mean(x̂ y_bar)``."""
        (gamma, centred, r), (gamma_dot, xhat_dot, r_dot) = at, dot
        x_bar_dot, (gamma_bar_dot, beta_bar_dot) = self.backward(at, y_bar_dot, ops)
        xhat, rows = centred * r, y_bar.reshape(centred.shape)
        slope, slope_dot = _mean_product(xhat, rows), _mean_product(xhat_dot, rows)
        z = rows - _mean(rows) - xhat * slope
        # second-order terms: x̂ and γ r move, y_bar stands still
        z_dot = -(xhat_dot * slope + xhat * slope_dot)
        second = (gamma_dot * r + gamma * r_dot) * z + (gamma * r) * z_dot
        gamma_bar_dot = gamma_bar_dot + slope_dot * len(rows)
        return x_bar_dot + second.reshape(y_bar.shape), (gamma_bar_dot, beta_bar_dot)


def _mean(rows: Array) -> Array:
    """Return the mean over the positions of (p, c).

    The sum runs over the positions one after another and is multiplied by 1/p: the released program's
    order of operations, so that float32 runs round as it does.
    """
    return rows.sum(0) * (1 / len(rows))


def _mean_product(a: Array, b: Array) -> Array:
    """Return the mean over the positions of a·b, both (p, c)."""
    return _mean(a * b)
