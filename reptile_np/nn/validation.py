"""What a minibatch must be: one line says what is wrong with it, whichever table of kernels computes.

Each check returns nothing, or raises `UsageError` with that line.

Verified by ``tests/nn/test_models.py`` and ``tests/nn/native/test_argument_checks.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.nn.ops import Array


def check_inputs(x: Array, shape: tuple[int, ...], dtype: Any) -> None:
    """Refuse inputs other than (b, *shape), b ≥ 1, of a float dtype that `dtype`, φ's, can hold."""
    if x.shape[1:] != shape or len(x) == 0:
        want = ", ".join(map(str, shape))
        raise UsageError(f"inputs have shape {x.shape}; this model needs (b, {want}) with b >= 1")
    if x.dtype.kind not in "fc":
        raise UsageError(f"inputs have dtype {x.dtype}; scale them to floats (0-1), in phi's dtype")
    _check_width("inputs", x, dtype)


def check_labels(y: Array, count: int, ways: int) -> None:
    """Refuse labels other than integers (count,) in 0..ways - 1."""
    if y.shape != (count,) or y.dtype.kind not in "iu":
        raise UsageError(f"labels are {y.dtype} {y.shape}; need integers of shape {(count,)}")
    if y.min() < 0 or y.max() >= ways:
        raise UsageError(f"labels run from {y.min()} to {y.max()}; this model knows 0 to {ways - 1}")


def check_targets(y: Array, shape: tuple[int, ...], dtype: Any) -> None:
    """Refuse targets other than numbers of that shape that `dtype`, φ's, can hold."""
    if y.shape != shape:
        raise UsageError(f"targets have shape {y.shape}; need {shape}")
    _check_width("targets", y, dtype)


def _check_width(name: str, array: Array, dtype: Any) -> None:
    """Refuse what would promote φ: a float64 image would turn a float32 run into a float64 one."""
    if array.dtype != dtype and np.result_type(array, dtype) != dtype:
        raise UsageError(f"{name} have dtype {array.dtype}, phi has {dtype}; convert one to the other's")
