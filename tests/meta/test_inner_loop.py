"""The inner loop is k optimiser steps; what it keeps does not change where it goes."""

import tracemalloc
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import RunsInnerLoops, Trajectory, adapt, optimizer_step
from reptile_np.meta.meta_gradients import maml
from reptile_np.meta.optimizers import Adam, HeavyBall, Sgd
from reptile_np.nn.models import omniglot_cnn, sine_mlp
from tests.oracles import relative_error
from tests.refusal import refusal
from tests.strategies import random_batch, random_phi, settings_of_a_task

OPTIMIZERS = [Sgd(0.05), HeavyBall(0.05), Adam(0.01), Adam(0.01, beta1=0.9)]
every = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)


@every
@given(setting=settings_of_a_task())
def test_a_trajectory_is_the_loop_written_out(optimizer, setting):
    t = adapt(setting.model, optimizer, setting.phi, setting.batches)
    phi, state = setting.phi, optimizer.init(setting.phi)
    np.testing.assert_array_equal(t.phis[0], phi)
    for i, batch in enumerate(setting.batches):
        loss, grad = setting.model.loss_and_grad(phi, batch)
        phi, state = optimizer.update(grad, state, phi)
        assert t.losses[i] == loss
        np.testing.assert_array_equal(t.grads[i], grad)
        np.testing.assert_array_equal(t.phis[i + 1], phi)
    assert len(t.phis) == len(t.grads) + 1 == len(t.losses) + 1 == len(t.batches) + 1
    for kept, literal in zip(t.state, state, strict=True):
        np.testing.assert_array_equal(kept, literal)


@every
@given(setting=settings_of_a_task())
def test_keeping_the_ends_takes_the_same_steps_bitwise(optimizer, setting):
    whole = adapt(setting.model, optimizer, setting.phi, setting.batches)
    ends = adapt(setting.model, optimizer, setting.phi, setting.batches, keep="ends")
    assert ends.losses == whole.losses
    assert ends.grads == ()
    np.testing.assert_array_equal(ends.phis[0], whole.phis[0])
    np.testing.assert_array_equal(ends.phis[-2], whole.phis[-2])
    np.testing.assert_array_equal(ends.phis[-1], whole.phis[-1])
    for a, b in zip(ends.state, whole.state, strict=True):
        np.testing.assert_array_equal(a, b)


@every
@given(setting=settings_of_a_task())
def test_kept_hessians_are_the_models_own_at_every_step_and_change_nothing_else(optimizer, setting):
    whole = adapt(setting.model, optimizer, setting.phi, setting.batches)
    kept = adapt(setting.model, optimizer, setting.phi, setting.batches, keep="hessians")
    assert whole.hessians == ()
    assert kept.losses == whole.losses
    v = setting.phi + 1
    for i, batch in enumerate(setting.batches):
        np.testing.assert_array_equal(kept.phis[i + 1], whole.phis[i + 1])
        np.testing.assert_array_equal(kept.grads[i], whole.grads[i])
        np.testing.assert_array_equal(kept.hessians[i](v), setting.model.hvp(whole.phis[i], batch, v))


@every
def test_every_table_of_ops_runs_the_same_loop_whatever_it_keeps(optimizer, ops):
    """In float32, k = 4 small steps: rounding (1e-6 per gradient) grows with them, a skipped one is 0.25.

    Adam's first steps have the gradient's sign only, which rounding may flip where the gradient is
    noise; hence the 2-norm, not the largest entry.
    """
    optimizer = replace(optimizer, learning_rate=optimizer.learning_rate / 10)
    model, rng = omniglot_cnn(5, filters=16), np.random.default_rng(0)
    phi = random_phi(model, rng, np.float32)
    batches = [random_batch(model, rng, 5, np.float32) for _ in range(4)]
    reference = adapt(model, optimizer, phi, batches)
    moved = np.linalg.norm(reference.phis[-1] - phi)
    for keep in ("all", "ends", "hessians"):
        t = adapt(model.with_ops(ops), optimizer, phi, batches, keep=keep)
        assert relative_error(t.losses, reference.losses) < 1e-4
        for i in (0, -2, -1):
            assert np.linalg.norm(t.phis[i] - reference.phis[i]) <= 1e-3 * moved
        if isinstance(optimizer, Adam):
            assert t.state.t == 4
            off = np.linalg.norm(t.state.v - reference.state.v)
            assert off <= 1e-4 * np.linalg.norm(reference.state.v)


@every
def test_the_state_runs_on_from_one_loop_to_the_next_and_is_not_changed(optimizer, ops):
    model, rng = sine_mlp().with_ops(ops), np.random.default_rng(0)
    phi = model.init(rng)
    batches = [random_batch(model, rng, 10, np.float32) for _ in range(6)]
    for keep in ("all", "ends", "hessians"):
        first = adapt(model, optimizer, phi, batches[:3], keep=keep)
        copies = [np.copy(part) for part in first.state]
        second = adapt(model, optimizer, first.phis[-1], batches[3:], first.state, keep=keep)
        for part, copy in zip(first.state, copies, strict=True):
            np.testing.assert_array_equal(part, copy)
        whole = adapt(model, optimizer, phi, batches, keep=keep)
        np.testing.assert_array_equal(second.phis[-1], whole.phis[-1])
        if isinstance(optimizer, Adam):
            assert second.state.t == 6


