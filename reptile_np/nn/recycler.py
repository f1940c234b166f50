"""Result vectors whose memory is used again once nobody holds them.

A fresh vector of the Omniglot network is 450 kB: the system hands it out page by page, at a page fault
each, and takes it back when it is dropped.  That cost a millisecond per inner loop, as much as a step.

Verified by ``tests/nn/test_recycler.py``.
"""

from __future__ import annotations

import sys
import threading

import numpy as np

from reptile_np.nn.ops import Array

MOST = 16
"""How many vectors are kept: more than an inner loop, its trajectory and the run's state hold at once."""
_OURS = 3
"""References to a vector that nobody else holds: the list's, the loop's, and `getrefcount`'s argument."""


class Recycler:
    """Hands out float32 vectors (size,) with arbitrary contents."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._vectors: list[Array] = []
        self._lock = threading.Lock()

    def take(self) -> Array:
        """Return a vector that nobody else holds, nor holds a view of: a view refers to its base."""
        with self._lock:
            for vector in self._vectors:
                if sys.getrefcount(vector) == _OURS:
                    return vector
            vector = np.empty(self._size, np.float32)
            if len(self._vectors) < MOST:
                self._vectors.append(vector)
            return vector
