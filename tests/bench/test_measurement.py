"""The benchmark verifies before it times, times in turns, and says what it measured."""

import time
from dataclasses import replace

import numpy as np
import pytest

from reptile_np.bench import measurement as bench
from reptile_np.bench.catalogue import all_workloads
from reptile_np.bench.workloads import Answer, Contender
from reptile_np.nn import native
from reptile_np.nn.ops import NUMPY

WORKLOADS = all_workloads()
DENSE = [workload for workload in WORKLOADS if "sine dense2" in workload.name]
STEP = [workload for workload in WORKLOADS if workload.name == "Omniglot step, 5-way, batch 5"]


def wrong(**entries):
    """A variant with planted errors."""
    return lambda workload: workload.contender(replace(NUMPY, name="wrong", **entries))


def in_this_process(workloads, variants):
    return bench.measure_all(workloads, variants, threads=1, seconds=0.01)


def test_without_kernels_only_numpy_is_timed_and_there_is_no_peak(monkeypatch):
    monkeypatch.setattr(native, "available", lambda: ())
    part = in_this_process(DENSE, bench.our_variants(1))
    assert part["peaks"] == {}
    assert {row["variant"] for row in part["rows"]} == {"numpy"}
    assert all(row["peak_share"] is None and row["vs_numpy"] == 1 for row in part["rows"])


PLANTED = {
    "conv2d": lambda x, k, s, p: NUMPY.conv2d(x, k * (np.arange(9) != 8).reshape(3, 3, 1, 1), s, p),
    "conv2d_input": lambda y, k, s, p, hw: NUMPY.conv2d_input(y, k, s, p, hw) * np.float32(1.001),
    "conv2d_weight": lambda x, y, s, p, taps: np.roll(NUMPY.conv2d_weight(x, y, s, p, taps), 1, 0),
    "matmul": lambda x, w: np.full((len(x), w.shape[1]), np.nan, np.float32),
    "matmul_input": lambda y, w: NUMPY.matmul_input(y, w) * np.float32(0.999),
    "matmul_weight": lambda x, y: 0 * NUMPY.matmul_weight(x, y),
}


@pytest.mark.parametrize("entry", PLANTED)
def test_a_wrong_kernel_is_named_and_not_timed(entry):
    variants = {
        "numpy": lambda workload: workload.contender(NUMPY),
        "wrong": wrong(**{entry: PLANTED[entry]}),
    }
    part = in_this_process(STEP, variants)
    assert [failure for failure in part["failures"] if "wrong" in failure and STEP[0].name in failure]
    assert {row["variant"] for row in part["rows"]} == {"numpy"}


def test_a_variant_without_a_way_to_do_a_workload_has_no_row():
    variants = {"numpy": lambda workload: workload.contender(NUMPY), "absent": lambda workload: None}
    assert {row["variant"] for row in in_this_process(DENSE, variants)["rows"]} == {"numpy"}


def test_answers_of_another_shape_disagree():
    workload, answer = DENSE[0], Answer(np.zeros(1), np.ones(3))
    assert not bench.disagreement(workload, answer, answer)
    assert bench.disagreement(workload, answer._replace(vector=np.ones(4)), answer)
    assert bench.disagreement(workload, answer._replace(losses=np.array([np.nan])), answer)


def test_a_small_piece_of_a_gradient_counts_as_much_as_a_large_one():
    workload = STEP[0]
    exact = Answer(np.ones(1), np.ones(workload.model.layout.size))
    off = exact._replace(vector=exact.vector.copy())
    workload.model.layout.views(off.vector)["dense/bias"][0] += 0.01
    assert "dense/bias" in bench.disagreement(workload, off, exact)


def test_contenders_take_turns_from_a_fresh_start_with_one_call_that_is_not_timed():
    log = []

    def contender(name):
        def run():
            log.append(name)
            time.sleep(bench.CHUNK)  # a turn is then one timed call

        return Contender(run, read=lambda result: None, reset=lambda: log.append(f"{name} afresh"))

    times = bench.measure({name: contender(name) for name in "ab"}, seconds=0)
    turns = ["a afresh", "a", "a", "b afresh", "b", "b"]
    assert log == turns * bench.LEAST_ROUNDS
    assert [len(calls) for calls in times.values()] == [bench.LEAST_ROUNDS] * 2
    assert all(call >= bench.CHUNK for calls in times.values() for call in calls)
