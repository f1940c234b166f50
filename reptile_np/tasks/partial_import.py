"""The images that an import has decoded so far, on disk: after a kill the next import decodes the others.

Verified by ``tests/tasks/test_killed_imports.py``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from reptile_np.errors import UsageError, printable
from reptile_np.tasks.decoding import BadImage, Conversion, Pixels, decode_all
from reptile_np.tasks.reports import ProgressCallback

__all__ = ["SYNC_EVERY", "Files", "PartialImport", "Reader", "delete_unfinished"]

SYNC_EVERY = 16  # batches; a power cut loses at most as many

Files = Iterable[tuple[str, bytes]]
"""Image files by key."""
Reader = Callable[[Callable[[str], bool]], Files]
"""Given a predicate on keys, yields the files that are wanted."""


class PartialImport:
    """A folder with three files: ``pixels`` (raw, a place per image), ``done`` (a byte per image), ``plan``.

    A byte of ``done`` is set after the image's pixels are on disk.

    Parameters
    ----------
    folder : Path
        Made again if it was left by another plan or decoder.
    plan : str
        What identifies the plan.
    keys : sequence of str
        The images in the order of their places.
    conversion : Conversion
        Gives the shape of the images.
    """

    def __init__(self, folder: Path, plan: str, keys: Sequence[str], conversion: Conversion) -> None:
        self._folder = folder
        self._row = {key: row for row, key in enumerate(keys)}
        self._size = conversion.height * conversion.width * conversion.channels
        mark, sizes = folder / "plan", {"pixels": len(keys) * self._size, "done": len(keys)}
        whole = all(_size(folder / name) == size for name, size in sizes.items())  # a power cut leaves less
        if not whole or not mark.is_file() or mark.read_text(errors="replace") != plan:
            delete_unfinished(folder)
            folder.mkdir()
            for name, size in sizes.items():
                with (folder / name).open("wb") as file:
                    file.truncate(size)
            mark.write_text(plan)
        self._done = np.fromfile(folder / "done", np.uint8)

    def fill(
        self, read: Reader, decode: Callable[[str, bytes], Pixels], progress: ProgressCallback
    ) -> dict[str, str]:
        """Decode the missing images; return why, by key, for those that cannot be used.

        Raises
        ------
        UsageError
            A file is not there any more.
        """
        bad: dict[str, str] = {}
        missing = {key for key, row in self._row.items() if not self._done[row]}
        wanted = frozenset(missing)
        with (self._folder / "pixels").open("r+b") as pixels, (self._folder / "done").open("r+b") as flags:
            for number, batch in enumerate(decode_all(read(wanted.__contains__), decode), 1):
                for key, image in batch:
                    if isinstance(image, BadImage):
                        bad[key] = str(image)
                    else:
                        pixels.seek(self._row[key] * self._size)
                        pixels.write(image.tobytes())
                        self._done[self._row[key]] = 1
                    missing.discard(key)
                    progress("decoding", len(self._row) - len(missing), len(self._row))
                if number % SYNC_EVERY == 0 or not missing:
                    _sync(pixels)
                    flags.seek(0)
                    flags.write(self._done.tobytes())
                    _sync(flags)
        if missing:
            raise UsageError(f"{printable(min(missing))}: removed during the import; import it again")
        return bad

    def images(self, keys: Iterable[str]) -> Iterator[bytes]:
        """Yield the pixels of each image."""
        with (self._folder / "pixels").open("rb") as file:
            for key in keys:
                file.seek(self._row[key] * self._size)
                yield file.read(self._size)


def delete_unfinished(folder: Path) -> None:
    """Remove the folder of an import that was not finished, if there is one."""
    if folder.is_dir():
        # First, so that what a kill leaves is not taken for a folder to continue.
        (folder / "plan").unlink(missing_ok=True)
        shutil.rmtree(folder)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
