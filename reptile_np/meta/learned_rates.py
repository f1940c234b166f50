"""Meta-SGD: the inner loop's learning rates are parameters of the outer loop, one for each entry of φ.

Li, Zhou, Chen, Li, *Meta-SGD: Learning to Learn Quickly for Few-Shot Learning*, arXiv:1707.09835.  The outer
loop's vector is θ = (φ, α), of shape (2 n,): `meta_train`, `maml`, an outer optimiser and a checkpoint treat
it as they treat φ::

    learned = LearnedRates(model)
    theta = learned.start(phi, 0.01)
    meta_train(learned, begin(theta, LearnedSgd(), outer), …, meta_gradient=maml(learned, LearnedSgd()),
               inner=LearnedSgd())

Verified by ``tests/meta/test_learned_rates.py`` (complex step through the whole loop, exact rational
arithmetic).
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Number, Real
from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import Array, Batch, check_array
from reptile_np.meta.optimizers import python_number

__all__ = ["LearnedRates", "LearnedSgd"]


@dataclass(frozen=True)
class LearnedSgd:
    """``φ ← φ - α ∘ g`` on θ = (φ, α); α stays as it is during an inner loop."""

    def init(self, theta: Array) -> tuple[()]:
        """Return no state; `UsageError` if θ has no two halves."""
        if np.ndim(theta) != 1 or len(theta) % 2:
            raise UsageError(f"LearnedSgd: theta has shape {np.shape(theta)}; give LearnedRates(model).start")
        return ()

    def update(self, grad: Array, state: tuple[()], theta: Array) -> tuple[Array, tuple[()]]:
        """Take one step; the second half of `grad` (2 n,) is not read."""
        (phi, rates), (g, _) = _halves(theta), _halves(grad)
        return np.concatenate([phi - rates * g, rates]), state

    def update_bar(
        self, theta_bar: Array, state_bar: tuple[()], grad: Array, state: tuple[()], theta: Array
    ) -> tuple[Array, tuple[()], Array]:
        """Return (grad_bar (2 n,), state_bar, theta_bar (2 n,)).

        ``grad_bar = (-α ∘ phi_bar, 0)``, ``theta_bar = (phi_bar, rates_bar - g ∘ phi_bar)``.
        """
        (phi_bar, rates_bar), (g, _), (_, rates) = _halves(theta_bar), _halves(grad), _halves(theta)
        g_bar = np.concatenate([-rates * phi_bar, 0 * rates])
        return g_bar, state_bar, np.concatenate([phi_bar, rates_bar - g * phi_bar])


class LearnedRates:
    """A model of φ (n,) as a model of θ = (φ, α) (2 n,): its loss and predictions do not depend on α.

    Parameters
    ----------
    model
        Has `loss_and_grad`, and `hvp` and `predict` if they are called.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def start(self, phi: Array, rates: Any) -> Array:
        """Return θ (2 n,) in φ's dtype, from one rate or one per parameter (n,).

        Raises
        ------
        UsageError
            If there is another number of rates, a rate is no number, NaN, or complex for a real φ, or φ is a
            list or cannot hold fractions.
        """
        check_array("learned rates: phi", phi)
        rates = np.asarray(python_number(rates), dtype=object)
        if phi.dtype.kind not in "fcO":
            raise UsageError(f"learned rates: phi is {phi.dtype}, which holds no fractions; give floats")
        if rates.shape not in ((), phi.shape):
            raise UsageError(f"learned rates: {rates.shape} rates for phi {phi.shape}; give one, or one each")
        kind = Real if phi.dtype.kind == "f" else Number
        if wrong := [rate for rate in rates.flat if not isinstance(rate, kind) or rate != rate]:
            raise UsageError(f"learned rates: {wrong[0]!r} is no rate for phi, {phi.dtype}; give numbers")
        return np.concatenate([phi, np.broadcast_to(rates, phi.shape).astype(phi.dtype)])

    def loss_and_grad(self, theta: Array, batch: Batch) -> tuple[Any, Array]:
        """Return the loss at φ and its gradient (2 n,): (g, 0)."""
        loss, grad = self.model.loss_and_grad(_halves(theta)[0], batch)
        return loss, np.concatenate([grad, 0 * grad])

    def hvp(self, theta: Array, batch: Batch, v: Array) -> Array:
        """Return (H v_φ, 0) for v = (v_φ, v_α), all (2 n,)."""
        hv = self.model.hvp(_halves(theta)[0], batch, _halves(v)[0])
        return np.concatenate([hv, 0 * hv])

    def predict(self, theta: Array, x: Array) -> Array:
        """Return the outputs (b, o) at φ."""
        outputs: Array = self.model.predict(_halves(theta)[0], x)
        return outputs


def _halves(theta: Array) -> tuple[Array, Array]:
    """Return the two halves, φ and α or their adjoints, as views (n,)."""
    n = len(theta) // 2
    return theta[:n], theta[n:]
