"""What this program runs on: how many cores it may use, what Linux says of them, and a terminal's signals.

Verified by ``tests/test_cores.py``.
"""

from __future__ import annotations

import os
import signal

__all__ = ["BLAS_THREADS", "TERMINAL_SIGNALS", "cores", "processor_facts"]

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Environment variables from which BLAS libraries read how many threads to use, when they are loaded."""
TERMINAL_SIGNALS = (
    (signal.SIGINT, signal.SIGHUP) if hasattr(signal, "SIGHUP") else (signal.SIGINT,)  # Windows has no SIGHUP
)
"""What Ctrl-C sends, and what closing a terminal sends, to all processes of the terminal."""


def cores() -> int:
    """Return how many cores this process may be scheduled on; a quota of a container is not counted."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_facts() -> dict[str, str]:
    """Return what Linux says of a processor, such as "model name" and "flags"; {} elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in file)}
    except OSError:
        return {}
