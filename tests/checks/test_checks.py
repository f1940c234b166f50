"""The public checks pass what is right, and catch and name what is wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reptile_np.checks import CheckFailure, check_adjoint, check_grad, check_hvp, check_taylor_order
from reptile_np.checks.strategies import batches, vectors
from reptile_np.nn.layers import Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import Model
from reptile_np.nn.ops import NUMPY
from reptile_np.theory.networks import sine_waves, small_images
from tests.checks.examples import HESSIAN, SINE, TARGET, quadratic, scaled, suspicion

# what is right passes


@settings(max_examples=max(settings.default.max_examples // 4, 10))  # 200 losses and gradients each
@given(batches((1,)), vectors(SINE.layout.size, scale=0.5))
def test_a_right_model_passes_every_check(batch, phi):
    assert check_grad(SINE.loss_and_grad, phi, batch, shapes=SINE.layout.shapes).holds
    assert check_hvp(SINE.loss_and_grad, SINE.hvp, phi, batch, shapes=SINE.layout.shapes).holds
    assert check_taylor_order(SINE.loss_and_grad, phi, batch).holds
    assert check_taylor_order(SINE.loss_and_grad, phi, batch, hvp=SINE.hvp).holds


@pytest.mark.parametrize("family", [sine_waves(), small_images()], ids=["sine MLP", "conv + batch norm"])
def test_the_networks_of_the_claims_pass(family):
    model, batch = family.model, family.tasks[0][0]
    gradient = check_grad(model.loss_and_grad, family.phi, batch, shapes=model.layout.shapes)
    product = check_hvp(model.loss_and_grad, model.hvp, family.phi, batch, shapes=model.layout.shapes)
    assert (gradient.holds, gradient.unmeasured) == (True, ())
    assert product.holds
    assert "nothing found" not in f"{gradient} {product}"


@pytest.mark.parametrize("seed", range(8))
def test_each_piece_of_a_classifier_of_two_classes_is_measured_whatever_the_seed(seed):
    """The loss does not change if both biases grow equally, so a direction along both would show nothing."""
    model = Model((Dense(2),), (3,), SoftmaxCrossEntropy("sum"))
    rng = np.random.default_rng(seed)
    batch = rng.normal(size=(6, 3)), np.array([0, 1, 1, 0, 1, 1])
    phi, shapes = model.init(rng, float), model.layout.shapes
    for report in (
        check_grad(model.loss_and_grad, phi, batch, shapes=shapes, seed=seed),
        check_hvp(model.loss_and_grad, model.hvp, phi, batch, shapes=shapes, seed=seed),
    ):
        assert report.holds
        assert report.unmeasured == ()


def test_at_a_minimum_the_vanishing_gradient_passes():
    target = np.array([1.0, -2.0, 0.5])

    def bowl(phi, batch):
        return 3 + ((phi - target) ** 2).sum(), 2 * (phi - target)

    assert check_grad(bowl, target, None).holds
    assert check_taylor_order(bowl, target, None).holds


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_remainder_whose_orders_cancel_at_one_step_passes(sign):
    """t³ and t⁴ / 0.06 cancel at t = 0.06, where R is seen; below t = 0.005 it is lost in the 10⁴.

    In one direction, -v shows what v does not.
    """

    def loss_and_grad(phi, batch):
        x = phi[0]
        return 1e4 + x**3 + sign * x**4 / 0.06, np.array([3 * x**2 + sign * 4 * x**3 / 0.06])

    def no_product(phi, batch, v):
        return 0 * v

    assert check_taylor_order(loss_and_grad, np.zeros(1), None, hvp=no_product, directions=1).holds


@given(st.integers(1, 3), st.integers(1, 4))
def test_a_convolution_and_its_adjoints_pass(stride, channels):
    padding = ((1, 0), (0, 1))
    w = np.random.default_rng(0).standard_normal((3, 3, channels, 2))

    def forward(x):
        return NUMPY.conv2d(x, w, stride, padding)

    def adjoint(y_bar):
        return NUMPY.conv2d_input(y_bar, w, stride, padding, (5, 6))

    assert check_adjoint(forward, adjoint, np.empty((2, 5, 6, channels))).holds
    assert "adjoint is 1.001 times" in suspicion(
        check_adjoint, forward, lambda y: 1.001 * adjoint(y), np.empty((2, 5, 6, channels))
    )
    assert suspicion(check_adjoint, forward, lambda y: (1 + 1e-9) * adjoint(y), np.empty((2, 5, 6, channels)))


# what is wrong is caught, and named


@pytest.fixture
def at():
    rng = np.random.default_rng(3)
    batch = (rng.standard_normal((5, 1)), rng.standard_normal((5, 1)))
    return SINE.init(rng, np.float64), batch


MEAN_OR_SUM = ": a mean in one and a sum in the other?"


@pytest.mark.parametrize(
    ("factor", "cause"),
    [
        (0.2, MEAN_OR_SUM),
        (2.0, MEAN_OR_SUM),
        (64.0, MEAN_OR_SUM),
        (-1.0, ": a wrong sign?"),
        (1.001, ""),
        (0.3, ""),
        (2.5, ""),
        (-2.0, ""),
    ],
)
def test_a_factor_in_the_gradient_is_measured_and_its_cause_is_guessed_if_it_is_a_count_or_a_sign(
    at, factor, cause
):
    assert suspicion(check_grad, scaled(factor), *at).endswith(
        f"the gradient is {factor:.4g} times the slope of the loss{cause}"
    )


@pytest.mark.parametrize("factor", [1 + 1e-5, 1 - 4e-5, 1 + 4e-4])
def test_a_factor_that_would_be_printed_as_1_is_not_called_a_factor(at, factor):
    assert "times the slope" not in suspicion(check_grad, scaled(factor), *at)


def test_a_piece_that_is_1e_5_off_and_has_nearly_all_of_the_gradient_is_named_without_a_factor():
    def loss_and_grad(phi, batch):
        grad = np.r_[1e3 * phi[:2], 1e-3 * phi[2:]]
        return phi @ grad / 2, np.r_[(1 + 1e-5) * grad[:2], grad[2:]]

    report = suspicion(check_grad, loss_and_grad, np.arange(1.0, 5.0), None, shapes={"a": (2,), "b": (2,)})
    assert report.endswith("suspect: only piece a")


def test_a_wrong_piece_of_the_gradient_is_named(at):
    def loss_and_grad(phi, batch):
        loss, grad = SINE.loss_and_grad(phi, batch)
        SINE.layout.views(grad)["dense2/bias"][:] = 0
        return loss, grad

    assert suspicion(check_grad, loss_and_grad, *at, shapes=SINE.layout.shapes).endswith(
        "suspect: only piece dense2/bias"
    )


def test_a_gradient_that_is_zero_or_not_finite_is_named(at):
    assert "the gradient is zero" in suspicion(check_grad, scaled(0), *at)
    assert "not finite" in suspicion(check_grad, scaled(np.nan), *at)
    assert "not finite" in suspicion(check_taylor_order, scaled(np.nan), *at)
    nowhere = lambda phi, batch, v: np.nan * v  # noqa: E731
    assert "not finite" in suspicion(check_hvp, SINE.loss_and_grad, nowhere, *at)
    assert "not finite" in suspicion(check_taylor_order, SINE.loss_and_grad, *at, hvp=nowhere)


def test_a_loss_that_is_not_finite_does_not_pass(at):
    assert "gradient: wrong" in suspicion(check_grad, lambda phi, batch: (np.nan, phi), *at)


def test_a_kink_too_near_to_measure_is_not_passed():
    def absolute(phi, batch):
        return np.abs(phi).sum(), np.sign(phi)

    assert check_grad(absolute, np.array([1e-3, 2.0]), None).holds
    assert "or a kink" in suspicion(check_grad, absolute, np.array([1e-8, 2.0]), None)


def test_a_dropped_second_order_term_makes_the_hessian_asymmetric(at):
    phi, batch = at

    def without_the_movement_of_the_weights(phi, batch, v):
        hv = SINE.hvp(phi, batch, v)
        w = np.zeros_like(v)
        SINE.layout.views(w)["dense1/kernel"][:] = SINE.layout.views(v)["dense1/kernel"]
        return hv - 0.5 * SINE.hvp(phi, batch, w)

    assert "not symmetric" in suspicion(
        check_hvp, SINE.loss_and_grad, without_the_movement_of_the_weights, phi, batch
    )


def test_a_gauss_newton_product_is_symmetric_but_wrong(at):
    phi, batch = at
    shift = 1e-20j

    def gauss_newton(phi, batch, v):
        x, _ = batch
        jacobian_v = SINE.predict(phi + shift * v, x).imag / shift.imag
        columns = [SINE.predict(phi + shift * e, x).imag / shift.imag for e in np.eye(len(phi))]
        return np.array([2 * (c * jacobian_v).sum() / len(x) for c in columns])

    assert "symmetric but wrong" in suspicion(check_hvp, SINE.loss_and_grad, gauss_newton, phi, batch)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("off", [1e-2, 1e-4])
@pytest.mark.parametrize(("sign", "what"), [(-1, "H is not symmetric"), (1, "H is symmetric but wrong")])
def test_a_small_error_of_a_small_hessian_is_told_to_be_symmetric_or_not(sign, what, off, seed):
    above = off * np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    wrong = HESSIAN + above + sign * above.T
    assert what in suspicion(check_hvp, quadratic, lambda phi, batch, v: wrong @ v, TARGET, None, seed=seed)


def test_a_product_that_is_wrong_only_off_unit_length_is_not_linear_beyond_the_tolerance():
    def hvp(phi, batch, v):
        return np.linalg.norm(v) ** 1e-4 * (HESSIAN @ v)

    assert "not linear in v" in suspicion(check_hvp, quadratic, hvp, TARGET, None)
    assert check_hvp(quadratic, hvp, TARGET, None, tolerance=1e-3).holds


@pytest.mark.parametrize("power", [1.75, 1.95])
def test_an_order_may_be_a_tenth_too_low(power):
    def loss_and_grad(phi, batch):
        return float(abs(phi[0]) ** power), power * np.sign(phi) * abs(phi) ** (power - 1)

    if power == 1.75:
        assert "falls like t^1.75, not t^2" in suspicion(check_taylor_order, loss_and_grad, np.zeros(1), None)
    else:
        assert check_taylor_order(loss_and_grad, np.zeros(1), None).error == pytest.approx(0.05)


def test_a_hessian_product_that_is_missing_is_named(at):
    assert "is zero" in suspicion(check_hvp, SINE.loss_and_grad, lambda phi, batch, v: 0 * v, *at)


def test_the_taylor_order_tells_which_derivative_is_wrong(at):
    assert "the gradient is wrong" in suspicion(check_taylor_order, scaled(1.1), *at)
    assert "the Hessian product is wrong" in suspicion(
        check_taylor_order, SINE.loss_and_grad, *at, hvp=lambda phi, batch, v: 1.1 * SINE.hvp(phi, batch, v)
    )


def test_an_adjoint_of_the_wrong_shape_is_named():
    assert "has shape (2,)" in suspicion(check_adjoint, lambda x: x[:2], lambda y: y, np.empty(3))


@pytest.mark.parametrize(
    "product",
    [lambda hv, v: np.linalg.norm(v) * hv, lambda hv, v: hv / np.linalg.norm(v), lambda hv, v: abs(hv)],
    ids=["|v| H v", "H v / |v|", "|H v|"],
)
def test_a_hessian_product_that_is_not_linear_in_v_is_named(at, product):
    def hvp(phi, batch, v):
        return product(SINE.hvp(phi, batch, v), v)

    assert "not linear in v" in suspicion(check_hvp, SINE.loss_and_grad, hvp, *at)


def test_an_error_in_a_piece_of_phi_that_is_zero_is_seen():
    """As in the biases of a network that was not trained."""

    def f(phi, batch):
        grad = np.r_[np.cos(phi[:2]), (1 + 1e-5) * np.exp(phi[2:])]
        return float(np.sin(phi[:2]).sum() + np.exp(phi[2:]).sum()), grad

    with pytest.raises(CheckFailure, match="only piece b"):
        check_grad(f, np.array([0.3, 0.5, 0.0, 0.0]), None, shapes={"a": (2,), "b": (2,)})


def test_a_map_or_an_adjoint_may_write_on_its_argument():
    def forward(x):
        x += 1
        return x - 1

    def adjoint(y):
        y *= 2
        return y / 2

    assert check_adjoint(forward, lambda y: y, np.empty(3)).holds
    assert check_adjoint(lambda x: x.copy(), adjoint, np.empty(3)).holds


@pytest.mark.parametrize("size", [1e-250, 1e-170, 1.0, 1e170])
def test_the_taylor_order_is_found_whatever_the_size_of_the_loss(size):
    def scaled(factor):
        return lambda phi, batch: (size * (phi**4).sum(), factor * size * 4 * phi**3)

    phi = np.array([1.0, -2.0, 0.5, 3.0])
    assert check_taylor_order(scaled(1), phi, None).error <= 0.1
    assert "the gradient is wrong" in suspicion(check_taylor_order, scaled(7), phi, None)
