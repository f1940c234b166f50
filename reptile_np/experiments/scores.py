"""What an evaluation finds out: accuracy in two modes for classification, squared error for regression.

Verified by ``tests/experiments/test_scores.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reptile_np.meta.evaluation import Accuracy, Predictor, Score, accuracy, squared_error
from reptile_np.meta.inner_loop import Array
from reptile_np.tasks import sine


class Scores(Protocol):
    """The scores of an initialisation."""

    def headline(self, suffix: str) -> dict[str, Any]:
        """Return the keys that ``train --json`` prints, each with `suffix` appended; plain JSON values."""

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``evaluate --json`` prints; plain JSON values."""


class Scoring(Protocol):
    """How tasks of one kind are scored: the arguments of `evaluate`, and what becomes of its result."""

    score: Score
    after: int | Sequence[int]

    def summarise(self, model: Predictor, phi: Array, values: Mapping[str, Array]) -> Scores:
        """Return the scores over all tasks."""


@dataclass(frozen=True)
class ClassificationScores:
    """Accuracy for each of `MODES`."""

    accuracy: dict[str, Accuracy]

    def headline(self, suffix: str) -> dict[str, Any]:
        """Return ``accuracy`` and ``ci95``: mode → fraction of the queries; ci95 of one task is None."""
        return {
            f"accuracy{suffix}": {mode: a.mean for mode, a in self.accuracy.items()},
            f"ci95{suffix}": {mode: _finite_or_none(a.ci95) for mode, a in self.accuracy.items()},
        }

    def to_json(self) -> dict[str, Any]:
        """Return ``accuracy``: mode → {mean, ci95}."""
        return {
            "accuracy": {
                mode: {"mean": a.mean, "ci95": _finite_or_none(a.ci95)} for mode, a in self.accuracy.items()
            }
        }


@dataclass(frozen=True)
class RegressionScores:
    """Mean squared errors over the tasks' queries, and the size of the initial prediction.

    `error` is measured after fine-tuning, `error_before` without it.  `initial_rms` is the root mean
    square of the initialisation's own prediction on the grid (≈ 0, because E[f] = 0).
    """

    error: float
    error_before: float
    initial_rms: float

    def headline(self, suffix: str) -> dict[str, Any]:
        """Return the three values."""
        return {f"{key}{suffix}": value for key, value in self.to_json().items()}

    def to_json(self) -> dict[str, Any]:
        """Return the three values."""
        return {
            "error": self.error,
            "error_before": self.error_before,
            "initial_rms": self.initial_rms,
        }


class ClassificationScoring:
    """The fraction of the queries classified correctly after fine-tuning, in both modes."""

    score: Score = staticmethod(accuracy)
    after: int | Sequence[int] = -1

    def summarise(self, model: Predictor, phi: Array, values: Mapping[str, Array]) -> Scores:
        """Return mean and interval for each mode; `values` are mode → fractions (tasks,)."""
        return ClassificationScores({mode: Accuracy(fractions) for mode, fractions in values.items()})


class RegressionScoring:
    """The squared error on the queries before and after fine-tuning."""

    score: Score = staticmethod(squared_error)
    after: int | Sequence[int] = (0, -1)

    def summarise(self, model: Predictor, phi: Array, values: Mapping[str, Array]) -> Scores:
        """Return the mean errors, and the size of the prediction on the grid; "error" is (tasks, 2)."""
        before, after = values["error"].mean(axis=0)
        initial = model.predict(phi, sine.GRID.astype(phi.dtype))
        return RegressionScores(float(after), float(before), float(np.sqrt(np.mean(initial**2))))


def _finite_or_none(value: float) -> float | None:
    """Return None for a value that JSON cannot hold."""
    return value if math.isfinite(value) else None
