"""Omniglot's unseen characters, drawn on the page, are told apart as an evaluation tells them apart."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.experiment import make_experiment
from reptile_np.play.answers import CHARACTERS, Characters
from reptile_np.play.drawing import image
from reptile_np.pretrained import learner_of, names, saved_run
from tests.play.strokes import of_image

TASKS = 20


@given(st.integers(0, 2**32), st.floats(0.02, 0.5))
def test_any_image_can_be_drawn_again_by_strokes(seed, density):
    pixels = (np.random.default_rng(seed).random((28, 28, 1)) >= density).astype(np.float32)
    np.testing.assert_array_equal(image(of_image(pixels)), pixels)


def test_the_page_s_accuracy_is_that_of_an_evaluation(omniglot_data):
    """One-shot: the page draws other minibatches, but all are permutations of the same five drawings."""
    if CHARACTERS.removeprefix("pretrained:") not in names():
        pytest.skip("the weights are not released yet")
    run, ops = saved_run(CHARACTERS), choose_ops(threads=1)
    preset, seed = run.config()
    experiment = make_experiment(preset, seed, ops, omniglot_data)
    spec = replace(preset.evaluation, shots=1, tasks=TASKS)
    scores = experiment.evaluate(run.load(experiment.start()), spec)
    ask = Characters({"trained": learner_of(run, ops)})
    right = {mode: 0 for mode in scores.accuracy}
    for i in range(TASKS):
        episode = experiment.episodes.evaluation(spec, "test", i)
        support, labels = episode.support
        classes = [[of_image(x) for x in support[labels == c]] for c in range(preset.tasks.ways)]
        queries, expected = episode.query
        for mode in right:
            asked = {
                "classes": classes,
                "queries": [of_image(x) for x in queries],
                "transductive": mode == "transductive",
            }
            last = np.array(ask(asked)["probabilities"]["trained"][-1])
            right[mode] += int((last.argmax(axis=1) == expected).sum())
    total = TASKS * preset.tasks.ways
    for mode, accuracy in scores.accuracy.items():
        print(
            f"{mode}: the page {right[mode]} of {total} right, an evaluation {round(accuracy.mean * total)}"
        )
        assert abs(right[mode] - accuracy.mean * total) <= 1
