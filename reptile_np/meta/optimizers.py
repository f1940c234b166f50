"""Optimisers as pure functions with their state as a value.

    state = optimizer.init(phi)
    phi, state = optimizer.update(grad, state, phi)

Nothing is mutated.  So the released program's rule for Adam's moments, "never reset in training, restored
after evaluation", needs no code: a caller keeps the state, or does not.

Sign convention: every direction is *subtracted* from φ to decrease the loss.  The outer loop gives ``φ - W``
to the same optimisers.

Verified by ``tests/meta/test_optimizers.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import Array

__all__ = ["Adam", "AdamState", "HeavyBall", "Momentum", "Sgd", "linear_annealing"]


@dataclass(frozen=True)
class Sgd:
    """``φ ← φ - α g``.  On ``g = φ - W`` with rate ε this *is* Algorithm 1: ``φ ← φ + ε (W - φ)``."""

    learning_rate: Any

    def init(self, phi: Array) -> tuple[()]:
        """No state."""
        return ()

    def update(self, grad: Array, state: tuple[()], phi: Array) -> tuple[Array, tuple[()]]:
        """Take one step."""
        return phi - self.learning_rate * grad, state


class Momentum(NamedTuple):
    """State of `HeavyBall`: the velocity (n,)."""

    velocity: Array


@dataclass(frozen=True)
class HeavyBall:
    """``u ← μ u + g``, ``φ ← φ - α u`` (Polyak's momentum)."""

    learning_rate: Any
    momentum: Any = 0.9

    def init(self, phi: Array) -> Momentum:
        """Return the velocity zero."""
        return Momentum(0 * phi)

    def update(self, grad: Array, state: Momentum, phi: Array) -> tuple[Array, Momentum]:
        """Take one step."""
        velocity = self.momentum * state.velocity + grad
        return phi - self.learning_rate * velocity, Momentum(velocity)


class AdamState(NamedTuple):
    """First and second moment (n,) and the number of steps taken; m has shape (0,) if beta1 = 0."""

    m: Array
    v: Array
    t: int


@dataclass(frozen=True)
class Adam:
    """Adam in the form of TensorFlow 1, which the released program ran with beta1 = 0::

        t ← t + 1,  m ← β1 m + (1 - β1) g,  v ← β2 v + (1 - β2) g²
        φ ← φ - α √(1 - β2ᵗ) / (1 - β1ᵗ) · m / (√v + ε)

    Differs from Kingma & Ba's Algorithm 1 (and PyTorch): ε is added to the *uncorrected* √v, the form
    "just before Section 2.1" of their paper ("epsilon hat").

    Raises
    ------
    UsageError
        Unless 0 ≤ beta1 < 1, 0 ≤ beta2 < 1 and epsilon > 0: other values divide by zero.
    """  # noqa: D400

    learning_rate: float
    beta1: float = 0.0
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            if not 0 <= beta < 1:
                raise UsageError(f"Adam: {name} is {beta}; it must be at least 0 and less than 1")
        if not self.epsilon > 0:
            raise UsageError(f"Adam: epsilon is {self.epsilon}; it must be greater than 0")

    def init(self, phi: Array) -> AdamState:
        """Return moments of zero."""
        return AdamState(0 * phi if self.beta1 else phi[:0].copy(), 0 * phi, 0)

    def update(self, grad: Array, state: AdamState, phi: Array) -> tuple[Array, AdamState]:
        """Take one step."""
        t = state.t + 1
        m = self.beta1 * state.m + (1 - self.beta1) * grad if self.beta1 else grad
        v = self.beta2 * state.v + (1 - self.beta2) * grad**2
        rate = self.learning_rate * math.sqrt(1 - self.beta2**t) / (1 - self.beta1**t)
        phi = phi - rate * m / (np.sqrt(v) + self.epsilon)
        return phi, AdamState(m if self.beta1 else state.m, v, t)


def linear_annealing(first: float, last: float, steps: int) -> Callable[[int], float]:
    """Return ``i ↦ first (1 - i / steps) + last (i / steps)``, the outer step's schedule."""

    def rate(i: int) -> float:
        return first * (1 - i / steps) + last * (i / steps)

    return rate
