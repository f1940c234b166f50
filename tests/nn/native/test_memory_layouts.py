"""Vectors, targets, rates and moments of any layout in memory give bitwise the results of contiguous ones."""

import numpy as np

from reptile_np.meta import inner_loop, optimizers
from reptile_np.nn.models import sine_mlp
from tests import native_kernels
from tests.nn.native.networks import counted, single


def test_phi_the_targets_and_v_may_be_strided(variant):
    network = sine_mlp((4,)).with_ops(native_kernels.load(variant, 1))
    phi, (x, y), v = single(network, np.random.default_rng(0), 3)
    apart = [np.repeat(a, 2, axis=0)[::2] for a in (phi, y, v)]
    expected = network.loss_and_grad(phi, (x, y))[1], network.predict(phi, x), network.hvp(phi, (x, y), v)
    kept_product = network.linearize(phi, (x, y)).hvp(v)
    for p, targets, d in (apart, (phi, apart[1], v), (apart[0], y, v), (phi, y, apart[2])):
        batch = x, targets
        found = network.loss_and_grad(p, batch)[1], network.predict(p, x), network.hvp(p, batch, d)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        kept = inner_loop.adapt(network, optimizers.Sgd(0.1), p, [batch], keep="hessians").hessians[0]
        for hessian in (network.linearize(p, batch).hvp, kept):
            np.testing.assert_array_equal(hessian(d), kept_product)


def test_rates_may_be_strided_or_reversed(variant):
    network = sine_mlp((4,)).with_ops(native_kernels.load(variant, 1))
    phi, batch, _ = single(network, np.random.default_rng(0), 3)
    rates = np.linspace(0.01, 0.03, len(phi)).astype(np.float32)
    counts = counted(network)
    for given in (np.repeat(rates, 2)[::2], rates[::-1].copy()[::-1]):
        t = inner_loop.adapt(network, optimizers.Sgd(given), phi, [batch] * 2, keep="ends")
        same = inner_loop.adapt(network, optimizers.Sgd(rates), phi, [batch] * 2, keep="ends")
        np.testing.assert_array_equal(t.phis[-1], same.phis[-1])
    assert counts == {"loop": 4}


def test_moments_may_be_columns_of_one_array(variant):
    network, rule = sine_mlp((4,)).with_ops(native_kernels.load(variant, 1)), optimizers.Adam(1e-3, 0.9)
    phi, batch, _ = single(network, np.random.default_rng(0), 3)
    state = inner_loop.adapt(network, rule, phi, [batch], keep="ends").state
    m, v = np.stack([state.m, state.v], axis=1).T
    assert not m.flags.c_contiguous
    counts = counted(network)
    for keep in ("ends", "all"):
        t = inner_loop.adapt(network, rule, phi, [batch] * 2, state._replace(m=m, v=v), keep=keep)
        same = inner_loop.adapt(network, rule, phi, [batch] * 2, state, keep=keep)
        np.testing.assert_array_equal(t.phis[-1], same.phis[-1])
    assert counts == {"loop": 4}
