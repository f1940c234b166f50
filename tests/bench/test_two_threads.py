"""``benchmarks/two_threads.py`` compares equal work, and its latency is one that hardware can have."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import two_threads
from reptile_np.nn import native

TWO_CORES = sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1


@pytest.mark.skipif(not native.available(), reason="native kernels are not built here")
@pytest.mark.parametrize("name", two_threads.WORKLOADS[:2])
def test_both_numbers_of_threads_do_the_same_steps(name):
    steps, (one, two) = two_threads.calls_of(name)
    assert steps == two_threads.STEPS
    first, second = one(), two()
    assert len(first.losses) == steps
    np.testing.assert_array_equal(first.phis[-1], second.phis[-1])


@pytest.mark.skipif(not TWO_CORES or not shutil.which("cc"), reason="needs Linux, two cores, a C compiler")
def test_the_latency_between_two_cores_is_between_one_nanosecond_and_a_hundred_microseconds(tmp_path):
    program = two_threads.build_latency(tmp_path)
    cores = sorted(os.sched_getaffinity(0))[:2]
    assert 1 <= two_threads.latency(program, cores) <= 100_000
    wrong = subprocess.run([program, "0"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "CORE CORE" in wrong.stderr


def test_a_speedup_is_one_thread_over_two_and_turns_whose_latency_changed_do_not_count(monkeypatch, capsys):
    ends = iter([0.0, 1.0, 2.0, 9.0])
    latencies = iter([50.0, 60.0, 50.0, 500.0, 70.0, 80.0, 90.0, 55.0])  # the second turn: near, then far
    seconds = {"one": 0.010, "two": 0.004}
    monkeypatch.setattr(two_threads.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(two_threads.os, "sched_setaffinity", lambda *_: None, raising=False)
    monkeypatch.setattr(two_threads.time, "monotonic", lambda: next(ends))
    monkeypatch.setattr(two_threads, "WORKLOADS", ("any",))
    monkeypatch.setattr(two_threads, "calls_of", lambda name: (5, ["one", "two"]))
    monkeypatch.setattr(two_threads, "build_latency", lambda folder: "program")
    monkeypatch.setattr(two_threads, "latency", lambda *_: next(latencies))
    monkeypatch.setattr(two_threads, "least", seconds.get)
    monkeypatch.setattr("sys.argv", ["two_threads.py", "--seconds", "5"])
    two_threads.main()
    near, line = capsys.readouterr().out.splitlines()
    assert near == "near: 50 to 90 ns"
    assert " ".join(line.split()) == "any near 2.000 0.800 ms 2.50 x 2 and 1 turns"


def test_the_first_call_does_not_count(monkeypatch):
    took, clock = iter([0.5, *[2.0] * (two_threads.CALLS - 1), 1.0]), [0.0]

    def run():
        clock[0] += next(took)

    monkeypatch.setattr(two_threads.time, "perf_counter", lambda: clock[0])
    assert two_threads.least(run) == 1.0
