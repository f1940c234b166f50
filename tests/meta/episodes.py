"""The tasks on which the tests of evaluation fine-tune: images of three classes, and sine waves."""

import numpy as np

from reptile_np.meta.evaluation import Episode
from reptile_np.meta.optimizers import Adam
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import Model
from reptile_np.nn.parameter_free import Flatten, Relu

MODEL = Model(
    (Conv2d(filters=4, stride=2, before_batch_norm=True), BatchNorm(), Relu(), Flatten(), Dense(3)),
    (6, 6, 1),
    SoftmaxCrossEntropy("sum"),
)
ADAM = Adam(0.02)


def episode(i):
    """Task i: 3 classes that differ in their mean image, 4 support images and 1 query of each."""
    rng = np.random.default_rng([7, i])
    classes = rng.normal(size=(3, 6, 6, 1))
    y = np.repeat(np.arange(3), 5)
    x = (classes[y] + 2.5 * rng.normal(size=(15, 6, 6, 1))).astype(np.float32)
    query = np.arange(15) % 5 == 4
    support = x[~query], y[~query]
    batches = [(support[0][s], support[1][s]) for s in (rng.permutation(12)[:6] for _ in range(5))]
    return Episode(support, (x[query], y[query]), batches)


def wave(seed, i):
    """Sine task i: 10 points to fine-tune on and 20 to judge by."""
    rng = np.random.default_rng([seed, i])
    amplitude, phase = rng.uniform(1, 5), rng.uniform(0, 6)
    x = rng.uniform(-5, 5, (30, 1)).astype(np.float32)
    y = (amplitude * np.sin(x + phase)).astype(np.float32)
    batch = x[:10], y[:10]
    return Episode(batch, (x[10:], y[10:]), [batch] * 4)
