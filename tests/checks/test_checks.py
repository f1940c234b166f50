"""The public checks pass what is right, and catch and name what is wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reptile_np.checks.differences import slope
from reptile_np.checks.gradients import (
    CheckFailure,
    check_adjoint,
    check_grad,
    check_hvp,
    check_taylor_order,
    meta_gradient_expansion,
)
from reptile_np.checks.strategies import batches, vectors
from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import fomaml, gradient_sum, maml, reptile
from reptile_np.meta.optimizers import Adam, Sgd
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import Model, sine_mlp
from reptile_np.nn.ops import NUMPY
from reptile_np.nn.parameter_free import Flatten, Relu
from reptile_np.theory.networks import curvature, sine_waves, small_images

SINE = sine_mlp((6, 6))
CONV = Model(
    (Conv2d(filters=3, before_batch_norm=True), BatchNorm(), Relu(), Flatten(), Dense(2)),
    (4, 4, 1),
    SoftmaxCrossEntropy("sum"),
)


def suspicion(check, *args, **kwargs):
    """What the failure report says."""
    with pytest.raises(CheckFailure) as failure:
        check(*args, **kwargs)
    assert not failure.value.report.holds
    return str(failure.value)


# what is right passes


@settings(max_examples=max(settings.default.max_examples // 4, 10))  # 200 losses and gradients each
@given(batches((1,)), vectors(SINE.layout.size, scale=0.5))
def test_a_right_model_passes_every_check(batch, phi):
    assert check_grad(SINE.loss_and_grad, phi, batch, shapes=SINE.layout.shapes).holds
    assert check_hvp(SINE.loss_and_grad, SINE.hvp, phi, batch, shapes=SINE.layout.shapes).holds
    assert check_taylor_order(SINE.loss_and_grad, phi, batch).holds
    assert check_taylor_order(SINE.loss_and_grad, phi, batch, hvp=SINE.hvp).holds


@pytest.mark.parametrize("problem", [sine_waves(), small_images()], ids=["sine MLP", "conv + batch norm"])
def test_the_networks_of_the_claims_pass(problem):
    model, batch = problem.model, problem.tasks[0][0]
    assert check_grad(model.loss_and_grad, problem.phi, batch, shapes=model.layout.shapes).holds
    assert check_hvp(model.loss_and_grad, model.hvp, problem.phi, batch, shapes=model.layout.shapes).holds


def test_at_a_minimum_the_vanishing_gradient_passes():
    target = np.array([1.0, -2.0, 0.5])

    def bowl(phi, batch):
        return 3 + ((phi - target) ** 2).sum(), 2 * (phi - target)

    assert check_grad(bowl, target, None).holds
    assert check_taylor_order(bowl, target, None).holds


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_remainder_whose_orders_cancel_at_one_step_passes(sign):
    """t³ and t⁴ / 0.06 cancel at t = 0.06, where R is seen; below t = 0.005 it is lost in the 10⁴."""

    def loss_and_grad(phi, batch):
        x = phi[0]
        return 1e4 + x**3 + sign * x**4 / 0.06, np.array([3 * x**2 + sign * 4 * x**3 / 0.06])

    assert check_taylor_order(loss_and_grad, np.zeros(1), None, hvp=lambda phi, batch, v: 0 * v).holds


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


@given(st.floats(-3, 3), st.floats(-2, 2))
def test_slopes_know_their_own_error(x, y):
    measured = slope(lambda t: np.array([np.exp(x + t), np.sin(y - 2 * t)]))
    error = np.linalg.norm(measured.value - [np.exp(x), -2 * np.cos(y)])
    assert error <= 1e-11 * np.exp(3)
    assert measured.uncertainty <= 1e-9


# what is wrong is caught, and named


@pytest.fixture
def at():
    rng = np.random.default_rng(3)
    batch = (rng.standard_normal((5, 1)), rng.standard_normal((5, 1)))
    return SINE.init(rng, np.float64), batch


def scaled(factor):
    def loss_and_grad(phi, batch):
        loss, grad = SINE.loss_and_grad(phi, batch)
        return loss, factor * grad

    return loss_and_grad


@pytest.mark.parametrize("factor", [0.2, 1.001, -1.0, 2.0])
def test_a_factor_in_the_gradient_is_measured(at, factor):
    assert f"the gradient is {factor:.4g} times the slope of the loss" in suspicion(
        check_grad, scaled(factor), *at
    )


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
    assert "or a kink" in suspicion(check_grad, absolute, np.array([1e-5, 2.0]), None)


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


def test_a_hessian_product_that_is_missing_is_named(at):
    assert "is zero" in suspicion(check_hvp, SINE.loss_and_grad, lambda phi, batch, v: 0 * v, *at)


def test_the_taylor_order_tells_which_derivative_is_wrong(at):
    assert "the gradient is wrong" in suspicion(check_taylor_order, scaled(1.1), *at)
    assert "the Hessian product is wrong" in suspicion(
        check_taylor_order, SINE.loss_and_grad, *at, hvp=lambda phi, batch, v: 1.1 * SINE.hvp(phi, batch, v)
    )


def test_an_adjoint_of_the_wrong_shape_is_named():
    assert "has shape (2,)" in suspicion(check_adjoint, lambda x: x[:2], lambda y: y, np.empty(3))


def test_bad_input_is_refused_in_one_line(at):
    phi, batch = at
    with pytest.raises(UsageError, match="float32"):
        check_grad(SINE.loss_and_grad, phi.astype(np.float32), batch)
    with pytest.raises(UsageError, match="the gradient has shape"):
        check_grad(lambda phi, batch: (0.0, phi[1:]), phi, batch)


# which meta-gradient is it?

PROBLEM = sine_waves(tasks=2, batches=3)
ALPHA = 1e-4 / curvature(PROBLEM)


def expansion_of(direction, optimizer=Sgd, k=3, **kwargs):
    model = PROBLEM.model

    def meta_gradient(phi, batches, alpha):
        return direction(alpha)(adapt(model, optimizer(alpha), phi, batches))

    return meta_gradient_expansion(
        meta_gradient, model.loss_and_grad, model.hvp, PROBLEM.phi, PROBLEM.tasks, k, alpha=ALPHA, **kwargs
    )


@pytest.mark.parametrize("k", [2, 3])
def test_each_method_is_recognised_by_its_coefficients(k):
    found = expansion_of(lambda alpha: maml(PROBLEM.model, alpha), k=k, expect="MAML")
    assert found[:2] == pytest.approx((1, -2 * (k - 1)), rel=1e-5)
    assert found.angle <= 1e-5
    assert expansion_of(lambda alpha: lambda t: fomaml(t) / alpha, k=k).method == "FOMAML"
    assert expansion_of(lambda alpha: lambda t: 7 * reptile(t) / alpha, k=k).method == "Reptile"


def test_for_one_step_any_method_is_any_other():
    assert expansion_of(lambda alpha: gradient_sum([1]), k=1, expect="MAML").method == "any of them"


def test_fomaml_that_is_called_maml_is_found_out():
    report = suspicion(expansion_of, lambda alpha: lambda t: fomaml(t) / alpha, expect="MAML")
    assert "this is FOMAML: the factors I - α H_i are missing" in report


def test_a_product_collapsed_to_one_factor_is_no_known_method():
    def one_factor(alpha):
        def direction(t):
            return t.grads[-1] - alpha * PROBLEM.model.hvp(t.phis[0], t.batches[0], t.grads[-1])

        return direction

    assert "too few or too many factors" in suspicion(expansion_of, one_factor, expect="MAML")


def test_adam_inside_is_found_out():
    report = suspicion(expansion_of, lambda alpha: lambda t: reptile(t) / alpha, Adam, expect="Reptile")
    assert "meta-gradient: wrong" in report


def test_an_unknown_method_and_too_many_steps_are_refused():
    with pytest.raises(UsageError, match="expect one of"):
        expansion_of(lambda alpha: gradient_sum([1, 1, 1]), expect="iMAML")
    with pytest.raises(UsageError, match="k = 4"):
        expansion_of(lambda alpha: gradient_sum([1] * 4), k=4)


# other people's libraries


def test_a_pytorch_model_passes_through_the_wrapper_of_the_docs():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def f(p, batch):
        return ((torch.tensor(batch[0]) @ p - torch.tensor(batch[1])) ** 4).sum()

    def loss_and_grad(phi, batch):
        p = torch.tensor(phi, requires_grad=True)
        loss = f(p, batch)
        return loss.item(), torch.autograd.grad(loss, p)[0].numpy()

    def hvp(phi, batch, v):
        at, along = torch.tensor(phi), torch.tensor(v)
        return torch.autograd.functional.hvp(lambda p: f(p, batch), at, along)[1].numpy()

    rng = np.random.default_rng(0)
    phi, batch = rng.standard_normal(3), (rng.standard_normal((5, 3)), rng.standard_normal(5))
    assert check_grad(loss_and_grad, phi, batch).holds
    assert check_hvp(loss_and_grad, hvp, phi, batch).holds


def test_a_jax_model_passes_through_a_thin_wrapper():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    jax.config.update("jax_enable_x64", True)

    def f(p, batch):
        return ((batch[0] @ p - batch[1]) ** 4).sum()

    def loss_and_grad(phi, batch):
        loss, grad = jax.value_and_grad(f)(phi, batch)
        return float(loss), np.asarray(grad)

    def hvp(phi, batch, v):
        return np.asarray(jax.jvp(lambda p: jax.grad(f)(p, batch), (phi,), (v,))[1])

    rng = np.random.default_rng(0)
    phi, batch = rng.standard_normal(3), (rng.standard_normal((5, 3)), rng.standard_normal(5))
    assert check_grad(loss_and_grad, phi, batch).holds
    assert check_hvp(loss_and_grad, hvp, phi, batch).holds
