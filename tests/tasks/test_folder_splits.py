"""A folder's classes are split at random, by a seed, or by a list; what does not fit is refused by name."""

import os
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from image_sets import jpeg, write

from reptile_np.tasks import folder
from reptile_np.tasks.folder import import_folder
from tests.tasks.photos import imported, photos, refusal, split_names

pytest.importorskip("PIL.Image", reason="decoding needs the extra images")


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


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_may_have_the_line_ends_of_any_system(tmp_path, end):
    (tmp_path / "splits.csv").write_bytes(
        end.join(["class,split", "class 00,train", "class 01,test", ""]).encode()
    )
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
