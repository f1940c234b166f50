"""``benchmarks/plain_im2col.py``, which shares no code with the package, computes the same training steps."""

import numpy as np

from benchmarks import plain_im2col
from benchmarks.plain_im2col import PlainStep
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Adam
from reptile_np.nn.models import omniglot_cnn


def test_its_losses_and_parameters_are_the_packages():
    rng, model = np.random.default_rng(0), omniglot_cnn(5)
    phi = model.init(rng).astype(float)
    batches = [(rng.random((4, 28, 28, 1)), rng.integers(0, 5, 4)) for _ in range(3)]
    ours = adapt(model, Adam(1e-3), phi, batches)
    step = PlainStep(phi, ways=5)
    np.testing.assert_allclose([step(*batch) for batch in batches], ours.losses, rtol=1e-9)
    np.testing.assert_allclose(step.phi, ours.phis[-1], rtol=1e-9, atol=1e-9)


def test_both_times_are_of_one_step_and_the_ratio_is_ours_to_the_plain_one(monkeypatch, capsys):
    ticks = iter([0.0, 0.05, 1.0, 1.02])  # 5 steps of ours, 5 plain ones
    monkeypatch.setattr(plain_im2col.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr("sys.argv", ["plain_im2col.py", "--rounds", "1"])
    plain_im2col.main()
    _, ours, plain, ratio = capsys.readouterr().out.splitlines()
    assert ours.split()[:2] == ["reptile_np", "10.00"]
    assert plain.split()[:2] == ["plain", "4.00"]
    assert ratio == "ratio of minima 2.50"
