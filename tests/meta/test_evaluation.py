"""Evaluation counts what the released program counts, in both modes, and changes nothing."""

import math
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest

from reptile_np.meta.evaluation import (
    MODES,
    Accuracy,
    Episode,
    correct,
    evaluate,
    non_transductive_logits,
    squared_errors,
    transductive_logits,
)
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Adam, Sgd
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import Model, sine_mlp
from reptile_np.nn.parameter_free import Flatten, Relu

MODEL = Model(
    (Conv2d(filters=4, stride=2, centred=True), BatchNorm(), Relu(), Flatten(), Dense(3)),
    (6, 6, 1),
    SoftmaxCrossEntropy("sum"),
)
ADAM = Adam(0.02)


def episode(i):
    """Task i: 3 classes that differ in their mean image, 4 support images and 1 query of each."""
    rng = np.random.default_rng([7, i])
    classes = rng.normal(size=(3, 6, 6, 1))
    y = np.repeat(np.arange(3), 5)
    x = (classes[y] + 2.5 * rng.normal(size=(15, 6, 6, 1))).astype(np.float32)
    query = np.arange(15) % 5 == 4
    support = x[~query], y[~query]
    batches = [(support[0][s], support[1][s]) for s in (rng.permutation(12)[:6] for _ in range(5))]
    return Episode(support, (x[query], y[query]), batches)


@pytest.fixture(scope="module")
def trained():
    """(φ, Adam's state) with a history, as after training."""
    phi = MODEL.init(np.random.default_rng(0))
    t = adapt(MODEL, ADAM, phi, episode(99).batches)
    return t.phis[-1], t.state


def literal_fractions(phi, state, i):
    """The released program's evaluation of task i, written out."""
    support, (queries, labels), batches = episode(i)
    for batch in batches:
        grad = MODEL.loss_and_grad(phi, batch)[1]
        phi, state = ADAM.update(grad, state, phi)
    together = [int(row.argmax()) for row in MODEL.predict(phi, queries)]
    alone = []
    for query in queries:
        rows = MODEL.predict(phi, np.concatenate([support[0], query[None]]))
        alone.append(int(rows[len(support[0])].argmax()))
    return {"transductive": together == labels, "non_transductive": alone == labels}


def test_both_modes_agree_with_the_evaluation_written_out(trained):
    accuracy = evaluate(MODEL, ADAM, *trained, episode, 12)
    assert set(accuracy) == {"transductive", "non_transductive"} == set(MODES)
    for i in range(12):
        for mode, right in literal_fractions(*trained, i).items():
            assert accuracy[mode].fractions[i] == right.mean(), (i, mode)


def test_the_task_is_neither_hopeless_nor_trivial_so_that_the_counts_say_something(trained):
    for accuracy in evaluate(MODEL, ADAM, *trained, episode, 12).values():
        assert 1 / 3 < accuracy.mean < 1


def test_the_two_modes_differ_because_batch_norm_sees_another_batch(trained):
    support, (queries, _), _ = episode(0)
    together = transductive_logits(MODEL, trained[0], support[0], queries)
    alone = non_transductive_logits(MODEL, trained[0], support[0], queries)
    assert together.shape == alone.shape == (3, 3)
    assert np.abs(together - alone).max() > 0.01


def test_without_transduction_a_query_does_not_see_the_others(trained):
    support, (queries, _), _ = episode(0)
    alone = non_transductive_logits(MODEL, trained[0], support[0], queries)
    for i in range(3):
        single = non_transductive_logits(MODEL, trained[0], support[0], queries[i : i + 1])
        np.testing.assert_array_equal(single[0], alone[i])
    order = [2, 0, 1]
    shuffled = non_transductive_logits(MODEL, trained[0], support[0], queries[order])
    np.testing.assert_array_equal(shuffled, alone[order])


