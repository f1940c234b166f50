"""Two small networks in float64, with a few tasks each, for the claims about real networks.

The sine MLP is that of the authors' demo; the convolutional one is the Omniglot network's block, smaller:
batch norm and ReLU included.

Verified by ``tests/test_paper.py``, whose claims about networks use them.
"""

from __future__ import annotations

import numpy as np

from reptile_np.nn.layers import BatchNorm, Conv2d, Dense, Layer
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import Model, sine_mlp
from reptile_np.nn.parameter_free import Flatten, Relu
from reptile_np.theory.expansions import Minibatches, TaskFamily

__all__ = ["sine_waves", "small_images"]


def sine_waves(tasks: int = 2, batches: int = 3, seed: int = 0) -> TaskFamily:
    """Return the 1-64-64-1 MLP on `tasks` sine waves, each of `batches` minibatches of 10 points."""
    rng = np.random.default_rng(seed)
    model = sine_mlp()

    def task() -> Minibatches:
        amplitude, phase = rng.uniform(0.1, 5), rng.uniform(0, 2 * np.pi)
        inputs = [rng.uniform(-5, 5, (10, 1)) for _ in range(batches)]
        return [(x, amplitude * np.sin(x + phase)) for x in inputs]

    return TaskFamily(model, [task() for _ in range(tasks)], model.init(rng, np.float64))


def small_images(tasks: int = 2, batches: int = 3, seed: int = 0, *, batch_norm: bool = True) -> TaskFamily:
    """Return two blocks of conv, batch norm, ReLU on random 8×8 images, 3-way, minibatches of 6."""
    rng = np.random.default_rng(seed)
    norm: list[Layer] = [BatchNorm()] if batch_norm else []
    block = [Conv2d(filters=4, stride=2, before_batch_norm=batch_norm), *norm, Relu()]
    model = Model((*block * 2, Flatten(), Dense(3)), (8, 8, 1), SoftmaxCrossEntropy("sum"))
    labels = np.repeat(np.arange(3), 2)

    def task() -> Minibatches:
        classes = rng.standard_normal((3, 8, 8, 1))
        return [(classes[labels] + rng.standard_normal((6, 8, 8, 1)), labels) for _ in range(batches)]

    return TaskFamily(model, [task() for _ in range(tasks)], model.init(rng, np.float64))
