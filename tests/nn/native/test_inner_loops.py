"""Inner loops and optimiser steps in C: they run there, and take the steps that Python takes."""

import pickle

import numpy as np
import pytest
from hypothesis import given

from reptile_np.errors import UsageError
from reptile_np.meta import inner_loop, optimizers
from reptile_np.nn.models import sine_mlp
from reptile_np.nn.native.optimizers import LAST_STEP
from tests import native_kernels
from tests.nn.native.networks import PAPERS, counted, single
from tests.strategies import random_batch, random_phi, rngs


@pytest.fixture(scope="module", params=[name for name in PAPERS if "mini-imagenet, 9" not in name])
def model(request):
    """Without the two slowest networks: their gradients are in test_networks, their loops are like others."""
    return PAPERS[request.param]


@pytest.fixture(
    scope="module",
    params=[
        "omniglot, 20-way, 7 filters",
        "mini-imagenet, v1, 4 filters",
        "finn, omniglot, 20-way, 7 filters",
        "sine",
    ],
)
def small(request):
    """One network of each kind: what a loop keeps, and where it runs, does not depend on sizes."""
    return PAPERS[request.param]


RULES = {
    "sgd": lambda model: optimizers.Sgd(0.02),
    "sgd, a rate for each parameter": lambda model: optimizers.Sgd(rates_of(model)),
    "adam": lambda model: optimizers.Adam(1e-3, beta1=0.0),
    "adam with momentum": lambda model: optimizers.Adam(1e-3, beta1=0.9),
}


def rates_of(model):
    """Different rates, every third of them 0."""
    rates = np.random.default_rng(0).uniform(0.01, 0.03, model.layout.size).astype(np.float32)
    rates[::3] = 0
    return rates


@pytest.mark.parametrize("rule", RULES)
def test_a_step_in_c_is_the_optimizers_update_of_the_networks_own_gradient(variant, model, rule):
    """Within a few roundings of each entry: 8 units of the step (Adam's has 8 operations), one of φ."""
    rng, rule, unit = np.random.default_rng(1), RULES[rule](model), np.finfo(np.float32).eps
    network = model.with_ops(native_kernels.load(variant, 1))
    phi, batch, _ = single(model, rng, 4)
    state = rule.init(phi)
    for _ in range(3):  # from the second step on, the state has a history
        given = pickle.dumps((phi, state))
        ends = inner_loop.adapt(network, rule, phi, [batch], state, keep="ends")
        loss, grad = network.loss_and_grad(phi, batch)
        expected, expected_state = rule.update(grad, state, phi)
        assert pickle.dumps((phi, state)) == given  # nothing given is changed
        assert ends.losses == (loss,)
        np.testing.assert_array_equal(ends.phis[-2], phi)
        allowed = unit * (8 * np.abs(expected - phi) + np.abs(phi))
        assert (np.abs(ends.phis[-1] - expected) <= allowed).all()
        if np.ndim(rule.learning_rate):
            kept = rule.learning_rate == 0
            np.testing.assert_array_equal(ends.phis[-1][kept], phi[kept])
        if isinstance(rule, optimizers.Adam):
            assert ends.state.t == expected_state.t
            np.testing.assert_allclose(ends.state.v, expected_state.v, rtol=8 * unit)
            terms = np.abs(state.m) + np.abs(grad) if rule.beta1 else 0
            assert (np.abs(ends.state.m - expected_state.m) <= 4 * unit * terms).all()
        phi, state = ends.phis[-1], ends.state


