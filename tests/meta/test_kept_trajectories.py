"""What a trajectory keeps of its steps does not change the direction, on any table of kernels."""

import itertools
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import maml
from reptile_np.meta.optimizers import Adam, HeavyBall, Sgd
from reptile_np.nn.model import Linearization
from reptile_np.nn.models import Model, omniglot_cnn
from tests.meta.optimizer_kinds import kinds, optimizers_of
from tests.strategies import random_batch, random_phi, seeds, settings_of_a_task

KEEPS = ("sqrt", "all", "hessians")


@kinds
@given(setting=settings_of_a_task(steps=(1, 11)), weighted=st.booleans(), seed=seeds)
def test_what_a_trajectory_keeps_does_not_change_the_direction_bitwise(kind, setting, weighted, seed):
    optimizer = optimizers_of(len(setting.phi), np.random.default_rng(seed), 0.05)[kind]
    weights = [1 + i for i in range(len(setting.batches))] if weighted else None
    meta_gradient = maml(setting.model, optimizer, weights)
    loops = [adapt(setting.model, optimizer, setting.phi, setting.batches, keep=keep) for keep in KEEPS]
    for t, other in itertools.pairwise(loops):
        np.testing.assert_array_equal(meta_gradient(t), meta_gradient(other))
        assert t.losses == other.losses
        np.testing.assert_array_equal(t.phis[-2:], other.phis[-2:])


class Decayed(Model):
    """A network with weight decay; it does not override `linearize`."""

    def loss_and_grad(self, phi, batch):
        loss, grad = super().loss_and_grad(phi, batch)
        return loss + 0.5 * phi @ phi, grad + phi

    def hvp(self, phi, batch, v):
        return super().hvp(phi, batch, v) + v


class Linearized(Decayed):
    """It does."""

    def linearize(self, phi, batch):
        loss, grad = self.loss_and_grad(phi, batch)
        return Linearization(loss, grad, lambda v: self.hvp(phi, batch, v))


@pytest.mark.parametrize("subclass", [Decayed, Linearized])
def test_a_subclass_that_overrides_loss_and_product_has_one_direction_whatever_is_kept(ops, subclass):
    plain, rng = omniglot_cnn(5, filters=3), np.random.default_rng(0)
    model = subclass(plain.layers, plain.input_shape, plain.loss).with_ops(ops)
    phi, batches = random_phi(model, rng), [random_batch(model, rng, 5) for _ in range(3)]
    one, *others = loops = [adapt(model, Sgd(0.1), phi, batches, keep=keep) for keep in KEEPS]
    assert one.losses == tuple(
        model.loss_and_grad(p, b)[0] for p, b in zip(others[0].phis, batches, strict=False)
    )
    assert [len(t.hessians) for t in loops] == [0, 0, 3 if subclass is Linearized else 0]
    for other in others:
        assert one.losses == other.losses
        np.testing.assert_array_equal(maml(model, 0.1)(one), maml(model, 0.1)(other))


SINGLES = [Sgd(3e-3), Adam(1e-3, epsilon=1e-3), Adam(1e-3, 0.9, epsilon=1e-3), HeavyBall(3e-3)]
"""Adam's usual ε makes a step of the rounding in gradients that are 0: of biases before batch norm."""


@lru_cache
def omniglot_setting(optimizer, steps):
    """A network, φ, minibatches, all in float32, and MAML's direction in float64."""
    model, rng = omniglot_cnn(5, filters=16), np.random.default_rng(0)
    phi = random_phi(model, rng, np.float32)
    batches = [random_batch(model, rng, 5, np.float32) for _ in range(steps)]
    wide = [(x.astype(float), y) for x, y in batches]
    expected = maml(model, optimizer)(adapt(model, optimizer, phi.astype(float), wide))
    return model, phi, batches, expected


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("optimizer", SINGLES, ids=str)
def test_every_table_of_ops_gives_one_direction_whatever_is_kept(ops, optimizer, steps):
    """float32: bitwise for one table of kernels, and near the direction in float64."""
    model, phi, batches, expected = omniglot_setting(optimizer, steps)
    native = model.with_ops(ops)
    one, *others = (
        maml(native, optimizer)(adapt(native, optimizer, phi, batches, keep=keep)) for keep in KEEPS
    )
    assert one.dtype == np.float32
    assert np.linalg.norm(one - expected) <= 1e-4 * np.linalg.norm(expected)  # measured: 1.2e-6
    for other in others:
        np.testing.assert_array_equal(other, one)


def test_a_vector_of_rates_in_float32_stays_in_float32_on_every_table_of_ops(ops):
    model, rng = omniglot_cnn(5, filters=16), np.random.default_rng(0)
    phi = random_phi(model, rng, np.float32)
    rates = (3e-3 * rng.integers(0, 2, len(phi))).astype(np.float32)
    batches = [random_batch(model, rng, 5, np.float32) for _ in range(3)]
    wide = [(x.astype(float), y) for x, y in batches]
    expected = maml(model, rates)(adapt(model, Sgd(rates), phi.astype(float), wide))
    native = model.with_ops(ops)
    for keep in KEEPS:
        direction = maml(native, rates)(adapt(native, Sgd(rates), phi, batches, keep=keep))
        assert direction.dtype == np.float32
        assert np.linalg.norm(direction - expected) <= 1e-3 * np.linalg.norm(expected)


def test_segments_keep_the_square_root_of_the_points():
    model, rng = omniglot_cnn(5, filters=2), np.random.default_rng(0)
    phi = random_phi(model, rng)
    for k, counts in ((1, [1]), (2, [2]), (9, [3, 3, 3]), (10, [4, 4, 2]), (100, [10] * 10)):
        t = adapt(model, Sgd(0.0), phi, [random_batch(model, rng, 2)] * k, keep="sqrt")
        assert [len(segment.batches) for segment in t.segments] == counts
        assert len(t.phis) == 3
        assert t.grads == t.states == ()
