"""Mini-ImageNet that is damaged, incomplete or contradicts its lists is counted or refused."""

import lzma
import pickle

import pytest
from image_sets import jpeg, write

from reptile_np.errors import UsageError
from reptile_np.tasks import mini_imagenet
from reptile_np.tasks.mini_imagenet import import_mini_imagenet
from tests.tasks.mini_imagenet_miniature import (
    EACH,
    FORMS,
    IMAGES,
    LABELS,
    assert_is_the_miniature,
    flat,
    lists,
    of_split,
    refusal,
    split_tars,
    tarred,
)

pytest.importorskip("PIL.Image", reason="decoding needs the extra images")

# Bad images


@pytest.mark.parametrize("content", [b"", b"hello", IMAGES[min(IMAGES)][:700]])
def test_a_bad_jpeg_ends_the_import_by_name_and_is_skipped_only_on_request(tmp_path, content):
    victim = f"test/{LABELS['test'][1]}/{LABELS['test'][1]}00000003.jpg"
    more = {f"test/{LABELS['test'][1]}/one_more.jpg": jpeg(5)}
    source = write(tmp_path / "source", {**IMAGES, **more, victim: content})
    said = refusal(source, tmp_path / "to")
    assert said.startswith(f"{victim}: ")
    assert "--skip-bad" in said
    lines = []
    images = mini_imagenet.load(
        import_mini_imagenet(source, tmp_path / "to", note=lines.append, skip_bad=True)
    )
    assert lines[-1].startswith(f"{victim}: ")
    assert images.splits().test.count(1) == EACH


# Counts, names and lists


def test_a_class_in_two_splits_is_refused(tmp_path):
    source = write(tmp_path / "source", {**IMAGES, f"test/{LABELS['train'][0]}/x.jpg": jpeg(0)})
    assert f"class {LABELS['train'][0]} is in two splits" in refusal(source, tmp_path / "to")


def test_an_image_that_the_lists_do_not_have_is_refused(tmp_path):
    source = write(tmp_path / "source", FORMS["class folders and lists"]())
    write(source, {f"val/{LABELS['val'][0]}/other.jpg": jpeg(0)})
    assert "other.jpg is not in the list of validation images" in refusal(source, tmp_path / "to")


def test_an_image_in_the_folder_of_another_class_is_refused(tmp_path):
    source = write(tmp_path / "source", FORMS["class folders and lists"]())
    path = min(p for p in IMAGES if p.startswith("train"))
    (source / path).rename(source / "train" / LABELS["train"][1] / path.rpartition("/")[2])
    assert "is not in the list of train images" in refusal(source, tmp_path / "to")


def test_images_that_are_missing_from_the_lists_are_counted(tmp_path):
    extra = {f"train/{LABELS['train'][0]}/more{i}.jpg": b"" for i in range(7)}
    source = write(tmp_path / "source", {**flat(), **lists({**IMAGES, **extra})})
    notes = []
    import_mini_imagenet(source, tmp_path / "to", note=notes.append)
    assert "train: 7 images of the list are not there" in notes


def test_images_in_no_list_are_left_out_and_counted(tmp_path):
    source = write(tmp_path / "source", {**flat(), **lists(), "images/a.jpg": b"?", "images/b.jpg": b"?"})
    notes = []
    made = import_mini_imagenet(source, tmp_path / "to", note=notes.append)
    assert notes[0] == "2 images of no split, such as images/a.jpg; left out"
    assert_is_the_miniature(mini_imagenet.load(made))


