"""Refuse settings that cannot work, before anything is drawn, allocated or written.

Verified by ``tests/experiments/test_limits.py``.
"""

from __future__ import annotations

import math
import os

from reptile_np.errors import UsageError
from reptile_np.experiments.settings import check_name
from reptile_np.experiments.specs import EvaluationSpec, Preset
from reptile_np.nn.layers import Conv2d
from reptile_np.nn.models import Model
from reptile_np.tasks.folder import LARGEST_SIDE

__all__ = ["UNKNOWN_MEMORY", "check_memory", "check_settings", "memory", "memory_needed"]

UNKNOWN_MEMORY = 2**36  # bytes; assumed if the operating system does not say how much there is


def check_settings(preset: Preset) -> None:
    """Refuse settings that are out of range or contradict each other.

    Raises
    ------
    UsageError
        One line: which setting, and what to do.
    """
    check_name(preset.name)
    if preset.algorithm == "joint" and preset.inner.steps != 1:
        raise UsageError("algorithm joint takes one gradient per task: set inner.steps=1")
    tasks, inner, outer, evaluation = preset.tasks, preset.inner, preset.outer, preset.evaluation
    for name, value in (
        ("tasks.ways", tasks.ways),
        ("tasks.shots", tasks.shots),
        ("inner.batch", inner.batch),
        ("inner.steps", inner.steps),
        ("outer.steps", outer.steps),
        ("outer.meta_batch", outer.meta_batch),
        ("evaluation.shots", evaluation.shots),
        ("evaluation.queries", evaluation.queries),
        ("evaluation.batch", evaluation.batch),
        ("evaluation.steps", evaluation.steps),
        ("evaluation.tasks", evaluation.tasks),
        ("filters", preset.filters),
    ):
        if value < 1:
            raise UsageError(f"{name}={value}: must be at least 1")
    if tasks.source != "sine" and tasks.ways < 2:
        raise UsageError(
            f"tasks.ways={tasks.ways}: must be at least 2, because a classifier needs two classes"
        )
    reads = {"conv": (tasks.side, tasks.channels), "finn-omniglot": (28, 1)}.get(preset.network, (84, 3))
    if (tasks.side, tasks.channels) != reads:
        size = f"{reads[0]} x {reads[0]} x {reads[1]}"
        raise UsageError(f"network={preset.network}: reads images of {size}; set network=conv")
    if inner.fixed and inner.optimizer != "sgd":
        raise UsageError("inner.fixed: needs one rate per parameter: set inner.optimizer=sgd")
    if not 0 <= outer.beta1 < 1:
        raise UsageError(f"outer.beta1={outer.beta1}: must be at least 0 and less than 1")
    if outer.beta1 and outer.optimizer != "adam":
        raise UsageError(f"outer.beta1={outer.beta1}: is read by Adam only: set outer.optimizer=adam")
    if tasks.queries and (tasks.tail_shots or preset.algorithm not in ("maml", "fomaml")):
        raise UsageError("tasks.queries: needs algorithm maml or fomaml, and tasks.tail_shots=0")
    if tasks.source == "folder":
        if not 1 <= tasks.side <= LARGEST_SIDE:
            raise UsageError(f"tasks.side={tasks.side}: must be 1 to {LARGEST_SIDE}")
        if tasks.channels not in (1, 3):
            raise UsageError(f"tasks.channels={tasks.channels}: must be 1 (grey) or 3 (colour)")
    if tasks.source == "glyphs":
        for name, value, least in (("tasks.classes", tasks.classes, 2), ("tasks.images", tasks.images, 1)):
            if value < least:
                raise UsageError(f"{name}={value}: must be at least {least}")


def check_memory(preset: Preset, evaluation: EvaluationSpec, model: Model) -> None:
    """Refuse sizes that cannot fit into this machine's memory.

    `evaluation` is the evaluation that will run, which need not be the preset's own.

    Raises
    ------
    UsageError
        One line: which settings, what they would take, and what there is.
    """
    available = memory()
    for keys, needed in memory_needed(preset, evaluation, model).items():
        if needed > available:
            raise UsageError(
                f"{keys}: would take at least {_shown(needed)} of memory, and this machine has "
                f"{_shown(available)}; choose smaller values"
            )


def memory_needed(preset: Preset, evaluation: EvaluationSpec, model: Model) -> dict[str, int]:
    """Return lower bounds of the bytes that groups of settings take: "key=value, key=value" → bytes."""
    tasks, inner = preset.tasks, preset.inner
    sine = tasks.source == "sine"
    pixels = tasks.side**2 * tasks.channels
    example = 8 if sine else 4 * pixels + 8  # of a minibatch: float32 x; y float32 (waves) or int64
    # Of a support set: three float64 and a float32 while a wave is computed, or bytes and int64 y.
    kept = 28 if sine else pixels + 8
    activations = 4 * (2 * 64 if sine else _convolved(model))  # the sine network has two layers of 64 units
    parameters = 4 * model.layout.size
    vectors = 3 if inner.optimizer == "adam" else 2  # of each step: φ, its gradient, Adam's second moment
    trajectory = vectors * inner.steps * parameters if preset.algorithm == "maml" else 0
    needed = {}
    if not sine:
        needed[_named(filters=preset.filters, tasks__ways=tasks.ways)] = 4 * parameters
        needed[_named(tasks__ways=tasks.ways, tasks__shots=tasks.shots)] = tasks.ways * tasks.shots * kept
    if tasks.source == "glyphs":
        drawings = tasks.classes * tasks.images
        needed[_named(tasks__classes=tasks.classes, tasks__images=tasks.images)] = drawings * tasks.side**2
    training = inner.batch * inner.steps * example + trajectory
    decides = "batch" if evaluation.minibatch == evaluation.batch else "one_shot_batch"
    minibatch = _named(**{f"evaluation__{decides}": evaluation.minibatch})
    fine_tuning = evaluation.minibatch * (evaluation.steps * example + activations)
    return needed | {
        _named(inner__batch=inner.batch): inner.batch * activations,
        _named(inner__batch=inner.batch, inner__steps=inner.steps): training,
        f"{minibatch}, {_named(evaluation__steps=evaluation.steps)}": fine_tuning,
        _named(evaluation__shots=evaluation.shots): evaluation.shots * (kept if sine else example),
        _named(evaluation__tasks=evaluation.tasks): 150 * evaluation.tasks,
    }


def _convolved(model: Model) -> int:
    """Return the numbers in the outputs of all convolutions, for one example."""
    size, total = model.input_shape, 0
    for layer in model.layers:
        size = layer.out_size(size)
        total += math.prod(size) if isinstance(layer, Conv2d) else 0
    return total


def memory() -> int:
    """Return the bytes of memory that this machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, and systems that do not say
        return UNKNOWN_MEMORY


def _named(**settings: int) -> str:
    return ", ".join(f"{key.replace('__', '.')}={value}" for key, value in settings.items())


def _shown(size: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size} {unit}"
        size //= 1000
    return f"{size} PB"
