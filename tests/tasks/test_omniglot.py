"""Omniglot is loaded bitwise identical, whatever form it comes in.

Most tests use a miniature in its place; the last section needs the real one.
"""

import dataclasses
import shutil
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omniglot_miniature import (
    FORMS,
    assert_is_the_miniature,
    flipped,
    miniature,
    official_zips,
    write_folders,
    write_zips,
)

from reptile_np.cli import main
from reptile_np.errors import UsageError
from reptile_np.tasks import omniglot, omniglot_files
from reptile_np.tasks.image_classes import ArrayClasses
from reptile_np.tasks.omniglot_files import SETS
from tests.refusal import refusal

pytestmark = pytest.mark.usefixtures("miniature_of_omniglot")


def test_the_command_imports_omniglot_and_says_what_it_has(tmp_path, capsys):
    source, to = write_zips(tmp_path / "source"), tmp_path / "to"
    assert main(["data", "omniglot", str(source), "--to", str(to)]) == 0
    characters, drawings = (
        omniglot.OFFICIAL.characters,
        omniglot.OFFICIAL.characters * omniglot.OFFICIAL.drawings_each,
    )
    line = f"{characters} characters, {drawings} images, verified, in {to / 'omniglot.json'}\n"
    assert capsys.readouterr().out == line


def test_a_cache_of_other_drawings_is_not_omniglot(tmp_path, monkeypatch):
    manifest = omniglot.import_omniglot(write_zips(tmp_path / "source"), tmp_path / "to")
    monkeypatch.setattr(omniglot, "OFFICIAL", dataclasses.replace(omniglot.OFFICIAL, sha256="0" * 64))
    with pytest.raises(UsageError, match="not Omniglot; run"):
        omniglot.load(manifest)


# What is loaded


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_omniglot(tmp_path, form):
    assert_is_the_miniature(omniglot.load(FORMS[form](tmp_path / "source")))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_can_be_imported(tmp_path, form):
    made = omniglot.import_omniglot(FORMS[form](tmp_path / "source"), tmp_path / "to")
    assert_is_the_miniature(omniglot.load(made))
    assert_is_the_miniature(omniglot.load(tmp_path / "to"))


def test_what_was_imported_is_the_default(tmp_path):
    omniglot.import_omniglot(write_zips(tmp_path / "source"))
    assert_is_the_miniature(omniglot.load())


def test_importing_counts_the_drawings(tmp_path):
    seen = []
    omniglot.import_omniglot(write_zips(tmp_path / "source"), None, lambda *now: seen.append(now))
    assert seen == [("decoding", i, 20) for i in range(1, 21)]


def test_files_that_are_no_drawings_do_not_matter(tmp_path):
    folder = write_folders(tmp_path / "source")
    (folder / "images_background" / "Greek" / "character01" / "._0001_01.png").write_bytes(b"Finder")
    (folder / "images_background" / ".DS_Store").write_bytes(b"Finder")
    assert_is_the_miniature(omniglot.load(folder))


# Decoded once


def without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)


def test_decoding_is_done_once(tmp_path, monkeypatch):
    source = write_zips(tmp_path / "source")
    omniglot.load(source)
    without_pillow(monkeypatch)
    assert_is_the_miniature(omniglot.load(source))


def test_the_source_is_only_read(tmp_path):
    source = write_zips(tmp_path / "source")
    omniglot.load(source)
    assert {path.stem for path in source.iterdir()} == set(SETS)


def test_a_warm_cache_does_not_excuse_a_wrong_source(tmp_path):
    omniglot.load(write_zips(tmp_path / "right"))
    wrong = write_zips(tmp_path / "wrong", official_zips(miniature(first_seed=1000)[0]))
    assert "the images are not" in refusal(omniglot.load, wrong)
    assert_is_the_miniature(omniglot.load())


def test_a_cache_folder_that_cannot_be_made_is_refused_by_name(tmp_path):
    (tmp_path / "home").write_bytes(b"a file where the folder should be")
    said = refusal(omniglot.load, write_zips(tmp_path / "source"))
    assert f"{tmp_path / 'home'}" in said
    assert "choose another --to" in said


# Splits


class Numbered:
    """As many classes as Omniglot has, without images."""

    image_shape = (28, 28, 1)

    def __len__(self):
        return 1623

    def name(self, c):
        return str(c)


