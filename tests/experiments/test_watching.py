"""Accuracy while training: what is recorded, on which classes, and that it changes nothing else."""

import dataclasses
import json

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import presets, runs, watching
from reptile_np.experiments.experiment import Experiment
from reptile_np.experiments.presets import PRESETS, get
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.experiments.specs import Watch
from reptile_np.experiments.watching import watch, watcher
from reptile_np.nn.ops import NUMPY
from reptile_np.tasks.image_classes import selected
from tests.experiments.small import experiment, small


@pytest.fixture
def watched(monkeypatch):
    """Every preset is evaluated four times in training, on three tasks each."""
    monkeypatch.setattr(watching, "watch", lambda preset: Watch(points=4, tasks=3))


@pytest.mark.parametrize("name", ["glyphs-5way", "sine-reptile"])
def test_a_watched_run_is_trained_on_the_same_numbers_and_records_the_accuracy(name, tmp_path, monkeypatch):
    runs.train(small(name), 0, NUMPY, out=tmp_path / "alone", quiet=True)
    monkeypatch.setattr(watching, "watch", lambda preset: Watch(points=4, tasks=3))
    runs.train(small(name), 0, NUMPY, out=tmp_path / "watched", quiet=True)
    checkpoints = [(tmp_path / run / "checkpoint.npz").read_bytes() for run in ("alone", "watched")]
    assert checkpoints[0] == checkpoints[1]
    lines = (tmp_path / "watched/records.jsonl").read_text().splitlines()
    records = [record for record in map(json.loads, lines) if "tasks" in record]
    every = small(name).outer.steps // 4
    assert [record["outer_step"] for record in records] == [every * (i + 1) for i in range(4)]
    key = "error" if name == "sine-reptile" else "accuracy"
    assert all(set(record) == {"outer_step", "split", "tasks", key} for record in records)
    assert all((record["split"], record["tasks"]) == ("test", 3) for record in records)


@pytest.mark.usefixtures("watched")
def test_a_record_is_an_evaluation_of_the_state_on_tasks_of_that_outer_step_alone():
    made = experiment("glyphs-5way", "evaluation.tasks=5")
    step = dataclasses.replace(made.start(), done=2)
    spec = dataclasses.replace(made.preset.evaluation, tasks=3)
    record = watcher(made)(step)
    assert (made.preset.evaluation.tasks, record["tasks"]) == (5, 3)
    assert record["accuracy"] == made.evaluate(step, spec, at=2).means()["accuracy"]
    assert watcher(experiment("glyphs-5way", "outer.steps=8"))(dataclasses.replace(step, done=3)) is None
    tasks = [made.episodes.evaluation(spec, "test", 0, at).support[0] for at in (None, 2, 3)]
    assert not np.array_equal(tasks[0], tasks[1])
    assert not np.array_equal(tasks[1], tasks[2])


