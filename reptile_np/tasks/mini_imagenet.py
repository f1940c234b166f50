"""Mini-ImageNet: 100 classes of 600 colour images 84 x 84, split by class (Ravi and Larochelle 2017).

Three forms are read, as folders or as archives:

* ``train/CLASS/NAME.jpg``, and ``val`` and ``test`` likewise,
* the same in ``train.tar.xz`` (or .tar.gz, .tar, .zip), ``val.tar.xz`` and ``test.tar.xz``,
* ``images/NAME.jpg`` and the lists ``train.csv``, ``val.csv``, ``test.csv`` with the columns filename, label.

Every form may have the lists, also in a folder ``splits/``; the images are then checked against them.
Verified by ``tests/tasks/test_mini_imagenet.py`` and ``tests/tasks/test_mini_imagenet_refusals.py``.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, get_args

from reptile_np.errors import UsageError, printable
from reptile_np.tasks import image_cache, importing
from reptile_np.tasks.archives import ARCHIVE_SUFFIXES, PICKLE_SUFFIXES, Limits, read_file, read_files, stem
from reptile_np.tasks.decoding import BadImage, Conversion, Filter, Pixels, convert
from reptile_np.tasks.image_cache import SPLITS, CachedImages, Split
from reptile_np.tasks.importing import Plan, PlannedClass
from reptile_np.tasks.remote import local
from reptile_np.tasks.reports import NoteCallback, ProgressCallback, import_place, no_notes, no_progress
from reptile_np.tasks.split_lists import read_table

__all__ = ["NAME", "import_mini_imagenet", "load"]
NAME = "mini-imagenet"
SHAPE = 84, 84, 3  # images of 84 x 84, the usual ones, are used as they are
OFFICIAL_CLASSES: dict[Split, int] = {"train": 64, "validation": 16, "test": 20}
OFFICIAL_IMAGES = 600  # of each class
LEAST_CLASSES, LEAST_IMAGES = 5, 15  # for tasks of 5 ways, and training tasks of 15 shots
LIMITS = Limits(file_bytes=1 << 24, files=200_000, total_bytes=1 << 35)


class _Place(NamedTuple):
    split: Split
    label: str
    filename: str

    @property
    def key(self) -> str:
        return "/".join(self)


def load(source: str | Path | None = None, full: bool = False) -> CachedImages:
    """Return the classes: (84, 84, 3), bytes divided by 255.  Their splits: `CachedImages.splits`.

    Parameters
    ----------
    source : path, optional
        A folder or manifest made by `import_mini_imagenet`; default: the user's cache folder.
    full : bool
        Verify the digest of all pixels (1.3 GB), and not only their number and shape.

    Raises
    ------
    UsageError
        Nothing imported there, or it is damaged.
    """
    manifest = image_cache.find(source, NAME)
    if manifest is None:
        place, to = import_place(source)
        raise UsageError(
            f"Mini-ImageNet: not imported {place}; run: reptile-np data mini-imagenet --from DIR{to}"
        )
    return image_cache.load(manifest, full)


def import_mini_imagenet(
    source: str | Path,
    to: str | Path | None = None,
    progress: ProgressCallback = no_progress,
    *,
    note: NoteCallback = no_notes,
    skip_bad: bool = False,
    filter: Filter = "lanczos",
) -> Path:
    """Read, check and decode Mini-ImageNet; return the manifest that `load` reads.

    Parameters
    ----------
    source : path
        A folder with one of the three forms, an archive of it, or the http(s) address of one (kept in `to`).
    to : path, optional
        Folder for the result, 1.3 GB (2.6 GB during the import); by default the user's cache folder.
    progress : callable
        Counts the files listed, then the images decoded.
    note : callable
        Gets one line for each count of classes or images below the official one, and for each skipped image.
    skip_bad : bool
        Skip an image that cannot be decoded; without it such an image ends the import.
    filter : "nearest", "bilinear", "bicubic" or "lanczos"
        Resizes images that are not 84 x 84.  The authors' program read ImageNet's own images and resized them
        with Pillow's default, which then was "nearest".

    Raises
    ------
    UsageError
        Anything that is not Mini-ImageNet or a part of it; an archive that is refused.  An earlier cache is
        then as it was.
    """
    if filter not in get_args(Filter):
        raise UsageError(f"filter {printable(filter)}: give {', '.join(get_args(Filter))}")
    source = local(source, to, NAME, progress)
    parts, folder = _find(source), importing.target_folder(to)
    lists: dict[Split, dict[str, str]] = {}
    digests = importing.survey(_files(parts, lambda _: True, lists), progress)
    places, left_out = _places(source, digests, lists)
    how = Conversion(*SHAPE, filter)
    plan = _plan(source, {name: digests[name] for name in places}, places, skip_bad, how)
    plan = dataclasses.replace(plan, left_out=(*left_out, *_compared(source, plan, lists)))
    for line in plan.left_out:
        note(line)

    def read(wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        chosen = {name for name, place in places.items() if wanted(place.key)}
        for name, content in _files(parts, chosen.__contains__):
            yield places[name].key, content

    def decode(key: str, content: bytes) -> Pixels:
        return convert(key, content, how, ("JPEG", "PNG"))

    try:
        return importing.write(plan, read, decode, folder, progress, note)
    except BadImage as bad:
        raise UsageError(f"{bad}; get a new copy, or pass --skip-bad to leave it out") from bad


def _find(source: Path) -> list[Path]:
    """Return the folders, archives and lists that make up the Mini-ImageNet at `source`."""
    if source.is_file() and stem(source) not in SPLITS:
        return [source, *(_lists(source.parent) if stem(source) == "images" else ())]
    base = source.parent if source.is_file() else source
    if not base.is_dir():
        raise UsageError(f"{printable(source)}: no such file or folder; give the place of Mini-ImageNet")
    places = [base, base / "mini-imagenet", base / "miniImagenet", base / "mini_imagenet"]
    for folder in filter(Path.is_dir, places):
        parts = [part for name in (*SPLITS, "images") if (part := _folder_or_archive(folder / name))]
        if parts:
            return parts + _lists(folder)
    if any(path.suffix.lower() in PICKLE_SUFFIXES for path in base.iterdir()):
        raise UsageError(
            f"{printable(base)}: only pickles, which can run any program when they are read; "
            "give the images as folders or tar"
        )
    raise UsageError(
        f"{printable(base)}: no Mini-ImageNet here; expected train, val and test, as folders or .tar files, "
        "or images with train.csv, val.csv and test.csv"
    )


def _folder_or_archive(path: Path) -> Path | None:
    candidates = [path, *(path.with_name(path.name + suffix) for suffix in ARCHIVE_SUFFIXES)]
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _lists(folder: Path) -> list[Path]:
    paths = (sub / f"{name}.csv" for sub in (folder, folder / "splits") for name in SPLITS)
    return [path for path in paths if path.is_file()]


def _files(
    parts: list[Path],
    wanted: Callable[[str], bool],
    lists: dict[Split, dict[str, str]] | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Yield the wanted images, their names beginning with the part's; parse split lists into `lists`."""
    for part in parts:
        if part.suffix == ".csv":
            if lists is not None:
                _add_list(lists, part.name, read_file(part, LIMITS.file_bytes))
            continue

        def asked(name: str, prefix: str = stem(part)) -> bool:
            return _is_list(name) or (_is_image(name) and wanted(f"{prefix}/{name}"))

        for name, content in read_files(part, asked, LIMITS):
            if not _is_list(name):
                yield f"{stem(part)}/{name}", content
            elif lists is not None:
                _add_list(lists, name, content)


