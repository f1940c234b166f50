"""Exact statements about the loops and the streams: in fractions and integers, with equality."""

import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments.streams import Streams
from reptile_np.meta.evaluation import (
    Accuracy,
    Episode,
    evaluate,
    non_transductive_logits,
    squared_error,
    transductive_logits,
)
from reptile_np.meta.meta_gradients import reptile
from reptile_np.meta.optimizers import HeavyBall, Sgd
from reptile_np.meta.training import begin, meta_train
from reptile_np.nn.models import sine_mlp

F = Fraction


def optimizers():
    """The inner and the outer one: both with momentum, so that a state which is lost is noticed."""
    return HeavyBall(F(1, 2), F(1, 3)), HeavyBall(F(1), F(1, 5))


class Parabola:
    """L(φ) = (φ - batch)² / 2 for φ (1,) and a fraction `batch`."""

    def loss_and_grad(self, phi, batch):
        return (phi[0] - batch) ** 2 / 2, phi - batch


def episodes(i, j):
    """Three minibatches, different for every place: their number is not that of the tasks."""
    return [F(3 * i + 7 * j + 1), F(i * i - 5 * j + 2), F(i - 2 * j)]


def rate(i):
    return F(1, i + 2)


def by_hand(steps, first=0, start=None):
    """Algorithm 2 written out: (φ, v, u, first loss, last loss) after each step."""
    phi, v, u = start or (F(4), F(0), F(0))
    for i in range(first, steps):
        total, firsts, lasts = F(0), 0.0, 0.0
        for j in range(2):
            w = phi
            losses = []
            for b in episodes(i, j):
                losses.append((w - b) ** 2 / 2)
                v = v / 3 + (w - b)
                w = w - v / 2
            total += phi - w
            firsts, lasts = firsts + losses[0], lasts + losses[-1]
        u = u / 5 + total / 2
        phi = phi - rate(i) * u
        yield phi, v, u, firsts / 2, lasts / 2


def run(steps, start=None, places=episodes, model=None):
    inner, outer = optimizers()
    start = start or begin(np.array([F(4)]), inner, outer)
    return list(
        meta_train(
            model or Parabola(),
            start,
            places,
            meta_gradient=reptile,
            inner=inner,
            outer=lambda i: HeavyBall(rate(i), outer.momentum),
            outer_steps=steps,
            meta_batch=2,
        )
    )


def numbers(step):
    return (
        step.phi[0],
        step.inner_state.velocity[0],
        step.outer_state.velocity[0],
        step.first_loss,
        step.last_loss,
    )


def the_outer_loop_is_algorithm_2():
    steps = run(3)
    assert [step.done for step in steps] == [1, 2, 3]
    assert [numbers(step) for step in steps] == list(by_hand(3))


def a_run_that_stopped_goes_on_from_its_state():
    whole = run(3)
    assert [numbers(step) for step in run(3, start=whole[0])] == [numbers(step) for step in whole[1:]]
    assert run(3, start=whole[-1]) == []


def training_begins_at_rest_from_the_given_point():
    start = begin(np.array([F(4)]), *optimizers())
    assert (start.done, start.phi[0], start.first_loss, start.last_loss) == (0, 4, None, None)
    assert start.inner_state.velocity[0] == start.outer_state.velocity[0] == 0
    assert HeavyBall(1.0).momentum == 0.9


def a_loss_that_is_not_finite_is_refused_with_its_place():
    for bad in (np.inf, np.nan):

        def places(i, j, bad=bad):
            return [1.0, bad if (i, j) == (1, 0) else 2.0]

        model = SimpleNamespace(loss_and_grad=lambda phi, batch: (batch, 0 * phi))
        with pytest.raises(UsageError, match="outer step 2, task 1, inner step 2"):
            run(3, places=places, model=model)


class Table:
    """Logits of integers: example x of a batch has logits (x, φ + number of the batch's sum)."""

    def predict(self, phi, x):
        return np.stack([x[:, 0], np.broadcast_to(phi[0] + x.sum(), len(x))], 1)

    def loss_and_grad(self, phi, batch):
        return 0, np.array([batch])


SUPPORT, QUERY = np.array([[-5], [1]]), np.array([[2], [7], [-4]])


def non_transductive_logits_are_of_the_support_set_and_one_query():
    phi = np.array([10])
    rows = non_transductive_logits(Table(), phi, SUPPORT, QUERY)
    np.testing.assert_array_equal(rows, [[2, 10 - 4 + 2], [7, 10 - 4 + 7], [-4, 10 - 4 - 4]])


def transductive_logits_are_of_all_queries_together():
    rows = transductive_logits(Table(), np.array([10]), SUPPORT, QUERY)
    np.testing.assert_array_equal(rows, [[2, 15], [7, 15], [-4, 15]])


class Chosen:
    """Predicts class 1 for every example from φ = 0 on, else class 0."""

    def predict(self, phi, x):
        return np.broadcast_to([0, 1 if phi[0] >= 0 else -1], (len(x), 2))

    def loss_and_grad(self, phi, batch):
        return 0, np.array([batch])


