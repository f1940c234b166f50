"""Checks of a minibatch and of φ's dtype: one line says what is wrong, whichever table of kernels computes.

Each check of an array returns it as a plain `numpy.ndarray` or raises `UsageError` with that line.  The
conversion to a plain array comes first: a subclass such as a masked array may answer `min`, `shape` or
`dtype` differently from the memory that kernels read.  (The entries of a masked array are used whether
masked or not.)

Verified by ``tests/nn/test_model_arguments.py`` and ``tests/nn/native/test_argument_checks.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reptile_np.errors import UsageError, reason
from reptile_np.nn.ops import Array

__all__ = ["checked_dtype", "checked_inputs", "checked_labels", "checked_pair", "checked_targets"]

HALF = np.dtype(np.float16)
"""A dtype: comparing two dtypes is faster than comparing a dtype with `numpy.float16`."""


def checked_dtype(name: str, dtype: Any) -> np.dtype[Any]:
    """Return a dtype of φ; it must hold fractions."""
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise UsageError(f"{name}: {reason(error)}; give float32, float64, …") from None
    if found.kind not in "fcO":
        raise UsageError(f"{name}: dtype {found} holds no fractions; give float32, float64, …")
    return found


def checked_pair(batch: Any) -> tuple[Any, Any]:
    """Return x and y of a batch (x, y)."""
    try:
        x, y = batch
    except (TypeError, ValueError):
        raise UsageError(f"a batch is a {type(batch).__name__}; give a pair (x, y)") from None
    return x, y


def checked_inputs(x: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return x in `dtype`, φ's; x must be (b, *shape), b ≥ 1, of a float dtype no wider than `dtype`."""
    x = _plain("inputs", x)
    if x.shape[1:] != shape or len(x) == 0:
        want = ", ".join(map(str, shape))
        raise UsageError(f"inputs have shape {x.shape}; this model needs (b, {want}) with b >= 1")
    if x.dtype.kind not in "fc":
        raise UsageError(f"inputs have dtype {x.dtype}; scale them to floats (0-1), in phi's dtype")
    if dtype == HALF:
        raise UsageError("phi is float16, too narrow for the sums of a network; use float32")
    return _converted("inputs", x, dtype)


def checked_labels(y: Array, count: int, ways: int) -> Array:
    """Return y; it must be integers (count,) from 0 to ways - 1."""
    y = _plain("labels", y)
    if y.shape != (count,) or y.dtype.kind not in "iu":
        raise UsageError(f"labels are {y.dtype} {y.shape}; need integers of shape {(count,)}")
    if y.min() < 0 or y.max() >= ways:
        raise UsageError(f"labels run from {y.min()} to {y.max()}; this model has labels 0 to {ways - 1}")
    return y


def checked_targets(y: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return y in `dtype`, φ's; y must be numbers of that shape, of a dtype no wider than `dtype`."""
    y = _plain("targets", y)
    if y.shape != shape:
        raise UsageError(f"targets have shape {y.shape}; need {shape}")
    return _converted("targets", y, dtype)


def _plain(name: str, value: Any) -> Array:
    try:
        return np.asarray(value)
    except ValueError:
        raise UsageError(f"{name} have rows of different lengths; give an array") from None


def _converted(name: str, array: Array, dtype: Any) -> Array:
    """Return the array in `dtype`, φ's, or refuse a dtype that would promote φ, as float64 does float32.

    It is converted here, once: inside a product NumPy would give BLAS another memory layout for float16
    images than for the same images in float32, and BLAS may then round differently.
    """
    if array.dtype == dtype:
        return array
    if dtype.kind not in "fcO":
        raise UsageError(f"phi is {dtype}, which holds no fractions; use float32 or float64")
    if np.result_type(array, dtype) != dtype:
        raise UsageError(f"{name} have dtype {array.dtype}, phi has {dtype}; convert one to the other's")
    return array.astype(dtype)
