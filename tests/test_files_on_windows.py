"""What files do on Windows, as far as it can be told elsewhere, where the system's functions are replaced."""

import errno
import os

import pytest

from reptile_np import files
from reptile_np.files import locked, rename, replacing


class Msvcrt:
    """Windows' locks: one holder for each file, EACCES for everyone else."""

    LK_NBLCK = 2

    def __init__(self, code=errno.EACCES):
        self.code, self.held = code, {}

    def locking(self, descriptor, mode, count):
        assert (mode, count) == (self.LK_NBLCK, 1)
        file = os.fstat(descriptor).st_ino
        holder = self.held.get(file)
        if holder not in (None, descriptor) and os.path.exists(f"/proc/self/fd/{holder}"):
            raise OSError(self.code, os.strerror(self.code))
        self.held[file] = descriptor


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="stands in for Windows on Linux")
@pytest.mark.parametrize("code", [errno.EACCES, errno.EDEADLK])
def test_on_windows_the_first_byte_is_locked_and_folders_are_not_synchronised(tmp_path, monkeypatch, code):
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "msvcrt", Msvcrt(code))
    path = tmp_path / "lock"
    with locked(path), pytest.raises(BlockingIOError), locked(path):
        pass
    with locked(path), replacing(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.fixture
def scanned(monkeypatch):
    """The first two renames fail, as while a virus scanner has the file open; returns the calls."""
    calls, real = [], os.replace

    def replace(old, new):
        calls.append((old, new))
        if len(calls) < 3:
            raise PermissionError(errno.EACCES, "Access is denied", str(new))
        real(old, new)

    monkeypatch.setattr(os, "replace", replace)
    return calls


def test_a_file_that_another_program_has_open_is_renamed_when_that_one_has_closed_it(
    tmp_path, monkeypatch, scanned
):
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "_synchronise_folder", lambda folder: None)
    with replacing(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert len(scanned) == 3


def test_a_file_that_stays_open_is_not_waited_for_for_ever(tmp_path, monkeypatch, scanned):
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "BUSY_SECONDS", 0.0)
    with pytest.raises(PermissionError, match="Access is denied"):
        rename(tmp_path / "old", tmp_path / "new")


def test_elsewhere_a_rename_that_is_not_permitted_is_not_tried_again(tmp_path, scanned):
    if files.fcntl is None:
        pytest.skip("this is Windows")
    with pytest.raises(PermissionError, match="Access is denied"):
        rename(tmp_path / "old", tmp_path / "new")
    assert len(scanned) == 1
