"""An evaluation refuses what has no score, and names the task."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.meta.evaluation import (
    Accuracy,
    Episode,
    accuracy,
    evaluate,
    non_transductive_logits,
    squared_error,
)
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn.models import sine_mlp
from tests.meta.episodes import ADAM, MODEL, episode, wave
from tests.refusal import refusal


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_refused_though_the_losses_and_the_parameters_are_finite(number):
    model = sine_mlp((5,))
    arguments = model, Sgd(0.01), model.init(np.random.default_rng(0)), (), partial(wave, 0), 3
    scores = iter([0.0, number])
    with pytest.raises(UsageError, match=r"^evaluation task 1: fine-tuning diverged"):
        evaluate(*arguments, score=lambda *_: {"error": next(scores)})


def test_a_nan_in_a_query_is_refused_and_not_counted_as_an_answer(trained):
    """The largest of NaNs is the first: every query would be an image of class 0."""

    def spoiled(i):
        x = episode(i).query[0].copy()
        x[0, 0, 0] = np.nan
        return episode(i)._replace(query=(x, episode(i).query[1]))

    with pytest.raises(UsageError, match=r"^evaluation task 0: .*look for NaN in the data$"):
        evaluate(MODEL, ADAM, *trained, spoiled, 2)


@pytest.mark.parametrize(
    "labels",
    [np.eye(3, dtype=int), np.arange(3)[:, None], np.arange(2), 1, np.arange(3) + 0.5, np.array([*"abc"])],
    ids=str,
)
def test_labels_that_are_not_one_number_per_query_are_refused(trained, labels):
    """Compared with the answers they would be broadcast, to an accuracy of up to 300 %, or equal none."""
    with pytest.raises(UsageError, match=r"^query labels are .*; give one class number per query, \(3,\)$"):
        accuracy(MODEL, trained[0], episode(0)._replace(query=(episode(0).query[0], labels)))


@pytest.mark.parametrize("tasks", [0, -1, 2.5])
def test_an_evaluation_needs_a_whole_number_of_tasks(trained, tasks):
    with pytest.raises(UsageError, match=f"^tasks is {tasks}; give a whole number of at least 1$"):
        evaluate(MODEL, Sgd(0.1), *trained[:1], (), episode, tasks)


@pytest.mark.parametrize("labels", [[0, 1, 3], [-1, 0, 1]])
def test_labels_of_classes_that_the_model_does_not_have_are_refused(trained, labels):
    """No answer equals them, so they would count as wrong answers."""
    low, high = min(labels), max(labels)
    with pytest.raises(UsageError, match=f"^query labels from {low} to {high}; give 0 to 2$"):
        accuracy(MODEL, trained[0], episode(0)._replace(query=(episode(0).query[0], np.array(labels))))


def test_targets_of_another_shape_than_the_predictions_are_refused():
    model, one = sine_mlp((5,)), wave(0, 0)
    flat = one._replace(query=(one.query[0], one.query[1][:, 0]))
    with pytest.raises(UsageError, match=r"^query targets have shape \(\d+,\), the predictions \(\d+, 1\)$"):
        squared_error(model, model.init(np.random.default_rng(0)), flat)


def test_parameters_that_are_not_finite_are_not_evaluated(trained):
    phi, state = trained
    phi = phi.copy()
    phi[3] = np.nan
    with pytest.raises(UsageError, match=r"^phi has entries that are not finite: it cannot be evaluated"):
        evaluate(MODEL, ADAM, phi, state, episode, 2)


def test_a_fine_tuning_whose_last_step_diverges_is_named_though_its_losses_are_finite():
    """The largest logit of NaNs is the first: its accuracy would be a number."""

    class Overflowing:
        """A classifier whose gradient is finite, and overflows in the update."""

        def loss_and_grad(self, phi, batch):
            return 1.0, np.full_like(phi, 3e38)

        def predict(self, phi, x):
            return np.zeros((len(x), 2))

    one = np.zeros((2, 1)), np.arange(2)
    phi = np.zeros(3, np.float32)
    with pytest.raises(UsageError, match=r"^evaluation task 0: fine-tuning diverged"):
        evaluate(Overflowing(), Sgd(np.float32(10)), phi, (), lambda i: Episode(one, one, [one]), 1)


def test_a_fine_tuning_that_diverges_is_named_in_one_line():
    model = sine_mlp((5,))
    phi = model.init(np.random.default_rng(0))
    with pytest.raises(UsageError, match=r"^evaluation task 0: fine-tuning diverged; lower the inner"):
        evaluate(model, Sgd(1e30), phi, (), partial(wave, 0), 2, score=squared_error)


def test_a_score_after_steps_that_there_are_not_is_refused(trained):
    run = partial(evaluate, MODEL, ADAM, *trained, episode, 2)
    for after in (6, (0, 9), np.int64(7)):
        with pytest.raises(UsageError, match=r"^after is \d; give -1 to 5, the steps of task 0$"):
            run(after=after)
    for after in (-2, 1.5, (0, 0.5), "1", None, True):
        with pytest.raises(UsageError, match=r"^after is .*; give a whole number of at least -1$"):
            run(after=after)
    with pytest.raises(UsageError, match=r"^after is empty; give at least one number of inner steps"):
        run(after=())
    for name, scores in run(after=2).items():
        np.testing.assert_array_equal(run(after=np.int64(2))[name], scores)


def test_a_loss_that_is_not_finite_is_refused_though_the_parameters_are_finite():
    class LossOnly:
        def loss_and_grad(self, phi, batch):
            return batch, 0 * phi

    task = Episode((None, None), (None, None), [1.0, np.inf, 1.0])
    with pytest.raises(UsageError, match=r"^evaluation task 0: fine-tuning diverged"):
        evaluate(LossOnly(), Sgd(0.1), np.ones(2), (), lambda i: task, 1, score=lambda *_: {"error": 0.0})


def test_episodes_and_a_score_that_are_no_functions_are_named(trained):
    with pytest.raises(UsageError, match=r"^score is 'accuracy'; give a function$"):
        evaluate(MODEL, ADAM, *trained, episode, 2, score="accuracy")
    with pytest.raises(UsageError, match=r"^episodes is a list; give a function$"):
        evaluate(MODEL, ADAM, *trained, [episode(0)], 1)


def test_no_task_has_no_accuracy():
    with pytest.raises(UsageError, match=r"^Accuracy: fractions \(0,\); give one from 0 to 1 for each task$"):
        Accuracy(np.array([]))


@pytest.mark.parametrize("fractions", [[[0.2, 0.9], [0.4, 1.0]], [95.0, 97.0], [0.5, np.nan], 0.5, {}])
def test_an_accuracy_is_one_fraction_for_each_task(fractions):
    """A table (tasks, points), as of several steps, would be one mean over all of its points."""
    assert refusal(Accuracy, fractions).startswith(
        f"Accuracy: fractions {np.shape(fractions)}; give one from 0"
    )


def test_fractions_may_be_a_list():
    assert Accuracy([0.5, 1]).mean == 0.75


@pytest.mark.parametrize("shape", [(1, 3), (3,), (3, 1, 3), ()])
def test_answers_that_are_not_one_row_for_each_query_are_refused(shape):
    """One row (1, ways) would be broadcast: the answer for all queries."""
    one = np.zeros((3, 2)), np.arange(3)
    model = SimpleNamespace(predict=lambda phi, x: np.ones(shape))
    assert refusal(accuracy, model, None, Episode(one, one, [])).startswith(
        f"predict returned {shape} for 3 "
    )


def test_no_queries_have_no_accuracy():
    one, none = (np.zeros((3, 2)), np.arange(3)), (np.zeros((0, 2)), np.arange(0))
    model = SimpleNamespace(predict=lambda phi, x: np.ones((len(x), 3)))
    assert refusal(accuracy, model, None, Episode(one, none, [])).startswith("predict returned (0, 3) for 0 ")


def scored(score):
    """Evaluate two tasks with a score of the caller's: score(i) for task i."""
    model = SimpleNamespace(loss_and_grad=lambda phi, batch: (0.0, 0 * phi))
    tasks = [Episode((i, None), (i, None), [None]) for i in range(2)]
    run = evaluate(
        model, Sgd(0.1), np.ones(2), (), tasks.__getitem__, 2, score=lambda m, p, e: score(e.query[0])
    )
    return {name: values.tolist() for name, values in run.items()}