@pytest.mark.parametrize("gone", ["the class", "one image"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_fewer_classes_than_a_task_of_five_ways_needs_are_refused_before_decoding(tmp_path, split, gone):
    label = LABELS[split][0]
    prefix = f"{split}/{label}/" + ("" if gone == "the class" else f"{label}00000000.jpg")
    source = write(tmp_path / "source", {p: c for p, c in IMAGES.items() if not p.startswith(prefix)})
    said = refusal(source, tmp_path / "to", progress=lambda *now: pytest.fail("decodes"))
    assert f"{source}: 4 {split} classes with at least 15 usable images, 5 needed" in said


def test_bad_images_that_leave_too_few_classes_are_refused_and_an_earlier_cache_is_as_it_was(tmp_path):
    source = write(tmp_path / "source", IMAGES)
    manifest = import_mini_imagenet(source, tmp_path / "to")
    before = manifest.read_bytes()
    write(source, {next(iter(IMAGES)): b"bad"})
    with pytest.raises(UsageError, match="4 train classes with at least 15 usable images, 5 needed"):
        import_mini_imagenet(source, tmp_path / "to", skip_bad=True)
    assert manifest.read_bytes() == before


def test_without_validation_classes_it_is_imported_and_says_so(tmp_path):
    source = write(tmp_path / "source", {p: c for p, c in IMAGES.items() if not p.startswith("val")})
    notes = []
    made = import_mini_imagenet(source, tmp_path / "to", note=notes.append)
    assert "validation: 0 of 16 classes" in notes
    assert mini_imagenet.load(made).splits().validation is None


def test_more_classes_or_images_than_mini_imagenet_has_are_refused(tmp_path, monkeypatch):
    source = write(tmp_path / "source", IMAGES)
    monkeypatch.setattr(mini_imagenet, "OFFICIAL_IMAGES", EACH - 1)
    assert f"class {LABELS['train'][0]} has more than 14 images" in refusal(source, tmp_path / "to")
    monkeypatch.setitem(mini_imagenet.OFFICIAL_CLASSES, "validation", 1)
    monkeypatch.setattr(mini_imagenet, "OFFICIAL_IMAGES", EACH)
    assert "2 validation classes; Mini-ImageNet has 1" in refusal(source, tmp_path / "to")


def test_a_class_with_too_few_images_is_left_out_by_name(tmp_path):
    label = LABELS["val"][1]
    images = {p: c for p, c in IMAGES.items() if not p.endswith(f"{label}00000000.jpg")}
    notes = []
    made = import_mini_imagenet(write(tmp_path / "source", images), tmp_path / "to", note=notes.append)
    assert notes[-1] == f"class {label}: too few usable images (14; at least 15 are needed); left out"
    assert len(mini_imagenet.load(made).splits().validation) == 1


def test_the_same_image_in_two_places_is_refused(tmp_path):
    path = min(IMAGES)
    source = write(tmp_path / "source", {**IMAGES, path.replace("test/", "test/again/test/"): IMAGES[path]})
    assert f"{path} is there twice" in refusal(source, tmp_path / "to")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"label,filename\n",
        b"filename,label\nx.jpg\n",
        b"filename,label\nx.jpg,a,b\n",
        b"filename,label\nx.jpg,a\nx.jpg,a\n",
        b"\xff\xfe",
        b'filename,label\n"' + b"x" * 200_000,
    ],
)
def test_a_list_that_is_not_one_is_refused_by_name(tmp_path, content):
    source = write(tmp_path / "source", {**flat(), **lists(), "val.csv": content})
    assert "val.csv: not a list of filenames and labels" in refusal(source, tmp_path / "to")


def test_an_image_in_two_lists_is_refused(tmp_path):
    both = lists()
    both["val.csv"] += both["test.csv"].partition(b"\n")[2]
    assert "an image is in two split lists" in refusal(
        write(tmp_path / "source", {**flat(), **both}), tmp_path / "to"
    )


# Hostile and wrong sources


def test_nothing_there_says_what_is_expected(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "expected train, val and test" in refusal(tmp_path / "empty", tmp_path / "to")
    assert "no such file or folder" in refusal(tmp_path / "nowhere", tmp_path / "to")


def test_pickles_are_refused_with_the_reason(tmp_path):
    name = "mini-imagenet-cache-train.pkl"
    source = write(tmp_path / "source", {name: pickle.dumps({"image_data": 0})})
    assert "only pickles, which can run any program" in refusal(source, tmp_path / "to")
    assert "a pickle, which can run any program" in refusal(source / name, tmp_path / "to")


def test_an_archive_without_images_is_refused(tmp_path):
    source = write(tmp_path / "source", {"all.tar": tarred({"notes.txt": b"x"})})
    assert "no image in a folder train/CLASS" in refusal(source / "all.tar", tmp_path / "to")


def test_a_hostile_member_is_refused_and_nothing_is_written_outside(tmp_path):
    hostile = {**of_split("train"), "../../outside.jpg": jpeg(0)}
    files = {**split_tars(".tar", bytes), "train.tar": tarred(hostile)}
    assert "is a path outside the archive" in refusal(write(tmp_path / "source", files), tmp_path / "to")
    assert not list(tmp_path.rglob("outside.jpg"))


def test_a_cut_archive_is_refused_by_name(tmp_path):
    files = split_tars(".tar.xz", lzma.compress)
    files["val.tar.xz"] = files["val.tar.xz"][:-3000]
    source = write(tmp_path / "source", files)
    assert f"{source / 'val.tar.xz'}: damaged or cut short" in refusal(source, tmp_path / "to")


def test_a_place_that_cannot_be_written_is_found_before_anything_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be made"):
        import_mini_imagenet(
            write(tmp_path / "source", IMAGES), tmp_path / "file" / "to", lambda *now: pytest.fail("read")
        )
