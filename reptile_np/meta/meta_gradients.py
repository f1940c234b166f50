"""The algorithms: each is one function from the inner loop's `Trajectory` to a direction (n,).

Sign convention: every direction is *subtracted* from φ to decrease the loss.  The algorithms differ by one
line.  The last column says how much of the trajectory each needs, which is `meta_train`'s argument `keep`::

    reptile         φ_1 - φ_{k+1}                          (with SGD: α Σ g_i)     "ends"
    fomaml          φ_k - φ_{k+1}                          (with SGD: α g_k)       "ends"
    maml            (I - α H_1) … (I - α H_{k-1}) g_k      (with SGD)              "sqrt", "all", "hessians"
    gradient_sum    Σ w_i g_i                                                      "all"

Each g_i and H_i is taken at its own point of the trajectory: ``g_i = L_i'(φ_i)``, ``H_i = L_i''(φ_i)``.

`reptile` and `fomaml` return displacements (n,), as in the released program: the paper's g_Reptile and
g_FOMAML are these divided by α.  `maml` and `gradient_sum` return gradients (n,), not multiplied by α.  In
section 5.2's terms Reptile is w = (1, …, 1) and FOMAML is w = e_k.

Verified by ``tests/meta/test_meta_gradients.py`` and ``tests/meta/test_unrolled.py`` (complex step through
the whole loop, exact rational arithmetic), and ``tests/test_paper.py`` (exact rational arithmetic).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, is_dataclass
from functools import partial
from numbers import Number
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import (
    Array,
    Batch,
    Differentiable,
    Optimizer,
    Trajectory,
    adapt,
    optimizer_step,
)
from reptile_np.meta.optimizers import Sgd, python_number

__all__ = [
    "DifferentiableOptimizer",
    "MetaGradient",
    "TwiceDifferentiable",
    "fomaml",
    "gradient_sum",
    "maml",
    "reptile",
]

MetaGradient = Callable[[Trajectory], Array]


@runtime_checkable
class DifferentiableOptimizer(Optimizer, Protocol):
    """An optimiser with the adjoint of its `update`; see `reptile_np.meta.optimizers`."""

    def update_bar(
        self, phi_bar: Array, state_bar: Any, grad: Array, state: Any, phi: Array
    ) -> tuple[Array, Any, Array]:
        """Return the adjoints of the gradient (n,), the state and φ (n,)."""


class TwiceDifferentiable(Differentiable, Protocol):
    """A model that also has Hessian products."""

    def hvp(self, phi: Array, batch: Batch, v: Array) -> Array:
        """Return ``L''(φ) v`` (n,)."""


def reptile(t: Trajectory) -> Array:
    """Return ``φ_1 - φ_{k+1}`` (n,): Algorithm 1 subtracts ε times this from φ."""
    return t.phis[0] - t.phis[-1]


def fomaml(t: Trajectory) -> Array:
    """Return ``φ_k - φ_{k+1}`` (n,), the last displacement.

    The last minibatch is the *tail*.  It is *separate* if no other minibatch contains its examples, else
    *shared*; the sampler decides which (`reptile_np.tasks.few_shot`).
    """
    return t.phis[-2] - t.phis[-1]


def maml(
    model: TwiceDifferentiable, alpha: Any | DifferentiableOptimizer, weights: Sequence[Any] | None = None
) -> MetaGradient:
    """Return the function from a trajectory to the exact gradient (n,) of the loss after the inner loop.

    The gradient is that of ``L_k(U_{k-1} ∘ … ∘ U_1(φ))`` at φ_1, where U_i is step i.

    The Jacobian of one step of SGD, ``φ_{i+1} = φ_i - α L_i'(φ_i)``, is ``I - α H_i``, symmetric if α is a
    number; so the chain rule gives, from the last step back, ``u ← u - α H_i u`` from ``u = g_k``: the
    optimiser's own step at u, with H_i u in place of the gradient.  (With a vector of rates:
    ``u ← u - H_i (α ∘ u)``.)  For other optimisers `update_bar` returns the adjoints of the gradient g_i, the
    state and φ_i; g_i depends on φ_i too, through H_i: ``u ← phi_bar + H_i grad_bar``.  The optimiser's state
    before the loop is a constant.

    The direction is bitwise identical for every `keep` of `reptile_np.meta.inner_loop.adapt` but "ends".

    Parameters
    ----------
    model
        Has `loss_and_grad` and `hvp`.
    alpha
        The rate α of inner SGD, a number or one per parameter (n,); or the optimiser of the inner loop.  It
        must be that of `adapt`.
    weights
        k numbers w: differentiate ``Σ_i w_i L_k(φ_i)``, the loss of the last minibatch (the query) after 0,
        …, k - 1 steps, in place of ``L_k(φ_k)``.  (Antoniou et al., *How to train your MAML*, section 4.)

    Raises
    ------
    UsageError
        If `alpha` is anything else, or `weights` no list of numbers.  The returned function raises it if the
        trajectory kept only its ends, was made by another optimiser, or has not as many steps as there are
        weights; if the rates do not fit φ; or if a Hessian product has not φ's shape.
    """
    number = isinstance(alpha, Number | np.ndarray)
    if not number and (isinstance(alpha, type) or not isinstance(alpha, DifferentiableOptimizer)):
        raise UsageError(
            f"maml: alpha is {alpha!r}; give a number, an array, or the inner optimiser, which has update_bar"
        )
    optimizer: Any = Sgd(alpha) if number else alpha
    numbers = None if weights is None else _numbers("maml: weights is", weights)
    return partial(_through_the_loop, model, optimizer, numbers)


def _through_the_loop(
    model: TwiceDifferentiable, optimizer: Any, weights: tuple[Any, ...] | None, t: Trajectory
) -> Array:
    """Return `maml`'s direction; a function that can be pickled, as executors of processes need."""
    steps, k = _steps_backwards(model, optimizer, t), len(t.batches)
    if weights is not None and len(weights) != k:
        raise UsageError(f"{len(weights)} weights for {k} inner steps")
    sgd = type(optimizer) is Sgd
    if sgd:
        optimizer.init(t.phis[0])  # refuses rates that do not fit
    if t.optimizer is not None and not _take_the_same_steps(t.optimizer, optimizer):
        used = type(t.optimizer).__name__
        raise UsageError(f"maml: the inner loop used {used}, not as alpha says; give the optimizer of adapt")
    one_rate = sgd and np.ndim(optimizer.learning_rate) == 0
    u = next(steps).grad if weights is None else weights[-1] * next(steps).grad
    state_bar = () if sgd else optimizer.init(0 * u)
    for i, step in zip(reversed(range(k - 1)), steps, strict=True):
        if one_rate:
            u, _ = optimizer_step(model, optimizer, _product(step, u), (), u)  # u - α H u
        elif sgd:
            u = u - _product(step, optimizer.learning_rate * u)
        else:
            g_bar, state_bar, phi_bar = optimizer.update_bar(u, state_bar, step.grad, step.state, step.phi)
            u = phi_bar + _product(step, g_bar)
        if weights is not None and weights[i] != 0:
            u = u + weights[i] * model.loss_and_grad(step.phi, t.batches[-1])[1]
    return u


