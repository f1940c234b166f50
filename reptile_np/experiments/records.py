"""Copies of run directories that are kept with a project: the records without the large files.

Verified by ``tests/experiments/test_run_records.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

from reptile_np.errors import UsageError, reason
from reptile_np.experiments import checkpoints
from reptile_np.experiments.run_directory import CONFIG, ENVIRONMENT, LOCK, RECORDS, RESULT, RunDirectory
from reptile_np.files import replacing

__all__ = ["CHECKPOINT_BYTES", "export", "is_copy"]

CHECKPOINT_BYTES = 1_000_000  # of an unfinished run's checkpoint, which is copied so that it can be continued
ANOTHER = "choose another --export"


def export(run: Path, to: Path) -> Path:
    """Copy a run's records to ``TO/PRESET-seedS``; return the copy.

    The copy has the config, the environment, the whole lines of the records, and the result.  An unfinished
    run's newest checkpoint is copied too, if it is smaller than a megabyte.  What was there is replaced or
    removed; the run, which may be at work, is only read.

    Raises
    ------
    UsageError
        If `run` is no run, the copy's place has another run, or a run that is not a copy, or it cannot be
        written.
    """
    source = RunDirectory(run)
    preset, seed = source.config()
    copy = RunDirectory(to / f"{preset.name}-seed{seed}")
    if to.resolve().is_relative_to(run.resolve()):
        raise UsageError(f"{to}: is in the run itself; {ANOTHER}")
    if copy.path.resolve() == run.resolve():
        raise UsageError(f"{run}: is the copy itself; {ANOTHER}")
    if (copy.path / CONFIG).is_file() and not is_copy(copy.path):
        raise UsageError(f"{copy.path}: is a run, not a copy of one; {ANOTHER}")
    if (copy.path / CONFIG).is_file() and copy.config() != (preset, seed):
        raise UsageError(f"{copy.path}: has another run; {ANOTHER}")
    result = source.result()
    content = _newest_checkpoint(run) if result is None else b""
    kept = 0 < len(content) < CHECKPOINT_BYTES
    lines = [json.dumps(record) for record in source.records()]
    try:
        copy.path.mkdir(parents=True, exist_ok=True)
        for name, written in (
            (RESULT, result is not None),
            (checkpoints.NEWEST, kept),
            (checkpoints.BEFORE, False),
        ):
            if not written:  # it is of another state than the records
                (copy.path / name).unlink(missing_ok=True)
        copy.write_config(preset, seed, ANOTHER)
        here = {"data": None}  # the folder of the images is a place of this machine
        sittings = [{**sitting, **here} for sitting in source.sittings()]
        copy.write_json(ENVIRONMENT, {"sittings": sittings}, ANOTHER)
        with replacing(copy.path / RECORDS) as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
        if result is not None:
            copy.write_json(RESULT, result, ANOTHER)
        if kept:
            with replacing(copy.path / checkpoints.NEWEST) as file:
                file.write(content)
    except OSError as error:
        raise UsageError(f"{copy.path}: cannot be written ({reason(error)}); {ANOTHER}") from None
    return copy.path


def is_copy(run: Path) -> bool:
    """Return whether a run's directory is a copy that `export` made: no run was ever at work in it."""
    return not (run / LOCK).exists()


def _newest_checkpoint(run: Path) -> bytes:
    """Return the content of a run's newest checkpoint; b"" if there is none."""
    for name in (checkpoints.NEWEST, checkpoints.BEFORE):
        if not (run / name).is_file():
            continue
        try:
            return (run / name).read_bytes()
        except FileNotFoundError:  # the run has just renamed it to the one before
            continue
        except OSError as error:
            raise UsageError(f"{run / name}: cannot be read ({reason(error)})") from None
    return b""
