"""From the arguments to a command, and from every error to one line and an exit code.

Verified by ``tests/test_cli.py`` and ``tests/cli/test_surroundings.py``.
"""

from __future__ import annotations

import argparse
import errno
from collections.abc import Sequence

from reptile_np import __version__
from reptile_np.cli import (
    checking,
    classify,
    data,
    drawing,
    listing,
    play,
    reproducing,
    signals,
    terminal,
    training,
)
from reptile_np.cli.arguments import Commands, Parser
from reptile_np.errors import UsageError, reason

__all__ = ["run"]


def run(argv: Sequence[str] | None) -> int:
    """Run one command; None: as a program, whose arguments are the process's."""
    args = argparse.Namespace(stopped=lambda args: "stopped; nothing had begun")

    def stopped() -> None:
        terminal.note(args.stopped(args))

    if argv is None:
        terminal.prepare()
        signals.end_at_once(stopped)
    try:
        try:
            _parser().parse_args(argv, args)
            code: int = args.command(args)
        except SystemExit:  # argparse has printed --help or --version
            code = 0
        terminal.flush()
        return code
    except UsageError as error:
        terminal.note(str(error), terminal.RED)
        return 2
    except BrokenPipeError:  # the reader of our output has gone: not an error
        return 0
    except (OSError, MemoryError) as error:
        terminal.note(_system_error(error), terminal.RED)
        return 2
    except KeyboardInterrupt:
        signals.ignore()
        stopped()
        return signals.EXIT_CODE
    finally:
        if argv is None:
            signals.ignore()  # everything is printed: only Python itself still has to end
            terminal.flush_errors()


def _parser() -> Parser:
    parser = Parser(
        prog=terminal.program_name(),
        description="Reptile, FOMAML and MAML in NumPy: train initialisations and evaluate them.",
        epilog="Options: reptile-np COMMAND --help.  A first run: reptile-np train glyphs-5way",
    )
    parser.add_argument("--version", action="version", version=f"reptile-np {__version__}")

    def help_(args: argparse.Namespace) -> int:
        terminal.show(parser.format_help().rstrip())
        return 0

    parser.set_defaults(command=help_)
    commands = Commands(parser)
    for group in (listing, training, reproducing, drawing, checking, data, classify, play):
        group.add_to(commands)
    return parser


def _system_error(error: OSError | MemoryError) -> str:
    """Return what the system refused: the file and the reason."""
    if isinstance(error, MemoryError):
        return f"not enough memory ({str(error) or 'the system gave no more'}); choose smaller sizes"
    if error.filename is not None:
        return f"{error.filename}: {reason(error)}"
    advice = {
        errno.ENOENT: "; the working directory may have been removed: cd into one that exists",
        errno.EMFILE: "; allow more open files: ulimit -n",
    }
    return f"{reason(error)}{advice.get(error.errno or 0, '')}"
