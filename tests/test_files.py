"""A file is written whole or not at all, and held by one process only."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from reptile_np.errors import UsageError
from reptile_np.files import cache_directory, held, replacing


def test_the_file_appears_with_its_last_byte(tmp_path):
    path = tmp_path / "new" / "file"
    with replacing(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def interrupted_write(path):
    with replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_an_interruption_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


HOLDER = """
import sys, pathlib
from reptile_np.files import held
with held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock: nobody is kept out there")
def test_a_file_is_held_by_one_process_until_that_is_killed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError), held(path):
            pass
        other.kill()
        other.wait()
    with held(path), pytest.raises(BlockingIOError), held(path):
        pass
    with held(path):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with held(path), held(path):
        pass


def test_the_cache_is_where_xdg_says(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_directory() == Path("/somewhere/reptile_np")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_directory() == Path.home() / ".cache" / "reptile_np"


def test_without_a_home_folder_there_is_one_line(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(UsageError, match="XDG_CACHE_HOME"):
        cache_directory()
