"""The one cache format: what was written is what is read, wherever it is."""

import dataclasses
import json
import pickle
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.tasks import image_cache
from reptile_np.tasks.image_cache import CachedClass, npy_header
from reptile_np.tasks.image_classes import as_float32
from tests.tasks.birds import CLASSES, PIXELS, every, manifest, written


def test_a_class_has_its_own_images_in_their_order(tmp_path):
    images = image_cache.load(written(tmp_path))
    assert images.image_shape == (4, 5, 3)
    assert [images.name(c) for c in range(len(images))] == [c.name for c in CLASSES]
    first = 0
    for c, about in enumerate(CLASSES):
        assert images.count(c) == about.count
        np.testing.assert_array_equal(every(images, c), PIXELS[first : first + about.count] / np.float32(255))
        first += about.count


def test_a_manifest_may_be_named_in_text_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = written(tmp_path)
    for name in (str(path), "~/birds.json"):
        assert image_cache.read_manifest(name) == image_cache.read_manifest(path)
        assert image_cache.load(name).path == path


@pytest.mark.parametrize("white", [1, 255])
def test_images_are_float32_and_white_is_one(tmp_path, white):
    pixels = np.full_like(PIXELS, white)
    x = every(image_cache.load(written(tmp_path, pixels, white=white)), 0)
    assert x.dtype == np.float32
    assert (x == 1).all()


@pytest.mark.parametrize(("white", "dtype"), [(1, np.bool_), (255, np.uint8)])
def test_pixels_stay_bits_or_bytes_until_they_are_asked_for_as_images(tmp_path, white, dtype):
    images = image_cache.load(written(tmp_path, np.minimum(PIXELS, np.uint8(white)), white=white))
    pixels = images.pixels(2, np.arange(4))
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(as_float32(pixels), every(images, 2))


def test_every_byte_is_divided_by_255_correctly_rounded(tmp_path):
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    x = every(image_cache.load(written(tmp_path, pixels, classes=(CachedClass("all", 1),))), 0)
    np.testing.assert_array_equal(x.ravel(), (np.arange(256) / 255).astype(np.float32))


@given(st.lists(st.integers(0, 2), max_size=6))
def test_images_come_in_the_order_asked_for_repeated_if_asked(tmp_path_factory, indices):
    images = image_cache.load(written(tmp_path_factory.mktemp("birds")))
    picked = images.images(0, np.array(indices, np.intp))
    np.testing.assert_array_equal(picked, PIXELS[:3][indices] / np.float32(255))


def test_an_index_beyond_a_class_does_not_give_an_image_of_the_next_one(tmp_path):
    with pytest.raises(IndexError):
        image_cache.load(written(tmp_path)).images(0, np.array([3]))


def test_what_is_returned_can_be_changed_without_changing_the_cache(tmp_path):
    images = image_cache.load(written(tmp_path))
    every(images, 0)[:] = 0
    assert every(images, 0).any()


def test_the_splits_are_those_of_the_manifest(tmp_path):
    splits = image_cache.load(written(tmp_path)).splits()
    names = [[part.name(c) for c in range(len(part))] for part in splits]
    assert names == [["robin", "wren"], ["owl"], ["häher"]]
    np.testing.assert_array_equal(every(splits.train, 1), PIXELS[9:] / np.float32(255))


def test_a_set_without_validation_classes_says_so(tmp_path):
    classes = tuple(dataclasses.replace(c, split="train" if c.count > 2 else "test") for c in CLASSES)
    assert image_cache.load(written(tmp_path, classes=classes)).splits().validation is None


@pytest.mark.parametrize("split", [None, "train", "test"])
def test_a_set_without_training_or_test_classes_has_no_splits(tmp_path, split):
    classes = tuple(dataclasses.replace(c, split=split) for c in CLASSES)
    with pytest.raises(UsageError, match="no training or no test classes"):
        image_cache.load(written(tmp_path, classes=classes)).splits()


def test_a_pickle_holds_the_path_and_no_pixels(tmp_path):
    images = image_cache.load(written(tmp_path)).splits().train
    again = pickle.loads(pickle.dumps(images))
    assert len(pickle.dumps(images)) < 1000
    np.testing.assert_array_equal(every(again, 0), every(images, 0))


@given(st.lists(st.integers(-4, 3), max_size=6))
def test_a_large_set_of_which_only_the_images_asked_for_are_read_gives_the_same_images(
    tmp_path_factory, indices
):
    place = tmp_path_factory.mktemp("birds")
    small = image_cache.load(written(place))
    with mock.patch.object(image_cache, "SMALL", PIXELS.size - 1):
        large = image_cache.load(written(place))
    assert large._small is None
    picked = large.images(2, np.array(indices, np.intp))
    assert picked.tobytes() == small.images(2, np.array(indices, np.intp)).tobytes()
    with pytest.raises(IndexError):
        large.images(2, np.array([4]))


@pytest.mark.parametrize("damage", ["cut short", "removed"])
def test_a_large_set_that_is_damaged_while_it_is_in_use_is_named(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(image_cache, "SMALL", PIXELS.size - 1)
    images = image_cache.load(written(tmp_path))
    file = tmp_path / images.manifest.pixels
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UsageError, match=r"birds.*npy: not the images of birds\.json .*import them again"):
        every(images, len(images) - 1)


def test_numpy_reads_the_pixels_by_itself(tmp_path):
    header = npy_header(PIXELS.shape)
    assert len(header) == 128
    (tmp_path / "x.npy").write_bytes(header + PIXELS.tobytes())
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy", mmap_mode="r"), PIXELS)


def test_the_digest_is_of_names_and_counts_as_json_and_of_the_pixels():
    import hashlib

    text = json.dumps([[c.name, c.count] for c in CLASSES]).encode()
    assert manifest().content_sha256 == hashlib.sha256(text + PIXELS.tobytes()).hexdigest()


def test_a_set_is_found_by_its_folder_or_its_manifest_or_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "reptile_np").mkdir()
    path = written(tmp_path / "reptile_np")
    for place in (None, path.parent, path, str(path)):
        assert image_cache.find(place, "birds") == path
    assert image_cache.find(None, "fish") is None
    assert image_cache.find(tmp_path / "nowhere", "birds") is None
    assert image_cache.find(path.with_suffix(".npy"), "birds") is None
