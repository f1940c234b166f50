"""Meta-SGD's direction is the derivative of the whole loop with respect to φ and to the rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.checks.strategies import rational_vectors, task_families
from reptile_np.errors import UsageError
from reptile_np.meta.evaluation import Episode, evaluate, squared_error
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.learned_rates import LearnedRates, LearnedSgd
from reptile_np.meta.meta_gradients import maml
from reptile_np.meta.optimizers import Adam, Sgd
from reptile_np.meta.training import begin, meta_train
from reptile_np.nn.models import omniglot_cnn, sine_mlp
from reptile_np.theory.rational import exact_gradient
from tests.oracles import gradient
from tests.strategies import random_batch, random_phi, seeds, settings_of_a_task


def last_loss(learned, batches, theta):
    return adapt(learned, LearnedSgd(), theta, batches).losses[-1]


@given(setting=settings_of_a_task(steps=(1, 5)), seed=seeds)
def test_the_direction_is_the_complex_step_with_respect_to_phi_and_to_the_rates(setting, seed):
    learned = LearnedRates(setting.model)
    rates = np.random.default_rng(seed).uniform(-0.1, 0.2, len(setting.phi))
    theta = learned.start(setting.phi, rates)
    direction = maml(learned, LearnedSgd())(adapt(learned, LearnedSgd(), theta, setting.batches))
    expected = gradient(lambda p: last_loss(learned, setting.batches, p), theta)
    np.testing.assert_allclose(direction, expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max()))


@given(family=task_families(tasks=1, batches=3), data=st.data())
def test_the_direction_is_exact_in_rational_arithmetic(family, data):
    learned, batches = LearnedRates(family.model), family.tasks[0]
    theta = learned.start(family.phi, data.draw(rational_vectors(len(family.phi))))
    direction = maml(learned, LearnedSgd())(adapt(learned, LearnedSgd(), theta, batches))
    degree = 12  # the last loss: 3 (1 + 2 (1 + …)) in each entry of φ or α alone
    expected = exact_gradient(lambda p: last_loss(learned, batches, p), theta, degree)
    assert (direction == expected).all()


@given(setting=settings_of_a_task(steps=(2, 4)), seed=seeds)
def test_the_first_half_is_mamls_direction_for_sgd_with_those_rates(setting, seed):
    n = len(setting.phi)
    rates = np.random.default_rng(seed).uniform(0, 0.2, n)
    learned = LearnedRates(setting.model)
    theta = learned.start(setting.phi, rates)
    t = adapt(learned, LearnedSgd(), theta, setting.batches)
    direction = maml(learned, LearnedSgd())(t)
    plain = adapt(setting.model, Sgd(rates), setting.phi, setting.batches)
    np.testing.assert_array_equal(t.phis[-1], [*plain.phis[-1], *rates])
    np.testing.assert_allclose(direction[:n], maml(setting.model, Sgd(rates))(plain), rtol=0, atol=1e-13)


def test_meta_train_changes_the_rates_and_evaluate_uses_them():
    model, rng = sine_mlp((6,)), np.random.default_rng(0)
    learned, inner = LearnedRates(model), LearnedSgd()
    batches = [random_batch(model, rng, 4) for _ in range(3)]
    theta = learned.start(random_phi(model, rng), 0.05)
    *_, step = meta_train(
        learned,
        begin(theta, inner, Adam(1e-2)),
        lambda i, j: batches,
        meta_gradient=maml(learned, inner),
        inner=inner,
        outer=lambda i: Adam(1e-2),
        outer_steps=30,
    )
    n = model.layout.size
    assert (step.phi[n:] != 0.05).all()
    assert last_loss(learned, batches, step.phi) < last_loss(learned, batches, theta)
    episode = Episode(batches[0], batches[2], batches[:2])
    errors = evaluate(learned, inner, step.phi, (), lambda i: episode, 1, score=squared_error)
    tuned = adapt(model, Sgd(step.phi[n:]), step.phi[:n], batches[:2]).phis[-1]
    assert errors["error"][0] == squared_error(model, tuned, episode)["error"]


def test_float32_stays_float32_with_every_table_of_ops(ops):
    model, rng = omniglot_cnn(5, filters=4), np.random.default_rng(0)
    learned = LearnedRates(model.with_ops(ops))
    theta = learned.start(random_phi(model, rng, np.float32), 0.01)
    batches = [random_batch(model, rng, 5, np.float32) for _ in range(3)]
    direction = maml(learned, LearnedSgd())(adapt(learned, LearnedSgd(), theta, batches))
    assert theta.dtype == direction.dtype == np.float32
    assert np.isfinite(direction).all()


def test_a_wrong_number_of_rates_is_refused():
    with pytest.raises(
        UsageError, match=r"^learned rates: \(3,\) rates for phi \(2,\); give one, or one each$"
    ):
        LearnedRates(None).start(np.ones(2), np.ones(3))


def test_a_phi_without_fractions_and_rates_that_are_no_numbers_are_refused():
    """The rates have φ's dtype: all of them would be 0."""
    with pytest.raises(UsageError, match=r"^learned rates: phi is int64, which holds no fractions"):
        LearnedRates(None).start(np.array([1, 2]), 0.1)
    with pytest.raises(UsageError, match=r"^None is no number; give one$"):
        LearnedRates(None).start(np.ones(2), None)
    with pytest.raises(UsageError, match=r"^learned rates: phi is a list; give an array$"):
        LearnedRates(None).start([1.0, 2.0], 0.1)
    words = ["a"] * 2, ["0.1"] * 2, np.array(["1", "2"])
    for rates in (*words, [None] * 2, 1j, [0.1, 1j], [0.1, [0.1]], np.nan, [0.1, np.nan]):
        with pytest.raises(
            UsageError, match=r"^learned rates: .* is no rate for phi, float64; give numbers$"
        ):
            LearnedRates(None).start(np.ones(2), rates)


def test_a_vector_that_has_no_two_halves_is_refused():
    with pytest.raises(UsageError, match=r"^LearnedSgd: theta has shape \(13,\); give LearnedRates"):
        adapt(sine_mlp((4,)), LearnedSgd(), np.zeros(13), [None])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, complex, object])
@pytest.mark.parametrize("rates", [0.1, [0.1, 2], np.array([0.1, 2], np.float32), np.array([0.1, 2])])
def test_rates_are_rounded_to_phi_s_dtype_once(rates, dtype):
    theta = LearnedRates(None).start(np.ones(2, dtype), rates)
    assert theta.dtype == dtype
    np.testing.assert_array_equal(theta[2:], np.broadcast_to(np.asarray(rates), 2).astype(dtype))


@pytest.mark.parametrize("rates", [0.1 + 1e-30j, [0.1, 2 + 1j]])
def test_a_complex_phi_has_complex_rates(rates):
    """The complex step with respect to a rate needs them."""
    theta = LearnedRates(None).start(np.ones(2, complex), rates)
    np.testing.assert_array_equal(theta[2:], np.broadcast_to(rates, 2))
