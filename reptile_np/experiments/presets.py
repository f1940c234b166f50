"""Frozen experiments: every value with its source.

A preset says everything but the seed, the machine and the place of the data.  ``replace(preset,
"outer.steps=1000")`` changes one value, with its type checked.

Sources: "paper v3" is arXiv:1803.02999v3 with the authors' published command lines, "paper v1" its
first version; see the docstring of each group.  Verified by ``tests/experiments/test_presets.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_type_hints

from reptile_np.errors import UsageError


@dataclass(frozen=True)
class TaskSpec:
    """Where tasks come from.

    `shots` are training shots: examples per class in the support set of a *training* task (for sine:
    unused).  `tail_shots` of them are kept back for the last inner step (0: a shared tail).
    `test_classes` are the held-out classes; `classes` and `images` say how many glyphs are drawn.
    """

    source: Literal["sine", "glyphs", "omniglot"]
    ways: int = 5
    shots: int = 10
    tail_shots: int = 0
    replacement: bool = False
    classes: int = 0
    images: int = 20


@dataclass(frozen=True)
class InnerSpec:
    """The inner loop of training: `steps` steps of an optimiser on minibatches of `batch`."""

    optimizer: Literal["adam", "sgd"]
    learning_rate: float
    batch: int
    steps: int


@dataclass(frozen=True)
class OuterSpec:
    """The outer loop: `rate` annealed linearly to `final_rate` over `steps`; `meta_batch` tasks a step."""

    rate: float
    steps: int
    meta_batch: int = 1
    final_rate: float = 0.0
    optimizer: Literal["sgd", "momentum", "adam"] = "sgd"


@dataclass(frozen=True)
class EvaluationSpec:
    """Fine-tuning at test: K `shots` per class (sine: points), `steps` steps of `batch`; `tasks` tasks."""

    shots: int
    batch: int
    steps: int
    tasks: int


Algorithm = Literal["reptile", "fomaml", "maml", "joint"]


@dataclass(frozen=True)
class Preset:
    """One experiment; `cost` is what it takes on one core with NumPy ops, roughly."""

    name: str
    about: str
    source: str
    cost: str
    algorithm: Algorithm
    tasks: TaskSpec
    inner: InnerSpec
    outer: OuterSpec
    evaluation: EvaluationSpec
    filters: int = field(default=64)


def _sine(
    algorithm: Algorithm, about: str, outer: OuterSpec, inner: InnerSpec | None = None, cost: str = "40 s"
) -> Preset:
    return Preset(
        name=f"sine-{algorithm}",
        about=about,
        source="section 3 and Figure 1; values of the authors' demo",
        cost=cost,
        algorithm=algorithm,
        tasks=TaskSpec("sine"),
        inner=inner or InnerSpec("sgd", 0.02, batch=10, steps=5),
        outer=outer,
        evaluation=EvaluationSpec(shots=10, batch=10, steps=32, tasks=100),
    )


def _figure3(curve: str, k: int) -> Preset:
    """One curve of Figure 3: SGD inside and outside, on the *summed* loss, k disjoint minibatches."""
    about = {
        "g": f"the last of {k} gradients, g{k}",
        "sum": f"the sum of {k} gradients: Reptile",
        "mean": f"the mean of {k} gradients",
    }[curve]
    return Preset(
        name=f"figure3-{curve}{k}",
        about=about,
        source="section 5.2, Figure 3 and Table 6 (paper v3)",
        cost=f"{k * 10} min",
        algorithm="fomaml" if curve == "g" else "reptile",
        tasks=TaskSpec("omniglot", ways=5, shots=5 * k),
        inner=InnerSpec("sgd", 3e-3, batch=25, steps=k),
        outer=OuterSpec(rate=0.25 / k if curve == "mean" else 0.25, steps=40_000),
        evaluation=EvaluationSpec(shots=5, batch=25, steps=5, tasks=400),
    )


_PRESETS = (
    Preset(
        name="glyphs-5way",
        about="Reptile on drawn-on-the-fly characters: nothing to download",
        source="ours: a laptop-sized stand-in for Omniglot 1-shot 5-way",
        cost="1 min",
        algorithm="reptile",
        tasks=TaskSpec("glyphs", ways=5, shots=10, classes=1000),  # 800 to train on, 200 to test
        inner=InnerSpec("adam", 1e-3, batch=10, steps=5),
        outer=OuterSpec(rate=1.0, steps=1000, meta_batch=2),
        evaluation=EvaluationSpec(shots=1, batch=5, steps=20, tasks=200),
        filters=32,
    ),
    Preset(
        name="omniglot-5way",
        about="Reptile on Omniglot, 5-way: one run serves 1- and 5-shot, both modes",
        source="Table 2 (paper v3), the authors' final command line",
        cost="3 h",
        algorithm="reptile",
        tasks=TaskSpec("omniglot", ways=5, shots=10),
        inner=InnerSpec("adam", 1e-3, batch=10, steps=5),
        outer=OuterSpec(rate=1.0, steps=100_000, meta_batch=5),
        evaluation=EvaluationSpec(shots=5, batch=5, steps=50, tasks=400),
    ),
    _sine("reptile", "Reptile on sine waves", OuterSpec(rate=0.1, steps=30_000)),
    # one gradient where Reptile adds five: five times the rate for steps of the same size
    _sine("fomaml", "first-order MAML on sine waves", OuterSpec(rate=0.5, steps=30_000)),
    _sine("maml", "exact MAML on sine waves", OuterSpec(rate=1e-3, steps=30_000, optimizer="adam")),
    _sine(
        "joint",
        "the baseline: train on the expected loss, then fine-tune",
        OuterSpec(rate=1e-3, steps=30_000, optimizer="adam"),
        InnerSpec("sgd", 0.02, batch=50, steps=1),
        cost="15 s",
    ),
    _figure3("g", 1),
    *(_figure3(curve, k) for k in (2, 3, 4) for curve in ("sum", "mean", "g")),
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in _PRESETS}


def get(name: str) -> Preset:
    """Return the preset of that name.

    Raises
    ------
    UsageError
        If there is none, with the nearest names.
    """
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS) or list(PRESETS)
        raise UsageError(f'unknown preset "{name}"; did you mean {", ".join(near)}? (see: reptile-np list)')
    return PRESETS[name]


def with_settings(preset: Preset, settings: Iterable[str]) -> Preset:
    """Return the preset changed by settings ``section.key=value`` or ``key=value``.

    Raises
    ------
    UsageError
        For an unknown key or a value of the wrong type or range.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f'--set {setting}: write it as key=value, such as "outer.steps=1000"')
        preset = _with_setting(preset, key.split("."), text, setting)
    return preset


