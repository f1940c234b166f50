"""Kinks near φ, and entries of φ of different scales: what is right passes, what is wrong does not."""

import numpy as np
import pytest

from reptile_np.checks import check_grad, check_hvp
from reptile_np.nn.models import conv_cnn
from tests.checks.examples import suspicion


def test_a_network_with_many_relus_is_measured_between_their_kinks():
    """Some of its thousands of ReLUs have kinks within 2⁻⁹ of the first step."""
    model = conv_cnn((12, 12, 1), ways=3, filters=4)
    rng = np.random.default_rng(2)
    phi, options = model.init(rng, float), {"shapes": model.layout.shapes, "directions": 1}
    batch = rng.random((10, 12, 12, 1)), np.arange(10) % 3
    assert check_grad(model.loss_and_grad, phi, batch, **options).holds
    assert check_hvp(model.loss_and_grad, model.hvp, phi, batch, **options).holds

    def wrong(phi, batch):
        loss, grad = model.loss_and_grad(phi, batch)
        grad[-1] *= 1.001
        return loss, grad

    said = suspicion(check_grad, wrong, phi, batch, **options)
    assert said.splitlines()[1] == "  suspect: only piece dense/bias"


SAMPLES = 1000 + 0.01 * np.random.default_rng(0).standard_normal(20)


def gaussian(phi, batch):
    """The negative log-likelihood of samples for their mean and sigma φ; NaN for a sigma below 0."""
    mean, sigma = phi
    if sigma <= 0:
        return np.nan, np.full(2, np.nan)
    off = (batch - mean) / sigma
    return float((np.log(sigma) + off**2 / 2).sum()), np.array([-off.sum(), (1 - off**2).sum()]) / sigma


def logistic(phi, batch):
    """Logistic regression on features whose sizes differ as much as the entries of φ."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 3)) * [10, 1000, 0.02], rng.integers(0, 2, 30)
    z = x @ phi
    return float((np.logaddexp(0, z) - y * z).sum()), x.T @ (1 / (1 + np.exp(np.minimum(-z, 700))) - y)


def overflowing(phi, batch):
    """Finite, but near the largest float64, at the first step."""
    with np.errstate(over="ignore"):
        power = np.exp(1e3 * (phi[1] - 0.01))
        return float(power), np.array([0.0, 1e3 * power])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("function", "phi"), [(gaussian, [1000, 0.01]), (logistic, [0.1, 1e-3, 50]), (overflowing, [100, 0.01])]
)
def test_entries_of_phi_may_have_different_scales(function, phi):
    assert check_grad(function, np.array(phi, dtype=float), SAMPLES).holds

    def wrong(phi, batch):
        loss, grad = function(phi, batch)
        return loss, grad * np.array([1, 1.01, 1])[: len(phi)]

    assert "wrong" in suspicion(check_grad, wrong, np.array(phi, dtype=float), SAMPLES)
