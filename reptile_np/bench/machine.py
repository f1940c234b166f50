"""The machine that is measured on, and whether it has too much other work for the times to be reliable.

Verified by ``tests/bench/test_machine.py``.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from statistics import median

import numpy as np

from reptile_np.bench.measurement import Row
from reptile_np.machine import cores, processor_facts

__all__ = ["SPARE_LOAD", "SPREAD", "load", "machine", "why_busy"]

SPREAD = 1.33
"""If the medians are more than this many times the minima, the machine is called busy: records of idle
machines have 1.04 to 1.30; records of machines that had other work 1.34 to 1.46."""
SPARE_LOAD = 0.5
"""Processes that may be at work on a core that the benchmark uses, on average of the minute before."""


def machine() -> dict[str, str | int | None]:
    """Return what the times were measured on."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
    }


def _processor() -> str:
    """Return the processor's name and its vector instructions."""
    facts = processor_facts()
    if not facts:
        return platform.processor() or platform.machine()
    flags = facts.get("flags", facts.get("Features", "")).split()  # x86; ARM
    vectors = " ".join(name for name in ("avx2", "fma", "avx512f", "asimd") if name in flags)
    family = f"family {facts['cpu family']} model {facts.get('model')}" if "cpu family" in facts else ""
    details = "; ".join(filter(None, (family, vectors)))
    return facts.get("model name", platform.machine()) + (f" ({details})" if details else "")


def load() -> float | None:
    """Return the mean number of running processes in the last minute; None if it is not known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def why_busy(rows: Iterable[Row], threads: int, load_before: float | None) -> str:
    """Return in one line why the times are not reliable; an empty string if they are.

    Parameters
    ----------
    threads
        The largest number of threads that was measured.
    load_before
        What `load` said before the measurement.
    """
    reasons = []
    if load_before is not None and load_before > cores() - threads + SPARE_LOAD:
        reasons.append(f"{load_before:.1f} processes were at work on {cores()} cores in the minute before")
    if spreads := [row["ms_median"] / row["ms_min"] for row in rows]:
        spread = median(spreads)
        if spread > SPREAD:
            reasons.append(f"medians are {spread:.2f} times the minima")
    return f"the machine was busy, do not rely on these times: {', and '.join(reasons)}" if reasons else ""
