"""One reader of folders, zip and tar: the same files from every form; damaged ones are one line."""

import gzip
import io
import lzma
import os
import pickle
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_sets import write, zipped

from reptile_np.errors import UsageError
from reptile_np.tasks import xz
from reptile_np.tasks.archives import read_file, stem
from tests.tasks.archives import FILES, FORMS, contents, every_archive, every_form, refusal, tarred, written


@every_form
def test_every_form_gives_the_same_files(tmp_path, form):
    assert contents(written(tmp_path, form)) == FILES


@every_form
def test_every_file_is_asked_for_once_and_only_the_wanted_ones_are_given(tmp_path, form):
    asked = []
    got = contents(written(tmp_path, form), lambda name: asked.append(name) or name.endswith("two.png"))
    assert got == {"a/two.png": b""}
    assert sorted(asked) == sorted(FILES)


@every_archive
def test_long_names_are_read(tmp_path, form):
    name = "/".join(["folder" * 10] * 4) + "/image.png"
    assert contents(written(tmp_path, form, {name: b"x"})) == {name: b"x"}


def test_nothing_is_written_anywhere(tmp_path):
    for form in FORMS:
        (tmp_path / form.replace(" ", "")).mkdir()
        folder = tmp_path / form.replace(" ", "")
        contents(written(folder, form))
        assert [path.name for path in folder.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("name", "is_called"),
    [("train.tar.xz", "train"), ("train.tgz", "train"), ("val.ZIP", "val"), ("a.b", "a.b"), ("test", "test")],
)
def test_the_stem_of_an_archive_has_no_suffix(tmp_path, name, is_called):
    assert stem(tmp_path / name) == is_called


# Damage


