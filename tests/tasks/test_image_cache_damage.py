"""A set of images that differs from what was imported is refused in one line."""

import dataclasses
import os
import shutil

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.tasks import image_cache
from reptile_np.tasks.decoding import Conversion
from reptile_np.tasks.image_cache import CachedClass, CachedImages, manifest_text
from tests.refusal import refusal as one_line
from tests.tasks.birds import PIXELS, every, manifest, written


def refusal(path, **more):
    said = one_line(image_cache.load, path, **more)
    assert "import" in said
    return said


def test_a_changed_pixel_of_a_small_set_is_found_at_every_load(tmp_path):
    path = written(tmp_path)
    changed = PIXELS.copy()
    changed[7, 1, 2, 0] ^= 1
    np.save(tmp_path / "birds-000000000000.npy", changed)
    assert "images have been altered" in refusal(path)


def test_a_changed_pixel_of_a_large_set_is_found_on_request(tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "SMALL", PIXELS.size - 1)
    path = written(tmp_path)
    np.save(tmp_path / "birds-000000000000.npy", PIXELS[::-1])
    image_cache.load(path)
    assert "images have been altered" in refusal(path, full=True)


@pytest.mark.parametrize("chunk", [1, 61, 10**6])
def test_verifying_reads_every_image_whatever_the_size_of_its_steps(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(image_cache, "SMALL", 0)  # so that the images are read in steps
    monkeypatch.setattr(image_cache, "CHUNK", chunk)
    path = written(tmp_path)
    image_cache.load(path, full=True)
    for i in range(len(PIXELS)):
        altered = PIXELS.copy()
        altered[i, -1, -1, -1] ^= 1
        np.save(tmp_path / "birds-000000000000.npy", altered)
        assert "images have been altered" in refusal(path, full=True)


@pytest.mark.parametrize(
    "pixels",
    [
        PIXELS.reshape(10, 5, 4, 3),  # the same bytes
        PIXELS.reshape(5, 8, 5, 3),
        PIXELS.view(np.int8),
        PIXELS[:9],
        np.concatenate([PIXELS, PIXELS[:1]]),
        PIXELS.astype(np.float32),
        np.asfortranarray(PIXELS),
    ],
)
def test_pixels_of_another_shape_dtype_order_or_number_are_refused(tmp_path, pixels):
    path = written(tmp_path)
    np.save(tmp_path / "birds-000000000000.npy", pixels)
    assert "not the images of birds.json" in refusal(path)


def test_pixels_cut_anywhere_or_with_more_bytes_are_refused(tmp_path):
    path = written(tmp_path)
    pixels = tmp_path / "birds-000000000000.npy"
    whole = pixels.read_bytes()
    for content in [*(whole[:cut] for cut in range(0, len(whole), 37)), whole + b"\0"]:
        pixels.write_bytes(content)
        assert "not the images of birds.json" in refusal(path)
    pixels.unlink()
    assert "No such file" in refusal(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_or_a_folder_in_place_of_the_pixels_is_refused_at_once(tmp_path):
    path, pixels = written(tmp_path), tmp_path / "birds-000000000000.npy"
    pixels.unlink()
    os.mkfifo(pixels)
    assert "not a file" in refusal(path)
    pixels.unlink()
    pixels.mkdir()
    assert "not a file" in refusal(path)


def test_a_manifest_cut_anywhere_is_refused(tmp_path):
    path = written(tmp_path)
    whole = path.read_text()
    for cut in [*range(0, len(whole), 11), len(whole) - 1]:
        path.write_text(whole[:cut])
        refusal(path)


def test_an_edited_manifest_is_refused(tmp_path):
    path = written(tmp_path)
    path.write_text(path.read_text().replace('"owl"', '"kea"'))
    assert "altered" in refusal(path)


def test_a_manifest_of_another_format_says_which(tmp_path):
    path = written(tmp_path)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    assert "format 2, this version reads 1" in refusal(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        "7",
        "[" * 10**5,
        '{"format": 1}',
        '{"format": [1]}',
        "\xff",
        '{"format": 1' + "0" * 5000 + "}",
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "birds.json").write_text(text, encoding="latin-1")
    refusal(tmp_path / "birds.json")


@pytest.mark.parametrize(
    "changed",
    [
        {"white": 0},
        {"white": "255"},
        {"white": True},
        {"white": 7},
        {"name": 3},
        {"source": None},
        {"pixels": "../other.npy"},
        {"pixels": ["x"]},
        {"classes": ()},
        {"classes": (CachedClass("a", 0),)},
        {"classes": (CachedClass("a", -1), CachedClass("b", 11))},
        {"classes": (CachedClass("a", 10.0),)},
        {"classes": (CachedClass("a", 5), CachedClass("a", 5))},
        {"classes": (CachedClass(None, 10),)},
        {"classes": (CachedClass("a", 10, "training"),)},
        {"classes": (CachedClass("a", 10, ["train"]),)},
        {"conversion": Conversion(4, 5, 2, "bicubic")},
        {"conversion": Conversion("4", 5, 3, "bicubic")},
        {"conversion": Conversion(4, 5, 3, "sharp")},
        {"left_out": (3,)},
    ],
)
def test_a_value_that_no_import_writes_is_refused_though_the_digest_is_right(tmp_path, changed):
    path = tmp_path / "birds.json"
    path.write_text(manifest_text(dataclasses.replace(manifest(), **changed)))
    with pytest.raises(UsageError) as caught:
        image_cache.read_manifest(path)
    assert "birds.json: not a whole manifest" in str(caught.value)


def test_a_manifest_of_more_pixels_than_any_disk_has_is_refused(tmp_path):
    path = written(tmp_path)
    path.write_text(manifest_text(manifest(conversion=Conversion(4, 10**30, 3, "bicubic"))))
    assert "not the images of birds.json" in refusal(path)


def test_a_copied_or_moved_set_is_the_same_set(tmp_path):
    (tmp_path / "one").mkdir()
    written(tmp_path / "one")
    shutil.move(tmp_path / "one", tmp_path / "two")
    np.testing.assert_array_equal(
        every(CachedImages(tmp_path / "two" / "birds.json"), 3), PIXELS[9:] / np.float32(255)
    )
