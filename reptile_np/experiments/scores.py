"""The results of an evaluation: accuracy in two modes for classification, squared error for regression.

Verified by ``tests/experiments/test_scores.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reptile_np.meta.evaluation import Accuracy, Predictor, Score, accuracy, squared_error
from reptile_np.meta.inner_loop import Array
from reptile_np.tasks import sine

__all__ = [
    "ClassificationScores",
    "ClassificationScoring",
    "RegressionScores",
    "RegressionScoring",
    "Scores",
    "Scoring",
]


class Scores(Protocol):
    """The scores of an initialisation."""

    def headline(self, suffix: str) -> dict[str, Any]:
        """Return the keys that ``train --json`` prints, each with `suffix` appended; plain JSON values."""

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``evaluate --json`` prints; plain JSON values."""

    def means(self) -> dict[str, Any]:
        """Return what is recorded while training; plain JSON values."""


class Scoring(Protocol):
    """How tasks of one kind are scored: the arguments of `evaluate`, and what becomes of its result."""

    score: Score
    after: int | Sequence[int]

    def summarise(self, model: Predictor, phi: Array, values: Mapping[str, Array], curve: bool) -> Scores:
        """Return the scores over all tasks; `curve`: the values are those after 0, 1, … inner steps."""


@dataclass(frozen=True)
class ClassificationScores:
    """Accuracy in each of `MODES`; `curve` maps a mode to the accuracies after 0, 1, … inner steps."""

    accuracy: dict[str, Accuracy]
    curve: dict[str, list[Accuracy]] | None = None

    def headline(self, suffix: str) -> dict[str, Any]:
        """Return ``accuracy`` and ``ci95``: mode → fraction of the queries."""
        return {
            f"accuracy{suffix}": {mode: a.mean for mode, a in self.accuracy.items()},
            f"ci95{suffix}": {mode: a.ci95 for mode, a in self.accuracy.items()},
        }

    def to_json(self) -> dict[str, Any]:
        """Return ``accuracy``: mode → {mean, ci95}; ``curve``: mode → a list of them."""
        values: dict[str, Any] = {"accuracy": {mode: _point(a) for mode, a in self.accuracy.items()}}
        if self.curve is not None:
            values["curve"] = {mode: list(map(_point, points)) for mode, points in self.curve.items()}
        return values

    def means(self) -> dict[str, Any]:
        """Return ``accuracy``: mode → the mean alone."""
        return {"accuracy": {mode: a.mean for mode, a in self.accuracy.items()}}


@dataclass(frozen=True)
class RegressionScores:
    """Mean squared errors over the tasks' queries, and the size of the initial prediction.

    `error` is measured after fine-tuning, `error_before` without it.  `initial_rms` is the root mean
    square of the initialisation's own prediction on the grid (after joint training ≈ 0, because E[f] = 0).
    """

    error: float
    error_before: float
    initial_rms: float
    curve: list[float] | None = None

    def headline(self, suffix: str) -> dict[str, Any]:
        """Return the three values."""
        return {f"{key}{suffix}": value for key, value in self.to_json().items()}

    def to_json(self) -> dict[str, Any]:
        """Return the three values; ``curve``: {error: the error after 0, 1, … inner steps}."""
        values: dict[str, Any] = {
            "error": self.error,
            "error_before": self.error_before,
            "initial_rms": self.initial_rms,
        }
        return values if self.curve is None else {**values, "curve": {"error": self.curve}}

    def means(self) -> dict[str, Any]:
        """Return ``error``."""
        return {"error": self.error}


class ClassificationScoring:
    """The fraction of the queries classified correctly after fine-tuning, in both modes."""

    score: Score = staticmethod(accuracy)
    after: int | Sequence[int] = -1

    def summarise(self, model: Predictor, phi: Array, values: Mapping[str, Array], curve: bool) -> Scores:
        """Return mean and interval for each mode; the fractions are (tasks,), for a curve (tasks, k + 1)."""
        if not curve:
            return ClassificationScores({mode: Accuracy(fractions) for mode, fractions in values.items()})
        points = {mode: [Accuracy(column) for column in fractions.T] for mode, fractions in values.items()}
        return ClassificationScores({mode: each[-1] for mode, each in points.items()}, points)


class RegressionScoring:
    """The squared error on the queries before and after fine-tuning."""

    score: Score = staticmethod(squared_error)
    after: int | Sequence[int] = (0, -1)

    def summarise(self, model: Predictor, phi: Array, values: Mapping[str, Array], curve: bool) -> Scores:
        """Return the mean errors, and the size of the prediction on the grid; "error" is (tasks, points)."""
        errors = values["error"].mean(axis=0).tolist()
        initial = model.predict(phi, sine.GRID.astype(phi.dtype))
        rms = float(np.sqrt(np.mean(initial**2)))
        return RegressionScores(errors[-1], errors[0], rms, errors if curve else None)


def _point(accuracy: Accuracy) -> dict[str, float]:
    return {"mean": accuracy.mean, "ci95": accuracy.ci95}
