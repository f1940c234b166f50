"""Mini-ImageNet is the same in every form people keep it in, counted, and checked against its lists.

Most tests hold a miniature: 5, 2 and 5 classes of 15 images.  The last section needs the real one.
"""

import gzip
import io
import lzma
import pickle
import random
import tarfile
from typing import get_args

import numpy as np
import pytest
from image_sets import jpeg, write, zipped

from reptile_np.errors import UsageError
from reptile_np.tasks import mini_imagenet
from reptile_np.tasks.decoding import Filter
from reptile_np.tasks.mini_imagenet import import_mini_imagenet
from tests.refusal import refusal as one_line

Image = pytest.importorskip("PIL.Image", reason="decoding needs the extra images")

SIZES = {"train": 5, "val": 2, "test": 5}
EACH = 15
LABELS = {split: [f"n{i}{c:04d}" for c in range(size)] for i, (split, size) in enumerate(SIZES.items())}
IMAGES = {
    f"{split}/{label}/{label}{i:08d}.jpg": jpeg(int(label[1:]) * EACH + i)
    for split, labels in LABELS.items()
    for label in labels
    for i in range(EACH)
}


def lists(images=IMAGES):
    """The three CSV files that list these images, by name."""
    rows = {split: ["filename,label"] for split in SIZES}
    for path in sorted(images):
        split, label, filename = path.split("/")
        rows[split].append(f"{filename},{label}")
    return {f"{split}.csv": ("\n".join(lines) + "\n").encode() for split, lines in rows.items()}


