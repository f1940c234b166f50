"""An import ends with the same bytes however often it was killed, and never harms an earlier cache."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reptile_np.tasks import decoding, image_cache, importing, partial_import
from reptile_np.tasks.decoding import BATCH, BadImage, Conversion
from reptile_np.tasks.importing import Plan, PlannedClass
from tests.refusal import refusal

pytest.importorskip("PIL.Image", reason="importing needs the extra images")

HOW = Conversion(2, 3, 1, "nearest")
KEYS = {"a": [f"a/{i:03d}" for i in range(150)], "b": [f"b/{i:03d}" for i in range(120)]}
FILES = {key: bytes([i % 251] * 6) for i, key in enumerate(KEYS["a"] + KEYS["b"])}


def decode(key, content):
    if content == b"broken":
        raise BadImage(f"{key}: broken")
    return np.frombuffer(content, np.uint8).reshape(2, 3, 1)


def plan(files=FILES, **changed):
    classes = tuple(PlannedClass(name, None, tuple(keys)) for name, keys in KEYS.items())
    fields = {"name": "set", "source": "here", "splits": "none", "white": 255, "conversion": HOW}
    return Plan(**{**fields, "classes": classes, "digests": importing.survey(files.items()), **changed})


def reader(files, order=None, read=None):
    def files_wanted(wanted):
        for key in order or files:
            if wanted(key):
                if read is not None:
                    read.append(key)
                yield key, files[key]

    return files_wanted


def write(folder, files=FILES, order=None, read=None, note=lambda line: None, **changed):
    folder.mkdir(exist_ok=True)
    return importing.write(plan(files, **changed), reader(files, order, read), decode, folder, note=note)


def everything(folder):
    """Every file of a finished import by name; the lock is empty and stays."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# The result


def test_images_are_sorted_by_class_whatever_the_order_of_the_files(tmp_path):
    shuffled = np.random.default_rng(0).permutation(list(FILES)).tolist()
    one, two = (
        everything(write(tmp_path / str(i), order=order).parent) for i, order in enumerate([None, shuffled])
    )
    assert one == two
    images = image_cache.load(tmp_path / "0" / "set.json", full=True)
    for c, keys in enumerate(KEYS.values()):
        got = images.images(c, np.arange(len(keys)))
        expected = [decode(key, FILES[key]) / np.float32(255) for key in keys]
        np.testing.assert_array_equal(got, expected)


def test_the_folder_holds_the_two_files_and_an_empty_lock(tmp_path):
    manifest = write(tmp_path / "to")
    pixels = image_cache.read_manifest(manifest).pixels
    found = everything(tmp_path / "to")
    assert set(found) == {"set.json", pixels, ".set.lock"}
    assert found[".set.lock"] == b""


def test_progress_counts_every_image_once(tmp_path):
    seen = []
    (tmp_path / "to").mkdir()
    importing.write(plan(), reader(FILES), decode, tmp_path / "to", lambda *now: seen.append(now))
    assert seen == [("decoding", i, 270) for i in range(1, 271)]


def test_a_file_that_comes_twice_is_refused():
    assert "a/000: comes twice" in refusal(importing.survey, [*FILES.items(), ("a/000", b"")])


def test_a_second_import_of_the_same_files_decodes_nothing(tmp_path):
    write(tmp_path / "to")
    before, read = everything(tmp_path / "to"), []
    write(tmp_path / "to", read=read)
    assert read == []
    assert everything(tmp_path / "to") == before


def test_a_damaged_result_is_made_again(tmp_path):
    manifest = write(tmp_path / "to")
    before = everything(tmp_path / "to")
    pixels = manifest.with_name(image_cache.read_manifest(manifest).pixels)
    content = bytearray(pixels.read_bytes())
    content[-1] ^= 1
    pixels.write_bytes(content)
    write(tmp_path / "to")
    assert everything(tmp_path / "to") == before


