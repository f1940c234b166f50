"""What the JSON files of a run hold: config, sittings, result and records; each value is checked when read.

Verified by ``tests/experiments/test_run_directory.py`` and ``test_run_files.py``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reptile_np.errors import UsageError, printable
from reptile_np.experiments.settings import from_json, to_json
from reptile_np.experiments.specs import Preset

__all__ = [
    "DAMAGED",
    "FORMAT",
    "config_values",
    "identity",
    "is_own",
    "read_config",
    "read_record",
    "read_result",
    "read_sittings",
]

FORMAT = 1
DAMAGED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What `read_sittings` and `read_result` raise for content that is not theirs."""
RESTORE = "restore it, or start again in a new --out"


def config_values(preset: Preset, seed: int) -> dict[str, Any]:
    """Return the content of config.json."""
    return {"format": FORMAT, "sha256": identity(preset, seed), "preset": to_json(preset), "seed": seed}


def identity(preset: Preset, seed: int) -> str:
    """Return the SHA-256 of a run's preset and seed."""
    return _checksum({"preset": to_json(preset), "seed": seed})


def read_config(content: bytes) -> tuple[Preset, int]:
    """Return the preset and the seed of a config.json.

    Raises
    ------
    UsageError
        If it is damaged, altered, or of a newer version.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise UsageError(f"not whole JSON; {RESTORE}") from None
    if not isinstance(values, dict):
        raise UsageError(f"not a JSON object; {RESTORE}")
    version = values.get("format", FORMAT)
    if version != FORMAT or isinstance(version, bool):
        raise UsageError(
            f"format {printable(version)} is not known to this version of reptile_np; use a newer one"
        )
    keys = {"format", "sha256", "preset", "seed"}
    if difference := keys ^ values.keys():
        key = sorted(difference)[0]
        raise UsageError(f'"{printable(key)}" is {"missing" if key in keys else "not a key of it"}')
    preset, seed = values["preset"], values["seed"]
    if values["sha256"] != _checksum({"preset": preset, "seed": seed}):
        raise UsageError(
            f"altered since it was written: its sha256 is not that of its preset and seed; {RESTORE}"
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError("seed must be an integer that is not negative")
    return from_json(preset), seed


def read_sittings(content: bytes) -> list[dict[str, Any]]:
    """Return the sittings of an environment.json, or raise one of `DAMAGED`."""
    sittings = list(_loads(content)["sittings"])
    for sitting in sittings:
        _check_seconds(sitting["seconds"])
        _ = str(sitting["kernels"]), Path(sitting.get("data") or "")
    return sittings


def read_result(content: bytes) -> dict[str, Any]:
    """Return the content of a result.json, or raise one of `DAMAGED`."""
    result = dict(_loads(content))
    if type(result["outer_steps"]) is not int:
        raise TypeError
    _check_seconds(result["seconds"])
    scores = [*(result.get("accuracy") or {}).values(), result.get("error", 0.0)]
    if not all(type(score) in (int, float) and math.isfinite(score) for score in scores):
        raise ValueError
    return result


def read_record(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line of records.jsonl; None if the line is damaged."""
    try:
        record = _loads(line)
        step, evaluation = record["outer_step"], record.get("evaluation", {})
        whole = isinstance(evaluation, dict) and type(step) is int and step >= 0
        return record if whole else None
    except DAMAGED:
        return None


def is_own(evaluation: Mapping[str, Any], preset: str, seed: int) -> bool:
    """Return whether an evaluation belongs to this run: it names no other preset and no other seed."""
    return bool(evaluation.get("preset", preset) == preset and evaluation.get("seed", seed) == seed)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _loads(content: bytes) -> Any:
    """Return the value of JSON text; NaN and Infinity, which Python's reader accepts, raise ValueError."""
    return _DECODER.decode(content.decode("utf-8-sig"))


def _check_seconds(value: Any) -> None:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError


def _checksum(run: dict[str, Any]) -> str:
    """Return the SHA-256 of a run's preset and seed, as JSON with sorted keys and no spaces."""
    text = json.dumps(run, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