def test_1200_characters_are_for_training_and_the_other_423_for_test_in_the_order_of_one_permutation():
    train, validation, test = omniglot.splits(np.random.default_rng(7), Numbered())
    order = np.random.default_rng(7).permutation(1623).tolist()
    assert validation is None
    assert [train.name(c) for c in range(len(train))] == list(map(str, order[:1200]))
    assert [test.name(c) for c in range(len(test))] == list(map(str, order[1200:]))


def test_without_pillow_decoding_says_what_to_install(tmp_path, monkeypatch):
    without_pillow(monkeypatch)
    source = write_zips(tmp_path / "source")
    assert "pip install pillow" in refusal(omniglot.load, source)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_cut_cache_is_refused_and_made_again(tmp_path, data):
    source = tmp_path / "source"
    if not source.exists():
        write_zips(source)
    manifest = omniglot.import_omniglot(source)
    made = data.draw(st.sampled_from([manifest, *manifest.parent.glob("*.npy")]))
    whole = made.read_bytes()
    made.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert "import" in refusal(omniglot.load)
    assert_is_the_miniature(omniglot.load(source))
    assert_is_the_miniature(omniglot.load())
    assert made.read_bytes() == whole


@pytest.mark.parametrize("suffix", [".json", ".npy"])
def test_a_cache_with_any_flipped_bit_is_refused(tmp_path, suffix):
    manifest = omniglot.import_omniglot(write_zips(tmp_path / "source"), tmp_path / "to")
    made = next(manifest.parent.glob(f"*{suffix}"))
    whole = made.read_bytes()
    for position in [*range(128), *range(128, len(whole), 41)]:  # 128: all of the header of the pixels
        made.write_bytes(flipped(whole, position, position % 8))
        refusal(omniglot.load, manifest)


# The splits


def characters(part):
    return [part.name(c) for c in range(len(part))]


def test_finns_split_has_the_test_characters_of_the_other_and_divides_its_training_characters():
    classes = ArrayClasses(np.zeros((1623, 1, 1), bool), np.arange(1623))
    training, validation, test = omniglot.splits_in_three(np.random.default_rng(3), classes, 1100)
    train, none, same = omniglot.splits(np.random.default_rng(3), classes)
    assert none is None
    assert [len(training), len(validation), len(test)] == [1100, 100, 423]
    assert characters(test) == characters(same)
    assert {*characters(training), *characters(validation)} == {*characters(train)}


def test_a_split_that_leaves_no_character_for_validation_is_refused():
    said = refusal(omniglot.splits_in_three, np.random.default_rng(0), None, 1200)
    assert said == "Omniglot: 1200 training characters; give 1 to 1199"


@pytest.mark.parametrize("train", [0, 1.5, None, True])
def test_training_characters_are_a_whole_number(train):
    said = refusal(omniglot.splits_in_three, np.random.default_rng(0), None, train)
    assert said == f"Omniglot: train is {train}; give a whole number of at least 1"


# The real one


def test_the_real_omniglot_is_1623_characters_of_20_drawings(drawings):
    assert len(drawings) == 1623
    assert {drawings.count(c) for c in range(1623)} == {20}
    assert drawings.image_shape == (28, 28, 1)
    names = [drawings.name(c) for c in range(1623)]
    assert names == sorted(names)
    assert len({name.split("/")[0] for name in names}) == 50


def test_its_two_sets_have_964_and_659_characters(data):
    characters = [
        {key.rpartition("/")[0] for key, _ in omniglot_files.read([part])}
        for part in omniglot_files.find(data)
    ]
    assert list(map(len, characters)) == [964, 659]


def test_its_drawings_are_thin_ink_on_paper(drawings):
    paper = [drawings.images(c, np.arange(20)).mean() for c in range(0, 1623, 50)]
    assert min(paper) > 0.8
    assert max(paper) < 1


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_real_zip_is_refused_by_name(data, tmp_path, share):
    for name in SETS:
        shutil.copyfile(data / "omniglot" / f"{name}.zip", tmp_path / f"{name}.zip")
    broken = tmp_path / "images_evaluation.zip"
    content = broken.read_bytes()
    broken.write_bytes(content[: int(share * len(content))])
    assert str(broken) in refusal(omniglot.load, tmp_path)
