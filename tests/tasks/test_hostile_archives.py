"""Archives made to do harm or to take much memory are refused in one line, before they are read."""

import io
import lzma
import tarfile
import tracemalloc
import zipfile
import zlib

import pytest
from image_sets import zipped

from reptile_np.tasks import archives
from reptile_np.tasks.archives import read_files
from tests.tasks.archives import FILES, LIMITS, contents, every_archive, every_form, refusal, tarred, written


@pytest.mark.parametrize(
    "name", ["/etc/image.png", "../image.png", "a/../../image.png", "C:/image.png", "a\\..\\b.png"]
)
@every_archive
def test_a_path_outside_the_archive_is_refused_even_if_it_is_not_wanted(tmp_path, form, name):
    path = written(tmp_path, form, {name: b"x"})
    assert "is a path outside the archive" in refusal(path, lambda name: False)


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.GNUTYPE_SPARSE,
    ],
)
def test_links_devices_and_sparse_files_in_a_tar_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("image.png")
    info.type, info.linkname = kind, "/etc/passwd"
    (tmp_path / "source").write_bytes(tarred({}, extra=[info]))
    assert "image.png is a link, a device or a sparse file" in refusal(tmp_path / "source")


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("image.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "source", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "image.png is a link, a device or a sparse file" in refusal(tmp_path / "source")


def test_control_characters_of_a_name_are_shown_as_their_escapes(tmp_path):
    path = written(tmp_path, "tar", {"../\x1b[31m\nimage.png": b"x"})
    assert r"../\x1b[31m\nimage.png is a path" in refusal(path)


@every_archive
def test_a_large_member_is_refused_before_it_is_read(tmp_path, form):
    path = written(tmp_path, form, {"image.png": bytes(LIMITS.file_bytes + 1)})
    assert "image.png has 1,048,577 bytes, the limit is 1,048,576" in refusal(path)


@every_archive
def test_many_members_are_refused(tmp_path, form):
    path = written(tmp_path, form, {f"{i}.png": b"" for i in range(LIMITS.files + 1)})
    assert "more than 100 files" in refusal(path, lambda name: False)


@every_form
def test_many_bytes_are_refused(tmp_path, form):
    path = written(tmp_path, form, {f"{i}.png": bytes(LIMITS.file_bytes) for i in range(5)})
    assert "more than 4,194,304 bytes" in refusal(path)


@pytest.mark.parametrize("form", ["tar", "tar.gz", "tar.xz"])
def test_unwanted_members_of_a_tar_count_as_they_must_be_decompressed(tmp_path, form):
    path = written(tmp_path, form, {"image.png": bytes(LIMITS.total_bytes)})
    assert "more than 4,194,304 bytes" in refusal(path, lambda name: False)


def test_a_header_of_a_tar_that_announces_a_large_name_is_refused(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    (tmp_path / "source").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert "a header has" in refusal(tmp_path / "source")


def test_a_header_that_is_read_in_pieces_counts_as_one():
    """Python 3.14 reads a long name 1 MiB at a time."""
    stream = archives._Stream(io.BytesIO(bytes(LIMITS.total_bytes)), archives._Budget(LIMITS))
    assert len(stream.read(LIMITS.file_bytes // 2)) == LIMITS.file_bytes // 2
    stream.read(LIMITS.file_bytes // 2)
    with pytest.raises(archives._Refused, match="a header has"):
        stream.read(1)


def test_headers_of_many_empty_files_are_not_one_header(tmp_path):
    count = 3 * LIMITS.file_bytes // 512
    path = tmp_path / "source"
    path.write_bytes(tarred({str(i): b"" for i in range(count)}))
    limits = LIMITS._replace(files=count)
    assert len(dict(read_files(path, lambda name: True, limits))) == count


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_whose_decompression_has_no_bound_on_memory_is_refused(tmp_path, kind):
    with zipfile.ZipFile(tmp_path / "source", "w", kind) as archive:
        archive.writestr("image.png", b"x")
    assert "image.png is not deflated; zip it again with deflate" in refusal(tmp_path / "source")
    assert contents(tmp_path / "source", lambda name: False) == {}


def test_of_a_zip_member_no_more_is_decompressed_than_its_size(tmp_path):
    whole = bytearray(zipped({"image.png": bytes(1 << 26)}))
    for start, size_at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):  # both headers say 100 bytes
        position = whole.index(start) + size_at
        whole[position : position + 4] = (100).to_bytes(4, "little")
    (tmp_path / "source").write_bytes(whole)
    tracemalloc.start()
    try:
        assert "damaged or cut short" in refusal(tmp_path / "source")
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_xz_data_that_needs_much_memory_is_refused(tmp_path):
    patched = bytearray(lzma.compress(tarred(FILES)))
    # After 12 bytes of stream header: size, flags, filter 0x21, 1, size of the dictionary, padding, CRC-32.
    assert patched[14:16] == b"\x21\x01"
    patched[16] = 38  # code of 2 GiB
    patched[20:24] = zlib.crc32(bytes(patched[12:20])).to_bytes(4, "little")
    (tmp_path / "source").write_bytes(patched)
    assert "Memory usage limit exceeded" in refusal(tmp_path / "source")
