"""What `check_taylor_order` says where the order is hard to find: huge remainders, few steps, float32."""

import numpy as np
import pytest

from reptile_np.checks import check_taylor_order
from tests.checks.examples import suspicion

X = np.linspace(0, 300, 30)
Y = 11 * np.exp(-0.01 * X)


def fit(factors):
    """Fit a exp(-k x) to the data; its gradient, times the factors.

    At large steps the loss is up to 10^300 times the loss at φ.
    """

    def loss_and_grad(phi, batch):
        wave = np.exp(-phi[1] * X)
        off = phi[0] * wave - Y
        return float(off @ off) / 2, factors * np.array([off @ wave, -(off * phi[0] * X * wave).sum()])

    return loss_and_grad


WRONG = [(-1, -1), (2, 2), (1, 0), (1, 1.1)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("factors", WRONG)
@pytest.mark.parametrize("a", [10.0, 100.0])
def test_huge_remainders_at_large_steps_hide_no_wrong_gradient(a, factors):
    phi = np.array([a, 0.012])
    with np.errstate(over="ignore", invalid="ignore"):  # in the loss, at the largest steps
        assert check_taylor_order(fit((1, 1)), phi, None).unmeasured == ()
        assert "the gradient is wrong" in suspicion(check_taylor_order, fit(factors), phi, None)


@pytest.mark.filterwarnings("error")
def test_the_steps_may_be_so_small_that_their_cubes_are_zero():
    size = 1e110

    def wave(phi, batch):
        return float(np.sin(size * phi).sum()), size * np.cos(size * phi)

    def wave_hvp(factor):
        return lambda phi, batch, v: -factor * size**2 * np.sin(size * phi) * v

    phi = np.array([1.0, 2.0]) / size
    assert check_taylor_order(wave, phi, None, hvp=wave_hvp(1)).holds
    assert "the Hessian product is wrong" in suspicion(check_taylor_order, wave, phi, None, hvp=wave_hvp(2))


NOT_MEASURED = ": nothing found, not even measured along 4 random directions"


@pytest.mark.parametrize("factors", [(1, 1), *WRONG])
@pytest.mark.parametrize("a", [1e5, 9e5])
def test_an_order_that_is_far_too_high_tells_nothing(a, factors):
    """The steps go with the norm of φ: all of them are too large for k."""
    with np.errstate(over="ignore", invalid="ignore"):
        report = check_taylor_order(fit(factors), np.array([a, 0.012]), None)
    assert report.holds
    assert report.unmeasured == (report.direction,)
    assert NOT_MEASURED + " (the remainder falls like t^" in str(report)
    assert "right" not in str(report)


@pytest.mark.parametrize(("power", "measured"), [(4, True), (6, True), (9, True), (12, False)])
def test_up_to_eight_orders_too_many_are_right(power, measured):
    def loss_and_grad(phi, batch):
        return float((phi**power).sum()), power * phi ** (power - 1)

    report = check_taylor_order(loss_and_grad, np.zeros(2), None)
    assert report.holds
    assert bool(report.unmeasured) != measured


def test_the_stated_wrong_gradient_passes_where_all_steps_are_too_large():
    with np.errstate(over="ignore", invalid="ignore"):
        assert check_taylor_order(fit((-1, -1)), np.array([1e4, 0.012]), None).unmeasured == ()


def test_a_remainder_that_shows_at_too_few_steps_is_not_measured():
    def hidden(phi, batch):
        return float(np.float32(1 + 1e-4 * np.sin(phi).sum())), (-1e-4 * np.cos(phi)).astype(np.float32)

    report = check_taylor_order(hidden, np.array([1.0, 2.0, 3.0]), None)
    assert report.holds
    assert NOT_MEASURED in str(report)
    assert "right" not in str(report)


@pytest.mark.parametrize(("size", "measured"), [(3e9, True), (1e12, False)])
def test_an_affine_loss_is_right_only_if_its_change_is_larger_than_rounding(size, measured):
    slope = np.array([3.0, -2.0, 1.0])
    right = check_taylor_order(lambda phi, batch: (size + slope @ phi, slope), np.ones(3), None)
    assert bool(right.unmeasured) != measured


def test_a_change_of_the_loss_that_rounding_almost_hides_is_not_measured():
    """A gradient of 0.8 times the right one leaves a remainder of less than the rounding."""
    slope = np.array([3.0, -2.0, 1.0])
    report = check_taylor_order(lambda phi, batch: (1e10 + slope @ phi, 0.8 * slope), np.ones(3), None)
    assert report.unmeasured


def float32_loss(phi):
    phi = phi.astype(np.float32)
    return float(2 + np.sin(phi).sum()), np.cos(phi)


def with_weight_decay(phi):
    loss, grad = float32_loss(phi)
    return loss + 0.05 * phi @ phi, grad + 0.1 * phi


def mean_of_two(phi):
    (loss, grad), (other, other_grad) = float32_loss(phi), float32_loss(-1.1 * phi)
    return (loss + other) / 2, (grad - 1.1 * other_grad) / 2


@pytest.mark.parametrize("function", [with_weight_decay, mean_of_two])
def test_float32_losses_added_in_float64_need_a_gradient_in_float32(function):
    def returned(kind, factor=1.0):
        return lambda phi, batch: (function(phi)[0], (factor * function(phi)[1]).astype(kind))

    phi = np.array([1.0, 2.0, 3.0])
    said = suspicion(check_taylor_order, returned(np.float64), phi, None)
    assert "rounded to float32: then return the gradient in float32" in said
    assert check_taylor_order(returned(np.float32), phi, None).unmeasured == ()
    said = suspicion(check_taylor_order, returned(np.float32, 1.5), phi, None)
    assert "the gradient is wrong" in said
    assert "float32" not in said
