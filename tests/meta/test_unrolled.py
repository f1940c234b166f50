"""MAML is the exact derivative of the inner loop, for every inner optimiser and every weighted query loss.

The reference is the complex step through the *whole* inner loop, the optimiser's state included, and for
losses that are polynomials exact rational arithmetic.
"""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.checks.strategies import rational_vectors, task_families
from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import maml
from reptile_np.meta.optimizers import Adam, HeavyBall, Sgd
from reptile_np.nn.layers import Dense
from reptile_np.nn.losses import SquaredError
from reptile_np.nn.models import Model, omniglot_cnn
from reptile_np.nn.parameter_free import Tanh
from reptile_np.theory.rational import exact_gradient
from tests.meta.optimizer_kinds import kinds, optimizers_of
from tests.oracles import gradient, inner, tangent
from tests.strategies import Setting, random_batch, random_phi, seeds, settings_of_a_task

TOLERANCE = 1e-12
alphas = st.floats(1e-3, 0.2)


def query_loss(model, optimizer, batches, phi, weights=None, state=None):
    """``Σ_i w_i L_k(φ_i)``, by running the loop from φ."""
    points = adapt(model, optimizer, phi, batches, state).phis[:-1]
    weights = [0] * (len(batches) - 1) + [1] if weights is None else weights
    return sum(w * model.loss_and_grad(p, batches[-1])[0] for w, p in zip(weights, points, strict=True) if w)


WIDE = np.longdouble
needs_wide = pytest.mark.skipif(np.finfo(WIDE).eps > 1e-18, reason="long double is double on this platform")
"""Why whole loops of drawn networks run in long double (u = 5e-20, float64 has 1e-16).

Adam's step ``r m / d``, ``d = √v + ε``, has the slopes r / d in m and r m / d² in √v.  If a gradient is
small, both are large, their terms nearly cancel, and the slopes of the steps multiply the rounding error.  In
float64 it reached 3e-12 of the scale in 150 draws, and a bound from the slopes, up to 1e24, would refuse
nothing.  In long double all rounding is smaller by the ratio of the u's, 2,000: 5e-15 in 200 draws.  So 1e-12
is kept, for Adam as for the others.
"""


def wide(setting):
    """φ and the minibatches in long double."""
    return setting.phi.astype(WIDE), [(x.astype(WIDE), y.astype(WIDE)) for x, y in setting.batches]


def assert_is_derivative(direction, loss, phi):
    """The complex step of the loop, entry by entry, against the direction."""
    expected = gradient(loss, phi)
    assert direction.dtype == expected.dtype == phi.dtype
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(direction, expected, rtol=0, atol=TOLERANCE * scale)


@needs_wide
@kinds
@given(setting=settings_of_a_task(steps=(1, 5)), alpha=alphas, seed=seeds)
def test_maml_is_the_complex_step_through_the_loop_of_every_optimiser(kind, setting, alpha, seed):
    optimizer = optimizers_of(len(setting.phi), np.random.default_rng(seed), alpha)[kind]
    phi, batches = wide(setting)
    direction = maml(setting.model, optimizer)(adapt(setting.model, optimizer, phi, batches))
    assert_is_derivative(direction, lambda p: query_loss(setting.model, optimizer, batches, p), phi)


class WithoutTheRoot(Adam):
    """Adam with beta1 = 0 whose adjoint leaves out the term through √v."""

    def update_bar(self, phi_bar, state_bar, grad, state, phi):
        _, v, t = self._moments(grad, state)
        return -self._rate(t) * phi_bar / (np.sqrt(v) + self.epsilon), state_bar, phi_bar


@needs_wide
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (Adam(0.05), WithoutTheRoot(0.05)),
        (Adam(0.05), Adam(0.05, beta2=0.999 + 1e-6)),
        (Adam(0.05, beta1=0.9), Adam(0.05, beta1=0.9 + 1e-6)),
        (Adam(0.05, epsilon=1e-3), Adam(0.05, epsilon=1e-3 + 1e-9)),
    ],
    ids=["no term through √v", "β2 off by 1e-6", "β1 off by 1e-6", "ε off by 1e-6 of it"],
)
def test_an_error_planted_in_adams_adjoint_is_refused(right, wrong, seed):
    model, rng = Model((Dense(3), Tanh(), Dense(1)), (2,), SquaredError("sum")), np.random.default_rng(seed)
    batches = [random_batch(model, rng, 3) for _ in range(4)]
    phi, batches = wide(Setting(model, random_phi(model, rng), batches))
    loss = lambda p: query_loss(model, right, batches, p)  # noqa: E731
    t = adapt(model, right, phi, batches)
    assert_is_derivative(maml(model, right)(t), loss, phi)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_is_derivative(maml(model, wrong)(replace(t, optimizer=None)), loss, phi)