def counted(batches, state, labels=(1, 0, 1)):
    episode = Episode((SUPPORT, None), (QUERY, np.array(labels)), batches)
    fractions = evaluate(Chosen(), HeavyBall(1, 1), np.array([1]), state, lambda i: episode, 1)
    return {mode: 3 * values[0] for mode, values in fractions.items()}


def queries_are_counted_after_fine_tuning_from_the_state_of_training():
    state = HeavyBall(1, 1).init(np.array([1]))
    pushed = state._replace(velocity=np.array([5]))
    assert counted([0], state) == {"transductive": 2, "non_transductive": 2}
    assert counted([0], pushed) == {"transductive": 1, "non_transductive": 1}
    assert counted([0, 2], state) == {"transductive": 1, "non_transductive": 1}
    assert counted([2, -9], state) == {"transductive": 2, "non_transductive": 2}


def the_accuracy_is_of_each_task_in_its_order():
    def episode(i):
        return Episode((SUPPORT, None), (QUERY, np.array([[0, 0, 0], [1, 0, 0], [1, 1, 1]][i])), [0])

    phi, sgd = np.array([1]), Sgd(1)
    found = evaluate(Chosen(), sgd, phi, (), episode, 3)
    assert set(found) == {"transductive", "non_transductive"}
    for fractions in found.values():
        np.testing.assert_array_equal(fractions, np.array([0, 1 / 3, 1]))


def the_mean_and_the_interval_are_those_of_the_textbook():
    accuracy = Accuracy(np.array([0.0, 0.0, 0.0, 1.0]))
    assert accuracy.mean == 0.25
    n, z = 4, 1.96  # p (1 - p) tasks / s² = 3 / 16 * 4 * 4 = 3 trials: at least the 4 tasks count
    half = z * math.sqrt(0.25 * 0.75 / n + z * z / (4 * n * n)) / (1 + z * z / n)
    center = (0.25 + z * z / (2 * n)) / (1 + z * z / n)
    assert accuracy.interval == (max(center - half, 0.0), center + half)
    assert accuracy.ci95 == center + half - 0.25
    spread = Accuracy(np.array([0.25, 0.75, 0.5, 0.5]))  # s² = 1 / 24: n = 1 / 4 * 4 * 24
    assert spread.interval[1] - 0.5 == pytest.approx(z / 2 / math.sqrt(24 + z * z), rel=1e-14)


class Constant:
    """Predicts φ everywhere."""

    def predict(self, phi, x):
        return np.broadcast_to(phi, x.shape)

    def loss_and_grad(self, phi, batch):
        return 0, np.array([batch])


def the_error_of_a_regression_is_a_mean_square_before_and_after_fine_tuning():
    episode = Episode((SUPPORT, None), (np.zeros((3, 1)), np.array([[0.0], [0.0], [3.0]])), [0.0])
    pushed = HeavyBall(1.0, 1.0).init(np.array([1.0]))._replace(velocity=np.array([-2.0]))
    found = evaluate(
        Constant(),
        HeavyBall(1.0, 1.0),
        np.array([1.0]),
        pushed,
        lambda i: episode,
        1,
        score=squared_error,
        after=(0, -1),
    )
    np.testing.assert_array_equal(found["error"], [[(1 + 1 + 4) / 3, (9 + 9 + 0) / 3]])


def streams_of_different_names_seeds_and_places_are_different():
    names = ("split", "init", "tasks", "batches", "evaluation", "classes")
    places = [
        (seed, name, place)
        for seed in (0, 1)
        for name in names
        for place in ((), (0,), (1,), (0, 1), (1, 0), (1, 1))
    ]
    drawn = {Streams(seed).rng(name, *place).integers(2**63) for seed, name, place in places}
    assert len(drawn) == len(places)


def a_stream_is_a_leaf_of_the_seeds_tree():
    for key, name in enumerate(("split", "init", "tasks", "batches", "evaluation", "classes")):
        leaf = np.random.SeedSequence(7, spawn_key=(key, 3, 4))
        ours = Streams(7).rng(name, 3, 4).integers(2**63, size=3)
        np.testing.assert_array_equal(ours, np.random.default_rng(leaf).integers(2**63, size=3))


class Ones(np.random.Generator):
    """A generator of the upper end of every interval."""

    def uniform(self, low, high, size):
        return np.full(size, high)


def the_sine_network_is_1_64_64_1_and_starts_within_one_over_root_fan_in():
    model = sine_mlp()
    shapes = list(model.layout.shapes.values())
    assert shapes == [(1, 64), (64,), (64, 64), (64,), (64, 1), (1,)]
    phi = model.init(Ones(np.random.PCG64()), np.float64)
    expected = [np.full(shape, 1.0 if i < 2 else 0.125).ravel() for i, shape in enumerate(shapes)]
    np.testing.assert_array_equal(phi, np.concatenate(expected))
