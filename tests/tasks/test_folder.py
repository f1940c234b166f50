"""A folder of anyone's images becomes a data set; whatever cannot be used is named in one line."""

import io
import os
import unicodedata
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from image_sets import jpeg, write

from reptile_np.errors import UsageError
from reptile_np.tasks import folder
from reptile_np.tasks.folder import import_folder
from tests.refusal import refusal as one_line

Image = pytest.importorskip("PIL.Image", reason="decoding needs the extra images")

FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]


def photos(classes=20, each=6, start=0):
    """Class folders of images of mixed sizes, formats and colours."""
    return {
        f"class {c:02d}/image {i}.{FORMATS[i % 6].lower()}": jpeg(
            start + 1000 * c + i, side=8 + 5 * i, format=FORMATS[i % 6], channels=3 if i % 2 else 1
        )
        for c in range(classes)
        for i in range(each)
    }


def imported(tmp_path, files, **more):
    """The data set and the lines that were said about it."""
    lines = []
    more.setdefault("size", 8)
    made = import_folder(write(tmp_path / "photos", files), tmp_path / "to", note=lines.append, **more)
    assert not any("\n" in line for line in lines)
    images = folder.load(tmp_path / "to", full=True)
    assert images.path == made
    assert list(images.manifest.left_out) == lines
    return images, lines


def names(images):
    return [images.name(c) for c in range(len(images))]


def split_names(images):
    return [names(part) if part is not None else [] for part in images.splits()]


refusal = partial(one_line, import_folder)


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


# Splits


