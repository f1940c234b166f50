"""The spread over splits is that of repeated draws of the classes."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import split_share
from reptile_np.experiments.presets import get
from reptile_np.tasks.image_classes import rotated
from tests.experiments.small import experiment


def drawn(rng, ease, tasks, ways):
    """Classes of each task, and its accuracy: each query is right with its class's probability."""
    classes = np.stack([rng.choice(len(ease), ways, replace=False) for _ in range(tasks)])
    return classes, (rng.random(classes.shape) < ease[classes]).mean(axis=1)


@pytest.mark.parametrize(("spread", "classes", "rel"), [(0.02, 400, 0.25), (0.1, 400, 0.05), (0.1, 20, 0.05)])
def test_it_is_the_spread_of_the_mean_over_draws_of_the_classes(spread, classes, rel):
    """The mean over all tasks is the mean of the classes' probabilities: its standard deviation is known."""
    rng, ways = np.random.default_rng(0), 5
    ease = 0.85 + spread * rng.permutation(np.resize([-1, 1], classes))
    estimate = split_share.spread_over_splits(*drawn(rng, ease, 20_000, ways))
    assert estimate == pytest.approx(ease.std(ddof=1) / classes**0.5, rel=rel)


def test_of_a_population_that_is_drawn_whole_there_is_no_spread():
    tasks = drawn(np.random.default_rng(0), np.linspace(0.5, 0.9, 40), 5_000, 5)
    unlimited = split_share.spread_over_splits(*tasks)
    assert split_share.spread_over_splits(*tasks, population=160) == pytest.approx(unlimited * 0.75**0.5)
    assert split_share.spread_over_splits(*tasks, population=40) == 0


def test_the_population_of_omniglot_does_not_count_rotations():
    made = experiment("glyphs-5way").episodes
    assert split_share.population(made) == 50
    assert split_share.population(replace(made, preset=get("maml-omniglot-5way-1shot"))) == 50
    assert split_share.population(replace(made, preset=get("omniglot-5way"), train=rotated(made.train))) == 50


def test_the_noise_of_the_tasks_is_subtracted():
    """All classes are alike: h(c) differs only because each is estimated from 62 tasks."""
    classes, fractions = drawn(np.random.default_rng(1), np.full(400, 0.9), 5_000, 5)
    tasks = 5_000 * 5 / 400  # of a class
    noise = 5 * (fractions.var() / tasks / 400) ** 0.5
    assert split_share.spread_over_splits(classes, fractions) < noise / 2


def test_it_uses_no_class_that_is_in_one_task_only():
    assert np.isfinite(
        split_share.spread_over_splits(np.array([[0, 1], [0, 2], [1, 0]]), np.array([1.0, 0.5, 0.0]))
    )


def test_the_spread_over_tasks_is_that_of_their_mean(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["split_share.py", "pretrained:glyphs-5way", "--tasks", "20"])
    fractions = np.tile([0.8, 1.0], 10)

    def evaluated(model, inner, phi, state, episode, tasks, score):
        for i in range(tasks):
            episode(i)
        return {"transductive": fractions}

    monkeypatch.setattr(split_share, "evaluate", evaluated)
    split_share.main()
    for line in capsys.readouterr().out.splitlines():
        assert " 90.00 %" in line
        assert line.endswith(f"over tasks ± {100 * 1.96 * fractions.std(ddof=1) / 20**0.5:.2f}")