@pytest.mark.parametrize("keep", ["sqrt", "all", "hessians"])
@pytest.mark.parametrize("rule", RULES)
def test_a_loop_that_keeps_more_than_its_ends_takes_the_same_steps_bitwise(variant, small, rule, keep):
    rng, rule = np.random.default_rng(1), RULES[rule](small)
    network = small.with_ops(native_kernels.load(variant, 1))
    phi = random_phi(small, rng, np.float32)
    batches = [random_batch(small, rng, 4, np.float32) for _ in range(3)]
    kept = inner_loop.adapt(network, rule, phi, batches, keep=keep)
    ends = inner_loop.adapt(network, rule, phi, batches, keep="ends")
    assert kept.losses == ends.losses
    np.testing.assert_array_equal(kept.phis[-2], ends.phis[-2])
    np.testing.assert_array_equal(kept.phis[-1], ends.phis[-1])
    assert pickle.dumps(kept.state) == pickle.dumps(ends.state)


@pytest.mark.parametrize("rule", RULES)
def test_what_a_loop_keeps_of_each_step_is_what_one_step_there_gives_bitwise(variant, model, rule):
    """Loss, gradient, Hessian product, next point and next state.

    Minibatches of three sizes: at 7 examples every variant has Winograd tiles in Omniglot's second layer.
    """
    rng, rule = np.random.default_rng(1), RULES[rule](model)
    network = model.with_ops(native_kernels.load(variant, 2))
    phi, _, v = single(model, rng, 1)
    batches = [random_batch(model, rng, examples, np.float32) for examples in (4, 4, 3, 7)]
    t = inner_loop.adapt(network, rule, phi, batches, keep="hessians")
    assert [len(kept) for kept in (t.phis, t.grads, t.states, t.losses, t.hessians)] == [5, 4, 4, 4, 4]
    states = (*t.states, t.state)
    for i, batch in enumerate(batches):
        loss, grad = network.loss_and_grad(t.phis[i], batch)
        assert t.losses[i] == loss
        np.testing.assert_array_equal(t.grads[i], grad)
        following, state = network.update(rule, grad, states[i], t.phis[i])
        np.testing.assert_array_equal(t.phis[i + 1], following)
        assert pickle.dumps(states[i + 1]) == pickle.dumps(state)
        np.testing.assert_array_equal(t.hessians[i](v), network.linearize(t.phis[i], batch).hvp(v))


@given(rng=rngs)
def test_sgd_on_a_displacement_is_the_outer_interpolation(variant, rng):
    """``φ + ε (W - φ)``: exact on integers and a power of two, else two roundings of it and one of φ."""
    model, unit = sine_mlp().with_ops(native_kernels.load(variant)), np.finfo(np.float32).eps
    phi, w = rng.integers(-99, 99, (2, model.layout.size)).astype(np.float32)
    moved, state = model.update(optimizers.Sgd(0.25), phi - w, (), phi)
    np.testing.assert_array_equal(moved, phi + np.float32(0.25) * (w - phi))
    assert state == ()
    phi, w = rng.normal(size=(2, phi.size)).astype(np.float32)
    moved, _ = model.update(optimizers.Sgd(0.3), phi - w, (), phi)
    step = 0.3 * (w.astype(float) - phi)
    assert (np.abs(moved - (phi + step)) <= unit * (2 * np.abs(step) + np.abs(phi))).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_loop_of_k_steps_is_k_loops_of_one_step_bitwise(variant, model, rule):
    rng, rule = np.random.default_rng(1), RULES[rule](model)
    network = model.with_ops(native_kernels.load(variant, 1))
    phi = random_phi(model, rng, np.float32)
    batches = [random_batch(model, rng, examples, np.float32) for examples in (5, 5, 3, 5)]
    whole = inner_loop.adapt(network, rule, phi, batches, keep="ends")
    state, losses = rule.init(phi), []
    for batch in batches:
        step = inner_loop.adapt(network, rule, phi, [batch], state, keep="ends")
        (before, phi), state = step.phis[-2:], step.state
        losses += step.losses
    np.testing.assert_array_equal(whole.phis[-2], before)
    np.testing.assert_array_equal(whole.phis[-1], phi)
    assert list(whole.losses) == losses
    assert pickle.dumps(whole.state) == pickle.dumps(state)


