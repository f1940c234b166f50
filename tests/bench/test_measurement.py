"""The benchmark verifies before it times, times in turns, and says what it measured."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from reptile_np import cli
from reptile_np.bench import measurement as bench
from reptile_np.bench.catalogue import all_works
from reptile_np.bench.workloads import Answer, Contender
from reptile_np.nn import native
from reptile_np.nn.ops import NUMPY

ROW_KEYS = {"work", "variant", "threads", "ms_min", "ms_median", "gflops", "peak_share", "vs_numpy"}
WORKS = all_works()
DENSE = [work for work in WORKS if "sine dense2" in work.name]
STEP = [work for work in WORKS if work.name == "Omniglot step, 5-way, batch 5"]


@pytest.fixture(scope="module")
def result():
    """A whole run, child process included, on three small works."""
    return bench.run(seconds=0.2, threads=[1], works="sine dense2")


def wrong(**entries):
    """A variant with planted errors."""
    return lambda work: work.contender(replace(NUMPY, name="wrong", **entries))


def in_this_process(works, variants):
    return bench.measure_all(works, variants, threads=1, seconds=0.01)


def test_every_row_has_the_promised_keys(result):
    assert all(row.keys() >= ROW_KEYS for row in result["rows"])
    assert not result["failures"]


def test_there_is_a_row_for_each_work_and_variant(result):
    variants = {"numpy", *(f"native-{isa}" for isa in native.available() if isa != "portable16")}
    wanted = {(work.name, variant, 1) for work in DENSE for variant in variants}
    assert {(row["work"], row["variant"], row["threads"]) for row in result["rows"]} == wanted
    assert len(result["rows"]) == len(wanted)


def test_rows_follow_from_their_times(result):
    flops = {work.name: work.flops for work in DENSE}
    numpy = {row["work"]: row["ms_min"] for row in result["rows"] if row["variant"] == "numpy"}
    for row in result["rows"]:
        assert 0 < row["ms_min"] <= row["ms_median"]
        assert row["gflops"] == pytest.approx(flops[row["work"]] / row["ms_min"] / 1e6)
        assert row["vs_numpy"] == pytest.approx(numpy[row["work"]] / row["ms_min"])
        if result["peak_gflops"] is not None:
            assert row["peak_share"] == pytest.approx(row["gflops"] / result["peak_gflops"])


def test_the_result_is_json_and_its_table_names_everything(result):
    assert json.loads(json.dumps(result)) == result
    table = bench.format_table(result)
    assert all(row["work"] in table and row["variant"] in table for row in result["rows"])


@pytest.mark.skipif(not native.available(), reason="no native kernels are built here")
def test_the_peak_is_measured_and_nobody_is_above_it(result):
    assert result["peak_gflops"] == max(result["peaks"]["1"].values())
    assert all(0 < row["peak_share"] < 1.05 for row in result["rows"])  # the peak is measured too


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
    variants = {"numpy": lambda work: work.contender(NUMPY), "wrong": wrong(**{entry: PLANTED[entry]})}
    part = in_this_process(STEP, variants)
    assert [failure for failure in part["failures"] if "wrong" in failure and STEP[0].name in failure]
    assert {row["variant"] for row in part["rows"]} == {"numpy"}


def test_a_variant_without_a_way_to_do_a_work_has_no_row():
    variants = {"numpy": lambda work: work.contender(NUMPY), "absent": lambda work: None}
    assert {row["variant"] for row in in_this_process(DENSE, variants)["rows"]} == {"numpy"}


def test_answers_of_another_shape_disagree():
    work, answer = DENSE[0], Answer(np.zeros(1), np.ones(3))
    assert not bench.disagreement(work, answer, answer)
    assert bench.disagreement(work, answer._replace(vector=np.ones(4)), answer)
    assert bench.disagreement(work, answer._replace(losses=np.array([np.nan])), answer)


def test_a_small_piece_of_a_gradient_counts_as_much_as_a_large_one():
    work = STEP[0]
    exact = Answer(np.ones(1), np.ones(work.model.layout.size))
    off = exact._replace(vector=exact.vector.copy())
    work.model.layout.views(off.vector)["dense/bias"][0] += 0.01
    assert "dense/bias" in bench.disagreement(work, off, exact)


def test_contenders_take_turns_from_a_fresh_start_with_one_call_that_is_not_timed():
    log = []

    def contender(name):
        def run():
            log.append(name)
            time.sleep(bench.CHUNK)  # so long that a turn is one timed call

        return Contender(run, read=lambda result: None, reset=lambda: log.append(f"{name} afresh"))

    times = bench.measure({name: contender(name) for name in "ab"}, seconds=0)
    turns = ["a afresh", "a", "a", "b afresh", "b", "b"]
    assert log == turns * bench.LEAST_ROUNDS
    assert [len(calls) for calls in times.values()] == [bench.LEAST_ROUNDS] * 2
    assert all(call >= bench.CHUNK for calls in times.values() for call in calls)


@pytest.mark.parametrize(("failures", "code"), [([], 0), (["a work, native-avx2: wrong"], 1)])
def test_the_command_exits_with_1_where_a_check_does_not_hold(
    monkeypatch, capsys, tmp_path, result, failures, code
):
    monkeypatch.setattr(bench, "run", lambda: {**result, "failures": failures})
    assert cli.main(["bench", "--json", str(tmp_path / "bench.json")]) == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == json.loads((tmp_path / "bench.json").read_text())
    assert cli.main(["bench"]) == code
    assert ("WRONG" in capsys.readouterr().out) == bool(failures)
