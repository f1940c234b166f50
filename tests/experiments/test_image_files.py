"""A user's image files are converted as the data set of the run was."""

import io
import os
from zipfile import ZipFile

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments.image_files import class_folders, read_images
from reptile_np.tasks import folder as image_folder
from reptile_np.tasks import omniglot_files

Image = pytest.importorskip("PIL.Image")
CHARACTER, COLOUR = (28, 28, 1), (20, 20, 3)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def drawing(rng):
    return rng.random((105, 105)) < 0.8


def test_a_drawing_of_omniglot_is_read_as_the_data_set_s(tmp_path, drawing):
    path = save(tmp_path / "a.png", drawing)
    expected = omniglot_files.decode("a.png", path.read_bytes())
    np.testing.assert_array_equal(read_images([path], "omniglot", CHARACTER)[0], expected * 255)


def test_every_500th_image_of_real_omniglots_evaluation_set_is_read_as_the_data_set_s(tmp_path, data):
    (archive,) = list(data.rglob("images_evaluation.zip"))[:1] or [pytest.skip("no images_evaluation.zip")]
    with ZipFile(archive) as names:
        for name in [n for n in names.namelist() if n.endswith(".png")][::500]:
            path = tmp_path / "x.png"
            path.write_bytes(names.read(name))
            expected = omniglot_files.decode(name, path.read_bytes())
            np.testing.assert_array_equal(read_images([path], "omniglot", CHARACTER)[0], expected * 255)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("source", ["omniglot", "glyphs"])
def test_dark_ink_on_light_paper_becomes_0_and_255_in_any_mode(tmp_path, drawing, mode, source):
    path = tmp_path / "a.png"
    Image.fromarray(np.where(drawing, np.uint8(128), np.uint8(127))).convert(mode).save(path)
    got = read_images([path], source, CHARACTER)[0]
    np.testing.assert_array_equal(got, omniglot_like(drawing) * 255)


def omniglot_like(drawing):
    file = io.BytesIO()
    Image.fromarray(drawing).save(file, "PNG")
    return omniglot_files.decode("a.png", file.getvalue())


def test_a_large_scan_of_a_thin_line_keeps_its_line(tmp_path):
    paper = np.full((1050, 1400), 255, np.uint8)
    paper[300:750, 690:730] = 0
    got = read_images([save(tmp_path / "a.png", paper)], "omniglot", CHARACTER)[0]
    assert (got == 0).sum() in range(10, 30)


def test_other_images_are_converted_as_an_imported_folder_s(tmp_path, rng):
    """The first image of each class, against what `import_folder` stores."""
    for c in "ab":
        for i in range(6):
            pixels = rng.integers(0, 256, (30 + i, 41, 3), np.uint8)
            lying = Image.Exif()
            lying[0x0112] = 6  # as a telephone that was held upright stores a photo
            save(tmp_path / "in" / c / f"{i}.png", pixels, exif=lying)
    manifest = image_folder.import_folder(tmp_path / "in", tmp_path / "out", size=20)
    images = image_folder.load(manifest)
    for c, name in enumerate("ab"):
        stored = images.images(c, np.arange(6))
        files = sorted((tmp_path / "in" / name).iterdir())
        read = read_images(files, "mini-imagenet", COLOUR)
        np.testing.assert_array_equal(read.astype(np.float32) / np.float32(255), stored)


def damaged(tmp_path):
    whole = save(tmp_path / "whole.png", np.zeros((30, 30), np.uint8)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:40])
    (tmp_path / "text.png").write_bytes(b"not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    return ["cut.png", "text.png", "empty.png", "folder.png", "pipe.png", "absent.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_every_file_that_is_no_image_is_one_line_that_names_it(tmp_path):
    for name in damaged(tmp_path):
        with pytest.raises(UsageError, match=name) as error:
            read_images([tmp_path / name], "omniglot", CHARACTER)
        assert "\n" not in str(error.value)


def test_a_file_of_more_than_128_mib_is_refused_unread(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**27 + 1)  # sparse
    with pytest.raises(UsageError, match=r"a\.png: 134,217,729 bytes, the limit is 134,217,728$"):
        read_images([tmp_path / "a.png"], "omniglot", CHARACTER)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def test_class_folders_are_sorted_and_other_files_are_skipped(tmp_path, capsys):
    touch(tmp_path, "b/2.png", "b/1.PNG", "a/x.jpg", "a/.hidden.png", ".git/c.png", "lone.png")
    got = class_folders(tmp_path)
    assert list(got) == ["a", "b"]
    assert {name: [file.name for file in files] for name, files in got.items()} == {
        "a": ["x.jpg"],
        "b": ["1.PNG", "2.png"],
    }
    assert capsys.readouterr().err == ""


def test_files_of_a_class_that_are_not_images_are_skipped_with_a_notice(tmp_path, capsys):
    touch(tmp_path, "a/x.jpg", "a/notes.txt", "b/1.png", "b/2.raw")
    assert {name: len(files) for name, files in class_folders(tmp_path).items()} == {"a": 1, "b": 1}
    kinds = "2 skipped (1 .txt, 1 .raw)"
    first = tmp_path / "a" / "notes.txt"
    says = f"reptile-np: files of no image format that is read here: {kinds}, such as {first}"
    assert capsys.readouterr().err.splitlines() == [says]


def test_folders_inside_a_class_folder_are_skipped_and_the_first_is_named(tmp_path, drawing, capsys):
    save(tmp_path / "a" / "a.png", drawing)
    save(tmp_path / "a" / "more" / "b.png", drawing)
    save(tmp_path / "a" / "nested.png" / "b.png", drawing)
    assert class_folders(tmp_path) == {"a": [tmp_path / "a" / "a.png"]}
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith(f"folders inside class folders: 2 skipped, such as {tmp_path / 'a' / 'more'}")


@pytest.mark.parametrize("files", [[], ["a.txt", "b.raw"], [".hidden.png"]])
def test_a_class_folder_without_images_is_refused_by_name(tmp_path, files):
    touch(tmp_path, "ant/1.png", "bee/1.png")
    (tmp_path / "cat").mkdir()
    touch(tmp_path, *(f"cat/{name}" for name in files))
    with pytest.raises(UsageError, match=r"cat: no images that can be read, .* or remove the folder$"):
        class_folders(tmp_path)


@pytest.mark.parametrize(
    ("place", "message"), [("absent", "no such folder"), (".", "no class folders with images")]
)
def test_a_folder_without_classes_is_refused(tmp_path, place, message):
    with pytest.raises(UsageError, match=message):
        class_folders(tmp_path / place)
