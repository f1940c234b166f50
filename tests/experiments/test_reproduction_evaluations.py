"""Which recorded evaluations a table takes, and which steps and seconds a planned run has left."""

from types import SimpleNamespace

import pytest

from reptile_np.experiments import reproduction
from reptile_np.experiments.presets import get, with_settings
from reptile_np.experiments.reproduction import PlannedRun
from reptile_np.experiments.run_directory import RunDirectory
from tests.experiments.reproduced import SETTINGS


@pytest.fixture
def begun(tmp_path):
    """A run of 50 outer steps that has only begun; its table wants three test tasks of one shot."""
    preset = with_settings(get("same-k-glyphs-reptile-k2"), [*SETTINGS, "outer.steps=50"])
    with RunDirectory(tmp_path / "run").begin(preset, 0):
        return PlannedRun(preset, 0, tmp_path / "run", (preset.evaluation,))


def scored(mean, outer_step=50, **changes):
    """The record of an evaluation that the table wants, with changes."""
    accuracy = {mode: {"mean": mean, "ci95": 0.1} for mode in ("transductive", "non_transductive")}
    values = {"split": "test", "tasks": 3, "shots": 1, "accuracy": accuracy, **changes}
    return {"outer_step": outer_step, "evaluation": values}


FINISHED = {"outer_steps": 50, "seconds": 1.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"split": "train"},
        {"split": "validation"},
        {"shots": 5},
        {"other_images": True},
        {"seed": 1},
        {"preset": "same-k-glyphs-fomaml-k2"},
        {"outer_step": 49},
        {"accuracy": {mode: {"mean": 0.5} for mode in ("transductive", "non_transductive")}},
    ],
    ids=[
        "training classes",
        "validation classes",
        "shots",
        "images",
        "seed",
        "preset",
        "outer step",
        "no interval",
    ],
)
def test_a_table_takes_no_evaluation_of_another_run_other_classes_shots_images_or_steps_or_without_interval(
    begun, changes
):
    directory, (spec,) = RunDirectory(begun.path), begun.evaluations
    directory.append(scored(0.5, **changes))
    assert begun.evaluation(spec) is None
    directory.append(scored(0.25))
    directory.append(scored(0.5, **changes))
    assert begun.evaluation(spec)["accuracy"]["transductive"]["mean"] == 0.25


def test_a_table_takes_the_latest_of_two_evaluations(begun):
    for mean in (0.25, 0.5):
        RunDirectory(begun.path).append(scored(mean))
    assert begun.evaluation(begun.evaluations[0])["accuracy"]["transductive"]["mean"] == 0.5


def test_a_run_with_a_result_is_trained_whatever_its_records_say(begun):
    RunDirectory(begun.path).append({"outer_step": 20, "first_loss": 1.0})
    assert (begun.steps_done(), begun.trained()) == (20, False)
    RunDirectory(begun.path).write_json("result.json", FINISHED)
    assert (begun.steps_done(), begun.trained()) == (50, True)


def test_the_seconds_left_are_those_of_the_steps_and_of_the_evaluations_that_are_not_done(begun):
    a_gradient = 3600 * get("same-k-glyphs-reptile-k2").hours / (840 * 4 * 2 * 10)  # steps, tasks, 2 batches
    training, evaluation = 50 * 4 * 2 * 10 * a_gradient, 3 * (2 * 5 + 10) * a_gradient  # a query: 6 passes
    assert begun.seconds_left() == pytest.approx(training + evaluation)
    RunDirectory(begun.path).append({"outer_step": 20, "first_loss": 1.0})
    assert begun.seconds_left() == pytest.approx(0.6 * training + evaluation)
    RunDirectory(begun.path).write_json("result.json", FINISHED)
    assert begun.seconds_left() == pytest.approx(evaluation)
    RunDirectory(begun.path).append(scored(0.5))
    assert begun.seconds_left() == 0


def test_a_run_at_work_reports_once_a_second(begun, monkeypatch):
    clock, seen = [0.0], []
    monkeypatch.setattr(reproduction, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    report = reproduction.ProgressFile(begun.path / reproduction.PROGRESS)
    for clock[0], done in ((5.0, 1), (5.75, 2), (6.0, 3), (6.75, 4), (7.25, 5)):
        report("train", done, 50)
        seen.append(reproduction.progress_of(begun)[1])
    assert seen == [1, 1, 3, 3, 5]
