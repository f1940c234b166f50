"""Killed imports, and several at once, end with the bytes of an undisturbed one and leave nothing behind."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from reptile_np.tasks import decoding, importing, partial_import
from reptile_np.tasks.decoding import BATCH
from tests.refusal import refusal
from tests.tasks.imports import BROKEN, FILES, HOW, decode, everything, plan, reader, write

pytest.importorskip("PIL.Image", reason="importing needs the extra images")

PROGRAM = """
import sys, time
sys.path[:0] = {paths!r}
import imports as t
from pathlib import Path
from reptile_np.tasks import importing, partial_import
partial_import.SYNC_EVERY = 1

def slow(wanted):
    for n, (key, content) in enumerate(t.reader(t.FILES)(wanted)):
        if n == int(sys.argv[2]):
            print("there", flush=True)
            time.sleep(60)
        yield key, content

importing.write(t.plan(), slow, t.decode, Path(sys.argv[1]))
"""


def start(folder, stop_at):
    folder.mkdir(exist_ok=True)
    paths = [os.path.dirname(__file__), *sys.path]
    command = [sys.executable, "-c", PROGRAM.format(paths=paths), str(folder), str(stop_at)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "there\n"
    return process


def kill(process, signal_number=signal.SIGKILL):
    process.send_signal(signal_number)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("stop_at", [0, 1, 100, 269])
def test_after_a_kill_the_next_import_ends_with_the_bytes_of_an_undisturbed_one(tmp_path, stop_at):
    write(tmp_path / "undisturbed")
    to = tmp_path / "to"
    kill(start(to, stop_at))
    assert not (to / "set.json").exists()
    write(to)
    assert everything(to) == everything(tmp_path / "undisturbed")


def test_what_was_decoded_before_a_kill_is_not_decoded_again(tmp_path, monkeypatch):
    monkeypatch.setattr(partial_import, "SYNC_EVERY", 1)
    monkeypatch.setattr(decoding, "cores", lambda: 1)
    to, read = tmp_path / "to", []

    def stopped(wanted):
        for n, item in enumerate(reader(FILES)(wanted)):
            if n == 4 * BATCH:
                raise KeyboardInterrupt
            yield item

    to.mkdir()
    with pytest.raises(KeyboardInterrupt):
        importing.write(plan(), stopped, decode, to)
    write(to, read=read)
    assert 0 < len(read) < len(FILES)
    assert set(read).isdisjoint(list(FILES)[:BATCH])
    write(tmp_path / "undisturbed")
    assert everything(to) == everything(tmp_path / "undisturbed")


def test_an_image_is_marked_as_done_after_its_pixels_are_on_the_disk(tmp_path, monkeypatch):
    folder, saved = tmp_path / "set.partial", []
    rest = partial_import.PartialImport(folder, "plan", list(FILES), HOW)

    def fsync(number):
        (name,) = [f.name for f in folder.iterdir() if os.path.samestat(f.stat(), os.fstat(number))]
        saved.append((name, sum((folder / "done").read_bytes())))

    monkeypatch.setattr(os, "fsync", fsync)
    rest.fill(reader(FILES), decode, lambda *now: None)
    assert saved == [("pixels", 0), ("done", len(FILES))]


def test_what_a_kill_during_the_last_copy_leaves_is_removed(tmp_path):
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / ".set-0123456789ab.npy.4711.tmp").write_bytes(b"x")
    write(tmp_path / "to")
    write(tmp_path / "afresh")
    assert everything(tmp_path / "to") == everything(tmp_path / "afresh")


@pytest.mark.parametrize("removed", [["plan"], ["plan", "pixels"]])
def test_what_a_kill_leaves_of_the_decoded_images_is_removed_by_the_next_import(tmp_path, removed):
    write(tmp_path / "to")
    rest = tmp_path / "to" / ".set.partial"
    rest.mkdir()
    for name in {"plan", "pixels", "done"} - set(removed):
        (rest / name).write_bytes(b"x")
    write(tmp_path / "to")
    write(tmp_path / "afresh")
    assert everything(tmp_path / "to") == everything(tmp_path / "afresh")


def test_unfinished_files_of_a_killed_import_are_removed_and_no_others(tmp_path):
    to = tmp_path / "to"
    to.mkdir()
    unfinished = [to / ".set.json.123.tmp", to / ".set-0123456789ab.npy.123.tmp"]
    others = [to / ".set-notes.tmp", to / ".set.json.old.tmp", to / ".other.json.123.tmp"]
    for path in unfinished + others:
        path.write_text("x")
    write(to)
    assert not any(path.exists() for path in unfinished)
    assert all(path.read_text() == "x" for path in others)


@pytest.mark.parametrize("removed_first", ["pixels", "done"])
def test_a_kill_while_the_decoded_images_are_removed_does_not_block_the_next_import(
    tmp_path, monkeypatch, removed_first
):
    def killed(folder):
        (folder / removed_first).unlink()
        raise KeyboardInterrupt

    to = tmp_path / "to"
    with monkeypatch.context() as patch:
        patch.setattr(partial_import.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            write(to)
    (to / "set.json").unlink()
    write(to)
    write(tmp_path / "undisturbed")
    assert everything(to) == everything(tmp_path / "undisturbed")


@pytest.mark.parametrize("name", ["pixels", "done"])
def test_a_file_that_a_power_cut_has_emptied_is_made_again(tmp_path, name):
    to = tmp_path / "to"
    refusal(write, to, BROKEN)
    (unfinished,) = to.glob(".*.partial")
    os.truncate(unfinished / name, 0)
    refusal(write, to, BROKEN)
    write(to)
    write(tmp_path / "undisturbed")
    assert everything(to) == everything(tmp_path / "undisturbed")


def test_the_rest_of_an_import_of_other_files_is_thrown_away(tmp_path):
    refusal(write, tmp_path / "to", BROKEN)
    write(tmp_path / "to")
    write(tmp_path / "afresh")
    assert everything(tmp_path / "to") == everything(tmp_path / "afresh")


def test_a_second_import_into_one_folder_waits_for_the_first_to_end(tmp_path):
    to, seen = tmp_path / "to", []
    process = start(to, 100)

    def progress(*now):
        seen.append(now)
        if now == ("waiting for another import", 1, None):
            kill(process)

    importing.write(plan(), reader(FILES), decode, to, progress)
    assert seen[:2] == [("waiting for another import", seconds, None) for seconds in (0, 1)]
    write(tmp_path / "undisturbed")
    assert everything(to) == everything(tmp_path / "undisturbed")


def test_imports_started_at_the_same_moment_all_end_with_the_same_set(tmp_path):
    (tmp_path / "to").mkdir()
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(write, tmp_path / "to") for _ in range(4)]
        assert {future.result() for future in made} == {tmp_path / "to" / "set.json"}
    write(tmp_path / "undisturbed")
    assert everything(tmp_path / "to") == everything(tmp_path / "undisturbed")
