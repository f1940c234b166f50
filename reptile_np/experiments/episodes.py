"""The data of a run: the minibatches of each training task, and the tasks of each evaluation.

Everything is a pure function of a place, (outer step, task) in training and a task's number in evaluation,
and each place has random streams of its own:

    training tasks      "tasks"        place (i, j)    classes and images, or the wave
    their minibatches   "batches"      place (i, j)
    evaluation tasks    "evaluation"   place (i,)      task and minibatches
    … while training    "watch"        place (s, i)    after outer step s

Verified by ``tests/experiments/test_episodes.py`` and ``tests/experiments/test_wiring_streams.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.experiments.specs import EvaluationSpec, Preset, TaskSpec
from reptile_np.experiments.streams import Streams
from reptile_np.meta.evaluation import Episode
from reptile_np.meta.inner_loop import Batch
from reptile_np.tasks import few_shot, folder, glyphs, mini_imagenet, omniglot, sine
from reptile_np.tasks.image_cache import CachedImages, Split
from reptile_np.tasks.image_classes import ImageClasses, Splits, inverted, rotated, split_classes

__all__ = ["Episodes", "FewShotEpisodes", "SineEpisodes", "load_images", "make_episodes"]


class Episodes(Protocol):
    """The data of a run."""

    def training(self, i: int, j: int) -> Sequence[Batch]:
        """Return the minibatches of task j of outer step i."""

    def evaluation(self, spec: EvaluationSpec, split: Split, i: int, at: int | None = None) -> Episode:
        """Return evaluation task i; `at` is the outer step of an evaluation while training."""

    def check_training(self) -> None:
        """Raise `UsageError` if the training classes do not suffice for the tasks of the preset."""

    def check_evaluation(self, spec: EvaluationSpec, split: Split) -> None:
        """Raise `UsageError` if the data do not suffice for the tasks of `spec`."""

    @property
    def images_sha256(self) -> str | None:
        """The digest of the images and splits that were read; None for data that the seed makes."""


@dataclass(frozen=True)
class FewShotEpisodes:
    """N-way classification: trained on some classes, evaluated on others."""

    preset: Preset
    streams: Streams
    train: ImageClasses
    test: ImageClasses
    validation: ImageClasses | None = None
    images_sha256: str | None = None

    def check_training(self) -> None:
        """Refuse tasks that the training classes cannot give, and minibatches that a task cannot fill."""
        tasks, inner = self.preset.tasks, self.preset.inner
        _check_counts(self.train, "training", tasks.ways, tasks.shots, "tasks.shots", tasks.queries)
        if tasks.tail_shots >= tasks.shots:
            raise UsageError(
                f"tasks.tail_shots={tasks.tail_shots} of tasks.shots={tasks.shots}: leave at least one shot "
                "for the steps before the last"
            )
        pool = tasks.ways * (tasks.shots - tasks.tail_shots)
        if tasks.replacement and inner.batch > pool:
            raise UsageError(f"inner.batch={inner.batch}: at most {pool}, the examples it is drawn from")

    def training(self, i: int, j: int) -> list[Batch]:
        """Return minibatches of the support set of a fresh task; a query set or a tail is the last one."""
        tasks, inner = self.preset.tasks, self.preset.inner
        rng = self.streams.rng("tasks", i, j)
        task = few_shot.sample_task(
            rng, self.train, tasks.ways, tasks.shots, queries=tasks.queries, turn=tasks.turn, as_kept=True
        )
        support = task.support
        rng = self.streams.rng("batches", i, j)
        draw = few_shot.minibatches_with_replacement if tasks.replacement else few_shot.minibatches
        if tasks.queries:
            return [*draw(rng, support, inner.batch, inner.steps), task.query]
        if not tasks.tail_shots:
            return draw(rng, support, inner.batch, inner.steps)
        rest, tail = few_shot.separate_tail(rng, support, tasks.tail_shots)
        return [*draw(rng, rest, inner.batch, inner.steps - 1), tail]

    def evaluation(self, spec: EvaluationSpec, split: Split, i: int, at: int | None = None) -> Episode:
        """Return evaluation task i: shots and queries of each class of the split, and its minibatches."""
        rng, tasks = _evaluation_rng(self.streams, i, at), self.preset.tasks
        task = few_shot.sample_task(
            rng, self._classes(split), tasks.ways, spec.shots, queries=spec.queries, turn=tasks.turn
        )
        batches = few_shot.minibatches(rng, task.support, spec.minibatch, spec.steps)
        return Episode(task.support, task.query, batches)

    def check_evaluation(self, spec: EvaluationSpec, split: Split) -> None:
        """Refuse more ways than the split has classes, and more shots than a class has images."""
        ways = self.preset.tasks.ways
        _check_counts(self._classes(split), split, ways, spec.shots, "evaluation.shots", spec.queries)

    def _classes(self, split: Split) -> ImageClasses:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        classes = parts.get(split)
        if classes is None:
            there = " or ".join(name for name, part in parts.items() if part is not None)
            raise UsageError(f"split {split!r}: {self.preset.name} has none; choose {there}")
        return classes


@dataclass(frozen=True)
class SineEpisodes:
    """Regression on sine waves; the minibatches of training are the grid's 50 points, shuffled."""

    preset: Preset
    streams: Streams
    images_sha256: None = None

    def training(self, i: int, j: int) -> list[Batch]:
        """Return minibatches of the 50 points of a fresh wave."""
        support = sine.sample_task(self.streams.rng("tasks", i, j)).support
        inner = self.preset.inner
        return few_shot.minibatches(self.streams.rng("batches", i, j), support, inner.batch, inner.steps)

    def evaluation(self, spec: EvaluationSpec, split: Split, i: int, at: int | None = None) -> Episode:
        """Return evaluation task i: K random points of a fresh wave, judged on the grid."""
        rng = _evaluation_rng(self.streams, i, at)
        task = sine.sample_task(rng, spec.shots)
        return Episode(
            task.support, task.query, few_shot.minibatches(rng, task.support, spec.batch, spec.steps)
        )

    def check_training(self) -> None:
        """Refuse nothing: every wave can be drawn."""

    def check_evaluation(self, spec: EvaluationSpec, split: Split) -> None:
        """Refuse a split of the waves: training and evaluation draw from all of them."""
        if split != "test":
            raise UsageError(f"split {split!r}: sine waves are not split into training and test waves")


