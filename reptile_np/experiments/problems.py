"""A preset bound to a seed, data and kernels: its model, its episodes, its evaluation.

Verified by ``tests/experiments/test_problems.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.experiments.presets import EvaluationSpec, Preset
from reptile_np.experiments.streams import Streams
from reptile_np.meta import evaluation, meta_gradients
from reptile_np.meta.inner_loop import Batch, Keep, Optimizer
from reptile_np.meta.optimizers import Adam, HeavyBall, Sgd, linear_annealing
from reptile_np.nn import models
from reptile_np.nn.models import Model
from reptile_np.nn.ops import Array, Ops
from reptile_np.tasks import few_shot, glyphs, omniglot, sine
from reptile_np.tasks.image_classes import ImageClasses, rotated, split_classes

Scores = dict[str, Any]
Progress = Callable[[Iterable[Any]], Iterable[Any]]

_OPTIMIZERS: dict[str, Callable[[float], Any]] = {"sgd": Sgd, "momentum": HeavyBall, "adam": Adam}

OMNIGLOT_TRAINING_CHARACTERS = 1200  # of 1,623; each in four rotations (released program)


class Problem(Protocol):
    """What a run needs of its preset."""

    @property
    def model(self) -> Model:
        """The network."""

    def episode(self, i: int, j: int) -> list[Batch]:
        """Return the training minibatches of task j of outer step i; pure."""

    def scores(
        self,
        phi: Array,
        state: Any,
        spec: EvaluationSpec,
        split: str = "test",
        executor: Executor | None = None,
        progress: Progress = iter,
    ) -> Scores:
        """Return the evaluation of an initialisation, JSON-ready."""


def bind(preset: Preset, streams: Streams, ops: Ops, data: Path | None) -> Problem:
    """Return the problem of a preset; `data` is where Omniglot lies (default: the imported cache).

    Raises
    ------
    UsageError
        For data that is missing or broken, and settings that contradict each other.
    """
    if preset.algorithm == "maml" and preset.inner.optimizer != "sgd":
        raise UsageError("algorithm maml differentiates through SGD steps: set inner.optimizer=sgd")
    if preset.algorithm == "joint" and preset.inner.steps != 1:
        raise UsageError("algorithm joint takes one gradient per task: set inner.steps=1")
    for name, value in (
        ("inner.batch", preset.inner.batch),
        ("inner.steps", preset.inner.steps),
        ("outer.meta_batch", preset.outer.meta_batch),
        ("evaluation.tasks", preset.evaluation.tasks),
        ("evaluation.batch", preset.evaluation.batch),
        ("filters", preset.filters),
    ):
        if value < 1:
            raise UsageError(f"{name}={value}: must be at least 1")
    if preset.tasks.source == "sine":
        return SineProblem(preset, streams, models.sine_mlp().with_ops(ops))
    train, test = _image_classes(preset, streams, data)
    model = models.omniglot_cnn(preset.tasks.ways, preset.filters).with_ops(ops)
    return FewShotProblem(preset, streams, model, train, test)


def inner_optimizer(preset: Preset) -> Any:
    """Return the optimiser of the inner loop."""
    return _OPTIMIZERS[preset.inner.optimizer](preset.inner.learning_rate)


def outer_optimizer(preset: Preset) -> Callable[[int], Optimizer]:
    """Return the optimiser of each outer step: its rate goes linearly from `rate` to `final_rate`."""
    outer = preset.outer
    rate = linear_annealing(outer.rate, outer.final_rate, outer.steps)
    return lambda i: _OPTIMIZERS[outer.optimizer](rate(i))


def meta_gradient(preset: Preset, model: Model) -> meta_gradients.MetaGradient:
    """Return the preset's function from a trajectory to a direction; joint training is k = 1, w = (1,)."""
    return {
        "reptile": meta_gradients.reptile,
        "fomaml": meta_gradients.fomaml,
        "maml": meta_gradients.maml(model, preset.inner.learning_rate),
        "joint": meta_gradients.gradient_sum((1.0,)),
    }[preset.algorithm]


KEEP: dict[str, Keep] = {"reptile": "ends", "fomaml": "ends", "maml": "hessians", "joint": "all"}
"""How much of each trajectory the preset's meta-gradient needs."""