def test_phi_and_the_batches_may_be_read_only_and_are_not_written(ops):
    model, rng = sine_mlp().with_ops(ops), np.random.default_rng(0)
    phi, batch = model.init(rng), random_batch(model, rng, 10, np.float32)
    state = Adam(1e-3).init(phi)
    arrays = phi, *batch, state.m, state.v
    before = [array.copy() for array in arrays]  # C can write where NumPy may not
    for array in arrays:
        array.setflags(write=False)
    for keep in ("all", "ends", "hessians"):
        t = adapt(model, Adam(1e-3), phi, [batch, batch], state, keep=keep)
        assert not np.array_equal(t.phis[-1], phi)
        assert t.phis[0] is phi
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


class Bowl:
    """½ |φ|², so that a loop's own memory is all there is."""

    def loss_and_grad(self, phi, batch):
        return 0.5 * float(phi @ phi), phi.copy()


@pytest.mark.parametrize(("keep", "vectors"), [("all", 2 * 40), ("ends", 0), ("hessians", 2 * 40)])
def test_memory_is_k_vectors_twice_over_or_none_at_all(keep, vectors):
    """Beyond k: three iterates, a gradient and one or two temporaries of the update."""
    phi = np.ones(100_000)
    tracemalloc.start()
    t = adapt(Bowl(), Sgd(0.1), phi, [None] * 40, keep=keep)
    peak = tracemalloc.get_traced_memory()[1] / phi.nbytes
    tracemalloc.stop()
    assert vectors <= peak <= vectors + 6
    assert len(t.phis) == (3 if keep == "ends" else 41)
    assert t.hessians == ()  # a bowl has only its gradient


def test_sqrt_takes_the_memory_of_two_roots_of_k_vectors_and_maml_through_it_of_six():
    class Curved(Bowl):
        def hvp(self, phi, batch, v):
            return v.copy()

    phi = np.ones(100_000)
    tracemalloc.start()
    t = adapt(Curved(), Sgd(0.1), phi, [None] * 100, keep="sqrt")
    kept = tracemalloc.get_traced_memory()[1] / phi.nbytes
    maml(Curved(), 0.1)(t)
    most = tracemalloc.get_traced_memory()[1] / phi.nbytes
    tracemalloc.stop()
    assert kept <= 18
    assert most <= 60  # all segments at once: over 200


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_the_ends_are_three_points_for_any_number_of_steps(k):
    phi = np.ones(2)
    t = adapt(Bowl(), Sgd(0.5), phi, [None] * k, keep="ends")
    assert len(t.phis) == 3
    assert t.phis[0] is phi
    np.testing.assert_array_equal(t.phis[-2], np.full(2, 0.5 ** (k - 1)))
    np.testing.assert_array_equal(t.phis[-1], np.full(2, 0.5**k))


class Own(Bowl, RunsInnerLoops):
    """A bowl that runs loops of three steps itself, and the updates of `Sgd`."""

    def adapt(self, optimizer, phi, batches, state, keep):
        if len(batches) != 3:
            return None
        return Trajectory((phi, phi + 1, phi + 2), (), tuple(batches), (1, 2, 3), (keep, state))

    def update(self, optimizer, grad, state, phi):
        return (phi + 5, state) if isinstance(optimizer, Sgd) else None


def test_a_model_that_runs_inner_loops_is_asked_first_and_python_runs_the_rest():
    phi = np.ones(2)
    own = adapt(Own(), Sgd(0.5), phi, [None] * 3, keep="ends")
    np.testing.assert_array_equal(own.phis[-1], phi + 2)
    assert own.state == ("ends", ())
    plain = adapt(Own(), Sgd(0.5), phi, [None] * 2)
    np.testing.assert_array_equal(plain.phis[-1], np.full(2, 0.25))
    np.testing.assert_array_equal(optimizer_step(Own(), Sgd(0.5), phi, (), phi)[0], phi + 5)
    ball = HeavyBall(0.5)
    np.testing.assert_array_equal(optimizer_step(Own(), ball, phi, ball.init(phi), phi)[0], phi / 2)
    np.testing.assert_array_equal(optimizer_step(Bowl(), Sgd(0.5), phi, (), phi)[0], phi / 2)


def test_the_interface_alone_leaves_everything_to_python():
    model, phi = RunsInnerLoops(), np.ones(2)
    assert model.adapt(Sgd(0.1), phi, [None], (), "all") is None
    assert model.update(Sgd(0.1), phi, (), phi) is None


def test_no_minibatch_is_refused():
    with pytest.raises(UsageError, match=r"^adapt needs at least one minibatch$"):
        adapt(Bowl(), Sgd(0.1), np.ones(2), [])


