"""The same small files in every form of an archive, for the tests of its reader."""

import gzip
import io
import lzma
import random
import tarfile

import pytest
from image_sets import write, zipped

from reptile_np.tasks.archives import Limits, read_files
from tests.refusal import refusal as one_line

LIMITS = Limits(file_bytes=1 << 20, files=100, total_bytes=1 << 22)
FILES = {
    "a/one.png": random.Random(0).randbytes(700),  # not made smaller by an archive, so that damage meets it
    "a/two.png": b"",
    "b/c/three.png": b"3" * 512,
    "notes.txt": b"no image",
}


def tarred(files, *, format=tarfile.PAX_FORMAT, extra=()):
    """A tar file of these files, then of the members `extra`, which have no content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return buffer.getvalue()


FORMS = {
    "zip": zipped,
    "tar": tarred,
    "GNU tar": lambda files: tarred(files, format=tarfile.GNU_FORMAT),
    "tar.gz": lambda files: gzip.compress(tarred(files)),
    "tar.xz": lambda files: lzma.compress(tarred(files)),
    "two xz streams": lambda f: lzma.compress(tarred(f)[:1000]) + lzma.compress(tarred(f)[1000:]) + bytes(4),
}
every_form = pytest.mark.parametrize("form", ["folder", *FORMS])
every_archive = pytest.mark.parametrize("form", FORMS)


def written(folder, form, files=FILES):
    """A source in one of the forms; its name never says which."""
    if form == "folder":
        return write(folder / "source", files)
    (folder / "source").write_bytes(FORMS[form](files))
    return folder / "source"


def contents(path, wanted=lambda name: True, limits=LIMITS, **more):
    """What the reader gives: {name: content}."""
    return dict(read_files(path, wanted, limits, **more))


def refusal(path, wanted=lambda name: True, limits=LIMITS):
    """The one line that refuses an archive; it names the archive."""
    said = one_line(contents, path, wanted, limits)
    assert str(path) in said
    return said
