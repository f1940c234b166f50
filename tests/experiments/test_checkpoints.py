"""Checkpoints: whole or refused, at whatever byte a file was cut or a process killed."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.experiments.checkpoints import load_step, save_step
from reptile_np.meta.optimizers import Adam, HeavyBall, Sgd
from reptile_np.meta.training import Step, begin

OPTIMIZERS = [Sgd(0.1), HeavyBall(0.1), Adam(0.1), Adam(0.1, beta1=0.9)]
optimizers = st.sampled_from(OPTIMIZERS)


def some_step(rng, inner, outer, n=50):
    """Return a state some steps into a run."""
    phi = rng.standard_normal(n).astype(np.float32)
    step = begin(phi, inner, outer)
    for _ in range(3):
        grad = rng.standard_normal(n).astype(np.float32)
        _, inner_state = inner.update(grad, step.inner_state, phi)
        _, outer_state = outer.update(grad, step.outer_state, phi)
        step = Step(step.done + 1, phi, inner_state, outer_state)
    return step


def assert_same(a, b):
    assert a.done == b.done
    np.testing.assert_array_equal(a.phi, b.phi)
    for one, other in ((a.inner_state, b.inner_state), (a.outer_state, b.outer_state)):
        assert type(one) is type(other)
        for x, y in zip(one, other, strict=True):
            assert type(x) is type(y)
            np.testing.assert_array_equal(x, y)


@given(optimizers, optimizers, st.integers(0, 2**32))
def test_a_state_comes_back_bit_for_bit(tmp_path_factory, inner, outer, seed):
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.npz"
    step = some_step(np.random.default_rng(seed), inner, outer)
    save_step(path, step)
    assert_same(load_step(path, begin(step.phi, inner, outer)), step)


def test_a_file_cut_anywhere_is_refused_in_one_line(tmp_path, rng):
    path = tmp_path / "checkpoint.npz"
    step = some_step(rng, Adam(0.1), Sgd(0.1))
    save_step(path, step)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UsageError, match=r"checkpoint\.npz: not a whole checkpoint") as error:
            load_step(path, step)
        assert "\n" not in str(error.value)


def test_a_flipped_byte_in_the_parameters_is_refused(tmp_path, rng):
    path = tmp_path / "checkpoint.npz"
    step = some_step(rng, Adam(0.1), Sgd(0.1))
    save_step(path, step)
    content = bytearray(path.read_bytes())
    at = content.index(step.phi.tobytes()) + 5
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not a whole checkpoint"):
        load_step(path, step)


@pytest.mark.parametrize(
    ("inner", "size"), [(Sgd(0.1), 50), (Adam(0.1), 49)], ids=["other optimiser", "other network"]
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, rng, inner, size):
    path = tmp_path / "checkpoint.npz"
    save_step(path, some_step(rng, Adam(0.1), Sgd(0.1)))
    with pytest.raises(UsageError, match=r"checkpoint\.npz"):
        load_step(path, begin(np.zeros(size, np.float32), inner, Sgd(0.1)))


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such checkpoint"):
        load_step(tmp_path / "checkpoint.npz", begin(np.zeros(3), Sgd(1), Sgd(1)))


WRITER = """
import sys, pathlib, numpy as np
from reptile_np.experiments.checkpoints import save_step
from reptile_np.meta.training import Step
for done in range(1, 10**6):
    save_step(pathlib.Path(sys.argv[1]), Step(done, np.full(200_000, done, np.float32), (), ()))
    print(done, flush=True)
"""


def test_a_kill_in_the_middle_of_writing_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.npz"
    for pause in (0.0, 0.003, 0.011):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()  # one checkpoint is whole; the next is being written
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        step = load_step(path, begin(np.zeros(200_000, np.float32), Sgd(1), Sgd(1)))
        np.testing.assert_array_equal(step.phi, np.full(200_000, step.done, np.float32))
