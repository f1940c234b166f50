"""A preset bound to a seed, kernels and data: one value that holds everything a run needs.

Verified by ``tests/experiments/test_wiring.py``, ``test_wiring_steps.py`` and ``test_parallel.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from reptile_np.errors import UsageError, whole
from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.episodes import Episodes, make_episodes
from reptile_np.experiments.limits import check_memory, check_settings
from reptile_np.experiments.parallel import worker_losses_in_one_line
from reptile_np.experiments.scores import ClassificationScoring, RegressionScoring, Scores, Scoring
from reptile_np.experiments.specs import EvaluationSpec, InnerSpec, OuterSpec, Preset
from reptile_np.experiments.streams import Streams
from reptile_np.files import expanded
from reptile_np.meta import meta_gradients
from reptile_np.meta.evaluation import Episode, evaluate
from reptile_np.meta.inner_loop import Keep, Optimizer
from reptile_np.meta.meta_gradients import MetaGradient
from reptile_np.meta.optimizers import Adam, Clipped, HeavyBall, Sgd, linear_annealing
from reptile_np.meta.training import Step, begin, meta_train
from reptile_np.nn import models
from reptile_np.nn.models import Model
from reptile_np.nn.ops import NUMPY, Ops
from reptile_np.tasks.image_cache import Split

__all__ = [
    "KEEP",
    "OPTIMIZERS",
    "Experiment",
    "inner_optimizer",
    "make_experiment",
    "network",
    "outer_optimizers",
]

OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {"sgd": Sgd, "momentum": HeavyBall, "adam": Adam}
KEEP: dict[str, Keep] = {"reptile": "ends", "fomaml": "ends", "maml": "hessians", "joint": "all"}
"""What each algorithm's direction needs of a trajectory; first-order MAML with query sets needs "all"."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """Everything a preset says, made once by `make_experiment`.

    `inner` is the inner optimiser, in training and in evaluation.  ``outer(i)`` is the outer optimiser of
    outer step i = 0, 1, …, with that step's learning rate.  `data` is the folder that was asked for.

    A pickle holds only preset, seed, data folder and the digest of the images.  The process that unpickles it
    makes the experiment once, with NumPy, to draw episodes.  Models are pickled separately.
    """

    preset: Preset
    seed: int
    model: Model
    inner: Optimizer
    outer: Callable[[int], Optimizer]
    meta_gradient: MetaGradient
    episodes: Episodes
    scoring: Scoring
    data: Path | None = None

    def __reduce__(self) -> Any:
        return _made_again, (self.preset, self.seed, self.data, self.episodes.images_sha256)

    def start(self) -> Step:
        """Return the state before the first outer step: φ from the stream "init"."""
        return begin(self.model.init(Streams(self.seed).rng("init")), self.inner, self.outer(0))

    def outer_steps(self, start: Step) -> Iterator[Step]:
        """Yield the states after each outer step from `start` on: `meta_train` with the preset's values.

        With `task_threads` > 1 the tasks of a meta-batch run in as many Python threads, each with kernels of
        one thread.  The states are bitwise identical for any number of threads.
        """
        model, meta_gradient, threads = self.model, self.meta_gradient, self.task_threads
        with ExitStack() as stack:
            executor = None
            if threads > 1:
                model = model.with_ops(choose_ops(model.ops.name, threads=1))
                meta_gradient = _meta_gradient(self.preset, model, self.inner)
                executor = stack.enter_context(ThreadPoolExecutor(threads))
            yield from meta_train(
                model,
                start,
                self.episodes.training,
                meta_gradient=meta_gradient,
                inner=self.inner,
                outer=self.outer,
                keep=self._keep(),
                outer_steps=self.preset.outer.steps,
                meta_batch=self.preset.outer.meta_batch,
                executor=executor,
            )

    @property
    def task_threads(self) -> int:
        """How many tasks of a meta-batch are trained at the same time: 1, or as many as the kernels' threads.

        Tasks that run at the same time share nothing, so the cores wait for each other once in a meta-batch;
        threads inside a kernel wait for each other some twenty times in an inner step.  A task of Adam begins
        with the state that the task before ended with, so only SGD's tasks can run at the same time.  Sine
        waves are too small to gain: Python itself takes most of their time.
        """
        apart = self.preset.inner.optimizer == "sgd" and self.preset.tasks.source != "sine"
        return min(self.model.ops.threads, self.preset.outer.meta_batch) if apart else 1

    def _keep(self) -> Keep:
        """Return what the algorithm needs; first-order MAML's direction with query sets is a gradient."""
        algorithm = self.preset.algorithm
        return "all" if algorithm == "fomaml" and self.preset.tasks.queries else KEEP[algorithm]

    def evaluate(
        self,
        point: Step,
        spec: EvaluationSpec | None = None,
        split: Split = "test",
        *,
        at: int | None = None,
        curve: bool = False,
        executor: Executor | None = None,
        progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    ) -> Scores:
        """Return the scores of a state: its φ, fine-tuned from its inner optimiser's state.

        Parameters
        ----------
        spec
            Default: the preset's.
        at
            The outer step of an evaluation while training, which has tasks of its own.
        curve
            Whether the scores have the accuracy, or the error, after 0, 1, 2, … inner steps too.
        executor
            Any `concurrent.futures.Executor`; the scores do not depend on it.
        progress
            Wraps the iteration over the tasks.

        Raises
        ------
        UsageError
            If the data cannot give such tasks, or the memory cannot hold them.
        """
        spec = spec or self.preset.evaluation
        self.check_evaluation(spec, split)
        model = self.model
        if executor is not None:  # its workers share the cores
            model = model.with_ops(choose_ops(model.ops.name, threads=1))
        with worker_losses_in_one_line():
            values = evaluate(
                model,
                self.inner,
                point.phi,
                point.inner_state,
                partial(_episode, _Given(self), spec, split, at),
                spec.tasks,
                score=self.scoring.score,
                after=range(spec.steps + 1) if curve else self.scoring.after,
                executor=executor,
                progress=progress,
            )
        return self.scoring.summarise(self.model, point.phi, values, curve)

    def check_training(self) -> None:
        """Raise `UsageError` if the data are too few to train on."""
        self.episodes.check_training()

    def check_evaluation(self, spec: EvaluationSpec, split: Split) -> None:
        """Raise `UsageError` if `evaluate` cannot evaluate as `spec` says."""
        check_memory(self.preset, spec, self.model)
        self.episodes.check_evaluation(spec, split)


