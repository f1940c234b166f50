"""`benchmarks/meta_batch.py` compares with one core, and counts no method that calls C as Python."""

import inspect
from collections import Counter
from types import SimpleNamespace

import pytest

from benchmarks import meta_batch
from reptile_np.nn import native
from reptile_np.nn.native.calls import NetworkCalls

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")


def test_the_calls_that_are_timed_are_all_calls_of_a_step(monkeypatch):
    called = Counter()

    def counted(name, method):
        def call(*arguments):
            called[name] += 1
            return method(*arguments)

        return call

    for name, method in list(vars(NetworkCalls).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            monkeypatch.setattr(NetworkCalls, name, counted(name, method))
    made = meta_batch.experiment("conv", steps=2, tasks=2, threads=1)
    meta_batch.one_step(made, made.start())
    assert called.keys() - {"saved"} == set(meta_batch.CALLS)  # `saved` only takes memory
    assert called["loop"] == 2  # one for each task


def test_the_work_of_processes_that_take_twice_as_long_is_half_as_much(monkeypatch):
    seconds = iter([1.0, 2.0, 4.0])  # alone, then two beside each other

    class Executor:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, function, *arguments):
            found = next(seconds)
            return SimpleNamespace(result=lambda: found)

    monkeypatch.setattr(meta_batch, "ProcessPoolExecutor", Executor)
    assert meta_batch.separate_processes("conv", 1, 1, 1.0, 2) == 1 / 2 + 1 / 4


def test_pythons_share_is_the_least_that_is_outside_of_the_calls(monkeypatch):
    clock, outside = [0.0], iter([*[1.0] * 9, 3.0])

    class Calls:
        def loop(self):
            clock[0] += 1.0

        hvp = update = loop

    def one_step(made, start):
        meta_batch.NetworkCalls().loop()
        clock[0] += next(outside) * 3

    monkeypatch.setattr(meta_batch, "NetworkCalls", Calls)
    monkeypatch.setattr(meta_batch, "one_step", one_step)
    monkeypatch.setattr(meta_batch.time, "perf_counter", lambda: clock[0])
    assert meta_batch.python_share(SimpleNamespace(start=lambda: None)) == 0.75
