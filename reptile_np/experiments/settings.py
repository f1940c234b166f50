"""Presets changed by ``--set key=value``, written as JSON, and read back: every value checked alike.

Verified by ``tests/experiments/test_settings.py``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from difflib import get_close_matches
from functools import reduce
from typing import Any, get_args, get_type_hints

from reptile_np.errors import UsageError, printable
from reptile_np.experiments.specs import Preset, TaskSpec

__all__ = [
    "LARGEST",
    "UNUSED",
    "check_name",
    "checked",
    "differences",
    "from_json",
    "setting_keys",
    "to_json",
    "with_settings",
]

LARGEST = 2**63 - 1
_DRAWN = {"tasks.classes", "tasks.images"}
_SIZE = {"tasks.side", "tasks.channels"}
_OMNIGLOT = {"tasks.invert", "tasks.train_classes"}
UNUSED = {
    "sine": {
        "filters",
        "network",
        "evaluation.one_shot_batch",
        "evaluation.queries",
        *(
            f"tasks.{key}"
            for key in ("source", "ways", "shots", "tail_shots", "replacement", "queries", "turn")
        ),
        *(_DRAWN | _SIZE | _OMNIGLOT),
    },
    "omniglot": {"network", *_DRAWN, *_SIZE},
    "glyphs": {"tasks.source", "network", *_SIZE, *_OMNIGLOT},
    "mini-imagenet": _DRAWN | _SIZE | _OMNIGLOT,
    "folder": _DRAWN | _OMNIGLOT,
}
"""For each source of tasks the settings that it does not read, or that cannot be changed for it."""


def setting_keys(source: str | None = None) -> list[str]:
    """Return the keys of ``--set``; for a source of tasks, only those that it reads.

    Raises
    ------
    UsageError
        If there is no such source.
    """
    if source and source not in UNUSED:
        raise UsageError(f'no source of tasks "{printable(source)}"; choose one of {", ".join(UNUSED)}')
    unused = UNUSED[source] if source else set()
    return [key for key in _keys(Preset, "") if key not in unused]


def with_settings(preset: Preset, settings: Iterable[str]) -> Preset:
    """Return the preset changed by settings such as "outer.steps=1000" or "filters=32".

    A preset that reads files of images may read a folder of other images instead, ``tasks.source=folder``.
    This setting is applied first, wherever it stands: the others must be settings that a folder reads.

    Raises
    ------
    UsageError
        For an unknown key, a key that this preset does not read, or a value of the wrong type or range.
    """
    if isinstance(settings, str):
        raise UsageError(f"settings is text; give a list: [{settings!r}]")
    for setting in sorted(map(str, settings), key=lambda setting: not setting.startswith("tasks.source=")):
        shown = f"--set {printable(setting)}"
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f'{shown}: write it as key=value, such as "outer.steps=1000"')
        keys = setting_keys(preset.tasks.source)
        if key in UNUSED[preset.tasks.source]:
            source = preset.tasks.source
            raise UsageError(f"{shown}: cannot be set for {preset.name}, tasks.source={source}; leave it out")
        if key not in keys:
            near = get_close_matches(key, keys)
            known = f"did you mean {', '.join(near)}?" if near else f"the keys are {', '.join(keys)}"
            raise UsageError(f"{shown}: no such key; {known}")
        try:
            if key == "tasks.source":
                preset = dataclasses.replace(preset, tasks=_with_source(preset.tasks, text))
            else:
                preset = _with_value(preset, key.split("."), text)
        except ValueError as error:
            raise UsageError(f"{shown}: {error}") from None
    return preset


def to_json(preset: Preset) -> dict[str, Any]:
    """Return what decides a run, as plain JSON values: everything but the preset's description."""
    decides = _fields(Preset)
    return {key: value for key, value in dataclasses.asdict(preset).items() if key in decides}


def from_json(values: Any) -> Preset:
    """Return the preset that `to_json` wrote.

    Raises
    ------
    UsageError
        If a value is missing, unknown, of the wrong type or out of range; says which.
    """
    preset = _from_json(Preset, values, "preset")
    assert isinstance(preset, Preset)
    check_name(preset.name)
    return preset


