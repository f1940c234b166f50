"""A source that is not Omniglot is refused in one line."""

import numpy as np
import pytest
from image_sets import zipped
from omniglot_miniature import (
    ZIPS,
    assert_is_the_miniature,
    flipped,
    miniature,
    official_zips,
    png,
    scan,
    write_folders,
    write_zips,
)

from reptile_np.errors import UsageError
from reptile_np.tasks import omniglot
from reptile_np.tasks.omniglot_files import SETS
from tests.refusal import refusal

pytestmark = pytest.mark.usefixtures("miniature_of_omniglot")


# Bad sources


def test_nothing_there_says_how_to_get_it(tmp_path):
    assert "reptile-np data omniglot" in refusal(omniglot.load)
    assert "no such file or folder" in refusal(omniglot.load, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "images_background.zip" in refusal(omniglot.load, tmp_path / "empty")


@pytest.mark.parametrize("missing", SETS)
def test_half_of_omniglot_is_refused_by_the_missing_name(tmp_path, missing):
    source = write_zips(tmp_path / "source")
    (source / f"{missing}.zip").unlink()
    assert f"{missing}.zip is missing" in refusal(omniglot.load, source)


@pytest.mark.parametrize("cut", range(0, len(ZIPS["images_background"]), 401))
def test_a_zip_cut_anywhere_is_refused_by_name(tmp_path, cut):
    source = write_zips(tmp_path / "source")
    broken = source / "images_background.zip"
    broken.write_bytes(ZIPS["images_background"][:cut])
    assert str(broken) in refusal(omniglot.load, source)
    assert not list((tmp_path / "home").rglob("*.json"))


def test_a_zip_with_any_flipped_bit_is_refused_or_still_omniglot(tmp_path):
    source, whole, refused = write_zips(tmp_path / "source"), ZIPS["images_evaluation"], 0
    positions = range(0, len(whole), 23)
    for position in positions:
        (source / "images_evaluation.zip").write_bytes(flipped(whole, position, position % 8))
        try:
            assert_is_the_miniature(omniglot.load(source))  # the flip was in a date or an attribute
        except UsageError:
            refused += 1
    assert refused > len(positions) / 2


def test_a_file_that_is_no_zip_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"hello")
    assert "not a whole zip" in refusal(omniglot.load, tmp_path / "file")


def test_a_zip_of_something_else_is_refused(tmp_path):
    (tmp_path / "other.zip").write_bytes(zipped({"notes.txt": b"hello"}))
    assert "0 characters, but Omniglot has 5" in refusal(omniglot.load, tmp_path / "other.zip")


def test_a_missing_drawing_is_refused_by_its_character(tmp_path):
    source = write_folders(tmp_path / "source")
    next((source / "images_background" / "Greek" / "character02").iterdir()).unlink()
    assert "3 drawings of Greek/character02, but Omniglot has 4" in refusal(omniglot.load, source)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an image"),
        (b"hello", "not an image"),
        (png(scan(0))[:60], "truncated"),
        (png(scan(0))[:20], "cannot be decoded"),
        (png(scan(0)[:50]), "105 x 50 pixels"),
        (png(scan(0).astype(np.uint8) * 255), "mode L"),
    ],
)
def test_a_drawing_that_is_not_one_is_refused_by_name(tmp_path, content, says):
    source = write_folders(tmp_path / "source")
    path = next((source / "images_evaluation" / "Avesta" / "character01").iterdir())
    path.write_bytes(content)
    said = refusal(omniglot.load, source)
    assert f"Avesta/character01/{path.name}" in said
    assert says in said


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    source = write_zips(tmp_path / "source")
    bomb = zipped({"images_background/Greek/character01/0001_01.png": bytes(10**7)})
    (source / "images_background.zip").write_bytes(bomb)
    assert "has 10,000,000 bytes, the limit is 65,536" in refusal(omniglot.load, source)


def test_a_failed_import_leaves_what_was_there(tmp_path):
    to = tmp_path / "to"
    before = omniglot.import_omniglot(write_zips(tmp_path / "right"), to).read_bytes()
    wrong = write_zips(tmp_path / "wrong", official_zips(miniature(first_seed=1000)[0]))
    refusal(omniglot.import_omniglot, wrong, to)
    assert (to / "omniglot.json").read_bytes() == before
    assert_is_the_miniature(omniglot.load(to))


def test_a_place_that_cannot_be_written_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    said = refusal(omniglot.import_omniglot, write_zips(tmp_path / "source"), tmp_path / "file" / "to")
    assert str(tmp_path / "file" / "to") in said
