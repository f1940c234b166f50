"""`benchmarks/meta_batch.py` counts no method that calls C as Python."""

import inspect
from collections import Counter

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
