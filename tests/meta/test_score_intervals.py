"""Mean, spread and 95 % interval of the tasks' scores."""

import math

import numpy as np
import pytest

from reptile_np.meta.evaluation import (
    Accuracy,
)


def test_the_mean_is_the_mean_and_not_the_median():
    assert Accuracy(np.array([0.0, 0.2, 1.0])).mean == pytest.approx(0.4)


def test_for_many_tasks_the_interval_is_the_normal_one():
    fractions = np.tile([0.2, 0.4, 0.6, 0.8], 1000)
    normal = 1.96 * math.sqrt(0.05) / math.sqrt(4000)  # the variance is Σ (x - 0.5)² / 4 = 0.05
    accuracy = Accuracy(fractions)
    assert accuracy.ci95 == pytest.approx(normal, rel=1e-3)
    low, high = accuracy.interval
    assert (low + high) / 2 == pytest.approx(0.5)


def test_the_interval_is_wilsons_as_tabulated():
    """8 of 10 right: (0.490, 0.943) (Brown, Cai and DasGupta 2001, by their formula (4))."""
    accuracy = Accuracy(np.array([1.0] * 8 + [0.0] * 2))
    assert accuracy.interval == pytest.approx((0.49016, 0.94331), abs=2e-5)  # s² has tasks - 1 below: n = 10


def test_the_spread_of_few_tasks_has_tasks_minus_1_below():
    """Fractions 0.4, 0.5, 0.6: s² = 0.02 / 2 = 0.01, so n = 0.25 / (0.01 / 3) = 75."""
    low, high = Accuracy(np.array([0.4, 0.5, 0.6])).interval
    z, n = 1.96, 75
    half = z * math.sqrt(0.25 / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half))


@pytest.mark.parametrize("tasks", [1, 2, 400])
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_equal_fractions_have_an_interval_that_is_finite_and_not_empty(tasks, fraction):
    """A single task has no spread either: its interval is that of one trial."""
    accuracy = Accuracy(np.full(tasks, fraction))
    assert accuracy.mean == fraction
    assert accuracy.ci95 == pytest.approx(1.96**2 / (tasks + 1.96**2))


@pytest.mark.parametrize(("p", "tasks"), [(0.5, 100), (0.9, 400), (0.99, 100), (0.997, 400), (0.999, 1000)])
def test_mean_and_ci95_cover_the_true_accuracy_in_95_of_100_runs(p, tasks):
    """5 queries a task; tasks differ, by a beta distribution, so queries of one task are correlated.

    Of 1,000 runs: 3 standard deviations of the observed share are 0.02.
    """
    rng, runs, queries = np.random.default_rng(0), 1000, 5
    ability = rng.beta(4 * p, 4 * (1 - p), (runs, tasks))
    fractions = rng.binomial(queries, ability) / queries
    off = np.abs(fractions.mean(1) - p)
    assert np.mean([off[i] <= Accuracy(row).ci95 for i, row in enumerate(fractions)]) >= 0.93
    normal = 1.96 * fractions.std(1, ddof=1) / math.sqrt(tasks)
    assert (np.mean(off <= normal) >= 0.93) == (p < 0.95)  # why it is not the normal interval


@pytest.mark.parametrize("tasks", [1, 3, 7, 400])
@pytest.mark.parametrize("p", [0.0, 0.2, 0.6, 0.8, 1.0])
def test_equal_fractions_count_as_many_trials_as_there_are_tasks(tasks, p):
    """The variance of equal numbers is not 0 but rounding error: of three times 0.8 it is 2e-32."""
    low, high = Accuracy(np.full(tasks, p)).interval
    z = 1.96
    half = z * math.sqrt(p * (1 - p) / tasks + z * z / (4 * tasks**2)) / (1 + z * z / tasks)
    assert high - low == pytest.approx(2 * half)
