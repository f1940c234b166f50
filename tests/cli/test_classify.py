"""`reptile-np classify`: class and probability of each image in both modes; every mistake is one line."""

import json
import shutil

import numpy as np
import pytest

import reptile_np
from reptile_np.cli import main
from reptile_np.experiments.image_files import read_images
from reptile_np.tasks import glyphs

Image = pytest.importorskip("PIL.Image")
RUN = "pretrained:glyphs-5way"
NAMES = ["ant", "bee", "cat", "dog", "elk"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two examples of five invented characters, and one new drawing of each, as PNG files of 105 x 105."""
    place = tmp_path_factory.mktemp("drawings")
    drawn = glyphs.draw(5, 3, np.random.default_rng(7))
    for c, name in enumerate(NAMES):
        for i, x in enumerate(drawn.images(c, np.arange(3))):
            file = place / (f"support/{name}/{i}.png" if i < 2 else f"{name}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray((x[..., 0] * 255).astype(np.uint8))
            grey.resize((105, 105), Image.Resampling.NEAREST).save(file)
    (place / "support/.DS_Store").touch()
    (place / "support/ant/.DS_Store").touch()
    return place


def classify(place, *arguments, images=None):
    files = [str(place / f"{name}.png") for name in (NAMES if images is None else images)]
    return main(["classify", RUN, "--support", str(place / "support"), *files, *arguments])


def test_the_answers_are_the_learner_s_in_both_modes(place, capsys):
    assert classify(place, "--json") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["classes"], result["examples"]) == (NAMES, 10)
    assert [image["image"] for image in result["images"]] == [str(place / f"{name}.png") for name in NAMES]

    def read(path):
        return read_images([path], "glyphs", (28, 28, 1))[0]

    learner = reptile_np.load(RUN)
    files = [place / f"support/{name}/{i}.png" for name in NAMES for i in range(2)]
    learner.fit(np.stack([read(file) for file in files]), np.repeat(NAMES, 2))
    new = np.stack([read(place / f"{name}.png") for name in NAMES])
    for mode in ("transductive", "non_transductive"):
        expected = learner.predict_proba(new, transductive=mode == "transductive")
        got = [[image[mode][name] for name in NAMES] for image in result["images"]]
        np.testing.assert_array_equal(got, expected)


def test_it_recognises_most_new_drawings(place, capsys):
    assert classify(place, "--json") == 0
    images = json.loads(capsys.readouterr().out.splitlines()[-1])["images"]
    best = [max(image["non_transductive"], key=image["non_transductive"].get) for image in images]
    assert sum(b == name for b, name in zip(best, NAMES, strict=True)) >= 4


def test_the_text_names_each_image_with_its_class_in_both_modes(place, capsys):
    assert classify(place, "--json", images=["cat"]) == 0
    (image,) = json.loads(capsys.readouterr().out.splitlines()[-1])["images"]
    assert classify(place, images=["cat"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"{place / 'cat.png'}:"
    for line, mode in zip(rest, ("non_transductive", "transductive"), strict=True):
        best = max(image[mode], key=image[mode].get)
        assert line.split() == [f"{mode.replace('_', '-')}:", best, f"{image[mode][best]:.1%}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda place: (place / "cat.png").write_bytes(b"x"), "cat.png: not an image"),
        (lambda place: (place / "cat.png").unlink(), "cat.png: cannot be read"),
        (lambda place: (place / "support/ant/0.png").write_bytes(b"x"), "ant/0.png: not an image"),
        (
            lambda place: (place / "support/fox").mkdir() or save(place / "support/fox/1.png"),
            "6 class folders",
        ),
        (
            lambda place: [shutil.rmtree(place / "support" / name) for name in NAMES[1:]],
            "1 class folder;",
        ),
        (
            lambda place: [f.rename(f.with_suffix(".raw")) for f in (place / "support/bee").iterdir()],
            "support/bee: no images that can be read",
        ),
        (lambda place: shutil.rmtree(place / "support"), "support: no such folder"),
    ],
)
def test_what_cannot_be_used_is_one_line(place, tmp_path, capsys, change, message):
    copy = tmp_path / "copy"
    shutil.copytree(place, copy)
    change(copy)
    assert classify(copy, images=["cat"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def save(path):
    Image.new("L", (28, 28)).save(path)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("absent", "no run here"),
        ("", "is a shell variable not set?"),
        ("~nosuchuser/x", "no such user"),
        ("pretrained:x", "no released"),
        ("pretrained:sine-maml", "waves"),
    ],
)
def test_a_run_that_cannot_classify_is_one_line(place, capsys, run, message):
    assert main(["classify", run, "--support", str(place / "support"), str(place / "cat.png")]) == 2
    assert message in capsys.readouterr().err
