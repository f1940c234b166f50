"""The optimisers whose steps C can take: exactly `Sgd` and `Adam`, not their subclasses.

Verified by ``tests/nn/native/test_inner_loops.py``.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from reptile_np.meta.inner_loop import Optimizer
from reptile_np.meta.optimizers import Adam, AdamState, Sgd
from reptile_np.nn.native.calls import COptimizer, NetworkCalls, floats
from reptile_np.nn.native.extension import ffi
from reptile_np.nn.native.memory import SINGLE, contiguous

__all__ = ["LAST_STEP", "in_c"]

LAST_STEP = 2**31 - 1
"""C counts Adam's steps in 32 bits; later steps are left to Python."""


def in_c(
    optimizer: Optimizer, state: Any, steps: int, calls: NetworkCalls, every: bool = False
) -> COptimizer | None:
    """Return the C form of an optimiser, for that number of steps from `state`; None if C cannot take them.

    Adam's moments after the steps are new vectors, for each step if `every` is true; `state` is not changed.
    """
    if type(optimizer) is Sgd:
        return _sgd(optimizer.learning_rate, state, steps, calls)
    if type(optimizer) is not Adam or not _is_number(optimizer.learning_rate):
        return None
    if not optimizer.can_continue(state, (calls.parameters,)) or state.t > LAST_STEP - steps:
        return None
    moments = [state.v, state.m] if optimizer.beta1 else [state.v]
    moments = [np.asarray(moment) for moment in moments]
    if any(moment.dtype != SINGLE for moment in moments):
        return None
    given = [contiguous(moment, SINGLE) for moment in moments]
    count = steps if every else 1
    v = [calls.vectors.take() for _ in range(count)]
    m = [calls.vectors.take() for _ in range(count)] if optimizer.beta1 else []
    struct = ffi.new(
        "rk_optimizer *",
        {
            "adam": 1,
            "t": state.t,
            "learning_rate": optimizer.learning_rate,
            "beta1": optimizer.beta1,
            "beta2": optimizer.beta2,
            "epsilon": optimizer.epsilon,
            "m_in": floats(given[1]) if m else ffi.NULL,
            "v_in": floats(given[0]),
            "m": floats(m[-1]) if m else ffi.NULL,
            "v": floats(v[-1]),
        },
    )
    taken = range(state.t + 1, state.t + steps + 1)[-count:]
    states = [AdamState(*state_after) for state_after in zip(m or [state.m] * count, v, taken, strict=True)]
    return COptimizer(struct, states, m, v, given)


def _sgd(rate: Any, state: Any, steps: int, calls: NetworkCalls) -> COptimizer | None:
    """Return the C form of `Sgd`, whose rate is a number or a float32 vector (n,)."""
    if not isinstance(state, tuple) or state:  # Python refuses it
        return None
    states = [state] * steps
    if _is_number(rate):
        return COptimizer(ffi.new("rk_optimizer *", {"learning_rate": float(rate)}), states, [], [], [])
    rates = np.asarray(rate)
    if rates.dtype != SINGLE or rates.shape != (calls.parameters,):
        return None
    rates = contiguous(rates, SINGLE)
    return COptimizer(ffi.new("rk_optimizer *", {"rates": floats(rates)}), states, [], [], [rates])


def _is_number(rate: Any) -> bool:
    return isinstance(rate, float | Real)  # first float: the test for Real is slow
