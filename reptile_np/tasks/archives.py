"""Read the files of a folder, a zip archive or a tar archive (plain, gzip, xz), within limits.

Nothing is unpacked to disk.  An archive is not trusted: a member with an absolute path or ``..`` in
its path, a link, a device, a member or a total beyond the limits is refused with the reason.

Verified by ``tests/tasks/test_archives.py`` and ``tests/tasks/test_hostile_archives.py``.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import tarfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from reptile_np.errors import UsageError, printable, reason
from reptile_np.tasks.reports import NoteCallback
from reptile_np.tasks.xz import Xz

__all__ = ["ARCHIVE_SUFFIXES", "PICKLE_SUFFIXES", "Limits", "read_file", "read_files", "refuse", "stem"]

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")
PICKLE_SUFFIXES = (".pkl", ".pickle")

_CHUNK = 1 << 20  # bytes
_DRIVE = re.compile(r"[A-Za-z]:")


class Limits(NamedTuple):
    """The largest source that is read; each limit is far above every real set of images."""

    file_bytes: int
    files: int
    total_bytes: int


class _Refused(Exception):
    """A member that no archive of images needs, or more than the limits allow."""


def refuse(line: str) -> NoReturn:
    """Raise `UsageError` with the line."""
    raise UsageError(line)


def stem(path: Path) -> str:
    """Return the name of a folder or archive without the suffix of an archive: "train" for train.tar.xz."""
    for suffix in ARCHIVE_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def read_files(
    path: Path, wanted: Callable[[str], bool], limits: Limits, problem: NoteCallback = refuse
) -> Iterator[tuple[str, bytes]]:
    """Yield the name, with ``/`` between folders, and the content of every wanted file.

    Parameters
    ----------
    path : Path
        A folder, or an archive; the first bytes of a file say which kind of archive, not its name.
    wanted : callable
        Called once with the name of every file; its content is read only if the result is true.
    limits : Limits
        Of one file, of the number of files (the unwanted ones included), of all bytes together.
    problem : callable
        Called with one line about a file of a *folder* that cannot be read (a device, a link to nothing,
        a file beyond the limit); if it returns, the file is skipped.

    Raises
    ------
    UsageError
        No such source, a kind that cannot be read, damage, a member that is refused.
    """
    try:
        if path.is_dir():
            yield from _in_folder(path, wanted, limits, problem)
        else:
            yield from _in_archive(path, wanted, limits)
    except (UsageError, MemoryError):
        raise
    except _Refused as error:
        raise UsageError(f"{printable(path)}: {error}") from error
    # Damaged archives make zipfile, tarfile and the decompressors raise nearly any exception.
    except Exception as error:
        unreadable = isinstance(error, OSError) and error.errno
        why = "cannot be read ({})" if unreadable else "damaged or cut short ({}); get a new copy"
        raise UsageError(f"{printable(path)}: {why.format(reason(error))}") from error


def _in_archive(path: Path, wanted: Callable[[str], bool], limits: Limits) -> Iterator[tuple[str, bytes]]:
    if not path.is_file():
        why = "not a file or folder" if path.exists() else "no such file or folder"
        raise UsageError(f"{printable(path)}: {why}; give a folder or an archive")
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        if start.startswith(b"PK"):
            yield from _in_zip(path, wanted, limits)
        elif start.startswith(b"\x1f\x8b"):
            with gzip.open(file) as unzipped:
                yield from _in_tar(unzipped, wanted, limits)
        elif start.startswith(b"\xfd7zXZ\x00"):
            yield from _in_tar(Xz(file), wanted, limits)
        elif start[257:262] == b"ustar":
            yield from _in_tar(file, wanted, limits)
        elif path.suffix.lower() in PICKLE_SUFFIXES or re.match(rb"\x80[\x02-\x05]", start):
            raise UsageError(
                f"{printable(path)}: a pickle, which can run any program when it is read; "
                "give the images as folders, zip or tar"
            )
        else:
            raise UsageError(
                f"{printable(path)}: not a whole zip or tar file (plain, gzip or xz); give one, or a folder"
            )


def _check_member(name: str, kind: int) -> None:
    """Refuse a member that no archive of images needs; `kind` is its file type (stat)."""
    if name.startswith(("/", "\\")) or _DRIVE.match(name) or ".." in re.split(r"[/\\]", name):
        raise _Refused(f"{printable(name)} is a path outside the archive; refused")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _Refused(
            f"{printable(name)} is a link, a device or a sparse file; refused: give the folder itself"
        )


class _Budget:
    """Counts files and bytes against the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._files, self._bytes = limits, 0, 0

    def add_file(self) -> None:
        self._files += 1
        if self._files > self._limits.files:
            raise _Refused(f"more than {self._limits.files:,} files; refused")

    def add_bytes(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self._limits.total_bytes:
            raise _Refused(f"more than {self._limits.total_bytes:,} bytes; refused")

    def check_size(self, name: str, size: int) -> None:
        if not 0 <= size <= self._limits.file_bytes:
            raise _Refused(
                f"{printable(name)} has {size:,} bytes, the limit is {self._limits.file_bytes:,}; refused"
            )


def _in_zip(path: Path, wanted: Callable[[str], bool], limits: Limits) -> Iterator[tuple[str, bytes]]:
    budget = _Budget(limits)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = _zip_name(info)
            budget.add_file()
            _check_member(name, stat.S_IFMT(info.external_attr >> 16))
            if info.is_dir() or not wanted(name):
                continue
            budget.check_size(name, info.file_size)
            budget.add_bytes(info.file_size)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile decompresses the others without a bound on memory.
                raise _Refused(f"{printable(name)} is not deflated; zip it again with deflate")
            with archive.open(info) as member:  # ZipFile.read would decompress more than file_size
                yield name, member.read(info.file_size + 1)  # checks the CRC


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member: UTF-8 if it can be, also where the archive does not say that it is.

    Info-ZIP on Unix writes UTF-8 and does not say so; zipfile then reads the bytes as code page 437.
    Some programs of Windows write backslashes between folders.
    """
    name = info.filename
    if not info.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name if "/" in name else name.replace("\\", "/")


def _in_tar(file: Any, wanted: Callable[[str], bool], limits: Limits) -> Iterator[tuple[str, bytes]]:
    budget = _Budget(limits)
    stream = _Stream(file, budget)
    with tarfile.TarFile(fileobj=stream) as archive:  # type: ignore[arg-type]  # reads, seeks, tells
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # TarFile would keep every header
            stream.header = 0
            budget.add_file()
            regular = (info.isreg() and not info.issparse()) or info.isdir()
            _check_member(info.name, 0 if regular else stat.S_IFLNK)
            if info.isdir() or not wanted(info.name):
                continue
            budget.check_size(info.name, info.size)
            stream.seek(info.offset_data)
            content = stream.take(info.size)
            if len(content) < info.size:
                raise EOFError("ends within a file")
            yield info.name, content
        if stream.last_read != bytes(512):  # `next` also stops at a header that is damaged or cut
            raise EOFError("no end mark after the last file that can be read")
    stream.seek(1 << 62)  # to the end, where gzip keeps its checksum


class _Stream:
    """Decompressed bytes, read forwards only; every byte is counted against the limits."""

    def __init__(self, file: Any, budget: _Budget) -> None:
        self._file, self._budget, self._at, self.header = file, budget, 0, 0
        self.last_read = b""

    def tell(self) -> int:
        return self._at

    def seek(self, to: int) -> int:
        if to < self._at:
            raise EOFError("a header points backwards")
        while self._at < to and self.take(min(_CHUNK, to - self._at)):
            pass
        return self._at

    def read(self, size: int) -> bytes:
        self.header = self.header + size if size >= 0 else size  # a long header may be read in pieces
        self._budget.check_size("a header", self.header)
        self.last_read = self.take(size)
        return self.last_read

    def take(self, size: int) -> bytes:
        parts, missing = [], size
        while missing and (part := self._file.read(missing)):
            parts.append(part)
            missing -= len(part)
            self._at += len(part)
            self._budget.add_bytes(len(part))
        return b"".join(parts)


def _in_folder(
    folder: Path, wanted: Callable[[str], bool], limits: Limits, problem: NoteCallback
) -> Iterator[tuple[str, bytes]]:
    budget = _Budget(limits)
    for path in _walk(folder, problem):
        name = path.relative_to(folder).as_posix()
        budget.add_file()
        if not wanted(name):
            continue
        try:
            content = read_file(path, limits.file_bytes)
        except UsageError as error:
            problem(str(error))
            continue
        budget.add_bytes(len(content))
        yield name, content


def read_file(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; a `UsageError` if it is not one."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # opening a FIFO would wait for ever, a device may never end
            kind = "a folder" if stat.S_ISDIR(about.st_mode) else "not a regular file"
            raise UsageError(f"{printable(path)}: {kind}; give a file")
        if about.st_size > limit:
            raise UsageError(f"{printable(path)}: {about.st_size:,} bytes, the limit is {limit:,}")
        with path.open("rb") as file:
            return file.read(about.st_size)
    except OSError as error:
        raise UsageError(f"{printable(path)}: cannot be read ({reason(error)})") from error


def _walk(folder: Path, problem: NoteCallback) -> Iterator[Path]:
    """Yield every file below `folder`, through links, but through no folder twice.

    Each folder is sorted.  Links to folders are followed at the end: a folder is read under its own name.
    """
    seen, stack, links = set(), [folder], deque[Path]()
    while stack or links:
        path = stack.pop() if stack else links.popleft()
        try:
            if not path.is_dir():
                yield path
                continue
            about = path.stat()
            if (about.st_dev, about.st_ino) in seen:
                problem(f"{printable(path)}: a link to a folder that was already read; skipped")
                continue
            seen.add((about.st_dev, about.st_ino))
            for entry in sorted(map(Path, os.scandir(path)), reverse=True):
                (links if entry.is_symlink() and entry.is_dir() else stack).append(entry)
        except OSError as error:
            problem(f"{printable(path)}: {reason(error)}")
