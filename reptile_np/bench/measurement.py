"""Verify, then time: our kernels against NumPy, and against whoever else is asked to join.

One run is one child process per thread count, because BLAS libraries take theirs from the environment
when they are loaded; a child of n threads is also held to n cores.  In it every contender for a work

* is **verified** first: losses and result within 1e-4 of the same work in float64 NumPy;
* is timed in turns with the others, call by call, until the work's time is used up: what else the machine
  does then meets all of them.  Minima say what the code can do, medians what it did here.

The peak is measured in the same child, in turns too, by a kernel of ours that only multiplies and adds in
registers.  Verified by ``tests/bench/test_measurement.py``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from reptile_np.bench.catalogue import all_works
from reptile_np.bench.workloads import Answer, Contender, Work
from reptile_np.experiments.progress import Progress
from reptile_np.nn import native
from reptile_np.nn.ops import NUMPY, Ops

TOLERANCE, PIECE_TOLERANCE = 1e-4, 1e-3
"""The largest relative differences, in norm, from float64: of losses and result, and of the result's pieces.

The data keep clear of kinks (`workload_catalogue`), so rounding is all there is.  A piece may lose more:
in float32 the 70,560 terms of Mini-ImageNet's first β gradient, which nearly cancel, round to 1e-4.
"""

SECONDS = 70.0
CHUNK = 0.01
"""Seconds a contender keeps the machine before it is the next one's turn; at least one call."""
LEAST_ROUNDS = 3
PEAK_TRIALS = 10
"""Trials of the peak beside each work; they take 2 ms each."""
PAUSE = 0.002
"""Seconds of silence before each turn, for the thread pool of whoever was before to fall asleep."""
WARM_UP = 0.08
"""Seconds of calls that do not count before those that do, where there are several threads (one: a call).
OpenBLAS's threads look for work for 2^26 cycles after their turn, 30 ms, on cores the next one needs, and
a team that starts after a pause may stand on one core until the system moves it."""

Variants = Mapping[str, Callable[[Work], Contender | None]]
"""Variant ↦ its way to do a work, None where it has none."""


