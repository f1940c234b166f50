"""Episodes: what a run sees, and what it never sees."""

import dataclasses
import re

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import limits, runs
from reptile_np.nn.ops import NUMPY
from reptile_np.tasks.image_classes import ArrayClasses, selected
from tests.experiments.small import experiment, small


def glyphs(*settings, seed=0):
    return experiment("glyphs-5way", *settings, seed=seed).episodes


def rows(x):
    """The images as a set, so that two batches can be compared."""
    return {image.tobytes() for image in x}


def test_an_episode_is_a_pure_function_of_its_place():
    episodes, again = glyphs(), glyphs()
    for (x, y), (x_again, y_again) in zip(episodes.training(3, 1), again.training(3, 1), strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)
    assert not np.array_equal(episodes.training(3, 1)[0][0], episodes.training(3, 2)[0][0])


def test_an_episode_has_the_preset_s_minibatches():
    batches = glyphs("inner.batch=7", "inner.steps=4").training(0, 0)
    assert [x.shape for x, _ in batches] == [(7, 28, 28, 1)] * 4
    assert all(x.dtype == np.float32 for x, _ in batches)


def test_a_separate_tail_is_the_last_step_and_shares_no_image_with_the_steps_before_it():
    *steps, (tail, labels) = glyphs("tasks.tail_shots=2", "inner.batch=40", "inner.steps=3").training(0, 0)
    assert len(steps) == 2
    assert sorted(labels.tolist()) == sorted([*range(5)] * 2)
    assert not rows(tail) & set().union(*(rows(x) for x, _ in steps))


def test_with_replacement_no_batch_holds_an_image_twice_and_batches_differ():
    batches = glyphs("tasks.replacement=true", "inner.batch=49").training(0, 0)
    assert all(len(rows(x)) == 49 for x, _ in batches)
    assert len({x.tobytes() for x, _ in batches}) == len(batches)


def test_evaluation_fine_tunes_on_the_support_set_and_never_on_a_query():
    made = experiment("glyphs-5way")
    episode = made.episodes.evaluation(made.preset.evaluation, "test", 0)
    assert len(episode.query[1]) == 5
    assert set().union(*(rows(x) for x, _ in episode.batches)) <= rows(episode.support[0])
    assert not rows(episode.query[0]) & rows(episode.support[0])


def test_the_split_is_the_seed_s():
    one, other = (glyphs(seed=seed).test for seed in (0, 1))
    assert [one.name(c) for c in range(10)] != [other.name(c) for c in range(10)]