def test_transduction_lets_information_flow_between_the_queries(trained):
    support, (queries, _), _ = episode(0)
    pair = transductive_logits(MODEL, trained[0], support[0], queries[:2])
    assert np.abs(pair - transductive_logits(MODEL, trained[0], support[0], queries)[:2]).max() > 0.01


def test_evaluation_is_a_pure_function_that_writes_to_nothing(trained):
    phi, state = trained
    tasks = [episode(i) for i in range(4)]
    batches = [batch for task in tasks for batch in (task.support, task.query, *task.batches)]
    arrays = [phi, state.m, state.v, *(array for batch in batches for array in batch)]
    for array in arrays:
        array.setflags(write=False)
    first = evaluate(MODEL, ADAM, phi, state, tasks.__getitem__, 4)
    second = evaluate(MODEL, ADAM, phi, state, tasks.__getitem__, 4)
    for mode in MODES:
        np.testing.assert_array_equal(first[mode].fractions, second[mode].fractions)
    assert state.t == 5


def test_the_state_from_training_is_in_use(trained):
    """Adam with a history takes other steps than Adam without one."""
    phi, state = trained
    warm = adapt(MODEL, ADAM, phi, episode(0).batches, state).phis[-1]
    cold = adapt(MODEL, ADAM, phi, episode(0).batches).phis[-1]
    assert np.abs(warm - cold).max() > 1e-3
    support, (queries, labels), _ = episode(0)
    for mode, count in correct(MODEL, ADAM, phi, state, episode(0)).items():
        assert count == (MODES[mode](MODEL, warm, support[0], queries).argmax(1) == labels).sum()


@pytest.mark.parametrize(
    "pool",
    [partial(ThreadPoolExecutor, 2), partial(ProcessPoolExecutor, 2, mp_context=get_context("spawn"))],
    ids=["threads", "processes"],
)
def test_any_executor_gives_the_same_result_in_the_same_order(trained, pool):
    expected = evaluate(MODEL, ADAM, *trained, episode, 8)
    with pool() as executor:
        actual = evaluate(MODEL, ADAM, *trained, episode, 8, executor=executor)
    for mode in MODES:
        np.testing.assert_array_equal(actual[mode].fractions, expected[mode].fractions)


def test_every_table_of_ops_can_be_sent_to_a_process_and_counts_alike(trained, ops):
    expected = evaluate(MODEL, ADAM, *trained, episode, 4)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        actual = evaluate(MODEL.with_ops(ops), ADAM, *trained, episode, 4, executor=executor)
    for mode in MODES:
        np.testing.assert_array_equal(actual[mode].fractions, expected[mode].fractions)


def test_progress_sees_every_task_as_it_is_done(trained):
    seen = []

    def progress(results):
        for result in results:
            seen.append(result)
            yield result

    evaluate(MODEL, ADAM, *trained, episode, 3, progress=progress)
    assert len(seen) == 3


def test_the_interval_is_the_normal_one_of_the_mean_over_tasks():
    accuracy = Accuracy(np.array([0.2, 0.4, 0.6, 0.8]))
    assert accuracy.mean == pytest.approx(0.5)
    assert accuracy.ci95 == pytest.approx(1.96 * math.sqrt(0.2 / 3) / 2)  # Σ (x - 0.5)² = 0.2
    assert math.isnan(Accuracy(np.array([0.5])).ci95)


def test_the_squared_errors_are_over_the_queries_before_and_after_the_fine_tuning():
    model, rng = sine_mlp((5,)), np.random.default_rng(0)
    phi, optimizer = model.init(rng), Sgd(0.02)
    x = rng.uniform(-5, 5, (20, 1)).astype(np.float32)
    wave = x, np.sin(x)
    before, after = squared_errors(model, optimizer, phi, (), Episode(wave, wave, [wave] * 30))
    tuned = adapt(model, optimizer, phi, [wave] * 30).phis[-1]
    assert before == pytest.approx(((model.predict(phi, x) - wave[1]) ** 2).mean())
    assert after == pytest.approx(((model.predict(tuned, x) - wave[1]) ** 2).mean())
    assert after < before
