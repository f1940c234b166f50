"""The inner optimisers through which MAML's derivative is checked."""

import numpy as np
import pytest

from reptile_np.meta.optimizers import Adam, HeavyBall, Sgd


def optimizers_of(n, rng, alpha):
    """One of each kind, for φ (n,)."""
    rates = alpha * rng.uniform(0.1, 2, n)
    return {
        "sgd": Sgd(alpha),
        "sgd with a rate per parameter": Sgd(rates),
        "sgd with a mask": Sgd(rates * rng.integers(0, 2, n)),
        "heavy ball": HeavyBall(alpha),
        "heavy ball with a rate per parameter": HeavyBall(rates, 0.5),
        "adam": Adam(alpha),
        "adam with a rate per parameter": Adam(rates, epsilon=1e-3),
        "adam with a large epsilon": Adam(alpha, beta2=0.9, epsilon=1e-2),
        "adam with momentum": Adam(alpha, beta1=0.9),
        "adam without a memory": Adam(alpha, beta1=0.5, beta2=0.0, epsilon=1e-3),
    }


KINDS = tuple(optimizers_of(1, np.random.default_rng(0), 0.1))
kinds = pytest.mark.parametrize("kind", KINDS)
