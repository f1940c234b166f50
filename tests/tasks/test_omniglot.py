"""Omniglot is loaded bitwise identical, whatever form it comes in, or refused in one line.

Most tests hold a miniature: 3 characters in one set, 2 in the other, 4 drawings of
each, in the official layout.  The last section needs the real one.
"""

import dataclasses
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from http_server import Behaviour, serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_sets import write, zipped

from reptile_np.cli import main
from reptile_np.errors import UsageError
from reptile_np.tasks import omniglot, omniglot_files
from reptile_np.tasks.image_classes import ArrayClasses
from reptile_np.tasks.omniglot_files import SETS
from tests.refusal import refusal

Image = pytest.importorskip("PIL.Image", reason="decoding Omniglot needs the extra images")

CHARACTERS = {
    "images_background": ["Greek/character01", "Greek/character02", "Zulu/character01"],
    "images_evaluation": ["Avesta/character01", "Oriya/character07"],
}
DRAWINGS = 4


def scan(seed):
    """A 105 x 105 bitmap of noise: every pixel that is sampled wrongly shows."""
    return np.random.default_rng(seed).random((105, 105)) < 0.8


def png(bits):
    file = io.BytesIO()
    Image.fromarray(bits).save(file, "PNG")
    return file.getvalue()


def miniature(first_seed=0):
    """{set: {path below the set: PNG file}}, and {character: 105 x 105 bitmaps}."""
    files, scans = {}, {}
    for name, characters in CHARACTERS.items():
        files[name] = {}
        for character in characters:
            for drawing in range(1, DRAWINGS + 1):
                bits = scan(first_seed + sum(map(len, files.values())))
                scans.setdefault(character, []).append(bits)
                files[name][f"{character}/{len(scans):04d}_{drawing:02d}.png"] = png(bits)
    return files, {character: np.array(bits) for character, bits in scans.items()}


FILES, SCANS = miniature()
SAMPLED = ((2 * np.arange(28) + 1) * 105) // 56  # the scan row under the middle of each of 28 rows


def expected_pixels(character):
    return SCANS[character][:, SAMPLED][:, :, SAMPLED]


def content_of_the_miniature():
    """The specification of the digest: names and counts as JSON; then 28 x 28 bytes per drawing."""
    names = sorted(SCANS)
    pixels = np.array([expected_pixels(name) for name in names], np.uint8)
    text = json.dumps([[name, DRAWINGS] for name in names]).encode()
    return omniglot.Content(len(names), DRAWINGS, hashlib.sha256(text + pixels.tobytes()).hexdigest())


def official_zips(files=FILES):
    return {
        name: zipped({f"{name}/{path}": content for path, content in files[name].items()}) for name in SETS
    }


ZIPS = official_zips()


