"""Exported records: the same facts, without the large files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from reptile_np.cli import main
from reptile_np.errors import UsageError
from reptile_np.experiments import records, runs
from reptile_np.experiments.records import export
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.nn.ops import NUMPY
from tests.experiments.small import small


@pytest.fixture
def run(tmp_path):
    runs.train(small("sine-reptile"), 3, NUMPY, out=tmp_path / "run", quiet=True)
    return tmp_path / "run"


def test_a_copy_says_what_the_run_says_without_its_checkpoint(run, tmp_path):
    copy = export(run, tmp_path / "kept")
    assert copy.name == "sine-reptile-seed3"
    names = {"config.json", "environment.json", "records.jsonl", "result.json"}
    assert {path.name for path in copy.iterdir()} == names
    assert all((copy / name).read_bytes() == (run / name).read_bytes() for name in names)
    assert export(run, tmp_path / "kept") == copy  # again, as for a run that has gone on


def test_an_unfinished_run_is_copied_with_its_checkpoint_and_goes_on_to_the_same_end(run, tmp_path):
    preset = small("sine-reptile")
    out = tmp_path / "cut"

    def stop(what, done, total):
        if (what, done) == ("train sine-reptile", 20):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train(preset, 3, NUMPY, out=out, quiet=True, report=stop)
    copy = export(out, tmp_path / "kept")
    runs.train(preset, 3, NUMPY, out=copy, resume=True, quiet=True)
    phis = [np.load(path / "checkpoint.npz")["phi"] for path in (copy, run)]
    assert phis[0].tobytes() == phis[1].tobytes()


def test_the_earlier_checkpoint_is_copied_if_a_kill_left_no_newest_one(run, tmp_path):
    (run / "result.json").unlink()
    (run / "checkpoint.npz").rename(run / "checkpoint-before.npz")
    copy = export(run, tmp_path / "kept")
    assert (copy / "checkpoint.npz").read_bytes() == (run / "checkpoint-before.npz").read_bytes()


def test_a_checkpoint_that_the_run_renames_while_it_is_read_is_copied(run, tmp_path, monkeypatch):
    (run / "result.json").unlink()
    newest, content, read_bytes = (
        run / "checkpoint.npz",
        (run / "checkpoint.npz").read_bytes(),
        Path.read_bytes,
    )

    def renamed_first(path):
        if path == newest:
            newest.rename(run / "checkpoint-before.npz")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", renamed_first)
    copy = export(run, tmp_path / "kept")
    monkeypatch.undo()
    assert (copy / "checkpoint.npz").read_bytes() == content


def test_a_checkpoint_that_cannot_be_read_is_one_line(run, tmp_path, monkeypatch):
    (run / "result.json").unlink()
    read_bytes = Path.read_bytes

    def refused(path):
        if path.name == "checkpoint.npz":
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(UsageError, match=r"checkpoint\.npz: cannot be read \(Permission denied\)$"):
        export(run, tmp_path / "kept")


@pytest.mark.parametrize("to", ["", "."])
def test_runs_are_exported_into_the_folder_that_they_are_in(run, tmp_path, monkeypatch, capsys, to):
    monkeypatch.chdir(tmp_path)
    assert main(["runs", str(tmp_path), "--export", to or str(tmp_path)]) == 0
    assert (tmp_path / "sine-reptile-seed3" / "result.json").read_bytes() == (
        run / "result.json"
    ).read_bytes()
    (run / "config.json").unlink()
    assert main(["runs", str(tmp_path), "--export", to or str(tmp_path)]) == 2
    assert "is the copy itself; choose another --export" in capsys.readouterr().err


def test_a_run_that_is_no_copy_is_not_replaced_by_a_copy_of_another(run, tmp_path):
    """Of the same preset and seed, under the name that `train` suggests."""
    real = tmp_path / "sine-reptile-seed3"
    runs.train(small("sine-reptile"), 3, NUMPY, out=real, quiet=True)
    before = {file.name: file.read_bytes() for file in real.iterdir()}
    with pytest.raises(UsageError, match=r"is a run, not a copy of one; choose another --export$"):
        export(run, tmp_path)
    assert {file.name: file.read_bytes() for file in real.iterdir()} == before


def test_a_large_checkpoint_is_left_out(run, tmp_path, monkeypatch):
    (run / "result.json").unlink()
    monkeypatch.setattr(records, "CHECKPOINT_BYTES", 100)
    assert not (export(run, tmp_path / "kept") / "checkpoint.npz").exists()


def test_a_copy_of_an_unfinished_run_keeps_nothing_of_an_earlier_copy(run, tmp_path, monkeypatch):
    """The run may have been begun again, and its state may have grown."""
    copy = export(run, tmp_path / "kept")
    (run / "result.json").unlink()
    names = {"config.json", "environment.json", "records.jsonl"}
    assert export(run, tmp_path / "kept") == copy
    assert {path.name for path in copy.iterdir()} == {*names, "checkpoint.npz"}
    (copy / "checkpoint-before.npz").write_bytes(b"left by somebody")
    monkeypatch.setattr(records, "CHECKPOINT_BYTES", 100)
    export(run, tmp_path / "kept")
    assert {path.name for path in copy.iterdir()} == names


@pytest.mark.parametrize("inside", ["", "kept"])
def test_a_run_is_not_exported_into_itself(run, inside):
    with pytest.raises(UsageError, match="is in the run itself; choose another --export"):
        export(run, run / inside)


def test_a_copy_does_not_replace_another_run_or_itself(run, tmp_path):
    copy = export(run, tmp_path / "kept")
    with pytest.raises(UsageError, match="is the copy itself"):
        export(copy, tmp_path / "kept")
    other = tmp_path / "other"
    runs.train(small("sine-reptile", "outer.steps=3"), 3, NUMPY, out=other, quiet=True)
    with pytest.raises(UsageError, match="has another run"):
        export(other, tmp_path / "kept")


def test_a_renamed_copy_of_a_run_with_another_seed_is_not_replaced(run, tmp_path):
    copy = export(run, tmp_path / "kept")
    copy.rename(copy.with_name("sine-reptile-seed4"))
    with RunDirectory(tmp_path / "other").begin(small("sine-reptile"), 4):
        pass
    with pytest.raises(UsageError, match="has another run"):
        export(tmp_path / "other", tmp_path / "kept")


def test_the_command_copies_every_run_below_a_folder(run, tmp_path, capsys):
    runs.train(small("sine-reptile", "outer.steps=3"), 4, NUMPY, out=tmp_path / "two", quiet=True)
    assert main(["runs", str(tmp_path), "--export", str(tmp_path / "kept"), "--json"]) == 0
    copies = json.loads(capsys.readouterr().out)["exported"]
    assert copies == [str(tmp_path / "kept" / f"sine-reptile-seed{seed}") for seed in (3, 4)]
    assert main(["runs", str(tmp_path), "--export", str(tmp_path / "kept"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exported"] == copies  # the copies are not exported themselves


@pytest.mark.parametrize("inside", ["", "kept"])
def test_a_copy_beside_its_run_does_not_hinder_another_export(run, tmp_path, capsys, inside):
    assert main(["runs", str(tmp_path), "--export", str(tmp_path / inside)]) == 0
    (run / "result.json").unlink()  # so that copies of the run and of its copy differ
    for to in (tmp_path / "other", tmp_path / inside):
        assert main(["runs", str(tmp_path), "--export", str(to)]) == 0
        assert not (to / "sine-reptile-seed3" / "result.json").exists()


def test_a_copy_of_a_run_with_other_settings_is_not_left_out(run, tmp_path, capsys):
    export(run, tmp_path / "kept")
    other = tmp_path / "run3"
    runs.train(small("sine-reptile", "outer.steps=3"), 3, NUMPY, out=other, quiet=True)
    shutil.rmtree(run)
    assert main(["runs", str(tmp_path), "--export", str(tmp_path / "other")]) == 2
    assert "are sine-reptile with seed 3; export one of them" in capsys.readouterr().err
