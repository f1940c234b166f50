"""Imports of small made-up files, for the tests of importing."""

import numpy as np

from reptile_np.tasks import importing
from reptile_np.tasks.decoding import BadImage, Conversion
from reptile_np.tasks.importing import Plan, PlannedClass

HOW = Conversion(2, 3, 1, "nearest")
KEYS = {"a": [f"a/{i:03d}" for i in range(150)], "b": [f"b/{i:03d}" for i in range(120)]}
FILES = {key: bytes([i % 251] * 6) for i, key in enumerate(KEYS["a"] + KEYS["b"])}
BROKEN = {**FILES, "a/001": b"broken", "a/140": b"broken"}


def decode(key, content):
    if content == b"broken":
        raise BadImage(f"{key}: broken")
    return np.frombuffer(content, np.uint8).reshape(2, 3, 1)


def plan(files=FILES, **changed):
    classes = tuple(PlannedClass(name, None, tuple(keys)) for name, keys in KEYS.items())
    fields = {"name": "set", "source": "here", "splits": "none", "white": 255, "conversion": HOW}
    return Plan(**{**fields, "classes": classes, "digests": importing.survey(files.items()), **changed})


def reader(files, order=None, read=None):
    def files_wanted(wanted):
        for key in order or files:
            if wanted(key):
                if read is not None:
                    read.append(key)
                yield key, files[key]

    return files_wanted


def write(folder, files=FILES, order=None, read=None, note=lambda line: None, **changed):
    folder.mkdir(exist_ok=True)
    return importing.write(plan(files, **changed), reader(files, order, read), decode, folder, note=note)


def everything(folder):
    """Every file of a finished import by name; the lock is empty and stays."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
