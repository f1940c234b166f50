"""Losses of a minibatch, with their adjoint and its tangent.

The reduction over the minibatch has no default, because it changes the result: the released program **sums**
the cross-entropy over the minibatch.  With a mean in its place, plain SGD takes steps divided by the batch
size.  Differs from most ports of the program, which take the mean.

Verified by ``tests/nn/test_losses.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.nn.ops import Array

__all__ = ["Loss", "Reduction", "SoftmaxCrossEntropy", "SquaredError", "check_reduction", "reduce"]

Reduction = Literal["sum", "mean"]


@runtime_checkable
class Loss(Protocol):
    """A loss ``l(z, y)`` of outputs z (b, o) and targets y."""

    @property
    def reduction(self) -> Reduction:
        """How the minibatch is reduced."""

    def per_example(self, z: Array, y: Array) -> Array:
        """Return the loss of each example (b,)."""

    def adjoint(self, z: Array, y: Array) -> Array:
        """Return ``z_bar = ∂ reduce(l) / ∂z`` (b, o)."""

    def adjoint_dot(self, z: Array, z_dot: Array, y: Array) -> Array:
        """Return the tangent of `adjoint` as z moves along z_dot (b, o)."""


def reduce(loss: Loss, per_example: Array) -> Array:
    """Return the minibatch's loss: the sum or the mean of the losses of its examples."""
    total = per_example.sum()
    return total if loss.reduction == "sum" else total / len(per_example)


def check_reduction(loss: Loss) -> None:
    """Raise `UsageError` unless the loss's reduction is "sum" or "mean"."""
    if loss.reduction not in ("sum", "mean"):
        raise UsageError(f'{type(loss).__name__}: reduction is {loss.reduction!r}; give "sum" or "mean"')


@dataclass(frozen=True)
class SoftmaxCrossEntropy:
    """``l = log Σ_j exp z_j - z_y`` for logits z (b, ways) and integer labels y (b,).

    Adjoint: ``z_bar = p - e_y`` with ``p = softmax(z)``; its tangent: ``p ⊙ (z_dot - <p, z_dot>)``.
    `UsageError` if `reduction` is neither "sum" nor "mean".
    """

    reduction: Reduction

    def __post_init__(self) -> None:
        check_reduction(self)

    def per_example(self, z: Array, y: Array) -> Array:
        """``log Σ exp z - z_y``, shifted by the largest logit against overflow."""
        shifted = z - z.real.max(1, keepdims=True)
        return np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(y)), y]

    def adjoint(self, z: Array, y: Array) -> Array:
        """``p - e_y``."""
        z_bar = self._softmax(z)
        z_bar[np.arange(len(y)), y] -= 1
        return z_bar if self.reduction == "sum" else z_bar / len(z)

    def adjoint_dot(self, z: Array, z_dot: Array, y: Array) -> Array:
        """``p ⊙ (z_dot - <p, z_dot>)``."""
        p = self._softmax(z)
        z_bar_dot = p * (z_dot - (p * z_dot).sum(1, keepdims=True))
        return z_bar_dot if self.reduction == "sum" else z_bar_dot / len(z)

    @staticmethod
    def _softmax(z: Array) -> Array:
        weights = np.exp(z - z.real.max(1, keepdims=True))
        return weights / weights.sum(1, keepdims=True)


@dataclass(frozen=True)
class SquaredError:
    """``l = mean over outputs of (z - y)²`` for outputs z (b, ...) and targets y of the same shape.

    `UsageError` if `reduction` is neither "sum" nor "mean".
    """

    reduction: Reduction

    def __post_init__(self) -> None:
        check_reduction(self)

    def per_example(self, z: Array, y: Array) -> Array:
        """``(z - y)²``, averaged over the outputs."""
        squares = ((z - y) ** 2).reshape(len(z), -1)
        return squares.sum(1) / squares.shape[1]

    def adjoint(self, z: Array, y: Array) -> Array:
        """``2 (z - y)``, divided by the number of terms of the mean."""
        return 2 * (z - y) / self._averaged(z)

    def adjoint_dot(self, z: Array, z_dot: Array, y: Array) -> Array:
        """``2 z_dot``, divided by the number of terms of the mean."""
        return 2 * z_dot / self._averaged(z)

    def _averaged(self, z: Array) -> int:
        return z.size // len(z) if self.reduction == "sum" else z.size