def test_an_import_of_other_files_replaces_the_earlier_one(tmp_path):
    write(tmp_path / "to")
    other = {**FILES, "a/000": b"123456"}
    write(tmp_path / "to", other)
    write(tmp_path / "afresh", other)
    assert everything(tmp_path / "to") == everything(tmp_path / "afresh")


def test_images_that_another_decoder_has_decoded_are_decoded_again(tmp_path, monkeypatch):
    refusal(write, tmp_path / "to", BROKEN)
    monkeypatch.setattr(decoding, "pillow_version", lambda: "Pillow 99")
    read = []
    write(tmp_path / "to", BROKEN, read=read, skip_bad=True)
    assert sorted(read) == sorted(BROKEN)


def test_a_reader_of_a_small_earlier_set_is_not_disturbed_by_the_next_import(tmp_path):
    images = image_cache.load(write(tmp_path / "to"))
    before = images.images(0, np.arange(3))
    write(tmp_path / "to", {**FILES, "a/000": b"123456"})
    np.testing.assert_array_equal(images.images(0, np.arange(3)), before)


# Bad images


BROKEN = {**FILES, "a/001": b"broken", "a/140": b"broken"}


def test_a_bad_image_is_named_with_the_number_of_the_others(tmp_path):
    write(tmp_path / "to")
    before = everything(tmp_path / "to")
    assert refusal(write, tmp_path / "to", BROKEN) == "a/001: broken (and 1 more)"
    assert {name: content for name, content in everything_but_partial(tmp_path / "to").items()} == before


