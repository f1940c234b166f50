"""Optimisers as pure functions with their state as a value.

    state = optimizer.init(phi)
    phi, state = optimizer.update(grad, state, phi)

Nothing is mutated, so "never reset in training, put back after evaluation" (the released program's
rule for Adam's moments) needs no code: keep the value, or do not.  A "gradient" is anything that,
subtracted from φ, descends; the outer loop feeds ``φ - W`` to the same optimisers.

Verified by ``tests/meta/test_optimizers.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Optimizer(Protocol):
    """What `adapt` and `meta_train` ask of an optimiser; it is a frozen dataclass with a rate."""

    @property
    def learning_rate(self) -> Any:
        """The step size."""

    def init(self, phi: Array) -> Any:
        """Return the state before the first step."""

    def update(self, grad: Array, state: Any, phi: Array) -> tuple[Array, Any]:
        """Return φ and the state after one step."""


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
        """Start at rest."""
        return Momentum(0 * phi)

    def update(self, grad: Array, state: Momentum, phi: Array) -> tuple[Array, Momentum]:
        """Take one step."""
        velocity = self.momentum * state.velocity + grad
        return phi - self.learning_rate * velocity, Momentum(velocity)


class AdamState(NamedTuple):
    """First and second moment (n,) and the number of steps taken; m is empty where beta1 = 0."""

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
    """  # noqa: D400

    learning_rate: float
    beta1: float = 0.0
    beta2: float = 0.999
    epsilon: float = 1e-8

    def init(self, phi: Array) -> AdamState:
        """Start with zero moments."""
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
