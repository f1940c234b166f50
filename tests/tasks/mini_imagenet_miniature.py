"""A miniature of Mini-ImageNet in every form that people keep it in: 5, 2 and 5 classes of 15 images."""

import gzip
import io
import lzma
import random
import tarfile
from functools import cache

import numpy as np
import pytest
from image_sets import jpeg, zipped

from reptile_np.tasks.mini_imagenet import import_mini_imagenet
from tests.refusal import refusal as one_line

Image = pytest.importorskip("PIL.Image", reason="decoding needs the extra images")

SIZES = {"train": 5, "val": 2, "test": 5}
EACH = 15
LABELS = {split: [f"n{i}{c:04d}" for c in range(size)] for i, (split, size) in enumerate(SIZES.items())}
IMAGES = {
    f"{split}/{label}/{label}{i:08d}.jpg": jpeg(int(label[1:]) * EACH + i)
    for split, labels in LABELS.items()
    for label in labels
    for i in range(EACH)
}


def lists(images=IMAGES):
    """The three CSV files that list these images, by name."""
    rows = {split: ["filename,label"] for split in SIZES}
    for path in sorted(images):
        split, label, filename = path.split("/")
        rows[split].append(f"{filename},{label}")
    return {f"{split}.csv": ("\n".join(lines) + "\n").encode() for split, lines in rows.items()}


def tarred(files):
    """A tar file whose members come in no order, after their folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("train")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for path in random.Random(0).sample(sorted(files), len(files)):
            info = tarfile.TarInfo(path)
            info.size = len(files[path])
            archive.addfile(info, io.BytesIO(files[path]))
    return buffer.getvalue()


def of_split(split, strip=0, images=IMAGES):
    return {p.split("/", strip)[-1]: c for p, c in images.items() if p.startswith(f"{split}/")}


def flat(images=IMAGES):
    return {f"images/{path.rpartition('/')[2]}": content for path, content in images.items()}


def split_tars(suffix, compress, strip=0):
    return {f"{split}{suffix}": compress(tarred(of_split(split, strip))) for split in SIZES}


FORMS = {
    "class folders": lambda: IMAGES,
    "class folders and lists": lambda: {**IMAGES, **{f"splits/{k}": v for k, v in lists().items()}},
    "class folders in mini-imagenet/": lambda: {f"mini-imagenet/{k}": v for k, v in IMAGES.items()},
    "tar.xz and lists": lambda: {
        **split_tars(".tar.xz", lzma.compress),
        **{f"splits/{k}": v for k, v in lists().items()},
    },
    "tar.gz without the split's folder": lambda: split_tars(".tar.gz", gzip.compress, strip=1),
    "plain tar": lambda: split_tars(".tar", bytes),
    "zip": lambda: {f"{split}.zip": zipped(of_split(split)) for split in SIZES},
    "images and lists": lambda: {**flat(), **lists()},
    "images.tar and lists in splits/": lambda: {
        "images.tar": tarred(flat()),
        **{f"splits/{k}": v for k, v in lists().items()},
    },
}
ARCHIVES = {
    "everything.tar.xz": lambda: lzma.compress(tarred({f"set/{k}": v for k, v in IMAGES.items()})),
    "images and lists.tgz": lambda: gzip.compress(tarred({**flat(), **lists()})),
    "images and lists.zip": lambda: zipped({**flat(), **lists()}),
}


@cache
def expected():
    """Pixels by class name, from Pillow directly."""
    pixels = {}
    for path in sorted(IMAGES):
        split, label, _ = path.split("/")
        with Image.open(io.BytesIO(IMAGES[path])) as image:
            pixels.setdefault((split, label), []).append(np.asarray(image))
    return {key: np.array(images) for key, images in pixels.items()}


def assert_is_the_miniature(images):
    """Names, splits and pixels are those of the miniature."""
    assert images.image_shape == (84, 84, 3)
    splits = images.splits()
    for split, part in zip(("train", "val", "test"), splits, strict=True):
        assert [part.name(c) for c in range(len(part))] == LABELS[split]
        for c, label in enumerate(LABELS[split]):
            got = part.images(c, np.arange(part.count(c)))
            np.testing.assert_array_equal(got, expected()[split, label] / np.float32(255))


def refusal(source, to, **more):
    said = one_line(import_mini_imagenet, source, to, **more)
    assert not (to / "mini-imagenet.json").exists()
    return said


def changed(**removed_or_added):
    return {path: content for path, content in {**IMAGES, **removed_or_added}.items() if content is not None}
