"""Batch norm couples the examples of a batch; each consequence for a few-shot learner, shown on its network.

`reptile_np.meta.evaluation` says what follows for evaluation: the answer for one image depends on the images
that are in its batch.
"""

import numpy as np
import pytest

from reptile_np.meta.evaluation import Episode, accuracy, non_transductive_logits, transductive_logits
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import maml
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn.layers import BatchNorm
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import Model, finn_omniglot_cnn, omniglot_cnn
from tests.strategies import random_batch, random_phi

NETWORKS = {"released": omniglot_cnn(5, filters=8), "finn": finn_omniglot_cnn(5, filters=8)}
networks = pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS)


def setting(model, examples=10, queries=5):
    """φ, a support set and a query set, float64."""
    rng = np.random.default_rng(0)
    return random_phi(model, rng), random_batch(model, rng, examples), random_batch(model, rng, queries)


def without_batch_norm(model):
    layers = tuple(layer for layer in model.layers if not isinstance(layer, BatchNorm))
    return Model(layers, model.input_shape, model.loss)


def losses_of_the_first_example(model, phi, x, y):
    """Its loss alone in a sum over the batch, before and after another example of the batch is changed."""
    per_example = SoftmaxCrossEntropy("sum").per_example
    changed = x.copy()
    changed[-1] = x[-1][::-1]
    return [per_example(model.predict(phi, batch), y)[0] for batch in (x, changed)]


@networks
def test_the_support_loss_of_one_example_depends_on_the_other_examples(model):
    phi, (x, y), _ = setting(model)
    before, after = losses_of_the_first_example(model, phi, x, y)
    assert abs(before - after) > 1e-3
    plain = without_batch_norm(model)
    before, after = losses_of_the_first_example(plain, random_phi(plain, np.random.default_rng(0)), x, y)
    assert before == pytest.approx(after, abs=1e-14)


@networks
def test_a_gradient_of_a_batch_is_not_the_sum_of_the_gradients_of_its_halves(model):
    """So minibatches of 5 and one batch of 10 are two inner loops, even for steps too small to matter."""
    phi, (x, y), _ = setting(model)
    halves = model.loss_and_grad(phi, (x[:5], y[:5]))[1] + model.loss_and_grad(phi, (x[5:], y[5:]))[1]
    whole = model.loss_and_grad(phi, (x, y))[1]
    if model.loss.reduction == "mean":
        halves = halves / 2
    assert np.linalg.norm(halves - whole) > 0.1 * np.linalg.norm(whole)


@networks
@pytest.mark.parametrize("steps", [0, 2])
def test_a_non_transductive_answer_does_not_depend_on_the_other_queries(model, steps):
    phi, support, (x, _) = setting(model)
    for _ in range(steps):
        phi = phi - 1e-2 * model.loss_and_grad(phi, support)[1]
    answers = non_transductive_logits(model, phi, support[0], x)
    order = np.array([3, 0, 4, 2, 1])
    np.testing.assert_array_equal(non_transductive_logits(model, phi, support[0], x[order]), answers[order])
    for i in range(len(x)):  # removed: all queries but one
        np.testing.assert_array_equal(
            non_transductive_logits(model, phi, support[0], x[i : i + 1])[0], answers[i]
        )
    other = x.copy()
    other[1:] = 1 - x[1:]
    np.testing.assert_array_equal(non_transductive_logits(model, phi, support[0], other)[0], answers[0])


@networks
def test_a_transductive_answer_depends_on_the_other_queries_and_not_on_their_order(model):
    phi, support, (x, _) = setting(model)
    answers = transductive_logits(model, phi, support[0], x)
    order = np.array([3, 0, 4, 2, 1])
    permuted = transductive_logits(model, phi, support[0], x[order])
    np.testing.assert_allclose(permuted, answers[order], rtol=0, atol=1e-12 * np.abs(answers).max())
    fewer = transductive_logits(model, phi, support[0], x[:3])
    assert np.abs(fewer - answers[:3]).max() > 1e-3


@networks
def test_a_non_transductive_answer_depends_on_the_support_set_even_without_fine_tuning(model):
    phi, support, (x, _) = setting(model)
    full, part = (non_transductive_logits(model, phi, s, x) for s in (support[0], support[0][:4]))
    assert np.abs(full - part).max() > 1e-3


@networks
def test_a_transductive_answer_does_not_read_the_support_images(model):
    phi, support, (x, _) = setting(model)
    answers = transductive_logits(model, phi, support[0], x)
    np.testing.assert_array_equal(transductive_logits(model, phi, support[0][:0], x), answers)


@networks
def test_scoring_fine_tuned_parameters_twice_gives_the_same_counts(model):
    """Batch norm keeps no running statistics: predicting changes nothing that a later answer reads."""
    phi, support, query = setting(model)
    episode = Episode(support, query, [support])
    first = accuracy(model, phi, episode)
    transductive_logits(model, phi, support[0], 5 * query[0])
    assert accuracy(model, phi, episode) == first


@networks
def test_mamls_query_loss_is_transductive_in_training(model):
    """The query batch of the outer loss is normalised by its own statistics, so its examples are coupled."""
    phi, support, (x, y) = setting(model)
    changed = x.copy()
    changed[-1] = x[-1][::-1]
    directions = []
    for query in (x, changed):
        t = adapt(model, Sgd(1e-2), phi, [support, (query, y)])
        directions.append(maml(model, 1e-2)(t))
    assert np.linalg.norm(directions[0] - directions[1]) > 1e-2 * np.linalg.norm(directions[0])
