"""The random streams of an assembled run: each draw comes from its own place."""

import numpy as np
import pytest

from reptile_np.experiments import runs
from reptile_np.experiments.streams import Streams
from reptile_np.nn.ops import NUMPY
from reptile_np.tasks import few_shot, sine
from tests.experiments.small import experiment, small

# Which stream


def spied_streams(monkeypatch):
    places = []
    original = Streams.rng

    def spy(self, name, *place):
        places.append((name, *place))
        return original(self, name, *place)

    monkeypatch.setattr(Streams, "rng", spy)
    return places


@pytest.mark.parametrize("name", ["glyphs-5way", "sine-reptile"])
def test_each_draw_comes_from_its_own_place_of_its_own_stream(monkeypatch, name):
    places = spied_streams(monkeypatch)
    made = experiment(name)
    assert places == ([("classes",), ("split",)] if name == "glyphs-5way" else [])
    places.clear()
    made.start()
    assert places == [("init",)]
    places.clear()
    made.episodes.training(7, 3)
    assert places == [("tasks", 7, 3), ("batches", 7, 3)]
    places.clear()
    made.episodes.evaluation(made.preset.evaluation, "test", 7)
    assert places == [("evaluation", 7)]


@pytest.mark.parametrize("name", ["glyphs-5way", "sine-reptile"])
def test_a_whole_run_takes_every_task_of_every_outer_step_once_and_evaluates_the_same_tasks_twice(
    monkeypatch, name
):
    preset = small(name)
    places = spied_streams(monkeypatch)
    runs.train(preset, 0, NUMPY, quiet=True)
    training = [place for place in places if place[0] in ("tasks", "batches")]
    outer, tasks = preset.outer, preset.evaluation.tasks
    assert training == [
        (stream, i, j)
        for i in range(outer.steps)
        for j in range(outer.meta_batch)
        for stream in ("tasks", "batches")
    ]
    assert [p for p in places if p[0] == "evaluation"] == [("evaluation", i) for i in range(tasks)] * 2


def test_an_image_episode_is_the_sampler_s_on_these_streams():
    made = experiment("glyphs-5way", "tasks.ways=3", "tasks.shots=4", "inner.batch=5", "inner.steps=6")
    streams = Streams(0)
    task = few_shot.sample_task(streams.rng("tasks", 2, 1), made.episodes.train, 3, 4, queries=0)
    expected = few_shot.minibatches(streams.rng("batches", 2, 1), task.support, 5, 6)
    assert_same_batches(made.episodes.training(2, 1), expected)
    spec = made.preset.evaluation
    rng = streams.rng("evaluation", 5)
    task = few_shot.sample_task(rng, made.episodes.test, 3, spec.shots)
    episode = made.episodes.evaluation(spec, "test", 5)
    assert_same_batches([episode.support, episode.query], [task.support, task.query])
    assert_same_batches(episode.batches, few_shot.minibatches(rng, task.support, spec.batch, spec.steps))


def test_a_sine_episode_is_the_sampler_s_on_these_streams():
    made = experiment("sine-reptile", "evaluation.shots=3")
    streams = Streams(0)
    wave = sine.sample_wave(streams.rng("tasks", 2, 1))
    grid = wave.batch(np.linspace(-5, 5, 50)[:, np.newaxis])
    assert_same_batches(
        made.episodes.training(2, 1), few_shot.minibatches(streams.rng("batches", 2, 1), grid, 10, 5)
    )
    rng = streams.rng("evaluation", 5)
    task = sine.sample_task(rng, 3)
    episode = made.episodes.evaluation(made.preset.evaluation, "test", 5)
    assert_same_batches([episode.support, episode.query], [task.support, task.query])
    assert len(task.support[1]) == 3
    assert_same_batches(episode.batches, few_shot.minibatches(rng, task.support, 10, 32))


def assert_same_batches(one, other):
    for (x, y), (x_other, y_other) in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, x_other)
        np.testing.assert_array_equal(y, y_other)