@pytest.mark.usefixtures("watched")
def test_an_evaluation_that_diverges_is_named_and_does_not_end_the_training(tmp_path, monkeypatch, capsys):
    evaluate = Experiment.evaluate

    def diverges(self, step, *args, at=None, **more):
        if at == 20:
            raise UsageError("evaluation task 1: fine-tuning diverged")
        return evaluate(self, step, *args, at=at, **more)

    monkeypatch.setattr(Experiment, "evaluate", diverges)
    runs.train(small("sine-reptile"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    records = map(json.loads, (tmp_path / "run/records.jsonl").read_text().splitlines())
    assert [record["outer_step"] for record in records if "tasks" in record] == [10, 30, 40]
    line = "outer step 20: evaluation task 1: fine-tuning diverged; not recorded"
    assert capsys.readouterr().err == f"reptile-np: {line}\n"


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(("steps", "watched_steps"), [(7, [2, 4, 6, 7]), (8, [2, 4, 6, 8]), (3, [1, 2, 3])])
def test_a_run_is_watched_as_often_as_asked_for_or_at_every_step(steps, watched_steps):
    made = experiment("sine-reptile", f"outer.steps={steps}", "evaluation.steps=1")
    evaluate, start = watcher(made), made.start()
    states = [dataclasses.replace(start, done=done) for done in range(1, steps + 1)]
    assert [state.done for state in states if evaluate(state)] == watched_steps


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_s_own_number_of_steps_is_a_multiple_of_its_points(name):
    how = watch(get(name))
    assert how is None or get(name).outer.steps % how.points == 0


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(("classes", "split"), [(4, "test"), (5, "validation")])
def test_validation_classes_are_used_if_they_are_enough_for_a_task(classes, split):
    made = experiment("glyphs-5way")
    validation = selected(made.episodes.test, np.arange(classes))
    made = dataclasses.replace(made, episodes=dataclasses.replace(made.episodes, validation=validation))
    assert watcher(made)(dataclasses.replace(made.start(), done=2))["split"] == split


def test_a_resumed_run_has_the_same_records(tmp_path, watched):
    preset = small("glyphs-5way")
    runs.train(preset, 0, NUMPY, out=tmp_path / "whole", quiet=True)

    def stop(what, done, total):
        if (what, done) == ("train glyphs-5way", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train(preset, 0, NUMPY, out=tmp_path / "cut", quiet=True, report=stop)
    runs.train(preset, 0, NUMPY, out=tmp_path / "cut", resume=True, quiet=True)
    records = [(tmp_path / run / "records.jsonl").read_bytes() for run in ("whole", "cut")]
    assert records[0] == records[1]


@pytest.mark.parametrize("name", PRESETS)
def test_only_long_runs_are_watched_and_at_little_cost(name):
    preset, how = get(name), watch(get(name))
    if name.startswith("figure3-"):
        assert how == Watch(100, 100)
    elif preset.hours < 0.08:
        assert how is None
    else:
        assert how.points == 20
        fine_tuning = how.points * how.tasks * preset.evaluation.steps * preset.evaluation.minibatch
        assert fine_tuning < 0.01 * preset.inner_steps * preset.inner.batch


def test_a_changed_preset_is_watched_as_its_number_of_steps_allows():
    half, short = (
        presets.with_settings(get("omniglot-5way"), [f"outer.steps={steps}"]) for steps in (50_000, 10_000)
    )
    assert watch(get("omniglot-5way")) is not None
    assert presets.seconds(half) > 300
    assert watch(half) is not None
    assert presets.seconds(short) < 300
    assert watch(short) is None


def test_a_run_is_not_watched_if_a_hundredth_of_its_cost_is_not_one_task():
    """An evaluation of no tasks is refused, and would be noted twenty times."""
    preset = get("images-5way")
    assert watch(presets.with_settings(preset, ["evaluation.steps=1000"])).tasks == 2
    assert watch(presets.with_settings(preset, ["evaluation.steps=10000"])) is None


def test_a_preset_that_was_read_back_is_watched_as_the_preset_itself(tmp_path):
    """A run's directory does not say how the run is watched."""
    with RunDirectory(tmp_path).begin(small("figure3-g1", "outer.steps=100"), 0):
        read, _ = RunDirectory(tmp_path).config()
    assert watch(read) == Watch(points=100, tasks=100)


def test_a_watched_evaluation_has_at_most_200_tasks():
    assert watch(get("maml-omniglot-5way-1shot")).tasks == 192
    assert watch(get("mini-imagenet-v1-1shot-transductive")).tasks == 200  # 625 cost a hundredth of the run


def test_a_preset_of_one_s_own_is_trained_and_resumed(tmp_path):
    preset = dataclasses.replace(small("sine-reptile", "outer.steps=3"), name="mine")
    runs.train(preset, 0, NUMPY, out=tmp_path / "run", quiet=True)
    assert runs.train(preset, 0, NUMPY, out=tmp_path / "run", resume=True, quiet=True)["outer_steps"] == 3
