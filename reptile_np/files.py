"""Where data is kept between runs, how a file is written whole or not at all, and by one process only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from reptile_np.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def cache_directory() -> Path:
    """Return the user's cache folder for this program: $XDG_CACHE_HOME or ~/.cache.

    Raises
    ------
    UsageError
        If neither the environment nor the system names a home folder.
    """
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "reptile_np"
    try:
        return Path.home() / ".cache" / "reptile_np"
    except RuntimeError:
        raise UsageError("no home folder is known here; set XDG_CACHE_HOME to a folder for data") from None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` only once it is whole and on disk.

    A kill or an exception in between leaves `path` as it was.  Verified by
    ``tests/test_files.py``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold an existing file, as only one process can; the system lets go when that ends, however it ends.

    Nobody is kept out on Windows, or on a file system without locks.  Verified by
    ``tests/test_files.py``.

    Raises
    ------
    BlockingIOError
        If another process, or another part of this one, holds it.
    """
    with path.open("rb") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:  # no locks here
                pass
        yield
