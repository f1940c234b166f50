"""Checks of a minibatch: one line says what is wrong, whichever table of kernels computes.

Each check returns the checked array as a plain `numpy.ndarray` or raises `UsageError` with that line.  The
conversion to a plain array comes first: a subclass such as a masked array may answer `min`, `shape` or
`dtype` differently from the memory that kernels read.  (The entries of a masked array are used whether
masked or not.)

Verified by ``tests/nn/test_model_arguments.py`` and ``tests/nn/native/test_argument_checks.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.nn.ops import Array

__all__ = ["checked_inputs", "checked_labels", "checked_targets"]

HALF = np.dtype(np.float16)
"""A dtype: comparing two dtypes is faster than comparing a dtype with `numpy.float16`."""


def checked_inputs(x: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return x in `dtype`, φ's; it must be (b, *shape), b ≥ 1, of a float dtype that fits into it."""
    x = np.asarray(x)
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
    y = np.asarray(y)
    if y.shape != (count,) or y.dtype.kind not in "iu":
        raise UsageError(f"labels are {y.dtype} {y.shape}; need integers of shape {(count,)}")
    if y.min() < 0 or y.max() >= ways:
        raise UsageError(f"labels run from {y.min()} to {y.max()}; this model has labels 0 to {ways - 1}")
    return y


def checked_targets(y: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return y in `dtype`, φ's; it must be numbers of that shape, of a dtype that fits into it."""
    y = np.asarray(y)
    if y.shape != shape:
        raise UsageError(f"targets have shape {y.shape}; need {shape}")
    return _converted("targets", y, dtype)


def _converted(name: str, array: Array, dtype: Any) -> Array:
    """Return the array in `dtype`, φ's, or refuse a dtype that would promote φ, as float64 does float32.

    It is converted here, once: inside a product NumPy would give BLAS another memory layout for float16
    images than for the same images in float32, and BLAS may then round differently.
    """
    if array.dtype == dtype:
        return array
    if np.result_type(array, dtype) != dtype:
        raise UsageError(f"{name} have dtype {array.dtype}, phi has {dtype}; convert one to the other's")
    return array.astype(dtype)
