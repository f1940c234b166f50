"""A file is written whole or not at all, and a lock is held by one process only."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from reptile_np import files
from reptile_np.errors import UsageError
from reptile_np.files import cache_directory, expanded, locked, partial_files, remove_partial_files, replacing


def write(path, content=b"new"):
    with replacing(path) as file:
        file.write(content)


def test_the_file_appears_with_its_last_byte(tmp_path):
    path = tmp_path / "new" / "file"
    with replacing(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_what_is_not_a_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="Not a regular file"):
        write(tmp_path / "pipe")
    assert list(tmp_path.iterdir()) == [tmp_path / "pipe"]


@pytest.mark.parametrize("place", [".", "..", "/", "folder"])
def test_a_folder_is_not_replaced(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        write(Path(place))
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_a_link_stays_and_the_file_that_it_names_is_replaced(tmp_path):
    link, file = tmp_path / "link", tmp_path / "folder" / "file"
    link.symlink_to(file)
    for content in (b"one", b"two"):
        write(link, content)
        assert link.is_symlink()
        assert file.read_bytes() == content


def interrupted_write(path):
    with replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_the_home_of_a_user_that_there_is_not_is_refused(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/runs") == Path("/home/me/runs")
    with pytest.raises(
        UsageError, match=r"^~nobody-of-this-name/x: there is no such user, or no home folder"
    ):
        expanded("~nobody-of-this-name/x")


def test_an_interruption_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def failing(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(OSError, match="Input/output error"):
        write(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_is_synchronised_after_the_rename(tmp_path, monkeypatch):
    path, calls = tmp_path / "file", []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(descriptor):
        status = os.fstat(descriptor)
        calls.append("folder" if stat.S_ISDIR(status.st_mode) else f"file of {status.st_size} bytes")
        fsync(descriptor)

    def recording_replace(*args):
        calls.append("rename")
        replace(*args)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    write(path)
    assert calls == [
        f"file of {len(b'new')} bytes",
        "rename",
        "folder",
    ]  # all of it, not only what was flushed


@pytest.mark.parametrize(("code", "accepted"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_synchronise_folders_is_accepted(tmp_path, monkeypatch, code, accepted):
    fsync = os.fsync

    def no_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    if accepted:
        write(tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"new"
    else:
        with pytest.raises(OSError, match=os.strerror(code)):
            write(tmp_path / "file")


WRITER = """
import os, pathlib, sys
from reptile_np.files import replacing
with replacing(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill -9")
def test_what_a_killed_writer_leaves_can_be_found_and_removed(tmp_path):
    path, own = tmp_path / "file", tmp_path / ".file.notes.tmp"
    path.write_bytes(b"old")
    own.write_bytes(b"the user's")
    subprocess.run([sys.executable, "-c", WRITER, path])
    assert len(partial_files(tmp_path)) == len(partial_files(tmp_path, "fi*")) == 1
    remove_partial_files(tmp_path, "other")
    assert len(partial_files(tmp_path)) == 1
    remove_partial_files(tmp_path)
    assert set(tmp_path.iterdir()) == {path, own}
    assert (path.read_bytes(), own.read_bytes()) == (b"old", b"the user's")


HOLDER = """
import sys, pathlib
from reptile_np.files import locked
with locked(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_a_lock_is_held_by_one_process_until_that_is_killed(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(BlockingIOError), locked(path):
            pass
        other.kill()
        other.wait()
    with locked(path), pytest.raises(BlockingIOError), locked(path):
        pass
    with locked(path):
        pass


FORKING = """
import os, pathlib, signal, sys, time
from reptile_np.files import locked
path = pathlib.Path(sys.argv[1])
with locked(path):
    child = os.fork()
    if not child:
        time.sleep(600)
try:
    with locked(path):
        print("locked again")
finally:
    os.kill(child, signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_that_was_forked_meanwhile_does_not_keep_a_lock(tmp_path):
    program = [sys.executable, "-c", FORKING, tmp_path / "lock"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("locked again\n", "")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch, code):
    if files.fcntl is None:
        pytest.skip("flock")

    def flock(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    path = tmp_path / "lock"
    with locked(path), locked(path):
        pass


def test_an_error_of_the_disk_while_locking_is_not_hidden(tmp_path, monkeypatch):
    if files.fcntl is None:
        pytest.skip("flock")

    def flock(file, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path / "lock"):
        pass


def test_the_cache_is_where_xdg_says(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_directory() == Path("/somewhere/reptile_np")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_directory() == Path.home() / ".cache" / "reptile_np"


def test_without_any_home_folder_the_cache_is_asked_for_in_one_line(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(UsageError, match="XDG_CACHE_HOME"):
        cache_directory()


def test_an_empty_path_is_refused():
    with pytest.raises(UsageError, match=r'^a path is ""; give "\." for the working directory$'):
        expanded("")


def test_with_an_empty_home_there_is_no_cache_folder(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    with pytest.raises(UsageError, match="no home folder is known here; set XDG_CACHE_HOME"):
        cache_directory()
