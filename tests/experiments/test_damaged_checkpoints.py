"""A damaged checkpoint, or one that is not of this run, is refused in one line; the one before it is used."""

import errno
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.experiments.checkpoints import (
    BEFORE,
    DAMAGED,
    NEWEST,
    load_newest,
    load_step,
    save_step,
    set_damaged_aside,
)
from reptile_np.meta.optimizers import Adam, Sgd
from reptile_np.meta.training import Step, begin
from tests.experiments.saved_states import RUN, assert_same, rewritten, saved, some_step, with_its_checksum


def test_a_file_cut_anywhere_is_refused_in_one_line(tmp_path, rng):
    step = some_step(rng, Adam(0.1), Sgd(0.1))
    path = saved(tmp_path, step)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UsageError, match=r"checkpoint\.npz: not a whole checkpoint") as error:
            load_step(path, step, RUN)
        assert str(error.value).isprintable()


@given(st.data())
def test_a_changed_byte_never_gives_another_state(tmp_path_factory, data):
    step = some_step(np.random.default_rng(0), Adam(0.1), Sgd(0.1))
    path = saved(tmp_path_factory.mktemp("run"), step)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = load_step(path, step, RUN)
    except UsageError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert_same(found, step)  # a byte that nothing reads, such as a file's date
    assert refusal.isprintable()


def test_a_checkpoint_whose_arrays_were_changed_is_refused_by_its_checksum(tmp_path, rng):
    step = some_step(rng, Adam(0.1), Sgd(0.1))
    path = saved(tmp_path, step)
    rewritten(path, phi=step.phi + 1)
    with pytest.raises(UsageError, match="the checksum does not match the content"):
        load_step(path, step, RUN)


NAN = np.full(50, np.nan, np.float32)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inner_v": np.ones(50)}, r"inner_v is float64 \(50,\) instead of float32 \(50,\)"),
        ({"inner_v": np.ones(49, np.float32)}, r"inner_v is float32 \(49,\)"),
        ({"inner_v": -np.ones(50, np.float32)}, "inner_v is negative"),
        ({"inner_v": NAN}, "inner_v is not finite"),
        ({"phi": NAN}, "phi is not finite"),
        ({"inner_t": np.array(-1)}, "inner_t is negative"),
        ({"inner_t": np.array(1.5)}, "inner_t is float64"),
        ({"inner_t": np.array([1, 2])}, r"inner_t is int64 \(2,\)"),
        ({"done": np.array(-1)}, "done is negative"),
        ({"done": np.array(1.0)}, "done is float64"),
        ({"done": np.array([1])}, r"done is int64 \(1,\)"),
        ({"done": None}, "done"),
        ({"inner_m": np.ones(50, np.float32)}, "another optimiser's state: inner_m"),
        ({"inner_w": np.ones(50, np.float32)}, "another optimiser's state: inner_w"),
        ({"format": np.array(3)}, "format 3 is not known"),
        ({"format": None}, "format"),
        ({"phi": np.array([None] * 50, object)}, "pickle|allow"),
    ],
)
def test_hand_made_arrays_are_refused_and_named(tmp_path, rng, changes, says):
    step = some_step(rng, Adam(0.1), Sgd(0.1))
    path = saved(tmp_path, step)
    rewritten(path, **changes)
    with_its_checksum(path)
    with pytest.raises(UsageError, match=says) as error:
        load_step(path, step, RUN)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 97])
def test_a_compressed_file_is_refused(tmp_path, rng, compression):
    step = some_step(rng, Adam(0.1), Sgd(0.1))
    path = saved(tmp_path, step)
    if compression == 97:  # a method that Python does not know, in every header
        content = path.read_bytes()
        for header, place in ((b"PK\1\2", 10), (b"PK\3\4", 8)):
            for match in list(re.finditer(re.escape(header), content)):
                start = match.start() + place
                content = content[:start] + bytes([97, 0]) + content[start + 2 :]
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path) as file:
            members = {name: file.read(name) for name in file.namelist()}
        with zipfile.ZipFile(path, "w", compression) as file:
            for name, member in members.items():
                file.writestr(name, member)
    with pytest.raises(UsageError, match=r"checkpoint\.npz: not a whole checkpoint"):
        load_step(path, step, RUN)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_a_folder_in_place_of_a_checkpoint_is_refused_at_once(tmp_path, rng):
    step = some_step(rng, Adam(0.1), Sgd(0.1))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(UsageError, match="not a file"):
            load_step(tmp_path / name, step, RUN)


