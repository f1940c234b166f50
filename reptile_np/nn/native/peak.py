"""The peak of this machine: how fast threads multiply and add when they do nothing else.

Used by ``reptile-np bench``, whose rows are shares of it.  Verified by ``tests/bench/test_measurement.py``.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from reptile_np.errors import whole
from reptile_np.nn.native.extension import ffi, table_of

__all__ = ["fma_gflops"]


def fma_gflops(name: str, threads: int = 1) -> float:
    """Return the GFLOP/s of `threads` threads that only multiply and add in registers, for one variant.

    One trial of some milliseconds; the peak is the largest of many trials.  `UsageError` if there is no such
    variant, or `threads` is no whole number of at least 1.
    """
    threads = whole("fma_gflops: threads", threads, 1)
    table, sink = table_of(name), ffi.new("float[]", 16 * threads)
    start = threading.Barrier(threads)

    def trial(i: int) -> tuple[float, float, float]:
        start.wait()
        begin = time.perf_counter()
        operations = table.fma_peak(1 << 20, sink + 16 * i)
        return begin, time.perf_counter(), operations

    with ThreadPoolExecutor(threads) as pool:
        try:
            results = list(pool.map(trial, range(threads)))
        except BaseException:
            start.abort()  # if a thread could not be started, the others would wait for it for ever
            raise
    begins, ends, operations = zip(*results, strict=True)
    return sum(operations) / (max(ends) - min(begins)) / 1e9
