"""Statements about the public checks: they accept a quartic's derivatives and refuse wrong ones, by name."""

import numpy as np
import pytest

from reptile_np.checks.differences import slope
from reptile_np.checks.gradients import check_grad, check_hvp
from reptile_np.checks.report import CheckFailure
from reptile_np.checks.taylor import check_taylor_order
from reptile_np.errors import UsageError

PHI = np.array([0.5, -1.0, 2.0, 1.5, -0.25])
SHAPES = {"a": (2,), "b": (3,)}
MATRIX = np.array([[2.0, 1, 0, 0, 1], [1, 3, 1, 0, 0], [0, 1, 1, 2, 0], [0, 0, 2, 4, 1], [1, 0, 0, 1, 2]])


def quartic(phi, batch):
    """L = φ·Aφ / 2 + Σ φ⁴ / 4."""
    return phi @ MATRIX @ phi / 2 + (phi**4).sum() / 4, MATRIX @ phi + phi**3


def product(phi, batch, v):
    return MATRIX @ v + 3 * phi**2 * v


def wrong_in(piece, factor):
    """The gradient with one piece multiplied by a factor."""
    scale = np.ones(5)
    scale[piece] = factor
    return lambda phi, batch: (quartic(phi, batch)[0], scale * quartic(phi, batch)[1])


def right_derivatives_pass_with_a_small_error():
    for report in (
        check_grad(quartic, PHI, None, shapes=SHAPES),
        check_hvp(quartic, product, PHI, None, shapes=SHAPES),
        check_taylor_order(quartic, PHI, None),
        check_taylor_order(quartic, PHI, None, hvp=product),
    ):
        assert report.error <= report.tolerance
        assert not report.suspect
    assert check_grad(quartic, PHI, None).error < 1e-8


def a_gradient_that_is_1e_5_off_is_refused_and_its_piece_named():
    with pytest.raises(CheckFailure, match="only piece a"):
        check_grad(wrong_in(slice(0, 2), 1 + 1e-5), PHI, None, shapes=SHAPES)
    with pytest.raises(CheckFailure):
        check_grad(wrong_in(slice(2, 5), 1 + 1e-5), PHI, None)
    with pytest.raises(CheckFailure, match=r"0\.2 times"):
        check_grad(wrong_in(slice(0, 5), 0.2), PHI, None)
    with pytest.raises(CheckFailure, match="is zero"):
        check_grad(wrong_in(slice(0, 5), 0.0), PHI, None)
    with pytest.raises(CheckFailure, match="not finite"):
        check_grad(wrong_in(slice(0, 5), np.nan), PHI, None)


def a_hessian_product_that_is_no_hessians_is_refused():
    def bent(phi, batch, v):
        return np.linalg.norm(v) * product(phi, batch, v)

    def asymmetric(phi, batch, v):
        return product(phi, batch, v) + np.triu(MATRIX, 1) @ v / 10

    def without_the_quartic(phi, batch, v):
        return MATRIX @ v

    for hvp, suspect in (
        (bent, "linear"),
        (asymmetric, "not symmetric"),
        (without_the_quartic, "is symmetric but"),
    ):
        with pytest.raises(CheckFailure, match=suspect):
            check_hvp(quartic, hvp, PHI, None)


def the_order_of_the_remainder_tells_a_wrong_gradient_from_a_wrong_product():
    with pytest.raises(CheckFailure, match="gradient is wrong"):
        check_taylor_order(wrong_in(slice(0, 2), 1.01), PHI, None)
    with pytest.raises(CheckFailure, match="Hessian product is wrong"):
        check_taylor_order(quartic, PHI, None, hvp=lambda phi, batch, v: 1.01 * product(phi, batch, v))


def a_slope_is_the_derivative_and_a_kink_is_seen():
    found = slope(lambda t: (1 + t) ** 3, levels=10)
    assert abs(found.value - 3) <= 1e-10
    assert found.jump == 0
    assert slope(lambda t: abs(t) + t).jump == pytest.approx(2, rel=1e-6)
    assert slope(lambda t: np.array(float(t > 0))).jump == np.inf

    def kinked(phi, batch):
        return np.abs(phi - PHI).sum() + phi.sum(), np.sign(phi - PHI) + 1

    with pytest.raises(CheckFailure, match="kink"):
        check_grad(kinked, PHI, None)

    def ramp(phi, batch):
        return np.maximum(phi - PHI, 0).sum(), 1.0 * (phi > PHI)

    with pytest.raises(CheckFailure, match="exactly at φ"):
        check_hvp(ramp, lambda phi, batch, v: v, PHI, None)


def what_cannot_be_checked_is_refused():
    for phi, directions in ((PHI.astype(np.float32), 4), (PHI, 0), (PHI[None], 4)):
        with pytest.raises(UsageError):
            check_grad(quartic, phi, None, directions=directions)
    with pytest.raises(UsageError):
        check_grad(quartic, PHI, None, shapes={"a": (2,)})
