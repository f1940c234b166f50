"""The command `figure`: draw a figure from the runs that it needs.

Verified by ``tests/experiments/test_figures.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reptile_np.cli import signals
from reptile_np.cli.arguments import OPS, Commands, add_json, one_blas_thread, path
from reptile_np.cli.terminal import show, show_json
from reptile_np.errors import UsageError

__all__ = ["NAMES", "SUFFIXES", "add_to"]

NAMES = ("1", "2", "3", "curve", "same-k", "same-k-omniglot")
SUFFIXES = (".csv", ".png", ".svg")
NOT_WRITTEN = (".pdf", ".jpg", ".jpeg", ".eps", ".ps", ".tif", ".tiff", ".webp", ".gif")


def add_to(commands: Commands) -> None:
    """Add the command."""
    figure = commands.add(
        "figure",
        _figure,
        "draw a figure, of the paper or another: PNG, SVG, CSV",
        stopped="stopped; the figure was not drawn",
    )
    figure.add_argument(
        "name",
        choices=NAMES,
        help="1, 2, 3: of the paper; curve: accuracy after each inner step; same-k…: methods at the same "
        "number k of inner steps",
    )
    figure.add_argument(
        "--runs",
        type=path,
        metavar="DIR",
        help="folder of the runs (default: runs; figure 1: none, it trains its networks; figure 2: none)",
    )
    figure.add_argument(
        "--out",
        type=path,
        metavar="FILE",
        help="files to write, without an extension (default: ./figure-NAME)",
    )
    figure.add_argument("--ops", default="auto", help=OPS)
    figure.add_argument("--quiet", action="store_true", help="show no progress")
    add_json(figure)


def _figure(args: argparse.Namespace) -> int:
    one_blas_thread()
    from reptile_np.experiments.backend import choose_ops
    from reptile_np.experiments.figures import sources, style

    if args.name == "2" and args.runs is not None:
        raise UsageError("figure 2 --runs: is for the other figures; leave it out")
    style.check_installed()
    signals.raise_instead()  # to remove partial files
    out = args.out or Path(f"figure-{args.name}")
    if out.name in ("", "..") or out.is_dir():
        raise UsageError(f"--out {out}: is a folder; give the name of a file in it, without an extension")
    if out.suffix in SUFFIXES:
        out = out.with_suffix("")
    elif out.suffix.lower() in NOT_WRITTEN:
        raise UsageError(f"--out {out}: a figure is written as {', '.join(SUFFIXES)}; leave out {out.suffix}")
    module = sources.FIGURES[args.name]
    table = sources.table(args.name, args.runs, choose_ops(args.ops, 1), args.quiet)
    files = [str(file) for file in style.save(table, module.draw, out, module.SIZE)]
    if args.json:
        show_json({"files": files})
    else:
        for file in files:
            show(file)
    return 0
