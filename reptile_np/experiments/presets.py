"""Every preset: a frozen value with its source and what the paper reports for it.

A preset says everything but the seed, the machine and the folder of the data;
``with_settings(preset, ["outer.steps=1000"])`` changes one value.

Sources.  "v1" and "v3" are versions of the paper, arXiv:1803.02999; "command line" is the one published with
the authors' program; it is used where it differs from the paper's table.

Verified by ``tests/experiments/test_presets.py`` and ``tests/experiments/test_wiring_steps.py``.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from reptile_np.errors import UsageError, printable
from reptile_np.experiments import presets_same_k
from reptile_np.experiments.presets_finn import FINN
from reptile_np.experiments.presets_methods import METHODS
from reptile_np.experiments.presets_mini_imagenet import MINI_IMAGENET
from reptile_np.experiments.presets_omniglot import OMNIGLOT
from reptile_np.experiments.settings import differences, setting_keys, to_json, with_settings
from reptile_np.experiments.specs import (
    Algorithm,
    EvaluationSpec,
    InnerSpec,
    OuterSpec,
    Preset,
    TaskSpec,
)

__all__ = [
    "PRESETS",
    "SAME_K",
    "Preset",
    "describe",
    "differences",
    "get",
    "original",
    "seconds",
    "setting_keys",
    "to_json",
    "with_settings",
]


def _sine(
    algorithm: Algorithm,
    about: str,
    outer: OuterSpec,
    inner: InnerSpec | None = None,
    seconds: float = 8,
) -> Preset:
    return Preset(
        name=f"sine-{algorithm}",
        about=about,
        source="section 3 and Figure 1; values of the authors' demo"
        + ("" if algorithm == "reptile" else "; ours: the outer loop, and the use of the examples"),
        hours=seconds / 3600,
        algorithm=algorithm,
        tasks=TaskSpec("sine"),
        inner=inner or InnerSpec("sgd", 0.02, batch=10, steps=5),
        outer=outer,
        evaluation=EvaluationSpec(shots=10, batch=10, steps=32, tasks=100),
    )


_OURS = (
    Preset(
        name="glyphs-5way",
        about="Reptile on invented characters: nothing to download",
        source="ours: a small replacement for Omniglot 1-shot 5-way",
        hours=4 / 3600,
        algorithm="reptile",
        tasks=TaskSpec("glyphs", ways=5, shots=10, classes=1000),  # 800 to train on, 200 to test
        inner=InnerSpec("adam", 1e-3, batch=10, steps=5),
        outer=OuterSpec(rate=1.0, steps=1000, meta_batch=2),
        evaluation=EvaluationSpec(shots=1, batch=5, steps=20, tasks=200),
        filters=32,
    ),
    Preset(
        name="images-5way",
        about="Reptile on a folder of your own images, 28 x 28 grey",
        source="ours: the values of omniglot-5way",
        hours=0.5,
        algorithm="reptile",
        tasks=TaskSpec("folder", ways=5, shots=10),
        inner=InnerSpec("adam", 1e-3, batch=10, steps=5),
        outer=OuterSpec(rate=1.0, steps=100_000, meta_batch=5),
        evaluation=EvaluationSpec(shots=5, batch=5, steps=50, tasks=400),
    ),
    Preset(
        name="images-colour-5way",
        about="Reptile on a folder of your own images, 84 x 84 in colour",
        source="ours: the values of mini-imagenet-5way",
        hours=6.8,
        algorithm="reptile",
        tasks=TaskSpec("folder", ways=5, shots=15, side=84, channels=3),
        inner=InnerSpec("adam", 1e-3, batch=10, steps=8),
        outer=OuterSpec(rate=1.0, steps=100_000, meta_batch=5),
        evaluation=EvaluationSpec(shots=5, batch=15, steps=50, tasks=400, one_shot_batch=5),
        filters=32,
        network="mini-imagenet",
    ),
    _sine("reptile", "Reptile on sine waves", OuterSpec(rate=0.1, steps=30_000), seconds=11),
    # FOMAML steps by one gradient, Reptile by the sum of five: five times the rate gives steps of one size
    _sine("fomaml", "first-order MAML on sine waves", OuterSpec(rate=0.5, steps=30_000)),
    _sine(
        "maml",
        "exact MAML on sine waves",
        OuterSpec(rate=1e-3, steps=30_000, optimizer="adam"),
        seconds=19,
    ),
    _sine(
        "joint",
        "joint training on sine waves, the baseline: train on the expected loss, then fine-tune",
        OuterSpec(rate=1e-3, steps=30_000, optimizer="adam"),
        InnerSpec("sgd", 0.02, batch=50, steps=1),
    ),
)

PRESETS: dict[str, Preset] = {
    preset.name: preset for preset in (*OMNIGLOT, *MINI_IMAGENET, *FINN, *METHODS, *_OURS)
}
SAME_K: dict[str, Preset] = {preset.name: preset for preset in presets_same_k.FAMILY}
"""The presets of the study of methods at the same k: found by `get`, too many to be listed one by one."""


def describe(preset: Preset) -> dict[str, Any]:
    """Return all that a preset says, as plain JSON values: its settings, source, cost, published results."""
    return {
        **to_json(preset),
        "about": preset.about,
        "source": preset.source,
        "cost": preset.cost,
        "hours": preset.hours,
        "inner_steps": preset.inner_steps,
        "gradients": preset.gradients,
        "published": [{**cell._asdict(), **result._asdict()} for cell, result in preset.published.items()],
    }


def original(preset: Preset) -> Preset:
    """Return our preset of the same name, whose settings may differ; `preset` itself if there is none."""
    return PRESETS.get(preset.name) or SAME_K.get(preset.name) or preset


def seconds(preset: Preset) -> float:
    """Return roughly how long a preset trains on one core with native kernels, whatever its settings."""
    whole = original(preset)
    return 3600 * whole.hours * preset.gradients / whole.gradients


def get(name: str) -> Preset:
    """Return the preset of that name.

    Raises
    ------
    UsageError
        If there is none; names similar ones.
    """
    if name in SAME_K:
        return SAME_K[name]
    if name not in PRESETS:
        near = ", ".join(get_close_matches(str(name), [*PRESETS, *SAME_K]))
        guess = f"; did you mean {near}?" if near else ""
        raise UsageError(f'unknown preset "{printable(name)}"{guess} (see: reptile-np list)')
    return PRESETS[name]
