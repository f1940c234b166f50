"""Verify and time the contenders for each workload, in this process.

* **Verified** first: losses and result within 1e-4, and each piece of the result within 1e-3, of the same
  workload in float64 NumPy.
* Timed in turns of 10 ms (with several threads 40 ms) until the workload's time is used up: other programs
  then slow every contender alike.  The minimum is closest to the time of the code alone; the median shows how
  busy the machine was.

A *variant* is one way to do the workloads; its *contender* does one of them.  The peak is measured in the
same process, by a kernel that only multiplies and adds in registers.

Verified by ``tests/bench/test_measurement.py``.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypedDict

import numpy as np

from reptile_np.bench.workloads import Answer, Contender, Workload
from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.progress import Progress
from reptile_np.nn import native
from reptile_np.nn.ops import NUMPY, Ops

__all__ = [
    "LEAST_ROUNDS",
    "ONE_THREAD",
    "PEAK_TRIALS",
    "THREADS",
    "Part",
    "Row",
    "Times",
    "Turn",
    "Variants",
    "disagreement",
    "measure",
    "measure_all",
    "our_variants",
]

TOLERANCE, PIECE_TOLERANCE = 1e-4, 1e-3
"""The largest relative differences, in norm, from float64: of losses and result, and of the result's pieces.

The data keep clear of kinks (`catalogue`), so rounding is the only difference.  A piece may differ more:
in float32 the 70,560 terms of Mini-ImageNet's first β gradient, which nearly cancel, round to 1e-4.
"""


class Turn(NamedTuple):
    """The seconds of a contender's turn: silence, calls that are not timed, calls that are.

    There is at least one call of each kind.
    """

    silence: float
    warm_up: float
    timed: float


ONE_THREAD, THREADS = Turn(0.002, 0.0, 0.01), Turn(0.12, 0.08, 0.04)
"""Turns with one thread, and with several: after a call, the threads of OpenBLAS spin for a tenth of a
second, on cores that the next contender needs (measured: 105 ms); and threads that start after a pause may
share one core until the system moves one of them."""
LEAST_ROUNDS = 3
PEAK_TRIALS = 10
"""Trials of the peak beside each workload; they take 2 ms each."""

Variants = Mapping[str, Callable[[Workload], Contender | None]]
"""Variant ↦ its way to do a workload, None if it has none."""


class Times(TypedDict):
    """What was timed of one variant of one workload."""

    work: str
    variant: str
    default: bool
    """Whether this variant is the default, ``--ops auto``."""
    threads: int
    ms_min: float
    ms_median: float
    gflops: float
    calls: int


class Row(Times):
    """`Times`, with the share of the peak and the ratio to NumPy."""

    peak_share: float | None
    """Of the best instruction set's peak at as many threads; None without kernels."""
    vs_numpy: float | None
    """NumPy's least time over this one, at as many threads; None if NumPy was not timed."""


class Part(TypedDict):
    """The measurements of one process."""

    peaks: dict[str, float]
    failures: list[str]
    rows: list[Row]


def measure_all(
    workloads: Sequence[Workload], variants: Variants, threads: int, seconds: float, quiet: bool = False
) -> Part:
    """Verify and time every variant of every workload."""
    timed: list[Times] = []
    failures: list[str] = []
    peaks: dict[str, float] = {}
    default = choose_ops("auto", threads).name
    turn = THREADS if threads > 1 else ONE_THREAD
    for workload in Progress(f"bench, threads = {threads}", len(workloads), quiet=quiet).over(workloads):
        reference = _answer(workload.contender(NUMPY, np.float64))
        contenders = {}
        for variant, make in variants.items():
            contender = make(workload)
            if contender is None:
                continue
            time.sleep(turn.silence)  # networks time their threads from the first call on
            if complaint := disagreement(workload, _answer(contender), reference):
                failures.append(f"{workload.name}, {variant}, {threads} threads: {complaint}")
            else:
                contenders[variant] = contender
        times = measure(contenders, seconds / len(workloads), turn)
        for isa in _instruction_sets():
            trials = (native.fma_gflops(isa, threads) for _ in range(PEAK_TRIALS))
            peaks[isa] = max(peaks.get(isa, 0.0), *trials)
        for variant, values in times.items():
            timed.append(_times(workload, variant, variant == default, threads, values))
    return {"peaks": peaks, "failures": failures, "rows": _compared(timed, peaks)}


def _times(workload: Workload, variant: str, default: bool, threads: int, times: Sequence[float]) -> Times:
    least = min(times)
    return {
        "work": workload.name,
        "variant": variant,
        "default": default,
        "threads": threads,
        "ms_min": 1e3 * least,
        "ms_median": 1e3 * float(np.median(times)),
        "gflops": workload.flops / least / 1e9,
        "calls": len(times),
    }


def _compared(timed: Sequence[Times], peaks: Mapping[str, float]) -> list[Row]:
    """Return the rows, compared with the best peak and with NumPy."""
    best = max(peaks.values(), default=None)
    numpy = {row["work"]: row["ms_min"] for row in timed if row["variant"] == NUMPY.name}
    return [
        {
            **row,
            "peak_share": row["gflops"] / best if best else None,
            "vs_numpy": numpy[row["work"]] / row["ms_min"] if row["work"] in numpy else None,
        }
        for row in timed
    ]


def measure(
    contenders: Mapping[str, Contender], seconds: float, turn: Turn = ONE_THREAD
) -> dict[str, list[float]]:
    """Return the seconds of each call of each contender, in turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    calls = dict.fromkeys(contenders, 1)
    deadline, rounds = time.perf_counter() + seconds, 0
    gc_was_on = gc.isenabled()
    gc.disable()
    try:
        while contenders and (rounds < LEAST_ROUNDS or time.perf_counter() < deadline):
            for name, contender in contenders.items():
                time.sleep(turn.silence)
                contender.reset()
                warm = time.perf_counter() + turn.warm_up
                contender.run()
                while time.perf_counter() < warm:
                    contender.run()
                for _ in range(calls[name]):
                    start = time.perf_counter()
                    contender.run()
                    times[name].append(time.perf_counter() - start)
                calls[name] = min(max(int(turn.timed / min(times[name])), 1), 100)
            rounds += 1
    finally:
        if gc_was_on:
            gc.enable()
    return times


def disagreement(workload: Workload, answer: Answer, reference: Answer) -> str:
    """Return what is too far from the reference, or nothing."""
    shapes = [(a.losses.shape, a.vector.shape) for a in (answer, reference)]
    if shapes[0] != shapes[1]:
        return f"losses and result are of shapes {shapes[0]} instead of {shapes[1]}"
    pieces = workload.pieces(answer.vector), workload.pieces(reference.vector)
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
    """Return NumPy, and the kernels of each instruction set of this machine."""
    tables = [NUMPY, *(native.load(isa, threads=threads) for isa in _instruction_sets())]
    return {table.name: partial(_on_table, table) for table in tables}


def _on_table(table: Ops, workload: Workload) -> Contender:
    return workload.contender(table)


def _answer(contender: Contender) -> Answer:
    contender.reset()
    return contender.read(contender.run())


def _instruction_sets() -> list[str]:
    """Return the instruction sets to time: not portable16, which has AVX-512's block shape for tests only."""
    return [isa for isa in native.available() if isa != "portable16"]
