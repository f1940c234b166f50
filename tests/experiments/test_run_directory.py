"""Run directories: held by one run, never overwritten, and nothing in them believed unchecked."""

import errno
import json
import os
import re
import threading
from pathlib import Path

import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import presets, run_json
from reptile_np.experiments.presets import get, to_json
from reptile_np.experiments.run_directory import RunDirectory
from tests.experiments.small import experiment
from tests.refusal import refusal as one_line

PRESET = get("glyphs-5way")


def edit(directory, change):
    path = directory.path / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def refusal(directory):
    said = one_line(directory.config)
    assert "config.json" in said
    assert said.isprintable()
    return said


def test_what_was_begun_is_read_back(directory):
    assert directory.config() == (PRESET, 3)
    values = json.loads((directory.path / "config.json").read_text())
    assert set(values) == {"format", "sha256", "preset", "seed"}
    assert values["format"] == 1


def test_an_edited_config_is_refused(directory):
    edit(directory, lambda values: values.update(seed=4))
    assert "altered" in refusal(directory)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v.update(format=2), "format 2 is not known"),
        (lambda v: v.update(format="1\n"), "is not known"),
        (lambda v: v.update(format=True), "is not known"),
        (lambda v: v.update(extra=1), '"extra" is not a key'),
        (lambda v: v.pop("seed"), '"seed" is missing'),
        (lambda v: v.pop("sha256"), '"sha256" is missing'),
        (lambda v: v.update(sha256=None), "altered"),
        (lambda v: v["preset"].update(filters=64.0), "altered"),
    ],
)
def test_a_config_of_another_format_or_with_other_keys_is_refused(directory, change, says):
    edit(directory, change)
    assert says in refusal(directory)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v["preset"].update(filters="64"), "preset.filters must be an integer"),
        (lambda v: v["preset"]["inner"].update(optimizer="lbfgs"), "one of adam, sgd"),
        (lambda v: v.update(preset=[]), "preset must be an object"),
        (lambda v: v.update(seed=-1), "seed must be"),
        (lambda v: v.update(seed=True), "seed must be"),
        (lambda v: v.update(seed="0"), "seed must be"),
    ],
)
def test_with_the_right_hash_the_values_are_checked_all_the_same(tmp_path, change, says):
    run = {"preset": to_json(PRESET), "seed": 3}
    change(run)
    config = {"format": 1, "sha256": run_json._checksum(run), **run}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert says in refusal(RunDirectory(tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"\xff\xfe", b'{"seed": 0}', b"[" * 100_000, b'{"seed": ' + b"9" * 5000 + b"}"],
    ids=["empty", "cut", "list", "number", "not UTF-8", "keys missing", "deep", "long"],
)
def test_a_config_that_is_not_whole_is_refused(directory, content):
    (directory.path / "config.json").write_bytes(content)
    refusal(directory)


@pytest.mark.parametrize("method", ["config", "sittings", "records", "result"])
def test_a_file_that_cannot_be_read_is_not_taken_for_a_damaged_or_a_missing_one(
    directory, monkeypatch, method
):
    """An environment taken for damaged would be replaced at the next save."""
    for name in ("environment.json", "records.jsonl", "result.json"):
        (directory.path / name).write_text("{}")

    def refuse(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UsageError, match=rf"json.*: cannot be read \({re.escape(os.strerror(errno.EIO))}\)$"):
        getattr(directory, method)()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_the_config_is_refused_at_once(directory):
    (directory.path / "config.json").unlink()
    os.mkfifo(directory.path / "config.json")
    refusal(directory)


@pytest.mark.parametrize("name", ["lock", ".config.json.123.tmp", ".checkpoint.npz.9.tmp"])
def test_what_a_run_leaves_that_was_killed_at_its_start_does_not_prevent_a_new_start(tmp_path, name):
    (tmp_path / name).write_bytes(b"half")
    with RunDirectory(tmp_path).begin(PRESET, 0):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "lock"]


def test_a_run_that_was_killed_before_its_first_checkpoint_can_be_resumed(directory):
    with directory.resume():
        assert not directory.has_checkpoint()
    with pytest.raises(UsageError, match="--resume"), directory.begin(PRESET, 3):
        pass


