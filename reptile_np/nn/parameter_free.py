"""Layers without parameters: shape changes, means, maxima, and the nonlinearities.

`Flatten`, `SpatialMean`, `MaxPool` and `Relu` are *locally linear*: near any x that is not a kink, y is a
fixed linear map of x.  Their second-order term is zero there (at a kink it does not exist; which side counts
is stated), so each defines only its map and the map's adjoint.  `Tanh` is curved, and has a second-order
term.

Verified by ``tests/nn/test_layers.py`` (derivatives) and ``test_parameter_free.py`` (values).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.nn.faces import Adjoints, Arrays, Layer, Shape
from reptile_np.nn.layers import Windowed, check_image
from reptile_np.nn.ops import Array, Ops, Padding

__all__ = ["Flatten", "LocallyLinear", "MaxPool", "Relu", "SpatialMean", "Tanh"]


class LocallyLinear(Layer):
    """Subclasses define `forward`, the linear map `apply` near x, and its adjoint `apply_transpose`."""

    @abstractmethod
    def apply(self, saved: Any, x_dot: Array) -> Array:
        """Return y_dot."""

    @abstractmethod
    def apply_transpose(self, saved: Any, y_bar: Array) -> Array:
        """Return x_bar, with <y_bar, apply(x_dot)> = <x_bar, x_dot>."""

    def backward(self, saved: Any, y_bar: Array, ops: Ops, want_x_bar: bool = True) -> Adjoints:
        """Apply the adjoint."""
        return (self.apply_transpose(saved, y_bar) if want_x_bar else None), ()

    def forward_dot(self, saved: Any, theta_dot: Arrays, x_dot: Array | None, ops: Ops) -> tuple[Array, Any]:
        """Apply the map."""
        assert x_dot is not None, "a network starts with a dense or a convolution layer"
        return self.apply(saved, x_dot), None

    def backward_dot(
        self, saved: Any, dot: Any, y_bar: Array, y_bar_dot: Array, ops: Ops, want_x_bar: bool = True
    ) -> Adjoints:
        """Apply the adjoint; the second-order term is zero."""
        return self.backward(saved, y_bar_dot, ops, want_x_bar)


@dataclass(frozen=True)
class Flatten(LocallyLinear):
    """(b, rows, cols, channels) → (b, rows · cols · channels), in that order."""

    def out_size(self, size: Shape) -> Shape:
        """One axis."""
        return (math.prod(size),)

    def forward(self, theta: Arrays, x: Array, ops: Ops) -> tuple[Array, Any]:
        """Reshape."""
        return x.reshape(len(x), -1), x.shape[1:]

    def apply(self, saved: Any, x_dot: Array) -> Array:
        """Reshape."""
        return x_dot.reshape(len(x_dot), -1)

    def apply_transpose(self, saved: Any, y_bar: Array) -> Array:
        """Reshape back."""
        return y_bar.reshape(len(y_bar), *saved)


@dataclass(frozen=True)
class SpatialMean(LocallyLinear):
    """(b, rows, cols, channels) → (b, channels): the mean over rows and columns."""

    def out_size(self, size: Shape) -> Shape:
        """The channels."""
        check_image(self, size)
        return size[2:]

    def forward(self, theta: Arrays, x: Array, ops: Ops) -> tuple[Array, Any]:
        """Take the mean."""
        return self.apply(None, x), x.shape[1:3]

    def apply(self, saved: Any, x_dot: Array) -> Array:
        """Take the mean."""
        return x_dot.sum((1, 2)) / (x_dot.shape[1] * x_dot.shape[2])

    def apply_transpose(self, saved: Any, y_bar: Array) -> Array:
        """Divide each mean's adjoint equally among its rows and columns."""
        rows, cols = saved
        share = (y_bar / (rows * cols))[:, None, None, :]
        return np.broadcast_to(share, (len(y_bar), rows, cols, y_bar.shape[1]))


@dataclass(frozen=True)
class Relu(LocallyLinear):
    """``y = max(x, 0)`` for finite x, with relu'(0) = 0; for x = -∞ NumPy gives NaN, C 0."""

    def forward(self, theta: Arrays, x: Array, ops: Ops) -> tuple[Array, Any]:
        """Multiply by 1 where x > 0, by 0 elsewhere."""
        positive = x.real > 0
        return x * positive, positive

    def apply(self, saved: Any, x_dot: Array) -> Array:
        """Multiply by 1 where x > 0, by 0 elsewhere."""
        return x_dot * saved

    def apply_transpose(self, saved: Any, y_bar: Array) -> Array:
        """Multiply by 1 where x > 0, by 0 elsewhere."""
        return y_bar * saved


