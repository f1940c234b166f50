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