@needs_wide
@kinds
@given(
    setting=settings_of_a_task(steps=(4, 4)),
    weights=st.lists(st.sampled_from([0, 0.25, 1, -2]), min_size=4, max_size=4),
    seed=seeds,
)
def test_a_query_loss_may_be_weighted_over_the_steps(kind, setting, weights, seed):
    optimizer = optimizers_of(len(setting.phi), np.random.default_rng(seed), 0.05)[kind]
    phi, batches = wide(setting)
    direction = maml(setting.model, optimizer, weights)(adapt(setting.model, optimizer, phi, batches))
    if any(weights):
        assert_is_derivative(
            direction, lambda p: query_loss(setting.model, optimizer, batches, p, weights), phi
        )
    else:
        np.testing.assert_array_equal(direction, 0)


@needs_wide
@kinds
@given(setting=settings_of_a_task(steps=(3, 3)), seed=seeds)
def test_the_state_before_the_loop_is_a_constant(kind, setting, seed):
    """Adam's moments and HeavyBall's velocity continue from another task; they do not depend on φ."""
    rng = np.random.default_rng(seed)
    optimizer = optimizers_of(len(setting.phi), rng, 0.05)[kind]
    phi, batches = wide(setting)
    state = adapt(setting.model, optimizer, random_phi(setting.model, rng, WIDE), batches).state
    direction = maml(setting.model, optimizer)(adapt(setting.model, optimizer, phi, batches, state))
    assert_is_derivative(
        direction, lambda p: query_loss(setting.model, optimizer, batches, p, None, state), phi
    )


@kinds
def test_maml_is_exact_on_the_papers_network_for_every_optimiser(kind):
    model, rng = omniglot_cnn(5, filters=6), np.random.default_rng(0)
    phi = random_phi(model, rng)
    optimizer = optimizers_of(len(phi), rng, 1e-3)[kind]
    batches = [random_batch(model, rng, 5) for _ in range(4)]
    direction, v = maml(model, optimizer)(adapt(model, optimizer, phi, batches)), rng.normal(size=phi.shape)
    slope = tangent(lambda p: query_loss(model, optimizer, batches, p), phi, v)
    assert abs(inner(direction, v) - slope) <= TOLERANCE * inner(np.abs(direction), np.abs(v))


@kinds
def test_adam_and_the_others_give_no_nan_where_a_gradient_is_exactly_zero(kind):
    """The biases before a batch norm have gradients of exactly 0, so Adam's v is 0 there in every step."""
    model, rng = omniglot_cnn(5, filters=6), np.random.default_rng(0)
    phi = random_phi(model, rng)
    batches = [random_batch(model, rng, 5) for _ in range(3)]
    optimizer = optimizers_of(len(phi), rng, 1e-3)[kind]
    t = adapt(model, optimizer, phi, batches)
    assert not any(model.layout.views(grad)["conv1/bias"].any() for grad in t.grads)
    assert np.isfinite(maml(model, optimizer)(t)).all()


class Parabola:
    """``L(φ) = ½ Σ a_i φ_i² + b_i φ_i``, whose gradients can be made exactly zero; a batch is (a, b)."""

    def loss_and_grad(self, phi, batch):
        a, b = batch
        return (a * phi * phi / 2 + b * phi).sum(), a * phi + b

    def hvp(self, phi, batch, v):
        return batch[0] * v


@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("steps", [2, 3])
def test_where_all_gradients_were_zero_the_derivative_of_adam_is_that_of_its_first_order(beta1, steps):
    """φ = 0 with b = 0: all gradients are 0, and the complex step sees ``-r g / (√v + ε)`` around g = 0."""
    rng = np.random.default_rng(0)
    adam = Adam(1e-9, beta1=beta1)  # r / ε is 0.1: Adam's slope at zero
    phi = np.array([0.0, 0.7])
    batches = [(rng.uniform(1, 2, 2), np.array([0.0, 0.1])) for _ in range(steps)]
    batches.append((rng.uniform(1, 2, 2), np.array([0.3, 0.1])))
    t = adapt(Parabola(), adam, phi, batches)
    assert all(grad[0] == 0 for grad in t.grads[:-1])
    direction = maml(Parabola(), adam)(t)
    assert direction[0] != t.grads[-1][0]
    assert_is_derivative(direction, lambda p: query_loss(Parabola(), adam, batches, p), phi)


def test_one_step_of_adam_at_a_zero_gradient_has_the_slope_of_the_step():
    """``-r g / (√(1 - β2) |g| + ε)`` has the slope -r / ε at g = 0."""
    adam, one = Adam(1e-3), np.ones(1)
    state = adam.init(one)
    grad_bar, state_bar, phi_bar = adam.update_bar(one, adam.init(0 * one), 0 * one, state, one)
    rate = 1e-3 * np.sqrt(1 - 0.999)
    np.testing.assert_allclose(grad_bar, -rate / 1e-8, rtol=1e-12)
    np.testing.assert_array_equal(phi_bar, one)
    np.testing.assert_array_equal(state_bar.v, 0)