@given(st.integers(0, 2**32), st.integers(2, 200))
@example(0, 14)
@example(0, 15)
def test_every_class_is_in_one_split_and_every_split_has_its_share(seed, count):
    classes = [str(c) for c in range(count)]
    split_of = folder._drawn(classes, seed)
    sizes = {split: list(split_of.values()).count(split) for split in ("train", "validation", "test")}
    assert sorted(split_of) == sorted(classes)
    if count < 15:
        assert sizes == {"train": count - count // 2, "validation": 0, "test": count // 2}
    else:
        assert min(sizes.values()) >= 5
        assert sizes["validation"] == max(5, round(0.16 * count))
        assert sizes["test"] == max(5, round(0.2 * count))
    assert split_of == folder._drawn(classes, seed)
    order = np.random.default_rng(seed).permutation(count).tolist()  # an import again draws the same
    assert list(split_of) == [classes[i] for i in order]
    assert list(split_of.values()) == [split for split, n in sizes.items() for _ in range(n)]


def test_a_list_may_have_empty_lines_and_a_byte_order_mark(tmp_path):
    text = "class,split\n\nclass 00,train\nclass 01,test\n\n"
    (tmp_path / "splits.csv").write_text(text, encoding="utf-8-sig")
    images, _ = imported(tmp_path, photos(2), splits=tmp_path / "splits.csv")
    assert split_names(images) == [["class 00"], [], ["class 01"]]


def test_an_import_without_a_whole_test_class_leaves_the_earlier_one_as_it_was(tmp_path):
    imported(tmp_path, photos(3))
    earlier = {path.name: path.read_bytes() for path in (tmp_path / "to").glob("images*")}
    damaged = {
        name: b"no image" if name.startswith("class 01/image 0") else x for name, x in photos(2).items()
    }
    (tmp_path / "splits.csv").write_text("class,split\nclass 00,train\nclass 01,test\n")
    source = write(tmp_path / "damaged", damaged)
    said = refusal(source, tmp_path / "to", splits=tmp_path / "splits.csv", size=8)
    assert "0 test classes with at least 6 usable images, 1 needed" in said
    small = write(tmp_path / "small", {name: x for name, x in photos(3).items() if "01/image 0" not in name})
    said = refusal(small, tmp_path / "to", splits=tmp_path / "splits.csv", size=8)
    assert "no test class has 6 images" in said
    assert {path.name: path.read_bytes() for path in (tmp_path / "to").glob("images*")} == earlier


def test_the_seed_draws_the_splits_and_is_recorded(tmp_path):
    one, two, again = (
        folder.load(import_folder(write(tmp_path / "photos", photos()), tmp_path / str(i), seed=seed))
        for i, seed in enumerate([0, 1, 0])
    )
    assert split_names(one) == split_names(again) != split_names(two)
    assert [len(part) for part in one.splits()] == [10, 5, 5]
    assert one.manifest.splits == "drawn with seed 0"


def test_a_list_gives_the_splits_and_classes_it_does_not_name_are_left_out(tmp_path):
    rows = ["class,split", "class 00,train", "class 01,test", "class 02,val", "class 03,validation"]
    (tmp_path / "splits.csv").write_text("\n".join(rows))
    images, lines = imported(tmp_path, photos(5), splits=tmp_path / "splits.csv")
    assert split_names(images) == [["class 00"], ["class 02", "class 03"], ["class 01"]]
    assert lines == ["class class 04: in no split; left out"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_list_may_write_an_accent_in_the_other_form(tmp_path, form):
    files = {
        f"{unicodedata.normalize(form, name)}/{i}.png": jpeg(ord(name) + i) for name in "Äé" for i in range(6)
    }
    (tmp_path / "splits.csv").write_text("class,split\nÄ,train\ne\N{COMBINING ACUTE ACCENT}, test\n")
    images, _ = imported(tmp_path, files, splits=tmp_path / "splits.csv")
    found = [[unicodedata.normalize("NFC", name) for name in part] for part in split_names(images)]
    assert found == [["Ä"], [], ["é"]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the first line is not class,split (with commas); begin the list with it"),
        ("name,split\n", "the first line is not class,split"),
        ("class;split\nclass 00;train\n", "the first line is not class,split (with commas)"),
        ("class,split\n\nclass 00\n", "line 3 has 1 fields instead of 2"),
        ("class,split\nclass 00,train\nclass 00,test\n", "class class 00 comes twice"),
        (
            "class,split\nclass 00,train\nclass 99,test\n",
            "has no folder of class class 99; the classes there are class 00, class 01",
        ),
        ("class,split\nclass 00,training\n", "split 'training'; give train, validation or test"),
        ("class,split\nclass 00,train\n", "no training or no test class"),
        ("class,split\nclass 00,test\n", "no training or no test class"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_by_name(tmp_path, text, says):
    (tmp_path / "splits.csv").write_text(text, encoding="utf-8")
    said = refusal(write(tmp_path / "photos", photos(2)), tmp_path / "to", splits=tmp_path / "splits.csv")
    assert said.startswith(f"{tmp_path / 'splits.csv'}: ")
    assert says in said


def test_a_list_that_is_not_there_or_not_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    write(tmp_path / "photos", photos(2))
    assert "No such file" in refusal(tmp_path / "photos", tmp_path / "to", splits=tmp_path / "none.csv")
    assert "not a regular file" in refusal(tmp_path / "photos", tmp_path / "to", splits=tmp_path / "fifo")
    assert "a folder; give a file" in refusal(tmp_path / "photos", tmp_path / "to", splits=tmp_path)
    (tmp_path / "latin.csv").write_bytes("class,split\nÄ,train\n".encode("latin-1"))
    said = refusal(tmp_path / "photos", tmp_path / "to", splits=tmp_path / "latin.csv")
    assert said == f"{tmp_path / 'latin.csv'}: not in UTF-8; save the list as CSV in UTF-8"


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


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links here")
def test_a_class_folder_keeps_its_own_name_beside_a_link_to_it(tmp_path):
    root = write(tmp_path / "photos", photos())
    os.symlink(root / "class 05", root / "another name")
    import_folder(root, tmp_path / "to", size=8)
    assert names(folder.load(tmp_path / "to")) == [f"class {c:02d}" for c in range(20)]


def test_an_empty_source_is_refused(tmp_path):
    assert one_line(import_folder, "", tmp_path) == 'a path is ""; give "." for the working directory'
