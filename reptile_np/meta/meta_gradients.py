"""The algorithms: each is one function from the inner loop's `Trajectory` to a direction (n,).

Sign convention: every direction is *subtracted* from φ to decrease the loss.  The algorithms differ by one
line.  The last column says how much of the trajectory each needs, which is `meta_train`'s argument `keep`::

    reptile         φ_1 - φ_{k+1}                              (with SGD: α Σ g_i)    "ends" fomaml
    φ_k - φ_{k+1}                              (with SGD: α g_k)      "ends" maml            (I - α H_1) … (I
    - α H_{k-1}) g_k                                 "all"; "hessians" is faster gradient_sum    Σ w_i g_i
    "all"

Reptile and FOMAML are *displacements*, which is what the released program steps by: differs from the
paper's analysis, whose g_Reptile and g_FOMAML are these divided by α.  MAML and gradient sums are
gradients.  In section 5.2's terms Reptile is w = (1, …, 1) and FOMAML is w = e_k.

Verified by ``tests/meta/test_meta_gradients.py`` (complex step through the whole loop) and
``tests/test_paper.py`` (exact rational arithmetic).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from reptile_np.meta.inner_loop import Array, Batch, Trajectory

__all__ = ["MetaGradient", "TwiceDifferentiable", "fomaml", "gradient_sum", "maml", "reptile"]

MetaGradient = Callable[[Trajectory], Array]


class TwiceDifferentiable(Protocol):
    """A model that also has Hessian-vector products."""

    def hvp(self, phi: Array, batch: Batch, v: Array) -> Array:
        """Return ``L''(φ) v`` (n,)."""


def reptile(t: Trajectory) -> Array:
    """Return ``φ_1 - φ_{k+1}``: Algorithm 1 moves φ against it by ε, towards ``W = φ_{k+1}``."""
    return t.phis[0] - t.phis[-1]


def fomaml(t: Trajectory) -> Array:
    """Return ``φ_k - φ_{k+1}``, the last displacement.

    The tail is *separate* if no other minibatch contains the examples of the last one, else *shared*; the
    sampler decides this (`reptile_np.tasks.few_shot`).
    """
    return t.phis[-2] - t.phis[-1]


def maml(model: TwiceDifferentiable, alpha: Any) -> MetaGradient:
    """Return the exact gradient of ``L_k(U_{k-1} ∘ … ∘ U_1(φ))`` at φ_1, for inner SGD of rate `alpha`.

    The Jacobian of one step ``φ_{i+1} = φ_i - α L_i'(φ_i)`` is ``I - α H_i``, symmetric; so the chain
    rule gives, from the last step back, ``u ← u - α H_i u``.

    A trajectory adapted with ``keep="all"`` takes memory for its k points and gradients, O(k n), and for the
    activations of one step.  With ``keep="hessians"`` it takes memory for the activations of all k steps, and
    the products ``H_i u`` are cheaper.

    Raises
    ------
    ValueError
        If the trajectory kept only its ends.
    """

    def direction(t: Trajectory) -> Array:
        _need_gradients(t)
        hessians = t.hessians or [
            partial(model.hvp, phi, batch) for phi, batch in zip(t.phis, t.batches, strict=False)
        ]
        u = t.grads[-1]
        for hessian in reversed(hessians[:-1]):
            u = u - alpha * hessian(u)
        return u

    return direction


def gradient_sum(w: Sequence[Any]) -> MetaGradient:
    """Return ``Σ_i w_i g_i`` for weights w of length k (section 5.2).

    Raises
    ------
    ValueError
        If the trajectory kept only its ends, or is not of length k.
    """

    def direction(t: Trajectory) -> Array:
        _need_gradients(t)
        if len(w) != len(t.grads):
            raise ValueError(f"{len(w)} weights for {len(t.grads)} inner steps")
        total = w[0] * t.grads[0]
        for weight, grad in zip(w[1:], t.grads[1:], strict=True):
            total = total + weight * grad
        return total

    return direction


def _need_gradients(t: Trajectory) -> None:
    if not t.grads:
        raise ValueError('this meta-gradient needs every step: use keep="all" in adapt or meta_train')