@dataclass(frozen=True)
class FewShotProblem:
    """N-way classification: trained on some classes, judged on others."""

    preset: Preset
    streams: Streams
    model: Model
    train: ImageClasses
    test: ImageClasses

    def episode(self, i: int, j: int) -> list[Batch]:
        """Return minibatches of the support set of a fresh task; its tail last, where it is separate."""
        spec, inner = self.preset.tasks, self.preset.inner
        rng = self.streams.rng("tasks", i, j)
        support = few_shot.sample_task(rng, self.train, spec.ways, spec.shots, queries=0).support
        rng = self.streams.rng("batches", i, j)
        draw = few_shot.minibatches_with_replacement if spec.replacement else few_shot.minibatches
        if not spec.tail_shots:
            return draw(rng, support, inner.batch, inner.steps)
        rest, tail = few_shot.separate_tail(rng, support, spec.tail_shots)
        return [*draw(rng, rest, inner.batch, inner.steps - 1), tail]

    def evaluation_episode(self, spec: EvaluationSpec, split: str, i: int) -> evaluation.Episode:
        """Return evaluation task i: K shots and one query per class; pure."""
        classes = {"train": self.train, "test": self.test}[split]
        rng = self.streams.rng("evaluation", i)
        task = few_shot.sample_task(rng, classes, self.preset.tasks.ways, spec.shots)
        batches = few_shot.minibatches(rng, task.support, spec.batch, spec.steps)
        return evaluation.Episode(task.support, task.query, batches)

    def scores(
        self,
        phi: Array,
        state: Any,
        spec: EvaluationSpec,
        split: str = "test",
        executor: Executor | None = None,
        progress: Progress = iter,
    ) -> Scores:
        """Return {mode: {mean, ci95}}: fractions of the queries, over spec.tasks tasks."""
        fractions = evaluation.evaluate(
            self.model,
            inner_optimizer(self.preset),
            phi,
            state,
            partial(self.evaluation_episode, spec, split),
            spec.tasks,
            executor=executor,
            progress=progress,
        )
        accuracies = {mode: evaluation.Accuracy(values) for mode, values in fractions.items()}
        return {mode: {"mean": a.mean, "ci95": a.ci95} for mode, a in accuracies.items()}


@dataclass(frozen=True)
class SineProblem:
    """Regression on sine waves; an episode's minibatches are the grid's points, shuffled."""

    preset: Preset
    streams: Streams
    model: Model

    def episode(self, i: int, j: int) -> list[Batch]:
        """Return minibatches of the 50 points of a fresh wave."""
        support = sine.sample_task(self.streams.rng("tasks", i, j)).support
        inner = self.preset.inner
        return few_shot.minibatches(self.streams.rng("batches", i, j), support, inner.batch, inner.steps)

    def evaluation_episode(self, spec: EvaluationSpec, i: int) -> evaluation.Episode:
        """Return evaluation wave i; pure."""
        rng = self.streams.rng("evaluation", i)
        task = sine.sample_task(rng, spec.shots)
        batches = few_shot.minibatches(rng, task.support, spec.batch, spec.steps)
        return evaluation.Episode(task.support, task.query, batches)

    def scores(
        self,
        phi: Array,
        state: Any,
        spec: EvaluationSpec,
        split: str = "test",
        executor: Executor | None = None,
        progress: Progress = iter,
    ) -> Scores:
        """Return the mean squared error over the grid, before and after fine-tuning, over the waves.

        Keys: `error` after `steps` steps on `shots` points, `error_before` without them, and
        `initial_rms`, the size of the initialisation's own prediction (≈ 0, because E[f] = 0).
        """
        errors = evaluation.evaluate(
            self.model,
            inner_optimizer(self.preset),
            phi,
            state,
            partial(self.evaluation_episode, spec),
            spec.tasks,
            score=evaluation.squared_error,
            after=(0, -1),
            executor=executor,
            progress=progress,
        )["error"]
        before, after = errors.mean(axis=0)
        initial = self.model.predict(phi, sine.GRID.astype(phi.dtype))
        return {
            "error": float(after),
            "error_before": float(before),
            "initial_rms": float(np.sqrt(np.mean(initial**2))),
        }


def _image_classes(
    preset: Preset, streams: Streams, data: Path | None
) -> tuple[ImageClasses, ImageClasses]:
    """Return the training classes, with rotations as new classes, and the upright test classes."""
    if preset.tasks.source == "glyphs":
        drawn = glyphs.draw(preset.tasks.classes, preset.tasks.images, streams.rng("classes"))
        train, test = split_classes(streams.rng("split"), drawn, preset.tasks.classes * 4 // 5)
        return train, test
    train, test = split_classes(streams.rng("split"), omniglot.load(data), OMNIGLOT_TRAINING_CHARACTERS)
    return rotated(train), test
