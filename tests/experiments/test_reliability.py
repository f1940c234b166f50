"""What can go wrong around a run: one line, exit code 2, and the state before it intact."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

from reptile_np.cli import main
from reptile_np.errors import UsageError
from reptile_np.experiments import runs, sitting
from reptile_np.experiments.experiment import Experiment
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.nn.ops import NUMPY
from tests.experiments.small import experiment, small

COMMAND = [sys.executable, "-m", "reptile_np"]
SETTINGS = {
    "outer.steps": 6, "outer.meta_batch": 1, "evaluation.tasks": 1, "evaluation.steps": 1,
    "filters": 16, "tasks.classes": 25,
}  # fmt: skip


def arguments(out, *more, **settings):
    values = {**SETTINGS, **{key.replace("__", "."): value for key, value in settings.items()}}
    changes = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return ["train", "glyphs-5way", "--ops", "numpy", "--out", str(out), *changes, *more]


def one_line_of(capsys):
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("reptile-np:")]
    assert len(lines) == 1
    return lines[0]


@contextmanager
def disk(folder, size):
    """A real file system of `size` kilobytes, if this process may make one."""
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)], capture_output=True
    )
    if mount.returncode:
        pytest.skip("may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("size", [4, 8, 64])
def test_on_a_full_disk_a_run_ends_with_one_line_and_can_be_resumed(tmp_path, capsys, monkeypatch, size):
    """A checkpoint takes 60 kB here: the disk is full at the config, the first checkpoint, the second."""
    monkeypatch.setattr(sitting, "SAVE_EVERY", 0.0)
    folder, command = tmp_path / "disk", arguments(tmp_path / "disk" / "run")
    folder.mkdir()
    with disk(folder, size):
        assert main(command) == 2
        assert "cannot be written (No space left on device)" in one_line_of(capsys)
        subprocess.run(["mount", "-o", "remount,size=10000k", str(folder)], check=True)
        begun = (folder / "run" / "config.json").exists()
        assert main([*command, *(["--resume"] if begun else [])]) == 0


@contextmanager
def failing(monkeypatch, name, after, code=errno.ENOSPC):
    """Let an os function fail from its call number `after` on."""
    original, calls = getattr(os, name), []

    def function(*args, **kwargs):
        calls.append(args)
        if len(calls) > after:
            raise OSError(code, os.strerror(code))
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, function)
        yield calls


@pytest.mark.parametrize(("name", "code"), [("fsync", errno.EIO), ("replace", errno.ENOSPC)])
def test_whichever_write_fails_the_run_can_go_on_and_ends_the_same(tmp_path, monkeypatch, name, code):
    monkeypatch.setattr(sitting, "SAVE_EVERY", 0.0)
    preset = small("sine-reptile", "outer.steps=2", "evaluation.tasks=1", "evaluation.steps=1")
    with failing(monkeypatch, name, 10**6) as calls:
        runs.train(preset, 0, NUMPY, out=tmp_path / "whole", quiet=True)
    expected = (tmp_path / "whole/checkpoint.npz").read_bytes()
    for after in range(len(calls)):
        out = tmp_path / str(after)
        with failing(monkeypatch, name, after, code), pytest.raises(UsageError) as error:
            runs.train(preset, 0, NUMPY, out=out, quiet=True)
        assert os.strerror(code) in str(error.value)
        assert str(error.value).isprintable()
        begun = RunDirectory(out).has_checkpoint()
        assert ("continue with --resume" in str(error.value)) == begun, str(error.value)
        assert not list(out.glob(".*.tmp"))
        resume = (out / "config.json").exists()
        runs.train(preset, 0, NUMPY, out=out, resume=resume, quiet=True)
        assert (out / "checkpoint.npz").read_bytes() == expected
        with failing(monkeypatch, name, 0, code), pytest.raises(UsageError, match="cannot be written"):
            runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount")
def test_an_evaluation_on_a_read_only_disk_is_printed_with_a_warning(tmp_path, capsys):
    folder = tmp_path / "disk"
    folder.mkdir()
    with disk(folder, 1000):
        assert main(arguments(folder / "run", outer__steps=2)) == 0
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        capsys.readouterr()
        assert main(["evaluate", str(folder / "run"), "--tasks", "2", "--ops", "numpy", "--json"]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out.splitlines()[-1])["tasks"] == 2
        assert "Read-only file system" in captured.err
        assert main(arguments(folder / "run", "--resume", outer__steps=2)) == 2
        assert "Read-only file system" in one_line_of(capsys)


def test_an_evaluation_that_cannot_be_recorded_is_returned_with_a_warning(tmp_path, capsys):
    runs.train(small("sine-reptile"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    (tmp_path / "run/records.jsonl").unlink()
    (tmp_path / "run/records.jsonl").mkdir()  # root may write everywhere, but not into a folder
    capsys.readouterr()
    assert runs.evaluate(tmp_path / "run", NUMPY, tasks=2, quiet=True)["tasks"] == 2
    assert "this evaluation is not in its records" in one_line_of(capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill -9")
def test_a_run_killed_at_any_moment_of_its_start_can_be_started_or_resumed(tmp_path):
    """Kills spread over the first moments, imports to first checkpoint; every directory is usable."""
    pauses = (0.4, 0.7, 1.0)
    for i, pause in enumerate(pauses):
        out = tmp_path / str(i)
        command = [*COMMAND, *arguments(out, outer__steps=100)]
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(pause)
        run.send_signal(signal.SIGKILL)
        run.wait()
        resume = ["--resume"] if (out / "config.json").exists() else []
        assert main(arguments(out, *resume, outer__steps=100)) == 0
    checkpoints = {(tmp_path / str(i) / "checkpoint.npz").read_bytes() for i in range(len(pauses))}
    assert len(checkpoints) == 1


@pytest.mark.parametrize(
    "settings",
    [
        ["outer.rate=1e38"],
        ["outer.rate=1e300", "outer.steps=1"],
        ["inner.learning_rate=1e30"],
        ["outer.rate=1e38", "outer.optimizer=adam"],
    ],
)
@pytest.mark.parametrize("name", ["glyphs-5way", "sine-reptile"])
def test_a_run_that_diverges_ends_with_one_line_and_no_warning(tmp_path, name, settings, capsys):
    """Warnings are errors in these tests."""
    with pytest.raises(UsageError, match=r"not finite|the loss is|diverged") as error:
        runs.train(small(name, *settings), 0, NUMPY, out=tmp_path / "run", quiet=True)
    assert str(error.value).isprintable()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]


def test_a_refused_command_leaves_no_directory_and_the_corrected_one_works(tmp_path, capsys):
    assert main(arguments(tmp_path / "run", tasks__ways=900)) == 2
    assert "tasks.ways=900" in one_line_of(capsys)
    assert not (tmp_path / "run").exists()
    assert main(arguments(tmp_path / "run", outer__steps=1)) == 0


def test_parameters_that_are_not_finite_are_not_evaluated(tmp_path):
    runs.train(small("sine-reptile"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    for name in ("checkpoint.npz", "checkpoint-before.npz"):
        (tmp_path / "run" / name).unlink(missing_ok=True)
    step = experiment("sine-reptile").start()
    step.phi[3] = np.nan
    RunDirectory(tmp_path / "run").save(step, [])
    with pytest.raises(UsageError, match="phi is not finite"):
        runs.evaluate(tmp_path / "run", NUMPY, tasks=2, quiet=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_a_file_of_the_run_does_not_hang(tmp_path):
    preset = small("sine-reptile", "outer.steps=2")
    for name in ("checkpoint.npz", "config.json", "environment.json", "records.jsonl"):
        out = tmp_path / name
        runs.train(preset, 0, NUMPY, out=out, quiet=True)
        (out / name).unlink()
        os.mkfifo(out / name)
        if name in ("checkpoint.npz", "config.json"):
            with pytest.raises(UsageError, match=name):
                runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
        else:
            runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)


def test_ctrl_c_saves_the_state_even_between_two_checkpoints(tmp_path, monkeypatch):
    original = Experiment.outer_steps

    def stopping(self, start):
        for step in original(self, start):
            yield step
            if step.done == 5:
                raise KeyboardInterrupt

    monkeypatch.setattr(Experiment, "outer_steps", stopping)
    with pytest.raises(KeyboardInterrupt):
        runs.train(small("sine-reptile"), 0, NUMPY, out=tmp_path, quiet=True)
    assert RunDirectory(tmp_path).load(experiment("sine-reptile").start()).done == 5


def train_and_after_step_5(monkeypatch, out, happens):
    """Train 40 steps, in the middle of which something happens to the run's directory."""
    original = Experiment.outer_steps

    def disturbed(self, start):
        for step in original(self, start):
            yield step
            if step.done == 5:
                monkeypatch.setattr(Experiment, "outer_steps", original)
                happens()

    monkeypatch.setattr(Experiment, "outer_steps", disturbed)
    runs.train(small("sine-reptile"), 0, NUMPY, out=out, quiet=True)


