"""What the strategies promise about what they draw."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.checks.strategies import (
    batches,
    rational_vectors,
    shapes,
    task_families,
    trajectories,
    vectors,
)
from reptile_np.errors import UsageError
from reptile_np.nn.models import sine_mlp


@given(task_families(variables=3, degree=2, tasks=2, batches=4), rational_vectors(3))
def test_task_families_are_rational_and_of_the_size_asked_for(family, vector):
    assert [len(task) for task in family.tasks] == [4, 4]
    assert all(batch.shape == (family.model.terms,) for task in family.tasks for batch in task)
    entries = [*family.phi, *family.tasks[0][0], *vector]
    assert all(isinstance(entry, Fraction) for entry in entries)


@given(st.data())
def test_batches_fit_their_shape(data):
    shape = data.draw(shapes(2, max_side=5, channels=2))
    assert len(shape) == 3
    assert max(shape[:2]) <= 5
    assert shape[2] <= 2
    x, y = data.draw(batches(shape, ways=3, max_size=2))
    assert 1 <= len(x) <= 2
    assert x.shape[1:] == shape
    assert x.dtype == np.float64
    assert y.shape == (len(x),)
    assert (y.dtype, y.min() >= 0, y.max() < 3) == (np.int64, True, True)
    x, y = data.draw(batches(shape, outputs=2))
    assert y.shape == (len(x), 2)


@pytest.mark.parametrize("ways", [0, -1, 2.5])
@given(st.data())
def test_labels_of_no_class_are_refused(ways, data):
    with pytest.raises(UsageError, match="batches: ways is"):
        data.draw(batches((1,), ways=ways))


@given(vectors(2000, scale=0.5), vectors(4, scale=0.0))
def test_vectors_have_the_scale_asked_for(v, zero):
    assert v.shape == (2000,)
    assert 0.45 < v.std() < 0.55
    assert zero.tolist() == [0] * 4


MODEL = sine_mlp((3,))


@given(trajectories(MODEL.loss_and_grad, MODEL.init(np.random.default_rng(0), np.float64), batches((1,))))
def test_trajectories_are_inner_loops_of_sgd(t):
    k = len(t.batches)
    assert len(t.phis) == k + 1
    assert len(t.grads) == k <= 5
    for i, batch in enumerate(t.batches):
        g, d = t.grads[i], t.phis[i] - t.phis[i + 1]
        assert (g == MODEL.loss_and_grad(t.phis[i], batch)[1]).all()
        alpha = (d @ g) / (g @ g)
        assert np.linalg.norm(d - alpha * g) <= 1e-12 * (1 + np.linalg.norm(t.phis[i]))
        assert -1e-9 <= alpha <= 0.1 + 1e-9


def test_without_hypothesis_the_strategies_say_what_to_install():
    program = "import sys; sys.modules['hypothesis'] = None; import reptile_np.checks.strategies"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    expected = "ImportError: reptile_np.checks.strategies needs Hypothesis; run: pip install hypothesis"
    assert done.stderr.splitlines()[-1] == expected


def test_the_checks_need_no_hypothesis():
    program = "import sys; sys.modules['hypothesis'] = None; import reptile_np.checks"
    subprocess.run([sys.executable, "-c", program], check=True)
