"""The forms in which Omniglot is distributed: two zip files, or folders of PNG drawings.

Verified by ``tests/tasks/test_omniglot.py`` and ``test_omniglot_sources.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reptile_np.errors import UsageError, printable
from reptile_np.tasks.archives import Limits, read_files
from reptile_np.tasks.decoding import BadImage, Pixels, opened, pillow

__all__ = ["LIMITS", "SCANNED_SIDE", "SETS", "SIDE", "check_zip", "decode", "find", "nearest", "read"]

SETS = ("images_background", "images_evaluation")
SIDE = 28
SCANNED_SIDE = 105
# One drawing has about 200 bytes, all 32,460 together 7 MB.
LIMITS = Limits(file_bytes=1 << 16, files=200_000, total_bytes=1 << 26)

_DRAWING = re.compile(r"(?:^|/)([^/]+/character\d\d/\d{4}_\d\d\.png)$")


def nearest(side: int) -> NDArray[np.intp]:
    """Return the row, or the column, of a scanned drawing at the centre of each of `side` rows: (side,)."""
    return ((np.arange(side) + 0.5) * SCANNED_SIDE / side).astype(np.intp)


def find(source: Path) -> list[Path]:
    """Return the zip files or folders that make up the Omniglot at `source`.

    `source` is one of the two official zip files (the other is in the same folder), a zip file with all
    drawings, or a folder that has in it, or in its ``omniglot/`` or ``python/``: the official zips, the
    folders they contain, or the alphabets of both sets together.

    Raises
    ------
    UsageError
        If `source` does not exist, has none of these forms, or has only one of the two sets.
    """
    if source.is_file():
        return _both_sets(source.parent) if source.name in {f"{name}.zip" for name in SETS} else [source]
    if not source.is_dir():
        raise UsageError(f"{printable(source)}: no such file or folder; give the place of Omniglot")
    for base in (source, *(source / sub for sub in ("omniglot", "python", "omniglot/python"))):
        if parts := _both_sets(base):
            return parts
        if any(base.glob("*/character[0-9][0-9]")):
            return [base]
    raise UsageError(
        f"{printable(source)}: no Omniglot here; expected {SETS[0]}.zip and {SETS[1]}.zip, "
        "or folders of these names"
    )


def _both_sets(base: Path) -> list[Path]:
    """Return the zip file or folder of each set in `base`; none if neither is there."""
    parts: dict[str, Path] = {}
    for name in SETS:
        for path in (base / f"{name}.zip", base / name):
            if path.exists():
                parts.setdefault(name, path)
    if parts and len(parts) < len(SETS):
        missing = next(name for name in SETS if name not in parts)
        raise UsageError(f"{printable(base)}: {missing}.zip is missing; put it beside the other one")
    return list(parts.values())


def read(parts: list[Path], wanted: Callable[[str], bool] = lambda key: True) -> Iterator[tuple[str, bytes]]:
    """Yield the wanted drawings in `parts`: PNG files by "alphabet/characterNN/CCCC_DD.png"."""

    def key(name: str) -> str:
        found = _DRAWING.search(name)
        return found[1] if found else ""

    for part in parts:
        for name, content in read_files(part, lambda n: key(n) != "" and wanted(key(n)), LIMITS):
            yield key(name), content


def check_zip(path: Path) -> None:
    """Raise `UsageError` unless `path` is a whole zip file with drawings in it."""
    if not sum(1 for _ in read([path])):
        raise UsageError(f"{printable(path)}: no Omniglot drawings in this file; check the address")


def decode(key: str, content: bytes) -> Pixels:
    """Return a drawing (28, 28, 1) uint8, paper 1, ink 0.

    Reduced from 105 x 105 by Pillow's nearest neighbour, as the released program's ``resize((28, 28))`` does
    with 1-bit images.

    Raises
    ------
    BadImage
        Not a PNG image of 105 x 105 bits.
    """
    with opened(key, content, ["PNG"]) as image:
        if (image.size, image.mode) != ((SCANNED_SIDE, SCANNED_SIDE), "1"):
            width, height = image.size
            raise BadImage(
                f"{printable(key)}: {width} x {height} pixels, mode {image.mode}; "
                f"Omniglot's are {SCANNED_SIDE} x {SCANNED_SIDE}, mode 1"
            )
        reduced = image.resize((SIDE, SIDE), pillow().Resampling.NEAREST)
        return np.asarray(reduced, np.uint8).reshape(SIDE, SIDE, 1)