@dataclass(frozen=True, kw_only=True)
class MaxPool(Windowed, LocallyLinear):
    """The maximum of each window; padding never counts; of equal entries the first (row, column) counts.

    x (b, h, w, c) → (b, rows, cols, c).  A NaN is the result only if it is the first entry of its window,
    because every comparison with NaN is false.  In NumPy the first entry of a window at the border
    may be padding (-∞); in C it is always a pixel.
    """

    size: int = 2
    stride: int = 2

    def pad(self, rows: int, cols: int) -> Padding:
        """Return the explicit padding of an image of (rows, cols); a window of padding alone is refused."""
        padding = super().pad(rows, cols)
        for pixels, (before, after) in zip((rows, cols), padding, strict=True):
            last = (pixels + before + after - self.size) // self.stride * self.stride - before
            if before >= self.size or last >= pixels:
                raise UsageError(
                    f"a MaxPool of size {self.size} with padding {padding} has windows without a pixel of "
                    f"the {rows} x {cols} image; give less padding"
                )
        return padding

    def out_size(self, size: Shape) -> Shape:
        """(rows, cols, channels)."""
        check_image(self, size)
        return (*self.counts(size[0], size[1]), size[2])

    def forward(self, theta: Arrays, x: Array, ops: Ops) -> tuple[Array, Any]:
        """Take each window's maximum; save the index of its tap."""
        taps = self._taps(self._padded(x, -np.inf), x.shape)
        y = next(taps).copy()
        winner = np.zeros(y.shape, np.min_scalar_type(self.size**2))
        for index, tap in enumerate(taps, start=1):
            larger = tap.real > y.real
            np.copyto(y, tap, where=larger)
            winner[larger] = index
        return y, (winner, x.shape)

    def apply(self, saved: Any, x_dot: Array) -> Array:
        """Take the entries at the saved taps."""
        winner, shape = saved
        y_dot = np.zeros(winner.shape, x_dot.dtype)
        for index, tap in enumerate(self._taps(self._padded(x_dot, 0), shape)):
            np.copyto(y_dot, tap, where=winner == index)
        return y_dot

    def apply_transpose(self, saved: Any, y_bar: Array) -> Array:
        """Add each adjoint to the entry at the saved tap."""
        winner, shape = saved
        (top, bottom), (left, right) = self.pad(*shape[1:3])
        batch, rows, cols, channels = shape
        padded = np.zeros((batch, rows + top + bottom, cols + left + right, channels), y_bar.dtype)
        for index, tap in enumerate(self._taps(padded, shape)):
            tap += y_bar * (winner == index)
        return padded[:, top : top + rows, left : left + cols]

    def _padded(self, x: Array, value: float) -> Array:
        (top, bottom), (left, right) = self.pad(*x.shape[1:3])
        if not (top or bottom or left or right):
            return x
        return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)

    def _taps(self, padded: Array, shape: Shape) -> Iterator[Array]:
        """Yield, for each tap of the window, the view (b, oh, ow, c) of that tap's entries in all windows."""
        rows, cols = self.counts(*shape[1:3])
        step = self.stride
        for u in range(self.size):
            for v in range(self.size):
                yield padded[:, u : u + step * (rows - 1) + 1 : step, v : v + step * (cols - 1) + 1 : step]


@dataclass(frozen=True)
class Tanh(Layer):
    """``y = tanh(x)``: y' = 1 - y², y'' = -2 y y'."""

    def forward(self, theta: Arrays, x: Array, ops: Ops) -> tuple[Array, Any]:
        """``y = tanh(x)``."""
        y = np.tanh(x)
        return y, y

    def backward(self, saved: Any, y_bar: Array, ops: Ops, want_x_bar: bool = True) -> Adjoints:
        """``x_bar = y_bar (1 - y²)``."""
        return (y_bar * (1 - saved * saved) if want_x_bar else None), ()

    def forward_dot(self, saved: Any, theta_dot: Arrays, x_dot: Array | None, ops: Ops) -> tuple[Array, Any]:
        """``y_dot = (1 - y²) x_dot``."""
        assert x_dot is not None, "a network starts with a dense or a convolution layer"
        y_dot = (1 - saved * saved) * x_dot
        return y_dot, y_dot

    def backward_dot(
        self, saved: Any, dot: Any, y_bar: Array, y_bar_dot: Array, ops: Ops, want_x_bar: bool = True
    ) -> Adjoints:
        """``x_bar_dot = y_bar_dot (1 - y²) - 2 y_bar y y_dot``."""
        if not want_x_bar:
            return None, ()
        second = -2 * y_bar * saved * dot  # second-order term
        return y_bar_dot * (1 - saved * saved) + second, ()
