"""The optimisers are the released program's formulas, as pure functions of (gradient, state, φ)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.meta.optimizers import Adam, AdamState, Clipped, HeavyBall, Sgd, linear_annealing
from tests.oracles import assert_close

numbers = st.floats(-1e3, 1e3)
OPTIMIZERS = [Sgd(0.1), HeavyBall(0.1), HeavyBall(0.1, 0.0), Adam(0.1), Adam(0.1, beta1=0.9)]
every = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)


def scalar_adam(gradients, phi, rate, beta1, beta2, epsilon):
    """TensorFlow 1's documented update, on one Python float."""
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        rate_t = rate * math.sqrt(1 - beta2**t) / (1 - beta1**t)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        phi -= rate_t * m / (math.sqrt(v) + epsilon)
    return phi, m, v


def run(optimizer, gradients, phi):
    state = optimizer.init(phi)
    for g in gradients:
        phi, state = optimizer.update(g, state, phi)
    return phi, state


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("epsilon", [1e-8, 1e-2])
@given(gradients=st.lists(numbers, min_size=1, max_size=8), phi=numbers)
def test_adam_is_the_released_form_entry_by_entry(beta1, epsilon, gradients, phi):
    expected = scalar_adam(gradients, phi, 1e-2, beta1, 0.99, epsilon)
    optimizer = Adam(1e-2, beta1, beta2=0.99, epsilon=epsilon)
    actual, state = run(optimizer, [np.array([g, -g]) for g in gradients], np.array([phi, -phi]))
    np.testing.assert_allclose(actual, [expected[0], -expected[0]], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(state.v, [expected[2]] * 2, rtol=1e-12)
    assert state.t == len(gradients)
    if beta1:
        np.testing.assert_allclose(state.m, [expected[1], -expected[1]], rtol=1e-12, atol=1e-300)
    else:
        assert state.m.size == 0  # nothing to remember


def test_epsilon_is_added_to_the_uncorrected_root():
    g, epsilon = 1e-6, 1e-8
    phi, _ = run(Adam(1.0, epsilon=epsilon), [np.array([g])], np.zeros(1))
    kingma_and_ba = -g / (g + epsilon)
    released = -math.sqrt(0.001) * g / (math.sqrt(0.001) * g + epsilon)
    np.testing.assert_allclose(phi, released, rtol=1e-12)
    assert abs(phi[0] / kingma_and_ba - 1) > 0.1


@given(g=st.floats(1e-2, 1e3), sign=st.sampled_from([-1, 1]), steps=st.integers(1, 5))
def test_under_a_constant_gradient_adam_moves_by_the_learning_rate_each_step(g, sign, steps):
    """v = (1 - β2ᵗ) g² and m = (1 - β1ᵗ) g, so each step is α up to ε; |g| √0.001 >= 3e4 ε."""
    for beta1 in (0.0, 0.9):
        phi, _ = run(Adam(1e-3, beta1), [np.array([sign * g])] * steps, np.zeros(1))
        np.testing.assert_allclose(phi, -sign * 1e-3 * steps, rtol=1e-4)


def test_adam_leaves_an_entry_without_gradient_where_it_is():
    phi, _ = run(Adam(0.1), [np.array([0.0, 1.0])] * 3, np.array([5.0, 5.0]))
    assert phi[0] == 5
    assert phi[1] < 5


@given(w=numbers, phi=numbers, epsilon=st.floats(0, 1))
def test_sgd_on_phi_minus_w_is_algorithm_1(w, phi, epsilon):
    moved, _ = Sgd(epsilon).update(np.array([phi - w]), (), np.array([phi]))
    np.testing.assert_allclose(moved, phi + epsilon * (w - phi), atol=1e-12)


@given(gradients=st.lists(numbers, min_size=1, max_size=6), mu=st.floats(0, 0.99))
def test_heavy_ball_velocity_is_the_discounted_sum_of_gradients(gradients, mu):
    phi, state = run(HeavyBall(0.5, mu), [np.array([g]) for g in gradients], np.zeros(1))
    velocities = [
        sum(mu ** (i - j) * g for j, g in enumerate(gradients[: i + 1])) for i in range(len(gradients))
    ]
    np.testing.assert_allclose(state.velocity, velocities[-1], atol=1e-9)
    np.testing.assert_allclose(phi, -0.5 * sum(velocities), atol=1e-9)


def test_heavy_ball_without_momentum_is_sgd():
    gradients = list(np.random.default_rng(0).normal(size=(4, 3)))
    assert_close(run(HeavyBall(0.1, 0.0), gradients, np.ones(3))[0], run(Sgd(0.1), gradients, np.ones(3))[0])


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_every_optimiser_keeps_the_dtype(optimizer, dtype):
    phi, state = run(optimizer, [np.ones(3, dtype)] * 2, np.zeros(3, dtype))
    arrays = [phi, *(part for part in state if isinstance(part, np.ndarray))]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@every
def test_an_update_changes_neither_phi_nor_the_gradient_nor_the_state(optimizer):
    gradient, phi = np.array([1.0, -2.0]), np.array([3.0, 4.0])
    _, state = optimizer.update(gradient, optimizer.init(phi), phi)
    frozen = [gradient, phi, *(part for part in state if isinstance(part, np.ndarray))]
    for array in frozen:
        array.setflags(write=False)
    first, second = (optimizer.update(gradient, state, phi) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    for a, b in zip(first[1], second[1], strict=True):
        np.testing.assert_array_equal(a, b)


@every
def test_the_state_may_be_kept_and_used_again(optimizer):
    """A run that goes on from a kept state is the run that never stopped."""
    gradients = list(np.random.default_rng(0).normal(size=(6, 3)))
    expected, _ = run(optimizer, gradients, np.ones(3))
    phi, state = run(optimizer, gradients[:3], np.ones(3))
    run_elsewhere = phi, state
    for g in gradients:
        run_elsewhere = optimizer.update(g, run_elsewhere[1], run_elsewhere[0])
    for g in gradients[3:]:
        phi, state = optimizer.update(g, state, phi)
    np.testing.assert_array_equal(phi, expected)


def test_annealing_goes_from_first_to_last_in_a_straight_line():
    rate = linear_annealing(1.0, 0.2, 4)
    np.testing.assert_allclose([rate(i) for i in range(5)], [1.0, 0.8, 0.6, 0.4, 0.2])


def test_annealing_between_equal_ends_is_constant():
    assert {linear_annealing(0.5, 0.5, 8)(i) for i in range(8)} == {0.5}


def test_heavy_ball_starts_at_rest_with_a_momentum_of_0_9():
    assert HeavyBall(1.0).momentum == 0.9
    phi, gradient = np.array([3.0, -2.0]), np.array([0.5, 4.0])
    state = HeavyBall(1.0).init(phi)
    np.testing.assert_array_equal(state.velocity, [0, 0])
    first, state = HeavyBall(1.0).update(gradient, state, phi)
    np.testing.assert_array_equal(first, phi - gradient)
    second, _ = HeavyBall(1.0).update(gradient, state, first)
    np.testing.assert_array_equal(second, first - 1.9 * gradient)


def test_adam_has_the_released_programs_defaults():
    assert Adam(1e-3) == Adam(learning_rate=1e-3, beta1=0.0, beta2=0.999, epsilon=1e-8)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"beta1": 1.0}, "Adam: beta1 is 1.0; it must be at least 0 and less than 1"),
        ({"beta1": -0.1}, "Adam: beta1 is -0.1; it must be at least 0 and less than 1"),
        ({"beta2": 1.0}, "Adam: beta2 is 1.0; it must be at least 0 and less than 1"),
        ({"beta2": math.nan}, "Adam: beta2 is nan; it must be at least 0 and less than 1"),
        ({"epsilon": 0.0}, "Adam: epsilon is 0.0; it must be greater than 0"),
    ],
)
def test_an_adam_that_would_divide_by_zero_is_refused_in_one_line(options, line):
    with pytest.raises(UsageError) as error:
        Adam(1e-3, **options)
    assert str(error.value) == line


