"""``benchmarks/independent_reptile.py``, which shares no code with the package, computes the same as it."""

from pathlib import Path

import numpy as np
import pytest

from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Adam
from reptile_np.nn.models import mini_imagenet_cnn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODEL, ADAM = mini_imagenet_cnn(5), Adam(1e-3)
CLOSE = {
    "rtol": 1e-9,
    "atol": 1e-9,
}  # the conv biases, whose gradient is rounding only, move by less than 1e-11


@pytest.fixture
def program(monkeypatch):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    monkeypatch.syspath_prepend(BENCHMARKS)
    import independent_reptile

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield independent_reptile
    torch.set_default_dtype(default)


def flat(parameters):
    """Return φ (n,) in the package's order of axes from the program's parameters."""
    phi = np.empty(MODEL.layout.size)
    for view, p in zip(MODEL.layout.views(phi).values(), parameters, strict=True):
        axes = (2, 3, 1, 0) if p.ndim == 4 else None  # OIHW -> HWIO; a dense kernel (ways, n) -> (n, ways)
        view[:] = p.detach().numpy().transpose(axes)
    return phi


def minibatches(n, rng, size=4):
    return [(rng.normal(size=(size, 84, 84, 3)), rng.integers(0, 5, size)) for _ in range(n)]


def for_torch(x, y):
    import torch

    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), torch.from_numpy(y)


def test_its_network_is_the_packages(program):
    parameters = program.initial()
    ((x, y),) = minibatches(1, np.random.default_rng(0))
    found = program.logits(parameters, for_torch(x, y)[0]).detach().numpy()
    np.testing.assert_allclose(found, MODEL.predict(flat(parameters), x), **CLOSE)


def test_its_outer_steps_are_the_packages_with_a_rate_that_falls_to_zero(program, monkeypatch):
    """φ ← φ + ε_i (mean W - φ), ε_i = 1 - i / 2; Adam's moments run on through all tasks."""
    drawn = minibatches(8, np.random.default_rng(1))  # 2 outer steps × 2 tasks × 2 minibatches
    rest = iter(drawn)
    monkeypatch.setattr(program, "META_BATCH", 2)
    monkeypatch.setattr(program, "batches", lambda *of_task: [for_torch(*next(rest)) for _ in range(2)])
    monkeypatch.setattr(program, "task", lambda *of_split: [])
    program.torch.manual_seed(5)
    phi, state = flat(program.initial()), None
    program.torch.manual_seed(5)
    parameters, adam = program.train([], outer_steps=2)
    for rate in (1.0, 0.5):
        ends = []
        for _ in range(2):
            t = adapt(MODEL, ADAM, phi, [drawn.pop(0), drawn.pop(0)], state)
            ends.append(t.phis[-1])
            state = t.state
        phi = phi + rate * (np.mean(ends, axis=0) - phi)
    np.testing.assert_allclose(flat(parameters), phi, **CLOSE)
    np.testing.assert_allclose(flat(adam.v), state.v, **CLOSE)
    assert adam.t == state.t == 8


def test_its_minibatches_are_full_and_each_epoch_has_every_sample_once(program):
    samples = [(np.full((1, 1, 3), i, np.uint8), i) for i in range(7)]
    labels = [int(y) for _, batch in program.batches(samples, 5, 14) for y in batch]
    assert len(labels) == 70
    assert [sorted(labels[i : i + 7]) for i in range(0, 70, 7)] == [list(range(7))] * 10


def test_an_evaluation_leaves_parameters_and_moments_as_they_were(program, monkeypatch):
    program.torch.set_default_dtype(program.torch.float32)
    monkeypatch.setattr(program, "TASKS", {1: 2})
    monkeypatch.setattr(program, "TEST_STEPS", 1)
    classes = np.random.default_rng(2).integers(0, 255, (6, 2, 84, 84, 3), np.uint8)
    parameters = program.initial()
    adam = program.Adam(parameters)
    before = flat(parameters)
    found = program.evaluate(parameters, adam, list(classes), shots=1)
    np.testing.assert_array_equal(flat(parameters), before)
    assert adam.t == 0
    assert not flat(adam.v).any()
    assert all(0 <= found[mode]["mean"] <= 1 for mode in ("transductive", "non_transductive"))
