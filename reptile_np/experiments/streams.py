"""Independent random streams from one seed.

Every draw of a run belongs to a named stream and a place in it, ``rng("tasks", i, j)``, which is a
leaf of one `numpy.random.SeedSequence` tree.  No generator is kept between places: a run that is stopped
and resumed, or that evaluates more often, draws the same numbers at the same places.

Verified by ``tests/experiments/test_streams.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from reptile_np.errors import whole

__all__ = ["Name", "Streams"]

Name = Literal["split", "init", "tasks", "batches", "evaluation", "classes", "watch"]
_KEYS: dict[Name, int] = {
    "split": 0,
    "init": 1,
    "tasks": 2,
    "batches": 3,
    "evaluation": 4,
    "classes": 5,
    "watch": 6,
}


@dataclass(frozen=True)
class Streams:
    """The streams of one seed, an integer ≥ 0; another one raises `UsageError`."""

    seed: int

    def __post_init__(self) -> None:
        whole("seed", self.seed, 0)

    def rng(self, name: Name, *place: int) -> np.random.Generator:
        """Return the generator at a place of a stream; the same arguments give the same numbers."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(_KEYS[name], *place)))
