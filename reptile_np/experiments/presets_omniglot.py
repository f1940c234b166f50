"""Presets of Omniglot: Table 2 in versions 1 and 3 of the paper, and the ten curves of Figure 3.

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
    Watch,
)

__all__ = ["OMNIGLOT"]


def _omniglot_v1(
    cell: str,
    about: str,
    hours: float,
    tasks: TaskSpec,
    inner: InnerSpec,
    outer: OuterSpec,
    evaluation: EvaluationSpec,
    published: dict[Cell, Published],
) -> Preset:
    """Return a cell of version 1's Table 2, whose hyper-parameters are in Tables 3 and 5."""
    return Preset(
        name=f"omniglot-v1-{cell}",
        about=about,
        source="Tables 2, 3 and 5 (v1), the authors' command line",
        hours=hours,
        algorithm="reptile",
        tasks=tasks,
        inner=inner,
        outer=outer,
        evaluation=evaluation,
        published=published,
    )


def _figure3(curve: str, k: int) -> Preset:
    """Return one curve of Figure 3: SGD inside and outside, on the *summed* loss, k disjoint minibatches.

    The outer rates of the means are the command lines', except that the mean of three has 0.25 / 3 = 0.08333
    here, and 0.08325 there.
    """
    about = {
        "g": f"the last of {k} gradients, g{k}" if k > 1 else "g1 alone: joint training",
        "sum": f"the sum of {k} gradients: Reptile",
        "mean": f"the mean of {k} gradients",
    }[curve]
    return Preset(
        name=f"figure3-{curve}{k}",
        about=about,
        source="section 5.2 (v1), Figure 3 and Table 6, the authors' command line",
        hours=0.036 * k,
        algorithm="fomaml" if curve == "g" else "reptile",
        tasks=TaskSpec("omniglot", ways=5, shots=5 * k),
        inner=InnerSpec("sgd", 3e-3, batch=25, steps=k),
        outer=OuterSpec(rate=0.25 / k if curve == "mean" else 0.25, steps=40_000),
        evaluation=EvaluationSpec(shots=5, batch=25, steps=5, tasks=400),
        watched=Watch(points=100, tasks=100),
    )


OMNIGLOT = (
    Preset(
        name="omniglot-5way",
        about="Reptile on Omniglot, 5-way: one run serves 1- and 5-shot, both modes",
        source="Table 2 (v3), the authors' final command line",
        hours=0.5,
        algorithm="reptile",
        tasks=TaskSpec("omniglot", ways=5, shots=10),
        inner=InnerSpec("adam", 1e-3, batch=10, steps=5),
        outer=OuterSpec(rate=1.0, steps=100_000, meta_batch=5),
        evaluation=EvaluationSpec(shots=5, batch=5, steps=50, tasks=400),
        published={
            Cell(1, "non_transductive"): Published(95.39, 0.09),
            Cell(1, "transductive"): Published(97.68, 0.04),
            Cell(5, "non_transductive"): Published(98.90, 0.10),
            Cell(5, "transductive"): Published(99.48, 0.06),
        },
    ),
    Preset(
        name="omniglot-20way",
        about="Reptile on Omniglot, 20-way: one run serves 1- and 5-shot, both modes",
        source="Table 2 (v3), the authors' final command line",
        hours=3.7,
        algorithm="reptile",
        tasks=TaskSpec("omniglot", ways=20, shots=10),
        inner=InnerSpec("adam", 5e-4, batch=20, steps=10),
        outer=OuterSpec(rate=1.0, steps=200_000, meta_batch=5),
        evaluation=EvaluationSpec(shots=5, batch=10, steps=50, tasks=400),
        published={
            Cell(1, "non_transductive"): Published(88.14, 0.15),
            Cell(1, "transductive"): Published(89.43, 0.14),
            Cell(5, "non_transductive"): Published(96.65, 0.33),
            Cell(5, "transductive"): Published(97.12, 0.32),
        },
    ),
    _omniglot_v1(
        "5way-1shot",
        "Reptile on Omniglot, 1-shot 5-way, non-transductive, as in version 1",
        hours=0.8,
        tasks=TaskSpec("omniglot", ways=5, shots=12),
        inner=InnerSpec("adam", 4.4e-4, batch=5, steps=12),
        outer=OuterSpec(rate=1.0, steps=200_000, meta_batch=3),
        evaluation=EvaluationSpec(shots=1, batch=5, steps=86, tasks=400),
        published={Cell(1, "non_transductive"): Published(95.32, 0.05)},
    ),
    _omniglot_v1(
        "5way-5shot",
        "Reptile on Omniglot, 5-shot 5-way, as in version 1",
        hours=0.5,
        tasks=TaskSpec("omniglot", ways=5, shots=10),
        inner=InnerSpec("adam", 1.5e-3, batch=10, steps=5),
        outer=OuterSpec(rate=0.7, steps=100_000, meta_batch=5),
        evaluation=EvaluationSpec(shots=5, batch=6, steps=100, tasks=400),
        published={
            Cell(5, "non_transductive"): Published(98.87, 0.02),
            Cell(5, "transductive"): Published(99.47, 0.04),
        },
    ),
    _omniglot_v1(
        "5way-1shot-transductive",
        "Reptile on Omniglot, 1-shot 5-way, transductive, as in version 1",
        hours=1.4,
        tasks=TaskSpec("omniglot", ways=5, shots=15),
        inner=InnerSpec("adam", 1e-3, batch=25, steps=3),
        outer=OuterSpec(rate=1.0, steps=100_000, meta_batch=10),
        evaluation=EvaluationSpec(shots=1, batch=25, steps=5, tasks=400),
        published={Cell(1, "transductive"): Published(97.97, 0.08)},
    ),
    _omniglot_v1(
        "20way-1shot",
        "Reptile on Omniglot, 1-shot 20-way, as in version 1",
        hours=2.1,
        tasks=TaskSpec("omniglot", ways=20, shots=9),
        inner=InnerSpec("adam", 4.6e-4, batch=15, steps=12),
        outer=OuterSpec(rate=1.0, steps=200_000, meta_batch=3),
        evaluation=EvaluationSpec(shots=1, batch=10, steps=97, tasks=400),
        published={
            Cell(1, "non_transductive"): Published(88.27, 0.30),
            Cell(1, "transductive"): Published(89.36, 0.20),
        },
    ),
    _omniglot_v1(
        "20way-5shot",
        "Reptile on Omniglot, 5-shot 20-way, as in version 1",
        hours=2.8,
        tasks=TaskSpec("omniglot", ways=20, shots=12),
        inner=InnerSpec("adam", 4.6e-4, batch=20, steps=12),
        outer=OuterSpec(rate=1.0, steps=200_000, meta_batch=3),
        evaluation=EvaluationSpec(shots=5, batch=10, steps=97, tasks=400),
        published={
            Cell(5, "non_transductive"): Published(97.07, 0.12),
            Cell(5, "transductive"): Published(97.47, 0.10),
        },
    ),
    _figure3("g", 1),
    *(_figure3(curve, k) for k in (2, 3, 4) for curve in ("sum", "mean", "g")),
)
