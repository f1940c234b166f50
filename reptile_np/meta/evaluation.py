"""Evaluation of an initialisation: fine-tune on each of many tasks, then score the fine-tuned parameters.

`evaluate` is the same for classification (score `accuracy`) and regression (score `squared_error`).

Batch norm uses the statistics of the batch that is classified, so the composition of that batch changes the
answer.  `accuracy` therefore gives two numbers from one fine-tuning, as the released program does:

* transductive: the N queries in one forward pass.  The answer for one query depends on the other queries,
  though not on their order.  With one query per class, as in the paper, the batch's statistics are those of
  images of all classes, one of each.  Finn's program evaluates MAML in this mode, with K queries per class.
* non-transductive: N forward passes, each over the whole support set and one query.  The answer for one query
  does not depend on the other queries; it depends on the support set, even without fine-tuning.

Fine-tuning is coupled in the same way: the loss of one support example depends on the other examples of its
minibatch, so the gradient of a batch is not the sum of the gradients of its parts.  The outer loss of MAML is
coupled too: it is the loss of a whole query batch.  There are no running statistics: predicting changes
nothing.  Query data is never passed to `adapt`.

Verified by ``tests/meta/test_evaluation.py``, ``tests/meta/test_evaluation_refusals.py``,
``tests/meta/test_batch_norm_subtleties.py`` and, against the released program, ``tests/test_golden.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, Protocol

import numpy as np

from reptile_np.errors import UsageError, check_callable, number, whole
from reptile_np.meta.inner_loop import Array, Batch, Differentiable, Keep, Optimizer, adapt
from reptile_np.meta.optimizers import python_number

__all__ = [
    "MODES",
    "Accuracy",
    "Episode",
    "Predictor",
    "Score",
    "accuracy",
    "evaluate",
    "non_transductive_logits",
    "squared_error",
    "transductive_logits",
]

CHUNKS = 64
"""Into how many pieces at most the tasks are divided for an executor; the model and φ are sent with each."""


class Predictor(Differentiable, Protocol):
    """A model that also predicts."""

    def predict(self, phi: Array, x: Array) -> Array:
        """Return the outputs (b, o)."""


class Episode(NamedTuple):
    """One evaluation task: support and query (x, y), and the minibatches to fine-tune on."""

    support: tuple[Array, Array]
    query: tuple[Array, Array]
    batches: Sequence[Batch]


Score = Callable[[Any, Array, Episode], Mapping[str, float]]
"""(model, φ (n,), episode) ↦ named numbers: `accuracy`, `squared_error`, or a function of your own."""


@dataclass(frozen=True)
class Accuracy:
    """The fraction of queries classified right, 0 to 1, in each task (tasks,); else `UsageError`."""

    fractions: Array

    def __post_init__(self) -> None:
        f = np.asarray(self.fractions)
        if f.ndim != 1 or f.size == 0 or not ((f >= 0) & (f <= 1)).all():
            raise UsageError(f"Accuracy: fractions {f.shape}; give one from 0 to 1 for each task")
        object.__setattr__(self, "fractions", f)

    @property
    def mean(self) -> float:
        """Mean over tasks."""
        return float(self.fractions.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the mean; the number of trials n is estimated from the tasks' variance.

        The queries of one task are not independent, so they cannot be counted as trials. The mean of n
        independent trials of probability p (the mean) has the variance p (1 - p) / n. This is set equal
        to the observed variance s² / tasks, where s² is the variance of the fractions:
        ``n = p (1 - p) / (s² / tasks)``. If all fractions are equal, n = tasks, the smallest possible
        number, because the variance of a fraction is at most p (1 - p). The normal interval
        p ± 1.96 s / √tasks is the limit of large n; near 100 % it covers too rarely. With 100 or more
        tasks, p ± `ci95` covered the true accuracy in at least 93 % of the runs of
        `tests/meta/test_score_intervals.py`. With 5 to 10 tasks it covers it in about 88 % or more (not
        tested). It is too narrow if nearly all fractions are equal: 99 of 0.8 and one of 1.0 give
        ± 0.004.  (The ± of Reptile's rows in the paper is something else: it is from the standard
        deviation over three seeds.)
        """
        p, tasks, z = self.mean, len(self.fractions), 1.96
        variance = float(self.fractions.var(ddof=1)) if tasks > 1 and np.ptp(self.fractions) > 0 else 0.0
        n = max(tasks, tasks * p * (1 - p) / variance) if variance > 0 else tasks
        center = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(center - half, 0.0), min(center + half, 1.0)

    @property
    def ci95(self) -> float:
        """The larger distance from the mean to an end of `interval`."""
        low, high = self.interval
        return max(self.mean - low, high - self.mean)


