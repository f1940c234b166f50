"""Run the benchmark: one child process for each number of threads, with the same reptile_np as here.

BLAS libraries read their number of threads from the environment when they are loaded, so each number needs
a process of its own; a child with n threads is also pinned to n cores.  Verified by
``tests/bench/test_runner.py``.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from typing import Any, TypedDict

from reptile_np.bench.catalogue import all_workloads
from reptile_np.bench.machine import load, machine, why_busy
from reptile_np.bench.measurement import Row, measure_all, our_variants
from reptile_np.bench.workloads import Workload
from reptile_np.errors import UsageError
from reptile_np.experiments.backend import choose_ops, kernels_missing
from reptile_np.machine import BLAS_THREADS, cores
from reptile_np.nn.native.threads import MOST_THREADS

__all__ = ["PROGRAM", "SECONDS", "Measurements", "child", "chosen", "run"]

SECONDS = 70.0

PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])["path"]
from reptile_np.bench.runner import child
child()
"""
"""What a child runs.  The parent's path comes first, so that the child imports the same reptile_np."""


class Measurements(TypedDict):
    """What a run returns, JSON-ready."""

    peak_gflops: float | None
    """Of the best instruction set on one core; None without kernels."""
    peaks: dict[str, dict[str, float]]
    """Number of threads ↦ instruction set ↦ GFLOP/s."""
    machine: dict[str, str | int | None]
    busy: bool
    """Whether the machine had too much other work."""
    warnings: list[str]
    """Warnings: the machine was busy, or there are no kernels."""
    failures: list[str]
    """Variants that did not compute the same and were not timed."""
    rows: list[Row]


def run(
    seconds: float = SECONDS,
    threads: Sequence[int] = (),
    peers: Sequence[str] = (),
    works: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> Measurements:
    """Return the measurements.

    Parameters
    ----------
    seconds
        Approximate measuring time, divided among thread counts and workloads; verification is not included.
    threads
        Thread counts; by default 1 and the number of available cores, at most 64.
    peers
        Importable modules with ``variants(threads) -> Variants``, as in ``benchmarks/peers``.
    works
        Patterns of workload names, such as ``Omniglot step*``; all by default.
    environment
        Variables to set in the children.

    Raises
    ------
    UsageError
        If no workload has such a name, a number of threads is out of range, `threads` is a number or `works`
        text instead of a list, or a child failed.
    """
    if isinstance(threads, int):
        raise UsageError(f"threads is {threads}; give a list: [{threads}]")
    most = min(cores(), MOST_THREADS)
    threads = threads or sorted({1, most})
    if not 1 <= min(threads) <= max(threads) <= most:
        raise UsageError(
            f"--threads {' '.join(map(str, threads))}: give 1 to {most} (the cores, at most {MOST_THREADS})"
        )
    chosen(works)  # a mistake in a pattern, or in the environment, is found before anything is measured
    choose_ops()
    before = load()
    result: Measurements = {
        "peak_gflops": None,
        "peaks": {},
        "machine": machine(),
        "busy": False,
        "warnings": [missing] if (missing := kernels_missing()) else [],
        "failures": [],
        "rows": [],
    }
    for n in threads:
        options = {
            "threads": n,
            "seconds": seconds / len(threads),
            "peers": list(peers),
            "works": list(works),
        }
        part = _in_child({**options, "quiet": quiet}, environment or {})
        result["peaks"][str(n)] = part["peaks"]
        result["failures"] += part["failures"]
        result["rows"] += part["rows"]
    fewest = min(threads)
    if peaks := result["peaks"][str(fewest)]:
        result["peak_gflops"] = max(peaks.values()) / fewest
    if reason := why_busy(result["rows"], max(threads), before):
        result["busy"] = True
        result["warnings"].append(reason)
    return result


def chosen(works: Sequence[str]) -> list[Workload]:
    """Return the workloads whose names match one of the patterns; all if there is no pattern.

    Raises
    ------
    UsageError
        If a pattern matches none, or `works` is text.
    """
    if isinstance(works, str):
        raise UsageError(f"works is text; give a list: [{works!r}]")
    workloads = all_workloads()
    for pattern in works:
        if not any(_matches(workload.name, pattern) for workload in workloads):
            raise UsageError(
                f'--works "{pattern}": matches no workload; names are such as "{workloads[0].name}", '
                f'patterns such as "omniglot step*" (all names: reptile-np bench --help)'
            )
    return [w for w in workloads if not works or any(_matches(w.name, pattern) for pattern in works)]


def _matches(name: str, pattern: str) -> bool:
    return fnmatch(name.lower(), pattern.lower())


def _in_child(options: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Measure in a fresh Python whose libraries have `threads` threads from the start."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, json.dumps({**options, "path": sys.path})],
        env={**os.environ, **dict.fromkeys(BLAS_THREADS, str(options["threads"])), **environment},
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,  # Ctrl-C reaches this process only, which then ends the child
    )
    if done.returncode:
        raise UsageError(f"the benchmark's child process failed with exit code {done.returncode}")
    part: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return part


def child() -> None:
    """Measure as the options in ``sys.argv`` say; print one JSON line."""
    options = json.loads(sys.argv[1])
    threads = options["threads"]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    variants = {**our_variants(threads)}
    for name in options["peers"]:
        variants |= importlib.import_module(name).variants(threads)
    part = measure_all(chosen(options["works"]), variants, threads, options["seconds"], options["quiet"])
    print(json.dumps(part))
