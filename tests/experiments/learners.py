"""The network of the fixture `learner`, and images for it."""

import numpy as np

from reptile_np.nn.models import omniglot_cnn

WAYS = 4
MODEL = omniglot_cnn(WAYS, filters=4)


def images(rng, n):
    return (rng.random((n, 28, 28, 1)) < 0.5).astype(np.float32)
