"""Few-shot accuracy, transductive or not, and the error of a regression.

Batch norm uses the statistics of the forward batch, so what is classified *together* matters:

* transductive: the N queries in one forward pass; information flows between them;
* non-transductive: N passes, each over the whole support set and one query.

Both are always computed, from one fine-tuning.  Query data never enters `adapt`.

Verified by ``tests/meta/test_evaluation.py`` and, against the released program, ``tests/test_golden.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from reptile_np.meta.inner_loop import Array, Differentiable, adapt
from reptile_np.meta.optimizers import Optimizer


class Predictor(Differentiable, Protocol):
    """A model that also predicts."""

    def predict(self, phi: Array, x: Array) -> Array:
        """Return the outputs (b, o)."""


class Episode(NamedTuple):
    """One evaluation task: support and query (x, y), and the minibatches to fine-tune on."""

    support: tuple[Array, Array]
    query: tuple[Array, Array]
    batches: Sequence[tuple[Array, Array]]


@dataclass(frozen=True)
class Accuracy:
    """The fraction of queries classified right in each task (tasks,)."""

    fractions: Array

    @property
    def mean(self) -> float:
        """Mean over tasks."""
        return float(self.fractions.mean())

    @property
    def ci95(self) -> float:
        """Half width of the normal 95 % confidence interval of the mean, over tasks."""
        tasks = len(self.fractions)
        return float(1.96 * self.fractions.std(ddof=1) / math.sqrt(tasks)) if tasks > 1 else math.nan


def transductive_logits(model: Predictor, phi: Array, support: Array, query: Array) -> Array:
    """Return logits (N, ways) of the queries (N, …), classified in one batch."""
    return model.predict(phi, query)


def non_transductive_logits(model: Predictor, phi: Array, support: Array, query: Array) -> Array:
    """Return logits (N, ways): query i is the last row of a batch of the support set and itself."""
    batch = np.concatenate([support, query[:1]])
    rows = []
    for image in query:
        batch[-1] = image
        rows.append(model.predict(phi, batch)[-1])
    return np.stack(rows)


MODES: dict[str, Callable[[Predictor, Array, Array, Array], Array]] = {
    "transductive": transductive_logits,
    "non_transductive": non_transductive_logits,
}


def correct(
    model: Predictor, optimizer: Optimizer, phi: Array, state: Any, episode: Episode
) -> dict[str, int]:
    """Fine-tune on one task and count the queries classified right, in each mode.

    `phi` and the optimiser's `state` (Adam's moments run on from training) are values: whatever the
    fine-tuning does to them is forgotten, as the released program puts everything back.
    """
    tuned = adapt(model, optimizer, phi, episode.batches, state, keep="ends").phis[-1]
    x, y = episode.query
    return {
        mode: int((logits(model, tuned, episode.support[0], x).argmax(1) == y).sum())
        for mode, logits in MODES.items()
    }


def evaluate(
    model: Predictor,
    optimizer: Optimizer,
    phi: Array,
    state: Any,
    episodes: Callable[[int], Episode],
    tasks: int,
    *,
    executor: Executor | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, Accuracy]:
    """Return the accuracy over `tasks` tasks in both modes; `episodes(i)` is the i-th, a pure function.

    `executor` spreads the tasks: any `concurrent.futures.Executor`; the result does not depend on it.
    """
    one = partial(_fractions, model, optimizer, phi, state, episodes)
    each = list(progress((executor.map if executor else map)(one, range(tasks))))
    return {mode: Accuracy(np.array([fractions[mode] for fractions in each])) for mode in MODES}


def _fractions(
    model: Predictor,
    optimizer: Optimizer,
    phi: Array,
    state: Any,
    episodes: Callable[[int], Episode],
    i: int,
) -> dict[str, float]:
    episode = episodes(i)
    counts = correct(model, optimizer, phi, state, episode)
    return {mode: count / len(episode.query[1]) for mode, count in counts.items()}


def squared_errors(
    model: Predictor, optimizer: Optimizer, phi: Array, state: Any, episode: Episode
) -> tuple[float, float]:
    """Return the mean squared error on the queries before and after fine-tuning on one task."""
    x, y = episode.query
    tuned = adapt(model, optimizer, phi, episode.batches, state, keep="ends").phis[-1]
    before, after = (float(np.mean((model.predict(point, x) - y) ** 2)) for point in (phi, tuned))
    return before, after
