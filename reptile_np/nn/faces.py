"""The four hand-written faces of a layer, and the layers whose heavy part is a bilinear product.

A layer is a function ``y = f(θ, x)`` of its own parameters θ and its input x.  Write a dot for a
tangent (derivative along a direction) and a bar for an adjoint (gradient of the loss):

    forward        y                             the value
    backward       (x_bar, θ_bar)                VJP: adjoints of x and θ from the adjoint of y
    forward_dot    y_dot                         JVP: tangent of y from the tangents of θ and x
    backward_dot   (x_bar_dot, θ_bar_dot)        JVP of the VJP: the tangents of those adjoints

`backward` is linear in y_bar, so ``backward_dot`` is always *backward of y_bar_dot* plus the
**explicit second-order term**, in which y_bar is constant while θ and x vary.  In each layer that
term has lines of its own.  Composed over a network the four faces give the exact product
H(φ) v of the loss's Hessian with a vector (`reptile_np.nn.models.Model.hvp`).

Conventions.  x is (b, …), the batch first; θ, θ_dot and θ_bar are tuples in the order of `shapes`.
`forward` also returns ``saved`` (θ and every intermediate result that the other faces read) and
`forward_dot` also returns ``dot`` (the tangents that `backward_dot` reads).  At the first layer of a
network the input is constant (``x_dot is None``) and its adjoint is not computed
(``want_x_bar=False``).  A layer computes in the dtype of θ and x: float32 for training, float64 for
verification, complex128 for complex-step derivatives.  So comparisons use real parts, and nothing is
conjugated.
At the kinks: relu'(0) = 0, and of equal maxima the first counts.

The layers are in `reptile_np.nn.layers` (with parameters) and `reptile_np.nn.parameter_free`.

Verified by ``tests/nn/test_layers.py`` (complex step, adjoint identity).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeAlias

import numpy as np

from reptile_np.nn.ops import Array, Ops

__all__ = ["Adjoints", "Arrays", "Bilinear", "Layer", "Shape"]

Shape: TypeAlias = tuple[int, ...]
Arrays: TypeAlias = tuple[Array, ...]
Adjoints: TypeAlias = tuple[Array | None, Arrays]
"""(x_bar, θ_bar) or their tangents."""


class Layer(ABC):
    """The interface of the four faces; `label` names the layer's parameters in a `Layout`."""

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
        """Return (y, saved)."""

    @abstractmethod
    def backward(self, saved: Any, y_bar: Array, ops: Ops, want_x_bar: bool = True) -> Adjoints:
        """Return (x_bar, θ_bar)."""

    @abstractmethod
    def forward_dot(self, saved: Any, theta_dot: Arrays, x_dot: Array | None, ops: Ops) -> tuple[Array, Any]:
        """Return (y_dot, dot)."""

    @abstractmethod
    def backward_dot(
        self, saved: Any, dot: Any, y_bar: Array, y_bar_dot: Array, ops: Ops, want_x_bar: bool = True
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

    def backward(self, saved: Any, y_bar: Array, ops: Ops, want_x_bar: bool = True) -> Adjoints:
        """Apply the input adjoint and the weight adjoint of ∗."""
        w, x = saved
        x_bar = self.input_adjoint(y_bar, w, x, ops) if want_x_bar else None
        return x_bar, (self.weight_adjoint(x, y_bar, ops), self.bias_adjoint(y_bar))

    def forward_dot(self, saved: Any, theta_dot: Arrays, x_dot: Array | None, ops: Ops) -> tuple[Array, Any]:
        """``y_dot = x ∗ w_dot + x_dot ∗ w + bias_dot``."""
        (w, x), (w_dot, bias_dot) = saved, theta_dot
        y_dot = self.product(x, w_dot, ops)
        if x_dot is not None:
            y_dot += self.product(x_dot, w, ops)
        y_dot += bias_dot
        return y_dot, (w_dot, x_dot)

    def backward_dot(
        self, saved: Any, dot: Any, y_bar: Array, y_bar_dot: Array, ops: Ops, want_x_bar: bool = True
    ) -> Adjoints:
        """Add the second-order terms to the vjp of y_bar_dot: x_bar depends on w, and w_bar on x."""
        (_, x), (w_dot, x_dot) = saved, dot
        x_bar_dot, (w_bar_dot, bias_bar_dot) = self.backward(saved, y_bar_dot, ops, want_x_bar)
        if x_bar_dot is not None:
            x_bar_dot = x_bar_dot + self.input_adjoint(y_bar, w_dot, x, ops)  # second-order term
        if x_dot is not None:
            w_bar_dot = w_bar_dot + self.weight_adjoint(x_dot, y_bar, ops)  # second-order term
        return x_bar_dot, (w_bar_dot, bias_bar_dot)
