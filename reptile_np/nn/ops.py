"""The six maps that take nearly all the time of a network: two bilinear maps, each with its two adjoints.

Everything heavy in a network is a matrix product or a convolution.  Both are bilinear, ``y = x ∗ w``, so all
four faces of a layer (`reptile_np.nn.faces`) need only three maps of each:

    value            y     = x ∗ w
    input adjoint    x_bar = the map with <y_bar, x ∗ w> = <x_bar, x>
    weight adjoint   w_bar = the map with <y_bar, x ∗ w> = <w_bar, w>

`NUMPY` is the reference table.  Another table starts as a copy and replaces some entries by faster ones
(`reptile_np.nn.native`); every entry must do what is written here.

Verified by ``tests/nn/test_ops.py`` (against nested loops, adjoint identities, exactness on integers).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.lib.stride_tricks import as_strided

from reptile_np.errors import UsageError, whole
from reptile_np.meta.inner_loop import Array

__all__ = [
    "NUMPY",
    "AModel",
    "Array",
    "Ops",
    "Padding",
    "conv2d",
    "conv2d_input",
    "conv2d_weight",
    "matmul",
    "matmul_input",
    "matmul_weight",
    "resolve_padding",
]

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Rows and columns of zeros around an image: ((top, bottom), (left, right))."""
AModel = TypeVar("AModel")
"""`Model`, or a class of the caller's."""


@dataclass(frozen=True)
class Ops:
    """A table of kernels.

    Shapes: x (p, i), w (i, o), y (p, o) for products; x (b, h, w, c), kernel (kh, kw, c, f),
    y (b, oh, ow, f) for convolutions, with ``oh = (h + top + bottom - kh) // stride + 1``.
    Results have the dtype that NumPy's promotion gives; the inputs are never written to.
    """

    name: str
    matmul: Callable[[Array, Array], Array]
    matmul_input: Callable[[Array, Array], Array]
    matmul_weight: Callable[[Array, Array], Array]
    conv2d: Callable[[Array, Array, int, Padding], Array]
    conv2d_input: Callable[[Array, Array, int, Padding, tuple[int, int]], Array]
    conv2d_weight: Callable[[Array, Array, int, Padding, tuple[int, int]], Array]
    threads: int = 1

    def specialize(self, model: AModel) -> AModel:
        """Return `model`, or the same function computed faster by code for this table and this very model."""
        return model

    def describe(self, model: Any) -> str:
        """Return one line: what this table computes of `model`."""
        return f"{self.name}: every layer in NumPy"


def matmul(x: Array, w: Array) -> Array:
    """Return ``y = x w``: x (p, i), w (i, o) → (p, o)."""
    return x @ w


def matmul_input(y_bar: Array, w: Array) -> Array:
    """Return ``x_bar = y_bar wᵀ``: y_bar (p, o), w (i, o) → (p, i)."""
    return y_bar @ w.T


def matmul_weight(x: Array, y_bar: Array) -> Array:
    """Return ``w_bar = xᵀ y_bar``: x (p, i), y_bar (p, o) → (i, o)."""
    return x.T @ y_bar


