"""What the tests of experiments share: finished runs, a run that was begun, a learner."""

import numpy as np
import pytest

from reptile_np.cli import main
from reptile_np.experiments.learner import Learner
from reptile_np.experiments.presets import get
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.meta.optimizers import Adam
from tests.experiments.learners import MODEL
from tests.experiments.reproduced import command


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of small runs that `reproduce` has finished."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert main([*command(out, jobs=1), "--quiet"]) == 0
    return out


@pytest.fixture
def directory(tmp_path):
    """A run that was begun and killed before its first checkpoint."""
    directory = RunDirectory(tmp_path / "run")
    with directory.begin(get("glyphs-5way"), 3):
        pass
    return directory


@pytest.fixture
def learner():
    """A classifier of four classes; its Adam has the state of 100 steps."""
    phi = MODEL.init(np.random.default_rng(0))
    optimizer = Adam(1e-2)
    state = optimizer.init(phi)._replace(v=np.full_like(phi, 0.25), t=100)
    return Learner(MODEL, phi, optimizer, state, steps=6, batch=3, seed=5)
