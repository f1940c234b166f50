"""The state of a run in one file, which is whole or not there.

Verified by ``tests/experiments/test_checkpoints.py`` (kills in the middle of a write, files cut short).
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.files import replacing
from reptile_np.meta.training import Step


def save_step(path: Path, step: Step) -> None:
    """Write a run's state to one .npz: φ, both optimisers' states, the number of outer steps done."""
    arrays = {"done": np.array(step.done), "phi": step.phi}
    for name, state in (("inner", step.inner_state), ("outer", step.outer_state)):
        arrays.update({f"{name}/{i}": np.asarray(value) for i, value in enumerate(state)})
    with replacing(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_step(path: Path, template: Step) -> Step:
    """Return what `save_step` wrote; `template` gives the optimisers' kinds and the size of φ.

    Raises
    ------
    UsageError
        If the file is missing, cut short, altered, or of another network or optimiser.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such checkpoint; the run has not saved one yet")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            phi = arrays["phi"]
            inner = _state(template.inner_state, [arrays[f"inner/{i}"] for i in _range(arrays, "inner")])
            outer = _state(template.outer_state, [arrays[f"outer/{i}"] for i in _range(arrays, "outer")])
            step = Step(int(arrays["done"]), phi, inner, outer)
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: not a whole checkpoint ({error}); start again in a new --out") from None
    if phi.shape != template.phi.shape or phi.dtype != template.phi.dtype:
        raise UsageError(
            f"{path}: {phi.dtype} {phi.shape} parameters, but the run's config.json describes "
            f"{template.phi.dtype} {template.phi.shape}; checkpoint and config do not belong together"
        )
    return step


def _range(arrays: Any, name: str) -> range:
    return range(sum(key.startswith(f"{name}/") for key in arrays.files))


def _state(template: Any, values: list[Any]) -> Any:
    """Return `values` as a state of the template's kind: a named tuple, or () for none."""
    if len(values) != len(template):
        raise ValueError(f"{len(values)} optimiser arrays instead of {len(template)}")
    values = [
        int(value) if isinstance(like, int) else value for value, like in zip(values, template, strict=True)
    ]
    return type(template)(*values)
