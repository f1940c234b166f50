"""What is printed: to streams that may be closed, full or not UTF-8, in colour if the terminal has it.

Verified by ``tests/cli/test_surroundings.py``.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from reptile_np.errors import UsageError, printable, quoted, reason

__all__ = [
    "BOLD",
    "GREEN",
    "IN_ASCII",
    "RED",
    "WIDTH",
    "command_line",
    "flush",
    "flush_errors",
    "note",
    "paint",
    "prepare",
    "program_name",
    "show",
    "show_json",
]

BOLD, RED, GREEN = "1", "31", "32"
WIDTH = 80
"""Columns to which `list`, `show`, curves and long help texts are wrapped, and status lines are cut."""

IN_ASCII = {
    "±": "+/-", "→": "->", "←": "<-", "↦": "|->", "×": "x", "·": "*", "⊙": ".", "∗": "*", "∘": "o",
    "≈": "~", "≤": "<=", "≥": ">=", "−": "-", "–": "-", "√": "sqrt", "∂": "d", "∇": "grad", "½": "1/2",
}  # fmt: skip


def prepare() -> None:
    """Make the standard streams ready for a program.

    A closed stream becomes /dev/null: else the next file that is opened would take its number.  A stream
    that is not UTF-8 shows ASCII for the characters that it does not have.
    """
    if os.name == "nt":
        os.system("")  # lets the console window understand escape sequences
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    codecs.register_error("reptile_np", _replace_by_ascii)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="reptile_np")


def _replace_by_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII for the characters that an encoding does not have: "+/-" for "±", "phi" for "φ"."""
    assert isinstance(error, UnicodeEncodeError)
    text = "".join(map(_in_ascii, error.object[error.start : error.end]))
    return re.sub(r"(?<=\^.)\^", "", text), error.end  # one caret before several superscripts


def _in_ascii(character: str) -> str:
    if character in IN_ASCII:
        return IN_ASCII[character]
    name = unicodedata.name(character, "").split()
    if name[:1] == ["GREEK"]:
        return name[-1].title() if "CAPITAL" in name else name[-1].lower()
    if unicodedata.combining(character):
        return ""
    caret = "^" if unicodedata.decomposition(character).startswith("<super>") else ""
    plain = unicodedata.normalize("NFKD", character).replace("\N{MINUS SIGN}", "-")
    return caret + (plain.encode("ascii", "ignore").decode() or "?")


def show(text: str = "") -> None:
    """Print to standard output.

    Raises
    ------
    UsageError
        If it cannot be written, as on a full disk.
    BrokenPipeError
        If its reader has gone, which is no mistake: ``reptile-np list | head``.
    """
    with _writing():
        print(text)


def show_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object in one line."""
    show(json.dumps(values))


def flush() -> None:
    """Write what standard output still holds; raises as `show` does."""
    with _writing():
        sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _drop(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"standard output cannot be written ({reason(error)})") from None


def flush_errors() -> None:
    """Write what standard error still holds, or drop it: it must not change the exit code."""
    try:
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)


def _drop(stream: IO[str]) -> None:
    """Redirect the stream to /dev/null: Python flushes it again at exit, and that flush must not fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def note(message: str, colour: str = BOLD) -> None:
    """Print one line to standard error; a standard error that cannot be written is no reason to stop."""
    line = f"{paint('reptile-np:', colour, sys.stderr)} {printable(message)}\n"
    with suppress(OSError):
        try:
            sys.stderr.write(line)
            sys.stderr.flush()
        except RuntimeError:  # called by a signal that came while standard error was being written
            os.write(2, line.encode())


def paint(text: str, colour: str, stream: IO[str] | None = None) -> str:
    """Return `text` in a colour if `stream` (default: standard output) is a terminal that shows colours."""
    stream = stream or sys.stdout
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{colour}m{text}\x1b[0m" if wanted and stream.isatty() else text


def command_line(words: Sequence[str]) -> str:
    """Return the program with these words, quoted."""
    return f"{program_name()} {quoted(words)}"


def program_name() -> str:
    """Return how this program was started: "reptile-np" or "python -m reptile_np"."""
    return "python -m reptile_np" if os.path.basename(sys.argv[0]) == "__main__.py" else "reptile-np"