def _take_the_same_steps(one: Any, other: Any) -> bool:
    """Return whether two optimisers have the same type and, if they are dataclasses, the same values."""
    if one is other or type(one) is not type(other):
        return one is other
    return not is_dataclass(type(one)) or all(map(np.array_equal, astuple(one), astuple(other)))


class _InnerStep(NamedTuple):
    """Step i: φ_i, g_i, the optimiser's state before the step, and v ↦ H_i v."""

    phi: Array
    grad: Array
    state: Any
    hessian: Callable[[Array], Array]


def _product(step: _InnerStep, v: Array) -> Array:
    """Return ``H_i v`` (n,); `UsageError` if it has another shape than v."""
    product = step.hessian(v)
    if np.shape(product) != v.shape:  # NumPy would broadcast it
        raise UsageError(f"hvp: the product has shape {np.shape(product)}, phi {v.shape}")
    return product


def _steps_backwards(model: TwiceDifferentiable, optimizer: Any, t: Trajectory) -> Iterator[_InnerStep]:
    """Yield the steps, the last one first; segments are run again, one at a time."""
    for segment in reversed(t.segments):
        again = adapt(model, optimizer, segment.phi, segment.batches, segment.state, keep="all")
        yield from _steps_backwards(model, optimizer, again)
    if t.segments:
        return
    _need_gradients(t)
    for i in reversed(range(len(t.grads))):
        hessian = t.hessians[i] if t.hessians else partial(model.hvp, t.phis[i], t.batches[i])
        yield _InnerStep(t.phis[i], t.grads[i], t.states[i], hessian)


def gradient_sum(w: Sequence[Any]) -> MetaGradient:
    """Return the function from a trajectory to ``Σ_i w_i g_i`` (n,), for k weights w (section 5.2).

    Raises
    ------
    UsageError
        If `w` is no list of numbers.  The returned function raises it if the trajectory kept no gradients
        ("ends" and "sqrt" keep none), or has not k steps.
    """
    return partial(_weighted_sum, _numbers("gradient_sum: w is", w))


def _numbers(what: str, w: Any) -> tuple[Any, ...]:
    """Return one number for each inner step."""
    is_list = isinstance(w, Sequence) or (isinstance(w, np.ndarray) and w.ndim > 0)
    numbers = tuple(map(python_number, w)) if is_list else ()
    if not is_list or not all(isinstance(number, Number) for number in numbers):
        raise UsageError(f"{what} {w!r}; give one number for each inner step")
    return numbers


def _weighted_sum(w: tuple[Any, ...], t: Trajectory) -> Array:
    """Return `gradient_sum`'s direction; a function that can be pickled."""
    _need_gradients(t)
    if len(w) != len(t.grads):
        raise UsageError(f"{len(w)} weights for {len(t.grads)} inner steps")
    total = w[0] * t.grads[0]
    for weight, grad in zip(w[1:], t.grads[1:], strict=True):
        total = total + weight * grad
    return total


def _need_gradients(t: Trajectory) -> None:
    if not t.grads:
        raise UsageError('this meta-gradient needs every step: use keep="all" in adapt or meta_train')
