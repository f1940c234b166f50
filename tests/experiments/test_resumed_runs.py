"""Runs that are stopped and resumed: the same files, and nothing lost that was saved."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

import reptile_np
from reptile_np.errors import UsageError
from reptile_np.experiments import presets, runs
from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.checkpoints import save_step
from reptile_np.experiments.experiment import Experiment, make_experiment
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.experiments.run_json import identity
from reptile_np.nn import native
from reptile_np.nn.ops import NUMPY
from tests.experiments.small import SMALL, experiment, small


def final_step(path, name):
    return RunDirectory(path).load(experiment(name).start())


def interrupted_after(monkeypatch, steps):
    """Let the outer loop be stopped as by Ctrl-C, after `steps` outer steps of a sitting."""
    original = Experiment.outer_steps

    def stopping(self, start):
        yield from itertools.islice(original(self, start), steps)
        raise KeyboardInterrupt

    monkeypatch.setattr(Experiment, "outer_steps", stopping)


def stopped(monkeypatch, preset, out, steps, resume=False):
    with monkeypatch.context() as patch:
        interrupted_after(patch, steps)
        with pytest.raises(KeyboardInterrupt):
            runs.train(preset, 0, NUMPY, out=out, resume=resume, quiet=True)


@pytest.mark.parametrize("name", SMALL)
def test_a_run_that_was_stopped_twice_ends_with_bitwise_the_same_files(tmp_path, monkeypatch, name):
    preset, whole, parts = small(name), tmp_path / "whole", tmp_path / "parts"
    expected = runs.train(preset, 0, NUMPY, out=whole, quiet=True)
    stopped(monkeypatch, preset, parts, 2)
    stopped(monkeypatch, preset, parts, 1, resume=True)
    result = runs.train(preset, 0, NUMPY, out=parts, resume=True, quiet=True)
    del expected["seconds"], result["seconds"]
    assert expected == result
    for file in ("checkpoint.npz", "records.jsonl", "config.json"):
        assert (whole / file).read_bytes() == (parts / file).read_bytes()


@pytest.mark.parametrize("ops", ["numpy", *(f"native-{isa}" for isa in native.available()[:1])])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sine-maml", ["outer.steps=10"]),
        ("sine-maml", ["outer.steps=10", "outer.meta_batch=2", "outer.optimizer=sgd"]),
        ("glyphs-5way", []),
        ("glyphs-5way", ["tasks.shots=12", "tasks.tail_shots=2"]),
        ("glyphs-5way", ["tasks.queries=2"]),
        ("glyphs-5way", ["tasks.replacement=true", "outer.clip=0.1"]),
    ],
)
def test_maml_through_steps_of_adam_is_trained_stopped_resumed_and_evaluated(
    tmp_path, monkeypatch, name, settings, ops
):
    adam = ["algorithm=maml", "inner.optimizer=adam", "inner.learning_rate=0.001", "outer.rate=0.001"]
    preset, kernels, parts = small(name, *adam, *settings), choose_ops(ops, threads=1), tmp_path / "parts"
    expected = runs.train(preset, 0, kernels, out=tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        interrupted_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            runs.train(preset, 0, kernels, out=parts, quiet=True)
    result = runs.train(preset, 0, kernels, out=parts, resume=True, quiet=True)
    assert result["outer_steps"] == preset.outer.steps
    assert expected.keys() == result.keys()
    assert (tmp_path / "whole" / "checkpoint.npz").read_bytes() == (parts / "checkpoint.npz").read_bytes()
    step = RunDirectory(parts).load(make_experiment(preset, 0, kernels).start())
    steps = preset.inner.steps + (preset.tasks.queries > 0)
    assert step.inner_state.t == preset.outer.steps * preset.outer.meta_batch * steps
    assert np.isfinite(step.phi).all()
    assert runs.evaluate(parts, kernels, tasks=2, jobs=1, quiet=True)["tasks"] == 2


def test_a_damaged_checkpoint_costs_one_generation_and_not_the_run(tmp_path, monkeypatch, capsys):
    preset, whole, out = small("glyphs-5way"), tmp_path / "whole", tmp_path / "run"
    runs.train(preset, 0, NUMPY, out=whole, quiet=True)
    stopped(monkeypatch, preset, out, 1)
    stopped(monkeypatch, preset, out, 2, resume=True)
    (out / "checkpoint.npz").write_bytes((out / "checkpoint.npz").read_bytes()[:-1])
    runs.evaluate(out, NUMPY, tasks=1, quiet=True)
    assert (out / "checkpoint-before.npz").exists()  # an evaluation moves nothing
    capsys.readouterr()
    runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (out / "checkpoint-damaged.npz").exists()
    assert (whole / "checkpoint.npz").read_bytes() == (out / "checkpoint.npz").read_bytes()


def test_records_that_the_checkpoint_does_not_have_are_dropped_on_resume(tmp_path, monkeypatch):
    preset, out = small("sine-reptile"), tmp_path / "run"
    stopped(monkeypatch, preset, out, 7)
    with (out / "records.jsonl").open("ab") as file:
        file.write(b'{"outer_step": 8, "first_loss": 0}\n\xff\n{"outer_st')  # a kill later, mid-line
    runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
    steps = [json.loads(line)["outer_step"] for line in (out / "records.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 41))


def test_seconds_and_environments_of_all_sittings_are_kept(tmp_path, monkeypatch):
    preset, out = small("sine-reptile"), tmp_path / "run"
    stopped(monkeypatch, preset, out, 7)
    stopped(monkeypatch, preset, out, 13, resume=True)
    result = runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
    sittings = json.loads((out / "environment.json").read_text())["sittings"]
    assert [(s["from_step"], s["to_step"]) for s in sittings] == [(0, 7), (7, 20), (20, 40)]
    assert all(s["kernels"] == "numpy" and s["numpy"] == np.__version__ for s in sittings)
    assert result["seconds"] == pytest.approx(sum(s["seconds"] for s in sittings), abs=2e-3)
    again = runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
    assert again["seconds"] == pytest.approx(result["seconds"], abs=2e-3)


@pytest.mark.parametrize("lost", ["nothing else", "result.json", "environment.json", "to_step"])
def test_records_without_their_checkpoint_are_not_trained_again(tmp_path, lost):
    """What ``runs --export`` writes: to continue would begin again and drop the records.

    Each of the two other files says that there was a training; sittings of an early format have no "to_step".
    """
    preset = small("glyphs-5way")
    runs.train(preset, 0, NUMPY, out=tmp_path / "run", quiet=True)
    runs.evaluate(tmp_path / "run", NUMPY, tasks=2, jobs=1, quiet=True)
    for checkpoint in (tmp_path / "run").glob("checkpoint*.npz"):
        checkpoint.unlink()
    if lost.endswith(".json"):
        (tmp_path / "run" / lost).unlink()
    if lost == "to_step":
        (tmp_path / "run" / "result.json").unlink()
        environment = json.loads((tmp_path / "run" / "environment.json").read_text())
        del environment["sittings"][0]["to_step"]
        (tmp_path / "run" / "environment.json").write_text(json.dumps(environment))
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(UsageError, match="records of a run without its checkpoint"):
        runs.train(preset, 0, NUMPY, out=tmp_path / "run", resume=True, quiet=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize("same", [True, False], ids=["the same kernels", "other kernels"])
def test_an_evaluation_of_a_later_state_is_kept_on_resume_if_that_state_is_made_again(tmp_path, same):
    preset, run = small("glyphs-5way"), tmp_path / "run"
    runs.train(preset, 0, NUMPY, out=run, quiet=True)
    runs.evaluate(run, NUMPY, tasks=2, jobs=1, quiet=True)
    save_step(run, dataclasses.replace(final_step(run, "glyphs-5way"), done=3), identity(preset, 0))
    if not same:
        sittings = json.loads((run / "environment.json").read_text())
        sittings["sittings"][-1]["kernels"] = "others"
        (run / "environment.json").write_text(json.dumps(sittings))
    runs.train(preset, 0, NUMPY, out=run, resume=True, quiet=True)
    evaluations = [record for record in RunDirectory(run).records() if "evaluation" in record]
    assert len(evaluations) == same


@pytest.mark.skipif(not native.available(), reason="needs kernels that round differently")
def test_other_kernels_are_accepted_on_resume_with_one_line_and_recorded(tmp_path, monkeypatch, capsys):
    preset, out = small("glyphs-5way"), tmp_path / "run"
    stopped(monkeypatch, preset, out, 2)
    capsys.readouterr()
    kernels = native.load()
    runs.train(preset, 0, kernels, out=out, resume=True, quiet=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert "numpy kernels until now" in line
    assert "--ops numpy" in line
    sittings = RunDirectory(out).sittings()
    assert [sitting["kernels"] for sitting in sittings] == ["numpy", kernels.name]
    runs.train(preset, 0, kernels, out=out, resume=True, quiet=True)
    assert capsys.readouterr().err == ""


def test_a_run_with_a_damaged_environment_is_resumed_with_one_line(tmp_path, monkeypatch, capsys):
    preset, out = small("sine-reptile"), tmp_path / "run"
    stopped(monkeypatch, preset, out, 2)
    capsys.readouterr()
    (out / "environment.json").write_bytes(b"{")
    runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "environment.json: damaged; earlier seconds are not counted, and it is not known on which images the "
        "run was trained"
    )
    assert [sitting["from_step"] for sitting in RunDirectory(out).sittings()] == [2]


def test_another_version_is_accepted_on_resume_with_one_line(tmp_path, monkeypatch, capsys):
    preset, out = small("sine-reptile"), tmp_path / "run"
    monkeypatch.setattr("reptile_np.__version__", "0.0.9")
    stopped(monkeypatch, preset, out, 2)
    monkeypatch.undo()
    capsys.readouterr()
    runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"reptile_np {reptile_np.__version__} instead of 0.0.9" in line
    runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
    assert capsys.readouterr().err == ""


def test_a_directory_that_exists_is_resumed_only_if_it_is_a_run(tmp_path):
    preset = small("sine-reptile")
    runs.train(preset, 0, NUMPY, out=tmp_path / "run", quiet=True)
    with pytest.raises(UsageError, match=r": exists; choose another, or continue with --resume$"):
        runs.train(preset, 0, NUMPY, out=tmp_path / "run", quiet=True)
    (tmp_path / "file").write_text("x")
    for name in (".", "file"):
        with pytest.raises(UsageError, match=r": exists; choose another$"):
            runs.train(preset, 0, NUMPY, out=tmp_path / name, quiet=True)


def test_a_run_is_not_resumed_with_other_settings_or_without_a_directory(tmp_path):
    preset = small("sine-reptile")
    runs.train(preset, 0, NUMPY, out=tmp_path / "run", quiet=True)
    longer = presets.with_settings(preset, ["outer.steps=50"])
    for other, seed, says in (
        (longer, 0, "outer.steps=40 instead of 50"),
        (preset, 1, "seed=0 instead of 1"),
        (small("sine-fomaml"), 0, "preset sine-reptile instead of sine-fomaml"),
    ):
        with pytest.raises(UsageError, match=f"was begun with {says}; give the same ones$"):
            runs.train(other, seed, NUMPY, out=tmp_path / "run", resume=True, quiet=True)
    with pytest.raises(UsageError, match="--resume needs --out"):
        runs.train(preset, 0, NUMPY, resume=True, quiet=True)
