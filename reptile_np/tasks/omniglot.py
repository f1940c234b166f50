"""Omniglot: 1,623 handwritten characters, 20 drawings of each (Lake et al. 2015).

The drawings are decoded once and kept as bits, 3 MB, with the SHA-256 of their
content: whatever archive or mirror they came from, and whatever happened to
the file since, what is loaded is Omniglot bit for bit or an error.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reptile_np.errors import UsageError
from reptile_np.files import cache_directory, replacing
from reptile_np.tasks import omniglot_files
from reptile_np.tasks.download import Progress, fetch, silent
from reptile_np.tasks.image_classes import ArrayClasses
from reptile_np.tasks.omniglot_files import SETS, SIDE, Drawings

ADDRESS = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
CACHE_NAME = "omniglot.npz"


@dataclass(frozen=True)
class Content:
    """What a set of drawings must amount to: counts, and the SHA-256 of `_digest`."""

    characters: int
    drawings_each: int
    sha256: str


OFFICIAL = Content(
    characters=1623,
    drawings_each=20,
    sha256="4e9a5b6a97bd794ce555af2e012819d2552b5c65ea053707340674caeca41a31",
)


@dataclass(frozen=True)
class _Decoded:
    """Character names, sorted; drawings (n, 98) uint8 in their order; the fingerprint of their files."""

    names: NDArray[np.str_]
    pixels: NDArray[np.uint8]
    files_sha256: str


def load(source: str | Path | None = None) -> ArrayClasses:
    """Return the 1,623 characters, sorted by name: (28, 28, 1), paper 1, ink 0.

    Parameters
    ----------
    source : path, optional
        A folder or file made by `import_omniglot`, or Omniglot in any form
        `omniglot_files.find` knows; decoding that is done once and kept in the
        user's cache folder, since the source may be read-only.  Without
        `source`: what is in the cache folder.

    Raises
    ------
    UsageError
        No Omniglot there; one that is damaged, incomplete or different; Pillow
        missing where something must be decoded.

    Notes
    -----
    Verified by ``tests/tasks/test_omniglot.py``.
    """
    cache = cache_directory() / CACHE_NAME
    if source is None:
        if not cache.exists():
            raise UsageError("Omniglot: not on this machine; run: reptile-np data omniglot, or pass --data")
        return _classes(_read(cache))
    source = Path(source).expanduser()
    ours = source / CACHE_NAME if source.is_dir() else source
    if ours.suffix == ".npz" and ours.exists():
        return _classes(_read(ours))
    drawings = _read_drawings(source, omniglot_files.find(source))
    with contextlib.suppress(UsageError):  # no cache, or a damaged one: it is made again
        kept = _read(cache)
        if kept.files_sha256 == omniglot_files.fingerprint(drawings):
            return _classes(kept)
    decoded = _decode(drawings, source)
    with contextlib.suppress(OSError):  # a home that cannot be written costs seconds at each start
        _write(decoded, cache)
    return _classes(decoded)


def import_omniglot(
    source: str | Path | None = None, to: str | Path | None = None, progress: Progress = silent
) -> Path:
    """Fetch, verify and decode Omniglot; return the file that `load` reads.

    Parameters
    ----------
    source : path or address, optional
        Any form `omniglot_files.find` knows, or the http(s) address of a zip
        file or of a folder with the two official ones; by default the official
        address.  Downloaded zips stay in `to`.
    to : path, optional
        Folder to keep the result in; by default the user's cache folder.
    progress : callable
        Counts bytes fetched, then drawings decoded.

    Raises
    ------
    UsageError
        Anything that is not Omniglot, whole; nothing has then been overwritten.

    Notes
    -----
    Verified by ``tests/tasks/test_omniglot.py``.
    """
    to = cache_directory() if to is None else Path(to).expanduser()
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{to}: cannot be made ({error.strerror}); choose another --to") from error
    place = ADDRESS if source is None else str(source)
    if place.startswith(("http://", "https://")):
        parts = _download(place, to, progress)
    else:
        parts = omniglot_files.find(Path(place).expanduser())
    decoded = _decode(_read_drawings(place, parts), place, progress)
    try:
        _write(decoded, to / CACHE_NAME)
    except OSError as error:
        raise UsageError(f"{to}: cannot be written ({error.strerror}); choose another --to") from error
    return to / CACHE_NAME


def _download(place: str, to: Path, progress: Progress) -> list[Path]:
    """Fetch what is not in `to` yet; return the zip files."""
    base, _, last = place.rpartition("/")
    if not last or last.removesuffix(".zip") in SETS:
        addresses = [f"{base}/{name}.zip" for name in SETS]
    elif last.endswith(".zip"):
        addresses = [place]
    else:
        addresses = [f"{place}/{name}.zip" for name in SETS]
    paths = [to / address.rpartition("/")[2] for address in addresses]
    for address, path in zip(addresses, paths, strict=True):
        if not path.exists():
            fetch(address, path, omniglot_files.check_zip, progress)
    return paths


def _read_drawings(place: str | Path, parts: list[Path]) -> Drawings:
    """Return the drawings in `parts` after counting them; messages call them `place`."""
    drawings = omniglot_files.read(parts)
    counts = Counter(character for character, _ in drawings)
    if len(counts) != OFFICIAL.characters:
        raise UsageError(
            f"{place}: {len(counts):,} characters where Omniglot has {OFFICIAL.characters:,}; "
            "both sets are needed, whole"
        )
    for character, count in counts.items():
        if count != OFFICIAL.drawings_each:
            raise UsageError(
                f"{place}: {count} drawings of {character} where Omniglot has {OFFICIAL.drawings_each}; "
                "get it again"
            )
    return drawings


def _decode(drawings: Drawings, place: str | Path, progress: Progress = silent) -> _Decoded:
    names = np.array(list(dict.fromkeys(character for character, _ in drawings)))
    pixels = omniglot_files.decode(drawings, progress)
    if _digest(names, pixels) != OFFICIAL.sha256:
        raise UsageError(f"{place}: the counts are Omniglot's but the images are not; get it from {ADDRESS}")
    return _Decoded(names, pixels, omniglot_files.fingerprint(drawings))


def _digest(names: NDArray[np.str_], pixels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of the names, one a line, and of the packed pixels."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode() + pixels.tobytes()).hexdigest()


def _read(path: Path) -> _Decoded:
    """Return what `_write` kept, checked against the official content."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            decoded = _Decoded(kept["names"], kept["pixels"], str(kept["files_sha256"]))
    except Exception as error:  # a damaged file makes NumPy raise nearly anything
        reason = "cannot be read as our copy of Omniglot"
        raise UsageError(f"{path}: {reason}; delete it and run: reptile-np data omniglot") from error
    if _digest(decoded.names, decoded.pixels) != OFFICIAL.sha256:
        raise UsageError(f"{path}: has been altered; delete it and run: reptile-np data omniglot")
    return decoded


def _write(decoded: _Decoded, path: Path) -> None:
    with replacing(path) as file:
        np.savez(
            file, names=decoded.names, pixels=decoded.pixels, files_sha256=np.array(decoded.files_sha256)
        )


def _classes(decoded: _Decoded) -> ArrayClasses:
    images = np.unpackbits(decoded.pixels, axis=1).view(bool).reshape(-1, SIDE, SIDE, 1)
    return ArrayClasses(
        images, np.repeat(np.arange(OFFICIAL.characters), OFFICIAL.drawings_each), decoded.names.tolist()
    )