def _is_list(name: str) -> bool:
    return Path(name).suffix == ".csv" and Path(name).stem in SPLITS


def _is_image(name: str) -> bool:
    return name.lower().endswith((".jpg", ".jpeg", ".png")) and not Path(name).name.startswith(".")


def _add_list(lists: dict[Split, dict[str, str]], name: str, content: bytes) -> None:
    """Parse a list: the label of each filename."""
    try:
        rows = read_table(content, "filename", "label")
        if len(labels := {filename: label for filename, label in rows}) != len(rows):
            raise ValueError("a filename comes twice")
    except ValueError as error:
        raise UsageError(
            f"{printable(name)}: not a list of filenames and labels ({printable(error)})"
        ) from error
    lists[SPLITS[Path(name).stem]] = labels


def _places(
    source: Path, names: dict[str, bytes], lists: dict[Split, dict[str, str]]
) -> tuple[dict[str, _Place], tuple[str, ...]]:
    """Return where each image belongs, by its folders or else by the lists; and what is left out."""
    listed = {
        filename: (split, label) for split, labels in lists.items() for filename, label in labels.items()
    }
    if len(listed) < sum(map(len, lists.values())):
        raise UsageError(f"{printable(source)}: an image is in two split lists; get the lists again")
    places: dict[str, _Place] = {}
    nowhere = []
    for name in names:
        *_, above, label, filename = "", "", *name.split("/")
        if split := SPLITS.get(above):
            place = _Place(split, label, filename)
            if split in lists and listed.get(filename) != (split, label):
                raise UsageError(
                    f"{printable(source)}: {printable(name)} is not in the list of {split} images; "
                    "get a new copy"
                )
        elif filename in listed:
            place = _Place(*listed[filename], filename)
        else:
            nowhere.append(name)
            continue
        places[name] = place
    if not places:
        raise UsageError(
            f"{printable(source)}: no image in a folder train/CLASS, val/CLASS or test/CLASS, or in a list"
        )
    if nowhere:
        return places, (f"{len(nowhere):,} images of no split, such as {printable(nowhere[0])}; left out",)
    return places, ()


