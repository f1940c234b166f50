"""Section 4.1: equations (4)-(17) and beyond, as equalities of fractions.

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
from reptile_np.theory.claims.shared import example
from reptile_np.theory.expansions import (
    METHODS,
    Method,
    TaskFamily,
    distinct,
    independent,
    stated,
    stated_sum,
    weighted_gradient,
)
from reptile_np.theory.rational import coordinates, exact_gradient, polynomial_coefficients, rationals

__all__ = [
    "EQUATIONS",
    "beyond",
    "chain_rule",
    "coordinates_in",
    "expected_gradients",
    "general_weights",
    "inner_product",
    "inner_products",
    "measured_coefficients",
    "pair_coefficients",
    "potentials",
    "two_steps",
    "verify",
]

EQUATIONS = {"Reptile": "eq. (15)", "MAML": "eq. (16)", "FOMAML": "eq. (17)"}


def verify() -> list[Claim]:
    """Return the claims of section 4.1."""
    sections = (two_steps, inner_products, expected_gradients, general_weights, beyond, potentials)
    return [claim for section in sections for claim in section()]


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


def inner_products() -> list[Claim]:
    """Return AvgGradInner = ½ E ∂(g_0 · g_1), both orders of the exchange, and the sign erratum."""
    families = [replace(example(), sampler=sampler) for sampler in (distinct, independent)]
    return [claim for family in families for claim in inner_product(family)]


def inner_product(family: TaskFamily) -> list[Claim]:
    """Return the claims of `inner_products` for one way to draw minibatches."""
    how = f"minibatches {family.sampler.__name__}"
    inner = family.avg_grad_inner()
    exchanged = family.mean(lambda one, two: family.hvp(two, family.grad(one)), 2)

    def product(phi: Array) -> Any:
        here = replace(family, phi=phi)
        return here.mean(lambda one, two: here.grad(one) @ here.grad(two), 2)

    gradient = exact_gradient(product, family.phi, degree=4)
    slope = exact_gradient(lambda s: product(family.phi + s[0] * inner), rationals([0]), degree=4)
    return [
        equal(
            f"E[L_0''L_1'] = E[L_1''L_0'], {how}: the difference",
            "section 4.1",
            [0, 0],
            inner - exchanged,
        ),
        equal(
            f"AvgGradInner = ½ E[∂(L_0'·L_1')], {how}: the difference",
            "section 4.1",
            [0, 0],
            inner - gradient / 2,
        ),
        equal(
            f"along +AvgGradInner E[L_0'·L_1'] increases; the rate, in |AvgGradInner|², {how}",
            "erratum 1: the paper says -AvgGradInner",
            2,
            slope[0] / (inner @ inner),
        ),
    ]


def expected_gradients() -> list[Claim]:
    """Return (15)-(17) and the table for k = 1 … 5, enumerated completely."""
    found: dict[tuple[str, str], list[list[Fraction | None]]] = {}
    for sampler in (distinct, independent):
        for k in range(1, 6):
            # after five steps on cubics the degree in α is 45, on quadratics 8
            batches = max(k, 2) if sampler is distinct else 2
            drawn = example(batches=batches, degree=3 if k < 5 else 2)
            for name, row in measured_coefficients(replace(drawn, sampler=sampler), METHODS, k).items():
                found.setdefault((name, sampler.__name__), []).append(row)
    rows = []
    for (name, how), by_k in found.items():
        rows.append(
            equal(
                f"E[g_{name}], k = 2: coefficients of AvgGrad, α AvgGradInner, minibatches {how}",
                EQUATIONS[name],
                [c[0] for c in stated(name, 2)[:2]],
                by_k[1],
            )
        )
    for (name, how), by_k in found.items():
        ks = range(1, len(by_k) + 1)
        for order, term in enumerate(("AvgGrad", "α AvgGradInner")):
            rows.append(
                equal(
                    f"E[g_{name}], k = 1 … {len(by_k)}: coefficient of {term}, minibatches {how}",
                    "section 4.1, any k (later versions)",
                    [stated(name, k)[order][0] for k in ks],
                    [row[order] for row in by_k],
                )
            )
    return rows


def measured_coefficients(
    family: TaskFamily, methods: dict[str, Method] | Any, k: int
) -> dict[str, list[Fraction | None]]:
    """Return, for each method, the measured coefficients of AvgGrad and of α AvgGradInner."""
    zeroth, first = family.expansion(methods, k, orders=2)
    grad, inner = family.terms(0), family.terms(1)
    return {
        name: [coordinates_in(grad, zeroth[i])[0], coordinates_in(inner, first[i])[0]]
        for i, name in enumerate(methods)
    }


def general_weights() -> list[Claim]:
    """Return the claims about ``E[Σ w_i g_i]`` for weights of any kind, and the two ratios of erratum 4."""
    weights = [Fraction(2, 3), Fraction(-1), Fraction(5, 2)]
    family = example()
    row = measured_coefficients(family, {"w": weighted_gradient(weights)}, 3)["w"]
    two = measured_coefficients(family, METHODS, 2)
    return [
        equal(
            "E[Σ w_i g_i], w = (2/3, -1, 5/2): Σ w_i and -Σ w_i (i-1)",
            "section 5.2",
            [c[0] for c in stated_sum(weights)[:2]],
            row,
        ),
        equal(
            "AvgGrad and αAvgGradInner weigh 2 : -1 in two-step Reptile, 1 : -1 in two-step FOMAML",
            "erratum 4, section 5.2",
            [2, -1, 1, -1],
            [*two["Reptile"], *two["FOMAML"]],
        ),
    ]


def beyond() -> list[Claim]:
    """Return the α² coefficients, measured by solving for all four at three points at once."""
    rows = []
    for sampler, k, batches in ((distinct, 2, 3), (distinct, 3, 3), (independent, 3, 2)):
        points = [
            replace(example(batches=batches), sampler=sampler, phi=rationals(phi))
            for phi in ([1, -1], [2, 1], [0, Fraction(1, 2)])
        ]
        basis = np.concatenate([family.terms(2) for family in points], axis=1)
        orders = np.concatenate([family.expansion(METHODS, k)[2] for family in points], axis=1)
        for i, name in enumerate(METHODS):
            rows.append(
                equal(
                    f"E[g_{name}], k = {k}, minibatches {sampler.__name__}: α² coefficients of "
                    "H_1H_2g_3, T_1[g_2,g_3], T_1[g_2,g_2], H_1H_2g_1",
                    "beyond the paper",
                    stated(name, k)[2],
                    coordinates_in(basis, orders[i]),
                )
            )
    return rows


def potentials() -> list[Claim]:
    """Return which orders of α in the expected direction have no curl at φ.

    A gradient has none anywhere, so a curl shows that the order is the gradient of no function.
    """
    family, k = example(), 2

    def field(phi: Array) -> Array:
        return replace(family, phi=phi).expansion(METHODS, k)

    jacobian = exact_gradient(field, family.phi, degree=4)
    curl = jacobian[..., 0, 1] - jacobian[..., 1, 0]
    return [
        equal(
            f"E[g_{name}], k = 2: orders α⁰, α¹, α² without a curl at φ, as a gradient's must be (1: yes)",
            "beyond the paper",
            [1, 1, int(name == "MAML")],
            [int(c == 0) for c in curl[:, i]],
        )
        for i, name in enumerate(METHODS)
    ]


def coordinates_in(basis: Any, vector: Array) -> list[Fraction | None]:
    """Return the coefficients of a vector in a basis (terms, n), None each if it is not in their span."""
    c, residual = coordinates(np.stack(list(basis)).T, vector)
    return list(c) if np.all(residual == 0) else [None] * len(c)