def test_a_clipped_optimiser_is_given_each_entry_cut_to_the_bound():
    phi, grad = np.array([1.0, 2.0, 3.0]), np.array([0.5, -20.0, 30.0])
    for optimizer in (Sgd(0.1), Adam(0.1), HeavyBall(0.1)):
        clipped = Clipped(optimizer, 10.0)
        expected = optimizer.update(np.array([0.5, -10.0, 10.0]), optimizer.init(phi), phi)
        actual = clipped.update(grad, clipped.init(phi), phi)
        for a, b in zip((actual[0], *actual[1]), (expected[0], *expected[1]), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("bound", [0, -1.0, math.nan])
def test_a_bound_that_clips_nothing_or_turns_gradients_round_is_refused(bound):
    with pytest.raises(UsageError, match=rf"^Clipped: bound is {bound}; it must be greater than 0$"):
        Clipped(Sgd(0.1), bound)


@pytest.mark.parametrize("optimizer", [None, Sgd, 0.1])
def test_what_is_no_optimiser_is_not_clipped(optimizer):
    with pytest.raises(UsageError, match=r"^Clipped: the optimizer is .*; give one, such as Sgd\(0\.1\)$"):
        Clipped(optimizer, 1.0)


@pytest.mark.parametrize("steps", [0, 2.5, math.nan, True, None, "a"])
def test_an_annealing_is_over_a_whole_number_of_steps(steps):
    with pytest.raises(
        UsageError, match=rf"^linear_annealing: steps is {steps!r}; give a whole number of at"
    ):
        linear_annealing(1.0, 0.0, steps)


@pytest.mark.parametrize("ends", [(None, 0.0), (1.0, "0"), ([1.0], 0.0)])
def test_an_annealing_is_between_two_numbers(ends):
    with pytest.raises(
        UsageError, match=r"is no number; give one$|^linear_annealing: first is \[1\.0\]; give a"
    ):
        linear_annealing(*ends, 3)


def test_the_adjoint_of_adam_has_no_term_through_a_root_of_zero():
    """Written out for v = 0 before and after the step, and m = 0.9 before it."""
    optimizer = Adam(1.0, beta1=0.9, beta2=0.75, epsilon=0.25)
    rate = math.sqrt(1 - 0.75**2) / (1 - 0.9**2)
    state = AdamState(np.array([0.9]), np.array([0.0]), 1)
    adjoint = AdamState(np.array([0.5]), np.array([8.0]), 0)
    grad_bar, (m_bar, v_bar, _), phi_bar = optimizer.update_bar(
        np.array([2.0]), adjoint, np.array([0.0]), state, np.array([1.0])
    )
    through_m = 0.5 - rate * 2 / 0.25
    assert (v_bar[0], phi_bar[0]) == (0.75 * 8, 2)
    np.testing.assert_allclose([grad_bar[0], m_bar[0]], [0.1 * through_m, 0.9 * through_m], rtol=1e-12)


@pytest.mark.parametrize("make", [Sgd, HeavyBall, Adam, lambda rate: Adam(0.1, epsilon=rate)])
def test_a_number_given_as_text_is_refused(make):
    with pytest.raises(UsageError, match=r"^'0\.1' is no number; give one$"):
        make("0.1")


@pytest.mark.parametrize("number", [np.float64, np.float32, np.int64, lambda x: np.array(float(x))])
def test_numbers_of_numpy_do_not_change_phi_s_dtype(number):
    phi = grad = np.ones(3, np.float32)
    for optimizer in (
        Sgd(number(1)),
        HeavyBall(number(1), number(2)),
        Adam(number(1), number(0), number(0), number(1)),
        Clipped(Sgd(1), number(1)),
        Sgd(linear_annealing(number(1), number(0), 3)(1)),
    ):
        for _ in range(2):
            end, state = optimizer.update(grad, optimizer.init(phi), phi)
            assert end.dtype == np.float32
            assert all(np.asarray(part).dtype in (np.float32, np.int64) for part in state)


STATES = {
    "none of Adam's": (Adam(0.1), ()),
    "of Adam, given to Sgd": (Sgd(0.1), Adam(0.1).init(np.zeros(3))),
    "of Adam, given to momentum": (HeavyBall(0.1), Adam(0.1).init(np.zeros(3))),
    "of momentum, given to Adam": (Adam(0.1), HeavyBall(0.1).init(np.zeros(3))),
    "of another phi": (Adam(0.1), Adam(0.1).init(np.zeros(1))),
    "of momentum for another phi": (HeavyBall(0.1), HeavyBall(0.1).init(np.zeros(1))),
    "without the first moment": (Adam(0.1, beta1=0.9), Adam(0.1).init(np.zeros(3))),
    "after -1 steps": (Adam(0.1), Adam(0.1).init(np.zeros(3))._replace(t=-1)),
    "after 1.5 steps": (Adam(0.1), Adam(0.1).init(np.zeros(3))._replace(t=1.5)),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_of_another_optimiser_or_of_another_phi_is_refused(name):
    optimizer, state = STATES[name]
    with pytest.raises(
        UsageError, match=rf"^{type(optimizer).__name__}: the state, .*, is of another optimiser"
    ):
        optimizer.update(np.ones(3), state, np.zeros(3))


@pytest.mark.parametrize("optimizer", [Sgd, HeavyBall, Adam])
@pytest.mark.parametrize("rate", [linear_annealing(1, 0, 3), {}])
def test_a_schedule_in_place_of_a_rate_is_refused(optimizer, rate):
    with pytest.raises(UsageError, match=r" is no number; give one$"):
        optimizer(rate)


VECTORS = [[0.5], np.full(3, 0.5)]


@pytest.mark.parametrize("vector", VECTORS, ids=str)
@pytest.mark.parametrize(
    ("what", "make"),
    [
        ("HeavyBall: momentum", lambda vector: HeavyBall(0.1, vector)),
        ("Adam: beta1", lambda vector: Adam(0.1, beta1=vector)),
        ("Adam: beta2", lambda vector: Adam(0.1, beta2=vector)),
        ("Adam: epsilon", lambda vector: Adam(0.1, epsilon=vector)),
        ("Clipped: bound", lambda vector: Clipped(Sgd(0.1), vector)),
    ],
)
def test_only_the_rate_may_be_a_vector(what, make, vector):
    with pytest.raises(UsageError, match=rf"^{what} is .*; give a number$"):
        make(vector)


@pytest.mark.parametrize("optimizer", [Sgd, HeavyBall, Adam])
def test_a_rate_that_is_none_is_refused(optimizer):
    with pytest.raises(UsageError, match=r"^None is no number; give one$"):
        optimizer(None)


@pytest.mark.parametrize("optimizer", [Sgd, HeavyBall, Adam])
@pytest.mark.parametrize("rate", [math.nan, np.float32("nan")], ids=["float", "of NumPy"])
def test_a_rate_that_is_nan_begins_no_loop(optimizer, rate):
    with pytest.raises(UsageError, match=rf"^{optimizer.__name__}: the rates are nan, .*; give a number, or"):
        optimizer(rate).init(np.ones(3))
