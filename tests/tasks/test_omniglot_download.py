"""Omniglot from an address: each file is fetched once, whole, whatever interrupts it."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from http_server import Behaviour, serving
from image_sets import zipped
from omniglot_miniature import (
    ZIPS,
    assert_is_the_miniature,
    website,
    write_one_zip,
)

from reptile_np.tasks import omniglot
from reptile_np.tasks.omniglot_files import SETS
from tests.refusal import refusal
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("miniature_of_omniglot")


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


def test_a_kill_leaves_nothing_that_passes_for_whole(tmp_path):
    to, behaviour = tmp_path / "to", website(cut_after=1000, stall=True)
    with serving(behaviour) as address:
        importer = "import sys; from reptile_np.tasks.omniglot import *; import_omniglot(*sys.argv[1:])"
        process = subprocess.Popen([sys.executable, "-c", importer, address + "python/", str(to)])
        assert behaviour.stalled.wait(30)
        wait_for(lambda: [path.stat().st_size for path in downloaded(to)] == [1000], seconds=30)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert [path.name for path in downloaded(to)] == ["images_background.zip.part"]
        refusal(omniglot.load, to)
        behaviour.cut_after, behaviour.stall = None, False
        omniglot.import_omniglot(address + "python/", to)
    assert_is_the_miniature(omniglot.load(to))