def test_the_grid_of_a_sine_episode_is_one_epoch():
    batches = experiment("sine-reptile").episodes.training(0, 0)
    points = np.sort(np.concatenate([x for x, _ in batches]).ravel())
    np.testing.assert_allclose(points, np.linspace(-5, 5, 50), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "setting", "says"),
    [
        (
            "glyphs-5way",
            "tasks.ways=41",
            r"tasks\.ways=41: the training classes are 40, and a task needs 41; give data",
        ),
        ("glyphs-5way", "tasks.images=9", r"tasks\.shots=10: a training class has 9 images"),
        ("glyphs-5way", "tasks.tail_shots=10", r"tasks\.tail_shots=10 of tasks\.shots=10"),
    ],
)
def test_tasks_that_the_training_classes_cannot_give_are_refused(name, setting, says):
    with pytest.raises(UsageError, match=says) as error:
        experiment(name, setting).check_training()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("tasks.ways=11", r"tasks\.ways=11: the test classes are 10, and a task needs 11"),
        ("evaluation.shots=20", r"evaluation\.shots=20: a test class has 20 .* at most 19"),
    ],
)
def test_tasks_that_the_test_classes_cannot_give_are_refused_before_the_training(setting, says, tmp_path):
    with pytest.raises(UsageError, match=says):
        runs.train(small("glyphs-5way", setting), 0, NUMPY, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_evaluation_on_training_classes_asks_nothing_of_the_test_classes(tmp_path, monkeypatch):
    runs.train(small("glyphs-5way", "outer.steps=1"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    episodes = glyphs()
    few = dataclasses.replace(episodes, test=selected(episodes.test, np.arange(2)))
    monkeypatch.setattr("reptile_np.experiments.experiment.make_episodes", lambda *arguments: few)
    assert runs.evaluate(tmp_path / "run", NUMPY, split="train", tasks=1, quiet=True)["split"] == "train"
    with pytest.raises(UsageError, match="the test classes are 2, and a task needs 5"):
        runs.evaluate(tmp_path / "run", NUMPY, tasks=1, quiet=True)


@pytest.mark.parametrize("tail", [0, 2])
def test_a_batch_without_replacement_inside_it_is_at_most_the_support_set_without_the_tail(tail):
    settings, most = ("tasks.replacement=true", f"tasks.tail_shots={tail}"), 5 * (10 - tail)
    largest = glyphs(*settings, f"inner.batch={most}")
    largest.check_training()
    assert len(largest.training(0, 0)[0][0]) == most
    with pytest.raises(UsageError, match=rf"inner\.batch={most + 1}: at most {most}"):
        experiment("glyphs-5way", *settings, f"inner.batch={most + 1}").check_training()


def test_the_largest_tasks_that_the_data_can_give_are_accepted():
    made = experiment("glyphs-5way", "evaluation.shots=19", "tasks.ways=10", "tasks.shots=20")
    made.check_training()
    made.check_evaluation(made.preset.evaluation, "test")
    assert len(made.episodes.evaluation(made.preset.evaluation, "test", 0).support[1]) == 190


def test_the_class_of_the_fewest_images_decides_how_many_examples_a_task_can_have():
    classes = ArrayClasses(np.zeros((29, 28, 28), bool), np.repeat(np.arange(5), [6, 6, 5, 6, 6]))
    dataclasses.replace(glyphs("tasks.shots=5"), train=classes).check_training()
    with pytest.raises(UsageError, match=r"^tasks\.shots=6: a training class has 5 images; choose at most 5"):
        dataclasses.replace(glyphs("tasks.shots=6"), train=classes).check_training()


@pytest.mark.parametrize("name", ["glyphs-5way", "sine-reptile"])
def test_a_folder_of_data_is_refused_for_presets_that_make_their_own(tmp_path, name):
    with pytest.raises(UsageError, match=f"--data .* does nothing for {name}"):
        experiment(name, data=tmp_path)


def test_a_home_folder_that_does_not_exist_is_one_line(tmp_path):
    from pathlib import Path

    with pytest.raises(UsageError, match=r"^~nosuchuser/x: there is no such user"):
        experiment("omniglot-5way", data=Path("~nosuchuser/x"))


@pytest.mark.parametrize(
    ("queries", "says"),
    [
        (11, "tasks.shots=10: a training class has 20 images, and 11 of them are queries; choose at most 9"),
        (20, "tasks.queries=20: a training class has 20 images, and at least 1 is for the support set"),
    ],
)
def test_more_queries_than_a_class_can_give_are_refused(queries, says):
    with pytest.raises(UsageError, match=f"^{re.escape(says)}"):
        glyphs("algorithm=maml", f"tasks.queries={queries}").check_training()


def test_a_query_set_and_a_tail_are_refused_together():
    with pytest.raises(
        UsageError, match=r"^tasks\.queries: needs algorithm maml or fomaml, and tasks\.tail_shots=0"
    ):
        experiment("glyphs-5way", "algorithm=maml", "tasks.queries=1", "tasks.tail_shots=1")


def test_an_evaluation_that_cannot_fit_into_memory_is_refused(monkeypatch):
    made = experiment("glyphs-5way")
    monkeypatch.setattr(limits, "memory", lambda: 10**10)
    spec = dataclasses.replace(made.preset.evaluation, tasks=10**13)
    with pytest.raises(UsageError, match=r"^evaluation\.tasks=1\d+: would take"):
        made.check_evaluation(spec, "test")


def test_an_unknown_split_is_refused():
    for name in ("glyphs-5way", "sine-reptile"):
        made = experiment(name)
        with pytest.raises(UsageError, match="split 'validation'"):
            made.check_evaluation(made.preset.evaluation, "validation")


def test_a_curve_has_the_steps_of_its_own_evaluation():
    made = experiment("glyphs-5way")
    spec = dataclasses.replace(made.preset.evaluation, steps=2)
    curve = made.evaluate(made.start(), spec, curve=True).curve
    assert {len(points) for points in curve.values()} == {3}
