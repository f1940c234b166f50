"""The benchmark verifies before it times, times in turns, and says what it measured."""

import gc
import threading
from dataclasses import replace
from types import SimpleNamespace

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


TWO = SimpleNamespace(pieces=lambda vector: {"small": vector[1:]})
"""A workload with a result of two numbers, of which the second is a piece by itself."""


@pytest.mark.parametrize(
    ("what", "losses", "result", "allowed"),
    [("losses", [1, 1], [0, 0], 1e-4), ("result", [0, 0], [1, 1], 1e-4), ("small", [0, 0], [0, 1], 1e-3)],
)
def test_losses_and_result_may_be_1e_4_off_and_a_piece_1e_3(what, losses, result, allowed):
    exact = Answer(np.array([3.0, 4.0]), np.array([1e3, 1.0]))
    for share in (0.9, 1.1):
        factors = (1 + share * allowed * np.array(off) for off in (losses, result))
        said = bench.disagreement(TWO, Answer(*(a * f for a, f in zip(exact, factors, strict=True))), exact)
        assert said.startswith(f"{what} differs by ") if share > 1 else not said


class Clock:
    """A clock that goes on only in sleep."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


CALL = 1 / 1024
"""Seconds of a call."""


@pytest.mark.parametrize(
    ("turn", "not_timed", "timed"),
    [
        (bench.ONE_THREAD, 1, 10),
        (bench.THREADS, 82, 40),
        (bench.Turn(silence=0.5, warm_up=0.0, timed=0.0), 1, 1),
        (bench.Turn(silence=0.5, warm_up=0.0, timed=1.0), 1, 100),
    ],
)
def test_a_turn_is_silence_calls_that_are_not_timed_and_calls_that_are(monkeypatch, turn, not_timed, timed):
    clock, log = Clock(), []
    monkeypatch.setattr(bench, "time", clock)

    def contender(name):
        def run():
            clock.sleep(CALL)
            log.append(name)

        return Contender(run, read=lambda result: None, reset=lambda: log.append(f"{name} afresh"))

    times = bench.measure({name: contender(name) for name in "ab"}, 0.0, turn)
    rounds = [1] + [timed] * (bench.LEAST_ROUNDS - 1)  # the first call that is timed says how many fit in
    assert log == [
        what
        for calls in rounds
        for name in "ab"
        for what in [f"{name} afresh"] + [name] * (not_timed + calls)
    ]
    assert [len(values) for values in times.values()] == [sum(rounds)] * 2
    np.testing.assert_allclose([*times.values()], CALL)
    calls = 2 * (not_timed * len(rounds) + sum(rounds))
    assert clock.now == pytest.approx(2 * len(rounds) * turn.silence + calls * CALL)


def timed_by_a_clock(monkeypatch, works, **options):
    """The rows of `works` workloads whose calls take CALL seconds, and the seconds that all of it took."""
    clock = Clock()
    monkeypatch.setattr(bench, "time", clock)
    monkeypatch.setattr(native, "available", lambda: ())
    contender = Contender(lambda: clock.sleep(CALL), lambda result: Answer(np.ones(1), np.ones(1)))
    work = SimpleNamespace(name="work", flops=1, contender=lambda *ops: contender, pieces=lambda vector: {})
    variants = {"numpy": lambda workload: contender}
    part = bench.measure_all([work] * works, variants, quiet=True, **options)
    return part["rows"], clock.now


@pytest.mark.parametrize(("threads", "silence", "not_timed", "timed"), [(1, 0.002, 1, 10), (2, 0.12, 82, 40)])
def test_turns_are_longer_with_several_threads_and_every_timed_call_is_counted(
    monkeypatch, threads, silence, not_timed, timed
):
    (row,), seconds = timed_by_a_clock(monkeypatch, 1, threads=threads, seconds=0.0)
    assert row["calls"] == 1 + 2 * timed  # three rounds
    verified = 2  # the reference and the contender, the latter after a silence
    assert seconds == pytest.approx(4 * silence + (verified + 3 * not_timed + row["calls"]) * CALL)


def test_the_workloads_share_the_seconds(monkeypatch):
    rows, seconds = timed_by_a_clock(monkeypatch, 4, threads=1, seconds=2.0)
    assert len(rows) == 4
    assert 2.0 <= seconds <= 2.1  # of each workload, the verification and the end of its last round


def test_a_row_has_the_least_time_the_median_and_the_speed_of_the_least(monkeypatch):
    monkeypatch.setattr(bench, "measure", lambda contenders, *how: {"numpy": [0.009, 0.001, 0.002]})
    (row,), _ = timed_by_a_clock(monkeypatch, 1, threads=1, seconds=0.0)
    assert (row["ms_min"], row["ms_median"], row["calls"]) == pytest.approx((1, 2, 3))
    assert row["gflops"] == pytest.approx(1e-6)  # one operation in a millisecond


SPEEDS = {"slow": 50.0, "fast": 80.0}
"""GFLOP/s of two instruction sets."""


@pytest.mark.parametrize("best", [0, 4, 15, 19])
def test_the_peak_of_an_instruction_set_is_the_best_of_its_trials_beside_all_workloads(monkeypatch, best):
    trials = {isa: iter([peak / 2] * best + [peak] + [peak / 2] * 19) for isa, peak in SPEEDS.items()}
    sets = SimpleNamespace(
        available=lambda: tuple(SPEEDS), fma_gflops=lambda isa, threads: {2: next(trials[isa])}[threads]
    )
    monkeypatch.setattr(bench, "measure", lambda contenders, *how: {"numpy": [DENSE[0].flops / 20e9]})
    monkeypatch.setattr(bench, "native", sets)
    part = bench.measure_all(DENSE[:1] * 2, {}, threads=2, seconds=0.01)
    assert part["peaks"] == SPEEDS
    assert [row["peak_share"] for row in part["rows"]] == pytest.approx([20 / 80] * 2)


@pytest.mark.parametrize("before", [True, False])
def test_no_garbage_is_collected_between_calls_and_afterwards_all_is_as_before(monkeypatch, before):
    monkeypatch.setattr(bench, "time", Clock())
    was_on, seen = gc.isenabled(), []
    contender = Contender(lambda: bench.time.sleep(CALL) or seen.append(gc.isenabled()), read=None)
    try:
        gc.enable() if before else gc.disable()
        bench.measure({"a": contender}, 0.0)
        seen.append(gc.isenabled())
    finally:
        gc.enable() if was_on else gc.disable()
    assert (set(seen[:-1]), seen[-1]) == ({False}, before)


@pytest.mark.skipif(not native.available(), reason="native kernels are not built here")
def test_the_peak_of_threads_is_all_their_operations_in_the_time_from_the_first_begin_to_the_last_end(
    monkeypatch,
):
    from reptile_np.nn.native import peak

    times, of_thread = iter([[0.0, 2.0], [1.0, 4.0]]), threading.local()

    def clock():
        if not hasattr(of_thread, "left"):
            of_thread.left = next(times)
        return of_thread.left.pop(0)

    monkeypatch.setattr(peak, "time", SimpleNamespace(perf_counter=clock))
    monkeypatch.setattr(peak, "table_of", lambda name: SimpleNamespace(fma_peak=lambda rounds, sink: 6e9))
    assert peak.fma_gflops("any", threads=2) == 12 / 4
