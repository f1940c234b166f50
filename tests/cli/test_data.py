"""The command `data`: each data set's options reach its import, and those of another are refused."""

import json
import re

import pytest

from reptile_np.cli import main
from reptile_np.experiments import progress
from reptile_np.tasks import folder, image_cache
from tests.tasks import image_sets
from tests.tasks.image_sets import jpeg


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Sixteen class folders of eight images."""
    pytest.importorskip("PIL")
    files = {f"{c}/{i}.png": jpeg(100 * c + i, 30, "PNG") for c in range(16) for i in range(8)}
    return image_sets.write(tmp_path_factory.mktemp("classes"), files)


def imported(capsys, *arguments):
    assert main(["data", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_folder_is_imported_with_its_size_colour_and_seed_and_can_be_trained_on(classes, tmp_path, capsys):
    options = ["folder", "--from", classes, "--size", 28, "--grey", "--seed"]
    first = imported(capsys, *options, 0, "--to", tmp_path / "a")
    assert (first["classes"], first["images"]) == (16, 128)
    assert first["splits"] == {"train": 6, "validation": 5, "test": 5}
    imported(capsys, *options, 1, "--to", tmp_path / "b")
    assert (tmp_path / "a/images.json").read_text() != (tmp_path / "b/images.json").read_text()
    settings = ["outer.steps=1", "evaluation.tasks=1", "tasks.shots=5", "filters=2"]
    more = [part for setting in settings for part in ("--set", setting)]
    more += ["--ops", "numpy", "--data", str(tmp_path / "a"), "--quiet"]
    assert main(["train", "images-5way", *more]) == 0
    run = str(tmp_path / "run")
    assert main(["train", "omniglot-5way", "--set", "tasks.source=folder", *more, "--out", run]) == 0
    capsys.readouterr()
    evaluate = ["evaluate", run, "--tasks", "1", "--ops", "numpy", "--data", str(tmp_path / "a"), "--json"]
    assert main(evaluate) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["tasks"] == 1


def test_the_splits_of_a_folder_may_be_given(classes, tmp_path, capsys):
    rows = [f"{c},{'train' if c < 10 else 'test'}" for c in range(15)]
    (tmp_path / "splits.csv").write_text("\n".join(["class,split", *rows, ""]))
    command = ["folder", "--from", classes, "--to", tmp_path / "out", "--splits", tmp_path / "splits.csv"]
    assert imported(capsys, *command)["splits"] == {"train": 10, "test": 5}


def test_a_folder_is_imported_into_the_cache_folder_where_a_preset_finds_it(
    classes, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = ["outer.steps=1", "evaluation.tasks=1", "tasks.shots=5", "filters=2"]
    train = ["train", "images-5way", "--ops", "numpy", "--quiet"]
    train += [part for setting in settings for part in ("--set", setting)]
    assert main(train) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "run: reptile-np data folder DIR (for images-5way with --size 28 --grey)" in errors[0]
    imported(capsys, "folder", classes)
    assert folder.load().image_shape == (84, 84, 3)  # unless another size is asked for
    result = imported(capsys, "folder", classes, "--size", 28, "--grey")
    assert result["file"] == str(tmp_path / "reptile_np" / "images.json")
    assert main(train) == 0


def mini_imagenet_files(side=84):
    """Five classes of 16 images for each split."""
    pytest.importorskip("PIL")
    return {
        f"{split}/{split}{c}/{i}.jpg": jpeg(1000 * s + 100 * c + i, side)
        for s, split in enumerate(("train", "val", "test"))
        for c in range(5)
        for i in range(16)
    }


def test_mini_imagenet_is_resized_by_the_filter_that_is_asked_for(tmp_path, capsys):
    source = image_sets.write(tmp_path / "mini", mini_imagenet_files(side=30))
    for given, filter in (((), "lanczos"), (("--filter", "nearest"), "nearest")):
        to = tmp_path / filter
        assert main(["data", "mini-imagenet", str(source), "--to", str(to), *given]) == 0
        assert capsys.readouterr().out == (
            "15 classes (5 train, 5 validation, 5 test), 240 images of 84 x 84 "
            f"(other sizes resized: {filter}), verified, in {to / 'mini-imagenet.json'}\n"
        )
        assert json.loads((to / "mini-imagenet.json").read_text())["conversion"]["filter"] == filter
    for wrong in ("box", ""):
        assert main(["data", "mini-imagenet", str(source), "--filter", wrong]) == 2
        assert f"filter {wrong}: give nearest, bilinear, bicubic, lanczos" in capsys.readouterr().err


def test_the_last_line_names_the_size_and_the_filter_of_a_folder(classes, tmp_path, capsys):
    assert main(["data", "folder", str(classes), "--size", "28", "--to", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        "16 classes (6 train, 5 validation, 5 test), 128 images of 28 x 28 (other sizes resized: bicubic), "
        f"verified, in {tmp_path / 'images.json'}\n"
    )


def test_mini_imagenet_is_imported_and_a_bad_image_is_left_out_if_asked(tmp_path, capsys):
    source = image_sets.write(tmp_path / "mini", mini_imagenet_files() | {"train/train0/0.jpg": b"no image"})
    command = ["mini-imagenet", "--from", source, "--to", tmp_path / "out"]
    assert main(["data", *map(str, command)]) == 2
    assert "--skip-bad" in capsys.readouterr().err
    result = imported(capsys, *command, "--skip-bad")
    assert (result["images"], result["splits"]) == (239, {"train": 5, "validation": 5, "test": 5})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["omniglot", "--size", "28"], "data omniglot --size: is for data folder"),
        (["omniglot", "--seed", "0"], "data omniglot --seed: is for data folder"),
        (["omniglot", "--skip-bad"], "data omniglot --skip-bad: is for data mini-imagenet"),
        (["folder", "--skip-bad", "--from", "x", "--to", "y"], "is for data mini-imagenet"),
        (["omniglot", "--filter", "nearest"], "data omniglot --filter: is for data mini-imagenet"),
        (["folder", "x", "--filter", "nearest"], "data folder --filter: is for data mini-imagenet"),
        (["mini-imagenet", "--grey", "--from", "x"], "is for data folder"),
        (["folder", "x", "--splits", "s.csv", "--seed", "0"], "--seed and --splits"),
        (["mini-imagenet"], "--from is missing"),
        (["folder"], "--from is missing"),
        (
            ["mini-imagenet", "--from", "https://example.org/x"],
            "x: give the address of an archive (.zip, .tar,",
        ),
        (["folder", "--from", "ftp://example.org/x.zip"], "x.zip: only http and https addresses are read"),
        (["omniglot", "--from", "file:///x.zip"], "x.zip: only http and https addresses are read"),
    ],
)
def test_what_a_data_set_does_not_take_or_needs_is_said_in_one_line(arguments, says, capsys):
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_too_few_classes_for_the_presets_are_noted_after_the_import(tmp_path, capsys):
    photos = {f"{c}/{i}.png": jpeg(10 * c + i) for c in range(9) for i in range(6)}
    source = image_sets.write(tmp_path / "photos", photos)
    assert main(["data", "folder", str(source), "--size", "8", "--to", str(tmp_path / "to")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "reptile-np: test classes: only 4; the presets of 5-way tasks need 5"


def test_too_few_training_classes_are_noted_too(classes, tmp_path, capsys):
    rows = [f"{c},{'train' if c < 4 else 'test'}" for c in range(9)]
    (tmp_path / "splits.csv").write_text("\n".join(["class,split", *rows, ""]))
    options = ["--splits", str(tmp_path / "splits.csv"), "--size", "8", "--to", str(tmp_path / "to")]
    assert main(["data", "folder", str(classes), *options]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "reptile-np: train classes: only 4; the presets of 5-way tasks need 5"


def test_the_place_of_the_images_may_be_named_without_an_option_but_not_twice(classes, tmp_path, capsys):
    options = ["--size", 28, "--grey", "--to"]
    imported(capsys, "folder", classes, *options, tmp_path / "a")
    imported(capsys, "folder", "--from", classes, *options, tmp_path / "b")
    imported(capsys, "folder", "--size", 28, "--grey", classes, "--to", tmp_path / "c")
    imported(capsys, "folder", *options, tmp_path / "d", classes)
    first, *others = [(tmp_path / name / "images.json").read_bytes() for name in "abcd"]
    assert others == [first] * 3
    assert main(["data", "folder", str(classes), "--from", "elsewhere", "--to", str(tmp_path / "e")]) == 2
    assert "give one of them" in capsys.readouterr().err
    for wrong in (["--grey", "x", "y"], ["x", "--grey", "y"]):
        assert main(["data", "folder", *wrong, "--to", str(tmp_path / "e")]) == 2
        assert re.search(
            r"unrecognized arguments: y \(see: .* data --help\)$", capsys.readouterr().err.strip()
        )
    assert main(["data", "folder", "--grey", "--bad", "x", "--to", str(tmp_path / "e")]) == 2
    assert "unrecognized arguments: --bad" in capsys.readouterr().err
    assert main(["data", "omniglot", "--to", str(tmp_path / "e"), "~nosuchuser"]) == 2
    assert "no such user" in capsys.readouterr().err


def test_an_empty_path_is_refused(tmp_path, capsys):
    assert main(["data", "folder", "", "--to", str(tmp_path)]) == 2
    assert "is empty; is a shell variable not set?" in capsys.readouterr().err


def test_a_quiet_import_shows_no_progress(classes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    said = []
    for more in ([], ["--quiet"]):
        assert main(["data", "folder", str(classes), "--to", str(tmp_path / f"a{len(more)}"), *more]) == 0
        said.append(capsys.readouterr().err)
    assert "/128" in said[0]
    assert said[1] == ""


def test_the_images_that_are_called_verified_were_read_whole(classes, tmp_path, monkeypatch):
    read, load = [], image_cache.load
    monkeypatch.setattr(image_cache, "load", lambda m, full=False: read.append(full) or load(m, full=full))
    assert main(["data", "folder", str(classes), "--to", str(tmp_path)]) == 0
    assert read[-1]


def test_a_split_of_just_enough_classes_is_not_noted(classes, tmp_path, capsys):
    assert main(["data", "folder", str(classes), "--to", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "5 test" in out
    assert "only 5" not in err
