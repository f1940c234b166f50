"""The optimisers whose steps C can take: exactly `Sgd` and `Adam`, not their subclasses.

Verified by ``tests/nn/native/test_inner_loops.py``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from reptile_np.meta.inner_loop import Array, Optimizer
from reptile_np.meta.optimizers import Adam, AdamState, Sgd
from reptile_np.nn.native.calls import NetworkCalls, floats
from reptile_np.nn.native.extension import ffi
from reptile_np.nn.native.memory import contiguous

__all__ = ["LAST_STEP", "COptimizer", "in_c"]

LAST_STEP = 2**31 - 1
"""C counts Adam's steps in 32 bits; later steps are left to Python."""


class COptimizer(NamedTuple):
    """An optimiser's ``rk_optimizer``, its state after the steps, and the arrays in the struct."""

    struct: Any
    state: Any
    alive: tuple[Array, ...]


def in_c(optimizer: Optimizer, state: Any, steps: int, calls: NetworkCalls) -> COptimizer | None:
    """Return the C form of an optimiser, for so many steps from `state`; None if C cannot take them.

    Adam's moments after the steps are new vectors; `state` is not changed.
    """
    if type(optimizer) is Sgd:
        return _sgd(optimizer.learning_rate, state, calls)
    if type(optimizer) is not Adam or np.ndim(optimizer.learning_rate) or state.t + steps > LAST_STEP:
        return None
    moments = [state.v, state.m] if optimizer.beta1 else [state.v]
    moments = [np.asarray(moment) for moment in moments]
    if any(moment.dtype != np.float32 or moment.shape != (calls.parameters,) for moment in moments):
        return None
    given = tuple(contiguous(moment, np.float32) for moment in moments)
    v, m = calls.vectors.take(), calls.vectors.take() if optimizer.beta1 else None
    struct = ffi.new(
        "rk_optimizer *",
        {
            "adam": 1,
            "t": state.t,
            "learning_rate": optimizer.learning_rate,
            "beta1": optimizer.beta1,
            "beta2": optimizer.beta2,
            "epsilon": optimizer.epsilon,
            "m_in": floats(given[1]) if optimizer.beta1 else ffi.NULL,
            "v_in": floats(given[0]),
            "m": floats(m),
            "v": floats(v),
        },
    )
    return COptimizer(struct, AdamState(state.m if m is None else m, v, state.t + steps), given)


def _sgd(rate: Any, state: Any, calls: NetworkCalls) -> COptimizer | None:
    """Return the C form of `Sgd`, whose rate is a number or a float32 vector (n,)."""
    if np.ndim(rate) == 0:
        return COptimizer(ffi.new("rk_optimizer *", {"learning_rate": float(rate)}), state, ())
    rates = np.asarray(rate)
    if rates.dtype != np.float32 or rates.shape != (calls.parameters,):
        return None
    rates = contiguous(rates, np.float32)
    return COptimizer(ffi.new("rk_optimizer *", {"rates": floats(rates)}), state, (rates,))
