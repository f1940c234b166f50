"""Single convolutions in C, and the checks before them.

The kernels are float32.  Other dtypes and empty arrays fall back to the NumPy functions, and so do shapes
that take long to plan.  Arrays that are not C-contiguous or not aligned are copied.  Calls release the GIL,
and results are bitwise identical for any number of threads.  3 × 3 convolutions at strides 1 and 2 are
computed by Winograd's method where ``csrc/conv/conv.h`` chooses it: an infinite input then makes results
near it NaN.

Matrix products are not here: BLAS computes single ones faster.

Verified by ``tests/nn/native/test_maps.py``, ``test_winograd.py`` and ``test_argument_checks.py``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import Array
from reptile_np.nn.native.extension import ffi, table_of
from reptile_np.nn.native.memory import Workspace, contiguous
from reptile_np.nn.native.shapes import LARGEST, MOST_PLANNING, PANEL, Conv
from reptile_np.nn.native.threads import Team
from reptile_np.nn.ops import NUMPY, Padding

__all__ = ["Kernels"]


class Kernels:
    """One instruction set's table and a team of threads: the convolutions of an `Ops`, checked.

    Instances may be shared between Python threads: work memory is per thread.

    Raises
    ------
    UsageError
        If this machine does not have the instruction set.
    """

    def __init__(self, name: str, team: Team) -> None:
        self.name, self.team = name, team
        self.table = table_of(name)
        self._workspace = Workspace()

    def __reduce__(self) -> tuple[Any, ...]:
        return Kernels, (self.name, self.team)

    def conv2d(self, x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
        """Return y (b, oh, ow, f) from x (b, h, w, c) and kernel (kh, kw, c, f)."""
        x, kernel = np.asarray(x), np.asarray(kernel)
        if not _native(x, kernel):
            return NUMPY.conv2d(x, kernel, stride, padding)
        fits = x.ndim == kernel.ndim == 4 and x.shape[3] == kernel.shape[2]
        _need(fits, "conv2d", "x (b, h, w, c) and kernel (kh, kw, c, f)", x, kernel)
        shape = _checked("conv2d", len(x), x.shape[1:], kernel.shape, stride, padding)
        if not _plannable(shape):
            return NUMPY.conv2d(x, kernel, stride, padding)
        y = np.empty((len(x), shape.out_height, shape.out_width, kernel.shape[3]), np.float32)
        self._call(self.table.conv, shape, len(x), x, kernel, y)
        return y

    def conv2d_input(
        self, y_bar: Array, kernel: Array, stride: int, padding: Padding, size: tuple[int, int]
    ) -> Array:
        """Return x_bar (b, *size, c) from y_bar (b, oh, ow, f) and kernel (kh, kw, c, f)."""
        y_bar, kernel = np.asarray(y_bar), np.asarray(kernel)
        if not _native(y_bar, kernel):
            return NUMPY.conv2d_input(y_bar, kernel, stride, padding, size)
        fits = y_bar.ndim == kernel.ndim == 4 and y_bar.shape[3] == kernel.shape[3]
        _need(fits, "conv2d_input", "y_bar (b, oh, ow, f) and kernel (kh, kw, c, f)", y_bar, kernel)
        image = (*size, kernel.shape[2])
        shape = _checked("conv2d_input", len(y_bar), image, kernel.shape, stride, padding)
        _need_outputs("conv2d_input", y_bar, shape)
        if not _plannable(shape):
            return NUMPY.conv2d_input(y_bar, kernel, stride, padding, size)
        x_bar = np.empty((len(y_bar), shape.height, shape.width, kernel.shape[2]), np.float32)
        self._call(self.table.conv_input, shape, len(y_bar), y_bar, kernel, x_bar)
        return x_bar

    def conv2d_weight(
        self, x: Array, y_bar: Array, stride: int, padding: Padding, taps: tuple[int, int]
    ) -> Array:
        """Return kernel_bar (*taps, c, f) from x (b, h, w, c) and y_bar (b, oh, ow, f)."""
        x, y_bar = np.asarray(x), np.asarray(y_bar)
        if not _native(x, y_bar):
            return NUMPY.conv2d_weight(x, y_bar, stride, padding, taps)
        fits = x.ndim == y_bar.ndim == 4 and len(x) == len(y_bar)
        _need(fits, "conv2d_weight", "x (b, h, w, c) and y_bar (b, oh, ow, f)", x, y_bar)
        kernel = (*taps, x.shape[3], y_bar.shape[3])
        shape = _checked("conv2d_weight", len(x), x.shape[1:], kernel, stride, padding)
        _need_outputs("conv2d_weight", y_bar, shape)
        if not _plannable(shape):
            return NUMPY.conv2d_weight(x, y_bar, stride, padding, taps)
        kernel_bar = np.empty((shape.kernel_height, shape.kernel_width, *kernel[2:]), np.float32)
        self._call(self.table.conv_weight, shape, len(x), x, y_bar, kernel_bar)
        return kernel_bar

    def _call(self, entry: Any, shape: Conv, batch: int, a: Array, b: Array, out: Array) -> None:
        """Run one convolution entry on checked arrays."""
        struct = ffi.new("rk_conv *", shape._asdict())
        size = self.table.conv_size(struct, batch)
        if size == 0:
            raise UsageError(f"convolution: {batch} images are too large for 32-bit kernels; use NumPy ops")
        a, b = contiguous(a, np.float32), contiguous(b, np.float32)
        memory = ffi.from_buffer(self._workspace.take(size))
        threads = self.team.members(batch * shape.multiply_adds)
        floats = [ffi.from_buffer("float[]", array) for array in (a, b, out)]
        entry(struct, batch, *floats, memory, threads)


def _checked(
    op: str, batch: int, image: tuple[int, ...], kernel: tuple[int, ...], stride: int, padding: Padding
) -> Conv:
    """Return the shape of a convolution of `batch` images (h, w, c) with a kernel (kh, kw, c, f), checked."""
    try:
        (top, bottom), (left, right) = padding
        height, width, channels = image
        taps_y, taps_x, _, filters = kernel
        numbers = (stride, top, bottom, left, right, height, width, taps_y, taps_x)
        whole = all(n == int(n) for n in numbers)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            f"{op}: stride {stride!r}, padding {padding!r}, image {image!r}, kernel {kernel!r}; give whole "
            "numbers, padding as ((top, bottom), (left, right)), and two numbers as size or taps"
        ) from None
    if not whole or min(stride, height, width, taps_y, taps_x) < 1:
        raise UsageError(
            f"{op}: stride {stride!r}, image {image}, kernel {kernel} must be whole and positive"
        )
    if min(top, bottom, left, right) < 0:
        raise UsageError(f"{op}: padding {padding} must not be negative")
    if height + top + bottom < taps_y or width + left + right < taps_x:
        raise UsageError(f"{op}: a kernel of {taps_y} x {taps_x} does not fit {image} padded by {padding}")
    rows = (height + top + bottom - taps_y) // stride + 1
    cols = (width + left + right - taps_x) // stride + 1
    stored = -(-max(channels, filters) // PANEL) * PANEL
    largest = max(batch * height * width, batch * rows * cols, taps_y * taps_x * stored) * stored
    integers = (height, width, channels, taps_y, taps_x, filters, stride, top, left, rows, cols)
    shape = Conv._make([*map(int, integers), False])
    if max(largest, shape.largest_offset, *numbers) > LARGEST:
        raise UsageError(
            f"{op}: {image}, {kernel}, {padding} are too large for 32-bit kernels; use NumPy ops"
        )
    return shape


@lru_cache(maxsize=1024)
def _plannable(shape: Conv) -> bool:
    return shape.planning <= MOST_PLANNING


def _native(*arrays: Array) -> bool:
    """Return whether the kernels compute with these: all float32, none empty."""
    return all(array.dtype == np.float32 and array.size > 0 for array in arrays)


def _need(fits: bool, op: str, want: str, *arrays: Array) -> None:
    if not fits:
        got = " and ".join(str(array.shape) for array in arrays)
        raise UsageError(f"{op}: shapes are {got}; need {want} that agree")


def _need_outputs(op: str, y_bar: Array, shape: Conv) -> None:
    want = (shape.out_height, shape.out_width)
    if y_bar.shape[1:3] != want:
        raise UsageError(f"{op}: y_bar has {y_bar.shape[1:3]} positions; this convolution makes {want}")
