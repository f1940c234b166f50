"""Problems: what a preset draws, and where its pieces come from."""

import numpy as np
import pytest

from reptile_np.experiments import presets, problems
from reptile_np.experiments.streams import Streams
from reptile_np.meta.optimizers import Adam, HeavyBall, Sgd
from reptile_np.nn.ops import NUMPY


def bound(name, *settings, seed=0, data=None):
    preset = presets.with_settings(presets.get(name), settings)
    return problems.bind(preset, Streams(seed), NUMPY, data)


def glyphs(*settings, seed=0):
    return bound("glyphs-5way", "tasks.classes=50", "filters=2", *settings, seed=seed)


def rows(x):
    """The images as a set, so that two batches can be compared."""
    return {image.tobytes() for image in x}


def test_an_episode_is_a_pure_function_of_its_place():
    problem = glyphs()
    again = glyphs()
    for (x, y), (x_again, y_again) in zip(problem.episode(3, 1), again.episode(3, 1), strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)
    assert not np.array_equal(problem.episode(3, 1)[0][0], problem.episode(3, 2)[0][0])


def test_an_episode_has_the_preset_s_minibatches():
    batches = glyphs("inner.batch=7", "inner.steps=4").episode(0, 0)
    assert [x.shape for x, _ in batches] == [(7, 28, 28, 1)] * 4
    assert all(x.dtype == np.float32 for x, _ in batches)


def test_a_separate_tail_shares_no_image_with_the_steps_before_it():
    *steps, (tail, labels) = glyphs("tasks.tail_shots=2", "inner.batch=40").episode(0, 0)
    assert sorted(labels.tolist()) == sorted([*range(5)] * 2)
    assert not rows(tail) & set().union(*(rows(x) for x, _ in steps))


def test_with_replacement_no_batch_holds_an_image_twice():
    for x, _ in glyphs("tasks.replacement=true", "inner.batch=50").episode(0, 0):
        assert len(rows(x)) == 50


def test_evaluation_never_sees_a_query_while_tuning():
    problem = glyphs()
    episode = problem.evaluation_episode(problem.preset.evaluation, "test", 0)
    assert len(episode.query[1]) == 5
    assert not rows(episode.query[0]) & set().union(*(rows(x) for x, _ in episode.batches))


def test_training_and_test_classes_are_disjoint():
    problem = glyphs()
    parts = (problem.train, problem.test)
    train, test = ({classes.name(c) for c in range(len(classes))} for classes in parts)
    assert len(train) == 40
    assert len(test) == 10
    assert not train & test


def test_the_split_is_the_seed_s():
    one, other = (glyphs(seed=seed).test for seed in (0, 1))
    assert [one.name(c) for c in range(10)] != [other.name(c) for c in range(10)]


def test_omniglot_trains_on_4800_turned_classes_and_tests_on_423_upright_ones(data):
    problem = bound("omniglot-5way", data=data)
    assert (len(problem.train), len(problem.test)) == (4800, 423)


def test_the_grid_of_a_sine_episode_is_one_epoch():
    batches = bound("sine-reptile").episode(0, 0)
    points = np.sort(np.concatenate([x for x, _ in batches]).ravel())
    np.testing.assert_allclose(points, np.linspace(-5, 5, 50), rtol=1e-6)


@pytest.mark.parametrize(("name", "kind"), [("sgd", Sgd), ("momentum", HeavyBall), ("adam", Adam)])
def test_any_optimiser_serves_outside(name, kind):
    preset = presets.with_settings(presets.get("sine-reptile"), [f"outer.optimizer={name}"])
    assert isinstance(problems.outer_optimizer(preset)(0), kind)


def test_the_inner_adam_has_no_first_moment():
    inner = problems.inner_optimizer(presets.get("omniglot-5way"))
    assert inner == Adam(1e-3, beta1=0.0, beta2=0.999, epsilon=1e-8)
