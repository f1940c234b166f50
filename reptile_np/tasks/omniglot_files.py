"""Omniglot as other people hold it: two zip files, or folders of PNG drawings."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reptile_np.errors import UsageError
from reptile_np.tasks.download import Progress, silent

if TYPE_CHECKING:
    from types import ModuleType

SETS = ("images_background", "images_evaluation")
SIDE = 28
SCANNED_SIDE = 105
LARGEST_DRAWING = 1 << 16  # bytes; those of Omniglot have about 200

_DRAWING = re.compile(r"(?:^|/)([^/]+/character\d\d)/(\d{4}_\d\d)\.png$")

Drawings = dict[tuple[str, str], bytes]
"""PNG files by (alphabet/character, drawing), sorted."""


def find(source: Path) -> list[Path]:
    """Return the zip files or folders that make up the Omniglot at `source`.

    `source` is one of the two official zip files (the other lies beside it), a
    zip file with all drawings, or a folder that holds, directly or in
    ``omniglot/`` or ``python/``: the official zips, the folders in them, or the
    alphabets of both sets together.
    """
    if source.is_file():
        return _both_sets(source.parent) if source.stem in SETS else [source]
    if not source.is_dir():
        raise UsageError(f"{source}: no such file or folder; give the place of Omniglot")
    for base in (source, *(source / sub for sub in ("omniglot", "python", "omniglot/python"))):
        if parts := _both_sets(base):
            return parts
        if any(base.glob("*/character[0-9][0-9]")):
            return [base]
    raise UsageError(
        f"{source}: no Omniglot here; expected {SETS[0]}.zip and {SETS[1]}.zip, or folders of these names"
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
        raise UsageError(f"{base}: {missing}.zip is missing; put it beside the other one")
    return list(parts.values())


def read(parts: list[Path]) -> Drawings:
    """Return every drawing in `parts`; a `UsageError` where one cannot be read."""
    drawings: Drawings = {}
    for part in parts:
        try:
            drawings.update(_zipped(part) if part.is_file() else _unpacked(part))
        # What zipfile raises on damage: its own error, zlib's, end of file, or an
        # impossible compression method, flag or name.
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise UsageError(f"{part}: not a whole zip file ({error}); delete it, get it again") from error
        except (OSError, ValueError) as error:
            raise UsageError(f"{part}: cannot be read ({error})") from error
    return dict(sorted(drawings.items()))


def _zipped(path: Path) -> Iterator[tuple[tuple[str, str], bytes]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if found := _DRAWING.search(info.filename):
                if info.file_size > LARGEST_DRAWING:
                    raise UsageError(f"{path}: {info.filename} has {info.file_size} bytes; no drawing")
                yield (found[1], found[2]), archive.read(info)  # checks the CRC


def _unpacked(folder: Path) -> Iterator[tuple[tuple[str, str], bytes]]:
    for path in folder.rglob("*.png"):
        if found := _DRAWING.search(path.relative_to(folder).as_posix()):
            yield (found[1], found[2]), path.read_bytes()


def check_zip(path: Path) -> None:
    """Raise `UsageError` unless `path` is a whole zip file with drawings in it."""
    if not read([path]):
        raise UsageError(f"{path}: no Omniglot drawings in this zip file; check the address")


def fingerprint(drawings: Drawings) -> str:
    """Return the SHA-256 of all names and files, in hexadecimal."""
    digest = hashlib.sha256()
    for (character, drawing), png in drawings.items():
        digest.update(f"{character}/{drawing} {len(png)}\n".encode())
        digest.update(png)
    return digest.hexdigest()


def decode(drawings: Drawings, progress: Progress = silent) -> NDArray[np.uint8]:
    """Return the drawings (n, 98) uint8: 28 x 28 bits each, paper 1, ink 0.

    Reduced from 105 x 105 by Pillow's nearest neighbour, which is what
    ``resize((28, 28))`` does to 1-bit images.  Raises `UsageError` where a file
    is no such image.  Verified by ``tests/tasks/test_omniglot.py``.
    """
    pil = _pillow()
    pixels = np.empty((len(drawings), SIDE, SIDE), bool)
    for i, ((character, drawing), png) in enumerate(drawings.items()):
        name = f"{character}/{drawing}.png"
        try:
            with pil.open(io.BytesIO(png), formats=["PNG"]) as image:
                if (image.size, image.mode) != ((SCANNED_SIDE, SCANNED_SIDE), "1"):
                    width, height = image.size
                    raise UsageError(
                        f"{name}: {width} x {height} pixels, mode {image.mode}; "
                        f"Omniglot's are {SCANNED_SIDE} x {SCANNED_SIDE}, mode 1"
                    )
                pixels[i] = image.resize((SIDE, SIDE), pil.Resampling.NEAREST)
        except (OSError, SyntaxError, EOFError) as error:  # Pillow's, for files that are no PNG
            raise UsageError(f"{name}: not a PNG image ({error}); download Omniglot again") from error
        progress("decoding", i + 1, len(drawings))
    return np.packbits(pixels.reshape(len(drawings), SIDE * SIDE), axis=1)


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError(
            "Omniglot: decoding images needs Pillow; run: pip install 'reptile_np[images]'"
        ) from error
    return Image
