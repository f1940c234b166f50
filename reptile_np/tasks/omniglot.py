"""Omniglot: 1,623 handwritten characters, 20 drawings of each (Lake et al. 2015).

Whatever archive or mirror the drawings came from, what is loaded has the SHA-256 of the official content.

Verified by ``tests/tasks/test_omniglot.py``, ``test_omniglot_sources.py`` and ``test_omniglot_download.py``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reptile_np.errors import UsageError, printable, whole
from reptile_np.files import expanded
from reptile_np.tasks import image_cache, importing, omniglot_files
from reptile_np.tasks.decoding import Conversion
from reptile_np.tasks.image_cache import CachedImages
from reptile_np.tasks.image_classes import ImageClasses, Splits, split_classes
from reptile_np.tasks.importing import Plan, PlannedClass
from reptile_np.tasks.omniglot_files import SETS, SIDE
from reptile_np.tasks.remote import fetch_once, is_address
from reptile_np.tasks.reports import ProgressCallback, no_progress

__all__ = [
    "ADDRESS",
    "NAME",
    "OFFICIAL",
    "TRAINING_CHARACTERS",
    "Content",
    "import_omniglot",
    "load",
    "splits",
    "splits_in_three",
]

ADDRESS = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
NAME = "omniglot"
TRAINING_CHARACTERS = 1200  # of 1,623 (released program); the others are tested on


@dataclass(frozen=True)
class Content:
    """What a set of drawings must be: its counts, and the digest of `image_cache.content_digest`."""

    characters: int
    drawings_each: int
    sha256: str


OFFICIAL = Content(
    characters=1623,
    drawings_each=20,
    sha256="d01c599b11b37bdf4c5201ce1a9c5a2dab1a7b0218e05d606e0e365f9f1d4c62",
)


def splits(rng: np.random.Generator, classes: ImageClasses) -> Splits:
    """Draw 1,200 characters to train on; the other 423 are the test classes.

    As in the released program, which keeps no validation classes apart.
    """
    train, test = split_classes(rng, classes, TRAINING_CHARACTERS)
    return Splits(train, None, test)


def splits_in_three(rng: np.random.Generator, classes: ImageClasses, train: int) -> Splits:
    """Draw `train` characters to train on, and 423 test classes; what remains of 1,623 is for validation.

    Finn's program trains on 1,100 and has 100 for validation.

    Raises
    ------
    UsageError
        If `train` is no whole number ≥ 1, or no character remains for validation.
    """
    if whole("Omniglot: train", train, 1) >= TRAINING_CHARACTERS:
        raise UsageError(f"Omniglot: {train} training characters; give 1 to {TRAINING_CHARACTERS - 1}")
    chosen, test = split_classes(rng, classes, TRAINING_CHARACTERS)
    training, validation = split_classes(rng, chosen, train)
    return Splits(training, validation, test)


def load(source: str | Path | None = None) -> CachedImages:
    """Return the 1,623 characters, sorted by name: (28, 28, 1), paper 1, ink 0.

    Parameters
    ----------
    source : path, optional
        A folder or manifest made by `import_omniglot`, or Omniglot in any form that `omniglot_files.find`
        accepts, which is then imported into the user's cache folder, once.  Default: what is in that folder.

    Raises
    ------
    UsageError
        No Omniglot there; one that is damaged, incomplete or different; Pillow missing if something must be
        decoded.
    """
    manifest = image_cache.find(source, NAME)
    if manifest is None:
        if source is None:
            raise UsageError("Omniglot: not on this machine; run: reptile-np data omniglot, or pass --data")
        manifest = import_omniglot(source)
    images = image_cache.load(manifest)
    if images.manifest.content_sha256 != OFFICIAL.sha256:
        raise UsageError(f"{printable(manifest)}: not Omniglot; run: reptile-np data omniglot")
    return images


def import_omniglot(
    source: str | Path | None = None,
    to: str | Path | None = None,
    progress: ProgressCallback = no_progress,
) -> Path:
    """Fetch, verify and decode Omniglot; return the manifest that `load` reads.

    Parameters
    ----------
    source : path or address, optional
        Any form that `omniglot_files.find` accepts, or the http(s) address of a zip file or of a folder with
        the two official ones; by default the official address.  Downloaded zips stay in `to`.
    to : path, optional
        Folder for the result; by default the user's cache folder.
    progress : callable
        Counts bytes fetched, files listed, drawings decoded.

    Raises
    ------
    UsageError
        Anything that is not Omniglot, whole.  An earlier cache is then as it was.
    """
    place = ADDRESS if source is None else str(source)
    if is_address(place):
        folder = importing.target_folder(to)
        parts = _download(place, folder, progress)
    else:
        parts = omniglot_files.find(expanded(place))
        folder = importing.target_folder(to)
    plan = _plan(place, importing.survey(omniglot_files.read(parts), progress))
    return importing.write(
        plan, lambda wanted: omniglot_files.read(parts, wanted), omniglot_files.decode, folder, progress
    )


def _plan(place: str, digests: dict[str, bytes]) -> Plan:
    """Return the plan for these drawings, after counting them."""
    counts = Counter(key.rpartition("/")[0] for key in digests)
    if len(counts) != OFFICIAL.characters:
        raise UsageError(
            f"{printable(place)}: {len(counts):,} characters, but Omniglot has {OFFICIAL.characters:,}; "
            "both sets are needed, whole"
        )
    for character, count in sorted(counts.items()):
        if count != OFFICIAL.drawings_each:
            raise UsageError(
                f"{printable(place)}: {count} drawings of {printable(character)}, but Omniglot has "
                f"{OFFICIAL.drawings_each}; get a new copy"
            )
    keys = sorted(digests)
    each = OFFICIAL.drawings_each
    groups = [tuple(keys[i : i + each]) for i in range(0, len(keys), each)]
    return Plan(
        name=NAME,
        source=place,
        splits=f"{TRAINING_CHARACTERS:,} training characters drawn by each run's seed",
        white=1,
        conversion=Conversion(SIDE, SIDE, 1, "nearest"),
        classes=tuple(PlannedClass(group[0].rpartition("/")[0], None, group) for group in groups),
        digests=digests,
        content_sha256=OFFICIAL.sha256,
    )


def _download(place: str, folder: Path, progress: ProgressCallback) -> list[Path]:
    """Fetch the zip files that are not in `folder` yet; return their paths."""
    base, _, last = place.rpartition("/")
    if not last or last.removesuffix(".zip") in SETS:
        addresses = [f"{base}/{name}.zip" for name in SETS]
    elif last.endswith(".zip"):
        addresses = [place]
    else:
        addresses = [f"{place}/{name}.zip" for name in SETS]
    paths = [folder / address.rpartition("/")[2] for address in addresses]
    for address, path in zip(addresses, paths, strict=True):
        if not path.exists():
            fetch_once(address, path, NAME, omniglot_files.check_zip, progress)
            continue
        try:
            omniglot_files.check_zip(path)
        except UsageError as error:  # the file may be the user's own: nothing removes it unasked
            why = "not a whole zip with Omniglot drawings; remove it and run this again"
            raise UsageError(f"{printable(path)}: {why}") from error
    return paths
