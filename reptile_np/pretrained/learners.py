"""A saved run, or released weights, as a classifier: `reptile_np.load`.

Verified by ``tests/pretrained/test_learners.py``: over many tasks its accuracy is that of an evaluation.
"""

from __future__ import annotations

import os

from reptile_np.errors import UsageError
from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.learner import Learner
from reptile_np.experiments.run_directory import RunDirectory, SavedRun
from reptile_np.files import expanded
from reptile_np.nn.ops import Ops
from reptile_np.pretrained.weights import ReleasedRun, names, parts

__all__ = ["PREFIX", "learner_of", "load_learner", "saved_run"]

PREFIX = "pretrained:"
"""Before the name of released weights, wherever a run directory may be given."""


def saved_run(source: str | os.PathLike[str]) -> SavedRun:
    """Return a run directory, or released weights for "pretrained:NAME"; reads nothing yet.

    Raises
    ------
    UsageError
        If `source` is no path, empty, or the name of released weights without "pretrained:".
    """
    if not isinstance(source, str | os.PathLike):
        raise UsageError(
            f"{source!r} is not a path; give a run's directory as text or a path, or {PREFIX}NAME"
        )
    text = os.fspath(source)
    if not text:
        raise UsageError("the name of the run is empty; is a shell variable not set?")
    if text.startswith(PREFIX):
        return ReleasedRun(text.removeprefix(PREFIX))
    if text in names() and not os.path.lexists(text):
        raise UsageError(f"{text}: no such folder; the released weights of that name are {PREFIX}{text}")
    return RunDirectory(expanded(text))


def load_learner(source: str | os.PathLike[str]) -> Learner:
    """Return what was trained, as a classifier; see `reptile_np.load`."""
    return learner_of(saved_run(source))


def learner_of(run: SavedRun, ops: Ops | None = None) -> Learner:
    """Return the classifier of a saved run, which fine-tunes as the evaluations of its preset do.

    Parameters
    ----------
    run
        From `saved_run`.
    ops
        The kernels; default: the best that are here.

    Raises
    ------
    UsageError
        If there is no run, it is damaged, or it did not train a classifier.
    """
    preset, _ = run.config()
    if preset.tasks.source == "sine":
        raise UsageError(
            f"{preset.name}: was trained to predict sine waves, and a Learner classifies images; "
            "reptile_np.pretrained.load returns the released weights of the sine waves"
        )
    model, inner, untrained = parts(preset)
    trained = run.load(untrained)
    return Learner(
        model.with_ops(ops or choose_ops()),
        trained.phi,
        inner,
        trained.inner_state,
        steps=preset.evaluation.steps,
        batch=preset.evaluation.batch,
        one_shot_batch=preset.evaluation.one_shot_batch or None,
        invert=preset.tasks.invert,
    )
