"""A folder of anyone's images becomes a data set; what cannot be used is named in one line."""

import io
import os

import numpy as np
import pytest
from image_sets import jpeg, write

from reptile_np.errors import UsageError
from reptile_np.tasks import folder
from reptile_np.tasks.folder import import_folder
from tests.refusal import refusal as one_line
from tests.tasks.photos import imported, names, photos, refusal

Image = pytest.importorskip("PIL.Image", reason="decoding needs the extra images")


# Images


@pytest.mark.parametrize(("grey", "channels"), [(False, 3), (True, 1)])
@pytest.mark.parametrize("size", [1, 8, 28])
def test_images_of_mixed_size_format_and_colour_become_one_shape(tmp_path, grey, channels, size):
    images, lines = imported(tmp_path, photos(), size=size, grey=grey)
    assert lines == []
    assert images.image_shape == (size, size, channels)
    assert names(images) == [f"class {c:02d}" for c in range(20)]
    assert [images.count(c) for c in range(20)] == [6] * 20


def test_an_image_is_its_centred_square_resized_by_the_bicubic_filter(tmp_path):
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 50, 3), np.uint8))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    images, _ = imported(tmp_path, {**photos(), "class 00/a.png": buffer.getvalue()})
    expected = wide.resize((8, 8), Image.Resampling.BICUBIC, box=(15, 0, 35, 20))
    np.testing.assert_array_equal(images.images(0, np.array([0]))[0], np.asarray(expected) / np.float32(255))
    assert images.manifest.conversion.crop
    assert images.manifest.conversion.filter == "bicubic"


def test_photographs_are_turned_upright(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif.tobytes())
    images, _ = imported(tmp_path, {**photos(), "class 00/a.png": buffer.getvalue()})
    np.testing.assert_array_equal(images.images(0, np.array([0]))[0], np.rot90(pixels, -1) / np.float32(255))


def test_classes_may_be_nested_and_are_called_by_their_path(tmp_path):
    files = {**photos(2), **{f"birds/{path}": content for path, content in photos(2, start=9).items()}}
    assert names(imported(tmp_path, files)[0]) == ["birds/class 00", "birds/class 01", "class 00", "class 01"]


def test_a_zip_of_the_folder_gives_the_same_images(tmp_path):
    import shutil

    source = write(tmp_path / "photos", photos())
    shutil.make_archive(str(tmp_path / "photos"), "zip", source)
    one = folder.load(import_folder(source, tmp_path / "one"))
    two = folder.load(import_folder(tmp_path / "photos.zip", tmp_path / "two"))
    assert one.manifest.content_sha256 == two.manifest.content_sha256


# What is left out


def test_the_folder_of_the_acceptance_test(tmp_path):
    """Hidden files, files that are no images, a broken image, a class of five: the others are imported."""
    files = {
        **photos(60, 7),
        ".DS_Store": b"x",
        "class 01/.DS_Store": b"x",
        ".git/objects/image.png": b"x",
        "class 02/notes.txt": b"hello",
        "class 03/image 0.png": jpeg(0, format="PNG")[:50],
        "top.png": jpeg(0, format="PNG"),
        **{f"few/{i}.png": jpeg(i, format="PNG") for i in range(5)},
    }
    images, lines = imported(tmp_path, files)
    assert len(images) == 60
    assert [images.count(c) for c in range(60)] == [6 if c == 3 else 7 for c in range(60)]
    assert lines == [
        "hidden files: 3 skipped, such as .DS_Store",
        "images in no class folder: 1 skipped, such as top.png",
        "files of no image format that is read here: 1 skipped (1 .txt), such as class 02/notes.txt",
        "class few: too few images (5; at least 6 are needed); left out",
        "class 03/image 0.png: cannot be decoded (image file is truncated); left out",
    ]


def test_a_class_that_is_too_small_without_its_broken_images_is_left_out(tmp_path):
    images, lines = imported(tmp_path, {**photos(), "class 07/image 0.png": b"broken"})
    assert "class 07" not in names(images)
    assert lines == [
        "class 07/image 0.png: not an image of a format that is read here; left out",
        "class class 07: too few usable images (5; at least 6 are needed); left out",
    ]


def test_files_that_are_no_files_are_named_and_skipped(tmp_path):
    source = write(tmp_path / "photos", photos())
    os.mkfifo(source / "class 00" / "fifo.png")
    (source / "class 00" / "loop.png").symlink_to("loop.png")
    (source / "class 00" / "zero.png").symlink_to("/dev/zero")
    (source / "class 00" / "again").symlink_to(source)
    with (source / "class 00" / "huge.png").open("wb") as file:
        file.truncate(20 << 30)
    images, lines = imported(tmp_path, {})
    assert images.count(0) == 6
    assert len(lines) == 5
    for name, says in {
        "fifo.png": "not a regular file",
        "loop.png": "symbolic links",
        "zero.png": "not a regular file",
        "again": "already read",
        "huge.png": "21,474,836,480 bytes",
    }.items():
        assert any(f"class 00/{name}: " in line and says in line for line in lines)


