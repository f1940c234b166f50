"""Training steps on two threads against one, with the time that a cache line takes between the two cores.

    python benchmarks/two_threads.py [--seconds 60]

A team of threads hands over data twenty times in a step, so its speed depends on whether the cores share a
cache.  A virtual machine's cores may do so at one moment and not at the next.  Therefore each measurement
stands between two measurements of the latency (``core_latency.c``, which needs a C compiler and Linux), and
counts only if both agree: "near" below 100 ns, "far" otherwise.  Least times; five steps a call; ``bench``
times single steps.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from reptile_np.bench.catalogue import all_workloads
from reptile_np.bench.workloads import InnerLoop
from reptile_np.nn import native

WORKLOADS = (
    "Omniglot step, 5-way, batch 10",
    "Omniglot step, 20-way, batch 20",
    "Omniglot step, 5-way, batch 25",
    "Mini-ImageNet step, 5-way, batch 10",
    "Omniglot meta-iteration, 25 steps of batch 10",
)
STEPS = 5
NEAR = 100.0
"""Nanoseconds; speed.md has the times that were measured through a shared cache and without one."""
CALLS = 20


def calls_of(name: str) -> tuple[int, list[Callable[[], object]]]:
    """Return the steps of a call, and the call with one thread and with two."""
    (work,) = (w for w in all_workloads() if w.name == name)
    steps = 1
    if isinstance(work, InnerLoop):
        work, steps = replace(work, batches=work.batches * STEPS), STEPS
    tables = [native.load(threads=n, trials=False) for n in (1, 2)]
    return steps, [work.contender(ops).run for ops in tables]


def least(run: Callable[[], object]) -> float:
    """Return the least seconds of some calls, after one that is not counted."""
    times = []
    for _ in range(CALLS + 1):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def build_latency(folder: str | Path) -> str:
    """Compile ``core_latency.c`` into a folder; return the program's path."""
    program, source = str(Path(folder, "core_latency")), str(Path(__file__).with_name("core_latency.c"))
    subprocess.run(["cc", "-O2", "-std=c11", "-pthread", source, "-o", program], check=True)
    return program


def latency(program: str, cores: list[int]) -> float:
    """Return the nanoseconds, one way, from one core to the other."""
    words = [program, *map(str, cores)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure, and print a line for each workload and distance of the cores."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        parser.error("this process may use one core only; the measurement needs two")
    os.sched_setaffinity(0, cores)  # the cores between which the latency is measured
    found: dict[tuple[str, str], list[list[float]]] = defaultdict(lambda: [[], []])
    latencies: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        program = build_latency(folder)
        work = {name: calls_of(name) for name in WORKLOADS}
        end = time.monotonic() + args.seconds
        while time.monotonic() < end:
            for name, (steps, runs) in work.items():
                for threads, run in enumerate(runs):
                    before, seconds, after = latency(program, cores), least(run), latency(program, cores)
                    if (before < NEAR) == (after < NEAR):
                        distance = "near" if before < NEAR else "far"
                        latencies[distance] += [before, after]
                        found[name, distance][threads].append(1e3 * seconds / steps)
    for distance, all_of_them in sorted(latencies.items()):
        print(f"{distance}: {min(all_of_them):.0f} to {max(all_of_them):.0f} ns")
    for name in WORKLOADS:
        for distance in sorted(latencies):
            one, two = found[name, distance]
            if one and two:
                speedup, turns = min(one) / min(two), f"{len(one)} and {len(two)} turns"
                print(f"{name:46} {distance:5} {min(one):8.3f} {min(two):8.3f} ms {speedup:5.2f} x  {turns}")


if __name__ == "__main__":
    main()
