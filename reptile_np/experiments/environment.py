"""The environment of a run: versions, processor, kernels, images.

Verified by ``tests/experiments/test_environment.py``.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import reptile_np
from reptile_np.machine import processor_facts
from reptile_np.nn.ops import Ops

__all__ = ["OTHER_IMAGES", "TESTED_ON_OTHERS", "change", "data_folder", "describe", "other_images"]

OTHER_IMAGES = "was trained on other images than these, or on another split of them into classes"
TESTED_ON_OTHERS = f"{OTHER_IMAGES}; classes that are tested may be training classes"


def describe(ops: Ops, images_sha256: str | None = None, data: Path | None = None) -> dict[str, Any]:
    """Return the environment of a run as plain JSON values; `commit` is None outside a clone.

    `images_sha256` is that of the run's `Episodes`, `data` the folder of images that was asked for.
    """
    return {
        "reptile_np": reptile_np.__version__,
        "commit": _commit(Path(reptile_np.__file__).parent),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.platform(),
        "processor": _processor(),
        "kernels": ops.name,
        "threads": ops.threads,
        "images_sha256": images_sha256,
        "data": str(data) if data is not None else None,
    }


def data_folder(asked: Path | None, sittings: Sequence[Mapping[str, Any]]) -> Path | None:
    """Return the folder of a run's images: the one asked for, or the last sitting's if it is still there."""
    recorded = sittings[-1].get("data") if sittings else None
    if asked is not None or recorded is None or not Path(recorded).exists():
        return asked
    return Path(recorded)


def change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return why a run may round differently than in the sitting before, and what to do; None if it does not.

    What the sitting before did not record is not compared.
    """
    if before["kernels"] != now["kernels"]:
        return (
            f"ran with {before['kernels']} kernels until now and continues with {now['kernels']}, "
            f"which round differently; for a bitwise identical result use --ops {before['kernels']}"
        )
    changed = [
        f"{name} {now[name]} instead of {before[name]}"
        for name in ("reptile_np", "commit", "numpy")
        if name in before and before[name] != now[name]
    ]
    if not changed:
        return None
    return f"continues with {', '.join(changed)}, which may round differently; both are recorded"


def other_images(sittings: Sequence[Mapping[str, Any]], images_sha256: str | None) -> bool:
    """Return whether the images that the last sitting recorded do not have this digest."""
    digests = [sitting["images_sha256"] for sitting in sittings if sitting.get("images_sha256")]
    return bool(digests) and digests[-1] != images_sha256


def _commit(package: Path) -> str | None:
    """Return the commit of the clone that the package lies in, with "-dirty" if files differ from it."""
    if not (package.parent / ".git").exists():
        return None
    command = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() or None


def _processor() -> str:
    """Return the processor's name as Linux tells it, else `platform.processor`'s."""
    return processor_facts().get("model name") or platform.processor() or platform.machine()
