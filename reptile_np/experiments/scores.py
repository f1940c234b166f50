"""What an evaluation finds out: accuracy in two modes for classification, squared error for regression.

Each variant scores one task at a time and then summarises the tasks' scores, so that tasks can be spread
over processes.  Verified by ``tests/experiments/test_scores.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta import evaluation
from reptile_np.meta.evaluation import MODES, Accuracy, Episode, Predictor
from reptile_np.meta.inner_loop import Array
from reptile_np.meta.optimizers import Optimizer
from reptile_np.tasks import sine

TaskScore = tuple[float, ...]
"""The scores of one task: a fraction for each of `MODES`, or the error before and after fine-tuning."""


class Scores(Protocol):
    """The scores of an initialisation."""

    def headline(self, suffix: str) -> dict[str, Any]:
        """Return the keys that ``train --json`` prints, each with `suffix` appended; plain JSON values."""

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``evaluate --json`` prints; plain JSON values."""


class Scoring(Protocol):
    """How tasks of one kind are scored."""

    def score(
        self, model: Predictor, optimizer: Optimizer, phi: Array, state: Any, episode: Episode
    ) -> TaskScore:
        """Fine-tune `phi` (n,) on one task and return the task's scores."""

    def summarise(self, model: Predictor, phi: Array, tasks: Sequence[TaskScore]) -> Scores:
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
    """Counts the queries that are classified correctly, in both modes."""

    def score(
        self, model: Predictor, optimizer: Optimizer, phi: Array, state: Any, episode: Episode
    ) -> TaskScore:
        """Return the fraction of the queries classified correctly, for each of `MODES`."""
        counts = evaluation.correct(model, optimizer, phi, state, episode)
        return tuple(counts[mode] / len(episode.query[1]) for mode in MODES)

    def summarise(self, model: Predictor, phi: Array, tasks: Sequence[TaskScore]) -> Scores:
        """Return mean and interval for each mode."""
        fractions = zip(*tasks, strict=True)
        return ClassificationScores(
            {mode: Accuracy(np.array(values)) for mode, values in zip(MODES, fractions, strict=True)}
        )


class RegressionScoring:
    """Measures squared errors before and after fine-tuning."""

    def score(
        self, model: Predictor, optimizer: Optimizer, phi: Array, state: Any, episode: Episode
    ) -> TaskScore:
        """Return the mean squared error on the queries before and after fine-tuning."""
        return evaluation.squared_errors(model, optimizer, phi, state, episode)

    def summarise(self, model: Predictor, phi: Array, tasks: Sequence[TaskScore]) -> Scores:
        """Return the mean errors, and the size of the prediction on the grid.

        Raises
        ------
        UsageError
            If an error is not finite.
        """
        before, after = np.mean(tasks, axis=0)
        if not (math.isfinite(before) and math.isfinite(after)):
            raise UsageError("evaluation: the squared error is not finite; lower the learning rates")
        initial = model.predict(phi, sine.GRID.astype(phi.dtype))
        return RegressionScores(float(after), float(before), float(np.sqrt(np.mean(initial**2))))


def _finite_or_none(value: float) -> float | None:
    """Return None for a value that JSON cannot hold."""
    return value if math.isfinite(value) else None
