"""A user's own images: one folder for each class, images of any size and format that Pillow reads.

A class is a folder with images directly in it; its name is its path, so folders may be nested.  Hidden files
and files that are no images are counted and skipped.  Images that cannot be read are named and skipped.

Verified by ``tests/tasks/test_folder.py`` and ``tests/tasks/test_folder_splits.py``.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from reptile_np.errors import UsageError, printable, quoted, reason, whole
from reptile_np.files import expanded
from reptile_np.tasks import decoding, image_cache, importing
from reptile_np.tasks.archives import Limits, read_file, read_files
from reptile_np.tasks.decoding import Conversion, Pixels, convert
from reptile_np.tasks.image_cache import SPLITS, CachedImages, Split
from reptile_np.tasks.importing import Plan, PlannedClass
from reptile_np.tasks.remote import local
from reptile_np.tasks.reports import (
    NoteCallback,
    ProgressCallback,
    import_place,
    no_notes,
    no_progress,
)
from reptile_np.tasks.split_lists import read_table

__all__ = [
    "LARGEST_SIDE",
    "LEAST_CLASSES",
    "LEAST_IMAGES",
    "LIMITS",
    "NAME",
    "SHARES",
    "import_folder",
    "load",
]

NAME = "images"
LEAST_IMAGES = 6  # of a class: 5 shots and 1 query
LEAST_CLASSES = 5  # of each split, if there are at least 15 classes in all
SHARES = (0.16, 0.20)  # of all classes, for validation and test: those of Mini-ImageNet
LARGEST_SIDE = 768  # that a network of `models.conv_cnn` reads
LIMITS = Limits(file_bytes=1 << 27, files=10_000_000, total_bytes=1 << 40)


def load(source: str | Path | None = None, full: bool = False) -> CachedImages:
    """Return the classes that `import_folder` imported.  Their splits: `CachedImages.splits`.

    Parameters
    ----------
    source : path, optional
        The folder or manifest of the import; default: the user's cache folder.
    full : bool
        Verify the digest of all pixels also of a large set.

    Raises
    ------
    UsageError
        Nothing imported there, or it is damaged.
    """
    manifest = image_cache.find(source, NAME)
    if manifest is None:
        other = ", or give --data DIR" if source is None else ""
        size = "(for images-5way with --size 28 --grey)"
        raise UsageError(f"your own images: {_not_imported(source)} {size}{other}")
    return image_cache.load(manifest, full)


def _not_imported(source: str | Path | None) -> str:
    """Return that no import is there, and the command that makes one."""
    folder = None if source is None else Path(source)
    if folder and folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir()):
        named, imported = (quoted([printable(place)]) for place in (folder, f"{folder}-data"))
        return (
            f"{printable(folder)} has folders and no imported images; run: reptile-np data folder {named} "
            f"--to {imported}, then give --data {imported}"
        )
    place, to = import_place(source)
    return f"not imported {place}; run: reptile-np data folder DIR{to}"


def import_folder(
    source: str | Path,
    to: str | Path | None = None,
    progress: ProgressCallback = no_progress,
    *,
    note: NoteCallback = no_notes,
    size: int = 84,
    grey: bool = False,
    seed: int = 0,
    splits: str | Path | None = None,
    least_images: int = LEAST_IMAGES,
) -> Path:
    """Decode a folder of class folders; return the manifest that `load` reads.

    Images become `size` x `size`: the largest centred square, resized by Pillow's bicubic filter.  They are
    turned as their EXIF orientation says; transparent parts become white; an animation gives its first frame.

    Parameters
    ----------
    source : path
        The folder, a zip or tar file of it, or the http(s) address of such a file, which is kept in `to`.
    to : path, optional
        Folder for the result, which replaces images imported there before; by default the user's cache
        folder.
    progress : callable
        Counts the files listed, then the images decoded.
    note : callable
        Gets one line for each image, class or kind of file that is left out.
    size : int
        Height and width, 1 to 768 pixels.
    grey : bool
        One channel; otherwise three.
    seed : int
        Draws the splits, by classes: 64 % train, 16 % validation, 20 % test, at least five classes each.  If
        there are fewer than 15 classes, half are for training, half for test, none for validation.
    splits : path, optional
        Instead of drawing: a CSV file with the columns class, split (train, validation, test).  Classes that
        it does not name are left out.
    least_images : int
        A class with fewer usable images is left out.

    Raises
    ------
    UsageError
        No classes there, a list of splits that does not fit, values out of range.
    """
    size, seed = whole("size", size, 1), whole("seed", seed, 0)
    least_images = whole("least_images", least_images, 2)
    if size > LARGEST_SIDE:
        raise UsageError(f"size is {size}; give 1 to {LARGEST_SIDE}")
    source = local(source, to, NAME, progress)
    how = Conversion(size, size, 1 if grey else 3, "bicubic", crop=True, upright=True)
    formats = decoding.formats()
    lines: list[str] = []
    digests, skipped = _list(source, lines.append, progress)
    classes: dict[str, list[str]] = defaultdict(list)
    for key in sorted(digests):
        classes[str(PurePosixPath(key).parent)].append(key)
    small = {name for name, keys in classes.items() if len(keys) < least_images}
    lines += skipped
    lines += [
        f"class {printable(name)}: too few images ({len(classes[name])}; at least {least_images} are "
        "needed); left out"
        for name in sorted(small)
    ]
    for line in [*lines, *_identical(digests)]:  # they say why there may be too few classes
        note(line)
    names = [name for name in classes if name not in small]
    if not classes:
        raise UsageError(
            f"{printable(source)}: no folders with images in it; give a folder that has a folder of images "
            "for each class"
        )
    if len(names) < 2:
        raise UsageError(
            f"{printable(source)}: class folders with at least {least_images} images: {len(names)} (of "
            f"{len(classes)}); at least two are needed"
        )
    if splits is None:
        split_of, how_split = _drawn(names, seed), f"drawn with seed {seed}"
    else:
        split_of = _listed(expanded(splits), set(classes), printable(source))
        how_split = "given by a list"
        for name in names:
            if name not in split_of:
                lines.append(f"class {printable(name)}: in no split; left out")
                note(lines[-1])
    planned = tuple(PlannedClass(n, split_of[n], tuple(classes[n])) for n in names if n in split_of)
    if missing := {"train", "test"} - {c.split for c in planned}:
        raise UsageError(
            f"{printable(splits)}: no {min(missing)} class has {least_images} images; name one that has"
        )
    folder = importing.target_folder(to)
    plan = Plan(
        name=NAME,
        source=str(source),
        splits=how_split,
        white=255,
        conversion=how,
        classes=planned,
        digests={key: digests[key] for c in planned for key in c.keys},
        left_out=tuple(lines),
        least_images=least_images,
        least_classes=1,
        skip_bad=True,
    )

    def read(wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        return read_files(source, wanted, LIMITS, no_notes)

    def decode(key: str, content: bytes) -> Pixels:
        return convert(key, content, how, formats)

    return importing.write(plan, read, decode, folder, progress, note)


def _list(
    source: Path, problem: NoteCallback, progress: ProgressCallback
) -> tuple[dict[str, bytes], list[str]]:
    """Return the digests of the image files in class folders, and a line for each kind of other file."""
    suffixes = decoding.suffixes()
    skipped: dict[str, list[str]] = {"hidden files": [], "images in no class folder": []}
    other: list[str] = []

    def wanted(name: str) -> bool:
        path = PurePosixPath(name)
        if any(part.startswith(".") for part in path.parts):
            skipped["hidden files"].append(name)
        elif path.suffix.lower() not in suffixes:
            other.append(name)
        elif len(path.parts) < 2:
            skipped["images in no class folder"].append(name)
        else:
            return True
        return False

    digests = importing.survey(read_files(source, wanted, LIMITS, problem), progress)
    lines = [
        f"{kind}: {len(names):,} skipped, such as {printable(names[0])}"
        for kind, names in skipped.items()
        if names
    ]
    return digests, lines + ([decoding.not_read(other)] if other else [])


def _identical(digests: Mapping[str, bytes]) -> list[str]:
    """Return one line about files with the same bytes; a pair in two classes is named before others."""
    first: dict[bytes, str] = {}
    pairs = [
        (first[digest], key)
        for key, digest in sorted(digests.items())
        if first.setdefault(digest, key) != key
    ]
    if not pairs:
        return []

    def classes(pair: tuple[str, str]) -> int:
        return len({PurePosixPath(key).parent for key in pair})

    pair = max(pairs, key=classes)
    what = "; these are of different classes" if classes(pair) == 2 else ""
    one, other = map(printable, pair)
    return [f"{len(pairs):,} images are copies of others, such as {other} of {one}{what}; all are imported"]


def _drawn(names: list[str], seed: int) -> dict[str, Split]:
    """Return the split of each class, drawn at random."""
    count = len(names)
    if count >= 3 * LEAST_CLASSES:
        validation, test = (max(LEAST_CLASSES, round(share * count)) for share in SHARES)
    else:
        validation, test = 0, count // 2
    order = np.random.default_rng(seed).permutation(count).tolist()
    shuffled = [names[i] for i in order]
    train = count - validation - test
    sizes: dict[Split, int] = {"train": train, "validation": validation, "test": test}
    return dict(zip(shuffled, (split for split, n in sizes.items() for _ in range(n)), strict=True))


def _listed(path: Path, names: set[str], source: str) -> dict[str, Split]:
    """Return the split of each class in a CSV file; Unicode's two forms of accents count as one."""
    content = read_file(path, LIMITS.file_bytes)
    composed = {unicodedata.normalize("NFC", name): name for name in names}
    split_of: dict[str, Split] = {}
    try:
        for given, split in read_table(content, "class", "split"):
            name = given if given in names else composed.get(unicodedata.normalize("NFC", given))
            if name is None:
                raise ValueError(
                    f"{source} has no folder of class {given}; the classes there are "
                    f"{', '.join(sorted(names)[:3])}{', …' if len(names) > 3 else ''}"
                )
            if name in split_of:
                raise ValueError(f"class {given} comes twice; remove one line")
            if split.strip() not in SPLITS:
                raise ValueError(f"class {given} has the split {split!r}; give train, validation or test")
            split_of[name] = SPLITS[split.strip()]
    except UnicodeDecodeError:
        raise UsageError(f"{printable(path)}: not in UTF-8; save the list as CSV in UTF-8") from None
    except ValueError as error:
        raise UsageError(f"{printable(path)}: {reason(error)}") from error
    if not {"train", "test"} <= set(split_of.values()):
        raise UsageError(f"{printable(path)}: no training or no test class; name one of each at least")
    return split_of
