"""How an import tells its caller what it does: progress, and notes of one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reptile_np.errors import printable, quoted

__all__ = ["NoteCallback", "ProgressCallback", "import_place", "no_notes", "no_progress"]

ProgressCallback = Callable[[str, int, int | None], None]
"""Called with the job's name, the amount done, and the total (None: not known)."""

NoteCallback = Callable[[str], None]
"""Called with one line about something left out or unusual; the import goes on."""


def no_progress(what: str, done: int, total: int | None) -> None:
    """Ignore a progress report."""


def no_notes(line: str) -> None:
    """Ignore a note."""


def import_place(source: str | Path | None) -> tuple[str, str]:
    """Return where an import was looked for, and the option of `data` that makes it there."""
    if source is None:
        return "on this machine", ""
    folder = Path(source).parent if str(source).endswith(".json") else source  # of a manifest
    return f"in {printable(source)}", f" --to {quoted([printable(folder)])}"
