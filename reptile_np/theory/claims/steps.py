"""Section 4.1: equations (4)-(14), inner steps on the minibatches of one task in one order, in fractions.

Coefficients are *measured*: each power of α of a direction is read off the program's own output, and
expressed in the vectors of the statement by solving exactly; a remainder would show as a failure.

Verified by ``tests/test_paper.py`` and ``tests/theory/test_claim_mutants.py``.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from reptile_np.meta.inner_loop import Array
from reptile_np.theory import expansions
from reptile_np.theory.claims.claim import Claim, equal
from reptile_np.theory.claims.shared import coordinates_in, example
from reptile_np.theory.expansions import METHODS, TaskFamily, weighted_gradient
from reptile_np.theory.rational import exact_gradient, polynomial_coefficients

__all__ = ["chain_rule", "pair_coefficients", "three_steps", "two_steps", "verify"]


def verify() -> list[Claim]:
    """Return the claims of section 4.1 about one order of the minibatches."""
    return [*two_steps(), *three_steps()]


def two_steps() -> list[Claim]:
    """Return (4)-(14): one task, losses L_0 then L_1."""
    family = example(variables=3, tasks=1, batches=2)
    model, phi, (zero, one) = family.model, family.phi, family.tasks[0]
    g0, g1 = family.grad(zero), family.grad(one)
    alpha = Fraction(2, 7)
    phis = expansions.run(model, phi, [zero, one], alpha).phis
    grad_at_1 = model.loss_and_grad(phis[1], one)[1]
    rows = [
        equal("φ_0 = φ: the difference", "eq. (4)", [0] * 3, phis[0] - phi),
        equal("φ_1 = φ_0 - αL_0'(φ_0): the difference", "eq. (5)", [0] * 3, phis[1] - (phi - alpha * g0)),
        equal(
            "φ_2 = φ_0 - αL_0'(φ_0) - αL_1'(φ_1): the difference",
            "eq. (6)",
            [0] * 3,
            phis[2] - (phi - alpha * g0 - alpha * grad_at_1),
        ),
    ]

    def remainder(step: Fraction) -> Array:
        phi_1 = expansions.run(model, phi, [zero], step).phis[1]
        return model.loss_and_grad(phi_1, one)[1] - g1 - family.hvp(one, phi_1 - phi)

    orders = polynomial_coefficients(remainder, degree=4, count=3)
    second = model.third(phi, one, g0, g0) / 2
    rows.append(
        equal(
            "L_1'(φ_1) - L_1' - L_1''(φ_1 - φ_0): α⁰, α¹, and α² less ½L_1'''[L_0', L_0']",
            "eq. (7)",
            [0] * 9,
            np.concatenate([orders[0], orders[1], orders[2] - second]),
        )
    )
    return [*rows, *pair_coefficients(family), *map(chain_rule, (1, 2, 3))]


def pair_coefficients(family: TaskFamily) -> list[Claim]:
    """Return the coefficients of α⁰ and α¹ in (8), (10), (13) and (14), for the pair L_0, L_1."""
    zero, one = family.tasks[0]
    gradients = [family.grad(zero), family.grad(one)]
    products = [family.hvp(one, gradients[0]), family.hvp(zero, gradients[1])]
    pair = replace(family, sampler=lambda task, k: [(zero, one)])
    methods = {**METHODS, "g_2": weighted_gradient([0, 1])}
    expansion = dict(zip(methods, pair.expansion(methods, 2).swapaxes(0, 1), strict=True))
    rows = []
    for name, source, coefficients in (
        ("g_2", "eqs (7)-(8), L_1'(φ_1)", [0, 1, -1, 0]),
        ("Reptile", "eqs (9)-(10)", [1, 1, -1, 0]),
        ("MAML", "eqs (11)-(13)", [0, 1, -1, -1]),
        ("FOMAML", "eq. (14)", [0, 1, -1, 0]),
    ):
        zeroth, first = expansion[name][:2]
        measured = [*coordinates_in(gradients, zeroth), *coordinates_in(products, first)]
        claim = f"{name}: coefficients of L_0', L_1', αL_1''L_0', αL_0''L_1'"
        rows.append(equal(claim, source, coefficients, measured))
    return rows


def chain_rule(k: int) -> Claim:
    """Return the claim that MAML is the gradient of ``L_k(U_{k-1} ∘ … ∘ U_1(φ))``, from its values alone."""
    family, alpha = example(batches=k, tasks=1), Fraction(1, 3)
    model, batches = family.model, family.tasks[0]

    def adapted_loss(phi: Array) -> Any:
        return expansions.run(model, phi, batches, alpha).losses[-1]

    degree = model.degree * (model.degree - 1) ** (k - 1)
    t = expansions.run(model, family.phi, batches, alpha)
    gradient = METHODS["MAML"](model, alpha)(t)
    return equal(
        f"k = {k}, α = {alpha}: g_MAML = ∂L_k(φ_k)/∂φ_1, from the values alone: the difference",
        "eq. (11)",
        [0] * len(family.phi),
        gradient - exact_gradient(adapted_loss, family.phi, degree),
    )


def three_steps() -> list[Claim]:
    """Return the first two orders of each gradient, and of MAML's, for one task and k = 3 minibatches."""
    family = example(variables=3, tasks=1, batches=3)
    in_order = replace(family, sampler=lambda task, k: [tuple(task)])
    methods = {f"g_{i + 1}": weighted_gradient([int(i == j) for j in range(3)]) for i in range(3)}
    zeroth, first = in_order.expansion(methods | {"MAML": METHODS["MAML"]}, 3, orders=2)
    batches = family.tasks[0]
    g, h = [family.grad(batch) for batch in batches], family.hvp
    source = "section 4.1, any k (later versions), one order of the minibatches"
    rows = []
    for i, batch in enumerate(batches):
        earlier = sum(g[:i], 0 * family.phi)
        rows.append(
            equal(
                f"L_{i + 1}'(φ_{i + 1}): α⁰ less L_{i + 1}', and α¹ plus L_{i + 1}'' Σ_(j<{i + 1}) L_j'",
                source,
                [0] * 6,
                np.concatenate([zeroth[i] - g[i], first[i] + h(batch, earlier)]),
            )
        )
    one, two, three = batches
    rows.append(
        equal(
            "MAML, k = 3: α⁰ less L_3', and α¹ plus L_3'' (L_1' + L_2') + (L_1'' + L_2'') L_3'",
            source,
            [0] * 6,
            np.concatenate(
                [zeroth[3] - g[2], first[3] + h(three, g[0] + g[1]) + h(one, g[2]) + h(two, g[2])]
            ),
        )
    )
    return rows
