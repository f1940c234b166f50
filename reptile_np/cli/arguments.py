"""Options that several commands share, the types of their values, and the files that they name.

Verified by ``tests/test_cli.py``.
"""

from __future__ import annotations

import argparse
import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from reptile_np.cli.terminal import show
from reptile_np.errors import UsageError, reason
from reptile_np.files import expanded, replacing
from reptile_np.machine import BLAS_THREADS

__all__ = [
    "OPS",
    "Command",
    "Commands",
    "Parser",
    "add_computing",
    "add_json",
    "as_words",
    "file_to_write",
    "json_file",
    "natural",
    "not_empty",
    "one_blas_thread",
    "path",
    "positive",
    "seconds",
    "source",
    "write_shown",
]

Command = Callable[[argparse.Namespace], int]
OPS = (
    "kernels: auto (REPTILE_NP_OPS, or the best ones here), numpy, native, or one that reptile-np list "
    "prints (default: auto)"
)
"""The help text of --ops."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line; `more` returns the end of the help, when it is printed.

    `last_two` names a positional argument and an optional one after it; options may stand between them.
    """

    more: Callable[[], str] | None = None
    last_two: tuple[str, str] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse arguments; argparse, until Python 3.13.0, takes the second of `last_two` as left out."""
        values, rest = super().parse_known_args(args, namespace)
        if rest and self.last_two:
            first, second = (getattr(values, name) for name in self.last_two)
            if second is None:
                return super().parse_known_args([first, *rest], values)
        return values, rest

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; an unknown one is an error of the command that it was given to."""
        values, rest = self.parse_known_args(args, namespace)
        if rest:
            setting = any("=" in word and not word.startswith("-") for word in rest)
            hint = "; give each setting a --set of its own" if setting and hasattr(values, "set") else ""
            getattr(values, "parser", self).error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return values

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError`, whose line the program prints."""
        raise UsageError(f"{message} (see: {self.prog} --help)")

    def _print_message(self, message: str, file: object = None) -> None:
        """Print help or version; argparse's own method ignores write errors."""
        show(message.rstrip("\n"))

    def format_help(self) -> str:
        """Return the help, with its end."""
        return super().format_help() + (f"\n{self.more()}\n" if self.more else "")


class Commands:
    """The commands of a parser."""

    def __init__(self, parser: Parser) -> None:
        self._parsers = parser.add_subparsers(metavar="COMMAND", parser_class=Parser)

    def add(
        self, name: str, command: Command, about: str, stopped: str | Callable[[argparse.Namespace], str]
    ) -> Parser:
        """Add a command; `stopped`, or what it returns, is the line that is printed after Ctrl-C."""
        parser = self._parsers.add_parser(name, help=about, description=about)
        line = stopped if callable(stopped) else lambda args: stopped
        parser.set_defaults(command=command, stopped=line, parser=parser)
        return parser


def add_json(parser: Parser) -> None:
    """Add --json for a command that prints one object."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")


def add_computing(parser: Parser, threads: str) -> None:
    """Add the options of kernels, threads, data and progress; `threads` is the help text of --threads."""
    parser.add_argument("--ops", default="auto", help=OPS)
    parser.add_argument(
        "--threads", type=positive, help=f"{threads} (default: REPTILE_NP_THREADS, or the available cores)"
    )
    parser.add_argument(
        "--data",
        type=path,
        metavar="DIR",
        help="folder of the imported images (default: the run's, else the cache folder)",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """Return a whole number of at least 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text}: must be an integer of at least {least}")
    return value


def seconds(text: str) -> float:
    """Return a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be a positive number of seconds")
    return value


def not_empty(text: str) -> str:
    """Return the text; an empty one is probably a mistake."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; is a shell variable not set?")
    return text


def path(text: str) -> Path:
    """Return a path with ~ expanded, which a shell does not do in ``--out=~/runs``."""
    try:
        return expanded(not_empty(text))
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def source(text: str) -> str:
    """Return an address as it is, a path with ~ replaced."""
    return text if "://" in text else str(path(text))


def json_file(text: str) -> str:
    """Return "-" or the name of a file that can be written."""
    return text if text == "-" else str(file_to_write(text, ", or - for standard output alone"))


def file_to_write(text: str, instead: str = "") -> Path:
    """Return a file that can be written, so that a long computation is not lost.

    `instead` is added to the error message if the path is not a file: what else may be given.
    """
    file = Path(os.path.realpath(path(text)))  # a link stays, and the file that it names is written
    if file.exists() and not file.is_file():
        raise argparse.ArgumentTypeError(f"{text}: is not a regular file; give the name of one{instead}")
    try:
        if file.exists() and not os.access(file, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with tempfile.TemporaryFile(dir=file.parent):  # `replacing` will make a new file there
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: cannot be written ({reason(error)})") from None
    return file


def write_shown(option: str, file: Path, text: str) -> None:
    """Write to the file of an option what standard output has shown.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    try:
        with replacing(file) as whole:
            whole.write(text.encode())
    except OSError as error:
        why = f"cannot be written ({reason(error)})"
        raise UsageError(f"{option} {file}: {why}; the result is on standard output") from None


def as_words(option: str, value: object) -> list[str]:
    """Return an option and its value as words of a command; a value that starts with a dash needs a "="."""
    text = str(value)
    return [f"{option}={text}"] if text.startswith("-") else [option, text]


def one_blas_thread() -> None:
    """Keep BLAS to one thread, unless OMP_NUM_THREADS or its own variable is set.

    It is to be called before NumPy is imported.

    The matrix products here are too small to be shared.  On an idle machine a second thread gains little
    (0.85 to 1.22 x: ``benchmarks/speed.md``); on a busy one the threads wait for each other (glyphs-5way on
    two busy cores, measured once: 114 s with two threads, 35 s with one).
    """
    if "OMP_NUM_THREADS" not in os.environ:
        for name in BLAS_THREADS:
            os.environ.setdefault(name, "1")