def _with_setting(spec: Any, path: list[str], text: str, setting: str) -> Any:
    hints = get_type_hints(type(spec))
    key = path[0]
    fixed = {"name", "about", "source", "cost"} if isinstance(spec, Preset) else {"source"}
    if key not in hints or key in fixed or (len(path) == 1) == dataclasses.is_dataclass(hints[key]):
        raise UsageError(f"--set {setting}: no such key; the keys are {', '.join(setting_keys())}")
    value: Any
    if len(path) > 1:
        value = _with_setting(getattr(spec, key), path[1:], text, setting)
    else:
        value = _parse(hints[key], text, setting)
    return dataclasses.replace(spec, **{key: value})


def _parse(kind: Any, text: str, setting: str) -> Any:
    """Return `text` as a value of `kind`: int, float, bool or one of a Literal's words."""
    if words := get_args(kind):
        if text not in words:
            raise UsageError(f"--set {setting}: must be one of {', '.join(words)}")
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"--set {setting}: must be true or false")
        return text.lower() == "true"
    try:
        value = kind(text)
    except ValueError:
        raise UsageError(f"--set {setting}: must be {'an integer' if kind is int else 'a number'}") from None
    if not 0 <= value < float("inf"):
        raise UsageError(f"--set {setting}: must be finite and not negative")
    return value


def setting_keys() -> list[str]:
    """Return every key that `with_settings` knows."""
    keys = ["algorithm", "filters"]
    for section, spec in get_type_hints(Preset).items():
        if dataclasses.is_dataclass(spec):
            keys += [f"{section}.{item.name}" for item in dataclasses.fields(spec) if item.name != "source"]
    return keys


def to_json(preset: Preset) -> dict[str, Any]:
    """Return the preset as plain JSON values."""
    return dataclasses.asdict(preset)


def from_json(values: dict[str, Any]) -> Preset:
    """Return the preset that `to_json` wrote.

    Raises
    ------
    UsageError
        If a value is missing or unknown: the file is of another version.
    """
    hints = get_type_hints(Preset)
    try:
        specs = {
            key: hints[key](**value) if dataclasses.is_dataclass(hints[key]) else value
            for key, value in values.items()
        }
        return Preset(**specs)
    except (TypeError, KeyError) as error:
        raise UsageError(f"config.json was written by another version of reptile_np: {error}") from None
