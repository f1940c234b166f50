"""How many cores there are, and what Linux says of the processor."""

import io
import os

import pytest

from reptile_np import machine
from reptile_np.cli.arguments import one_blas_thread


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux restricts a process")
def test_only_the_cores_that_this_process_may_use_are_counted():
    before = os.sched_getaffinity(0)
    assert machine.cores() == len(before)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert machine.cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_system_without_affinities_has_all_its_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert machine.cores() == os.cpu_count()


def test_blas_has_one_thread_unless_its_variable_or_openmp_s_says_otherwise(monkeypatch):
    for name in machine.BLAS_THREADS:
        monkeypatch.delenv(name, raising=False)
    one_blas_thread()
    assert {os.environ[name] for name in machine.BLAS_THREADS} == {"1"}
    for name in machine.BLAS_THREADS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    one_blas_thread()
    assert os.environ["MKL_NUM_THREADS"] == "2"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    for name in machine.BLAS_THREADS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    one_blas_thread()
    assert [name for name in machine.BLAS_THREADS if name in os.environ] == ["OMP_NUM_THREADS"]


def test_the_facts_are_those_of_cpuinfo_and_none_without_it(monkeypatch):
    text = "processor : 0\nmodel name\t: X: 1\n\nflags : a b\n"
    monkeypatch.setattr(machine, "open", lambda *path, **how: io.StringIO(text), raising=False)
    facts = machine.processor_facts()
    assert (facts["model name"], facts["flags"]) == ("X: 1", "a b")

    def missing(*path, **how):
        raise FileNotFoundError

    monkeypatch.setattr(machine, "open", missing, raising=False)
    assert machine.processor_facts() == {}
