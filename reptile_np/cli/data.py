"""The command `data`: import a data set, once."""

from __future__ import annotations

import argparse

from reptile_np.cli import signals
from reptile_np.cli.arguments import Commands, add_json, path, source
from reptile_np.cli.terminal import show, show_json


def add_to(commands: Commands) -> None:
    """Add the command."""
    data = commands.add(
        "data",
        _data,
        "import a data set, once",
        stopped="stopped; nothing was imported: give the same command again, "
        "and a download that had begun goes on where it was",
    )
    data.add_argument("dataset", choices=("omniglot",))
    data.add_argument(
        "--from", dest="source", type=source, metavar="DIR|ZIP|URL", help="default: the official address"
    )
    data.add_argument("--to", type=path, metavar="DIR", help="default: the user's cache folder")
    add_json(data)


def _data(args: argparse.Namespace) -> int:
    from reptile_np.experiments.progress import Reporter
    from reptile_np.tasks import omniglot

    signals.raise_instead()  # to remove partial files
    file = omniglot.import_omniglot(args.source, args.to, Reporter())
    images = omniglot.load(file)
    drawings = sum(images.count(c) for c in range(len(images)))
    if args.json:
        show_json({"file": str(file), "classes": len(images), "images": drawings})
    else:
        show(f"{len(images):,} characters, {drawings:,} drawings, verified, in {file}")
    return 0
