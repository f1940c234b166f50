"""Native kernels: the only importer of the C extension, and the one that checks what it is given.

`load` returns the NumPy table with its entries overridden; a `Model` given it runs whole networks in
C (``csrc/``).  Kernels are float32: an entry called with another dtype, or with nothing in an array,
answers as NumPy's does.  Arrays that are not C-contiguous or not aligned are copied, never refused.
Calls release the GIL, and results are bitwise the same for any number of threads.  3 × 3 convolutions at
strides 1 and 2 go by Winograd tiles if that needs fewer products (``csrc/conv/winograd.h``): an infinite
input then makes its neighbourhood NaN.  Single convolutions are exact on small integers; the layers of a
whole network are not, if large stride-1 maps go by tiles of 4 × 4 outputs: their rounding is bounded.

Verified by ``tests/nn/native/test_maps.py``, ``test_winograd.py``, ``test_argument_checks.py`` and
``test_networks.py``.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.nn.native.networks import LARGEST, as_kind, network
from reptile_np.nn.ops import NUMPY, Array, Network, Ops, Padding

try:
    from reptile_np.nn.native._kernels import ffi, lib
except ImportError:  # installed without a C compiler
    ffi = lib = None

VARIANTS = ("avx512", "avx2", "neon", "portable", "portable16")
"""Every instruction set there are kernels for, best first.  portable16 is the block shape of avx512 in
portable code: slow, and there so that every machine can test it."""

MOST_THREADS = 64
HUGE_PAGE = 2**21
WORTH_A_TEAM = 30_000_000
"""Multiply-adds of a call, half a millisecond, below which starting a second thread costs what it saves."""


def available() -> tuple[str, ...]:
    """Return the names that `load` accepts on this machine, best first; () where nothing was built."""
    if lib is None:
        return ()
    return tuple(name for name in VARIANTS if lib.rk_dispatch(name.encode()) != ffi.NULL)


def load(name: str | None = None, threads: int | None = None) -> Ops:
    """Return the NumPy table with everything heavy overridden by native kernels.

    Parameters
    ----------
    name
        One of `available`.  Default: the environment's ``REPTILE_NP_OPS``, else the best there is.
    threads
        How many threads may share a call, 1 to 64; they do where it is long enough and, for whole
        networks, where a trial finds them faster than one (`reptile_np.nn.native.threads`).  Default: the
        environment's ``REPTILE_NP_THREADS``, else the number of cores this process may run on.

    Raises
    ------
    UsageError
        If the kernels were not built, this machine lacks `name`, or `threads` is out of range.
    """
    names = available()
    if not names:
        raise UsageError(
            "native kernels are not built: install a C compiler and reinstall reptile_np, or use --ops numpy"
        )
    if name is None:
        name = os.environ.get("REPTILE_NP_OPS") or names[0]
    if name not in names:
        raise UsageError(f"native kernels {name!r} are not available here; choose one of {', '.join(names)}")
    kernels = Kernels(name, _thread_count(threads))
    return replace(
        NUMPY,
        name=f"native-{name}",
        matmul=kernels.matmul,
        matmul_input=kernels.matmul_input,
        matmul_weight=kernels.matmul_weight,
        conv2d=kernels.conv2d,
        conv2d_input=kernels.conv2d_input,
        conv2d_weight=kernels.conv2d_weight,
        network=kernels.network,
        threads=kernels.threads,
    )


def fma_gflops(name: str, threads: int = 1) -> float:
    """Return the GFLOP/s of `threads` threads that only multiply and add in registers: the peak of `name`.

    One trial of some milliseconds; the peak is the largest of many.  Used by ``reptile-np bench``.
    """
    table, sink = lib.rk_dispatch(name.encode()), ffi.new("float[]", 16 * threads)
    start = threading.Barrier(threads)

    def trial(i: int) -> tuple[float, float, float]:
        start.wait()
        begin = time.perf_counter()
        operations = table.fma_peak(1 << 20, sink + 16 * i)
        return begin, time.perf_counter(), operations

    with ThreadPoolExecutor(threads) as pool:
        begins, ends, operations = zip(*pool.map(trial, range(threads)), strict=True)
    return sum(operations) / (max(ends) - min(begins)) / 1e9


def _thread_count(threads: int | None) -> int:
    """Return `threads`, else what the environment says, else the cores this process may run on."""
    said = os.environ.get("REPTILE_NP_THREADS", "") if threads is None else str(threads)
    if not said:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(cores, MOST_THREADS)
    if not said.isdecimal() or not 1 <= int(said) <= MOST_THREADS:
        raise UsageError(f"threads is {said}; give a whole number from 1 to {MOST_THREADS}")
    return int(said)


class Kernels:
    """One instruction set's table and a thread count: the entries of an `Ops`, with their checks.

    Instances may be shared between Python threads (work memory is per thread) and pickled.
    """

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        self.ffi = ffi
        self.table = lib.rk_dispatch(name.encode())
        self._local = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return Kernels, (self.name, self.threads)

    def team(self, work: int) -> int:
        """Return how many threads share a call of so many multiply-adds."""
        return self.threads if work >= WORTH_A_TEAM else 1

    def network(self, model: Any) -> Network | None:
        """Return the whole-network twin of `model`, or None where the layers must serve."""
        return network(self, model)

    def matmul(self, x: Array, w: Array) -> Array:
        """Return x (p, i) times w (i, o): a convolution of p images of one pixel."""
        if not _native(x, w):
            return NUMPY.matmul(x, w)
        _need(x.ndim == w.ndim == 2 and x.shape[1] == w.shape[0], "matmul", "x (p, i) and w (i, o)", x, w)
        return self.conv2d(x[:, None, None], w[None, None], 1, ((0, 0), (0, 0)))[:, 0, 0]

    def matmul_input(self, y_bar: Array, w: Array) -> Array:
        """Return x_bar (p, i) from y_bar (p, o) and w (i, o)."""
        if not _native(y_bar, w):
            return NUMPY.matmul_input(y_bar, w)
        fits = y_bar.ndim == w.ndim == 2 and y_bar.shape[1] == w.shape[1]
        _need(fits, "matmul_input", "y_bar (p, o) and w (i, o)", y_bar, w)
        return self.conv2d_input(y_bar[:, None, None], w[None, None], 1, ((0, 0), (0, 0)), (1, 1))[:, 0, 0]

    def matmul_weight(self, x: Array, y_bar: Array) -> Array:
        """Return w_bar (i, o) from x (p, i) and y_bar (p, o)."""
        if not _native(x, y_bar):
            return NUMPY.matmul_weight(x, y_bar)
        fits = x.ndim == y_bar.ndim == 2 and len(x) == len(y_bar)
        _need(fits, "matmul_weight", "x (p, i) and y_bar (p, o)", x, y_bar)
        return self.conv2d_weight(x[:, None, None], y_bar[:, None, None], 1, ((0, 0), (0, 0)), (1, 1))[0, 0]

    def conv2d(self, x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
        """Return y (b, oh, ow, f) from x (b, h, w, c) and kernel (kh, kw, c, f)."""
        if not _native(x, kernel):
            return NUMPY.conv2d(x, kernel, stride, padding)
        fits = x.ndim == kernel.ndim == 4 and x.shape[3] == kernel.shape[2]
        _need(fits, "conv2d", "x (b, h, w, c) and kernel (kh, kw, c, f)", x, kernel)
        shape = self._shape("conv2d", len(x), x.shape[1:], kernel.shape, stride, padding)
        y = np.empty((len(x), shape.out_height, shape.out_width, kernel.shape[3]), np.float32)
        self._call(self.table.conv, shape, len(x), x, kernel, y)
        return y

    def conv2d_input(
        self, y_bar: Array, kernel: Array, stride: int, padding: Padding, size: tuple[int, int]
    ) -> Array:
        """Return x_bar (b, *size, c) from y_bar (b, oh, ow, f) and kernel (kh, kw, c, f)."""
        if not _native(y_bar, kernel):
            return NUMPY.conv2d_input(y_bar, kernel, stride, padding, size)
        fits = y_bar.ndim == kernel.ndim == 4 and y_bar.shape[3] == kernel.shape[3]
        _need(fits, "conv2d_input", "y_bar (b, oh, ow, f) and kernel (kh, kw, c, f)", y_bar, kernel)
        shape = self._shape(
            "conv2d_input", len(y_bar), (*size, kernel.shape[2]), kernel.shape, stride, padding
        )
        _need_outputs("conv2d_input", y_bar, shape)
        x_bar = np.empty((len(y_bar), *size, kernel.shape[2]), np.float32)
        self._call(self.table.conv_input, shape, len(y_bar), y_bar, kernel, x_bar)
        return x_bar

    def conv2d_weight(
        self, x: Array, y_bar: Array, stride: int, padding: Padding, taps: tuple[int, int]
    ) -> Array:
        """Return kernel_bar (*taps, c, f) from x (b, h, w, c) and y_bar (b, oh, ow, f)."""
        if not _native(x, y_bar):
            return NUMPY.conv2d_weight(x, y_bar, stride, padding, taps)
        fits = x.ndim == y_bar.ndim == 4 and len(x) == len(y_bar)
        _need(fits, "conv2d_weight", "x (b, h, w, c) and y_bar (b, oh, ow, f)", x, y_bar)
        kernel_shape = (*taps, x.shape[3], y_bar.shape[3])
        shape = self._shape("conv2d_weight", len(x), x.shape[1:], kernel_shape, stride, padding)
        _need_outputs("conv2d_weight", y_bar, shape)
        kernel_bar = np.empty(kernel_shape, np.float32)
        self._call(self.table.conv_weight, shape, len(x), x, y_bar, kernel_bar)
        return kernel_bar

    def floats(self, array: Array) -> Any:
        """Return a pointer to a C-contiguous, aligned float32 array, which the caller keeps alive."""
        return self.ffi.from_buffer("float[]", array)

    def memory(self, size: int) -> Any:
        """Return at least `size` bytes, 64-byte aligned, that this thread may use until it asks again."""
        if size > getattr(self._local, "size", 0):
            self._local.block = self.aligned(size)
            self._local.size = size
        return self.ffi.from_buffer(self._local.block)

    @staticmethod
    def aligned(size: int) -> Array:
        """Return `size` uninitialised bytes that start on a cache line.

        Large blocks start on a huge page, and are large enough for NumPy to ask Linux for such: a step of
        the Omniglot network walks over 3 MB, and looking up small pages took a hundredth of it.
        """
        large = size > HUGE_PAGE // 2
        boundary = HUGE_PAGE if large else 64
        block = np.empty((max(size, 2 * HUGE_PAGE) if large else size) + boundary, np.uint8)
        start = -block.ctypes.data % boundary
        return block[start : start + size]

    def _shape(
        self,
        op: str,
        batch: int,
        image: tuple[int, ...],
        kernel: tuple[int, ...],
        stride: int,
        padding: Padding,
    ) -> Any:
        """Return the rk_conv of `batch` images (h, w, c) and a kernel (kh, kw, c, f), both checked."""
        (top, bottom), (left, right) = padding
        height, width, channels = image
        taps_y, taps_x, _, filters = kernel
        numbers = (stride, top, bottom, left, right, height, width, taps_y, taps_x)
        if any(n != int(n) for n in numbers) or min(stride, height, width, taps_y, taps_x) < 1:
            raise UsageError(
                f"{op}: stride {stride}, image {image}, kernel {kernel} must be whole and positive"
            )
        if min(top, bottom, left, right) < 0:
            raise UsageError(f"{op}: padding {padding} must not be negative")
        if height + top + bottom < taps_y or width + left + right < taps_x:
            raise UsageError(
                f"{op}: a kernel of {taps_y} x {taps_x} does not fit {image} padded by {padding}"
            )
        rows = (height + top + bottom - taps_y) // stride + 1
        cols = (width + left + right - taps_x) // stride + 1
        stored = -(-max(channels, filters) // 32) * 32  # channels are padded to the widest kernels' panels
        largest = max(batch * height * width, batch * rows * cols, taps_y * taps_x * stored) * stored
        if max(largest, *numbers) > LARGEST:
            raise UsageError(
                f"{op}: {image}, {kernel}, {padding} are too large for 32-bit kernels; use NumPy ops"
            )
        fields = (height, width, channels, taps_y, taps_x, filters, stride, top, left, rows, cols)
        return self.ffi.new("rk_conv *", fields)

    def _call(self, entry: Any, shape: Any, batch: int, a: Array, b: Array, out: Array) -> None:
        """Run one convolution entry on checked shapes."""
        a, b = as_kind(a, np.float32), as_kind(b, np.float32)
        memory = self.memory(self.table.conv_size(shape, batch))
        taps = shape.kernel_height * shape.kernel_width * shape.channels
        work = batch * shape.out_height * shape.out_width * taps * shape.filters
        entry(shape, batch, self.floats(a), self.floats(b), self.floats(out), memory, self.team(work))


def _native(*arrays: Array) -> bool:
    """Whether these go to the kernels: float32, and something in each."""
    return all(array.dtype == np.float32 and array.size > 0 for array in arrays)


def _need(fits: bool, op: str, want: str, *arrays: Array) -> None:
    if not fits:
        got = " and ".join(str(array.shape) for array in arrays)
        raise UsageError(f"{op}: shapes are {got}; need {want} that agree")


def _need_outputs(op: str, y_bar: Array, shape: Any) -> None:
    if y_bar.shape[1:3] != (shape.out_height, shape.out_width):
        want = (shape.out_height, shape.out_width)
        raise UsageError(f"{op}: y_bar has {y_bar.shape[1:3]} positions; this convolution makes {want}")
