"""Each peer that is installed computes the same workload, so that its time may stand beside ours."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from reptile_np.bench import measurement as bench
from reptile_np.bench.catalogue import all_workloads
from reptile_np.nn.ops import NUMPY

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NEEDS = {
    "torch_eager": "torch",
    "jax_conv": "jax",
    "jax_im2col": "jax",
    "tensorflow_graph": "tensorflow",
}
SMALL = [workload for workload in all_workloads() if workload.flops < 4e8 and not hasattr(workload, "entry")]


@pytest.mark.filterwarnings("ignore")  # other people's
@pytest.mark.parametrize("workload", SMALL, ids=lambda workload: workload.name)
@pytest.mark.parametrize("module", NEEDS)
def test_a_peer_agrees_with_float64(monkeypatch, module, workload):
    pytest.importorskip(NEEDS[module], exc_type=ImportError)
    monkeypatch.syspath_prepend(BENCHMARKS)
    exact = workload.contender(NUMPY, np.float64)
    reference = exact.read(exact.run())
    for variant, make in importlib.import_module(f"peers.{module}").variants(threads=1).items():
        if (contender := make(workload)) is None:
            continue
        for _ in range(2):  # from a fresh start each time
            contender.reset()
            complaint = bench.disagreement(workload, contender.read(contender.run()), reference)
            assert not complaint, variant


@pytest.mark.filterwarnings("ignore")
def test_a_peer_that_pads_symmetrically_is_found_out(monkeypatch):
    pytest.importorskip("torch", exc_type=ImportError)
    monkeypatch.syspath_prepend(BENCHMARKS)
    eager = importlib.import_module("peers.torch_eager")
    conv2d = eager.F.conv2d
    monkeypatch.setattr(eager.F, "pad", lambda x, pad: x)
    monkeypatch.setattr(eager.F, "conv2d", lambda x, w, b, stride, pad=1: conv2d(x, w, b, stride, 1))
    part = bench.measure_all(SMALL[:1], eager.variants(1), threads=1, seconds=0.01)
    assert part["failures"]
    assert not part["rows"]