def everything_but_partial(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_on_request_bad_images_are_skipped_named_and_recorded_and_the_others_keep_their_order(tmp_path):
    lines = []
    manifest = write(tmp_path / "to", BROKEN, skip_bad=True, note=lines.append)
    images = image_cache.load(manifest, full=True)
    assert lines == list(images.manifest.left_out) == ["a/001: broken; left out", "a/140: broken; left out"]
    kept = [key for key in KEYS["a"] if BROKEN[key] != b"broken"]
    assert images.count(0) == len(kept) == 148
    np.testing.assert_array_equal(
        images.images(0, np.arange(148)), [decode(key, FILES[key]) / np.float32(255) for key in kept]
    )


def test_after_a_refusal_the_import_that_skips_decodes_only_the_bad_images_again(tmp_path):
    refusal(write, tmp_path / "to", BROKEN)
    read = []
    write(tmp_path / "to", BROKEN, read=read, skip_bad=True)
    assert read == ["a/001", "a/140"]
    write(tmp_path / "afresh", BROKEN, skip_bad=True)
    assert everything(tmp_path / "to") == everything(tmp_path / "afresh")


def test_a_set_without_its_bad_images_is_no_result_for_an_import_that_skips_none(tmp_path):
    write(tmp_path / "to", BROKEN, skip_bad=True)
    before, read = everything(tmp_path / "to"), []
    assert refusal(write, tmp_path / "to", BROKEN) == "a/001: broken (and 1 more)"
    assert everything_but_partial(tmp_path / "to") == before
    write(tmp_path / "to", BROKEN, skip_bad=True, read=read)
    assert read == []


def test_a_set_without_a_class_that_is_too_small_is_the_result_of_an_import_that_skips_none(tmp_path):
    write(tmp_path / "to", least_images=121)
    read = []
    write(tmp_path / "to", least_images=121, read=read)
    assert read == []


def test_a_class_with_too_few_usable_images_is_left_out_and_named(tmp_path):
    broken = {**FILES, **dict.fromkeys(KEYS["b"][:2], b"broken")}
    lines = []
    manifest = write(tmp_path / "to", broken, skip_bad=True, least_images=119, note=lines.append)
    assert [c.name for c in image_cache.load(manifest).manifest.classes] == ["a"]
    assert lines[-1] == "class b: too few usable images (118; at least 119 are needed); left out"
    assert "no class has 151 usable images" in refusal(write, tmp_path / "none", least_images=151)


@pytest.mark.parametrize("broken", [{}, {"b/000": b"broken"}])
def test_fewer_classes_of_a_split_than_are_needed_are_refused(tmp_path, broken):
    """Too small in the source: before anything is read; by bad images: before anything is written."""
    classes = tuple(
        PlannedClass(name, split, tuple(KEYS[name])) for name, split in (("a", "train"), ("b", "test"))
    )
    needed = {"classes": classes, "least_images": 120 if broken else 121, "skip_bad": True}
    files, read = {**FILES, **broken}, []
    advice = "get it again"
    said = refusal(write, tmp_path / "to", files, read=read, least_classes=1, advice=advice, **needed)
    assert said == (
        f"here: 0 test classes with at least {needed['least_images']} usable images, 1 needed; get it again"
    )
    assert bool(read) == bool(broken)
    assert not (tmp_path / "to" / "set.json").exists()
    write(tmp_path / "to", files, least_classes=0, **needed)
    assert len(image_cache.load(tmp_path / "to" / "set.json")) == 1


# Interrupted


PROGRAM = """
import sys, time
sys.path[:0] = {paths!r}
import test_importing as t
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


def test_a_file_that_changes_or_disappears_during_the_import_is_named(tmp_path):
    to = tmp_path / "to"
    to.mkdir()
    changed, fewer = {**FILES, "b/007": b"other!"}, {k: v for k, v in FILES.items() if k != "b/007"}
    assert "b/007: changed" in refusal(importing.write, plan(), reader(changed), decode, to)
    assert "b/007: removed" in refusal(importing.write, plan(), reader(fewer), decode, to)
    assert not (to / "set.json").exists()


# A place that cannot be written


def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    said = refusal(importing.target_folder, tmp_path / "file" / "to")
    assert f"{tmp_path / 'file' / 'to'}: cannot be made (Not a directory)" in said


def test_a_full_disk_is_one_line_and_the_earlier_cache_is_as_it_was(tmp_path):
    """A limit on the size of files makes the system refuse to write, as a full disk does."""
    before = write(tmp_path / "to").read_bytes()
    code = """
        import resource, signal, sys
        sys.path[:0] = {paths!r}
        import test_importing as t
        from pathlib import Path
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        files = {{**t.FILES, "a/000": b"123456"}}
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
        print(t.refusal(t.write, Path(sys.argv[1]), files))
    """
    for limit in (10, 500, 1630, 1640):  # the first files; the pixels with their header have 1,748 bytes
        program = textwrap.dedent(code).format(paths=[os.path.dirname(__file__), *sys.path], limit=limit)
        said = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "to")], check=True, capture_output=True, text=True
        ).stdout
        assert f"{tmp_path / 'to'}: cannot be written (File too large); make room" in said
        assert (tmp_path / "to" / "set.json").read_bytes() == before
        image_cache.load(tmp_path / "to" / "set.json", full=True)


def test_the_manifest_says_what_was_imported_and_how(tmp_path):
    fields = json.loads(write(tmp_path / "to").read_text())
    assert fields["format"] == 1
    assert fields["conversion"] == {
        "height": 2, "width": 3, "channels": 1, "filter": "nearest", "crop": False, "upright": False,
    }  # fmt: skip
    assert fields["classes"] == [{"name": k, "count": len(v), "split": None} for k, v in KEYS.items()]
    assert fields["source"] == "here"
    assert fields["source_sha256"] == plan().sha256
    assert fields["created_by"].startswith("reptile_np ")
    assert fields["decoder"].startswith("Pillow ")


def test_a_new_import_removes_the_pixels_of_the_one_before_and_no_file_of_the_user(tmp_path):
    write(tmp_path)
    (tmp_path / "set-training2020.npy").write_bytes(b"mine")
    (before,) = set(tmp_path.glob("set-*.npy")) - {tmp_path / "set-training2020.npy"}
    write(tmp_path, {key: content[::-1][:5] + b"x" for key, content in FILES.items()})
    assert not before.exists()
    assert (tmp_path / "set-training2020.npy").read_bytes() == b"mine"