def run(
    seconds: float = SECONDS,
    threads: Sequence[int] | None = None,
    peers: Sequence[str] = (),
    works: str = "",
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the measurements, JSON-ready.

    Parameters
    ----------
    seconds
        Time to measure in, roughly, shared by the thread counts and works; verification comes on top.
    threads
        Thread counts; by default 1 and the number of available cores.
    peers
        Importable modules with ``variants(threads) -> Variants``, as in ``benchmarks/peers``.
    works
        Only works whose name holds this text.
    environment
        Variables to set in the children.

    Returns
    -------
    dict
        ``peak_gflops`` of the best instruction set on one core (None without kernels), ``peaks`` of each
        for each thread count, ``machine``, ``failures`` (what did not compute the same and was not timed)
        and ``rows``.  A row's ``peak_share`` is of the best instruction set's peak at as many threads, its
        ``vs_numpy`` NumPy's least time over its own, at as many threads; None where there is no such thing.
    """
    threads = threads or sorted({1, _cores()})
    result: dict[str, Any] = {"peak_gflops": None, "peaks": {}, "machine": {}, "failures": [], "rows": []}
    for n in threads:
        options = {"threads": n, "seconds": seconds / len(threads), "peers": list(peers), "works": works}
        part = _in_child(options, environment or {})
        result["machine"] = part["machine"]
        result["peaks"][str(n)] = part["peaks"]
        result["failures"] += part["failures"]
        result["rows"] += part["rows"]
    peaks = result["peaks"][str(threads[0])]
    result["peak_gflops"] = max(peaks.values()) / threads[0] if peaks else None
    return result


def measure_all(works: Sequence[Work], variants: Variants, threads: int, seconds: float) -> dict[str, Any]:
    """Verify and time in this process; return ``peaks``, ``failures`` and ``rows``."""
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    peaks: dict[str, float] = {}
    for work in Progress(f"bench, threads = {threads}", len(works)).over(works):
        reference = _answer(work.contender(NUMPY, np.float64))
        contenders = {}
        for variant, make in variants.items():
            contender = make(work)
            if contender is None:
                continue
            if complaint := disagreement(work, _answer(contender), reference):
                failures.append(f"{work.name}, {variant}, {threads} threads: {complaint}")
            else:
                contenders[variant] = contender
        times = measure(contenders, seconds / len(works), WARM_UP if threads > 1 else 0.0)
        for isa in _instruction_sets():
            trials = (native.fma_gflops(isa, threads) for _ in range(PEAK_TRIALS))
            peaks[isa] = max(peaks.get(isa, 0.0), *trials)
        rows += [_row(work, variant, threads, times[variant]) for variant in times]
    best = max(peaks.values(), default=None)
    numpy = {row["work"]: row["ms_min"] for row in rows if row["variant"] == NUMPY.name}
    for row in rows:
        row["peak_share"] = row["gflops"] / best if best else None
        row["vs_numpy"] = numpy[row["work"]] / row["ms_min"] if row["work"] in numpy else None
    return {"peaks": peaks, "failures": failures, "rows": rows}


def measure(
    contenders: Mapping[str, Contender], seconds: float, warm_up: float = 0.0
) -> dict[str, list[float]]:
    """Return the seconds of each call of each contender, in turns.

    Each turn starts with calls that do not count: one, or `warm_up` seconds of them.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    calls = dict.fromkeys(contenders, 1)
    deadline, rounds = time.perf_counter() + seconds, 0
    gc_was_on = gc.isenabled()
    gc.disable()
    try:
        while rounds < LEAST_ROUNDS or time.perf_counter() < deadline:
            for name, contender in contenders.items():
                time.sleep(PAUSE)
                contender.reset()
                warm = time.perf_counter() + warm_up
                contender.run()
                while time.perf_counter() < warm:
                    contender.run()
                for _ in range(calls[name]):
                    start = time.perf_counter()
                    contender.run()
                    times[name].append(time.perf_counter() - start)
                calls[name] = min(max(int(CHUNK / min(times[name])), 1), 100)
            rounds += 1
    finally:
        if gc_was_on:
            gc.enable()
    return times


def disagreement(work: Work, answer: Answer, reference: Answer) -> str:
    """Return what is too far from the reference, or nothing."""
    shapes = [(a.losses.shape, a.vector.shape) for a in (answer, reference)]
    if shapes[0] != shapes[1]:
        return f"losses and result are of shapes {shapes[0]} instead of {shapes[1]}"
    pieces = work.pieces(answer.vector), work.pieces(reference.vector)
    checks = [
        ("losses", answer.losses, reference.losses, TOLERANCE),
        ("result", answer.vector, reference.vector, TOLERANCE),
        *((name, got, pieces[1][name], PIECE_TOLERANCE) for name, got in pieces[0].items()),
    ]
    for name, got, want, tolerance in checks:
        error = float(np.linalg.norm(got - want)) / (float(np.linalg.norm(want)) or 1.0)
        if not error <= tolerance:  # NaN is a disagreement
            return f"{name} differs by {error:.1e} from float64 (allowed: {tolerance:.0e})"
    return ""


def our_variants(threads: int) -> Variants:
    """Return NumPy and every native instruction set that this machine has."""
    tables = [NUMPY, *(native.load(isa, threads=threads) for isa in _instruction_sets())]
    return {table.name: partial(_on_table, table) for table in tables}


def _on_table(table: Ops, work: Work) -> Contender:
    return work.contender(table)


def format_table(result: Mapping[str, Any]) -> str:
    """Return the measurements as text: a block per work, a line per variant and thread count."""
    lines = [f"{key}: {value}" for key, value in result["machine"].items()]
    for n, peaks in result["peaks"].items():
        shown = ", ".join(f"{isa} {gflops:.0f}" for isa, gflops in peaks.items())
        lines.append(f"FMA peak in GFLOP/s, threads = {n}: {shown or 'not measured, no kernels are built'}")
    for work in dict.fromkeys(row["work"] for row in result["rows"]):
        lines += ["", f"{work:52}  ms min  median  GFLOP/s  % peak  x NumPy"]
        lines += [_line(row) for row in result["rows"] if row["work"] == work]
    lines += ["", *(f"WRONG, not timed: {failure}" for failure in result["failures"])]
    return "\n".join(lines).rstrip()


def _line(row: Mapping[str, Any]) -> str:
    share = "-" if row["peak_share"] is None else f"{row['peak_share']:.1%}"
    ratio = "-" if row["vs_numpy"] is None else f"{row['vs_numpy']:.2f}"
    return (
        f"    {row['variant']:28}{row['threads']:3} {'thread' if row['threads'] == 1 else 'threads':12}"
        f"{row['ms_min']:10.3f}{row['ms_median']:8.3f}{row['gflops']:9.1f}{share:>8}{ratio:>9}"
    )


def _row(work: Work, variant: str, threads: int, times: Sequence[float]) -> dict[str, Any]:
    least = min(times)
    return {
        "work": work.name,
        "variant": variant,
        "threads": threads,
        "ms_min": 1e3 * least,
        "ms_median": 1e3 * float(np.median(times)),
        "gflops": work.flops / least / 1e9,
        "calls": len(times),
    }


def _answer(contender: Contender) -> Answer:
    contender.reset()
    return contender.read(contender.run())


def _instruction_sets() -> list[str]:
    """Return those there are kernels for; portable16 is AVX-512's block shape without AVX-512, for tests."""
    return [isa for isa in native.available() if isa != "portable16"]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_child(options: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Measure in a fresh Python whose libraries have `threads` threads from the start."""
    limits = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    program = "from reptile_np.bench.measurement import child; child()"
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(options)],
        env={**os.environ, **dict.fromkeys(limits, str(options["threads"])), **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"the benchmark's child process failed with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def child() -> None:
    """Measure as the options in ``sys.argv`` say; print one JSON line."""
    options = json.loads(sys.argv[1])
    threads = options["threads"]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    variants = {**our_variants(threads)}
    for name in options["peers"]:
        variants |= importlib.import_module(name).variants(threads)
    works = [work for work in all_works() if options["works"] in work.name]
    result = measure_all(works, variants, threads, options["seconds"])
    print(json.dumps({**result, "machine": machine()}))


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    about = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
    }
    return about


def _processor() -> str:
    """Return the processor's name and its vector instructions."""
    try:
        with open("/proc/cpuinfo") as file:
            facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in file)}
    except OSError:
        return platform.processor() or platform.machine()
    flags = facts.get("flags", "").split()
    vectors = [name for name in ("avx2", "fma", "avx512f") if name in flags]
    family = f"family {facts.get('cpu family')} model {facts.get('model')}"
    return f"{facts.get('model name', platform.machine())} ({family}; {' '.join(vectors)})"
