"""Small runs of `meta_train`, and what equal steps are."""

from dataclasses import replace

import numpy as np

from reptile_np.meta.meta_gradients import fomaml, gradient_sum, maml, reptile
from reptile_np.meta.optimizers import Adam, HeavyBall, Sgd
from reptile_np.meta.training import begin, meta_train
from reptile_np.nn.models import sine_mlp
from tests.strategies import random_batch

MODEL = sine_mlp((4,))
ALPHA = 0.02
INNERS = [Sgd(ALPHA), Adam(0.01), Adam(0.01, beta1=0.9)]
OUTERS = [Sgd(1.0), HeavyBall(1.0), Adam(1.0)]  # `train` sets the rate
META_GRADIENTS = {
    "reptile": reptile,
    "fomaml": fomaml,
    "maml": maml(MODEL, ALPHA),
    "sum": gradient_sum([1, 0, 1]),
}


def episodes(i, j):
    """Three minibatches for task j of outer step i: a pure function."""
    rng = np.random.default_rng([i, j])
    return [random_batch(MODEL, rng, 5) for _ in range(3)]


def phi_0():
    return MODEL.init(np.random.default_rng(0), np.float64)


def training(inner=INNERS[1], outer=OUTERS[0], meta_gradient=reptile, steps=4, start=None, **options):
    """Yield each Step of a run."""
    options = {"rate": lambda i: 0.5, "episodes": episodes, "model": MODEL} | options
    rate, start = options.pop("rate"), start or begin(phi_0(), inner, outer)
    return meta_train(
        start=start,
        meta_gradient=meta_gradient,
        inner=inner,
        outer=lambda i: replace(outer, learning_rate=rate(i)),
        outer_steps=steps,
        **options,
    )


def train(*args, **options):
    """Every Step of a run."""
    return list(training(*args, **options))


def assert_same_state(a, b):
    assert type(a) is type(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def assert_same_step(a, b):
    assert (a.done, a.first_loss, a.last_loss) == (b.done, b.first_loss, b.last_loss)
    np.testing.assert_array_equal(a.phi, b.phi)
    assert_same_state(a.inner_state, b.inner_state)
    assert_same_state(a.outer_state, b.outer_state)