def transductive_logits(model: Predictor, phi: Array, support: Array, query: Array) -> Array:
    """Return logits (N, ways) of the queries (N, …), classified in one batch; `support` is not used."""
    return model.predict(phi, query)


def non_transductive_logits(model: Predictor, phi: Array, support: Array, query: Array) -> Array:
    """Return logits (N, ways) of the queries (N, …): each is classified with the support set (s, …).

    Raises
    ------
    UsageError
        If there are no queries, or the support set is of whole numbers or bits, like the one of `sample_task`
        with `as_kept`, and the queries are not, or the other way round.
    """
    support, query = np.asarray(support), np.asarray(query)
    if len(query) == 0:
        raise UsageError("no queries; give at least one")
    kinds = {support.dtype.kind, query.dtype.kind}
    if support.dtype != query.dtype and not kinds.isdisjoint("biu"):  # 0 to 255 beside 0 to 1
        raise UsageError(
            f"the support images are {support.dtype}, the queries {query.dtype}; scale both to floats (0-1)"
        )
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


def accuracy(model: Predictor, phi: Array, episode: Episode) -> dict[str, float]:
    """Return the fraction of the task's queries that φ classifies right, in each of the `MODES`.

    It is NaN, which `evaluate` refuses, if a logit is NaN.

    Raises
    ------
    UsageError
        If the labels are not one class number per query, 0 to ways - 1, or the logits not (queries, ways).
    """
    x, y = episode.query
    labels = np.asarray(y)
    if labels.shape != (len(x),) or labels.dtype.kind not in "iu":
        raise UsageError(
            f"query labels are {labels.dtype} {labels.shape}; give one class number per query, ({len(x)},)"
        )
    fractions = {}
    for mode, logits in MODES.items():
        z = logits(model, phi, episode.support[0], x)
        if np.ndim(z) != 2 or not len(z) == len(x) > 0:  # NumPy would broadcast one answer
            raise UsageError(f"predict returned {np.shape(z)} for {len(x)} queries; give (queries, ways)")
        if labels.min() < 0 or labels.max() >= z.shape[1]:
            raise UsageError(
                f"query labels from {labels.min()} to {labels.max()}; give 0 to {z.shape[1] - 1}"
            )
        fractions[mode] = math.nan if np.isnan(z).any() else int((z.argmax(1) == y).sum()) / len(y)
    return fractions


def squared_error(model: Predictor, phi: Array, episode: Episode) -> dict[str, float]:
    """Return the mean squared error of φ's predictions on the task's queries, as "error".

    Raises
    ------
    UsageError
        If the targets do not have the shape of the predictions.
    """
    x, y = episode.query
    predictions = model.predict(phi, x)
    if np.shape(y) != predictions.shape:
        raise UsageError(f"query targets have shape {np.shape(y)}, the predictions {predictions.shape}")
    return {"error": float(np.mean((predictions - y) ** 2))}


