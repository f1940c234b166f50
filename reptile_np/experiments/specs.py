"""What a preset consists of: frozen values, without behaviour.

Field names are the keys of ``--set`` and of ``config.json``.  Verified by
``tests/experiments/test_settings.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = [
    "LATER",
    "Algorithm",
    "Cell",
    "EvaluationSpec",
    "InnerSpec",
    "Network",
    "OuterSpec",
    "Preset",
    "Published",
    "Source",
    "TaskSpec",
    "Watch",
]

Algorithm = Literal["reptile", "fomaml", "maml", "joint"]
Source = Literal["sine", "glyphs", "omniglot", "mini-imagenet", "folder"]
Network = Literal["conv", "mini-imagenet", "mini-imagenet-v1", "finn-omniglot", "finn-mini-imagenet"]

LATER = {"later": True}
"""Metadata of a field that run directories of earlier versions do not have; they then mean its default."""


@dataclass(frozen=True)
class TaskSpec:
    """Where tasks come from.

    `ways` is the number of classes of a task.  `shots` are training shots: examples per class in the support
    set of a *training* task.  With `replacement` every minibatch is drawn anew, its examples all different;
    without, minibatches are cut from shuffled epochs.
    Of the `shots` examples of a class, `tail_shots` are kept back for the last inner step (0: the last
    minibatch is drawn like the others).  `classes` and `images` say how many glyphs are drawn.  Images are
    `side` x `side` pixels of `channels` colours.  Sine waves use `source` only.

    A training task has a query set of `queries` examples per class: its last minibatch, on which MAML tests
    (0: none).  With `turn` all images of a class are turned by one random multiple of 90 degrees in each
    task, of training and of test.  With `invert` ink is 1 and paper 0.  `train_classes` is the number of
    Omniglot's training characters, each of them one class (0: the released program's 1,200, each of them four
    classes, one for each rotation).
    """

    source: Source
    ways: int = 5
    shots: int = 10
    tail_shots: int = 0
    replacement: bool = False
    classes: int = 0
    images: int = 20
    side: int = field(default=28, metadata=LATER)
    channels: int = field(default=1, metadata=LATER)
    queries: int = field(default=0, metadata=LATER)
    turn: bool = field(default=False, metadata=LATER)
    invert: bool = field(default=False, metadata=LATER)
    train_classes: int = field(default=0, metadata=LATER)


@dataclass(frozen=True)
class InnerSpec:
    """The inner loop of training: `steps` steps of an optimiser on minibatches of `batch` examples.

    Parameters whose names match the pattern `fixed`, such as ``*/beta``, keep their values in every inner
    loop, of training and of test; only the outer loop changes them.  `fixed` needs the optimiser "sgd" here.
    Reptile, and first-order MAML without query sets, never change them: their directions are displacements of
    the inner loop, which are zero in these parameters.
    """

    optimizer: Literal["adam", "sgd"]
    learning_rate: float
    batch: int
    steps: int
    fixed: str = field(default="", metadata=LATER)


@dataclass(frozen=True)
class OuterSpec:
    """The outer loop: `rate` annealed linearly to `final_rate` over `steps`; `meta_batch` tasks a step.

    Each entry of the direction is cut to [-`clip`, `clip`] (0: no clipping).  `beta1` is the decay of the
    first moment of "adam" (0: a step follows the direction of its own meta-batch alone).
    """

    rate: float
    steps: int
    meta_batch: int = 1
    final_rate: float = 0.0
    optimizer: Literal["sgd", "momentum", "adam"] = "sgd"
    clip: float = field(default=0.0, metadata=LATER)
    beta1: float = field(default=0.0, metadata=LATER)


@dataclass(frozen=True)
class EvaluationSpec:
    """Fine-tuning at test: K `shots` per class (sine: points), `steps` steps of `batch`; `tasks` tasks.

    `one_shot_batch` takes the place of `batch` if K is 1 (0: `batch` serves every K).  A task has `queries`
    examples per class to classify.
    """

    shots: int
    batch: int
    steps: int
    tasks: int
    one_shot_batch: int = field(default=0, metadata=LATER)
    queries: int = field(default=1, metadata=LATER)

    @property
    def minibatch(self) -> int:
        """Examples in a minibatch, for this K."""
        return self.one_shot_batch if self.shots == 1 and self.one_shot_batch else self.batch

    def gradients(self, ways: int) -> int:
        """Return what a task costs, in gradients of the loss of one example.

        A forward pass counts as a third of a gradient.  Only the non-transductive mode is counted, in which
        each query is classified with the support set.
        """
        passes = ways * self.queries * (ways * self.shots + 1)
        return self.steps * self.minibatch + passes // 3


class Cell(NamedTuple):
    """A column of a published table: K, and the mode of evaluation."""

    shots: int
    mode: Literal["transductive", "non_transductive"]


class Published(NamedTuple):
    """A published accuracy in per cent, and its ± as printed.

    For Reptile the ± is from the standard deviation over three seeds (the paper does not give the formula).
    For MAML it is the 95 % interval over test tasks.
    """

    mean: float
    plus_minus: float


class Watch(NamedTuple):
    """Evaluations while training: how many, and the tasks of each."""

    points: int
    tasks: int


@dataclass(frozen=True)
class Preset:
    """One experiment.

    `about`, `source`, `hours`, `published` and `watched` do not change what is trained: two presets that
    differ only in them are equal, and run directories do not store them.  `hours` is what all steps take
    on one core with native kernels (AMD EPYC, Zen 5), roughly.  `published` is what the paper reports, for
    `tasks.ways` classes; empty if the paper has no number.  `network` is that of images: `models.conv_cnn`,
    `models.mini_imagenet_cnn` in the order of version 3 or 1 of the paper, or one of Finn's program.
    """

    name: str
    algorithm: Algorithm
    tasks: TaskSpec
    inner: InnerSpec
    outer: OuterSpec
    evaluation: EvaluationSpec
    filters: int = 64
    network: Network = field(default="conv", metadata=LATER)
    about: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    hours: float = field(default=0.0, compare=False)
    published: Mapping[Cell, Published] = field(default_factory=dict, compare=False)
    watched: Watch | None = field(default=None, compare=False)

    @property
    def inner_steps(self) -> int:
        """Inner optimiser steps of the whole run."""
        return self.outer.steps * self.outer.meta_batch * self.inner.steps

    @property
    def gradients(self) -> int:
        """What all steps cost, in gradients of the loss of one example.

        A Hessian product counts as two gradients, because it has as many multiplications (at the first
        layer fewer): its forward tangent has twice those of a forward pass, its backward tangent twice those
        of a backward pass, and the activations are computed already.  Exact MAML takes one Hessian product at
        each step but that of the last minibatch.
        """
        tasks, inner = self.tasks, self.inner
        last = tasks.ways * (tasks.queries or tasks.tail_shots) or inner.batch
        before = inner.batch * (inner.steps if tasks.queries else inner.steps - 1)
        of_a_task = before * (3 if self.algorithm == "maml" else 1) + last
        return self.outer.steps * self.outer.meta_batch * of_a_task

    @property
    def cost(self) -> str:
        """`hours` for a reader: "4 s", "6 min", "0.9 h"."""
        seconds = 3600 * self.hours
        if seconds < 100:
            return f"{seconds:.0f} s"
        return f"{seconds / 60:.0f} min" if seconds < 3000 else f"{self.hours:.2g} h"
