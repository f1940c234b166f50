"""The command `play`: a page in the browser to draw on.

Verified by ``tests/play/test_server.py``.
"""

from __future__ import annotations

import argparse
import threading
import webbrowser

from reptile_np.cli import signals
from reptile_np.cli.arguments import Commands, natural, one_blas_thread
from reptile_np.cli.terminal import flush, show

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command."""
    play = commands.add(
        "play",
        _play,
        "draw characters in the browser and watch networks learn them",
        stopped="the page is closed",
    )
    play.add_argument(
        "--port", type=natural, default=0, help="port of the page on this machine (default: any free port)"
    )
    play.add_argument("--no-browser", action="store_true", help="only print the page's address")


def _play(args: argparse.Namespace) -> int:
    one_blas_thread()
    from reptile_np.play.answers import handlers
    from reptile_np.play.server import Server

    with Server(handlers(), args.port) as server:
        show(f"{server.url} (only this machine can open it; Ctrl-C closes it)")
        flush()
        if not args.no_browser:
            # a text browser or $BROWSER keeps `open` waiting until it is closed, and it needs the server
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        signals.raise_instead()
        server.serve_forever()
    return 0
