"""The command `data`: each data set's options reach its import, and those of another are refused."""

import json

import pytest

from reptile_np.cli import main
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


def test_mini_imagenet_is_imported_and_a_bad_image_is_left_out_if_asked(tmp_path, capsys):
    pytest.importorskip("PIL")
    files = {
        f"{split}/{split}{c}/{i}.jpg": jpeg(1000 * s + 100 * c + i)
        for s, split in enumerate(("train", "val", "test"))
        for c in range(5)
        for i in range(16)
    }
    source = image_sets.write(tmp_path / "mini", files | {"train/train0/0.jpg": b"no image"})
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
        (["mini-imagenet", "--grey", "--from", "x"], "is for data folder"),
        (["mini-imagenet"], "--from is missing"),
        (["folder", "--from", "x"], "--to is missing"),
        (["mini-imagenet", "--from", "https://example.org/x"], "on this machine"),
    ],
)
def test_what_a_data_set_does_not_take_or_needs_is_said_in_one_line(arguments, says, capsys):
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_the_place_of_the_images_may_be_named_without_an_option_but_not_twice(classes, tmp_path, capsys):
    options = ["--size", 28, "--grey", "--to"]
    imported(capsys, "folder", classes, *options, tmp_path / "a")
    imported(capsys, "folder", "--from", classes, *options, tmp_path / "b")
    assert (tmp_path / "a/images.json").read_bytes() == (tmp_path / "b/images.json").read_bytes()
    assert main(["data", "folder", str(classes), "--from", "elsewhere", "--to", str(tmp_path / "c")]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_an_empty_path_is_refused(tmp_path, capsys):
    assert main(["data", "folder", "", "--to", str(tmp_path)]) == 2
    assert "an empty path; is a shell variable not set?" in capsys.readouterr().err
