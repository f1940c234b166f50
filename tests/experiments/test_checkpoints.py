"""Checkpoints: whole or refused, at whatever byte a file was damaged or a process killed."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.experiments.checkpoints import (
    BEFORE,
    NEWEST,
    _checksum,
    has_checkpoint,
    load_newest,
    load_step,
    save_step,
)
from reptile_np.meta.optimizers import Adam, HeavyBall, Sgd
from reptile_np.meta.training import Step, begin
from reptile_np.nn import models
from tests.experiments.saved_states import RUN, assert_same, rewritten, saved, some_step, with_its_checksum

OPTIMIZERS = [Sgd(0.1), HeavyBall(0.1), Adam(0.1), Adam(0.1, beta1=0.9)]
optimizers = st.sampled_from(OPTIMIZERS)


@given(optimizers, optimizers, st.integers(0, 2**32))
def test_a_state_comes_back_bit_for_bit(tmp_path_factory, inner, outer, seed):
    folder = tmp_path_factory.mktemp("run")
    step = some_step(np.random.default_rng(seed), inner, outer)
    save_step(folder, step, RUN)
    assert_same(load_step(folder / NEWEST, begin(step.phi, inner, outer), RUN), step)


def test_the_arrays_have_names_and_empty_ones_are_not_stored(tmp_path, rng):
    for inner, names in (
        (Adam(0.1), {"inner_v", "inner_t"}),
        (Adam(0.1, beta1=0.9), {"inner_m", "inner_v", "inner_t"}),
        (Sgd(0.1), set()),
    ):
        with np.load(saved(tmp_path, some_step(rng, inner, HeavyBall(0.1)))) as arrays:
            assert set(arrays.files) == {"format", "sha256", "run", "done", "phi", "outer_velocity"} | names


def test_the_20_way_network_s_state_takes_less_than_a_megabyte(tmp_path, rng):
    phi = models.omniglot_cnn(20).init(rng)
    assert len(phi) == 117_076
    inner = Adam(5e-4)
    _, state = inner.update(phi, inner.init(phi), phi)
    assert saved(tmp_path, Step(1, phi, state, ())).stat().st_size < 940_000


def test_a_checkpoint_of_format_1_which_does_not_name_its_run_is_read(tmp_path, rng):
    step = some_step(rng, Adam(0.1), Sgd(0.1))
    path = saved(tmp_path, step)
    rewritten(path, format=np.array(1), run=None)
    with_its_checksum(path)
    assert_same(load_step(path, step, RUN), step)


def test_a_save_that_fails_leaves_the_newest_checkpoint_as_it_was(tmp_path, rng, monkeypatch):
    step = some_step(rng, Adam(0.1), Sgd(0.1))
    save_step(tmp_path, step, RUN)
    content = (tmp_path / NEWEST).read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_step(tmp_path, step, RUN)
    assert (tmp_path / NEWEST).read_bytes() == content
    assert not (tmp_path / BEFORE).exists()


def test_a_run_of_which_a_kill_left_only_the_checkpoint_before_has_a_checkpoint(tmp_path):
    assert not has_checkpoint(tmp_path)
    (tmp_path / BEFORE).touch()
    assert has_checkpoint(tmp_path)


def test_the_checksum_is_that_of_names_dtypes_shapes_and_bytes():
    """With another one, the checkpoints of earlier versions could not be read."""
    arrays = {"phi": np.array([1.5, 2.0], "<f4"), "done": np.array(3, "<i8")}
    text = b"done <i8 ()\n" + arrays["done"].tobytes() + b"phi <f4 (2,)\n" + arrays["phi"].tobytes()
    assert _checksum(arrays) == hashlib.sha256(text).hexdigest()


WRITER = """
import sys, pathlib, numpy as np
from reptile_np.experiments.checkpoints import save_step
from reptile_np.meta.training import Step
for done in range(1, 10**6):
    save_step(pathlib.Path(sys.argv[1]), Step(done, np.full(200_000, done, np.float32), (), ()), sys.argv[2])
    print(done, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill -9")
def test_a_kill_in_the_middle_of_writing_leaves_a_whole_checkpoint(tmp_path):
    template = begin(np.zeros(200_000, np.float32), Sgd(1), Sgd(1))
    for pause in (0.0, 0.003, 0.011):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), RUN], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()  # one checkpoint is whole; the next is being written
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        step = load_newest(tmp_path, template, RUN, lambda message: None)
        np.testing.assert_array_equal(step.phi, np.full(200_000, step.done, np.float32))
