"""Memory for the kernels: plain contiguous arrays in, aligned blocks to work in.

Verified by ``tests/nn/native/test_maps.py`` and ``test_memory.py``.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from reptile_np.meta.inner_loop import Array

__all__ = ["HUGE_PAGE", "Workspace", "aligned_bytes", "contiguous"]

HUGE_PAGE = 2**21
SINGLE, LABEL = np.dtype(np.float32), np.dtype(np.int32)
"""The dtypes of the kernels' vectors and labels; comparing with a dtype is faster than with a type."""


def contiguous(array: Array, dtype: Any) -> Array:
    """Return the array if it is C-contiguous, aligned and of that dtype, else a copy that is."""
    if array.dtype != dtype:
        return array.astype(dtype, order="C")
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy()


def aligned_bytes(size: int) -> Array:
    """Return `size` uninitialised bytes that start on a cache line.

    Large blocks start on a huge page, and are large enough for NumPy to ask Linux for huge pages: a step of
    the Omniglot network reads 3 MB, and address translation of small pages took a hundredth of its time.
    """
    large = size > HUGE_PAGE // 2
    boundary = HUGE_PAGE if large else 64
    block = np.empty((max(size, 2 * HUGE_PAGE) if large else size) + boundary, np.uint8)
    start = -block.ctypes.data % boundary
    return block[start : start + size]


class Workspace:
    """One block of memory per thread, which grows to the largest size asked for."""

    def __init__(self) -> None:
        self._local = threading.local()

    def take(self, size: int) -> Array:
        """Return at least `size` bytes, 64-byte aligned, which this thread may use until its next `take`."""
        try:
            block: Array = self._local.block
        except AttributeError:  # this thread's first call
            block = self._local.block = aligned_bytes(size)
        if block.size < size:
            block = self._local.block = aligned_bytes(size)
        return block
