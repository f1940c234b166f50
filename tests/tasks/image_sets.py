"""Small sets of files, as folders and as zip archives, for the tests of importers."""

import io
import zipfile

import numpy as np


def jpeg(seed, side=84, format="JPEG", channels=3):
    """A file of random squares; every seed another."""
    from PIL import Image

    squares = np.random.default_rng(seed).integers(0, 256, (6, 6, channels), np.uint8)
    pixels = squares[np.ix_(np.arange(side) * 6 // side, np.arange(side) * 6 // side)]
    buffer = io.BytesIO()
    Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(buffer, format)
    return buffer.getvalue()


def write(folder, files):
    """Write {path: content} below a folder; return the folder."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def zipped(files):
    """The bytes of a zip archive of {path: content}."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return buffer.getvalue()
