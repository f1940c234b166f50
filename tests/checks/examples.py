"""A model and a loss to check, and what a check says of a wrong one."""

import numpy as np
import pytest

from reptile_np.checks import CheckFailure
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import Model, sine_mlp
from reptile_np.nn.parameter_free import Flatten, Relu

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


def scaled(factor):
    def loss_and_grad(phi, batch):
        loss, grad = SINE.loss_and_grad(phi, batch)
        return loss, factor * grad

    return loss_and_grad


HESSIAN = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 4.0]])


def quadratic(phi, batch):
    return phi @ HESSIAN @ phi / 2, HESSIAN @ phi


TARGET = np.array([1.0, 2.0, 3.0])


PHI = np.array([1.0, -2.0, 0.5])


def right(phi, batch):
    return float((phi**4).sum()), 4 * phi**3


def right_hvp(phi, batch, v):
    return 12 * phi**2 * v