def _evaluation_rng(streams: Streams, i: int, at: int | None) -> np.random.Generator:
    return streams.rng("evaluation", i) if at is None else streams.rng("watch", at, i)


def make_episodes(preset: Preset, streams: Streams, data: Path | None) -> Episodes:
    """Return the data of a preset; `data` is the folder of its images (default: the imported cache).

    Raises
    ------
    UsageError
        For data that are missing, damaged or too few, and for `data` with a preset that reads no files.
    """
    tasks = preset.tasks
    if data is not None and tasks.source in ("sine", "glyphs"):
        raise UsageError(
            f"--data {data}: does nothing for {preset.name}, which makes its own data; leave it out"
        )
    if tasks.source == "sine":
        return SineEpisodes(preset, streams)
    images = load_images(preset, data)
    train, validation, test = _image_classes(preset, streams, images)
    expected = (tasks.side, tasks.side, tasks.channels)
    if train.image_shape != expected:
        found, wanted = (" x ".join(map(str, shape)) for shape in (train.image_shape, expected))
        place = "the imported images" if data is None else f"--data {data}: the images"
        raise UsageError(
            f"{place} are {found}, and {preset.name} reads {wanted}; import them again "
            f"with --size {tasks.side}{' --grey' * (tasks.channels == 1)}"
        )
    digest = None if images is None else images.sha256
    return FewShotEpisodes(preset, streams, train, test, validation, digest)


def load_images(preset: Preset, data: Path | None) -> CachedImages | None:
    """Return the imported images of a preset; None if the seed draws them.

    Raises
    ------
    UsageError
        For data that are missing or damaged.
    """
    match preset.tasks.source:
        case "omniglot":
            return omniglot.load(data)
        case "mini-imagenet":
            return mini_imagenet.load(data)
        case "folder":
            return folder.load(data)
    return None


def _image_classes(preset: Preset, streams: Streams, images: CachedImages | None) -> Splits:
    """Return the training, validation and test classes, which are disjoint.

    Each Omniglot character is four training classes, one for each rotation; test characters are upright.
    Mini-ImageNet and a folder of images have the splits of their import, whatever the seed.
    """
    tasks = preset.tasks
    if images is None:
        drawn = glyphs.draw(tasks.classes, tasks.images, streams.rng("classes"))
        train, test = split_classes(streams.rng("split"), drawn, tasks.classes * 4 // 5)
        return Splits(train, None, test)
    if tasks.source != "omniglot":
        return images.splits()
    rng = streams.rng("split")
    if tasks.train_classes:
        return omniglot.splits_in_three(rng, _shown(tasks, images), tasks.train_classes)
    train, validation, test = omniglot.splits(rng, _shown(tasks, images))
    return Splits(rotated(train), validation, test)


def _shown(tasks: TaskSpec, classes: ImageClasses) -> ImageClasses:
    return inverted(classes) if tasks.invert else classes


def _check_counts(
    classes: ImageClasses, split: str, ways: int, shots: int, key: str, queries: int = 0
) -> None:
    """Refuse tasks that need more classes, or more images of a class, than there are."""
    if ways > len(classes):
        raise UsageError(
            f"tasks.ways={ways}: the {split} classes are {len(classes)}, and a task needs {ways}; give data "
            "with more classes, or train with a smaller tasks.ways"
        )
    fewest = min(classes.count(c) for c in range(len(classes)))
    if queries >= fewest:
        raise UsageError(
            f"{key.partition('.')[0]}.queries={queries}: a {split} class has {fewest} images, "
            "and at least 1 is for the support set; choose fewer"
        )
    if shots + queries > fewest:
        of_these = f", and {queries} of them are queries" if queries else ""
        raise UsageError(
            f"{key}={shots}: a {split} class has {fewest} images{of_these}; choose at most {fewest - queries}"
        )
