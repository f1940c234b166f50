"""How an import tells its caller what it does: progress, and notes of one line."""

from __future__ import annotations

from collections.abc import Callable

from reptile_np.errors import printable

__all__ = ["NoteCallback", "ProgressCallback", "no_notes", "no_progress", "reason"]

ProgressCallback = Callable[[str, int, int | None], None]
"""Called with the job's name, the amount done, and the total (None: not known)."""

NoteCallback = Callable[[str], None]
"""Called with one line about something left out or unusual; the import goes on."""


def no_progress(what: str, done: int, total: int | None) -> None:
    """Ignore a progress report."""


def no_notes(line: str) -> None:
    """Ignore a note."""


def reason(error: BaseException) -> str:
    """Return in one line why an operation failed: the system's words, else the error's, else its type.

    Verified by ``tests/tasks/test_reports.py``.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else error
    return printable(" ".join(str(text).split())) or type(error).__name__
