"""An import writes each image once, in one order; what fails is named and never harms an earlier cache."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from reptile_np.tasks import decoding, image_cache, importing
from reptile_np.tasks.importing import PlannedClass
from tests.refusal import refusal
from tests.tasks.imports import BROKEN, FILES, KEYS, decode, everything, plan, reader, write

pytest.importorskip("PIL.Image", reason="importing needs the extra images")


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
