"""The state of a run in one file with its own checksum, and the file before it.

    format        2 (1: the same without `run`)
    sha256        of the names, types, shapes and bytes of all other arrays
    run           the SHA-256 in the run's config.json
    done          outer steps done
    phi           the parameters (n,), float32
    inner_…       the inner optimiser's state: inner_m, inner_v (n,) and inner_t for Adam
    outer_…       the outer optimiser's state

Empty arrays (the m of Adam with beta1 = 0) are not stored.

Verified by ``tests/experiments/test_checkpoints.py`` (kills in the middle of a write) and
``test_damaged_checkpoints.py``.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from reptile_np.errors import UsageError, quoted, reason
from reptile_np.files import rename, replacing
from reptile_np.meta.inner_loop import Array
from reptile_np.meta.training import Step

__all__ = [
    "FORMAT",
    "Unreadable",
    "check",
    "has_checkpoint",
    "load_newest",
    "load_step",
    "optimizer_state",
    "save_step",
    "set_damaged_aside",
    "state_arrays",
]

FORMAT = 2
NEWEST, BEFORE, DAMAGED = "checkpoint.npz", "checkpoint-before.npz", "checkpoint-damaged.npz"


class Unreadable(UsageError):
    """The system cannot read a checkpoint; the file itself may be undamaged."""


def save_step(folder: Path, step: Step, run: str) -> None:
    """Write a run's state; the newest checkpoint until now becomes the one before.

    `run` is the SHA-256 in the run's config.json.

    Raises
    ------
    OSError
        If the file cannot be written; the newest whole state is then in checkpoint.npz or
        checkpoint-before.npz.
    """
    arrays = {"run": np.array(run), **_step_arrays(step)}
    newest = folder / NEWEST
    with replacing(newest) as file:
        np.savez(file, format=np.array(FORMAT), sha256=np.array(_checksum(arrays)), **arrays)  # type: ignore[arg-type]
        if newest.exists():
            file.flush()
            os.fsync(file.fileno())
            rename(newest, folder / BEFORE)


def load_newest(folder: Path, template: Step, run: str, fallback: Callable[[str], None]) -> Step:
    """Return the newest state that is whole; a damaged newest file falls back to the one before.

    `template` gives the kinds of optimiser states and the size of φ; `run` is as in `save_step`; `fallback`
    is called with one line about a damaged newest file.

    Raises
    ------
    UsageError
        If there is no checkpoint, none that is whole and belongs to `template` and to the run, or the
        newest cannot be read.
    """
    newest, before = folder / NEWEST, folder / BEFORE
    if not os.path.lexists(newest) and not os.path.lexists(before):
        raise UsageError(
            f"{folder}: the run has not saved a state yet; if it is being trained, wait; else continue it "
            f"with train --out {quoted([str(folder)])} --resume"
        )
    try:
        return load_step(newest, template, run)
    except Unreadable:
        raise
    except UsageError as error:
        try:
            step = load_step(before, template, run)
        except Unreadable:
            raise
        except UsageError as earlier:
            raise UsageError(f"{error}; {earlier}; start again in a new --out") from None
        fallback(f"{error}; using {BEFORE}, outer step {step.done}, instead")
        return step


def set_damaged_aside(folder: Path) -> None:
    """Make the checkpoint before the newest the newest, after `load_newest` fell back to it.

    Otherwise the next `save_step` would replace the one good file by the damaged one.

    Raises
    ------
    OSError
        If the files cannot be renamed.
    """
    if os.path.lexists(folder / NEWEST):
        rename(folder / NEWEST, folder / DAMAGED)
    rename(folder / BEFORE, folder / NEWEST)


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run has saved a state, whole or damaged."""
    return any(os.path.lexists(folder / name) for name in (NEWEST, BEFORE))


def load_step(path: Path, template: Step, run: str) -> Step:
    """Return what `save_step` wrote to one file; `template` and `run` as in `load_newest`.

    Raises
    ------
    UsageError
        If the file is missing, damaged, altered, or of another network, optimiser or run.
    Unreadable
        If the system cannot read it.
    """
    if not os.path.lexists(path):
        raise UsageError(f"{path}: there is no such file")
    if not path.is_file():  # opening a pipe would wait for its writer
        raise UsageError(f"{path}: not a file")
    try:
        content = path.read_bytes()
    except FileNotFoundError:  # since a moment: a run at work has renamed it
        raise UsageError(f"{path}: there is no such file") from None
    except OSError as error:
        raise Unreadable(
            f"{path}: cannot be read ({reason(error)}); remove the cause, then give the command again"
        ) from None
    try:
        arrays = _arrays(content)
        if (number := arrays.pop("format").item()) not in (1, FORMAT):
            raise ValueError(f"format {number} is not known to this version of reptile_np")
        if arrays.pop("sha256").item() != _checksum(arrays):
            raise ValueError("the checksum does not match the content")
        if number == FORMAT and arrays.pop("run").item() != run:
            raise ValueError("it was saved by another run")
        return _step(arrays, template)
    except MemoryError:  # of this machine, not of the file
        raise
    except Exception as error:  # a damaged file makes zipfile and NumPy raise nearly anything
        raise UsageError(f"{path}: not a whole checkpoint of this run ({reason(error)})") from None


def _arrays(content: bytes) -> dict[str, Array]:
    with zipfile.ZipFile(BytesIO(content)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("it is compressed, and reptile_np does not compress checkpoints")
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _checksum(arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _step_arrays(step: Step) -> dict[str, Array]:
    inner, outer = state_arrays("inner", step.inner_state), state_arrays("outer", step.outer_state)
    return {"done": np.array(step.done), "phi": step.phi, **inner, **outer}


def _step(arrays: dict[str, Array], template: Step) -> Step:
    check(arrays, _step_arrays(template))
    inner = optimizer_state("inner", arrays, template.inner_state)
    outer = optimizer_state("outer", arrays, template.outer_state)
    return Step(int(arrays["done"]), arrays["phi"], inner, outer)


def state_arrays(prefix: str, state: Any) -> dict[str, Array]:
    """Return ``PREFIX_FIELD`` → array for every field of an optimiser's state, without empty arrays."""
    fields = zip(getattr(state, "_fields", ()), state, strict=True)
    arrays = {f"{prefix}_{field}": np.asarray(value) for field, value in fields}
    return {name: array for name, array in arrays.items() if array.size}


def optimizer_state(prefix: str, arrays: Mapping[str, Array], template: Any) -> Any:
    """Return the optimiser's state of these arrays, in the form of `template`."""
    values = {}
    for field, like in zip(getattr(template, "_fields", ()), template, strict=True):
        value = arrays.get(f"{prefix}_{field}", like)
        values[field] = int(value) if isinstance(like, int) else value
    return type(template)(**values)


def check(arrays: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """Check that arrays have the names, shapes and dtypes of `expected`, are finite, and v ≥ 0.

    Raises
    ------
    ValueError
        Says which array is wrong, missing or left over.
    """
    if arrays.keys() != expected.keys():
        difference = ", ".join(sorted(arrays.keys() ^ expected.keys()))
        raise ValueError(f"another optimiser's state: {difference}")
    for name, like in expected.items():
        array = arrays[name]
        if array.shape != like.shape or array.dtype != like.dtype:
            raise ValueError(f"{name} is {array.dtype} {array.shape} instead of {like.dtype} {like.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
        if name.endswith(("_v", "_t", "done")) and (array < 0).any():
            raise ValueError(f"{name} is negative")