def differences(begun: tuple[Preset, int], asked: tuple[Preset, int]) -> str:
    """Return how the preset and seed that a run was begun with differ from those asked for, in some words.

    For example "outer.steps=40 instead of 50, seed=0 instead of 1": at most three differences are named.
    Empty if there are none.
    """
    (preset, seed), (other, other_seed) = begun, asked
    if preset.name != other.name:
        return f"preset {printable(preset.name)} instead of {other.name}"
    pairs = {key: (_value(preset, key), _value(other, key)) for key in setting_keys()}
    pairs["seed"] = seed, other_seed
    named = [f"{key}={a} instead of {b}" for key, (a, b) in pairs.items() if a != b]
    return ", ".join(named[:3] + [f"and {len(named) - 3} more"] * (len(named) > 3))


def check_name(name: str) -> None:
    """Raise `UsageError` if a preset's name cannot be the name of a folder: an export makes one of it."""
    if name in ("", ".", "..") or set(name) & {"/", "\\", ":"} or not name.isprintable():
        raise UsageError(
            f"preset.name {printable(name)!r}: cannot be the name of a folder; "
            "give printable characters without / \\ :"
        )


def _fields(spec: type) -> dict[str, Any]:
    """Return the fields of a spec that decide a run, which are those that are compared, and their types."""
    hints = get_type_hints(spec)
    return {item.name: hints[item.name] for item in dataclasses.fields(spec) if item.compare}


def _keys(spec: type, prefix: str) -> list[str]:
    """Return the keys that may be set; a preset's name may not."""
    keys = []
    for key, kind in _fields(spec).items():
        if dataclasses.is_dataclass(kind):
            keys += _keys(kind, f"{key}.")  # type: ignore[arg-type]
        elif key != "name":
            keys.append(prefix + key)
    return keys


def _value(preset: Preset, key: str) -> Any:
    return reduce(getattr, key.split("."), preset)


def _with_source(tasks: TaskSpec, source: str) -> TaskSpec:
    """Return tasks from a folder of images; what only Omniglot reads gets its default."""
    if source == tasks.source:
        return tasks
    if source != "folder":
        raise ValueError(f"must be {' or '.join(dict.fromkeys((tasks.source, 'folder')))}")
    return dataclasses.replace(tasks, source="folder", invert=False, train_classes=0)


def _with_value(spec: Any, path: list[str], text: str) -> Any:
    key, *rest = path
    if rest:
        return dataclasses.replace(spec, **{key: _with_value(getattr(spec, key), rest, text)})
    kind = _fields(type(spec))[key]
    return dataclasses.replace(spec, **{key: checked(kind, _parsed(kind, text))})


def _parsed(kind: Any, text: str) -> Any:
    """Return `text` as a value of `kind`; text that cannot be one is returned as it is."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    return text


def checked(kind: Any, value: Any) -> Any:
    """Return a value of type `kind`: int, float, bool, str or a Literal's words.

    Raises
    ------
    ValueError
        If `value` is of another type, negative, not finite or above 2⁶³ - 1; says what it must be.
    """
    if words := get_args(kind):
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
    elif kind is bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
    elif kind is str:
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError("must be one line of text")
    else:
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
            raise ValueError(f"must be {'an integer' if kind is int else 'a number'}")
        too_large = not math.isfinite(value) if isinstance(value, float) else value > LARGEST
        if too_large:
            raise ValueError("must be finite" if kind is float else f"must be at most {LARGEST}")
        if value < 0:
            raise ValueError(
                f"must be {'finite and' if kind is float else 'an integer that is'} not negative"
            )
        value = kind(value)
    return value


def _from_json(kind: Any, value: Any, place: str) -> Any:
    if not dataclasses.is_dataclass(kind):
        try:
            return checked(kind, value)
        except ValueError as error:
            raise UsageError(f"{place} {error}") from None
    fields = _fields(kind)  # type: ignore[arg-type]
    if not isinstance(value, dict):
        raise UsageError(f"{place} must be an object with {', '.join(fields)}")
    later = {item.name: item.default for item in dataclasses.fields(kind) if "later" in item.metadata}
    value = later | value
    if missing := [key for key in fields if key not in value]:
        raise UsageError(f"{place}.{missing[0]} is missing")
    if unknown := [key for key in value if key not in fields]:
        raise UsageError(f"{place}.{printable(unknown[0])} is not a key of this version of reptile_np")
    checked_values = {key: _from_json(fields[key], value[key], f"{place}.{key}") for key in fields}
    return kind(**checked_values)  # type: ignore[operator]
