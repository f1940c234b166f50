"""Slopes of black boxes are right, and their uncertainty bounds the error."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reptile_np.checks.differences import slope


@given(st.floats(-3, 3), st.floats(-2, 2))
def test_the_uncertainty_of_a_slope_is_small_and_its_value_right(x, y):
    measured = slope(lambda t: np.array([np.exp(x + t), np.sin(y - 2 * t)]))
    error = np.linalg.norm(measured.value - [np.exp(x), -2 * np.cos(y)])
    assert error <= 1e-10 * np.exp(3)
    assert error <= measured.uncertainty + measured.rounding
    assert measured.uncertainty <= 1e-9 * np.exp(3)
    assert measured.jump <= 1e-8 * np.exp(3)


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_the_jump_is_the_difference_of_the_one_sided_slopes(left, right):
    def kinked(t):
        return np.cos(t) + (right * t if t > 0 else left * t)

    assert slope(kinked).jump == pytest.approx(abs(right - left), abs=1e-9)


@pytest.mark.parametrize(("jump", "seen"), [(79e-4, 0), (81e-4, 81e-4)])
def test_a_jump_is_seen_if_it_is_ten_times_the_rounding_error_of_its_measurement(jump, seen):
    """Four values that each err by the noise, at half the first step: 8 noises, for a step of 1."""
    noise = 1e-4

    def kinked(t):
        return jump / 2 * abs(t) + noise / 2 * (0 < abs(t) < 1e-6)

    assert slope(kinked, step=1.0).jump == pytest.approx(seen, abs=1e-9)


@pytest.mark.parametrize(
    "f",
    [
        lambda t: np.sin(t) + (t > 0),
        lambda t: np.array([np.exp(t), 1e-3 * (t >= 0)]),
        lambda t: np.sqrt(abs(t)) + t,
        lambda t: np.cbrt(t * t) + t * t,
    ],
)
def test_a_function_that_jumps_or_whose_slope_grows_without_bound_has_no_slope(f):
    measured = slope(f)
    assert measured.jump == measured.uncertainty == np.inf
    assert not measured.value.any()


@given(st.floats(-2, 2), st.floats(-3, 3), st.integers(0, 10))
@example(2.0**-24, 1.0, 9)  # half of a rounding step of 10^9
def test_rounding_errors_are_no_jump(x, y, digits):
    """Of sums that cancel, of float32, and of numbers that are rounded to `digits`."""
    for f in (
        lambda t: (np.tanh(x + y * t) + 10.0**digits) - 10.0**digits,
        lambda t: np.float64(np.tanh(np.float32(x + y * t))),
        lambda t: np.round(np.exp(x + y * t), digits),
    ):
        assert np.isfinite(slope(f).jump)


@given(st.integers(0, 5), st.floats(0.5, 8), st.floats(-1, 1), st.booleans())
def test_steps_at_which_the_function_is_not_finite_are_left_out(level, a, b, larger_too):
    edge = 1e-2 / 2**level

    def f(t):
        if abs(t) == edge or (larger_too and abs(t) > edge):
            return np.nan
        return np.sin(a * t + b)

    measured = slope(f, step=1e-2)
    assert measured.value == pytest.approx(a * np.cos(b), rel=1e-8)
    assert measured.jump < 1e-9


def test_a_function_that_returns_the_same_memory_again_is_measured_right():
    memory = np.empty(2)

    def f(t):
        memory[:] = [t, 3 * t]
        return memory

    assert slope(f).value == pytest.approx([1, 3], rel=1e-12)


def test_a_linear_function_needs_few_values():
    calls = []
    slope(lambda t: calls.append(t) or 3 * t)
    assert len(calls) <= 15


def test_a_smooth_function_is_not_searched_for_a_jump():
    calls = []
    slope(lambda t: calls.append(t) or np.exp(1 + t), levels=5)
    assert len(calls) <= 2 * 5 + 7


@pytest.mark.parametrize("distance", [1e-3, 1e-5, 1e-6])
def test_a_slope_between_kinks_that_are_near_is_measured(distance):
    measured = slope(lambda t: 3 * t + abs(t - distance) + abs(t + 2 * distance), step=0.01)
    assert measured.value == pytest.approx(3, abs=10 * (measured.uncertainty + measured.rounding))
    assert measured.uncertainty <= 1e-6


@pytest.mark.parametrize("seed", [8, 25, 34])
def test_steps_of_a_few_stairs_of_float32_do_not_give_the_slope(seed):
    """Twice the step is twice as many stairs, and the slope seems known exactly."""
    x = np.random.default_rng(seed).uniform(0.3, 1)
    measured = slope(lambda t: np.tanh(float(np.float32(x + t))), step=1e-2 * x)
    assert measured.value == pytest.approx(1 - np.tanh(x) ** 2, rel=1e-2)


@pytest.mark.parametrize("x", [0.6, 0.8])
def test_steps_smaller_than_a_stair_do_not_give_the_slope_0(x):
    assert slope(lambda t: round(np.sin(x + t), 4)).value == pytest.approx(np.cos(x), rel=0.05)


def test_a_smooth_function_needs_few_of_the_steps():
    """Without the extrapolation it would need much smaller ones."""
    calls = []
    measured = slope(lambda t: calls.append(t) or (1 + t) ** 3)
    assert abs(measured.value - 3) <= 1e-10
    assert len(calls) <= 2 * 5 + 7
