"""Evaluation counts what the released program counts, in both modes, and changes nothing."""

import math
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest

from reptile_np.meta import evaluation
from reptile_np.meta.evaluation import (
    MODES,
    Episode,
    accuracy,
    evaluate,
    non_transductive_logits,
    squared_error,
    transductive_logits,
)
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Adam, Sgd
from reptile_np.nn.models import sine_mlp
from tests.meta.episodes import ADAM, MODEL, episode, wave


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
    fractions = evaluate(MODEL, ADAM, *trained, episode, 12)
    assert set(fractions) == {"transductive", "non_transductive"} == set(MODES)
    for i in range(12):
        for mode, right in literal_fractions(*trained, i).items():
            assert fractions[mode][i] == right.mean(), (i, mode)


def test_the_task_is_neither_hopeless_nor_trivial_so_that_the_counts_say_something(trained):
    for fractions in evaluate(MODEL, ADAM, *trained, episode, 12).values():
        assert 1 / 3 < fractions.mean() < 1


def test_the_two_modes_differ_because_batch_norm_sees_another_batch(trained):
    support, (queries, _), _ = episode(0)
    together = transductive_logits(MODEL, trained[0], support[0], queries)
    alone = non_transductive_logits(MODEL, trained[0], support[0], queries)
    assert together.shape == alone.shape == (3, 3)
    assert np.abs(together - alone).max() > 0.01


def test_evaluation_is_a_pure_function_that_writes_to_nothing(trained):
    phi, state = trained[0].copy(), trained[1]._replace(v=trained[1].v.copy())
    tasks = [episode(i) for i in range(4)]
    batches = [batch for task in tasks for batch in (task.support, task.query, *task.batches)]
    arrays = [phi, state.m, state.v, *(array for batch in batches for array in batch)]
    for array in arrays:
        array.setflags(write=False)
    first = evaluate(MODEL, ADAM, phi, state, tasks.__getitem__, 4)
    second = evaluate(MODEL, ADAM, phi, state, tasks.__getitem__, 4)
    for mode in MODES:
        np.testing.assert_array_equal(first[mode], second[mode])
    assert state.t == 5


def test_the_state_from_training_is_used(trained):
    """Adam with a history takes other steps than Adam without one."""
    phi, state = trained
    warm = adapt(MODEL, ADAM, phi, episode(0).batches, state).phis[-1]
    cold = adapt(MODEL, ADAM, phi, episode(0).batches).phis[-1]
    assert np.abs(warm - cold).max() > 1e-3
    support, (queries, labels), _ = episode(0)
    for mode, (fraction,) in evaluate(MODEL, ADAM, phi, state, episode, 1).items():
        assert fraction == (MODES[mode](MODEL, warm, support[0], queries).argmax(1) == labels).mean()


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
        np.testing.assert_array_equal(actual[mode], expected[mode])