@pytest.mark.parametrize("saves_every", [0, 60])
def test_a_run_whose_directory_is_renamed_stops_and_goes_on_under_the_new_name(
    tmp_path, monkeypatch, saves_every
):
    old, new, undisturbed = tmp_path / "old", tmp_path / "new", tmp_path / "undisturbed"
    monkeypatch.setattr(sitting, "SAVE_EVERY", saves_every)
    with pytest.raises(UsageError, match=r"renamed or removed.*continue it under its new name"):
        train_and_after_step_5(monkeypatch, old, lambda: old.rename(new))
    assert not old.exists()
    for out, resume in ((new, True), (undisturbed, False)):
        runs.train(small("sine-reptile"), 0, NUMPY, out=out, resume=resume, quiet=True)
    for name in ("checkpoint.npz", "records.jsonl"):
        assert (new / name).read_bytes() == (undisturbed / name).read_bytes()


def test_ctrl_c_after_the_directory_was_removed_says_so_and_makes_no_other(tmp_path, monkeypatch):
    def removed_and_stopped():
        shutil.rmtree(tmp_path / "run")
        raise KeyboardInterrupt

    with pytest.raises(UsageError, match="renamed or removed"):
        train_and_after_step_5(monkeypatch, tmp_path / "run", removed_and_stopped)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("saved", [True, False], ids=["finished", "just begun"])
def test_a_run_whose_directory_is_removed_does_not_write_into_the_next_one(tmp_path, monkeypatch, saved):
    out = tmp_path / "run"

    def contents():
        return {path.name: path.read_bytes() for path in out.iterdir()}

    def begun_again():
        shutil.rmtree(out)
        if saved:
            runs.train(small("sine-reptile"), 1, NUMPY, out=out, quiet=True)
        else:
            out.mkdir()
            RunDirectory(out).write_config(small("sine-reptile"), 1)
        before.update(contents())

    before = {}
    with pytest.raises(UsageError, match="holds another run now"):
        train_and_after_step_5(monkeypatch, out, begun_again)
    assert contents() == before
