"""The one format in which a data set of images is kept on disk, and its loader.

Two files in one folder: ``NAME-….npy``, all images (n, h, w, c) uint8, sorted by class; and ``NAME.json``,
the manifest, which names the first and says everything else.

Verified by ``tests/tasks/test_image_cache.py`` and ``tests/tasks/test_image_cache_damage.py``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from io import FileIO
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import numpy as np

from reptile_np.errors import UsageError, printable, reason
from reptile_np.files import cache_directory, expanded
from reptile_np.meta.inner_loop import Array
from reptile_np.tasks.decoding import Conversion, Filter, Pixels
from reptile_np.tasks.image_classes import Float32Images, Indices, Splits, selected

__all__ = [
    "CHUNK",
    "FORMAT",
    "SMALL",
    "SPLITS",
    "CachedClass",
    "CachedImages",
    "Manifest",
    "Split",
    "content_digest",
    "find",
    "load",
    "manifest_text",
    "npy_header",
    "read_manifest",
]

FORMAT = 1
SMALL = 1 << 26  # bytes: smaller sets are kept in memory, and verified at every load, in less than 0.1 s
CHUNK = 1 << 22

Split = Literal["train", "validation", "test"]
SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
"""The splits by the names they have in folders and lists."""


@dataclass(frozen=True)
class CachedClass:
    """One class: its name, the number of its images, and its split (None: split by each run's seed)."""

    name: str
    count: int
    split: Split | None = None


@dataclass(frozen=True)
class Manifest:
    """The description of a data set; the fields of ``NAME.json``.

    `white` is the pixel value that becomes 1.0: 255, or 1 for drawings of one bit.  `source_sha256` is the
    digest of the files that were imported, `content_sha256` that of class names, counts and pixels.
    `splits` says in words where the splits come from.  `left_out` names the files and classes skipped.
    """

    name: str
    created_by: str
    decoder: str
    source: str
    source_sha256: str
    conversion: Conversion
    white: int
    splits: str
    pixels: str
    content_sha256: str
    classes: tuple[CachedClass, ...]
    left_out: tuple[str, ...] = field(default=())

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of images, height, width, channels."""
        how = self.conversion
        return sum(c.count for c in self.classes), how.height, how.width, how.channels


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Return the first 128 bytes of an .npy file (format 1.0) of uint8 in C order."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(117).encode() + b"\n"


def content_digest(classes: tuple[CachedClass, ...]) -> Any:
    """Return a SHA-256 object updated with the classes; the caller adds the pixels, image after image."""
    return hashlib.sha256(json.dumps([[c.name, c.count] for c in classes]).encode())


def manifest_text(manifest: Manifest) -> str:
    """Return the content of ``NAME.json``: one class a line, closed by the digest of all that is before."""
    fields = asdict(manifest)
    classes = ",\n  ".join(json.dumps(c) for c in fields.pop("classes"))
    lines = [f'"format": {FORMAT}', *(f'"{key}": {json.dumps(value)}' for key, value in fields.items())]
    body = "{\n" + ",\n".join(lines) + f',\n"classes": [\n  {classes}]'
    return f'{body},\n"manifest_sha256": "{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'


def read_manifest(path: str | Path) -> Manifest:
    """Return the manifest in a file.

    Raises
    ------
    UsageError
        Not a whole manifest, an altered one, or one of another format.  Its types and ranges are
        checked before a value is used.
    """
    path = expanded(path)
    try:
        text = path.read_text(encoding="utf-8")
        fields = json.loads(text)
        number = fields.pop("format")
        if number != FORMAT:
            raise ValueError(f"format {number}, this version reads {FORMAT}")
        del fields["manifest_sha256"]
        fields["conversion"] = Conversion(**fields["conversion"])
        fields["classes"] = tuple(CachedClass(**c) for c in fields["classes"])
        fields["left_out"] = tuple(fields["left_out"])
        manifest = _checked(Manifest(**fields))
        if manifest_text(manifest) != text:
            raise ValueError("altered")
    except PermissionError as error:
        raise UsageError(f"{printable(path)}: cannot be read ({reason(error)})") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{printable(path)}: not a whole manifest ({reason(error)}); import the data set again"
        ) from error
    return manifest


def _checked(manifest: Manifest) -> Manifest:
    """Return the manifest if every value has the type and range that the loader relies on."""
    numbers = [manifest.white, *manifest.shape[1:], *(c.count for c in manifest.classes)]
    texts = [getattr(manifest, key) for key, kind in get_type_hints(Manifest).items() if kind is str]
    names = [c.name for c in manifest.classes]
    if (
        not all(type(number) is int and number > 0 for number in numbers)
        or not all(type(text) is str for text in [*texts, *names, *manifest.left_out])
        or len(set(names)) != len(names)
        or not names
        or manifest.white not in (1, 255)
        or manifest.conversion.channels not in (1, 3)
        or manifest.conversion.filter not in get_args(Filter)
        or any(c.split not in (None, *get_args(Split)) for c in manifest.classes)
        or Path(manifest.pixels).name != manifest.pixels
    ):
        raise ValueError("a value that no import writes")
    return manifest


class CachedImages(Float32Images):
    """The classes of a data set on disk: an `ImageClasses` whose pixels stay in the file until they are read.

    Resident memory is bounded: of a set of more than `SMALL` bytes only the images that are used are read.
    (The file is not memory-mapped: mapped pages would count as resident, and a mapped file that is cut short
    ends the process.)  A pickle of this object holds the path of the manifest only.

    Parameters
    ----------
    path : str or Path
        The manifest.

    Raises
    ------
    UsageError
        A manifest that is not whole, or pixels that are missing, or of another shape, dtype or size.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expanded(path).absolute()
        self.manifest = read_manifest(self.path)
        self.image_shape: tuple[int, int, int] = self.manifest.shape[1:]
        self._first = [0, *accumulate(c.count for c in self.manifest.classes)]
        self._file, self._shape = self.path.with_name(self.manifest.pixels), self.manifest.shape
        self._image_bytes, self._header = math.prod(self.image_shape), npy_header(self._shape)
        self._small: Pixels | None = None
        pixels = self._read(np.arange(self._shape[0] if math.prod(self._shape) <= SMALL else 0))
        self._small = pixels if len(pixels) else None

    def __reduce__(self) -> tuple[type[CachedImages], tuple[Path]]:
        return CachedImages, (self.path,)

    def __len__(self) -> int:
        return len(self.manifest.classes)

    def count(self, c: int) -> int:
        """Return the number of images of class `c`."""
        return self.manifest.classes[c].count

    def name(self, c: int) -> str:
        """Return what messages call class `c`."""
        return self.manifest.classes[c].name

    def pixels(self, c: int, indices: Indices) -> Array:
        """Return the images of class `c` at `indices` (m,): (m, h, w, channels) uint8, of one bit bool."""
        pixels = self._read(np.arange(self._first[c], self._first[c + 1]).take(indices))
        return pixels.view(np.bool_) if self.manifest.white == 1 else pixels

    def splits(self) -> Splits:
        """Return the classes of each split, in the order of the manifest.

        Raises
        ------
        UsageError
            The manifest does not split the classes (Omniglot: see `omniglot.splits`).
        """
        parts = {
            split: np.array([i for i, c in enumerate(self.manifest.classes) if c.split == split], np.intp)
            for split in get_args(Split)
        }
        if not len(parts["train"]) or not len(parts["test"]):
            raise UsageError(f"{printable(self.path)}: no training or no test classes; import with a split")
        validation = selected(self, parts["validation"]) if len(parts["validation"]) else None
        return Splits(selected(self, parts["train"]), validation, selected(self, parts["test"]))

    @property
    def sha256(self) -> str:
        """The digest of the images and of their splits: equal for imports that give the same tasks."""
        splits = json.dumps([c.split for c in self.manifest.classes])
        return hashlib.sha256(f"{self.manifest.content_sha256} {splits}".encode()).hexdigest()

    def verify(self) -> None:
        """Compare the digest of all pixels with the manifest; a `UsageError` if they differ."""
        digest = content_digest(self.manifest.classes)
        every, step = np.arange(self._shape[0]), max(1, CHUNK // self._image_bytes)
        for start in range(0, len(every), step):
            digest.update(self._read(every[start : start + step]))
        if digest.hexdigest() != self.manifest.content_sha256:
            raise UsageError(f"{printable(self.path)}: images have been altered; import the data set again")

    def _read(self, positions: Indices) -> Pixels:
        """Return the images at `positions` (m,) of the whole set: (m, h, w, c)."""
        if self._small is not None:
            return self._small.take(positions, axis=0)
        with self._opened() as file:
            pixels = np.empty((len(positions), *self.image_shape), np.uint8)
            for image, position in zip(pixels, positions.tolist(), strict=True):
                file.seek(len(self._header) + position * self._image_bytes)
                if file.readinto(image.data) != self._image_bytes:
                    raise ValueError("cut short")
        return pixels

    @contextmanager
    def _opened(self) -> Iterator[FileIO]:
        """Open the file of pixels, whose header and size must be those that the manifest gives."""
        size = len(self._header) + math.prod(self._shape)
        try:
            if self._file.exists() and not self._file.is_file():  # a pipe would wait
                raise ValueError("not a file")
            with self._file.open("rb", buffering=0) as file:
                if file.read(len(self._header)) != self._header or os.fstat(file.fileno()).st_size != size:
                    raise ValueError(f"not {self._shape} bytes")
                yield file
        except (OSError, ValueError) as error:
            what = f"not the images of {self.path.name} ({reason(error)}); import them again"
            raise UsageError(f"{printable(self._file)}: {what}") from error


def find(place: str | Path | None, name: str) -> Path | None:
    """Return the manifest of the data set `name` at `place`, if there is one.

    `place` is the manifest, or a folder with it; None is the user's cache folder.
    """
    path = cache_directory() if place is None else expanded(place)
    manifest = path / f"{name}.json" if path.is_dir() else path
    return manifest if manifest.suffix == ".json" and manifest.is_file() else None


def load(manifest: str | Path, full: bool = False) -> CachedImages:
    """Return the data set of a manifest, checked.

    Sizes, shapes and dtype are always checked, the pixels' digest if the set is small or `full` is true.

    Raises
    ------
    UsageError
        Anything that differs from what was imported.
    """
    images = CachedImages(manifest)
    if full or math.prod(images.manifest.shape) <= SMALL:
        images.verify()
    return images
