"""Presets of Mini-ImageNet: Table 1 in versions 1 and 3 of the paper.

Verified by ``tests/experiments/test_presets.py``.
"""

from __future__ import annotations

from reptile_np.experiments.specs import (
    Cell,
    EvaluationSpec,
    InnerSpec,
    OuterSpec,
    Preset,
    Published,
    TaskSpec,
)

__all__ = ["MINI_IMAGENET"]


def _v1(
    cell: str,
    about: str,
    hours: float,
    shots: int,
    inner: InnerSpec,
    outer: OuterSpec,
    evaluation: EvaluationSpec,
    published: dict[Cell, Published],
) -> Preset:
    """Return a cell of version 1's Table 1; its network pools before it normalises."""
    return Preset(
        name=f"mini-imagenet-v1-{cell}",
        about=about,
        source="Tables 1, 4 and 5 (v1), the authors' command line",
        hours=hours,
        algorithm="reptile",
        tasks=TaskSpec("mini-imagenet", ways=5, shots=shots, side=84, channels=3),
        inner=inner,
        outer=outer,
        evaluation=evaluation,
        filters=32,
        network="mini-imagenet-v1",
        published=published,
    )


MINI_IMAGENET = (
    Preset(
        name="mini-imagenet-5way",
        about="Reptile on Mini-ImageNet, 5-way: one run serves 1- and 5-shot, both modes",
        source="Table 1 (v3), the authors' final command line",
        hours=6.8,
        algorithm="reptile",
        tasks=TaskSpec("mini-imagenet", ways=5, shots=15, side=84, channels=3),
        inner=InnerSpec("adam", 1e-3, batch=10, steps=8),
        outer=OuterSpec(rate=1.0, steps=100_000, meta_batch=5),
        evaluation=EvaluationSpec(shots=5, batch=15, steps=50, tasks=400, one_shot_batch=5),
        filters=32,
        network="mini-imagenet",
        published={
            Cell(1, "non_transductive"): Published(47.07, 0.26),
            Cell(1, "transductive"): Published(49.97, 0.32),
            Cell(5, "non_transductive"): Published(62.74, 0.37),
            Cell(5, "transductive"): Published(65.99, 0.58),
        },
    ),
    _v1(
        "1shot",
        "Reptile on Mini-ImageNet, 1-shot 5-way, non-transductive, as in version 1",
        hours=3.2,
        shots=12,
        inner=InnerSpec("adam", 1.2e-3, batch=3, steps=19),
        outer=OuterSpec(rate=0.235, steps=200_000, meta_batch=2),
        evaluation=EvaluationSpec(shots=1, batch=3, steps=55, tasks=400),
        published={Cell(1, "non_transductive"): Published(45.79, 0.44)},
    ),
    _v1(
        "5shot",
        "Reptile on Mini-ImageNet, 5-shot 5-way, as in version 1",
        hours=15,
        shots=15,
        inner=InnerSpec("adam", 2.2e-4, batch=10, steps=8),
        outer=OuterSpec(rate=1.0, steps=200_000, meta_batch=5),
        evaluation=EvaluationSpec(shots=5, batch=15, steps=88, tasks=400),
        published={
            Cell(5, "non_transductive"): Published(61.98, 0.69),
            Cell(5, "transductive"): Published(66.00, 0.62),
        },
    ),
    _v1(
        "1shot-transductive",
        "Reptile on Mini-ImageNet, 1-shot 5-way, transductive, as in version 1",
        hours=13,
        shots=15,
        inner=InnerSpec("adam", 1e-3, batch=5, steps=15),
        outer=OuterSpec(rate=1.0, steps=100_000, meta_batch=10),
        evaluation=EvaluationSpec(shots=1, batch=5, steps=10, tasks=400),
        published={Cell(1, "transductive"): Published(48.21, 0.69)},
    ),
)
