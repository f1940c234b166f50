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