def conv2d(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """Return ``y[b, i, j, :] = Σ_{u, v, c} x[b, s i + u - top, s j + v - left, c] kernel[u, v, c, :]``.

    s is the stride; top and left are the padding before the first row and column.

    One strided window view, one copy, one BLAS product.
    """
    kh, kw, channels, filters = kernel.shape
    windows = _windows(x, (kh, kw), stride, padding)
    batch, rows, cols = windows.shape[:3]
    y = windows.reshape(batch * rows * cols, kh * kw * channels) @ kernel.reshape(-1, filters)
    return y.reshape(batch, rows, cols, filters)


def conv2d_input(y_bar: Array, kernel: Array, stride: int, padding: Padding, size: tuple[int, int]) -> Array:
    """Return the input adjoint, of shape (b, *size, c).

    ``x_bar[b, s i + u - top, s j + v - left, c] += Σ_f y_bar[b, i, j, f] kernel[u, v, c, f]``:
    one BLAS product, then the results of each of the kh·kw taps are added to that tap's inputs.
    """
    (top, bottom), (left, right) = padding
    batch, rows, cols, filters = y_bar.shape
    kh, kw, channels, _ = kernel.shape
    # taps first, so that each of the additions below reads one contiguous block
    taps = y_bar.reshape(-1, filters) @ kernel.reshape(kh * kw, channels, filters).transpose(0, 2, 1)
    taps = taps.reshape(kh, kw, batch, rows, cols, channels)
    padded = np.zeros((batch, size[0] + top + bottom, size[1] + left + right, channels), taps.dtype)
    for u in range(kh):
        for v in range(kw):
            padded[:, u : u + stride * rows : stride, v : v + stride * cols : stride] += taps[u, v]
    return padded[:, top : top + size[0], left : left + size[1]]


def conv2d_weight(x: Array, y_bar: Array, stride: int, padding: Padding, taps: tuple[int, int]) -> Array:
    """Return the weight adjoint, of shape (*taps, c, f).

    ``kernel_bar[u, v, c, f] = Σ_{b, i, j} x[b, s i + u - top, s j + v - left, c] y_bar[b, i, j, f]``.
    """
    batch, rows, cols, filters = y_bar.shape
    windows = _windows(x, taps, stride, padding)
    windows = windows.reshape(batch * rows * cols, taps[0] * taps[1] * x.shape[-1])
    return (windows.T @ y_bar.reshape(-1, filters)).reshape(*taps, x.shape[-1], filters)


def _windows(x: Array, taps: tuple[int, int], stride: int, padding: Padding) -> Array:
    """Return the view (b, oh, ow, kh, kw, c) of the zero-padded x: the window of each output position."""
    x = np.asarray(x)  # a subclass may have a `strides` of its own
    if padding != ((0, 0), (0, 0)):
        (top, bottom), (left, right) = padding
        batch, height, width, channels = x.shape
        padded = np.zeros((batch, height + top + bottom, width + left + right, channels), x.dtype)
        padded[:, top : top + height, left : left + width] = x
        x = padded
    batch, height, width, channels = x.shape
    sb, sh, sw, sc = x.strides
    rows, cols = (height - taps[0]) // stride + 1, (width - taps[1]) // stride + 1
    return as_strided(
        x,
        (batch, rows, cols, *taps, channels),
        (sb, sh * stride, sw * stride, sh, sw, sc),
        writeable=False,
    )


def resolve_padding(
    padding: Literal["SAME", "VALID"] | Padding, size: tuple[int, int], taps: tuple[int, int], stride: int
) -> Padding:
    """Return explicit padding for an image of `size`.

    "SAME" gives ``ceil(n / stride)`` outputs and is *asymmetric*, as in TensorFlow: of the total
    ``max((ceil(n / stride) - 1) stride + k - n, 0)`` the smaller half comes first.  (A symmetric
    padding of 1 would sample another grid.)  "VALID" gives none.

    Raises
    ------
    UsageError
        If the window does not fit the padded image, or `stride` is no whole number of at least 1.
    """
    whole("a window: its stride", stride, 1)
    if padding == "SAME":
        totals = [max((-(-n // stride) - 1) * stride + k - n, 0) for n, k in zip(size, taps, strict=True)]
        resolved = tuple((total // 2, total - total // 2) for total in totals)
    elif padding == "VALID":
        resolved = ((0, 0), (0, 0))
    else:
        resolved = padding
    for n, k, (before, after) in zip(size, taps, resolved, strict=True):
        if n + before + after < k:
            raise UsageError(f"a window of {k} does not fit an image of {n} padded by {(before, after)}")
    rows, cols = resolved
    return rows, cols


NUMPY = Ops("numpy", matmul, matmul_input, matmul_weight, conv2d, conv2d_input, conv2d_weight)
