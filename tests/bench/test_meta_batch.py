"""The share of Python that `benchmarks/meta_batch.py` prints counts every call of C."""

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

    for name in ("predict", "loss_and_grad", "hvp", "loop", "update"):
        monkeypatch.setattr(NetworkCalls, name, counted(name, getattr(NetworkCalls, name)))
    made = meta_batch.experiment("conv", steps=2, tasks=2, threads=1)
    meta_batch.one_step(made, made.start())
    assert called.keys() == set(meta_batch.CALLS)
    assert called["loop"] == 2  # one a task