def _plan(
    source: Path,
    digests: dict[str, bytes],
    places: dict[str, _Place],
    skip_bad: bool,
    how: Conversion,
) -> Plan:
    """Return the plan, the same for every form: splits in order, classes and images sorted by name."""
    groups: dict[tuple[Split, str], list[str]] = defaultdict(list)
    by_key: dict[str, bytes] = {}
    for name, place in places.items():
        if place.key in by_key:
            raise UsageError(f"{printable(source)}: {printable(place.key)} is there twice; remove one")
        by_key[place.key] = digests[name]
        groups[place.split, place.label].append(place.key)
    labels = Counter(label for _, label in groups)
    if twice := sorted(label for label, count in labels.items() if count > 1):
        raise UsageError(f"{printable(source)}: class {printable(twice[0])} is in two splits; get a new copy")
    classes = tuple(
        PlannedClass(label, split, tuple(sorted(groups[split, label])))
        for split in OFFICIAL_CLASSES
        for label in sorted(label for of, label in groups if of == split)
    )
    return Plan(
        name=NAME,
        source=str(source),
        splits="Ravi and Larochelle's",
        white=255,
        conversion=how,
        classes=classes,
        digests=by_key,
        least_images=LEAST_IMAGES,
        least_classes=LEAST_CLASSES,
        advice="get a new copy of the data set",
        skip_bad=skip_bad,
    )


def _compared(source: Path, plan: Plan, lists: dict[Split, dict[str, str]]) -> Iterator[str]:
    """Yield a line for each count below the official one; refuse counts above it."""
    for split, official in OFFICIAL_CLASSES.items():
        classes = [c for c in plan.classes if c.split == split]
        if len(classes) > official:
            has = f"{len(classes)} {split} classes; Mini-ImageNet has {official}"
            raise UsageError(f"{printable(source)}: {has}; get a new copy")
        if len(classes) < official:
            yield f"{split}: {len(classes)} of {official} classes"
        images = [len(c.keys) for c in classes]
        if large := [c.name for c in classes if len(c.keys) > OFFICIAL_IMAGES]:
            raise UsageError(
                f"{printable(source)}: class {printable(large[0])} has more than {OFFICIAL_IMAGES} images"
            )
        if sum(images) < OFFICIAL_IMAGES * len(classes):
            yield f"{split}: {sum(images):,} of {OFFICIAL_IMAGES * len(classes):,} images of these classes"
        if split in lists and (missing := len(lists[split]) - sum(images)):
            yield f"{split}: {missing:,} images of the list are not there"
