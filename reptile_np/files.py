"""Files that are written whole or not at all, files that one process holds at a time, and the cache folder.

Verified by ``tests/test_files.py`` and ``test_files_on_windows.py``.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from reptile_np.errors import UsageError, printable

__all__ = [
    "NO_LOCKS",
    "append_line",
    "cache_directory",
    "expanded",
    "fcntl",
    "locked",
    "msvcrt",
    "partial_files",
    "remove_partial_files",
    "rename",
    "replacing",
    "synchronise",
]

fcntl: Any
msvcrt: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:  # everywhere else
    msvcrt = None

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
"""Errors of a file system that has no locks, or cannot synchronise a folder."""
BUSY_SECONDS = 3.0
"""For how long `rename` tries again on Windows."""


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
        if os.environ.get("HOME") == "":
            raise RuntimeError
        return Path.home() / ".cache" / "reptile_np"
    except RuntimeError:
        raise UsageError("no home folder is known here; set XDG_CACHE_HOME to a folder for data") from None


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with ~ and ~user replaced.

    Raises
    ------
    UsageError
        If the path is "", there is no such user, or no home folder is known.
    """
    if path == "":
        raise UsageError('a path is ""; give "." for the working directory')
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{printable(path)}: there is no such user, or no home folder; give the whole path"
        ) from None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` once it is whole and on disk.

    A kill or an exception before that does not change `path`.  If `path` is a link, it stays, and the file
    that it names is replaced.  After the rename the folder is synchronised too, so that a power cut cannot
    bring the old file back.

    Raises
    ------
    OSError
        If the file cannot be written; `path` is then unchanged.  Also if the folder cannot be synchronised;
        `path` is then the new file.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():  # also ".", "/" and "", which have no name
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "Not a regular file", str(path))  # a device would be replaced
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename(partial, path)
        _synchronise_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def rename(old: Path, new: Path) -> None:
    """Rename a file, in place of `new` if there is one; raises OSError if it cannot.

    Windows refuses that while another program has one of them open, such as a virus scanner or a reader of
    checkpoints: there it is tried again for `BUSY_SECONDS`.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            os.replace(old, new)
            return
        except PermissionError:
            if fcntl is not None or time.monotonic() > deadline:  # not Windows
                raise
        time.sleep(0.02)


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file, after ending a line that was cut short; raises OSError if it cannot."""
    line += b"\n"
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)


def synchronise(path: Path) -> None:
    """Write a file to disk, if there is one; raises OSError if it cannot be written."""
    if path.is_file():
        with path.open("ab") as file:
            os.fsync(file.fileno())


def remove_partial_files(folder: Path, names: str = "*") -> None:
    """Remove what `partial_files` returns: left by a killed `replacing`.  No process may be writing them.

    Raises
    ------
    OSError
        If one of these files cannot be removed.
    """
    for partial in partial_files(folder, names):
        partial.unlink(missing_ok=True)


def partial_files(folder: Path, names: str = "*") -> list[Path]:
    """Return the unfinished files of `replacing` in a folder, for files whose names match a pattern."""
    found = folder.glob(f".{names}.*.tmp")
    return [path for path in found if path.name.split(".")[-2].isdecimal()]  # the number of a process


def _synchronise_folder(folder: Path) -> None:
    """Write a folder's entries to disk; on Windows this is neither possible nor needed."""
    if fcntl is None:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which is created if it is missing and is never removed.

    One process holds it at a time.  The operating system frees the lock when that process ends, however it
    ends: with ``flock``, or on Windows with ``msvcrt.locking`` of the first byte.  On a file system without
    locks no process is kept out.  The file has no content and nothing else may use it: a program that
    rewrites a locked file puts a new, unlocked one in its place.

    Raises
    ------
    BlockingIOError
        If another process, or another part of this one, holds the lock.
    OSError
        If the file cannot be created.
    """
    descriptor, owner = os.open(path, os.O_RDWR | os.O_CREAT, 0o666), os.getpid()
    try:
        _lock(descriptor)
        yield
    finally:
        if fcntl is not None and os.getpid() == owner:  # a process that was forked meanwhile has it open too
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)  # frees the lock


def _lock(descriptor: int) -> None:
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    elif msvcrt is not None:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EDEADLK):
                raise BlockingIOError(error.errno, "the file is locked") from None
            if error.errno not in NO_LOCKS:
                raise
