"""Result vectors whose memory is used again once nobody holds them.

A fresh vector of the Omniglot network is 450 kB: the system hands it out page by page, at a page fault
each, and takes it back when it is dropped.  That cost a millisecond per inner loop, as much as a step.

Verified by ``tests/nn/native/test_vector_pool.py``.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from reptile_np.nn.ops import Array

MOST = 64
"""How many vectors are kept: more than the trajectory of 20 inner steps and the run's state hold at once."""
_OURS = 3
"""References to a vector that nobody else holds: the list's, the loop's, and `getrefcount`'s argument."""


class VectorPool:
    """Hands out vectors that `make` made, with arbitrary contents."""

    def __init__(self, make: Callable[[], Array]) -> None:
        self._make = make
        self._vectors: list[Array] = []
        self._lock = threading.Lock()

    def take(self) -> Array:
        """Return a vector that nobody else holds, nor holds a view of: a view refers to its base."""
        with self._lock:
            for vector in self._vectors:
                if sys.getrefcount(vector) == _OURS:
                    return vector
            vector = self._make()
            if len(self._vectors) < MOST:
                self._vectors.append(vector)
            return vector
