"""A family of sine tasks, and the expansion of a meta-gradient on it."""

import pytest

from reptile_np.checks import CheckFailure, meta_gradient_expansion
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import maml
from reptile_np.meta.optimizers import Sgd
from reptile_np.theory.networks import sine_waves

FAMILY = sine_waves(tasks=2, batches=3)


def expansion_of(direction, optimizer=Sgd, k=3, family=FAMILY, **kwargs):
    model = family.model

    def meta_gradient(phi, batches, alpha):
        return direction(alpha)(adapt(model, optimizer(alpha), phi, batches))

    return meta_gradient_expansion(
        meta_gradient, model.loss_and_grad, model.hvp, family.phi, family.tasks, k, **kwargs
    )


def suspicion(*args, **kwargs):
    """What the failure report says."""
    with pytest.raises(CheckFailure) as failure:
        expansion_of(*args, **kwargs)
    assert not failure.value.report.holds
    return str(failure.value)


def exact_maml(alpha):
    return maml(FAMILY.model, alpha)


def changed(by):
    """MAML, and then something done to the direction."""
    return lambda alpha: lambda t: by(exact_maml(alpha)(t))


def hessians_at_the_start(alpha):
    def direction(t):
        u = t.grads[-1]
        for batch in t.batches[-2::-1]:
            u = u - alpha * FAMILY.model.hvp(t.phis[0], batch, u)
        return u

    return direction