@pytest.mark.parametrize("keep", ["hessian", "none", 5, None])
def test_what_is_kept_is_one_of_four(keep):
    model, rng = sine_mlp((4, 4)), np.random.default_rng(0)
    with pytest.raises(UsageError, match='give "ends", "sqrt", "all" or "hessians"'):
        adapt(model, Sgd(0.1), random_phi(model, rng), [random_batch(model, rng, 2)], keep=keep)


WRONG_SHAPES = {
    "swapped": lambda phi: (phi.copy(), 0.5),
    "a number": lambda phi: (0.5, phi.sum()),
    "a column": lambda phi: (0.5, phi[:, np.newaxis]),
}


@pytest.mark.parametrize("returned", WRONG_SHAPES)
@pytest.mark.parametrize("keep", ["ends", "sqrt", "all", "hessians"])
def test_a_gradient_of_another_shape_than_phi_is_refused(returned, keep):
    class Wrong:
        def loss_and_grad(self, phi, batch):
            return WRONG_SHAPES[returned](phi)

    with pytest.raises(UsageError, match=r"^loss_and_grad: the gradient has shape \(.*\), phi \(3,\)$"):
        adapt(Wrong(), Sgd(0.1), np.arange(3.0), [None], keep=keep)


@pytest.mark.parametrize(
    ("returned", "line"),
    [
        (np.zeros(3), "loss_and_grad returned a ndarray; return (loss, gradient)"),
        ((0.5, np.zeros(3), 1), "loss_and_grad returned a tuple; return (loss, gradient)"),
        (None, "loss_and_grad returned a NoneType; return (loss, gradient)"),
        ((np.ones(5), np.zeros(3)), "the loss is a ndarray; return one number for the minibatch"),
        (([0.5], np.zeros(3)), "the loss is a list; return one number for the minibatch"),
        ((None, np.zeros(3)), "the loss is a NoneType; return one number for the minibatch"),
    ],
    ids=["gradient alone", "three", "nothing", "losses", "list of losses", "no loss"],
)
def test_a_loss_and_a_gradient_are_one_number_and_one_array(returned, line):
    """The losses of the examples would end in a TypeError of `cmath.isfinite` in `meta_train`."""

    class Wrong:
        def loss_and_grad(self, phi, batch):
            return returned

    assert refusal(adapt, Wrong(), Sgd(0.1), np.zeros(3), [None]).endswith(line)


@pytest.mark.parametrize("model", [Bowl, Bowl().loss_and_grad, None], ids=["class", "function", "none"])
def test_a_model_without_loss_and_grad_is_refused(model):
    assert refusal(adapt, model, Sgd(0.1), np.zeros(3), [None]).endswith(
        "; give an object that has loss_and_grad(phi, batch)"
    )


def test_phi_may_be_a_number():
    class Bowl:
        def loss_and_grad(self, phi, batch):
            return phi**2 / 2, phi

    assert adapt(Bowl(), Sgd(0.5), 4.0, [None] * 2).phis[-1] == 1.0


def test_lists_in_place_of_arrays_are_refused_by_name():
    class Listed:
        def loss_and_grad(self, phi, batch):
            return 0.0, [1.0, 2.0, 3.0]

    with pytest.raises(UsageError, match=r"^adapt: phi is a list; give an array$"):
        adapt(Listed(), Sgd(0.1), [1.0, 2.0, 3.0], [None])
    with pytest.raises(UsageError, match=r"^adapt: phi is a NoneType; give an array$"):
        adapt(Listed(), Sgd(0.1), None, [None])
    with pytest.raises(UsageError, match=r"^loss_and_grad: the gradient is a list; give an array$"):
        adapt(Listed(), Sgd(0.1), np.arange(3.0), [None])


@pytest.mark.parametrize("optimizer", [None, 0.1, np.float32(0.1), "sgd", Sgd, abs, [1]])
def test_what_is_no_optimiser_is_refused(optimizer):
    with pytest.raises(UsageError, match=r"^adapt: the optimizer is .*; give one, such as Sgd\(0.1\)$"):
        adapt(sine_mlp((4,)), optimizer, np.zeros(13), [None])


@pytest.mark.parametrize("keep", ["ends", "sqrt", "all", "hessians"])
def test_minibatches_may_be_any_sequence(keep):
    model, rng = sine_mlp((4,)), np.random.default_rng(0)
    phi, batches = random_phi(model, rng), [random_batch(model, rng, 3) for _ in range(5)]
    one, other = (adapt(model, Sgd(0.1), phi, given, keep=keep) for given in (batches, deque(batches)))
    np.testing.assert_array_equal(one.phis[-1], other.phis[-1])


def test_minibatches_of_a_generator_are_refused():
    with pytest.raises(UsageError, match=r"^adapt: batches is a generator; give a list of minibatches$"):
        adapt(sine_mlp((4,)), Sgd(0.1), np.zeros(13), (None for _ in range(3)))
