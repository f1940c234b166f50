"""The kinds of workload that the benchmark times, and how many floating-point operations each counts.

FLOPs are *naive* counts, the same for every contender: a multiply-add is 2, a convolution is direct and
multiplies its padding too, and only products and convolutions count.  A share of the peak compares the
time with a direct method's least; one that skips the padding, or multiplies less (Winograd), shows more.

    forward             F = Σ_layers 2 · b · positions · |kernel|
    gradient            G = 3 F - F_first      value, weight adjoint, input adjoint (none of the images)
    Hessian product     2 G                    two tangent products for each of G; at the first layer fewer
    MAML, K steps       (K + 1) G + K · 2 G

Verified by ``tests/bench/test_workloads.py`` against published figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from reptile_np.experiments.episodes import FewShotEpisodes
from reptile_np.experiments.experiment import inner_optimizer
from reptile_np.meta import evaluation, meta_gradients
from reptile_np.meta.inner_loop import Batch, Optimizer, adapt
from reptile_np.meta.optimizers import Adam, AdamState, Sgd
from reptile_np.meta.training import Step, meta_train
from reptile_np.nn.layers import Bilinear
from reptile_np.nn.models import Model
from reptile_np.nn.ops import Array, Ops

__all__ = [
    "Answer",
    "Contender",
    "Evaluation",
    "HessianProduct",
    "InParameters",
    "InnerLoop",
    "MetaGradient",
    "MetaIteration",
    "Operation",
    "Workload",
    "forward_flops",
    "gradient_flops",
    "maml_flops",
]


class Answer(NamedTuple):
    """What contenders must agree on: losses (k,), and the result as one vector."""

    losses: Array
    vector: Array


@dataclass(frozen=True)
class Contender:
    """One way to do a workload: `run` is timed and returns when it is done; `read` is not timed.

    Before each series of calls of `run`, `reset` restores a starting point that was updated in place.
    """

    run: Callable[[], Any]
    read: Callable[[Any], Answer]
    reset: Callable[[], None] = lambda: None


class Workload(Protocol):
    """Something to time."""

    @property
    def name(self) -> str:
        """The name in the table, at most 46 characters."""

    @property
    def flops(self) -> int:
        """The naive count."""

    def contender(self, ops: Ops, dtype: Any = np.float32) -> Contender:
        """Return our own way to do it with the kernels of `ops`; float64 NumPy is the reference for all."""

    def pieces(self, vector: Array) -> Mapping[str, Array]:
        """Return the pieces of an answer's vector, which are compared one by one as well."""


def forward_flops(model: Model, batch: int) -> int:
    """Return F of one forward pass: ``Σ 2 · batch · positions · |kernel|``."""
    return sum(_layer_flops(model, batch))


def gradient_flops(model: Model, batch: int) -> int:
    """Return G of one `loss_and_grad`: three products per layer, two for the first."""
    first, *others = _layer_flops(model, batch)
    return 2 * first + 3 * sum(others)


def maml_flops(model: Model, batch: int, steps: int) -> int:
    """Return the count of an exact meta-gradient: `steps` support gradients, the query's, `steps` H·u."""
    return (3 * steps + 1) * gradient_flops(model, batch)


def _layer_flops(model: Model, batch: int) -> Iterator[int]:
    size = model.input_shape
    for layer in model.layers:
        out = layer.out_size(size)
        if isinstance(layer, Bilinear):
            yield 2 * batch * math.prod(out[:-1]) * math.prod(layer.shapes(size)["kernel"])
        size = out


@dataclass(frozen=True)
class Operation:
    """One entry of `Ops` on one layer's shapes."""

    name: str
    entry: str
    arguments: tuple[Any, ...]
    flops: int

    def pieces(self, vector: Array) -> Mapping[str, Array]:
        """One piece."""
        return {"result": vector}

    def contender(self, ops: Ops, dtype: Any = np.float32) -> Contender:
        """Call the entry."""
        entry = getattr(ops, self.entry)
        arguments = [a.astype(dtype) if isinstance(a, np.ndarray) else a for a in self.arguments]
        return Contender(lambda: entry(*arguments), lambda y: Answer(np.zeros(0), np.ravel(y)))


class InParameters:
    """A workload whose answer is a vector like φ."""

    model: Model

    def pieces(self, vector: Array) -> Mapping[str, Array]:
        """Return the model's kernels, biases, gammas and betas."""
        return self.model.layout.views(vector)


@dataclass(frozen=True)
class InnerLoop(InParameters):
    """k optimiser steps through `adapt` from a fixed φ; "step" is k = 1."""

    name: str
    model: Model
    optimizer: Adam | Sgd
    phi: Array
    state: AdamState | tuple[()]
    batches: tuple[Batch, ...]

    @property
    def flops(self) -> int:
        """One gradient per step."""
        return sum(gradient_flops(self.model, len(x)) for x, _ in self.batches)

    def contender(self, ops: Ops, dtype: Any = np.float32) -> Contender:
        """Adapt; the vector is the displacement."""
        model, phi, state = self.model.with_ops(ops), self.phi.astype(dtype), _cast(self.state, dtype)
        return Contender(
            lambda: adapt(model, self.optimizer, phi, self.batches, state, keep="ends"),
            lambda t: Answer(np.array(t.losses), t.phis[-1] - phi),
        )


