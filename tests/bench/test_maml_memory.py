"""``benchmarks/maml_memory.py`` measures only what computes the right answer, and says in MB what it took."""

import json
import mmap
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import maml_memory
from reptile_np.nn import native

linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists() or not native.available(),
    reason="Linux and native kernels only",
)


def write(megabytes):
    """Map new memory, write all of it and unmap it.

    Not an array: NumPy's allocator may give it free memory that is resident already, and the peak is 0.
    """
    with mmap.mmap(-1, megabytes * 1_000_000) as memory:
        for page in range(0, len(memory), mmap.PAGESIZE):
            memory[page] = 1


@linux
@pytest.mark.parametrize("keep", maml_memory.KEEPS)
def test_what_is_kept_does_not_change_the_answer(keep):
    assert maml_memory.verify(keep, 3)["error"] < maml_memory.TOLERANCE


@linux
def test_a_wrong_answer_has_an_error_above_the_tolerance(monkeypatch):
    right = maml_memory.ours

    def wrong(work, keep):
        return replace(right(work, keep), read=lambda answer: answer._replace(vector=1.001 * answer.vector))

    monkeypatch.setattr(maml_memory, "ours", wrong)
    assert maml_memory.verify("all", 3)["error"] > maml_memory.TOLERANCE


def test_a_variant_with_a_wrong_answer_is_recorded_and_not_measured(tmp_path, monkeypatch, capsys):
    def answers(args, variant, k, *options):
        if options:
            return {"error": 0.5 if variant == "sqrt" else 1e-6}
        return {"peak_mb": 12.0, "ms_min": 3.0, "calls": 1}

    monkeypatch.setattr(maml_memory, "in_a_process", answers)
    path = tmp_path / "record.json"
    maml_memory.record(Namespace(record=path, steps=[1, 5], peers=["jax"], longest_peer=1))
    record = json.loads(path.read_text())
    measured = {(row["variant"], row["steps"]): "peak_mb" in row for row in record["rows"]}
    ours = {(keep, k): keep != "sqrt" for keep in maml_memory.KEEPS for k in (1, 5)}
    assert measured == {**ours, ("jax", 1): True}
    assert capsys.readouterr().out.splitlines()[-6:] == [
        "| | K = 1 | K = 5 |",
        "|---|---|---|",
        "| hessians | 12.0 MB, 3.0 ms | 12.0 MB, 3.0 ms |",
        "| all | 12.0 MB, 3.0 ms | 12.0 MB, 3.0 ms |",
        "| sqrt | - | - |",
        "| jax | 12.0 MB, 3.0 ms | - |",
    ]


@linux
def test_the_peak_is_what_the_first_call_took(monkeypatch):
    """A call that writes 64 MB and drops them again: a peak of 64 MB."""

    def take(variant, k):
        return maml_memory.Contender(lambda: write(64), lambda answer: answer)

    monkeypatch.setattr(maml_memory, "contender", take)
    monkeypatch.setattr(maml_memory, "SECONDS", 0.0)
    found = maml_memory.measure("any", 1)
    assert found["peak_mb"] == pytest.approx(64, abs=2)
    assert found["calls"] == 1


@linux
def test_a_wrong_direction_of_the_right_length_has_an_error_above_the_tolerance(monkeypatch):
    right = maml_memory.ours

    def turned(work, keep):
        return replace(right(work, keep), read=lambda answer: answer._replace(vector=-answer.vector))

    monkeypatch.setattr(maml_memory, "ours", turned)
    assert maml_memory.verify("all", 3)["error"] == pytest.approx(2)


@linux
def test_a_peak_from_before_the_call_does_not_count(monkeypatch):
    def take(variant, k):
        write(128)
        return maml_memory.Contender(lambda: write(64), lambda answer: answer)

    monkeypatch.setattr(maml_memory, "contender", take)
    monkeypatch.setattr(maml_memory, "SECONDS", 0.0)
    assert maml_memory.measure("any", 1)["peak_mb"] == pytest.approx(64, abs=2)


@linux
def test_the_time_is_that_of_the_fastest_call(monkeypatch):
    ticks = iter([0.0, 0.0, 0.3, 0.4, 0.4, 0.5, 0.6, 0.6, 0.8, 9.0])
    nothing = maml_memory.Contender(lambda: None, lambda answer: answer)
    monkeypatch.setattr(maml_memory.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(maml_memory, "resident", lambda name: 0.0)
    monkeypatch.setattr(maml_memory, "contender", lambda variant, k: nothing)
    found = maml_memory.measure("any", 1)
    assert (found["ms_min"], found["calls"]) == (100.0, 3)
