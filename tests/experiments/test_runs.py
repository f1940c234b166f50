"""Runs: what the seed decides, what is recorded and returned, and nothing overwritten."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import progress, runs, sitting
from reptile_np.experiments.experiment import Experiment, make_experiment
from reptile_np.experiments.paired import compare
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.nn.ops import NUMPY
from tests.experiments.small import experiment, small


def test_evaluating_more_often_does_not_change_training():
    made = experiment("glyphs-5way")
    quiet, watched = [], []
    for step in made.outer_steps(made.start()):
        quiet.append(step.phi)
    for step in made.outer_steps(made.start()):
        made.evaluate(step)
        watched.append(step.phi)
    np.testing.assert_array_equal(quiet, watched)


def test_the_seed_decides_everything():
    def decided(seed):
        """φ before and after training, the classes to test on, images of the first task of either kind."""
        made = experiment("glyphs-5way", seed=seed)
        start = made.start()
        *_, end = made.outer_steps(start)
        classes = made.episodes.test
        names = [classes.name(c) for c in range(len(classes))]
        task = made.episodes.evaluation(made.preset.evaluation, "test", 0)
        return start.phi, end.phi, names, made.episodes.training(0, 0)[0][0], task.support[0]

    for one, again, other in zip(*map(decided, (0, 0, 1)), strict=True):
        np.testing.assert_array_equal(one, again)
        assert not np.array_equal(one, other)


def test_the_result_has_the_keys_of_the_contract(tmp_path):
    result = runs.train(small("glyphs-5way"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    for key in ("accuracy", "accuracy_untrained"):
        assert set(result[key]) == {"transductive", "non_transductive"}
        assert all(0 <= fraction <= 1 for fraction in result[key].values())
    assert json.loads((tmp_path / "run/result.json").read_text())["accuracy"] == result["accuracy"]
    sine = runs.train(small("sine-reptile"), 0, NUMPY, quiet=True)
    assert sine["error"] >= 0
    assert sine["error_untrained"] >= 0


def test_evaluate_reads_the_run_back(tmp_path):
    preset = small("glyphs-5way")
    result = runs.train(preset, 0, NUMPY, out=tmp_path / "run", quiet=True)
    same = runs.evaluate(tmp_path / "run", NUMPY, tasks=3, quiet=True)
    assert {mode: value["mean"] for mode, value in same["accuracy"].items()} == result["accuracy"]
    assert (same["tasks"], same["shots"], same["ways"]) == (3, 1, 5)
    five = runs.evaluate(tmp_path / "run", NUMPY, tasks=2, shots=5, split="train", quiet=True)
    assert five["shots"] == 5


def test_an_evaluation_says_what_it_is_of_and_is_recorded_as_it_is_returned(tmp_path):
    preset = small("glyphs-5way", "outer.steps=1", "evaluation.tasks=1")
    three, two, five = map(np.int64, (3, 2, 5))  # numbers of NumPy are recorded too
    runs.train(preset, three, NUMPY, out=tmp_path / "run", quiet=True)
    result = runs.evaluate(tmp_path / "run", NUMPY, tasks=two, shots=five, split="train", jobs=1, quiet=True)
    about = {"preset": "glyphs-5way", "seed": 3, "outer_steps": 1}
    assert result.items() >= {**about, "split": "train", "tasks": 2, "shots": 5, "ways": 5}.items()
    assert RunDirectory(tmp_path / "run").records()[-1] == {"outer_step": 1, "evaluation": result}


@pytest.mark.parametrize("compared", [False, True])
def test_an_evaluation_has_10_000_tasks_as_in_the_paper_if_nothing_else_is_said(
    tmp_path, monkeypatch, compared
):
    run, asked = tmp_path / "run", []
    runs.train(small("glyphs-5way", "outer.steps=1", "evaluation.tasks=1"), 0, NUMPY, out=run, quiet=True)

    def refuse(self, step, spec, *args, **kwargs):
        asked.append(spec.tasks)
        raise UsageError("not in a test")

    monkeypatch.setattr(Experiment, "evaluate", refuse)
    with pytest.raises(UsageError, match="not in a test"):
        compare((run, run), NUMPY, jobs=1) if compared else runs.evaluate(run, NUMPY, jobs=1)
    assert asked == [10_000]


def test_the_losses_are_recorded_at_every_few_steps_and_at_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RECORDED_STEPS", 3)
    preset = small("sine-reptile", "outer.steps=7", "evaluation.tasks=1")
    runs.train(preset, 0, NUMPY, out=tmp_path / "run", quiet=True)
    made = make_experiment(preset, 0, NUMPY)
    assert RunDirectory(tmp_path / "run").records() == [
        {"outer_step": step.done, "first_loss": step.first_loss, "last_loss": step.last_loss}
        for step in made.outer_steps(made.start())
        if step.done in (2, 4, 6, 7)
    ]


def test_a_person_sees_the_loss_before_and_after_the_inner_loop(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    runs.train(small("sine-reptile", "outer.steps=1", "evaluation.tasks=1"), 0, NUMPY)
    made = experiment("sine-reptile", "outer.steps=1")
    (step,) = made.outer_steps(made.start())
    losses = f"loss {step.first_loss:.3f} → {step.last_loss:.3f}"
    assert f"train sine-reptile: 1/1  {losses}  0s to go" in capsys.readouterr().err.splitlines()


def test_a_sitting_saves_30_seconds_after_the_last_save_and_counts_from_its_begin(tmp_path, monkeypatch):
    clock, saved = [1000.0], []
    monkeypatch.setattr(sitting, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(
        RunDirectory, "save", lambda self, step, sittings: saved.append((step.done, *sittings))
    )
    start = experiment("sine-reptile").start()
    here = sitting.Sitting(RunDirectory(tmp_path), {"kernels": "numpy"})
    here.begin(dataclasses.replace(start, done=5))
    for done, clock[0] in ((6, 1029.0), (7, 1031.0), (8, 1060.0), (9, 1062.0)):
        here.save_if_due(dataclasses.replace(start, done=done))
    about = {"from_step": 5, "kernels": "numpy"}
    assert saved == [(7, {**about, "to_step": 7, "seconds": 31}), (9, {**about, "to_step": 9, "seconds": 62})]
    assert here.total_seconds() == 62


@pytest.mark.parametrize("resume", [False, True])
def test_an_existing_directory_is_never_overwritten(tmp_path, resume):
    (tmp_path / "precious.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"exists|no run here"):
        runs.train(small("sine-reptile"), 0, NUMPY, out=tmp_path, resume=resume, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_two_runs_are_not_at_work_in_one_directory(tmp_path, monkeypatch):
    """The second is refused and changes nothing; the first goes on, and then the directory is free."""
    preset, out = small("sine-reptile"), tmp_path / "run"
    original, refused = Experiment.outer_steps, []

    def disturbed(self, start):
        for step in original(self, start):
            if step.done == 20:
                before = (out / "records.jsonl").read_bytes()
                with pytest.raises(UsageError, match="another run is at work there") as error:
                    runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
                refused.append(str(error.value))
                assert (out / "records.jsonl").read_bytes() == before
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "outer_steps", disturbed)
        result = runs.train(preset, 0, NUMPY, out=out, quiet=True)
    assert len(refused) == 1
    assert "\n" not in refused[0]
    again = runs.train(preset, 0, NUMPY, out=out, resume=True, quiet=True)
    assert again["error"] == result["error"]


def test_the_untrained_initialisation_is_evaluated_before_the_training(tmp_path, monkeypatch):
    """An evaluation that cannot work must not be found out after hours."""
    asked = []

    def refuse(self, step, *args, **kwargs):
        asked.append(step.done)
        raise UsageError("cannot be evaluated")

    monkeypatch.setattr(Experiment, "evaluate", refuse)
    with pytest.raises(UsageError, match="cannot be evaluated"):
        runs.train(small("sine-reptile"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    assert asked == [0]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_a_seed_that_cannot_be_is_refused_before_anything_is_written(tmp_path, seed):
    with pytest.raises(UsageError, match=f"^seed is {seed}; give a whole number of at least 0$"):
        runs.train(small("glyphs-5way"), seed, NUMPY, out=tmp_path / "run", quiet=True)
    assert not list(tmp_path.iterdir())


def test_every_outer_step_and_every_test_task_is_reported_also_if_nothing_is_shown(tmp_path):
    seen = []
    options = {"quiet": True, "report": lambda *report: seen.append(report)}
    preset = small("sine-reptile", "outer.steps=2", "evaluation.tasks=2", "evaluation.steps=1")
    runs.train(preset, 0, NUMPY, out=tmp_path / "run", **options)
    jobs = ("evaluate untrained", "train sine-reptile", "evaluate trained")
    assert seen == [(job, done, 2) for job in jobs for done in (1, 2)]
    seen.clear()
    runs.evaluate(tmp_path / "run", NUMPY, tasks=3, **options)
    assert seen == [("evaluate", done, 3) for done in (1, 2, 3)]


def test_a_run_may_be_named_by_text(tmp_path):
    out = str(tmp_path / "run")
    runs.train(small("glyphs-5way"), 0, NUMPY, out=out, quiet=True)
    assert runs.evaluate(out, NUMPY, tasks=1, quiet=True)["tasks"] == 1


def test_a_new_run_keeps_the_users_own_hidden_files(tmp_path):
    own = tmp_path / ".notes.tmp"
    own.write_text("x")
    with pytest.raises(UsageError, match="exists; choose another"):
        runs.train(small("glyphs-5way"), 0, NUMPY, out=tmp_path, quiet=True)
    assert own.read_text() == "x"


def test_a_run_that_cannot_be_trained_is_refused_before_anything_is_drawn_or_written(tmp_path):
    preset = small("glyphs-5way", "inner.batch=1000", "tasks.replacement=true")
    with pytest.raises(UsageError, match=r"^inner\.batch=1000: at most 50, the examples"):
        runs.train(preset, 0, NUMPY, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
