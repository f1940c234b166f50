"""Images and examples that are told apart by their numbers, for the tests of the samplers."""

import numpy as np
from hypothesis import strategies as st

from reptile_np.tasks.image_classes import ArrayClasses

seeds = st.integers(0, 2**32 - 1)


def rng(seed=0):
    return np.random.default_rng(seed)


def numbered_classes(classes, per_class):
    """Images that say who they are: pixel 0 is the class, pixel 1 the image."""
    c, i = np.divmod(np.arange(classes * per_class, dtype=np.float32), per_class)
    return ArrayClasses(np.stack([c, i], axis=-1).reshape(-1, 1, 2, 1), c)


def identities(batch):
    """The (class, image) of every example of a batch of `numbered_classes`."""
    return [tuple(pixels.ravel()) for pixels in batch[0]]


def examples(n):
    """A support set whose example i is the number i, in x and in y."""
    return np.arange(n, dtype=np.float32)[:, np.newaxis], np.arange(n)