@given(family=task_families(tasks=1, batches=3), data=st.data())
def test_sgd_with_a_rate_per_parameter_is_exact_in_rational_arithmetic(family, data):
    model, phi, batches = family.model, family.phi, family.tasks[0]
    rates = data.draw(rational_vectors(len(phi)))
    weights = data.draw(st.lists(st.fractions(-2, 2, max_denominator=3), min_size=3, max_size=3))
    optimizer = Sgd(rates)
    direction = maml(model, optimizer, weights)(adapt(model, optimizer, phi, batches))
    degree = model.degree * (model.degree - 1) ** 2
    loss = lambda p: query_loss(model, optimizer, batches, p, weights)  # noqa: E731
    assert (direction == exact_gradient(loss, phi, degree)).all()


@given(family=task_families(tasks=1, batches=3), alpha=st.fractions(-2, 2, max_denominator=3))
def test_one_rate_and_equal_rates_are_the_same_in_rational_arithmetic(family, alpha):
    model, phi, batches = family.model, family.phi, family.tasks[0]
    rates = np.array([alpha] * len(phi), dtype=object)
    one, each = (maml(model, r)(adapt(model, Sgd(r), phi, batches)) for r in (alpha, rates))
    assert (one == each).all()


@given(family=task_families(tasks=1, batches=3), mu=st.fractions(-1, 1, max_denominator=3))
def test_heavy_ball_is_exact_in_rational_arithmetic(family, mu):
    model, phi, batches = family.model, family.phi, family.tasks[0]
    optimizer = HeavyBall(Fraction(1, 2), mu)
    direction = maml(model, optimizer)(adapt(model, optimizer, phi, batches))
    degree = model.degree * (model.degree - 1) ** 2
    expected = exact_gradient(lambda p: query_loss(model, optimizer, batches, p), phi, degree)
    assert (direction == expected).all()


@given(setting=settings_of_a_task(steps=(1, 4)), seed=seeds)
def test_a_mask_keeps_parameters_in_the_inner_loop_and_not_in_the_outer_loop(setting, seed):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 2, len(setting.phi)).astype(float)
    t = adapt(setting.model, Sgd(0.1 * mask), setting.phi, setting.batches)
    np.testing.assert_array_equal(t.phis[-1][mask == 0], setting.phi[mask == 0])
    direction = maml(setting.model, Sgd(0.1 * mask))(t)
    assert (direction[mask == 0] != 0).sum() >= (t.grads[-1][mask == 0] != 0).sum()


class Decayed(Sgd):
    """SGD with weight decay: a subclass with an adjoint of its own."""

    def update(self, grad, state, phi):
        return super().update(grad + phi / 2, state, phi)

    def update_bar(self, phi_bar, state_bar, grad, state, phi):
        grad_bar, state_bar, phi_bar = super().update_bar(phi_bar, state_bar, grad, state, phi)
        return grad_bar, state_bar, phi_bar + grad_bar / 2


@given(family=task_families(tasks=1, batches=3), data=st.data())
def test_a_subclass_of_sgd_is_differentiated_by_its_own_adjoint(family, data):
    model, phi, batches = family.model, family.phi, family.tasks[0]
    rule = Decayed(data.draw(rational_vectors(len(phi))))
    direction = maml(model, rule)(adapt(model, rule, phi, batches))
    degree = model.degree * (model.degree - 1) ** 2
    exact = exact_gradient(lambda p: query_loss(model, rule, batches, p), phi, degree)
    assert (direction == exact).all()


@pytest.mark.parametrize("optimizer", [Sgd, HeavyBall, Adam])
@pytest.mark.parametrize(
    "rates",
    [np.ones(3), np.ones((1, 2)), np.ones(2, complex), [1.0, 1.0]],
    ids=["too many", "shape", "dtype", "list"],
)
def test_rates_that_do_not_fit_phi_are_refused_in_one_line(optimizer, rates):
    line = rf"^{optimizer.__name__}: the rates are .*; give a number, or an array of one rate per .* dtype$"
    with pytest.raises(UsageError, match=line):
        adapt(Parabola(), optimizer(rates), np.ones(2), [(np.ones(2), np.ones(2))])


def test_a_wrong_number_of_weights_is_refused():
    t = adapt(Parabola(), Sgd(0.1), np.ones(2), [(np.ones(2), np.ones(2))] * 2)
    with pytest.raises(UsageError, match=r"^3 weights for 2 inner steps$"):
        maml(Parabola(), 0.1, [1, 1, 1])(t)