@pytest.fixture(scope="module")
def process():
    """One process, started once for all tables."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        yield executor


def test_every_table_of_ops_can_be_sent_to_a_process_and_counts_alike(trained, ops, process):
    expected = evaluate(MODEL, ADAM, *trained, episode, 4)
    actual = evaluate(MODEL.with_ops(ops), ADAM, *trained, episode, 4, executor=process)
    for mode in MODES:
        np.testing.assert_array_equal(actual[mode], expected[mode])


def test_progress_sees_every_task_as_it_is_done(trained):
    log = []

    def watched(i):
        log.append("begun")
        return episode(i)

    def progress(results):
        for result in results:
            log.append("done")
            yield result

    evaluate(MODEL, ADAM, *trained, watched, 3, progress=progress)
    assert log == ["begun", "done"] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_get_the_model_once_per_piece_and_give_the_results_of_one_process(workers, monkeypatch):
    """20 tasks in pieces of 7: the last piece is shorter."""
    monkeypatch.setattr(evaluation, "CHUNKS", 3)
    model, tasks = sine_mlp((5,)), partial(wave, 3)
    phi = model.init(np.random.default_rng(0))
    arguments = model, Adam(0.01), phi, Adam(0.01).init(phi), tasks, 20
    expected = evaluate(*arguments, score=squared_error, after=(0, 2, -1))["error"]
    sent = []

    class Watched(ProcessPoolExecutor):
        def map(self, function, pieces):
            sent.extend(pieces)
            return super().map(function, pieces)

    with Watched(workers, mp_context=get_context("spawn")) as executor:
        actual = evaluate(*arguments, score=squared_error, after=(0, 2, -1), executor=executor)["error"]
    np.testing.assert_array_equal(actual, expected)
    assert actual.shape == (20, 3)
    assert sent == [range(0, 7), range(7, 14), range(14, 20)]


def test_regression_is_scored_at_the_points_asked_for_with_the_state_from_training():
    """The mean over tasks of the squared error, written out; a new state of Adam's would take other steps."""
    model, optimizer = sine_mlp((5,)), Adam(0.01, 0.9)
    trained = adapt(model, optimizer, model.init(np.random.default_rng(0)), wave(1, 0).batches)
    phi, state = trained.phis[-1], trained.state
    errors = evaluate(model, optimizer, phi, state, partial(wave, 1), 3, score=squared_error, after=range(5))[
        "error"
    ]
    assert errors.shape == (3, 5)
    for i in range(3):
        task = wave(1, i)
        (x, y), point, moments = task.query, phi, state
        for k in range(5):
            assert errors[i, k] == ((model.predict(point, x) - y) ** 2).mean()
            if k < 4:
                grad = model.loss_and_grad(point, task.batches[k])[1]
                point, moments = optimizer.update(grad, moments, point)
    fresh = evaluate(
        model, optimizer, phi, optimizer.init(phi), partial(wave, 1), 3, score=squared_error, after=range(5)
    )["error"]
    np.testing.assert_array_equal(fresh[:, 0], errors[:, 0])
    assert (fresh[:, 1:] != errors[:, 1:]).all()


def test_a_curve_ends_where_the_evaluation_ends_and_its_points_are_scores_after_each_step(trained, ops):
    """The accuracy after each inner step, on every table of kernels."""
    model = MODEL.with_ops(ops)
    curve = evaluate(model, ADAM, *trained, episode, 4, after=range(6))
    last = evaluate(model, ADAM, *trained, episode, 4)
    ends = evaluate(model, ADAM, *trained, episode, 4, after=(0, -1))
    for mode in MODES:
        assert curve[mode].shape == (4, 6)
        np.testing.assert_array_equal(curve[mode][:, -1], last[mode])
        np.testing.assert_array_equal(curve[mode][:, [0, -1]], ends[mode])


@pytest.mark.parametrize("after", [(0, 1), (1,), (1, -1), (4, 0), (5,)])
def test_a_score_after_a_step_is_that_point_of_the_curve_whichever_others_are_asked_for(after):
    model = sine_mlp((5,))
    phi = model.init(np.random.default_rng(0))
    arguments = model, Sgd(0.01), phi, (), lambda i: wave(2, i)._replace(batches=[wave(2, i).support] * 5), 2
    curve = evaluate(*arguments, score=squared_error, after=range(6))["error"]
    assert (np.diff(curve) != 0).all()
    actual = evaluate(*arguments, score=squared_error, after=after)["error"]
    np.testing.assert_array_equal(actual, curve[:, after])


def test_many_tasks_are_given_to_an_executor_in_64_pieces_that_follow_each_other():
    class Flat:
        def loss_and_grad(self, phi, batch):
            return 0.0, 0 * phi

    class Watched(ThreadPoolExecutor):
        def map(self, function, pieces):
            sent.extend(pieces)
            return super().map(function, pieces)

    def number(model, phi, episode):
        return {"number": episode.query}

    sent, arguments = [], (Flat(), Sgd(0.01), np.zeros(1), (), lambda i: Episode(i, i, [i]), 640)
    with Watched(2) as executor:
        scores = evaluate(*arguments, score=number, executor=executor)
    assert scores["number"].tolist() == list(range(640))
    assert sent == [range(i, i + 10) for i in range(0, 640, 10)]


def test_one_logit_that_is_nan_makes_the_accuracy_nan():
    class OneNaN:
        def predict(self, phi, x):
            z = np.eye(3)[np.arange(len(x)) % 3]
            z[-1, 2] = np.nan
            return z

    batch = np.zeros((3, 1)), np.arange(3)
    assert math.isnan(accuracy(OneNaN(), None, Episode(batch, batch, []))["transductive"])
