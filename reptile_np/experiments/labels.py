"""A user's labels and weights of images, checked.

Verified by ``tests/experiments/test_learner.py`` and ``test_learner_refusals.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import Array

__all__ = ["check_same_kind", "checked_labels", "checked_weights"]

KINDS = {"b": "numbers", "i": "numbers", "u": "numbers", "f": "numbers", "U": "text", "S": "bytes"}
"""NumPy's kind of a dtype ↦ what labels of it are; labels of different kinds never are equal."""


def check_same_kind(labels: Array, classes: Array) -> None:
    """Refuse labels of another kind than those of `fit`: numbers, text and bytes never equal each other."""
    found, fitted = KINDS.get(labels.dtype.kind), KINDS.get(classes.dtype.kind)
    if found and fitted and found != fitted:
        raise UsageError(f"score: the labels are {found}, those given to fit were {fitted}; use one kind")


def checked_weights(sample_weight: Any, count: int) -> Array:
    """Return the weights (count,); a `UsageError` if they cannot weigh the images."""
    try:
        weights = np.asarray(sample_weight)
        fit = weights.shape == (count,) and weights.dtype.kind in "buif" and weights.sum() > 0
        if fit and np.isfinite(weights).all() and (weights >= 0).all():
            return weights
    except ValueError:  # rows of different lengths
        pass
    raise UsageError(f"score: sample_weight must be {count} finite numbers, none negative, not all 0")


def checked_labels(method: str, y: Any, count: int) -> Array:
    """Return the labels (count,); a `UsageError` for another shape, several kinds, or a missing label."""
    try:
        labels = np.asarray(y)
    except ValueError:
        raise UsageError(
            f"{method}: labels differ in length; give one label for each of {count} images"
        ) from None
    if labels.shape != (count,):
        raise UsageError(
            f"{method}: labels have shape {labels.shape}; give one label for each of {count} images"
        )
    kind = {"U": str, "S": bytes}.get(labels.dtype.kind, object)
    if isinstance(y, list | tuple) and not all(isinstance(value, kind) for value in y):
        kinds = ", ".join(sorted({type(value).__name__ for value in y}))
        raise UsageError(f"{method}: labels are of different kinds ({kinds}); use one kind")
    if isinstance(y, list | tuple) and labels.dtype.kind == "f" and len(set(y)) > len(set(labels.tolist())):
        raise UsageError(f"{method}: NumPy rounds some of these numbers to the same float64; give strings")
    if _missing(labels):
        raise UsageError(
            f"{method}: some images have no label (None, NaN, NaT); label them, or leave them out"
        )
    return labels


def _missing(labels: Array) -> bool:
    """Return whether a label is None, or NaN, NaT or pandas.NA, which do not equal themselves."""
    if any(label is None for label in labels):
        return True
    try:
        return bool((labels != labels).any())
    except TypeError:  # pandas.NA does not say whether it does
        return True