def tarred(files):
    """A tar file whose members come in no order, after their folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("train")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for path in random.Random(0).sample(sorted(files), len(files)):
            info = tarfile.TarInfo(path)
            info.size = len(files[path])
            archive.addfile(info, io.BytesIO(files[path]))
    return buffer.getvalue()


def of_split(split, strip=0, images=IMAGES):
    return {p.split("/", strip)[-1]: c for p, c in images.items() if p.startswith(f"{split}/")}


def flat(images=IMAGES):
    return {f"images/{path.rpartition('/')[2]}": content for path, content in images.items()}


def split_tars(suffix, compress, strip=0):
    return {f"{split}{suffix}": compress(tarred(of_split(split, strip))) for split in SIZES}


FORMS = {
    "class folders": lambda: IMAGES,
    "class folders and lists": lambda: {**IMAGES, **{f"splits/{k}": v for k, v in lists().items()}},
    "class folders in mini-imagenet/": lambda: {f"mini-imagenet/{k}": v for k, v in IMAGES.items()},
    "tar.xz and lists": lambda: {
        **split_tars(".tar.xz", lzma.compress),
        **{f"splits/{k}": v for k, v in lists().items()},
    },
    "tar.gz without the split's folder": lambda: split_tars(".tar.gz", gzip.compress, strip=1),
    "plain tar": lambda: split_tars(".tar", bytes),
    "zip": lambda: {f"{split}.zip": zipped(of_split(split)) for split in SIZES},
    "images and lists": lambda: {**flat(), **lists()},
    "images.tar and lists in splits/": lambda: {
        "images.tar": tarred(flat()),
        **{f"splits/{k}": v for k, v in lists().items()},
    },
}
ARCHIVES = {
    "everything.tar.xz": lambda: lzma.compress(tarred({f"set/{k}": v for k, v in IMAGES.items()})),
    "images and lists.tgz": lambda: gzip.compress(tarred({**flat(), **lists()})),
    "images and lists.zip": lambda: zipped({**flat(), **lists()}),
}


@pytest.fixture(scope="module")
def expected():
    """Pixels by class name, from Pillow directly."""
    pixels = {}
    for path in sorted(IMAGES):
        split, label, _ = path.split("/")
        with Image.open(io.BytesIO(IMAGES[path])) as image:
            pixels.setdefault((split, label), []).append(np.asarray(image))
    return {key: np.array(images) for key, images in pixels.items()}


def assert_is_the_miniature(images, expected):
    assert images.image_shape == (84, 84, 3)
    splits = images.splits()
    for split, part in zip(("train", "val", "test"), splits, strict=True):
        assert [part.name(c) for c in range(len(part))] == LABELS[split]
        for c, label in enumerate(LABELS[split]):
            got = part.images(c, np.arange(part.count(c)))
            np.testing.assert_array_equal(got, expected[split, label] / np.float32(255))


def refusal(source, to, **more):
    said = one_line(import_mini_imagenet, source, to, **more)
    assert not (to / "mini-imagenet.json").exists()
    return said


# Forms


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_mini_imagenet(tmp_path, form, expected):
    notes = []
    made = import_mini_imagenet(write(tmp_path / "source", FORMS[form]()), tmp_path / "to", note=notes.append)
    assert_is_the_miniature(mini_imagenet.load(made), expected)
    assert_is_the_miniature(mini_imagenet.load(tmp_path / "to", full=True), expected)
    assert notes == [
        "train: 5 of 64 classes",
        "train: 75 of 3,000 images of these classes",
        "validation: 2 of 16 classes",
        "validation: 30 of 1,200 images of these classes",
        "test: 5 of 20 classes",
        "test: 75 of 3,000 images of these classes",
    ]


@pytest.mark.parametrize("name", ARCHIVES)
def test_one_archive_may_have_it_all(tmp_path, name, expected):
    path = tmp_path / name
    path.write_bytes(ARCHIVES[name]())
    assert_is_the_miniature(mini_imagenet.load(import_mini_imagenet(path, tmp_path / "to")), expected)


def test_one_of_the_three_archives_stands_for_all_three(tmp_path, expected):
    source = write(tmp_path / "source", split_tars(".tar.xz", lzma.compress))
    made = import_mini_imagenet(source / "val.tar.xz", tmp_path / "to")
    assert_is_the_miniature(mini_imagenet.load(made), expected)


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
def test_an_archive_of_the_images_is_read_with_the_lists_beside_it(tmp_path, name, pack, beside, expected):
    source = write(tmp_path / "source", {name: pack(flat()), **{beside + k: v for k, v in lists().items()}})
    made = import_mini_imagenet(source / name, tmp_path / "to")
    assert_is_the_miniature(mini_imagenet.load(made), expected)


def test_lists_beside_an_archive_of_another_name_are_not_its_own(tmp_path, expected):
    source = write(
        tmp_path / "source", {"all.tar": tarred(IMAGES), "train.csv": b"a table of something else"}
    )
    made = import_mini_imagenet(source / "all.tar", tmp_path / "to")
    assert_is_the_miniature(mini_imagenet.load(made), expected)


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


def test_what_was_imported_is_the_default(tmp_path, monkeypatch, expected):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with pytest.raises(UsageError, match="not imported on this machine; run: reptile-np data mini-imagenet"):
        mini_imagenet.load()
    import_mini_imagenet(write(tmp_path / "source", IMAGES))
    assert_is_the_miniature(mini_imagenet.load(), expected)


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


def test_files_of_other_kinds_do_not_matter(tmp_path, expected):
    more = {"train/.DS_Store": b"x", "train/n00000/._n0000000000000.jpg": b"x", "README": b"x"}
    made = import_mini_imagenet(write(tmp_path / "source", {**IMAGES, **more}), tmp_path / "to")
    assert_is_the_miniature(mini_imagenet.load(made), expected)


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


def changed(**removed_or_added):
    return {path: content for path, content in {**IMAGES, **removed_or_added}.items() if content is not None}


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


def test_images_in_no_list_are_left_out_and_counted(tmp_path, expected):
    source = write(tmp_path / "source", {**flat(), **lists(), "images/a.jpg": b"?", "images/b.jpg": b"?"})
    notes = []
    made = import_mini_imagenet(source, tmp_path / "to", note=notes.append)
    assert notes[0] == "2 images of no split, such as images/a.jpg; left out"
    assert_is_the_miniature(mini_imagenet.load(made), expected)


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