def make_experiment(preset: Preset, seed: int, ops: Ops, data: Path | None = None) -> Experiment:
    """Bind a preset to a seed, a table of kernels and a folder of data (default: the imported cache).

    Raises
    ------
    UsageError
        For settings that contradict each other or do not fit into memory, and missing or damaged data.
    """
    check_settings(preset)
    model, scoring = network(preset)
    check_memory(preset, preset.evaluation, model)
    model = model.with_ops(ops)
    data = _absolute(data) if data is not None else None
    inner = inner_optimizer(preset.inner, model)
    return Experiment(
        preset=preset,
        seed=whole("seed", seed, 0),
        model=model,
        inner=inner,
        outer=outer_optimizers(preset.outer),
        meta_gradient=_meta_gradient(preset, model, inner),
        episodes=make_episodes(preset, Streams(seed), data),
        scoring=scoring,
        data=data,
    )


def network(preset: Preset) -> tuple[Model, Scoring]:
    """Return the network of a preset, in NumPy, and how its tasks are scored."""
    tasks = preset.tasks
    if tasks.source == "sine":
        return models.sine_mlp(), RegressionScoring()
    if preset.network == "finn-omniglot":
        return models.finn_omniglot_cnn(tasks.ways, preset.filters), ClassificationScoring()
    if preset.network == "finn-mini-imagenet":
        return models.finn_mini_imagenet_cnn(tasks.ways, preset.filters), ClassificationScoring()
    if preset.network == "conv":
        shape = (tasks.side, tasks.side, tasks.channels)
        return models.conv_cnn(shape, tasks.ways, preset.filters), ClassificationScoring()
    order: Any = "conv-pool-norm" if preset.network == "mini-imagenet-v1" else "conv-norm-pool"
    return models.mini_imagenet_cnn(tasks.ways, preset.filters, order), ClassificationScoring()


def _absolute(data: Path) -> Path:
    """Return the folder as a path that worker processes can use."""
    try:
        return expanded(data).absolute()
    except OSError as error:  # the current folder was removed
        raise UsageError(f"--data {data}: {error}") from None


def outer_optimizers(outer: OuterSpec) -> Callable[[int], Optimizer]:
    """Return i ↦ the optimiser of outer step i, with the annealed rate."""
    rate = linear_annealing(outer.rate, outer.final_rate, outer.steps)
    make = partial(Adam, beta1=outer.beta1) if outer.optimizer == "adam" else OPTIMIZERS[outer.optimizer]
    return lambda i: Clipped(make(rate(i)), outer.clip) if outer.clip else make(rate(i))


def inner_optimizer(inner: InnerSpec, model: Model) -> Optimizer:
    """Return the inner optimiser; with fixed parameters (`UsageError` if none match) SGD with rates."""
    if not inner.fixed:
        return OPTIMIZERS[inner.optimizer](inner.learning_rate)
    try:
        return Sgd(model.layout.fill({"*": inner.learning_rate, inner.fixed: 0}))
    except ValueError as error:
        raise UsageError(f"inner.fixed: {error}") from None


def _meta_gradient(preset: Preset, model: Model, inner: Any) -> MetaGradient:
    """Return the function from a trajectory to a direction; joint training is the gradient of one step.

    With query sets first-order MAML's direction is the query's gradient, as in Finn's program, not the
    displacement of a step on the query, which does not change fixed parameters.
    """
    match preset.algorithm:
        case "fomaml" if preset.tasks.queries:
            return meta_gradients.gradient_sum((0,) * preset.inner.steps + (1,))
        case "reptile":
            return meta_gradients.reptile
        case "fomaml":
            return meta_gradients.fomaml
        case "maml":
            return meta_gradients.maml(model, inner)
        case "joint":
            return meta_gradients.gradient_sum((1.0,))


@dataclass(frozen=True)
class _Given:
    """Returns the experiment, which is made at the first call: an error in unpickling would end a worker."""

    experiment: Experiment

    def __call__(self) -> Experiment:
        return self.experiment

    def __reduce__(self) -> Any:
        make, arguments = self.experiment.__reduce__()
        return partial, (make, *arguments)


def _episode(
    made: Callable[[], Experiment], spec: EvaluationSpec, split: Split, at: int | None, i: int
) -> Episode:
    """Return evaluation task i; a function that can be pickled, as executors of processes need."""
    return made().episodes.evaluation(spec, split, i, at)


@lru_cache(maxsize=4)  # the digest is part of the key: a folder may be imported again
def _made_again(preset: Preset, seed: int, data: Path | None, images_sha256: str | None) -> Experiment:
    made = make_experiment(preset, seed, NUMPY, data)
    if made.episodes.images_sha256 != images_sha256:
        raise UsageError(
            f"{data or 'the imported images'}: a worker process finds other images than the evaluation "
            "began with; give all workers the same images, then evaluate again"
        )
    return made
