"""Sine waves: the distribution of section 3, and its closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.tasks import few_shot, sine

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])


def test_the_grid_is_fifty_equally_spaced_points_of_minus_five_to_five():
    assert sine.GRID.shape == (50, 1)
    assert (sine.GRID[0, 0], sine.GRID[-1, 0]) == (-5.0, 5.0)
    np.testing.assert_allclose(np.diff(sine.GRID[:, 0]), 10 / 49, rtol=1e-13)


def test_the_mean_wave_is_zero_everywhere():
    # The trapezoidal rule on a whole period is exact for a sine: any 3 or more
    # equally spaced phases average to zero, up to rounding of sums of size <= 5.
    phases = np.linspace(*sine.PHASES, 16, endpoint=False)
    for amplitude in np.linspace(*sine.AMPLITUDES, 7):
        mean = np.mean([sine.Wave(amplitude, phase)(sine.GRID) for phase in phases], axis=0)
        assert np.abs(mean).max() < 5 * 16 * np.finfo(float).eps


def test_the_mean_square_of_a_wave_over_tasks_is_half_the_mean_square_amplitude():
    # E[f^2] = E[a^2] / 2 = (b^3 - a^3) / (6 (b - a)) for a ~ U[a, b]: what predicting 0 costs.
    low, high = sine.AMPLITUDES
    expected = (high**3 - low**3) / (6 * (high - low))
    rng = np.random.default_rng(0)
    squares = [np.mean(sine.sample_wave(rng)(sine.GRID) ** 2) for _ in range(4000)]
    assert abs(np.mean(squares) - expected) < 5 * np.std(squares) / np.sqrt(len(squares))


@given(seeds, st.integers(1, 20))
def test_a_task_is_these_draws_of_the_generator(seed, points):
    """Section 3: a ~ U[0.1, 5], then b ~ U[0, 2 pi], then p points x ~ U[-5, 5]."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.1, 5), rng.uniform(0, 2 * np.pi)
    x = rng.uniform(-5, 5, (points, 1))
    assert sine.sample_wave(np.random.default_rng(seed)) == sine.Wave(a, b)
    task = sine.sample_task(np.random.default_rng(seed), points, np.float64)
    np.testing.assert_array_equal(task.support[0], x)
    np.testing.assert_array_equal(task.support[1], a * np.sin(x + b))
    np.testing.assert_array_equal(task.query[1], a * np.sin(np.linspace(-5, 5, 50)[:, np.newaxis] + b))


@given(seeds, st.integers(1, 40), dtypes)
def test_a_task_learns_from_points_of_the_wave_and_is_judged_on_the_grid(seed, points, dtype):
    task = sine.sample_task(np.random.default_rng(seed), points, dtype)
    wave = sine.sample_wave(np.random.default_rng(seed))
    x, y = task.support
    assert x.shape == y.shape == (points, 1)
    assert np.abs(x).max() <= 5
    if dtype == np.float64:
        np.testing.assert_array_equal(y, wave(x))
    for got, want in zip(task.query, (sine.GRID, wave(sine.GRID)), strict=True):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, want.astype(dtype))


@given(seeds)
def test_the_authors_episode_shows_every_grid_point_once_in_five_batches_of_ten(seed):
    rng = np.random.default_rng(seed)
    task = sine.sample_task(rng)
    batches = few_shot.minibatches(rng, task.support, 10, 5)
    assert [x.shape for x, _ in batches] == [(10, 1)] * 5
    seen = np.concatenate([np.hstack(batch) for batch in batches])
    np.testing.assert_array_equal(seen[np.argsort(seen[:, 0])], np.hstack(task.query))


@given(seeds)
def test_the_same_generator_state_gives_the_same_bits(seed):
    first, second = (sine.sample_task(np.random.default_rng(seed), 10) for _ in range(2))
    for a, b in zip(first.support + first.query, second.support + second.query, strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_task_is_read_only():
    task = sine.sample_task(np.random.default_rng(0), 10)
    assert not any(a.flags.writeable for a in task.support + task.query)


@pytest.mark.parametrize("points", [0, -1, 2.5, True, "3"])
def test_a_task_of_no_or_half_points_is_refused(points):
    with pytest.raises(UsageError, match=r"^sine task: points is .*; give a whole number of at least 1$"):
        sine.sample_task(np.random.default_rng(0), points)


@pytest.mark.parametrize("dtype", [int, np.uint8, bool, str, object])
def test_waves_are_not_cut_to_whole_numbers(dtype):
    with pytest.raises(UsageError, match=r"^a wave in .*; give a dtype of floats, such as numpy.float32$"):
        sine.sample_task(np.random.default_rng(0), 3, dtype)
