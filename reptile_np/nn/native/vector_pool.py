"""Vectors whose memory is used again after the last holder is gone.

A new vector of the Omniglot network is 450 kB.  Linux supplies such a block page by page, with a page fault
for each, and takes the block back when the vector is deleted.  These faults cost a millisecond per inner
loop, as much as an inner step.

Every vector is built on a *lease*, a small object that owns the right to one block of memory.  By NumPy's
array interface protocol, an array on the block keeps the lease alive.  A view, a memoryview, a DLPack capsule
or a buffer that C code took keeps its array alive, and so the lease.  When the lease is deleted, the callback
of a weak reference gives the block back to the pool.  No reference is counted here.  The callback is a method
of `deque`, not a function or a ``__del__`` in Python: Ctrl-C can raise KeyboardInterrupt inside those, where
Python prints the exception and continues.

Verified by ``tests/nn/native/test_vector_pool.py``.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from reptile_np.nn.ops import Array

__all__ = ["MAPPED", "MOST_BYTES", "MOST_FREE", "VectorPool"]

MAPPED = 2**17
"""Bytes from which glibc's malloc asks the system for a new block; smaller blocks malloc itself keeps."""
MOST_FREE, MOST_BYTES = 96, 2**28
"""How many free blocks a pool keeps, and how many bytes they may have (one block is always kept).

96 are more than the trajectory of 20 inner steps of Adam needs: φ, gradient, m and v of each step.
"""


class VectorPool:
    """Hands out arrays like those that `make` returns, with arbitrary contents.

    The pool has no lock: `deque.pop` and `deque.append` are atomic.  So threads may share a pool, a finaliser
    may run inside `take`, and a forked child inherits no lock that another thread held.

    Parameters
    ----------
    make
        Returns a new writable array; always of the same shape and dtype.
    size
        The bytes of such an array.
    keep
        Whether blocks are used again.  False is faster if `make` is `numpy.empty` of fewer than `MAPPED`
        bytes.
    """

    def __init__(self, make: Callable[[], Array], size: int, keep: bool = True) -> None:
        self._make, self._keep = make, keep
        # a full deque drops the block that was free longest
        self._free: deque[_End] = deque(maxlen=max(1, min(MOST_FREE, MOST_BYTES // size)))

    def take(self) -> Array:
        """Return an array whose memory is shared with no other array, view or buffer."""
        if not self._keep:
            return self._make()
        try:
            block = self._free.pop().block  # the block used last: parts of it may still be in the caches
        except IndexError:
            block = self._make().__array_struct__  # a capsule that keeps its array alive
        return np.asarray(_Lease(block, self._free))


class _Lease:
    """The right to use one block (an array's ``__array_struct__``) until the lease itself is deleted."""

    __slots__ = ("__array_struct__", "__weakref__", "_end")

    def __init__(self, block: Any, free: deque[_End]) -> None:
        self.__array_struct__ = block
        self._end = _End(self, free.append)
        self._end.block = block


class _End(weakref.ref[_Lease]):
    """A weak reference to a lease; appended to the free blocks when the lease is deleted."""

    __slots__ = ("block",)
    block: Any
