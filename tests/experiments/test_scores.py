"""Scores: JSON-ready in both kinds, without NaN."""

import json
import math

import numpy as np
import pytest

from reptile_np.experiments.scores import (
    ClassificationScores,
    ClassificationScoring,
    RegressionScores,
    RegressionScoring,
)
from reptile_np.meta.evaluation import MODES
from tests.experiments.small import experiment


def summary(tasks):
    fractions = dict(zip(MODES, np.array(tasks).T, strict=True))
    return ClassificationScoring().summarise(None, None, fractions, curve=False)


def test_accuracy_is_the_mean_over_tasks_for_each_mode():
    scores = summary([(1.0, 0.2), (0.5, 0.6), (0.0, 0.4), (0.6, 0.4)])
    assert isinstance(scores, ClassificationScores)
    values = scores.to_json()["accuracy"]
    assert values["transductive"]["mean"] == pytest.approx(2.1 / 4)
    assert values["non_transductive"]["mean"] == pytest.approx(0.4)
    headline = scores.headline("_untrained")
    assert headline["accuracy_untrained"] == {mode: value["mean"] for mode, value in values.items()}
    assert headline["ci95_untrained"] == {mode: value["ci95"] for mode, value in values.items()}


def test_the_scores_of_a_single_task_are_json_without_nan():
    scores = summary([(1.0, 1.0)])
    for values in (scores.to_json(), scores.headline("")):
        assert "NaN" not in json.dumps(values, allow_nan=False)


def test_regression_scores_are_means_over_tasks_and_the_size_of_the_initial_prediction():
    made = experiment("sine-reptile")
    phi = made.start().phi
    scores = RegressionScoring().summarise(
        made.model, phi, {"error": np.array([(4.0, 1.0), (2.0, 0.5)])}, False
    )
    x = np.linspace(-5, 5, 50, dtype=np.float32)[:, np.newaxis]
    rms = math.sqrt(np.mean(made.model.predict(phi, x).astype(np.float64) ** 2))
    assert isinstance(scores, RegressionScores)
    assert (scores.error, scores.error_before) == (0.75, 3.0)
    assert scores.initial_rms == pytest.approx(rms, rel=1e-6)
    assert scores.headline("_untrained") == {
        f"{key}_untrained": value for key, value in scores.to_json().items()
    }