def test_a_checkpoint_of_a_newer_format_is_refused(tmp_path, rng):
    step = some_step(rng, Adam(0.1), Sgd(0.1))
    path = saved(tmp_path, step)
    rewritten(path, format=np.array(3))
    with pytest.raises(UsageError, match="format 3 is not known"):
        load_step(path, step, RUN)


@pytest.mark.parametrize(
    ("inner", "size"), [(Sgd(0.1), 50), (Adam(0.1), 49)], ids=["other optimiser", "other network"]
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, rng, inner, size):
    path = saved(tmp_path, some_step(rng, Adam(0.1), Sgd(0.1)))
    with pytest.raises(UsageError, match=r"checkpoint\.npz"):
        load_step(path, begin(np.zeros(size, np.float32), inner, Sgd(0.1)), RUN)


def test_a_checkpoint_that_another_run_saved_is_refused_though_network_and_optimiser_are_the_same(
    tmp_path, rng
):
    step = some_step(rng, Adam(0.1), Sgd(0.1))
    save_step(tmp_path, step, RUN)
    with pytest.raises(UsageError, match="it was saved by another run"):
        load_step(tmp_path / NEWEST, step, "6" * 64)


def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_a_damaged_one(tmp_path, rng, monkeypatch):
    step, _ = two_generations(tmp_path, rng)

    def refused(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(
        UsageError, match=r"checkpoint\.npz: cannot be read \(Permission denied\); remove the cause"
    ):
        load_newest(tmp_path, step, RUN, pytest.fail)


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match="the run has not saved a state yet; if it is being trained, wait; else continue it"
    ):
        load_newest(tmp_path, begin(np.zeros(3), Sgd(1), Sgd(1)), RUN, print)


def two_generations(folder, rng):
    step = some_step(rng, Adam(0.1), Sgd(0.1))
    later = Step(step.done + 1, step.phi + 1, step.inner_state, step.outer_state)
    save_step(folder, step, RUN)
    save_step(folder, later, RUN)
    return step, later


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_in_one_line(tmp_path, rng, damage):
    before, newest = two_generations(tmp_path, rng)
    said = []
    assert_same(load_newest(tmp_path, before, RUN, said.append), newest)
    assert said == []
    if damage == "cut":
        (tmp_path / NEWEST).write_bytes((tmp_path / NEWEST).read_bytes()[:-100])
    else:
        (tmp_path / NEWEST).unlink()
    assert_same(load_newest(tmp_path, before, RUN, said.append), before)
    assert len(said) == 1
    assert said[0].isprintable()
    assert "outer step 3" in said[0]
    assert ("there is no such file" in said[0]) == (damage == "missing")
    set_damaged_aside(tmp_path)
    assert (tmp_path / DAMAGED).exists() == (damage == "cut")
    save_step(tmp_path, newest, RUN)
    assert_same(load_step(tmp_path / BEFORE, before, RUN), before)


def test_a_checkpoint_that_a_run_at_work_renames_while_it_is_read_is_missing(tmp_path, rng, monkeypatch):
    """It could not be read; the one before was whole."""
    before, newest = two_generations(tmp_path, rng)
    read = Path.read_bytes

    def renamed_first(path):
        if path.name == NEWEST:
            path.replace(tmp_path / BEFORE)  # as `save_step` does
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", renamed_first)
    assert_same(load_newest(tmp_path, before, RUN, lambda line: None), newest)


def test_two_damaged_checkpoints_are_refused(tmp_path, rng):
    step, _ = two_generations(tmp_path, rng)
    for name in (NEWEST, BEFORE):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=r"checkpoint\.npz: not a whole checkpoint .* new --out"):
        load_newest(tmp_path, step, RUN, print)