@pytest.mark.parametrize("rule", ["sgd, a rate for each parameter", "adam with momentum"])
def test_an_inner_loop_is_bitwise_the_same_on_any_number_of_threads(variant, model, rule):
    rng, rule = np.random.default_rng(2), RULES[rule](model)
    phi = random_phi(model, rng, np.float32)
    batches = [random_batch(model, rng, examples, np.float32) for examples in (3, 7, 7)]
    runs = [
        inner_loop.adapt(model.with_ops(native_kernels.load(variant, n)), rule, phi, batches, keep="ends")
        for n in (1, 2, 3)
    ]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.phis[-1], runs[0].phis[-1])
        assert pickle.dumps(run.state) == pickle.dumps(runs[0].state)


def calls_of(network, rule, keep, batches):
    """How often each C function is called by an inner loop; and the trajectory."""
    phi, counts = network.init(np.random.default_rng(0)), counted(network)
    t = inner_loop.adapt(network, rule, phi, batches, keep=keep)
    return counts, t


IN_C = {
    "ends": {"loop": 1},
    "sqrt": {"loop": 2},
    "all": {"loop": 1},
    "hessians": {"loop": 1},
}


@pytest.mark.parametrize("keep", IN_C)
@pytest.mark.parametrize("rule", RULES)
def test_the_steps_of_sgd_and_adam_do_run_in_c(variant, small, rule, keep):
    """Without this, the other tests could compare Python with itself."""
    network, rng = small.with_ops(native_kernels.load(variant, 1)), np.random.default_rng(0)
    batches = [random_batch(small, rng, 4, np.float32) for _ in range(3)]
    counts, t = calls_of(network, RULES[rule](small), keep, batches)
    assert counts == IN_C[keep]
    assert len(t.phis) == (3 if keep in ("ends", "sqrt") else 4)
    assert len(t.hessians) == (3 if keep == "hessians" else 0)


class Cautious(optimizers.Sgd):
    """A subclass may do something else."""


class CautiousAdam(optimizers.Adam):
    """As `Cautious`."""


OTHERS = {
    "heavy ball": optimizers.HeavyBall(0.01),
    "subclass": Cautious(0.02),
    "subclass of adam": CautiousAdam(1e-3),
    "adam with rates": optimizers.Adam(np.full(sine_mlp().layout.size, 1e-3, np.float32)),
    "rates in float16": optimizers.Sgd(np.full(sine_mlp().layout.size, 0.02, np.float16)),
}


@pytest.mark.parametrize("keep", IN_C)
@pytest.mark.parametrize("rule", OTHERS)
def test_the_steps_of_any_other_optimiser_run_in_python(variant, keep, rule):
    network, rng = sine_mlp().with_ops(native_kernels.load(variant, 1)), np.random.default_rng(0)
    batches = [random_batch(network, rng, 4, np.float32) for _ in range(3)]
    counts, t = calls_of(network, OTHERS[rule], keep, batches)
    assert counts == {"loss_and_grad": 3}
    assert len(t.hessians) == (3 if keep == "hessians" else 0)


def test_a_step_with_a_complex_rate_is_taken_in_python(variant):
    network = sine_mlp().with_ops(native_kernels.load(variant, 1))
    phi = network.init(np.random.default_rng(0))
    end, _ = inner_loop.optimizer_step(network, optimizers.Sgd(1j), phi, (), phi)
    np.testing.assert_array_equal(end, phi - 1j * phi)


@pytest.mark.parametrize("keep", IN_C)
def test_one_step_of_any_optimiser_gives_three_points_if_the_ends_are_kept(variant, keep):
    network, rng = sine_mlp().with_ops(native_kernels.load(variant, 1)), np.random.default_rng(0)
    phi, batches = network.init(rng), [random_batch(network, rng, 4, np.float32)]
    for rule in (*(rule(network) for rule in RULES.values()), optimizers.HeavyBall(0.01)):
        t = inner_loop.adapt(network, rule, phi, batches, keep=keep)
        assert len(t.phis) == (3 if keep in ("ends", "sqrt") else 2)
        assert t.phis[0] is phi
        np.testing.assert_array_equal(t.phis[-2], phi)