def test_a_run_that_is_refused_before_its_first_checkpoint_leaves_the_directory_free(tmp_path):
    directory = RunDirectory(tmp_path / "run")

    def refused():
        with directory.begin(PRESET, 0):
            directory.append({"outer_step": 1})
            raise UsageError("diverged")

    for _ in range(2):
        with pytest.raises(UsageError, match="diverged"):
            refused()
    assert [path.name for path in directory.path.iterdir()] == ["lock"]


@pytest.mark.parametrize("kept", [1, 2])
def test_a_refused_run_that_is_killed_while_its_files_are_removed_can_be_resumed(tmp_path, monkeypatch, kept):
    """Its config.json was removed first: neither a new start nor --resume was possible."""
    directory, removed = RunDirectory(tmp_path / "run"), []
    unlink = Path.unlink

    def killed(path, missing_ok=False):
        if len(removed) == 3 - kept:
            raise KeyboardInterrupt
        removed.append(path.name)
        unlink(path, missing_ok=missing_ok)

    def refused():
        with directory.begin(PRESET, 0):
            monkeypatch.setattr(Path, "unlink", killed)
            raise UsageError("diverged")

    with pytest.raises(KeyboardInterrupt):
        refused()
    assert "config.json" not in removed
    with directory.resume():
        assert directory.config() == (PRESET, 0)


def test_a_directory_with_other_content_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("precious")
    with pytest.raises(UsageError, match="exists"), RunDirectory(tmp_path).begin(PRESET, 0):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    with pytest.raises(UsageError, match="exists"), RunDirectory(tmp_path / "precious.txt").begin(PRESET, 0):
        pass


def test_of_many_starts_at_one_moment_exactly_one_runs_and_the_config_is_its_own(tmp_path):
    """Threads stand in for processes: each opens the lock file for itself."""
    for attempt in range(30):
        directory = RunDirectory(tmp_path / str(attempt))
        ready, finished = threading.Barrier(6), threading.Barrier(6)
        running, messages = [], []

        def start(seed, directory=directory, ready=ready, done=finished, running=running, said=messages):
            ready.wait()
            try:
                with directory.begin(PRESET, seed):
                    running.append(seed)
                    done.wait()
                return
            except UsageError as error:
                said.append(str(error))
            done.wait()

        threads = [threading.Thread(target=start, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(running) == 1
        assert directory.config() == (PRESET, running[0])
        assert all("another run is at work" in message or "exists" in message for message in messages)


def test_a_config_that_an_editor_rewrites_does_not_free_the_lock(directory):
    path = directory.path / "config.json"
    with directory.resume():
        path.with_suffix(".new").write_bytes(path.read_bytes())
        path.with_suffix(".new").replace(path)
        with pytest.raises(UsageError, match="another run is at work there"), directory.resume():
            pass


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match="--out") as error, RunDirectory(path).begin(PRESET, 0):
            pass
        assert str(error.value).isprintable()


def test_every_preset_is_the_same_after_a_run_directory(tmp_path):
    for name, preset in presets.PRESETS.items():
        directory = RunDirectory(tmp_path / name)
        with directory.begin(preset, 0):
            assert directory.config() == (preset, 0)


def test_a_run_that_finished_between_the_check_and_the_lock_is_not_overwritten(tmp_path, monkeypatch):
    directory, locked = RunDirectory(tmp_path / "run"), RunDirectory._locked

    def late(self):
        (self.path / "config.json").write_text("another run's")
        return locked(self)

    monkeypatch.setattr(RunDirectory, "_locked", late)
    with pytest.raises(UsageError, match="exists"), directory.begin(PRESET, 0):
        pass
    assert (directory.path / "config.json").read_text() == "another run's"


@pytest.mark.parametrize(
    "edited",
    [lambda content: content.replace(b'"seed": 0', b'"seed": 1'), lambda _: b'{"format"', lambda _: b"[]"],
    ids=["another seed", "cut short", "a list"],
)
def test_a_config_that_is_edited_before_the_first_save_does_not_prevent_it(tmp_path, edited):
    made, directory = experiment("glyphs-5way"), RunDirectory(tmp_path / "run")
    path = directory.path / "config.json"
    with directory.begin(made.preset, 0):
        content = path.read_bytes()
        path.write_bytes(edited(content))
        directory.save(made.start(), [])
    path.write_bytes(content)
    assert RunDirectory(directory.path).load(made.start()).done == 0
