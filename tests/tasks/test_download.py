"""A download is whole, resumed or restarted; never half a file under the final name."""

import os
import socket
import threading

import pytest
from http_server import Behaviour, serving

from reptile_np.errors import UsageError
from reptile_np.tasks import download
from reptile_np.tasks.download import fetch

BODY = bytes(range(256)) * 1000


def accept(path):
    pass


def refuse(path):
    raise UsageError("not what was wanted")


def server(**kwargs):
    return Behaviour({"/file": BODY}, **kwargs)


@pytest.mark.parametrize("announce_length", [True, False])
def test_a_download_is_the_file(tmp_path, announce_length):
    with serving(server(announce_length=announce_length)) as address:
        fetch(address + "file", tmp_path / "file", accept)
    assert (tmp_path / "file").read_bytes() == BODY
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_progress_ends_at_the_size_of_the_file(tmp_path):
    seen = []
    with serving(server()) as address:
        fetch(address + "file", tmp_path / "file", accept, lambda *now: seen.append(now))
    done = [d for _, d, _ in seen]
    assert done == sorted(done)
    assert seen[-1] == ("file", len(BODY), len(BODY))


@pytest.mark.parametrize("cut", [0, 1, 1000, len(BODY) - 1])
def test_a_cut_connection_leaves_a_part_that_the_next_call_continues(tmp_path, cut):
    behaviour = server(cut_after=cut)
    with serving(behaviour) as address:
        with pytest.raises(UsageError, match=f"cut after {cut:,} of {len(BODY):,} bytes"):
            fetch(address + "file", tmp_path / "file", accept)
        assert [p.name for p in tmp_path.iterdir()] == ["file.part"]
        behaviour.cut_after = None
        fetch(address + "file", tmp_path / "file", accept)
    assert behaviour.requests[1] == ("/file", f"bytes={cut}-" if cut else None)
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize("cut", [1, 1000])
def test_a_server_that_cannot_resume_sends_the_whole_file_again(tmp_path, cut):
    (tmp_path / "file.part").write_bytes(BODY[:cut])
    with serving(server(ranges=False)) as address:
        fetch(address + "file", tmp_path / "file", accept)
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize("start", [0, 999, 1001])
def test_a_server_that_continues_from_another_place_is_asked_for_the_whole_file(tmp_path, start):
    (tmp_path / "file.part").write_bytes(BODY[:1000])
    behaviour = server(wrong_start=start)
    with serving(behaviour) as address:
        fetch(address + "file", tmp_path / "file", accept)
    assert (tmp_path / "file").read_bytes() == BODY
    assert behaviour.requests == [("/file", "bytes=1000-"), ("/file", None)]


def test_all_bytes_are_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    part, saved = tmp_path / "file.part", []

    def fsync(number):
        assert os.path.samestat(os.fstat(number), part.stat())
        saved.append(part.read_bytes())

    monkeypatch.setattr(os, "fsync", fsync)
    with serving(server()) as address:
        fetch(address + "file", tmp_path / "file", accept)
    assert saved == [BODY]


def test_a_part_that_was_already_whole_is_taken_as_it_is(tmp_path):
    (tmp_path / "file.part").write_bytes(BODY)
    behaviour = server()
    with serving(behaviour) as address:
        fetch(address + "file", tmp_path / "file", accept)
    assert (tmp_path / "file").read_bytes() == BODY
    assert behaviour.requests == [("/file", f"bytes={len(BODY)}-")]  # and not once more from the start


def test_a_part_longer_than_the_file_is_thrown_away(tmp_path):
    (tmp_path / "file.part").write_bytes(BODY + b"more")
    with serving(server()) as address:
        fetch(address + "file", tmp_path / "file", accept)
    assert (tmp_path / "file").read_bytes() == BODY


def test_what_the_check_refuses_is_deleted(tmp_path):
    with serving(server()) as address, pytest.raises(UsageError, match="not what was wanted"):
        fetch(address + "file", tmp_path / "file", refuse)
    assert not list(tmp_path.iterdir())


def gone(path):
    path.unlink()


def gone_and_refused(path):
    path.unlink()
    raise UsageError("not what was wanted")


def test_a_part_that_somebody_removes_before_it_is_renamed_is_one_line(tmp_path):
    with serving(server()) as address:
        with pytest.raises(UsageError, match=r"file: No such file or directory.*try again"):
            fetch(address + "file", tmp_path / "file", gone)
        with pytest.raises(UsageError, match="not what was wanted"):
            fetch(address + "file", tmp_path / "file", gone_and_refused)


def test_a_server_that_falls_silent_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.8)
    with serving(server(cut_after=1000, stall=True)) as address, pytest.raises(UsageError, match="timed out"):
        fetch(address + "file", tmp_path / "file", accept)
    assert (tmp_path / "file.part").read_bytes() == BODY[:1000]


def test_a_missing_file_is_one_line_with_the_address(tmp_path):
    with serving(server()) as address, pytest.raises(UsageError) as caught:
        fetch(address + "other", tmp_path / "other", accept)
    assert "other: HTTP Error 404" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_no_server_is_one_line_with_the_address(tmp_path):
    with serving(server()) as address:
        pass
    with pytest.raises(UsageError, match=r"file: cannot connect"):
        fetch(address + "file", tmp_path / "file", accept)


def test_what_a_server_says_is_shown_without_control_characters(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.0 404 \x1b[31mGone\x07\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UsageError) as caught:
            fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/file", tmp_path / "file", accept)
        thread.join()
    assert r"HTTP Error 404: \x1b[31mGone\x07" in str(caught.value)
    assert str(caught.value).isprintable()
