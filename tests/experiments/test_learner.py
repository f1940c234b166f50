"""A learner: what `fit` and `predict` do is what an evaluation does; labels and images of any kind."""

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments.image_arrays import as_inputs
from reptile_np.experiments.learner import Learner
from reptile_np.meta.evaluation import MODES
from reptile_np.meta.inner_loop import adapt
from reptile_np.tasks.few_shot import minibatches
from tests.experiments.learners import MODEL, WAYS, images


def test_the_fine_tuned_parameters_are_those_of_adapt_from_the_trained_state(rng, learner):
    x, y = images(rng, 8), np.arange(8) % WAYS
    batches = minibatches(np.random.default_rng(5), (x, y.astype(np.int32)), 3, 6)
    expected = adapt(MODEL, learner.optimizer, learner.phi, batches, learner.state).phis[-1]
    np.testing.assert_array_equal(learner.fit(x, y).phi_, expected)


@pytest.mark.parametrize("mode", MODES)
def test_probabilities_are_the_softmax_of_the_logits_of_an_evaluation(rng, learner, mode):
    x, y, new = images(rng, 8), np.arange(8) % WAYS, images(rng, 5)
    learner.fit(x, y)
    logits = MODES[mode](MODEL, learner.phi_, x, new).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    got = learner.predict_proba(new, transductive=mode == "transductive")
    # exp rounds by at most 2.5 spacings (NumPy's tests), 5 u, its argument by u times its size; the sum of
    # four exponentials by 3 u, the quotient by u; u = 2^-24
    u, size = 2.0**-24, np.ptp(logits, axis=1).max()
    np.testing.assert_allclose(got, expected, rtol=(2 * (5 + size) + 4) * u)


def test_predictions_are_labels_in_the_users_own_words(rng, learner):
    x, names = images(rng, 8), np.array(["cat", "ant", "dog", "bee"] * 2)
    learner.fit(x, names)
    assert learner.classes_.tolist() == ["ant", "bee", "cat", "dog"]
    most = learner.predict_proba(x).argmax(axis=1)
    assert learner.predict(x).tolist() == [learner.classes_[i] for i in most]
    assert learner.score(x, learner.predict(x)) == 1.0


def test_labels_in_an_array_of_objects_are_scored_as_any_others(rng, learner):
    x = images(rng, 8)
    learner.fit(x, ["cat", "ant", "dog", "bee"] * 2)
    assert learner.score(x, learner.predict(x).astype(object)) == 1.0


def test_a_score_counts_each_image_by_its_weight(rng, learner):
    x, y = images(rng, 8), np.arange(8) % WAYS
    learner.fit(x, y)
    right = learner.predict(x) == y
    weights = rng.integers(1, 5, 8)
    repeated = np.repeat(right, weights)
    assert learner.score(x, y, weights) == pytest.approx(repeated.mean())
    nan, negative = np.ones(8), np.ones(8)
    nan[3], negative[3] = np.nan, -1
    for wrong in (
        np.ones(3),
        np.zeros(8),
        ["a"] * 8,
        nan,
        np.inf * nan,
        negative,
        1j * np.ones(8),
        [[1], [1, 2]],
    ):
        with pytest.raises(
            UsageError, match="sample_weight must be 8 finite numbers, none negative, not all 0"
        ):
            learner.score(x, y, wrong)


def test_one_image_of_each_class_has_minibatches_of_its_own_size(rng, learner):
    x, y = images(rng, 4), np.arange(4)
    expected = learner.set_params(batch=2).fit(x, y).phi_
    again = learner.set_params(batch=3, one_shot_batch=2)
    np.testing.assert_array_equal(again.fit(x, y).phi_, expected)
    two = np.concatenate([x, x]), np.concatenate([y, y])
    np.testing.assert_array_equal(
        again.fit(*two).phi_, learner.set_params(one_shot_batch=None).fit(*two).phi_
    )


def test_two_images_of_one_class_and_one_of_another_are_not_one_shot(rng, learner):
    x, y = images(rng, 3), np.array([0, 0, 1])
    expected = learner.set_params(batch=3, one_shot_batch=None).fit(x, y).phi_
    np.testing.assert_array_equal(learner.set_params(one_shot_batch=2).fit(x, y).phi_, expected)


def test_outputs_without_a_class_have_no_probability(rng, learner):
    x, y = images(rng, 6), np.array([7, 7, 9, 9, 7, 9])
    probabilities = learner.fit(x, y).predict_proba(images(rng, 3))
    assert probabilities.shape == (3, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=2**-22)  # 4 roundings by at most 2^-24
    assert set(learner.predict(x)) <= {7, 9}


