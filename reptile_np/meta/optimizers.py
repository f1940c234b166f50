"""Optimisers as pure functions with their state as a value.

    state = optimizer.init(phi)
    phi, state = optimizer.update(grad, state, phi)

Nothing is mutated.  The released program never resets Adam's moments in training, and restores them after an
evaluation.  Here nothing has to be restored: the caller continues with the state of the training, and drops
the state with which an evaluation ends.

Sign convention: every direction is *subtracted* from φ to decrease the loss.  The outer loop gives ``φ - W``
to the same optimisers.

Exact MAML differentiates the inner loop's updates too, so an inner optimiser also has the adjoint of
`update`, written by hand (a bar is an adjoint: the gradient of a later loss with respect to that value)::

    grad_bar, state_bar, phi_bar = optimizer.update_bar(phi_bar, state_bar, grad, state, phi)

The arguments ``phi_bar, state_bar`` belong to the results of ``update(grad, state, phi)``, and the adjoint of
a state is a state: a value of the same type, of zeros at the end of the loop (``optimizer.init(0 * phi)``).

Verified by ``tests/meta/test_optimizers.py`` and, through whole loops, ``tests/meta/test_unrolled.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any, NamedTuple

import numpy as np

from reptile_np.errors import UsageError, number, whole
from reptile_np.meta.inner_loop import Array, Optimizer, check_optimizer

__all__ = [
    "Adam",
    "AdamState",
    "Clipped",
    "HeavyBall",
    "HeavyBallState",
    "Sgd",
    "linear_annealing",
    "python_number",
]


@dataclass(frozen=True)
class Sgd:
    """``φ ← φ - α g``.  On ``g = φ - W`` with rate ε this *is* Algorithm 1: ``φ ← φ + ε (W - φ)``.

    `learning_rate` is a number, or a vector (n,) of one rate per parameter, in φ's dtype (`init` checks this;
    `update` does not); text or None raises `UsageError`.  Parameters of rate 0 do not change.
    """

    learning_rate: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", python_number(self.learning_rate))

    def init(self, phi: Array) -> tuple[()]:
        """Return no state.

        Raises
        ------
        UsageError
            If the rate is NaN, a list, or a vector that does not fit φ.
        """
        _check_rates(self, phi)
        return ()

    def update(self, grad: Array, state: tuple[()], phi: Array) -> tuple[Array, tuple[()]]:
        """Return φ (n,) and the state after one step."""
        if not isinstance(state, tuple) or state:
            raise _another_state(self, state, phi)
        return phi - self.learning_rate * grad, state

    def update_bar(
        self, phi_bar: Array, state_bar: tuple[()], grad: Array, state: tuple[()], phi: Array
    ) -> tuple[Array, tuple[()], Array]:
        """Return (grad_bar (n,), state_bar, phi_bar (n,)): ``grad_bar = -α phi_bar``, phi_bar unchanged."""
        return -self.learning_rate * phi_bar, state_bar, phi_bar


def python_number(value: Any) -> Any:
    """Return a number of NumPy as Python's: a `numpy.float64` would turn a float32 φ into float64.

    A vector or a list stays what it is; text, None, a function, … raise `UsageError`.
    Verified by ``tests/meta/test_optimizers.py``.
    """
    found = value.item() if isinstance(value, np.generic | np.ndarray) and value.ndim == 0 else value
    if not isinstance(found, Number | np.ndarray | Sequence) or isinstance(found, str | bytes):
        raise UsageError(f"{value!r} is no number; give one")
    return found


def _another_state(optimizer: Any, state: Any, phi: Array) -> UsageError:
    """Return the error of a state that `init` cannot have begun for this optimiser and φ."""
    return UsageError(
        f"{type(optimizer).__name__}: the state, {type(state).__name__}, is of another optimiser or another "
        f"phi than this one of shape {phi.shape}; give none, or one that this optimiser returned"
    )


def _check_rates(optimizer: Any, phi: Array) -> None:
    """Raise `UsageError` unless the learning rate is a number, not NaN, or a vector that fits φ (n,)."""
    rates = optimizer.learning_rate
    if np.ndim(rates) == 0 and rates == rates:
        return
    array = isinstance(rates, np.ndarray)
    if not array or rates.shape != phi.shape or np.result_type(rates, phi) != phi.dtype:
        found = f"{rates.dtype} {rates.shape}" if array else f"{rates!r:.20}"
        raise UsageError(
            f"{type(optimizer).__name__}: the rates are {found}, phi is {phi.dtype} {phi.shape}; "
            "give a number, or an array of one rate per parameter in phi's dtype"
        )


class HeavyBallState(NamedTuple):
    """State of `HeavyBall`: the velocity (n,)."""

    velocity: Array


@dataclass(frozen=True)
class HeavyBall:
    """``u ← μ u + g``, ``φ ← φ - α u``: TensorFlow's momentum, for a constant α Polyak's.

    `learning_rate` is α, a number or a vector as in `Sgd`; `momentum` is μ, a number (else `UsageError`).
    """

    learning_rate: Any
    momentum: Any = 0.9

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", python_number(self.learning_rate))
        object.__setattr__(self, "momentum", number("HeavyBall: momentum", python_number(self.momentum)))

    def init(self, phi: Array) -> HeavyBallState:
        """Return the velocity zero; raises as `Sgd.init` does."""
        _check_rates(self, phi)
        return HeavyBallState(0 * phi)

    def update(self, grad: Array, state: HeavyBallState, phi: Array) -> tuple[Array, HeavyBallState]:
        """Return φ (n,) and the state after one step."""
        if not isinstance(state, HeavyBallState) or state.velocity.shape != phi.shape:
            raise _another_state(self, state, phi)
        velocity = self.momentum * state.velocity + grad
        return phi - self.learning_rate * velocity, HeavyBallState(velocity)

    def update_bar(
        self, phi_bar: Array, state_bar: HeavyBallState, grad: Array, state: HeavyBallState, phi: Array
    ) -> tuple[Array, HeavyBallState, Array]:
        """Return (grad_bar (n,), state_bar, phi_bar (n,)): ``grad_bar = velocity_bar - α phi_bar``.

        The velocity's adjoint becomes ``μ grad_bar``; phi_bar is returned unchanged.
        """
        grad_bar = state_bar.velocity - self.learning_rate * phi_bar
        return grad_bar, HeavyBallState(self.momentum * grad_bar), phi_bar


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

    α is `learning_rate`, a number or a vector as in `Sgd`.

    Differs from Kingma & Ba's Algorithm 1 (and PyTorch): ε is added to the *uncorrected* √v, the form
    "just before Section 2.1" of their paper ("epsilon hat").

    Raises
    ------
    UsageError
        Unless 0 ≤ beta1 < 1, 0 ≤ beta2 < 1 and epsilon > 0: other values divide by zero or give no average.
    """  # noqa: D400

    learning_rate: Any
    beta1: float = 0.0
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", python_number(self.learning_rate))
        for name, value in (("beta1", self.beta1), ("beta2", self.beta2), ("epsilon", self.epsilon)):
            object.__setattr__(self, name, number(f"Adam: {name}", python_number(value)))
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            if not 0 <= beta < 1:
                raise UsageError(f"Adam: {name} is {beta}; it must be at least 0 and less than 1")
        if not self.epsilon > 0:
            raise UsageError(f"Adam: epsilon is {self.epsilon}; it must be greater than 0")

    def init(self, phi: Array) -> AdamState:
        """Return moments of zero; raises as `Sgd.init` does."""
        _check_rates(self, phi)
        return AdamState(0 * phi if self.beta1 else phi[:0].copy(), 0 * phi, 0)

    def update(self, grad: Array, state: AdamState, phi: Array) -> tuple[Array, AdamState]:
        """Return φ (n,) and the state after one step."""
        m, v, t = self._moments(grad, state)
        phi = phi - self._rate(t) * m / (np.sqrt(v) + self.epsilon)
        return phi, AdamState(m if self.beta1 else state.m, v, t)

    def update_bar(
        self, phi_bar: Array, state_bar: AdamState, grad: Array, state: AdamState, phi: Array
    ) -> tuple[Array, AdamState, Array]:
        """Return (grad_bar (n,), state_bar, phi_bar (n,)) of the step ``-r m / (√v + ε)``.

        r is the rate ``α √(1 - β2ᵗ) / (1 - β1ᵗ)``; phi_bar is returned unchanged.  √v has no derivative at
        v = 0.  The term through v is taken to be 0 there.  If β2 > 0 and the moments began at 0, then v = 0
        means that every gradient of that entry was 0 until now, so m = 0 too: m and √v are both of the first
        order in the gradients, the step is ``-r m / ε`` up to the second order, and its derivative is the
        term through m alone.
        (The step ``-r g / (√(1 - β2) |g| + ε)`` has the slope -r / ε at g = 0.)
        """
        m, v, t = self._moments(grad, state)
        rate, root = self._rate(t), np.sqrt(v)
        bottom = root + self.epsilon
        m_bar = state_bar.m - rate * phi_bar / bottom if self.beta1 else -rate * phi_bar / bottom
        inverse_root = np.divide(1, root, out=0 * root, where=root != 0)
        v_bar = state_bar.v + rate * phi_bar * (m * inverse_root) / (2 * bottom**2)
        grad_bar = (1 - self.beta1) * m_bar + 2 * (1 - self.beta2) * grad * v_bar
        earlier = self.beta1 * m_bar if self.beta1 else state_bar.m
        return grad_bar, AdamState(earlier, self.beta2 * v_bar, state.t), phi_bar

    def can_continue(self, state: Any, shape: tuple[int, ...]) -> bool:
        """Return whether this optimiser can continue from `state`, for a φ of this shape."""
        return (
            isinstance(state, AdamState)
            and isinstance(state.t, int | np.integer)
            and state.t >= 0
            and np.shape(state.v) == shape
            and (not self.beta1 or np.shape(state.m) == shape)
        )

    def _moments(self, grad: Array, state: AdamState) -> tuple[Array, Array, int]:
        """Return m, v and t after one more gradient, which has φ's shape."""
        if not self.can_continue(state, grad.shape):
            raise _another_state(self, state, grad)
        m = self.beta1 * state.m + (1 - self.beta1) * grad if self.beta1 else grad
        return m, self.beta2 * state.v + (1 - self.beta2) * grad**2, state.t + 1

    def _rate(self, t: int) -> float:
        """Return α √(1 - β2ᵗ) / (1 - β1ᵗ)."""
        return self.learning_rate * math.sqrt(1 - self.beta2**t) / (1 - self.beta1**t)


