"""Networks that C computes whole, for the tests; and how often they call each C function."""

from collections import Counter
from types import SimpleNamespace

import numpy as np

from reptile_np.nn.models import (
    finn_mini_imagenet_cnn,
    finn_omniglot_cnn,
    mini_imagenet_cnn,
    omniglot_cnn,
    sine_mlp,
)
from tests.strategies import random_batch, random_phi

PAPERS = {
    "omniglot": omniglot_cnn(5),
    "omniglot, 20-way, 7 filters": omniglot_cnn(20, filters=7),
    "mini-imagenet, 9 filters": mini_imagenet_cnn(5, filters=9),
    "mini-imagenet, v1, 4 filters": mini_imagenet_cnn(5, filters=4, order="conv-pool-norm"),
    "finn, omniglot": finn_omniglot_cnn(5),
    "finn, omniglot, 20-way, 7 filters": finn_omniglot_cnn(20, filters=7),
    "finn, mini-imagenet, 9 filters": finn_mini_imagenet_cnn(5, filters=9),
    "sine": sine_mlp(),
}


def single(model, rng, examples):
    """φ, a minibatch and a direction in float32."""
    phi = random_phi(model, rng, np.float32)
    return phi, random_batch(model, rng, examples, np.float32), rng.normal(size=phi.size).astype(np.float32)


def counted(network):
    """Return how often `network` has called each C function, a `Counter` that its later calls increase."""
    counts, calls = Counter(), network._calls

    def counting(name, function):
        def call(*arguments):
            counts[name] += 1
            return function(*arguments)

        return call

    names = ("predict", "loss_and_grad", "hvp", "loop")
    calls.entries = SimpleNamespace(
        **{name: getattr(calls.entries, name) for name in dir(calls.entries)}
        | {name: counting(name, getattr(calls.entries, name)) for name in names}
    )
    calls.optimizer_step = counting("update", calls.optimizer_step)
    return counts