def test_a_name_with_line_breaks_and_escapes_is_shown_in_one_line(tmp_path):
    _, lines = imported(tmp_path, {**photos(), "class 00/\x1b[31m\nred.png": b"x"})
    assert lines == [r"class 00/\x1b[31m\nred.png: not an image of a format that is read here; left out"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "no folders with images in it; give a folder that has a folder of images for each class"),
        (photos(1), "class folders with at least 6 images: 1 (of 1); at least two are needed"),
        (
            {f"class {c}/{i}.png": b"" for c in range(3) for i in range(2)},
            "class folders with at least 6 images: 0 (of 3); at",
        ),
    ],
)
def test_a_folder_without_two_classes_is_refused(tmp_path, files, says):
    (tmp_path / "photos").mkdir()
    assert says in refusal(write(tmp_path / "photos", files), tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_what_was_left_out_is_said_before_a_refusal_that_it_explains(tmp_path):
    files = {f"{c}/{i}.{kind}": b"" for c in "ab" for i, kind in enumerate(["heic"] * 5 + ["HEIC"] * 4)}
    source = write(tmp_path / "photos", {**files, "b/none": b"", "b/x.svg": b""})
    lines = []
    assert "no folders with images in it" in refusal(source, tmp_path / "to", note=lines.append)
    assert lines == [
        "files of no image format that is read here: 20 skipped (18 .heic, 1 without a suffix, 1 .svg), such "
        "as a/0.heic"
    ]


def test_the_same_command_again_says_the_same(tmp_path):
    files = {**photos(), "class 03/bad.png": b"x", "class 04/none.txt": b""}
    _, first = imported(tmp_path, files)
    _, again = imported(tmp_path, files)
    assert len(first) == 2
    assert again == first


def test_numbers_of_numpy_are_sizes_and_seeds(tmp_path):
    images, _ = imported(tmp_path, photos(), size=np.int64(8), seed=np.int64(3), least_images=np.int64(6))
    assert images.image_shape == (8, 8, 3)


def test_nothing_there_is_refused(tmp_path):
    assert "no such file or folder" in refusal(tmp_path / "nowhere", tmp_path / "to")
    with pytest.raises(
        UsageError, match=f"not imported in {tmp_path}; run: reptile-np data folder DIR --to {tmp_path}"
    ):
        folder.load(tmp_path)


def test_a_folder_of_class_folders_given_as_an_import_is_answered_with_the_two_commands(tmp_path):
    source = write(tmp_path / "my photos", photos(2))
    with pytest.raises(UsageError) as caught:
        folder.load(source)
    assert str(caught.value) == (
        f"your own images: {source} has folders and no imported images; run: reptile-np data folder "
        f"'{source}' --to '{source}-data', then give --data '{source}-data' (for images-5way with --size 28 "
        "--grey)"
    )


def test_what_was_imported_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with pytest.raises(UsageError, match=r"not imported on this machine; run: reptile-np data folder DIR \("):
        folder.load()
    made = import_folder(write(tmp_path / "photos", photos()), size=8)
    assert made.is_relative_to(tmp_path / "home")
    assert folder.load().path == made


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"size": 0}, "size is 0; give a whole number of at least 1"),
        ({"size": 769}, "size is 769; give 1 to 768"),
        ({"seed": -1}, "seed is -1; give a whole number of at least 0"),
        ({"least_images": 1}, "least_images is 1; give a whole number of at least 2"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, values, says):
    assert says in refusal(tmp_path, tmp_path / "to", **values)


# Copies, links and empty sources


@pytest.mark.parametrize(
    "place", ["class 03/copy.png", "class 07/copy.png"], ids=["one class", "two classes"]
)
def test_images_that_are_copies_of_others_are_named_and_imported(tmp_path, place):
    files = photos()
    files[place] = files["class 03/image 0.png"]
    lines = []
    made = import_folder(write(tmp_path / "photos", files), tmp_path / "to", note=lines.append, size=8)
    which = "; these are of different classes" if place.startswith("class 07") else ""
    one, other = sorted([place, "class 03/image 0.png"])
    assert lines == [f"1 images are copies of others, such as {other} of {one}{which}; all are imported"]
    assert sum(folder.load(made).count(c) for c in range(20)) == len(files)


def test_copies_in_two_classes_are_named_before_copies_in_one():
    (line,) = folder._identical({"a/1.png": b"x", "a/2.png": b"x", "b/1.png": b"y", "c/1.png": b"y"})
    assert "c/1.png of b/1.png; these are of different classes" in line


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links here")
def test_a_class_folder_keeps_its_own_name_beside_a_link_to_it(tmp_path):
    root = write(tmp_path / "photos", photos())
    os.symlink(root / "class 05", root / "another name")
    import_folder(root, tmp_path / "to", size=8)
    assert names(folder.load(tmp_path / "to")) == [f"class {c:02d}" for c in range(20)]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links here")
def test_a_class_folder_keeps_its_own_name_if_a_link_in_an_earlier_class_leads_to_it(tmp_path):
    root = write(tmp_path / "photos", photos())
    os.symlink("../class 05", root / "class 00" / "see also")
    import_folder(root, tmp_path / "to", size=8)
    assert names(folder.load(tmp_path / "to")) == [f"class {c:02d}" for c in range(20)]


def test_an_empty_source_is_refused(tmp_path):
    assert one_line(import_folder, "", tmp_path) == 'a path is ""; give "." for the working directory'
