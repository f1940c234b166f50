"""Folders of photographs, and what their import gives, for the tests of one's own images."""

from functools import partial

from image_sets import jpeg, write

from reptile_np.tasks import folder
from reptile_np.tasks.folder import import_folder
from tests.refusal import refusal as one_line

FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]

refusal = partial(one_line, import_folder)


def photos(classes=20, each=6, start=0):
    """Class folders of images of mixed sizes, formats and colours."""
    return {
        f"class {c:02d}/image {i}.{FORMATS[i % 6].lower()}": jpeg(
            start + 1000 * c + i, side=8 + 5 * i, format=FORMATS[i % 6], channels=3 if i % 2 else 1
        )
        for c in range(classes)
        for i in range(each)
    }


def imported(tmp_path, files, **more):
    """The data set and the lines that were said about it."""
    lines = []
    more.setdefault("size", 8)
    made = import_folder(write(tmp_path / "photos", files), tmp_path / "to", note=lines.append, **more)
    assert not any("\n" in line for line in lines)
    images = folder.load(tmp_path / "to", full=True)
    assert images.path == made
    assert list(images.manifest.left_out) == lines
    return images, lines


def names(images):
    return [images.name(c) for c in range(len(images))]


def split_names(images):
    return [names(part) if part is not None else [] for part in images.splits()]
