"""What several tests of the algorithms share."""

import numpy as np
import pytest

from reptile_np.meta.inner_loop import adapt
from tests.meta.episodes import ADAM, MODEL, episode


@pytest.fixture(scope="module")
def trained():
    """(φ, Adam's state) of MODEL with a history, as after training."""
    phi = MODEL.init(np.random.default_rng(0))
    t = adapt(MODEL, ADAM, phi, episode(99).batches)
    return t.phis[-1], t.state
