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

OPTIONS = {"omniglot": (), "mini-imagenet": ("skip_bad",), "folder": ("size", "grey", "seed", "splits")}
"""For each data set the options that it alone reads."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    data = commands.add(
        "data",
        _data,
        "import a data set, once",
        stopped="stopped; nothing was imported: give the same command again, "
        "and a download that had begun goes on where it was",
    )
    data.add_argument("dataset", choices=tuple(OPTIONS))
    data.add_argument("place", nargs="?", type=source, metavar="DIR|ZIP|TAR|URL", help="the same as --from")
    data.add_argument(
        "--from",
        dest="source",
        type=source,
        metavar="DIR|ZIP|TAR|URL",
        help="omniglot: default the official address, no TAR; the others need a DIR, ZIP or TAR",
    )
    data.add_argument(
        "--to", type=path, metavar="DIR", help="default: the user's cache folder; for folder to be given"
    )
    data.add_argument(
        "--skip-bad", action="store_true", help="mini-imagenet: leave out images that cannot be decoded"
    )
    data.add_argument("--size", type=positive, help="folder: height and width in pixels (default: 84)")
    data.add_argument("--grey", action="store_true", help="folder: one channel instead of three")
    data.add_argument("--seed", type=natural, help="folder: draws the split by classes (default: 0)")
    data.add_argument("--splits", type=path, metavar="CSV", help="folder: columns class, split, not drawn")
    add_json(data)


def _data(args: argparse.Namespace) -> int:
    _refuse_options_of_others(args)
    if None not in (args.place, args.source):
        raise UsageError(f"data {args.dataset}: {args.place} and --from {args.source}; give one of them")
    args.source = args.place or args.source
    manifest = _import(args)
    if args.dataset == "omniglot":
        from reptile_np.tasks import omniglot

        images, parts = omniglot.load(manifest), {}
    else:
        from reptile_np.tasks import image_cache

        images = image_cache.load(manifest)
        parts = {name: len(part) for name, part in images.splits()._asdict().items() if part is not None}
    count = sum(images.count(c) for c in range(len(images)))
    if args.json:
        show_json({"file": str(manifest), "classes": len(images), "images": count, "splits": parts})
        return 0
    what = "characters" if args.dataset == "omniglot" else "classes"
    split = f" ({', '.join(f'{part} {name}' for name, part in parts.items())})" if parts else ""
    show(f"{len(images):,} {what}{split}, {count:,} images, verified, in {manifest}")
    return 0


def _import(args: argparse.Namespace) -> Path:
    from reptile_np.experiments.progress import Reporter
    from reptile_np.tasks import folder, mini_imagenet, omniglot

    signals.raise_instead()  # to remove partial files
    match args.dataset:
        case "omniglot":
            return omniglot.import_omniglot(args.source, args.to, Reporter())
        case "mini-imagenet":
            source = _needed(args, "source", "--from")
            return mini_imagenet.import_mini_imagenet(
                source, args.to, Reporter(), note=note, skip_bad=args.skip_bad
            )
        case _:
            return folder.import_folder(
                _needed(args, "source", "--from"),
                _needed(args, "to", "--to"),
                Reporter(),
                note=note,
                size=args.size or 84,
                grey=args.grey,
                seed=args.seed or 0,
                splits=args.splits,
            )


def _needed(args: argparse.Namespace, name: str, option: str) -> str | Path:
    """Return the value of an option that this data set cannot do without."""
    value: str | Path | None = getattr(args, name)
    if value is None:
        raise UsageError(f"data {args.dataset}: {option} is missing (see: reptile-np data --help)")
    if str(value).startswith(("http://", "https://")):
        raise UsageError(f"data {args.dataset} {option} {value}: give a folder or an archive on this machine")
    return value


def _refuse_options_of_others(args: argparse.Namespace) -> None:
    for dataset, names in OPTIONS.items():
        for name in names:
            value = getattr(args, name)
            if dataset != args.dataset and value is not None and value is not False:
                option = name.replace("_", "-")
                raise UsageError(f"data {args.dataset} --{option}: is for data {dataset}; leave it out")