def test_probabilities_by_step_start_at_the_initialisation_and_end_where_fit_ends(rng, learner):
    x, y, new = images(rng, 8), np.arange(8) % WAYS, images(rng, 2)
    by_step = learner.fit(x, y).predict_proba_by_step(new)
    assert by_step.shape == (7, 2, WAYS)
    np.testing.assert_array_equal(by_step[-1], learner.predict_proba(new))
    learner.phi_ = learner.phi
    np.testing.assert_array_equal(by_step[0], learner.predict_proba(new))


def test_a_non_transductive_answer_does_not_depend_on_the_other_images(rng, learner):
    learner.fit(images(rng, 8), np.arange(8) % WAYS)
    new = images(rng, 4)
    together = learner.predict_proba(new)
    np.testing.assert_array_equal(learner.predict_proba(new[::-1]), together[::-1])
    np.testing.assert_array_equal(learner.predict_proba(new[2:3]), together[2:3])


def test_a_transductive_answer_may(rng, learner):
    learner.fit(images(rng, 8), np.arange(8) % WAYS)
    new = images(rng, 4)
    together = learner.predict_proba(new, transductive=True)
    assert not np.allclose(learner.predict_proba(new[:2], transductive=True), together[:2], rtol=1e-3)


@pytest.mark.parametrize("kind", [np.uint8, bool, np.float64])
def test_uint8_bool_and_floats_say_the_same(rng, learner, kind):
    x, y = images(rng, 8), np.arange(8) % WAYS
    expected = learner.fit(x, y).phi_
    other = x * 255 if kind is np.uint8 else x
    np.testing.assert_array_equal(learner.fit(other.astype(kind), y).phi_, expected)
    np.testing.assert_array_equal(learner.fit(other.astype(kind)[..., 0], y).phi_, expected)


def test_nothing_given_is_changed(rng, learner):
    x, y = images(rng, 8), np.arange(8) % WAYS
    before = [a.copy() for a in (x, y, learner.phi, learner.state.v)]
    for a in (x, y, learner.phi, learner.state.v):
        a.setflags(write=False)
    learner.fit(x, y).predict(x)
    for a, b in zip((x, y, learner.phi, learner.state.v), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_parameters_can_be_read_changed_and_cloned(learner):
    assert Learner(**learner.get_params()).get_params() == learner.get_params()
    assert learner.set_params(steps=9).steps == 9
    with pytest.raises(UsageError, match=r"'depth' is no parameter; the parameters are model"):
        learner.set_params(depth=3)


def test_images_are_converted_only_if_asked(rng, learner):
    pytest.importorskip("PIL")
    x, y = rng.random((8, 40, 30, 3)), np.arange(8) % WAYS
    with pytest.raises(UsageError, match="set recolour=True"):
        learner.fit(x, y)
    with pytest.raises(UsageError, match="set resize=True"):
        learner.set_params(recolour=True).fit(x, y)
    converted = as_inputs(x, (28, 28, 1), resize=True, recolour=True)
    expected = Learner(**learner.get_params()).fit(converted, y).phi_
    np.testing.assert_array_equal(learner.set_params(resize=True).fit(x, y).phi_, expected)


@pytest.mark.parametrize("asked", [None, True, False])
def test_the_mode_is_the_learner_s_unless_another_is_asked_for(rng, learner, asked):
    learner.fit(images(rng, 8), np.arange(8) % WAYS)
    new = images(rng, 4)
    answers = {mode: learner.predict_proba(new, transductive=mode) for mode in (True, False)}
    assert not np.array_equal(answers[True], answers[False])
    for own in (True, False):
        learner.set_params(transductive=own)
        expected = answers[own if asked is None else asked]
        np.testing.assert_array_equal(learner.predict_proba(new, transductive=asked), expected)


@pytest.mark.parametrize("scale", [1e3, -1e3])
def test_large_logits_give_probabilities_and_no_overflow(rng, learner, scale):
    """The exponential of 88.8 overflows in float32."""
    learner.fit(images(rng, 8), np.arange(8) % WAYS)
    layout, phi = learner.model.layout, learner.phi_.copy()
    layout.views(phi)["dense/kernel"][:] *= np.float32(scale)
    learner.phi_ = phi
    for transductive in (True, False):
        p = learner.predict_proba(images(rng, 4), transductive=transductive)
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
        assert p.max() > 0.99