@dataclass(frozen=True)
class Clipped:
    """An outer optimiser whose gradient is clipped, entry by entry: ``g ← min(max(g, -bound), bound)``.

    Raises
    ------
    UsageError
        Unless bound > 0, and `optimizer` is one.
    """

    optimizer: Optimizer
    bound: float

    def __post_init__(self) -> None:
        check_optimizer("Clipped: the optimizer", self.optimizer)
        object.__setattr__(self, "bound", number("Clipped: bound", python_number(self.bound)))
        if not self.bound > 0:
            raise UsageError(f"Clipped: bound is {self.bound}; it must be greater than 0")

    def init(self, phi: Array) -> Any:
        """Return the optimiser's state."""
        return self.optimizer.init(phi)

    def update(self, grad: Array, state: Any, phi: Array) -> tuple[Array, Any]:
        """Clip, then take one step."""
        return self.optimizer.update(np.clip(grad, -self.bound, self.bound), state, phi)


def linear_annealing(first: float, last: float, steps: int) -> Callable[[int], float]:
    """Return ``i ↦ first (1 - i / steps) + last (i / steps)``, the rate of outer step i = 0 … `steps` - 1.

    The rate is `first` at i = 0; `last` would be reached at i = `steps`.

    Raises
    ------
    UsageError
        If `steps` is no whole number of at least 1, or `first` or `last` no number.
    """
    steps = whole("linear_annealing: steps", steps, 1)
    for name, value in (("first", first), ("last", last)):
        number(f"linear_annealing: {name}", python_number(value))
    return lambda i: first * (1 - i / steps) + last * (i / steps)
