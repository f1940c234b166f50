"""A miniature of Omniglot in the official layout: sets of 3 and 2 characters, 4 drawings of each."""

import hashlib
import io
import json

import numpy as np
import pytest
from http_server import Behaviour
from image_sets import write, zipped

from reptile_np.tasks import omniglot
from reptile_np.tasks.omniglot_files import SETS

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


def assert_is_the_miniature(classes):
    assert [classes.name(c) for c in range(len(classes))] == sorted(SCANS)
    for c in range(len(classes)):
        images = classes.images(c, np.arange(classes.count(c)))
        np.testing.assert_array_equal(images[..., 0], expected_pixels(classes.name(c)))


# From an address


def website(**kwargs):
    return Behaviour({f"/python/{name}.zip": content for name, content in ZIPS.items()}, **kwargs)


def flipped(content, position, bit):
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    return bytes(changed)