def test_the_outer_step_of_sgd_and_adam_runs_in_c_and_others_in_numpy(variant):
    network = sine_mlp().with_ops(native_kernels.load(variant))
    phi, _, _ = single(network, np.random.default_rng(0), 3)
    for other in (optimizers.HeavyBall(0.01), optimizers.Adam(1e-3), optimizers.Sgd(0.1)):
        for grad in (phi, phi.astype(float)):  # a float64 direction, too
            answer = network.update(other, grad, other.init(grad), phi)
            in_c = grad is phi and not isinstance(other, optimizers.HeavyBall)
            assert (answer is not None) == in_c
            actual, _ = inner_loop.optimizer_step(network, other, grad, other.init(grad), phi)
            expected, _ = other.update(grad, other.init(grad), phi)
            assert actual.dtype == expected.dtype
            np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_an_inner_loop_without_a_minibatch_is_not_run(variant):
    network = sine_mlp().with_ops(native_kernels.load(variant))
    phi = network.init(np.random.default_rng(0))
    assert network.adapt(optimizers.Sgd(0.1), phi, [], (), "ends") is None
    with pytest.raises(UsageError, match="at least one minibatch"):
        inner_loop.adapt(network, optimizers.Sgd(0.1), phi, [])


def test_rates_and_moments_that_do_not_fit_do_not_reach_c(variant):
    """C would read behind their end; with a state given, `init` does not check them."""
    network = sine_mlp().with_ops(native_kernels.load(variant, 1))
    phi, batch, _ = single(network, np.random.default_rng(0), 3)
    few, wide, fits = np.ones(3, np.float32), np.zeros(len(phi)), np.zeros_like(phi)
    momentum = optimizers.Adam(1e-3, 0.9)
    for rule, state in (
        (optimizers.Sgd(few), ()),
        (optimizers.Adam(1e-3), optimizers.AdamState(phi[:0], few, 0)),
        (momentum, optimizers.AdamState(few, fits, 0)),
        (momentum, optimizers.AdamState(wide, fits, 0)),
    ):
        assert network.update(rule, phi, state, phi) is None
        assert network.adapt(rule, phi, [batch], state, "ends") is None


@pytest.mark.parametrize("keep", IN_C)
def test_adams_steps_beyond_32_bits_are_counted_in_python(variant, keep):
    network, rule = sine_mlp().with_ops(native_kernels.load(variant)), optimizers.Adam(1e-3, 0.9)
    rng = np.random.default_rng(0)
    phi, batch, _ = single(network, rng, 3)
    for t in (LAST_STEP - 1, LAST_STEP, 2**40):
        state = rule.init(phi)._replace(t=t)
        trajectory = inner_loop.adapt(network, rule, phi, [batch] * 2, state, keep=keep)
        expected = phi
        for _ in range(2):
            expected, state = rule.update(network.loss_and_grad(expected, batch)[1], state, expected)
        assert trajectory.state.t == t + 2
        np.testing.assert_allclose(trajectory.phis[-1], expected, rtol=1e-5)


@pytest.mark.parametrize(
    "optimizer", [optimizers.Sgd(0.1), optimizers.Adam(0.1), optimizers.Adam(0.1, beta1=0.9)]
)
def test_a_state_of_another_optimiser_or_of_another_phi_is_refused(optimizer):
    network = sine_mlp((4,)).with_ops(native_kernels.load())
    phi = network.init(np.random.default_rng(0))
    x = np.ones((2, 1), np.float32)
    others = [optimizers.HeavyBall(0.1).init(phi), optimizers.Adam(0.1, beta1=0.9).init(phi[:1])]
    for state in others:
        with pytest.raises(UsageError, match="is of another optimiser"):
            inner_loop.adapt(network, optimizer, phi, [(x, x)], state)
