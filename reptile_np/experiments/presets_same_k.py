"""Presets of a study that the paper does not have: four methods at the same number k of inner steps.

Reptile, first-order MAML and MAML at k = 1, …, 8, and joint training, which has k = 1.  All take the same
number of inner gradients of the same size, from k disjoint minibatches of each task, with SGD inside; Adam
outside makes the length of a method's direction irrelevant, so that only the directions are compared.
At k = 1 all four directions are one gradient, up to its length.

Verified by ``tests/experiments/test_presets.py``.
"""

from __future__ import annotations

from typing import Literal

from reptile_np.experiments.specs import (
    Algorithm,
    EvaluationSpec,
    InnerSpec,
    OuterSpec,
    Preset,
    TaskSpec,
)

__all__ = ["FAMILY", "GRADIENTS", "KS", "META_BATCH", "Study", "same_k"]

KS = range(1, 9)
META_BATCH = 4
WAYS, BATCH = 5, 10
Study = Literal["glyphs", "omniglot"]
GRADIENTS: dict[Study, int] = {"glyphs": 6_720, "omniglot": 67_200}
"""Inner gradients of a run: multiples of 4 k for every k."""


def same_k(source: Study, algorithm: Algorithm, k: int) -> Preset:
    """Return the run of one method at one k: ``k * BATCH`` examples of each task, in disjoint minibatches."""
    glyphs = source == "glyphs"
    return Preset(
        name=f"same-k-{source}-{algorithm}-k{k}",
        about=f"{algorithm} with {k} inner steps",
        source="ours: methods at the same k, and an equal number of gradients",
        hours=(4 if glyphs else 60) * (2.5 if algorithm == "maml" and k > 1 else 1) / 3600,
        algorithm=algorithm,
        tasks=TaskSpec(source, ways=WAYS, shots=k * BATCH // WAYS, classes=1000 if glyphs else 0),
        inner=InnerSpec("sgd", 7.5e-3, batch=BATCH, steps=k),
        outer=OuterSpec(
            rate=1e-3, steps=GRADIENTS[source] // (META_BATCH * k), meta_batch=META_BATCH, optimizer="adam"
        ),
        evaluation=EvaluationSpec(shots=1, batch=5, steps=8, tasks=200),
        filters=32 if glyphs else 64,
    )


FAMILY = tuple(
    same_k(source, algorithm, k)
    for source in GRADIENTS
    for algorithm in ("reptile", "fomaml", "maml", "joint")
    for k in (KS if algorithm != "joint" else (1,))
)
