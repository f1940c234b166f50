"""Regression on sine waves (section 3 of the paper).

A task is a wave f(x) = a sin(x + b), a ~ U[0.1, 5], b ~ U[0, 2 pi]; its error is measured on 50 equally
spaced points of [-5, 5].  Over tasks E[f(x)] = 0 for every x, because the phase is uniform over one period.

Verified by ``tests/tasks/test_sine.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reptile_np.errors import UsageError, check_generator, whole
from reptile_np.meta.inner_loop import Batch
from reptile_np.tasks.few_shot import Task

__all__ = ["AMPLITUDES", "GRID", "INTERVAL", "PHASES", "Wave", "sample_task", "sample_wave"]

AMPLITUDES = (0.1, 5.0)
PHASES = (0.0, 2 * np.pi)
INTERVAL = (-5.0, 5.0)

GRID: NDArray[np.float64] = np.linspace(*INTERVAL, 50)[:, np.newaxis]
"""The 50 points (50, 1) of [-5, 5] on which the loss is defined."""
GRID.setflags(write=False)


@dataclass(frozen=True)
class Wave:
    """The function x -> amplitude * sin(x + phase); `phase` in radians."""

    amplitude: float
    phase: float

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the wave at the points `x`, an array of the same shape."""
        return self.amplitude * np.sin(x + self.phase)

    def batch(self, x: NDArray[np.float64], dtype: DTypeLike = np.float32) -> Batch:
        """Return the points `x` (b, 1) and the wave at them (b, 1), read-only, in `dtype`.

        The wave is computed in float64 and rounded once.

        Raises
        ------
        UsageError
            `dtype` is of whole numbers, which would cut the wave, or of no numbers.
        """
        if np.dtype(dtype).kind not in "fc":
            raise UsageError(f"a wave in {np.dtype(dtype)}; give a dtype of floats, such as numpy.float32")
        inputs, targets = x.astype(dtype), self(x).astype(dtype)
        inputs.setflags(write=False)
        targets.setflags(write=False)
        return inputs, targets


def sample_wave(rng: np.random.Generator) -> Wave:
    """Draw a wave: amplitude ~ U[0.1, 5], phase ~ U[0, 2 pi]."""
    check_generator(rng)
    return Wave(amplitude=rng.uniform(*AMPLITUDES), phase=rng.uniform(*PHASES))


def sample_task(rng: np.random.Generator, points: int | None = None, dtype: DTypeLike = np.float32) -> Task:
    """Draw a wave and its support points; the query set is the grid.

    Parameters
    ----------
    points : int, optional
        Number of random support points x ~ U[-5, 5].  By default the support is the whole grid, which the
        authors' demo cuts into 5 minibatches of 10 per inner loop: ``minibatches(rng, task.support, 10, 5)``.
    dtype
        Of all four arrays, (points, 1) or (50, 1).

    Raises
    ------
    UsageError
        `points` is no whole number ≥ 1, or `dtype` is not of floats.

    Notes
    -----
    Verified by ``tests/tasks/test_sine.py``.
    """
    wave = sample_wave(rng)
    grid = wave.batch(GRID, dtype)
    if points is None:
        return Task(support=grid, query=grid)
    points = whole("sine task: points", points, 1)
    return Task(support=wave.batch(rng.uniform(*INTERVAL, (points, 1)), dtype), query=grid)