@every_archive
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors])
@given(data=st.data())
def test_a_damaged_archive_is_refused_in_one_line_or_gives_some_of_the_files(tmp_path, form, data):
    """A tar file has no digest of its contents."""
    whole = FORMS[form](FILES)
    path = tmp_path / "source"
    changed = bytearray(whole[: data.draw(st.just(len(whole)) | st.integers(0, len(whole)))])
    for position in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=3)):
        if position < len(changed):
            changed[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        got, said = contents(path), ""
    except UsageError as error:
        got, said = {}, str(error)
    assert "\n" not in said
    assert len(got) <= len(FILES)
    if form not in ("tar", "GNU tar"):
        assert set(got.values()) <= set(FILES.values())
    if changed == whole:
        assert got == FILES


@pytest.mark.parametrize("form", ["tar.gz", "tar.xz", "zip"])
def test_a_flipped_bit_of_compressed_content_is_refused(tmp_path, form):
    content = {"image.png": os.urandom(5000)}
    whole = bytearray(FORMS[form](content))
    whole[2500] ^= 1
    (tmp_path / "source").write_bytes(whole)
    assert "damaged or cut short" in refusal(tmp_path / "source")


MARK = tarred(FILES).rindex(b"no image") + 512  # where the two empty blocks that end a tar begin


@pytest.mark.parametrize("cut", range(512, MARK + 512, 128))
def test_a_tar_that_is_cut_before_its_end_mark_is_refused(tmp_path, cut):
    (tmp_path / "source").write_bytes(tarred(FILES)[:cut])
    assert "damaged or cut short" in refusal(tmp_path / "source")


def test_a_tar_may_end_after_its_end_mark(tmp_path):
    (tmp_path / "source").write_bytes(tarred(FILES)[: MARK + 512])
    assert contents(tmp_path / "source") == FILES


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
@pytest.mark.parametrize("name", FILES)
def test_a_tar_with_a_damaged_header_is_refused_wherever_it_is(tmp_path, name, compress):
    whole = bytearray(tarred(FILES))
    whole[whole.index(name.encode()) + 150] ^= 1  # the sum over the header
    (tmp_path / "source").write_bytes(compress(whole))
    assert "damaged or cut short" in refusal(tmp_path / "source")


# Wrong kinds


@pytest.mark.parametrize("content", [b"", b"hello", bytes(1000), b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "source").write_bytes(content)
    assert "not a whole zip or tar file" in refusal(tmp_path / "source")


@pytest.mark.parametrize("name", ["cache.pkl", "cache", "train.tar"])
def test_a_pickle_is_refused_and_not_read(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps({"image_data": b"..."}))
    assert "a pickle, which can run any program" in refusal(tmp_path / name)


def test_nothing_there_is_refused(tmp_path):
    assert "no such file or folder" in refusal(tmp_path / "nowhere")


def test_a_source_that_is_a_fifo_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert "not a file or folder" in refusal(tmp_path / "fifo")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused_by_reason(tmp_path):
    path = written(tmp_path, "zip")
    path.chmod(0)
    assert "Permission denied" in refusal(path)


# Names, and padding of xz


@pytest.mark.parametrize("name", ["Äpfel/猫.png", "plain.png"])
def test_names_in_utf_8_are_read_also_if_the_zip_does_not_say_that_they_are(tmp_path, name):
    """As Info-ZIP on Unix writes them; Python's zipfile always sets the flag if it is needed."""
    whole = bytearray(zipped({name: b"x"}))
    for start, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = whole.index(start) + flags
        whole[at : at + 2] = bytes(2)
    (tmp_path / "source").write_bytes(whole)
    assert contents(tmp_path / "source") == {name: b"x"}


def test_backslashes_between_the_folders_of_a_zip_are_slashes(tmp_path):
    """As some programs of Windows write them."""
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
        archive.writestr("a\\two.png", b"2")
        archive.writestr("a/b\\c.png", b"3")  # a file whose own name has one
    assert contents(tmp_path / "source.zip") == {"a/two.png": b"2", "a/b\\c.png": b"3"}


def test_a_name_that_is_no_utf_8_stays_as_zipfile_reads_it(tmp_path):
    whole = zipped({"a.png": b"x"}).replace(b"a.png", b"\x8e.png")  # code page 437: Ä
    (tmp_path / "source").write_bytes(whole)
    assert contents(tmp_path / "source") == {"Ä.png": b"x"}


@pytest.mark.parametrize("padding", [4, 400])
@pytest.mark.parametrize("read_of_the_padding", [0, 2])
def test_padding_between_two_xz_streams_may_begin_in_one_reading_and_end_in_a_later_one(
    monkeypatch, read_of_the_padding, padding
):
    one, two = lzma.compress(b"one"), lzma.compress(b"two")
    monkeypatch.setattr(xz, "_CHUNK", len(one) + read_of_the_padding)
    file = xz.Xz(io.BytesIO(one + bytes(padding) + two))
    assert [file.read(10) for _ in range(3)] == [b"one", b"two", b""]


# Folders


def problems(folder, **more):
    lines = []
    got = contents(folder, problem=lines.append, **more)
    assert not any("\n" in line for line in lines)
    return got, lines


def test_a_file_of_a_folder_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path):
    folder = written(tmp_path, "folder")
    os.mkfifo(folder / "a" / "fifo.png")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "nothing.png").symlink_to(folder / "not there")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    with (folder / "huge.png").open("wb") as file:
        file.truncate(20 << 30)  # sparse
    got, lines = problems(folder)
    assert got == FILES
    said = {line.split(": ")[0].rpartition("/")[2]: line for line in lines}
    assert "not a regular file" in said["fifo.png"]
    assert "not a regular file" in said["device.png"]
    assert "No such file" in said["nothing.png"]
    assert "symbolic links" in said["itself.png"]
    assert "21,474,836,480 bytes, the limit is 1,048,576" in said["huge.png"]
    assert len(lines) == 5


def test_unless_told_otherwise_such_a_file_is_refused(tmp_path):
    folder = written(tmp_path, "folder")
    os.mkfifo(folder / "fifo.png")
    assert "fifo.png: not a regular file" in refusal(folder)


def test_a_link_to_a_folder_above_it_is_not_followed_for_ever(tmp_path):
    folder = written(tmp_path, "folder")
    (folder / "a" / "again").symlink_to(folder)
    got, lines = problems(folder)
    assert got == FILES
    assert len(lines) == 1
    assert "a/again: a link to a folder that was already read" in lines[0]


def test_links_to_files_and_folders_elsewhere_are_followed(tmp_path):
    elsewhere = write(tmp_path / "elsewhere", FILES)
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a").symlink_to(elsewhere / "a")
    (folder / "four.png").symlink_to(elsewhere / "b" / "c" / "three.png")
    assert set(contents(folder)) == {"a/one.png", "a/two.png", "four.png"}


def test_the_files_of_a_folder_come_in_sorted_order(tmp_path):
    folder = write(tmp_path / "source", {name: b"" for name in ("b/1", "a/2", "a/1", "c", "a.b/1")})
    assert list(contents(folder)) == ["a/1", "a/2", "a.b/1", "b/1", "c"]


def test_one_file_is_read_whole_within_its_limit(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"12345")
    assert read_file(tmp_path / "list.csv", 5) == b"12345"
    with pytest.raises(UsageError, match=r"list.csv: 5 bytes, the limit is 4"):
        read_file(tmp_path / "list.csv", 4)
