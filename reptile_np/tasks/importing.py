"""Write a data set in the cache format: on all cores, continued after a kill, with the same bytes each time.

While an import runs, decoded images are kept in ``.NAME.partial/``; the next import of the same files
with the same Pillow continues there.  The manifest is written last: until then an earlier cache stays valid.

Verified by ``tests/tasks/test_importing.py`` and ``tests/tasks/test_killed_imports.py``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import reptile_np
from reptile_np import files
from reptile_np.errors import UsageError, printable, reason
from reptile_np.tasks import decoding, image_cache
from reptile_np.tasks.decoding import BadImage, Conversion, Pixels
from reptile_np.tasks.image_cache import CachedClass, Manifest, Split
from reptile_np.tasks.partial_import import Files, PartialImport, Reader, delete_unfinished
from reptile_np.tasks.reports import NoteCallback, ProgressCallback, no_notes, no_progress

__all__ = ["Plan", "PlannedClass", "locked", "survey", "target_folder", "write"]


@dataclass(frozen=True)
class PlannedClass:
    """A class that is to be imported, and the keys of its image files, sorted."""

    name: str
    split: Split | None
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What an import will write.

    Parameters
    ----------
    name, source, splits, white, conversion
        See `image_cache.Manifest`.
    classes : tuple of PlannedClass
        In the order they are to have.
    digests : dict
        SHA-256 of every file by its key, as it was when the source was listed.
    left_out : tuple of str
        One line for everything that was skipped already.
    least_images : int
        A class with fewer usable images is left out.
    least_classes : int
        Fewer classes left for training, or for test, end the import; 0 if each run splits the classes.
    advice : str
        What to do if there are too few classes.
    skip_bad : bool
        Skip an image that cannot be decoded; otherwise it ends the import.
    content_sha256 : str, optional
        The digest that the result must have.
    """

    name: str
    source: str
    splits: str
    white: int
    conversion: Conversion
    classes: tuple[PlannedClass, ...]
    digests: dict[str, bytes] = field(repr=False)
    left_out: tuple[str, ...] = ()
    least_images: int = 1
    least_classes: int = 0
    advice: str = "give more, or other splits"
    skip_bad: bool = False
    content_sha256: str | None = None

    @property
    def sha256(self) -> str:
        """Digest of the files, their classes and the way they are converted."""
        text = json.dumps(
            [
                [[c.name, c.split, [[key, self.digests[key].hex()] for key in c.keys]] for c in self.classes],
                asdict(self.conversion),
                [self.splits, self.white, self.least_images],
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()


def survey(source: Files, progress: ProgressCallback = no_progress) -> dict[str, bytes]:
    """Return the SHA-256 of every file by its key; a `UsageError` if a key comes twice."""
    digests: dict[str, bytes] = {}
    for key, content in source:
        if key in digests:
            raise UsageError(f"{printable(key)}: comes twice; remove one of the two")
        digests[key] = hashlib.sha256(content).digest()
        if len(digests) % 1000 == 0:
            progress("listing", len(digests), None)
    return digests


def target_folder(to: str | Path | None) -> Path:
    """Return the folder to import into, made if it is missing; None: the user's cache folder.

    Raises
    ------
    UsageError
        If the folder cannot be made.
    """
    folder = files.cache_directory() if to is None else files.expanded(to)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{printable(folder)}: cannot be made ({reason(error)}); choose another --to"
        ) from error
    return folder


def write(
    plan: Plan,
    read: Reader,
    decode: Callable[[str, bytes], Pixels],
    folder: Path,
    progress: ProgressCallback = no_progress,
    note: NoteCallback = no_notes,
) -> Path:
    """Decode the files of a plan into `folder`; return the manifest.

    If another process is importing the same set into the folder, wait for it.

    Parameters
    ----------
    read : callable
        Given a predicate on keys, yields the files that are wanted.
    decode : callable
        From key and content to pixels in the plan's shape; raises `BadImage`.

    Raises
    ------
    UsageError
        The source has changed, the disk is full, an image is bad and is not to be skipped, or too few classes
        have enough images.  An earlier cache is then as it was.
    """
    _kept(plan, {})  # too few classes are refused before minutes of decoding
    unfinished = folder / f".{plan.name}.partial"
    if not unfinished.is_dir() and (finished := _finished(plan, folder, note)):
        return finished
    try:
        with locked(folder, plan.name, progress):
            for names in (f"{plan.name}.json", f"{plan.name}-*.npy"):  # of an import killed as it wrote them
                files.remove_partial_files(folder, names)
            # finished by the import that was waited for, or by one that was killed
            if finished := _finished(plan, folder, note):
                delete_unfinished(unfinished)
                return finished
            keys = [key for c in plan.classes for key in c.keys]
            mark = f"{plan.sha256} {decoding.pillow_version()}"  # another decoder may round differently
            partial = PartialImport(unfinished, mark, keys, plan.conversion)
            bad = partial.fill(lambda wanted: _unchanged(plan, read(wanted)), decode, progress)
            if bad and not plan.skip_bad:
                more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
                raise BadImage(next(iter(bad.values())) + more)
            manifest = _commit(plan, partial, folder, bad, note)
            delete_unfinished(unfinished)
            return manifest
    except OSError as error:
        raise UsageError(
            f"{printable(folder)}: cannot be written ({reason(error)}); make room, or choose another --to"
        ) from error


@contextmanager
def locked(folder: Path, name: str, progress: ProgressCallback) -> Iterator[None]:
    """Wait for the lock file of imports of `name` into `folder`, then hold it.

    Raises
    ------
    OSError
        If the lock file cannot be created.
    """
    with ExitStack() as stack:
        for seconds in itertools.count():
            try:
                stack.enter_context(files.locked(folder / f".{name}.lock"))
                break
            except BlockingIOError:
                progress("waiting for another import", seconds, None)
                time.sleep(1)
        yield


def _unchanged(plan: Plan, source: Files) -> Files:
    """Yield the files; a `UsageError` if one is not what it was when the source was listed."""
    for key, content in source:
        if hashlib.sha256(content).digest() != plan.digests[key]:
            raise UsageError(f"{printable(key)}: changed during the import; import it again")
        yield key, content


def _finished(plan: Plan, folder: Path, note: NoteCallback) -> Path | None:
    """Return the manifest in `folder` if it is this plan's whole result; repeat the notes of that import."""
    manifest = folder / f"{plan.name}.json"
    with suppress(UsageError):
        made = image_cache.read_manifest(manifest)
        complete = made.classes == tuple(c for c, _ in _kept(plan, {})[0])  # no bad image was skipped
        if made.source_sha256 == plan.sha256 and (complete or plan.skip_bad):
            image_cache.load(manifest, full=True)
            for line in made.left_out:
                if line not in plan.left_out:
                    note(line)
            return manifest
    return None


def _kept(plan: Plan, bad: dict[str, str]) -> tuple[list[tuple[CachedClass, list[str]]], list[str]]:
    """Return the classes with enough images and the keys of these; and a line for each class left out."""
    kept: list[tuple[CachedClass, list[str]]] = []
    small = []
    for c in plan.classes:
        keys = [key for key in c.keys if key not in bad]
        if len(keys) >= plan.least_images:
            kept.append((CachedClass(c.name, len(keys), c.split), keys))
        else:
            few = f"too few usable images ({len(keys)}; at least {plan.least_images} are needed)"
            small.append(f"class {printable(c.name)}: {few}; left out")
    if not kept:
        raise UsageError(f"{printable(plan.source)}: no class has {plan.least_images} usable images")
    for split in ("train", "test"):
        count = sum(c.split == split for c, _ in kept)
        if count < plan.least_classes:
            raise UsageError(
                f"{printable(plan.source)}: {count} {split} classes with at least {plan.least_images} usable "
                f"images, {plan.least_classes} needed; {plan.advice}"
            )
    return kept, small


def _commit(
    plan: Plan, partial: PartialImport, folder: Path, bad: dict[str, str], note: NoteCallback
) -> Path:
    """Write the final files; return the manifest, whose renaming makes the import valid."""
    kept, small = _kept(plan, bad)
    left_out = [*plan.left_out, *(f"{line}; left out" for line in bad.values()), *small]
    for line in left_out[len(plan.left_out) :]:
        note(line)
    classes = tuple(c for c, _ in kept)
    source_sha256 = plan.sha256
    pixels = folder / f"{plan.name}-{source_sha256[:12]}.npy"
    digest = image_cache.content_digest(classes)
    how = plan.conversion
    shape = (sum(c.count for c in classes), how.height, how.width, how.channels)
    with files.replacing(pixels) as file:
        file.write(image_cache.npy_header(shape))
        for image in partial.images(key for _, keys in kept for key in keys):
            file.write(image)
            digest.update(image)
        if plan.content_sha256 not in (None, digest.hexdigest()):
            raise UsageError(
                f"{printable(plan.source)}: the counts are those of {plan.name}, but the images are not; "
                "get a new copy"
            )
    manifest = Manifest(
        name=plan.name,
        created_by=f"reptile_np {reptile_np.__version__}",
        decoder=decoding.pillow_version(),
        source=plan.source,
        source_sha256=source_sha256,
        conversion=plan.conversion,
        white=plan.white,
        splits=plan.splits,
        pixels=pixels.name,
        content_sha256=digest.hexdigest(),
        classes=classes,
        left_out=tuple(left_out),
    )
    path = folder / f"{plan.name}.json"
    with files.replacing(path) as file:
        file.write(image_cache.manifest_text(manifest).encode())
    for old in folder.glob(f"{plan.name}-{'[0-9a-f]' * 12}.npy"):  # the names that imports give
        if old != pixels:
            with suppress(OSError):  # Windows keeps a file that is being read
                old.unlink()
    return path
