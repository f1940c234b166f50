"""Accuracy while training, on classes that are not trained on.

The tasks are those of the data set's validation classes.  Glyphs, sine waves and the released program's split
of Omniglot have none, and a folder may have too few: then the test classes are used, and recorded as such.
An evaluation that diverges is not recorded.  No setting and no checkpoint is chosen by these records.  The
tasks come from a random stream of their own, so the training draws the same numbers with and without these
evaluations.

Verified by ``tests/experiments/test_watching.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reptile_np.errors import UsageError
from reptile_np.experiments import presets
from reptile_np.experiments.experiment import Experiment
from reptile_np.experiments.progress import notice
from reptile_np.experiments.specs import EvaluationSpec, Preset, Watch
from reptile_np.meta.training import Step
from reptile_np.tasks.image_cache import Split

__all__ = ["MOST_TASKS", "POINTS", "SHARE", "WORTH_WATCHING", "watch", "watcher"]

POINTS = 20
SHARE = (
    0.01  # of the examples of training, for all these evaluations; their share of the time is about the same
)
WORTH_WATCHING = 300.0  # seconds of training below which a run is not watched
MOST_TASKS = 200


def watch(preset: Preset) -> Watch | None:
    """Return the evaluations while training: the preset's, else `POINTS` of them; None if there are none.

    `Preset.watched`, if there is one, is returned for any number of outer steps.  Another preset has no
    evaluations while training if it trains less than `WORTH_WATCHING` seconds, or if `SHARE` is too little
    for one task in each evaluation.
    """
    original = presets.original(preset)
    if original.watched is not None:
        return original.watched
    if presets.seconds(preset) < WORTH_WATCHING:
        return None
    each = preset.evaluation.gradients(preset.tasks.ways)
    tasks = int(SHARE * preset.inner_steps * preset.inner.batch / (POINTS * each))
    return Watch(POINTS, min(tasks, MOST_TASKS)) if tasks else None


def watcher(experiment: Experiment) -> Callable[[Step], dict[str, Any] | None]:
    """Return the function that evaluates a state, if that is due after its outer step: the record."""
    preset = experiment.preset
    how = watch(preset)
    if how is None:
        return lambda step: None
    spec = replace(preset.evaluation, tasks=how.tasks)
    split = _split(experiment, spec)

    def points(done: int) -> int:
        return done * how.points // preset.outer.steps

    def evaluate(step: Step) -> dict[str, Any] | None:
        if points(step.done) == points(step.done - 1):
            return None
        try:
            scores = experiment.evaluate(step, spec, split, at=step.done)
        except UsageError as error:  # the training does not depend on it, and continues
            notice(f"outer step {step.done}: {error}; not recorded")
            return None
        return {"outer_step": step.done, "split": split, "tasks": spec.tasks, **scores.means()}

    return evaluate


def _split(experiment: Experiment, spec: EvaluationSpec) -> Split:
    """Return "validation" if there are such classes, and enough of them for the tasks; else "test"."""
    try:
        experiment.check_evaluation(spec, "validation")
    except UsageError:
        return "test"
    return "validation"