@dataclass(frozen=True)
class MetaIteration(InParameters):
    """The first outer step of the preset of `episodes` through `meta_train`, sampling included."""

    name: str
    model: Model
    episodes: FewShotEpisodes
    phi: Array
    state: AdamState

    @property
    def inner(self) -> Optimizer:
        """The preset's inner optimiser."""
        return inner_optimizer(self.episodes.preset.inner, self.model)

    @property
    def rate(self) -> float:
        """The preset's outer rate."""
        return self.episodes.preset.outer.rate

    @property
    def flops(self) -> int:
        """The meta-batch's inner gradients."""
        preset = self.episodes.preset
        return preset.outer.meta_batch * preset.inner.steps * gradient_flops(self.model, preset.inner.batch)

    def contender(self, ops: Ops, dtype: Any = np.float32) -> Contender:
        """Take one outer step; the vector is its displacement."""
        model, phi = self.model.with_ops(ops), self.phi.astype(dtype)
        start = Step(0, phi, _cast(self.state, dtype), ())

        def run() -> Step:
            steps = meta_train(
                model,
                start,
                self.episodes.training,
                meta_gradient=meta_gradients.reptile,
                inner=self.inner,
                outer=lambda i: Sgd(self.rate),
                keep="ends",
                outer_steps=1,
                meta_batch=self.episodes.preset.outer.meta_batch,
            )
            return next(steps)

        return Contender(run, lambda s: Answer(np.array([s.first_loss, s.last_loss]), s.phi - phi))


@dataclass(frozen=True)
class HessianProduct(InParameters):
    """One `Model.hvp`."""

    name: str
    model: Model
    phi: Array
    batch: Batch
    v: Array

    @property
    def flops(self) -> int:
        """Twice the gradient."""
        return 2 * gradient_flops(self.model, len(self.batch[0]))

    def contender(self, ops: Ops, dtype: Any = np.float32) -> Contender:
        """Multiply."""
        model, phi, v = self.model.with_ops(ops), self.phi.astype(dtype), self.v.astype(dtype)
        return Contender(lambda: model.hvp(phi, self.batch, v), lambda hv: Answer(np.zeros(0), hv))


@dataclass(frozen=True)
class MetaGradient(InParameters):
    """The exact MAML gradient through K = len(batches) - 1 SGD steps; the last batch is the query."""

    name: str
    model: Model
    phi: Array
    batches: tuple[Batch, ...]
    alpha: float = 1e-2

    @property
    def flops(self) -> int:
        """K support gradients, the query's, and K Hessian products."""
        return maml_flops(self.model, len(self.batches[0][0]), len(self.batches) - 1)

    def contender(self, ops: Ops, dtype: Any = np.float32) -> Contender:
        """Adapt, and go back from the last step."""
        model, phi = self.model.with_ops(ops), self.phi.astype(dtype)
        direction = meta_gradients.maml(model, self.alpha)

        def run() -> Answer:
            t = adapt(model, Sgd(self.alpha), phi, self.batches, keep="hessians")
            return Answer(np.array(t.losses), direction(t))

        return Contender(run, lambda answer: answer)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation task: fine-tune, then classify the queries in both modes."""

    name: str
    model: Model
    optimizer: Adam
    phi: Array
    state: AdamState
    episode: evaluation.Episode

    def pieces(self, vector: Array) -> Mapping[str, Array]:
        """One piece."""
        return {"logits": vector}

    @property
    def flops(self) -> int:
        """Gradients of fine-tuning; a forward pass of all queries, and one of the support and each query."""
        support, queries = len(self.episode.support[1]), len(self.episode.query[1])
        tuning = sum(gradient_flops(self.model, len(y)) for _, y in self.episode.batches)
        return tuning + forward_flops(self.model, queries) + queries * forward_flops(self.model, support + 1)

    def contender(self, ops: Ops, dtype: Any = np.float32) -> Contender:
        """Fine-tune, then do what `evaluation.accuracy` does before its argmax; the vector is all logits."""
        model, phi, state = self.model.with_ops(ops), self.phi.astype(dtype), _cast(self.state, dtype)
        support, query = self.episode.support[0].astype(dtype), self.episode.query[0].astype(dtype)

        def run() -> list[Array]:
            t = adapt(model, self.optimizer, phi, self.episode.batches, state, keep="ends")
            return [logits(model, t.phis[-1], support, query) for logits in evaluation.MODES.values()]

        return Contender(run, lambda logits: Answer(np.zeros(0), np.ravel(logits)))


def _cast(state: Any, dtype: Any) -> Any:
    """Return an optimiser's state in another dtype; () stays ()."""
    return state._replace(m=state.m.astype(dtype), v=state.v.astype(dtype)) if state else state
