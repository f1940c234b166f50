"""Mini-ImageNet is the same in every form that people keep it in.

Most tests hold a miniature; the last section needs the real one.
"""

import gzip
import io
import lzma
from typing import get_args

import numpy as np
import pytest
from image_sets import jpeg, write, zipped

from reptile_np.errors import UsageError
from reptile_np.tasks import folder, image_cache, mini_imagenet
from reptile_np.tasks.decoding import Filter
from reptile_np.tasks.mini_imagenet import import_mini_imagenet
from tests.tasks.mini_imagenet_miniature import (
    ARCHIVES,
    FORMS,
    IMAGES,
    assert_is_the_miniature,
    flat,
    lists,
    refusal,
    split_tars,
    tarred,
)

Image = pytest.importorskip("PIL.Image", reason="decoding needs the extra images")

# Forms


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_mini_imagenet(tmp_path, form):
    notes = []
    made = import_mini_imagenet(write(tmp_path / "source", FORMS[form]()), tmp_path / "to", note=notes.append)
    assert_is_the_miniature(mini_imagenet.load(made))
    assert_is_the_miniature(mini_imagenet.load(tmp_path / "to", full=True))
    assert notes == [
        "train: 5 of 64 classes",
        "train: 75 of 3,000 images of these classes",
        "validation: 2 of 16 classes",
        "validation: 30 of 1,200 images of these classes",
        "test: 5 of 20 classes",
        "test: 75 of 3,000 images of these classes",
    ]


@pytest.mark.parametrize("name", ARCHIVES)
def test_one_archive_may_have_it_all(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(ARCHIVES[name]())
    assert_is_the_miniature(mini_imagenet.load(import_mini_imagenet(path, tmp_path / "to")))


def test_one_of_the_three_archives_stands_for_all_three(tmp_path):
    source = write(tmp_path / "source", split_tars(".tar.xz", lzma.compress))
    made = import_mini_imagenet(source / "val.tar.xz", tmp_path / "to")
    assert_is_the_miniature(mini_imagenet.load(made))


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("images.tar", tarred),
        ("images.tar.gz", lambda files: gzip.compress(tarred(files))),
        ("images.tar.xz", lambda files: lzma.compress(tarred(files))),
        ("images.zip", zipped),
    ],
)
@pytest.mark.parametrize("beside", ["", "splits/"])
def test_an_archive_of_the_images_is_read_with_the_lists_beside_it(tmp_path, name, pack, beside):
    source = write(tmp_path / "source", {name: pack(flat()), **{beside + k: v for k, v in lists().items()}})
    made = import_mini_imagenet(source / name, tmp_path / "to")
    assert_is_the_miniature(mini_imagenet.load(made))


def test_lists_beside_an_archive_of_another_name_are_not_its_own(tmp_path):
    source = write(
        tmp_path / "source", {"all.tar": tarred(IMAGES), "train.csv": b"a table of something else"}
    )
    made = import_mini_imagenet(source / "all.tar", tmp_path / "to")
    assert_is_the_miniature(mini_imagenet.load(made))


def test_every_form_gives_the_same_bytes_of_pixels(tmp_path):
    digests = set()
    for i, form in enumerate(["class folders", "tar.xz and lists", "images and lists"]):
        made = import_mini_imagenet(write(tmp_path / f"source{i}", FORMS[form]()), tmp_path / f"to{i}")
        images = mini_imagenet.load(made)
        digests.add((images.manifest.content_sha256, images.manifest.source_sha256, images.manifest.pixels))
    assert len(digests) == 1


def test_the_source_is_only_read(tmp_path):
    source = write(tmp_path / "source", FORMS["tar.xz and lists"]())
    before = sorted(path.name for path in source.rglob("*"))
    import_mini_imagenet(source, tmp_path / "to")
    assert sorted(path.name for path in source.rglob("*")) == before


def test_what_was_imported_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with pytest.raises(UsageError, match="not imported on this machine; run: reptile-np data mini-imagenet"):
        mini_imagenet.load()
    import_mini_imagenet(write(tmp_path / "source", IMAGES))
    assert_is_the_miniature(mini_imagenet.load())


def test_a_place_without_a_cache_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match=f"not imported in {tmp_path}"):
        mini_imagenet.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "filter"),
    [({}, "lanczos"), *(({"filter": name}, name) for name in get_args(Filter))],
)
def test_images_of_another_size_are_resized_by_the_filter_that_is_recorded(tmp_path, options, filter):
    path = next(iter(IMAGES))
    large = jpeg(0, side=120)
    with Image.open(io.BytesIO(large)) as image:
        by_filter = {
            name: np.asarray(image.resize((84, 84), Image.Resampling[name.upper()]))
            for name in get_args(Filter)
        }
    assert len({resized.tobytes() for resized in by_filter.values()}) == 4
    made = import_mini_imagenet(
        write(tmp_path / "source", {**IMAGES, path: large}), tmp_path / "to", **options
    )
    images = mini_imagenet.load(made)
    assert images.manifest.conversion.filter == filter
    first, second = images.images(0, np.arange(2))
    np.testing.assert_array_equal(first, by_filter[filter] / np.float32(255))
    with Image.open(io.BytesIO(list(IMAGES.values())[1])) as image:  # of 84 x 84: as it is
        np.testing.assert_array_equal(second, np.asarray(image) / np.float32(255))


def test_an_unknown_filter_is_refused_with_those_there_are(tmp_path):
    said = refusal(tmp_path, tmp_path / "to", filter="box")
    assert said == "filter box: give nearest, bilinear, bicubic, lanczos"


def test_another_filter_makes_the_images_again(tmp_path):
    files = {**IMAGES, next(iter(IMAGES)): jpeg(0, side=120)}
    source = write(tmp_path / "source", files)
    one, two = (
        mini_imagenet.load(import_mini_imagenet(source, tmp_path / "to", filter=name)).manifest
        for name in ("lanczos", "nearest")
    )
    assert one.content_sha256 != two.content_sha256


def test_files_of_other_kinds_do_not_matter(tmp_path):
    more = {"train/.DS_Store": b"x", "train/n00000/._n0000000000000.jpg": b"x", "README": b"x"}
    made = import_mini_imagenet(write(tmp_path / "source", {**IMAGES, **more}), tmp_path / "to")
    assert_is_the_miniature(mini_imagenet.load(made))


# The real one


def test_the_real_archives_have_64_16_and_20_classes_of_600_images_as_their_lists_say(data):
    """Names and lists only: the whole import takes minutes (its figures are in the documents)."""
    parts = mini_imagenet._find(data)
    found = {}
    names = [name for name, _ in mini_imagenet._files(parts[1:2] + parts[3:], lambda name: True, found)]
    assert {split: (len(set(labels.values())), len(labels)) for split, labels in found.items()} == {
        "train": (64, 38_400),
        "validation": (16, 9_600),
        "test": (20, 12_000),
    }
    assert sorted(name.rpartition("/")[2] for name in names) == sorted(found["validation"])


@pytest.mark.parametrize("data_set", [mini_imagenet, folder])
def test_whether_every_pixel_is_verified_is_decided_by_the_caller(data_set, tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "find", lambda source, name: tmp_path)
    monkeypatch.setattr(image_cache, "load", lambda manifest, full=False: full)
    assert [data_set.load(tmp_path, full) for full in (False, True)] == [False, True]
