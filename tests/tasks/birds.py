"""A small set of images in the cache format, written by hand."""

import numpy as np

from reptile_np.tasks import image_cache
from reptile_np.tasks.decoding import Conversion
from reptile_np.tasks.image_cache import CachedClass, Manifest, manifest_text

CLASSES = (
    CachedClass("robin", 3, "train"),
    CachedClass("häher", 2, "test"),
    CachedClass("owl", 4, "validation"),
    CachedClass("wren", 1, "train"),
)
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), np.uint8)


def manifest(classes=CLASSES, pixels=PIXELS, **changed):
    digest = image_cache.content_digest(classes)
    digest.update(pixels.tobytes())
    fields = {
        "name": "birds",
        "created_by": "a test",
        "decoder": "none",
        "source": "photos",
        "source_sha256": "0" * 64,
        "conversion": Conversion(*pixels.shape[1:], "bicubic"),
        "white": 255,
        "splits": "given",
        "pixels": "birds-000000000000.npy",
        "content_sha256": digest.hexdigest(),
        "classes": classes,
    }
    return Manifest(**{**fields, **changed})


def written(folder, pixels=PIXELS, **changed):
    made = manifest(pixels=pixels, **changed)
    np.save(folder / "birds-000000000000.npy", pixels)
    (folder / "birds.json").write_text(manifest_text(made))
    return folder / "birds.json"


def every(images, c):
    return images.images(c, np.arange(images.count(c)))
