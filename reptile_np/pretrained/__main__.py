"""``python -m reptile_np.pretrained RUN [--to FILE]``: write the weights of a finished run for release.

The file is the same, byte for byte, whenever and wherever it is written from the same run by the same
versions of NumPy and zlib.  Verified by ``tests/pretrained/test_weights.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from reptile_np.errors import UsageError, printable, reason
from reptile_np.experiments.checkpoints import state_arrays
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.experiments.settings import to_json
from reptile_np.files import replacing
from reptile_np.pretrained.weights import parts, read

__all__ = ["main", "release"]


def release(run: Path, to: Path) -> None:
    """Write the weights file `to` from a run directory, after reading back what was written.

    Raises
    ------
    UsageError
        If the run is not finished or is damaged, or `to` cannot be written.
    """
    directory = RunDirectory(run)
    preset, seed = directory.config()
    step = directory.load(parts(preset)[2])
    result = directory.result()
    if result is None:
        raise UsageError(f"{run}: no result.json; finish the run first, with --resume")
    if step.done != preset.outer.steps:
        raise UsageError(f"{run}: its checkpoint is of outer step {step.done} of {preset.outer.steps}")
    record = {
        "preset": to_json(preset),
        "seed": seed,
        "outer_steps": step.done,
        "result": result,
        "evaluations": [line["evaluation"] for line in directory.records() if "evaluation" in line],
    }
    arrays = {"phi": step.phi, **state_arrays("state", step.inner_state)}
    try:
        with replacing(to) as file:
            np.savez_compressed(file, record=np.array(json.dumps(record, sort_keys=True)), **arrays)  # type: ignore[arg-type]
            file.flush()
            read(Path(file.name))  # before it takes the place of an earlier file
    except OSError as error:
        why = f"cannot be written ({reason(error)})"
        raise UsageError(f"--to {to}: {why}; give the name of a file that can be written") from None


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m reptile_np.pretrained", description=__doc__)
    parser.add_argument("run", type=Path, help="directory of a finished run")
    parser.add_argument("--to", type=Path, help="default: PRESET.npz in the package")
    args = parser.parse_args()
    try:
        name = RunDirectory(args.run).config()[0].name
        to = args.to or Path(__file__).with_name(f"{name}.npz")
        release(args.run, to)
    except (UsageError, OSError) as error:
        print(printable(f"reptile-np: {error}"), file=sys.stderr)
        return 2
    print(f"{to}: {to.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
