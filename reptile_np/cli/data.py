"""The command `data`: import a data set, once.

Verified by ``tests/cli/test_data.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reptile_np.cli import signals
from reptile_np.cli.arguments import Commands, add_json, natural, path, positive, source
from reptile_np.cli.terminal import note, show, show_json
from reptile_np.errors import UsageError

__all__ = ["OPTIONS", "add_to"]

WAYS = 5  # of the tasks of the presets
MISSING = {
    "mini-imagenet": "--from is missing: there is no official address, because the images are ImageNet's; "
    "give a copy that you have, or the URL of one",
    "folder": "--from is missing: give a folder with a folder of images for each class",
}

OPTIONS = {
    "omniglot": (),
    "mini-imagenet": ("skip_bad", "filter"),
    "folder": ("size", "grey", "seed", "splits"),
}
"""For each data set the options that it alone reads."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    data = commands.add(
        "data",
        _data,
        "import a data set, once, into the form that runs read",
        stopped="stopped; nothing was imported. Give the same command again: it continues where it stopped",
    )
    data.add_argument(
        "dataset", choices=tuple(OPTIONS), help="folder: your own images, one folder for each class"
    )
    data.add_argument("place", nargs="?", type=source, metavar="DIR|ZIP|TAR|URL", help="the same as --from")
    data.last_two = ("dataset", "place")
    data.add_argument(
        "--from",
        dest="source",
        type=source,
        metavar="DIR|ZIP|TAR|URL",
        help="where the images are; an archive at a URL is downloaded and kept (omniglot: a TAR must have "
        "all drawings; default: the official address)",
    )
    data.add_argument(
        "--to",
        type=path,
        metavar="DIR",
        help="folder to import into (default: the user's cache folder); an earlier import of this data set "
        "there is replaced (a run that still reads a large one will fail)",
    )
    data.add_argument(
        "--skip-bad", action="store_true", help="only mini-imagenet: leave out images that cannot be decoded"
    )
    data.add_argument(
        "--filter",
        metavar="nearest|bilinear|bicubic|lanczos",
        help="only mini-imagenet: how to resize images that are not 84 x 84 (default: lanczos)",
    )
    data.add_argument("--size", type=positive, help="only folder: height and width in pixels (default: 84)")
    data.add_argument("--grey", action="store_true", help="only folder: one channel instead of three")
    data.add_argument(
        "--seed", type=natural, help="only folder: seed of the random split of the classes (default: 0)"
    )
    data.add_argument(
        "--splits",
        type=path,
        metavar="CSV",
        help="only folder: a list with lines class,split, in place of a random split",
    )
    data.add_argument("--quiet", action="store_true", help="show no progress")
    add_json(data)


def _data(args: argparse.Namespace) -> int:
    _refuse_what_is_not_read(args)
    if None not in (args.place, args.source):
        raise UsageError(f"data {args.dataset}: {args.place} and --from {args.source}; give one of them")
    args.source = args.place or args.source
    manifest = _import(args)
    if args.dataset == "omniglot":
        from reptile_np.tasks import omniglot

        images, parts, what, size = omniglot.load(manifest), {}, "characters", ""
    else:
        from reptile_np.tasks import image_cache

        images = image_cache.load(manifest, full=True)
        parts = {name: len(part) for name, part in images.splits()._asdict().items() if part is not None}
        how, what = images.manifest.conversion, "classes"
        size = f" of {how.height} x {how.width} (other sizes resized: {how.filter})"
    count = sum(images.count(c) for c in range(len(images)))
    if args.json:
        show_json({"file": str(manifest), "classes": len(images), "images": count, "splits": parts})
        return 0
    split = f" ({', '.join(f'{part} {name}' for name, part in parts.items())})" if parts else ""
    show(f"{len(images):,} {what}{split}, {count:,} images{size}, verified, in {manifest}")
    for name in ("train", "test"):
        if parts.get(name, WAYS) < WAYS:
            note(f"{name} classes: only {parts[name]}; the presets of {WAYS}-way tasks need {WAYS}")
    return 0


def _import(args: argparse.Namespace) -> Path:
    from reptile_np.experiments.progress import Reporter
    from reptile_np.tasks import folder, mini_imagenet, omniglot

    signals.raise_instead()  # to remove partial files
    report = Reporter(args.quiet)
    match args.dataset:
        case "omniglot":
            return omniglot.import_omniglot(args.source, args.to, report)
        case "mini-imagenet":
            return mini_imagenet.import_mini_imagenet(
                _needed_source(args),
                args.to,
                report,
                note=note,
                skip_bad=args.skip_bad,
                filter="lanczos" if args.filter is None else args.filter,
            )
        case _:
            return folder.import_folder(
                _needed_source(args),
                args.to,
                report,
                note=note,
                size=args.size or 84,
                grey=args.grey,
                seed=args.seed or 0,
                splits=args.splits,
            )


def _needed_source(args: argparse.Namespace) -> str:
    """Return the place of a data set that has no official address."""
    place: str | None = args.source
    if place is None:
        raise UsageError(f"data {args.dataset}: {MISSING[args.dataset]} (see: reptile-np data --help)")
    return place


def _refuse_what_is_not_read(args: argparse.Namespace) -> None:
    for dataset, names in OPTIONS.items():
        for name in names:
            value = getattr(args, name)
            if dataset != args.dataset and value is not None and value is not False:
                option = name.replace("_", "-")
                raise UsageError(f"data {args.dataset} --{option}: is for data {dataset}; leave it out")
    if None not in (args.seed, args.splits):
        raise UsageError(
            f"data {args.dataset} --seed and --splits: the split is read from the list; leave out --seed"
        )
