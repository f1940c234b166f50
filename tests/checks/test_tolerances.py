"""How large an error a check allows: for pieces of any size and scale, and where float32 limits it."""

import numpy as np
import pytest

from reptile_np.checks import CheckFailure, check_grad, check_hvp, check_taylor_order
from reptile_np.checks.comparisons import Comparison, Judge
from reptile_np.checks.differences import Slope
from reptile_np.theory.networks import sine_waves


def test_the_tolerance_of_a_piece_does_not_grow_with_its_size():
    n = 400

    def alternating(phi, batch):
        return float(np.sin(phi).sum()), np.cos(phi) * (1 + 5e-6 * (-1.0) ** np.arange(n))

    with pytest.raises(CheckFailure):
        check_grad(alternating, np.linspace(0.1, 1.5, n), None, shapes={"all": (n,)}, directions=1)


def test_a_piece_of_zeros_is_changed_by_as_little_as_the_others():
    def waves(phi, batch):
        return float(np.sin(1e6 * phi).sum()), 1e6 * np.cos(1e6 * phi)

    phi = np.concatenate([1e-6 * np.linspace(1, 2, 5), np.zeros(3)])
    assert check_grad(waves, phi, None, shapes={"kernel": (5,), "bias": (3,)}).holds


def test_a_right_float32_product_is_not_said_to_be_nonlinear():
    rng = np.random.default_rng(0)
    hessian = rng.normal(size=(30, 30)).astype(np.float32)
    hessian += hessian.T

    def bowl(phi, batch):
        phi = phi.astype(np.float32)
        return phi @ hessian @ phi / 2, hessian @ phi

    with pytest.raises(CheckFailure) as failure:
        check_hvp(
            bowl,
            lambda phi, batch, v: hessian @ v.astype(np.float32),
            rng.normal(size=30),
            None,
            tolerance=1e-8,
        )
    assert "float32 rounding only" in str(failure.value)


SINE_WAVES = sine_waves()
BATCHES = [batch for task in SINE_WAVES.tasks for batch in task]


def gradient_off(by):
    def loss_and_grad(phi, batch):
        loss, grad = SINE_WAVES.model.loss_and_grad(phi, batch)
        return loss, (1 + by) * grad

    return loss_and_grad


def product_off(by):
    return lambda phi, batch, v: (1 + by) * SINE_WAVES.model.hvp(phi, batch, v)


def refuses(check, *args, **kwargs):
    try:
        check(*args, **kwargs)
    except CheckFailure:
        return True
    return False


@pytest.mark.parametrize("batch", BATCHES)
def test_the_taylor_order_shows_errors_of_the_stated_sizes_and_none_that_are_smaller(batch):
    """A third of the smallest size stated, and three times the largest one."""
    right, phi = gradient_off(0), SINE_WAVES.phi
    for by, refused in ((8e-5 / 3, False), (3 * 6e-4, True)):
        assert refuses(check_taylor_order, right, phi, batch, hvp=product_off(by)) == refused
    for by, refused in ((3e-6 / 3, False), (3 * 4e-5, True)):
        assert refuses(check_taylor_order, gradient_off(by), phi, batch) == refused


@pytest.mark.parametrize("batch", BATCHES)
def test_slopes_show_smaller_errors_than_the_taylor_order(batch):
    right, phi = gradient_off(0), SINE_WAVES.phi
    for by, refused in ((3e-7, False), (3e-6, True)):
        assert refuses(check_grad, gradient_off(by), phi, batch) == refused
        assert refuses(check_hvp, right, product_off(by), phi, batch) == refused


JUDGE = Judge("gradient", "the slope of the loss", tolerance=1e-6)


@pytest.mark.parametrize("share", [0.99, 1.01])
def test_an_error_over_all_of_phi_is_relative_to_the_root_mean_square_of_all_slopes(share):
    """The slopes 1 and 7 have the root mean square 5; it is also the size that the small one is held to."""
    compared = [
        Comparison("small", np.array(1 + share * 5e-6), Slope(np.array(1.0), 0.0)),
        Comparison("large", np.array(7.0), Slope(np.array(7.0), 0.0)),
    ]
    if share < 1:
        assert JUDGE.verdict(compared).error == pytest.approx(share * 1e-6)
    else:
        with pytest.raises(CheckFailure, match="small"):
            JUDGE.verdict(compared)


@pytest.mark.parametrize("share", [0.99, 1.01])
@pytest.mark.parametrize(("rounding", "least"), [(0.0, 3e-6), (1e-7, 4e-6)])
def test_a_jump_is_a_kink_beyond_the_tolerance_and_forty_rounding_errors(rounding, least, share):
    slope = Slope(np.array(3.0), 0.0, rounding=rounding, jump=share * least)
    compared = [Comparison("all", np.array(3.0), slope)]
    if share < 1:
        assert JUDGE.verdict(compared).error == 0
    else:
        with pytest.raises(CheckFailure, match="a kink"):
            JUDGE.verdict(compared)
