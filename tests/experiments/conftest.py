import numpy as np
import pytest

from reptile_np.cli import main
from tests.experiments.reproduced import command


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of small runs that `reproduce` has finished."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert main([*command(out), "--quiet"]) == 0
    return out