@pytest.mark.parametrize(
    ("score", "line"),
    [
        (lambda i: 0.5, 'score returned 0.5; return named numbers, such as {"error": 0.5}'),
        (lambda i: {"error": None}, "None is no number; give one"),
        (lambda i: {"error": np.ones(3)}, "score: error is array([1., 1., 1.]); give a number"),
        (
            lambda i: {"b": 1.0} if i else {"a": 1.0},
            "score: task 1 has other names than task 0, ['a']; return",
        ),
        (
            lambda i: dict.fromkeys("ab"[: i + 1], 1.0),
            "score: task 1 has other names than task 0, ['a']; return",
        ),
    ],
    ids=["a number", "none", "array", "other name", "one more"],
)
def test_a_score_that_is_not_the_same_named_numbers_is_refused(score, line):
    """A name that only later tasks have would be left out of the result."""
    assert refusal(scored, score).startswith(line)


@pytest.mark.parametrize("number", [1, True, np.True_, np.float32(1), np.array(1.0)])
def test_a_score_is_a_number_of_any_kind(number):
    assert scored(lambda i: {"error": number}) == {"error": [1, 1]}


def test_lists_are_answered_as_arrays_and_no_queries_are_refused(trained):
    (support, _), (query, _), _ = episode(0)
    phi = trained[0].astype(float)
    expected = non_transductive_logits(MODEL, phi, support.astype(float), query.astype(float))
    found = non_transductive_logits(MODEL, phi, support.tolist(), query.tolist())
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(UsageError, match=r"^no queries; give at least one$"):
        non_transductive_logits(MODEL, phi, support, query[:0])


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int16])
def test_a_support_set_of_bytes_beside_queries_of_floats_is_refused(trained, dtype):
    """`np.concatenate` would make one batch of both, and every answer would be chance."""
    kept = episode(0)._replace(support=(np.ones_like(episode(0).support[0], dtype), episode(0).support[1]))
    with pytest.raises(
        UsageError, match=r"support images are (uint8|bool|int16), the queries float32; scale"
    ):
        evaluate(MODEL, ADAM, *trained, lambda i: kept, 1)
    with pytest.raises(
        UsageError, match=r"images are float32, the queries .*; scale both to floats \(0-1\)$"
    ):
        non_transductive_logits(MODEL, trained[0], kept.query[0], kept.support[0])