def evaluate(
    model: Predictor,
    optimizer: Optimizer,
    phi: Array,
    state: Any,
    episodes: Callable[[int], Episode],
    tasks: int,
    *,
    score: Score = accuracy,
    after: int | Sequence[int] = -1,
    executor: Executor | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, Array]:
    """Fine-tune on each task and return its score, name → (tasks,) numbers.

    If `after` is a sequence, name → (tasks, len(after)).

    `phi` and the optimiser's `state` (Adam's moments continue from training) are the same for every task:
    what the fine-tuning of one task does to them has no effect on the next, as in the released program.

    Parameters
    ----------
    model, optimizer, phi, state
        The initialisation φ (n,), and how to fine-tune it.
    episodes
        ``episodes(i)`` is task i; a pure function.
    score
        Computed from the model, the fine-tuned parameters and the episode.
    after
        After how many inner steps to score: 0 is before fine-tuning (φ_1), i after step i (φ_{i+1}), -1 after
        the last step.  ``(0, -1)`` gives two scores, ``range(k + 1)`` a curve.
    executor
        Any `concurrent.futures.Executor` that spreads the tasks; the result does not depend on it.  For
        processes all arguments must be picklable.
    progress
        Wraps the iterable of the tasks' results, as tqdm does.

    Raises
    ------
    UsageError
        If φ, the fine-tuning of a task or a score is not finite, `tasks` is less than 1, `after` is empty, no
        whole number, or names a step that a task does not have, `episodes` or `score` is not a function, or
        `score` does not return named numbers, with the same names for each task.
    """
    check_callable(episodes=episodes, score=score)
    tasks = whole("tasks", tasks, 1)
    if not np.isfinite(phi).all():
        raise UsageError("phi has entries that are not finite: it cannot be evaluated; train it again")
    single = not isinstance(after, Iterable)
    points = tuple(whole("after", point, -1) for point in (after if isinstance(after, Iterable) else [after]))
    if not points:
        raise UsageError("after is empty; give at least one number of inner steps")
    run = partial(_scores, model, optimizer, phi, state, episodes, score, points)
    if executor is None:
        results: Iterator[Any] = map(run, range(tasks))
    else:
        size = -(-tasks // CHUNKS)
        pieces = [range(i, min(i + size, tasks)) for i in range(0, tasks, size)]
        results = chain.from_iterable(executor.map(partial(_piece, run), pieces))
    each = list(progress(results))
    names = each[0][0].keys()
    if other := [i for i, task in enumerate(each) if any(point.keys() != names for point in task)]:
        raise UsageError(f"score: task {other[0]} has other names than task 0, {[*names]}; return the same")
    scores = {name: np.array([[point[name] for point in task] for task in each]) for name in names}
    return {name: values[:, 0] if single else values for name, values in scores.items()}


def _piece(run: Callable[[int], Any], tasks: range) -> list[Any]:
    return [run(i) for i in tasks]


def _scores(
    model: Predictor,
    optimizer: Optimizer,
    phi: Array,
    state: Any,
    episodes: Callable[[int], Episode],
    score: Score,
    points: tuple[int, ...],
    i: int,
) -> list[Mapping[str, float]]:
    """Return task i's score at each of the points."""
    episode = episodes(i)
    if wrong := [point for point in points if not -1 <= point <= len(episode.batches)]:
        raise UsageError(f"after is {wrong[0]}; give -1 to {len(episode.batches)}, the steps of task {i}")
    keep: Keep = "ends" if {*points} <= {0, -1} else "all"
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # reported below as UsageError
        t = adapt(model, optimizer, phi, episode.batches, state, keep=keep)
        scores = [score(model, t.phis[point], episode) for point in points]
    if not all(isinstance(values, Mapping) for values in scores):
        raise UsageError(f'score returned {scores[0]!r:.60}; return named numbers, such as {{"error": 0.5}}')
    named = [(f"score: {name}", value) for values in scores for name, value in values.items()]
    numbers = [*t.losses, *(number(name, python_number(value)) for name, value in named)]
    if not (np.isfinite(numbers).all() and np.isfinite(t.phis[-1]).all()):
        raise UsageError(
            f"evaluation task {i}: fine-tuning diverged; lower the inner learning rate, or look for NaN "
            "in the data"
        )
    return scores