@pytest.fixture(autouse=True)
def miniature_world(monkeypatch, tmp_path, request):
    """Miniature content, and a cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    if "data" not in request.fixturenames:
        monkeypatch.setattr(omniglot, "OFFICIAL", content_of_the_miniature())


def write_zips(folder, zips=ZIPS):
    folder.mkdir(parents=True)
    for name, content in zips.items():
        (folder / f"{name}.zip").write_bytes(content)
    return folder


def write_folders(folder, prefix=True):
    for name in SETS:
        write(folder / name if prefix else folder, FILES[name])
    return folder


def write_one_zip(folder):
    entries = {f"omniglot-master/{name}/{p}": c for name in SETS for p, c in FILES[name].items()}
    folder.mkdir()
    (folder / "everything.zip").write_bytes(zipped(entries))
    return folder / "everything.zip"


FORMS = {
    "zips": write_zips,
    "zips in omniglot/": lambda f: write_zips(f / "omniglot").parent,
    "zips in python/": lambda f: write_zips(f / "python").parent,
    "one of the zips": lambda f: write_zips(f) / "images_evaluation.zip",
    "folders": write_folders,
    "folders in omniglot/python/": lambda f: write_folders(f / "omniglot" / "python").parent.parent,
    "alphabets together": lambda f: write_folders(f, prefix=False),
    "one zip with all": write_one_zip,
}


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


def assert_is_the_miniature(classes):
    assert [classes.name(c) for c in range(len(classes))] == sorted(SCANS)
    for c in range(len(classes)):
        images = classes.images(c, np.arange(classes.count(c)))
        np.testing.assert_array_equal(images[..., 0], expected_pixels(classes.name(c)))


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


def flipped(content, position, bit):
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    return bytes(changed)


@pytest.mark.parametrize("suffix", [".json", ".npy"])
def test_a_cache_with_any_flipped_bit_is_refused(tmp_path, suffix):
    manifest = omniglot.import_omniglot(write_zips(tmp_path / "source"), tmp_path / "to")
    made = next(manifest.parent.glob(f"*{suffix}"))
    whole = made.read_bytes()
    for position in [*range(128), *range(128, len(whole), 41)]:  # 128: all of the header of the pixels
        made.write_bytes(flipped(whole, position, position % 8))
        refusal(omniglot.load, manifest)


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


@pytest.mark.parametrize("train", [0, 1200])
def test_a_split_that_leaves_no_character_for_training_or_validation_is_refused(train):
    said = refusal(omniglot.splits_in_three, np.random.default_rng(0), None, train)
    assert said == f"Omniglot: {train} training characters; give 1 to 1199"


# From an address


def website(**kwargs):
    return Behaviour({f"/python/{name}.zip": content for name, content in ZIPS.items()}, **kwargs)


@pytest.mark.parametrize("path", ["python/", "python", "python/images_background.zip"])
def test_an_address_is_a_folder_or_a_file_in_it(tmp_path, path):
    with serving(website()) as address:
        omniglot.import_omniglot(address + path, tmp_path / "to")
    assert_is_the_miniature(omniglot.load(tmp_path / "to"))


def test_an_address_may_be_one_zip_with_all(tmp_path):
    everything = write_one_zip(tmp_path / "source").read_bytes()
    with serving(Behaviour({"/all.zip": everything})) as address:
        omniglot.import_omniglot(address + "all.zip", tmp_path / "to")
    assert_is_the_miniature(omniglot.load(tmp_path / "to"))


@pytest.mark.parametrize("ranges", [True, False])
def test_after_a_cut_the_next_import_finishes(tmp_path, ranges):
    behaviour = website(ranges=ranges, cut_after=1000)
    with serving(behaviour) as address:
        assert "connection cut" in refusal(omniglot.import_omniglot, address + "python/", tmp_path / "to")
        refusal(omniglot.load, tmp_path / "to")
        behaviour.cut_after = None
        omniglot.import_omniglot(address + "python/", tmp_path / "to")
    assert_is_the_miniature(omniglot.load(tmp_path / "to"))


def test_a_silently_cut_zip_is_refused_and_fetched_afresh(tmp_path):
    behaviour = website(cut_after=1000, announce_length=False)
    with serving(behaviour) as address:
        assert "cut short" in refusal(omniglot.import_omniglot, address + "python/", tmp_path / "to")
        assert not downloaded(tmp_path / "to")
        behaviour.cut_after = None
        omniglot.import_omniglot(address + "python/", tmp_path / "to")
    assert_is_the_miniature(omniglot.load(tmp_path / "to"))


@pytest.mark.parametrize("content", [b"", ZIPS["images_background"][:1000], zipped({"mine.txt": b"mine"})])
def test_a_downloaded_zip_that_is_not_whole_is_fetched_again_once_it_is_removed(tmp_path, content):
    to = tmp_path / "to"
    to.mkdir()
    (to / "images_background.zip").write_bytes(content)
    with serving(website()) as address:
        said = refusal(omniglot.import_omniglot, address + "python/", to)
        why = "not a whole zip with Omniglot drawings; remove it and run this again"
        assert said == f"{to / 'images_background.zip'}: {why}"
        assert (to / "images_background.zip").read_bytes() == content
        (to / "images_background.zip").unlink()
        omniglot.import_omniglot(address + "python/", to)
    assert_is_the_miniature(omniglot.load(to))


def test_whole_zips_that_were_downloaded_before_are_not_fetched_again(tmp_path):
    behaviour = website()
    with serving(behaviour) as address:
        for _ in range(2):
            omniglot.import_omniglot(address + "python/", tmp_path / "to")
    assert len(behaviour.requests) == 2


def test_imports_from_an_address_into_one_folder_at_the_same_time_fetch_each_zip_once(tmp_path):
    behaviour = website()
    with serving(behaviour) as address, ThreadPoolExecutor(2) as pool:
        made = [pool.submit(omniglot.import_omniglot, address + "python/", tmp_path / "to") for _ in range(2)]
        assert {future.result() for future in made} == {tmp_path / "to" / "omniglot.json"}
    assert sorted(behaviour.requests) == [(f"/python/{name}.zip", None) for name in SETS]
    assert_is_the_miniature(omniglot.load(tmp_path / "to"))


def test_a_folder_that_a_download_cannot_write_into_is_refused_by_name(tmp_path):
    (tmp_path / "to" / ".omniglot.lock").mkdir(parents=True)
    with serving(website()) as address:
        said = refusal(omniglot.import_omniglot, address + "python/", tmp_path / "to")
    assert said == f"{tmp_path / 'to'}: cannot be written (Is a directory); choose another --to"


def downloaded(folder):
    """The files of a download; the lock is empty and stays."""
    return [path for path in folder.iterdir() if path.name != ".omniglot.lock"]


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_kill_leaves_nothing_that_passes_for_whole(tmp_path):
    to, behaviour = tmp_path / "to", website(cut_after=1000, stall=True)
    with serving(behaviour) as address:
        importer = "import sys; from reptile_np.tasks.omniglot import *; import_omniglot(*sys.argv[1:])"
        process = subprocess.Popen([sys.executable, "-c", importer, address + "python/", str(to)])
        assert behaviour.stalled.wait(30)
        wait_until(lambda: [path.stat().st_size for path in downloaded(to)] == [1000])
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert [path.name for path in downloaded(to)] == ["images_background.zip.part"]
        refusal(omniglot.load, to)
        behaviour.cut_after, behaviour.stall = None, False
        omniglot.import_omniglot(address + "python/", to)
    assert_is_the_miniature(omniglot.load(to))


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
