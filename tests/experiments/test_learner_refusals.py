"""What a learner cannot use is refused in one line, and leaves it as it was."""

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.meta.optimizers import Sgd
from tests.experiments.learners import WAYS, images


class NotAvailable:
    """As pandas.NA: it does not say whether it equals itself."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError


@pytest.mark.parametrize(
    "labels",
    [
        [0, np.nan] * 4,
        [0, complex(0, np.nan)] * 4,
        np.array(["2026-11-27", "NaT"] * 4, "M8[D]"),
        np.array([1, "NaT"] * 4, "m8[s]"),
        np.array([0, np.nan] * 4, object),
        np.array(["a", NotAvailable()] * 4, object),
        [0, None] * 4,
        ["a", None] * 4,
    ],
)
def test_an_image_whose_label_is_missing_is_refused(rng, learner, labels):
    x = images(rng, 8)
    with pytest.raises(
        UsageError, match=r"^fit: some images have no label \(None, NaN, NaT\); label them, or"
    ):
        learner.fit(x, labels)
    with pytest.raises(UsageError, match=r"^score: some images have no label"):
        learner.fit(x, np.arange(8) % WAYS).score(x, labels)


@pytest.mark.parametrize("labels", [0, [0], [[0]] * 8, [0] * 7])
def test_a_score_needs_one_label_for_each_image(rng, learner, labels):
    x = images(rng, 8)
    with pytest.raises(UsageError, match=r"^score: labels have shape .* each of 8 images$"):
        learner.fit(x, np.arange(8) % WAYS).score(x, labels)


def test_an_initialisation_that_is_not_finite_is_named(rng, learner):
    learner.set_params(phi=np.full_like(learner.phi, np.nan))
    with pytest.raises(
        UsageError, match=r"^fit: phi, the initialisation, has NaN or infinity; load it again$"
    ):
        learner.fit(images(rng, 8), [5, 6] * 4)


@pytest.mark.parametrize(
    ("change", "labels", "message"),
    [
        ({"optimizer": Sgd(1e30), "state": ()}, [5, 6] * 4, "fine-tuning diverged"),
        ({}, [None, 1] * 4, "some images have no label"),
        ({}, np.array([(), 1] * 4, object), "cannot be sorted"),
        ({}, [1, "a"] * 4, r"labels are of different kinds \(int, str\); use one kind"),
        ({}, (0.5, "a") * 4, "labels are of different kinds"),
        ({}, ["a", b"b"] * 4, r"labels are of different kinds \(bytes, str\); use one kind"),
        ({}, [[1], [1, 2]] * 4, "labels differ in length; give one label for each of 8 images"),
        ({"steps": 2.5}, [5, 6] * 4, r"steps is 2\.5; give a whole number of at least 1"),
        ({"batch": 0}, [5, 6] * 4, "batch is 0; give"),
        ({"seed": -1}, [5, 6] * 4, "seed=-1"),
    ],
)
def test_a_fit_that_fails_leaves_the_classifier_as_it_was(rng, learner, change, labels, message):
    x = images(rng, 8)
    before = learner.fit(x, np.arange(8) % WAYS).predict_proba(x)
    with pytest.raises(UsageError, match=message):
        learner.set_params(**change).fit(x, labels)
    np.testing.assert_array_equal(learner.predict_proba(x), before)
    assert learner.classes_.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 27, 28, 1), np.float32), [0, 1], "27 x 28 pixels, this model reads 28 x 28"),
        (np.zeros((0, 28, 28, 1), np.float32), [], r"shape \(0, 28, 28, 1\)"),
        (np.zeros((2, 28, 28, 1), np.int64), [0, 1], "dtype int64; give uint8"),
        (np.full((2, 28, 28, 1), 255.0), [0, 1], "floats from 255.0 to 255.0; scale them"),
        (np.full((2, 28, 28, 1), np.nan), [0, 1], "NaN or infinite"),
        (np.zeros((2, 28, 28, 1)), [0, 1, 2], r"labels have shape \(3,\); give one label for each of 2"),
        (np.zeros((2, 28, 28, 1)), [0, 0], "1 class; this model distinguishes 2 to 4"),
        (np.zeros((5, 28, 28, 1)), [0, 1, 2, 3, 4], "5 classes; this model distinguishes 2 to 4"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(learner, x, y, message):
    with pytest.raises(UsageError, match=message) as error:
        learner.fit(x, y)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values", [{"steps": 0}, {"batch": 0}])
def test_no_step_and_no_example_are_refused(rng, learner, values):
    with pytest.raises(UsageError, match="give a whole number of at least 1"):
        learner.set_params(**values).fit(images(rng, 8), np.arange(8) % WAYS)


def test_a_mode_that_is_a_word_is_refused(rng, learner):
    learner.fit(images(rng, 8), np.arange(8) % WAYS)
    with pytest.raises(UsageError, match=r"^transductive is 'non_transductive'; give True or False$"):
        learner.predict(images(rng, 4), transductive="non_transductive")


def test_predict_before_fit_says_so(learner):
    with pytest.raises(UsageError, match="call fit"):
        learner.predict(np.zeros((1, 28, 28, 1), np.float32))


@pytest.mark.parametrize("name", ["resize", "recolour", "invert", "transductive"])
@pytest.mark.parametrize("value", ["False", 3, None])
def test_a_choice_that_is_not_true_or_false_is_refused(rng, learner, name, value):
    if (name, value) == ("transductive", None):
        return
    learner.set_params(**{name: value})
    with pytest.raises(UsageError, match=f"^{name} is {value!r}; give True or False$"):
        learner.fit(images(rng, 4), [0, 0, 1, 1]).predict(images(rng, 2))


@pytest.mark.parametrize("value", [0, "a", 1.5])
def test_a_size_of_one_shot_minibatches_that_is_no_size_is_refused(rng, learner, value):
    learner.set_params(one_shot_batch=value)
    with pytest.raises(UsageError, match=r"^fit: one_shot_batch is "):
        learner.fit(images(rng, 4), [0, 0, 1, 1])


@pytest.mark.parametrize("labels", [[2**63 + 1, 2**63 + 3, -5, -5], [2**53, 2**53 + 1, 0.5, 0.5]])
def test_labels_that_numpy_rounds_to_the_same_number_are_refused(rng, learner, labels):
    with pytest.raises(UsageError, match="rounds some of these numbers to the same float64; give strings"):
        learner.fit(images(rng, 4), labels)


@pytest.mark.parametrize(("labels", "what"), [([0, 0, 1, 1], "numbers"), ([b"a", b"a", b"b", b"b"], "bytes")])
def test_a_score_with_labels_of_another_kind_than_those_of_fit_is_refused(rng, learner, labels, what):
    x = images(rng, 4)
    learner.fit(x, ["a", "a", "b", "b"])
    with pytest.raises(UsageError, match=f"^score: the labels are {what}, those given to fit were text"):
        learner.score(x, labels)
