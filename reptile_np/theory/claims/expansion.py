"""Section 4.1: expected directions, equations (15)-(17) and beyond, as equalities of fractions.

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
from reptile_np.theory.claims.claim import Claim, equal
from reptile_np.theory.claims.shared import coordinates_in, example
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
from reptile_np.theory.rational import exact_gradient, rationals

__all__ = [
    "EQUATIONS",
    "beyond",
    "curls",
    "expected_gradients",
    "general_weights",
    "inner_product",
    "inner_products",
    "measured_coefficients",
    "potentials",
    "verify",
]

BEYOND = "beyond the paper"
EQUATIONS = {"Reptile": "eq. (15)", "MAML": "eq. (16)", "FOMAML": "eq. (17)"}


def verify() -> list[Claim]:
    """Return the claims of section 4.1 about expectations."""
    sections = (inner_products, expected_gradients, general_weights, beyond, potentials)
    return [claim for section in sections for claim in section()]


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
            "section 5.2, beyond",
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
                    BEYOND,
                    stated(name, k)[2],
                    coordinates_in(basis, orders[i]),
                )
            )
    return rows


def potentials() -> list[Claim]:
    """Return which orders of α in the expected direction have no curl at φ.

    A gradient has none anywhere, so a curl shows that the order is the gradient of no function.  With
    quadratic losses no order has one, for any k: the Jacobian of E[H_1 H_2 g_3] is E[H_1 H_2 H_3], symmetric.
    """
    cubics = curls(example(), 2)[1]
    orders, quadratics = curls(example(degree=2), 3)
    rows = []
    for i, name in enumerate(METHODS):
        rows.append(
            equal(
                f"E[g_{name}], k = 2: orders α⁰, α¹, α² without a curl at φ, as a gradient's must be "
                "(1: yes)",
                BEYOND,
                [1, 1, int(name == "MAML")],
                [int(c == 0) for c in cubics[:, i]],
            )
        )
    for i, name in enumerate(METHODS):
        rows.append(
            equal(
                f"E[g_{name}], k = 3, quadratic losses: curls of α⁰, α¹, α² at φ; whether α² is 0 (1: yes)",
                BEYOND,
                [0, 0, 0, 0],
                [*quadratics[:, i], int(not orders[2, i].any())],
            )
        )
    return rows


def curls(family: TaskFamily, k: int) -> tuple[Array, Array]:
    """Return the orders α⁰, α¹, α² of the expected directions (3, methods, 2), their curls (3, methods)."""

    def field(phi: Array) -> Array:
        return replace(family, phi=phi).expansion(METHODS, k)

    degree = 3 * family.model.degree - 5  # of E[H_1 H_2 g_3], in φ
    jacobian = exact_gradient(field, family.phi, degree)
    return field(family.phi), jacobian[..., 0, 1] - jacobian[..., 1, 0]
