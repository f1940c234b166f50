"""What a failing check suspects: a kink, some pieces of φ, a term, or a loss that does not use φ."""

import numpy as np
import pytest

from reptile_np.checks import check_grad, check_hvp
from tests.checks.examples import CONV, HESSIAN, PHI, TARGET, quadratic, suspicion

KINK = "or a kink (ReLU, maximum) close to φ"


def test_a_kink_close_to_phi_is_suspected_beside_a_piece():
    def absolute(phi, batch):
        return np.abs(phi).sum(), np.sign(phi)

    phi = np.array([1.0, 2.0, 1e-9, 2.0])
    said = suspicion(check_grad, absolute, phi, None, shapes={"a": (2,), "b": (2,)})
    assert said.splitlines()[1] == f"  suspect: only piece b, {KINK}"


def test_a_kink_close_to_phi_is_suspected_beside_a_wrong_hessian_product():
    def parabolas(phi, batch):
        return (phi * np.abs(phi)).sum() / 2, np.abs(phi)

    def hvp(phi, batch, v):
        return np.sign(phi) * v

    assert check_hvp(parabolas, hvp, np.array([1, 2, 1e-5, 2]), None).holds
    assert suspicion(check_hvp, parabolas, hvp, np.array([1, 2, 1e-8, 2]), None).endswith(KINK)


def test_no_kink_is_suspected_where_the_slope_is_known():
    wrong = HESSIAN + np.diag([0.0, 0.1, 0.0])
    assert "kink" not in suspicion(check_hvp, quadratic, lambda phi, batch, v: wrong @ v, TARGET, None)
    said = suspicion(check_grad, lambda phi, batch: (phi @ phi, 2 * phi + [0, 0.1, 0]), PHI, None)
    assert said.endswith("suspect: a missing term")


@pytest.fixture
def conv():
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((4, 4, 4, 1)), np.array([0, 1, 1, 0])
    return CONV.init(rng, float), batch


def test_a_piece_whose_derivative_is_zero_does_not_count_as_right(conv):
    """The bias before batch norm: with it, every error would be one of only all the other pieces."""
    shapes = CONV.layout.shapes

    def noisy(phi, batch):
        loss, grad = CONV.loss_and_grad(phi, batch)
        return loss, grad + 0.1 * np.abs(grad)

    assert suspicion(check_grad, noisy, *conv, shapes=shapes).endswith("suspect: a missing term")

    def half(phi, batch, v):
        return np.r_[np.ones(len(v) // 2), np.full(len(v) - len(v) // 2, 0.5)] * CONV.hvp(phi, batch, v)

    said = suspicion(check_hvp, CONV.loss_and_grad, half, *conv, shapes=shapes)
    assert "suspect: H is not symmetric" in said


@pytest.mark.parametrize(("off", "what"), [((0, 1), "H is not symmetric"), ((0, 0), "H is symmetric but")])
def test_only_a_piece_of_a_hessian_product_means_the_vectors_in_it(off, what):
    wrong = HESSIAN.copy()
    wrong[off] *= 1.1
    said = suspicion(
        check_hvp, quadratic, lambda phi, batch, v: wrong @ v, TARGET, None, shapes={"a": (1,), "b": (2,)}
    )
    piece = "b" if off == (0, 1) else "a"
    assert f"suspect: only piece {piece} (the product is wrong when v is in there); {what}" in said


def test_a_loss_that_does_not_use_phi_is_named():
    for shapes in (None, {"a": (1,), "b": (2,)}):
        said = suspicion(check_grad, lambda phi, batch: (3.0, 2 * phi), PHI, None, shapes=shapes)
        assert said.splitlines()[1] == "  suspect: the loss does not change with phi: does it use phi?"
        assert "relative error inf" in said
    affine = lambda phi, batch: (phi.sum(), np.ones(3))  # noqa: E731
    said = suspicion(check_hvp, affine, lambda phi, batch, v: v, PHI, None)
    assert "the gradient does not change with phi" in said


def test_a_wrong_gradient_at_a_minimum_is_not_said_to_be_of_a_loss_that_does_not_use_phi():
    said = suspicion(check_grad, lambda phi, batch: (phi @ phi, phi + 1), np.zeros(3), None)
    assert "does not change" not in said
