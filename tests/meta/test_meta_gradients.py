"""The meta-gradients are what the paper defines; MAML's is the exact derivative of the whole loop."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import fomaml, gradient_sum, maml, reptile
from reptile_np.meta.optimizers import Adam, Clipped, Sgd
from reptile_np.nn.models import omniglot_cnn, sine_mlp
from tests.oracles import assert_close, gradient, inner, relative_error, tangent
from tests.strategies import random_batch, random_phi, settings_of_a_task

alphas = st.floats(1e-3, 0.2)
one_step = settings_of_a_task(steps=(1, 1))


def loss_after(setting, optimizer, phi):
    """``L_k(U_{k-1}(… U_1(φ)))``: the last loss of the loop, as a function of where it started."""
    return adapt(setting.model, optimizer, phi, setting.batches).losses[-1]


@given(setting=settings_of_a_task(), alpha=alphas)
def test_maml_is_the_complex_step_through_the_whole_loop(setting, alpha):
    direction = maml(setting.model, alpha)(setting.trajectory(alpha))
    expected = gradient(lambda phi: loss_after(setting, Sgd(alpha), phi), setting.phi)
    np.testing.assert_allclose(direction, expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("model", [omniglot_cnn(5, filters=6), sine_mlp((8, 8))], ids=["omniglot", "sine"])
def test_maml_is_exact_on_the_papers_networks_in_float64(model):
    rng = np.random.default_rng(0)
    phi, alpha = random_phi(model, rng), 1e-3
    batches = [random_batch(model, rng, 5) for _ in range(4)]
    t = adapt(model, Sgd(alpha), phi, batches)
    direction, v = maml(model, alpha)(t), rng.normal(size=phi.shape)
    slope = tangent(lambda phi: adapt(model, Sgd(alpha), phi, batches).losses[-1], phi, v)
    assert abs(inner(direction, v) - slope) <= 1e-12 * inner(np.abs(direction), np.abs(v))
    assert relative_error(direction, t.grads[-1]) > 1e-6  # the second-order terms are there


@given(setting=settings_of_a_task(), alpha=alphas)
def test_reptile_is_the_sum_of_displacements_and_under_sgd_alpha_times_the_sum_of_gradients(setting, alpha):
    t = setting.trajectory(alpha)
    displacements = [a - b for a, b in zip(t.phis, t.phis[1:], strict=False)]
    assert_close(reptile(t), np.sum(displacements, axis=0), 1e-10)
    assert_close(reptile(t), alpha * gradient_sum([1] * len(t.grads))(t), 1e-10)


@pytest.mark.parametrize("number", [np.float64, np.int64])
def test_weights_of_numpy_leave_a_float32_direction_float32(number):
    model = sine_mlp()
    phi = model.init(np.random.default_rng(0))
    x = np.linspace(-1, 1, 5, dtype=np.float32)[:, np.newaxis]
    t = adapt(model, Sgd(0.01), phi, [(x, x)] * 3)
    weights = np.array([1, 2, 3], number)
    for directions in (gradient_sum, lambda w: maml(model, 0.01, w)):
        found, expected = directions(weights)(t), directions(weights.tolist())(t)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


@given(setting=settings_of_a_task(), alpha=alphas)
def test_fomaml_is_the_last_displacement_and_under_sgd_alpha_times_the_last_gradient(setting, alpha):
    t = setting.trajectory(alpha)
    last = [0] * (len(t.grads) - 1) + [1]
    np.testing.assert_array_equal(fomaml(t), t.phis[-2] - t.phis[-1])
    np.testing.assert_array_equal(gradient_sum(last)(t), t.grads[-1])
    assert_close(fomaml(t), alpha * t.grads[-1], 1e-9)


@given(setting=settings_of_a_task(steps=(3, 3)), alpha=alphas)
def test_under_adam_fomaml_is_still_a_displacement_and_not_a_gradient(setting, alpha):
    t = adapt(setting.model, Adam(alpha), setting.phi, setting.batches)
    np.testing.assert_array_equal(fomaml(t), t.phis[2] - t.phis[3])
    directions = [vector / np.linalg.norm(vector) for vector in (fomaml(t), t.grads[-1])]
    assert relative_error(*directions) > 1e-3


@given(setting=one_step, alpha=alphas)
def test_with_one_step_reptile_fomaml_maml_and_joint_training_coincide_up_to_scale(setting, alpha):
    t = setting.trajectory(alpha)
    joint = setting.model.loss_and_grad(setting.phi, setting.batches[0])[1]
    np.testing.assert_array_equal(maml(setting.model, alpha)(t), joint)
    np.testing.assert_array_equal(gradient_sum([1])(t), joint)
    np.testing.assert_array_equal(reptile(t), fomaml(t))
    assert_close(reptile(t), alpha * joint, 1e-9)


@given(setting=settings_of_a_task(), w=st.lists(st.integers(-3, 3), min_size=4, max_size=4))
def test_a_gradient_sum_is_linear_in_its_weights(setting, w):
    t = setting.trajectory(0.1)
    k = len(t.grads)
    expected = sum(weight * grad for weight, grad in zip(w[:k], t.grads, strict=True))
    np.testing.assert_allclose(gradient_sum(w[:k])(t), expected, rtol=1e-13, atol=1e-13)


@given(setting=settings_of_a_task(), alpha=alphas)
def test_reptile_and_fomaml_need_only_the_ends(setting, alpha):
    ends = adapt(setting.model, Sgd(alpha), setting.phi, setting.batches, keep="ends")
    for meta_gradient in (reptile, fomaml):
        np.testing.assert_array_equal(meta_gradient(ends), meta_gradient(setting.trajectory(alpha)))


@given(setting=settings_of_a_task(), alpha=alphas)
def test_maml_from_kept_hessians_is_bitwise_maml(setting, alpha):
    direction = maml(setting.model, alpha)
    kept = adapt(setting.model, Sgd(alpha), setting.phi, setting.batches, keep="hessians")
    assert len(kept.hessians) == len(setting.batches)
    np.testing.assert_array_equal(direction(kept), direction(setting.trajectory(alpha)))


@given(setting=settings_of_a_task())
def test_no_meta_gradient_writes_to_the_trajectory(setting):
    t = setting.trajectory(0.1)
    for array in (*t.phis, *t.grads):
        array.setflags(write=False)
    weights = [1] * len(t.grads)
    for meta_gradient in (reptile, fomaml, maml(setting.model, 0.1), gradient_sum(weights)):
        np.testing.assert_array_equal(meta_gradient(t), meta_gradient(t))


@pytest.mark.parametrize("meta_gradient", [gradient_sum([1, 1]), maml(sine_mlp(), 0.1)], ids=["sum", "maml"])
def test_a_meta_gradient_that_needs_every_step_refuses_the_ends(meta_gradient):
    model, rng = sine_mlp(), np.random.default_rng(0)
    batches = [random_batch(model, rng, 3, np.float32)] * 2
    ends = adapt(model, Sgd(0.1), model.init(rng), batches, keep="ends")
    with pytest.raises(UsageError, match=r'^this meta-gradient needs every step: use keep="all"'):
        meta_gradient(ends)


def test_a_wrong_number_of_weights_is_refused():
    model, rng = sine_mlp(), np.random.default_rng(0)
    t = adapt(model, Sgd(0.1), model.init(rng), [random_batch(model, rng, 3, np.float32)] * 2)
    with pytest.raises(UsageError, match=r"^3 weights for 2 inner steps$"):
        gradient_sum([1, 1, 1])(t)


@pytest.mark.parametrize("alpha", [[0.1, 0.2], "0.1", None, Sgd, Clipped(Sgd(0.1), 1.0)])
def test_a_rate_that_is_no_number_array_or_inner_optimiser_is_refused(alpha):
    with pytest.raises(
        UsageError, match=r"^maml: alpha is .*; give a number, an array, or the inner optimiser"
    ):
        maml(None, alpha)


@pytest.mark.parametrize("keep", ["all", "hessians", "sqrt"])
@pytest.mark.parametrize(
    ("inner", "alpha"),
    [
        (Sgd(0.1), 0.2),
        (Sgd(0.1), np.full(13, 0.2)),
        (Sgd(np.full(13, 0.1)), 0.2),
        (Adam(0.1), 0.1),
        (Sgd(0.1), Adam(0.1)),
        (Adam(0.1), Adam(0.1, beta1=0.5)),
    ],
)
def test_maml_refuses_the_trajectory_of_another_optimiser_or_rate(inner, alpha, keep):
    model, rng = sine_mlp((4,)), np.random.default_rng(0)
    batches = [random_batch(model, rng, 3) for _ in range(3)]
    t = adapt(model, inner, random_phi(model, rng), batches, keep=keep)
    with pytest.raises(UsageError, match=r"^maml: the inner loop used (Sgd|Adam), not as alpha says"):
        maml(model, alpha)(t)


@pytest.mark.parametrize("keep", ["all", "hessians", "sqrt"])
@pytest.mark.parametrize("rate", [0.1, np.full(13, 0.1)], ids=["one", "each"])
@pytest.mark.parametrize("kind", [Sgd, Adam])
def test_maml_takes_the_same_rate_in_another_optimiser(kind, rate, keep):
    model, rng = sine_mlp((4,)), np.random.default_rng(0)
    batches = [random_batch(model, rng, 3) for _ in range(3)]
    t = adapt(model, kind(rate), random_phi(model, rng), batches, keep=keep)
    expected = maml(model, t.optimizer)(t)
    np.testing.assert_array_equal(maml(model, kind(np.copy(rate)))(t), expected)


def test_a_state_of_another_optimiser_is_refused_where_the_optimiser_is_not_known():
    model, rng = sine_mlp((4,)), np.random.default_rng(0)
    t = adapt(model, Sgd(0.1), random_phi(model, rng), [random_batch(model, rng, 3) for _ in range(2)])
    with pytest.raises(UsageError, match=r"^Adam: the state, .*, is of another optimiser"):
        maml(model, Adam(0.1))(replace(t, optimizer=None))


@pytest.mark.parametrize("w", [None, 3, np.array(1.0), "12", [[1, 2]], np.ones((2, 2)), [object()]])
def test_weights_that_are_no_list_of_numbers_are_refused(w):
    with pytest.raises(UsageError, match=r"^gradient_sum: w is |is no number; give one$"):
        gradient_sum(w)
    if w is not None:  # no weights: the last loss alone
        with pytest.raises(UsageError, match=r"^maml: weights is |is no number; give one$"):
            maml(sine_mlp(), 0.1, weights=w)


@pytest.mark.parametrize(
    "product", [lambda hv: hv[:, np.newaxis], lambda hv: 2.0], ids=["a column", "a number"]
)
@pytest.mark.parametrize("alpha", [0.1, np.full(3, 0.1), Adam(0.1)], ids=["one rate", "rates", "Adam"])
def test_a_hessian_product_of_another_shape_than_phi_is_refused(product, alpha):
    class Bowl:
        def loss_and_grad(self, phi, batch):
            return phi @ phi / 2, phi.copy()

        def hvp(self, phi, batch, v):
            return product(v)

    optimizer = alpha if isinstance(alpha, Adam) else Sgd(alpha)
    t = adapt(Bowl(), optimizer, np.arange(3.0), [None] * 3)
    with pytest.raises(UsageError, match=r"^hvp: the product has shape \(.*\), phi \(3,\)$"):
        maml(Bowl(), alpha)(t)


@pytest.mark.parametrize("rates", [np.full((3, 1), 0.1), np.full(2, 0.1)], ids=["a column", "two"])
@pytest.mark.parametrize("steps", [1, 2])
def test_rates_that_do_not_fit_phi_are_refused(rates, steps):
    model, rng = sine_mlp((4,)), np.random.default_rng(0)
    t = adapt(model, Sgd(0.1), random_phi(model, rng), [random_batch(model, rng, 3)] * steps)
    with pytest.raises(
        UsageError, match=r"^Sgd: the rates are float64 .*; give a number, or an array of one rate per"
    ):
        maml(model, rates)(t)
