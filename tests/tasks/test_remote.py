"""The archive of a data set may be at an address: it is fetched once, and imported like a file."""

import json
from pathlib import Path

import pytest
from http_server import Behaviour, serving
from image_sets import jpeg, zipped

from reptile_np.errors import UsageError
from reptile_np.files import locked
from reptile_np.tasks import download, mini_imagenet
from reptile_np.tasks.folder import import_folder
from reptile_np.tasks.remote import is_address, local

PHOTOS = {f"class {c:02d}/{i}.png": jpeg(10 * c + i, 8, "PNG") for c in range(10) for i in range(6)}
MINI = {
    f"{split}/{split}{c}/{i}.jpg": jpeg(1000 * s + 100 * c + i, 16)
    for s, split in enumerate(("train", "val", "test"))
    for c in range(5)
    for i in range(16)
}
IMPORTS = {"folder": (import_folder, PHOTOS), "mini-imagenet": (mini_imagenet.import_mini_imagenet, MINI)}


def pixels(manifest):
    return (manifest.parent / json.loads(manifest.read_text())["pixels"]).read_bytes()


@pytest.fixture(autouse=True)
def pillow():
    pytest.importorskip("PIL")


@pytest.mark.parametrize("name", IMPORTS)
def test_an_archive_at_an_address_is_imported_as_the_file_and_fetched_once(tmp_path, name):
    imported, files = IMPORTS[name]
    archive = zipped(files)
    (tmp_path / "a.zip").write_bytes(archive)
    expected = pixels(imported(tmp_path / "a.zip", tmp_path / "local"))
    behaviour = Behaviour({"/x/some%20photos.zip?download=1": archive})
    with serving(behaviour) as address:
        for _ in range(2):
            made = imported(address + "x/some%20photos.zip?download=1#top", tmp_path / "to")
            assert pixels(made) == expected
    assert [path for path, _ in behaviour.requests] == ["/x/some%20photos.zip?download=1"]
    (kept,) = (tmp_path / "to").glob("*-some photos.zip")
    assert kept.read_bytes() == archive


def test_archives_of_the_same_name_at_two_addresses_are_two_archives(tmp_path):
    others = {name.replace("class", "other"): content for name, content in PHOTOS.items()}
    with serving(Behaviour({"/a/train.zip": zipped(PHOTOS), "/b/train.zip": zipped(others)})) as address:
        for folder, first in (("a", "class 00"), ("b", "other 00")):
            manifest = import_folder(f"{address}{folder}/train.zip", tmp_path)
            assert json.loads(manifest.read_text())["classes"][0]["name"] == first


def test_a_connection_that_is_cut_is_continued(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 1 << 10)
    behaviour = Behaviour({"/a.zip": zipped(PHOTOS)}, cut_after=2000)
    with serving(behaviour) as address:
        with pytest.raises(UsageError, match="connection cut after 2,000 of"):
            import_folder(address + "a.zip", tmp_path)
        behaviour.cut_after = None
        import_folder(address + "a.zip", tmp_path)
    assert [wanted for _, wanted in behaviour.requests] == [None, "bytes=2000-"]


class Waits(Exception):
    pass


@pytest.mark.parametrize(
    ("name", "lock"), [("folder", ".images.lock"), ("mini-imagenet", ".mini-imagenet.lock")]
)
def test_nothing_is_fetched_while_another_import_of_the_data_set_is_at_work(tmp_path, name, lock):
    def progress(what, *now):
        assert what == "waiting for another import"
        raise Waits

    behaviour = Behaviour({})
    with serving(behaviour) as address, locked(tmp_path / lock), pytest.raises(Waits):
        IMPORTS[name][0](address + "a.zip", tmp_path, progress)
    assert behaviour.requests == []


def test_a_page_in_place_of_the_archive_is_refused_and_not_kept(tmp_path):
    with (
        serving(Behaviour({"/a.zip": b"<html>log in first</html>"})) as address,
        pytest.raises(UsageError, match="the server sent no archive; give the address of the file itself"),
    ):
        import_folder(address + "a.zip", tmp_path)
    assert not list(tmp_path.glob("*a.zip*"))


@pytest.mark.parametrize(
    "address", ["https://x.org/photos", "http://x.org/a.tar.bz2?f=a.zip", "https://x.org/"]
)
def test_an_address_that_is_not_of_an_archive_is_refused(address, tmp_path):
    with pytest.raises(UsageError, match=r"give the address of an archive \(\.zip, \.tar"):
        local(address, tmp_path, "images", lambda *now: None)


@pytest.mark.parametrize("address", ["ftp://x.org/a.zip", "file:///a.zip", "s3://bucket/a.zip"])
def test_other_addresses_are_refused(address):
    with pytest.raises(UsageError, match="only http and https addresses are read; give a path instead"):
        is_address(address)


@pytest.mark.parametrize("path", ["a.zip", "/a/b", "~/a.zip", "a:b", Path("http://x.org/a.zip"), r"C:\a.zip"])
def test_a_path_is_no_address(path):
    assert not is_address(path)
    assert is_address("HTTPS://x.org/a.zip")
