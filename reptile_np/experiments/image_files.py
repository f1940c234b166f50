"""A user's image files as the images of a run: the conversion of the data set that it was trained on.

Verified by ``tests/experiments/test_image_files.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reptile_np.errors import UsageError, printable, reason
from reptile_np.experiments.progress import notice
from reptile_np.experiments.specs import Source
from reptile_np.tasks import decoding
from reptile_np.tasks.archives import read_file
from reptile_np.tasks.decoding import Conversion, Pixels
from reptile_np.tasks.omniglot_files import SCANNED_SIDE, nearest

__all__ = ["class_folders", "read_images"]

CHARACTERS = ("omniglot", "glyphs")
MOST_BYTES = 1 << 27  # of a file


def read_images(paths: Sequence[Path], source: Source, shape: tuple[int, ...]) -> Pixels:
    """Return image files as pixels (n, *shape), uint8 from 0 to 255.

    The largest centred square is resized by Pillow's bicubic filter, as `reptile_np.tasks.folder` does.
    For a network of characters (Omniglot and glyphs) this square is grey and has 105 x 105 pixels; every
    pixel is made paper (255) or ink (0), and the result is reduced by nearest neighbour, as Omniglot's
    drawings are.

    Parameters
    ----------
    source
        Where the tasks of the run came from.
    shape
        Height, width and channels that the network reads.

    Raises
    ------
    UsageError
        If a file is missing, no image, damaged or too large; names it.
    """
    rows, columns, channels = shape
    drawn = source in CHARACTERS
    size = (SCANNED_SIDE, SCANNED_SIDE) if drawn else (rows, columns)
    how = Conversion(*size, channels, "bicubic", crop=True, upright=True)
    files = ((str(path), read_file(path, MOST_BYTES)) for path in paths)
    images = []
    for batch in decoding.decode_all(
        files, lambda name, content: decoding.convert(name, content, how, decoding.formats())
    ):
        for _, pixels in batch:
            if isinstance(pixels, UsageError):
                raise pixels
            images.append(pixels)
    if not drawn:
        return np.stack(images)
    ink = np.where(np.stack(images) < 128, np.uint8(0), np.uint8(255))
    return ink[:, nearest(rows)][:, :, nearest(columns)]


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Return class ↦ its image files: one folder for each class.

    Hidden files are skipped; other files that are not images are skipped with a notice.

    Raises
    ------
    UsageError
        If the folder cannot be read, has no class folders, or one of them has no images.
    """
    suffixes = decoding.suffixes()
    try:
        if not folder.is_dir():
            raise UsageError(f"{printable(folder)}: no such folder; give one with a folder for each class")
        classes = {
            sub: [file for file in sorted(sub.iterdir()) if not file.name.startswith(".")]
            for sub in sorted(folder.iterdir())
            if sub.is_dir() and not sub.name.startswith(".")
        }
    except OSError as error:
        raise UsageError(f"{printable(error.filename)}: cannot be read ({reason(error)})") from None
    if not classes:
        raise UsageError(
            f"{printable(folder)}: no class folders with images in it; put the images of each class in one"
        )
    images, others, folders = {}, [], []
    for sub, files in classes.items():
        folders += [file for file in files if file.is_dir()]
        images[sub.name] = [f for f in files if f.suffix.lower() in suffixes and not f.is_dir()]
        others += [f for f in files if f.suffix.lower() not in suffixes and not f.is_dir()]
        if not images[sub.name]:
            raise UsageError(
                f"{printable(sub)}: no images that can be read, such as PNG or JPEG files; "
                "put some of this class in it, or remove the folder"
            )
    if folders:
        notice(f"folders inside class folders: {len(folders)} skipped, such as {printable(folders[0])}")
    if others:
        notice(decoding.not_read([str(other) for other in others]))
    return images
