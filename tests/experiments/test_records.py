"""Exported records: the same facts in today's format, whatever the run's own."""

import json

import numpy as np
import pytest

from reptile_np.cli import main
from reptile_np.errors import UsageError
from reptile_np.experiments import records, runs
from reptile_np.experiments.records import FORMAT_0, export
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.nn.ops import NUMPY
from tests.experiments.small import small


@pytest.fixture
def run(tmp_path):
    runs.train(small("sine-reptile"), 3, NUMPY, out=tmp_path / "run", quiet=True)
    return tmp_path / "run"


def as_format_0(run):
    """Turn a run directory into one of version 0.1.0."""
    config = json.loads((run / "config.json").read_text())
    preset = config["preset"] | {"about": "", "source": "", "cost": "8 s"}
    del preset["network"], preset["tasks"]["side"], preset["tasks"]["channels"]
    del preset["evaluation"]["one_shot_batch"]
    old = {"preset": preset, "seed": config["seed"], "version": "0.1.0"}
    (run / "config.json").write_text(json.dumps(old))
    (run / "environment.json").unlink()


def test_a_copy_says_what_the_run_says_without_its_checkpoint(run, tmp_path):
    copy = export(run, tmp_path / "kept")
    assert copy.name == "sine-reptile-seed3"
    names = {"config.json", "environment.json", "records.jsonl", "result.json"}
    assert {path.name for path in copy.iterdir()} == names
    assert all((copy / name).read_bytes() == (run / name).read_bytes() for name in names)
    assert export(run, tmp_path / "kept") == copy  # again, as for a run that has gone on


def test_a_run_of_format_0_is_copied_in_today_s_format_and_its_unknown_environment_is_said(run, tmp_path):
    expected = RunDirectory(run).config()
    as_format_0(run)
    copy = export(run, tmp_path / "kept")
    assert RunDirectory(copy).config() == expected
    assert json.loads((copy / "config.json").read_text())["format"] == 1
    (sitting,) = RunDirectory(copy).sittings()
    assert sitting["note"] == FORMAT_0
    assert sitting["kernels"] == "unknown"
    assert sitting["seconds"] == RunDirectory(run).result()["seconds"]
    assert RunDirectory(copy).result() == RunDirectory(run).result()
    assert RunDirectory(copy).records() == RunDirectory(run).records()


@pytest.mark.parametrize("old", [False, True])
def test_an_unfinished_run_is_copied_with_its_checkpoint_and_goes_on_to_the_same_end(run, tmp_path, old):
    preset = small("sine-reptile")
    out = tmp_path / "cut"

    def stop(what, done, total):
        if (what, done) == ("train sine-reptile", 20):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train(preset, 3, NUMPY, out=out, quiet=True, report=stop)
    if old:
        as_format_0(out)
    copy = export(out, tmp_path / "kept")
    runs.train(preset, 3, NUMPY, out=copy, resume=True, quiet=True)
    phis = [np.load(path / "checkpoint.npz")["phi"] for path in (copy, run)]
    assert phis[0].tobytes() == phis[1].tobytes()


def test_a_large_checkpoint_is_left_out(run, tmp_path, monkeypatch):
    (run / "result.json").unlink()
    monkeypatch.setattr(records, "CHECKPOINT_BYTES", 100)
    assert not (export(run, tmp_path / "kept") / "checkpoint.npz").exists()


def test_a_copy_does_not_replace_another_run_or_itself(run, tmp_path):
    copy = export(run, tmp_path / "kept")
    with pytest.raises(UsageError, match="is the copy itself"):
        export(copy, tmp_path / "kept")
    other = tmp_path / "other"
    runs.train(small("sine-reptile", "outer.steps=3"), 3, NUMPY, out=other, quiet=True)
    with pytest.raises(UsageError, match="has another run"):
        export(other, tmp_path / "kept")


def test_the_command_copies_every_run_below_a_folder(run, tmp_path, capsys):
    runs.train(small("sine-reptile", "outer.steps=3"), 4, NUMPY, out=tmp_path / "two", quiet=True)
    assert main(["runs", str(tmp_path), "--export", str(tmp_path / "kept"), "--json"]) == 0
    copies = json.loads(capsys.readouterr().out)["exported"]
    assert copies == [str(tmp_path / "kept" / f"sine-reptile-seed{seed}") for seed in (3, 4)]
