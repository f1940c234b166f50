"""Classes of images: the source few-shot tasks are drawn from, and views of it.

A view (some of the classes, or their rotations) holds indices and no pixels.  Pixels stay bits or bytes until
a minibatch is made of them (`as_float32`).  Verified by ``tests/tasks/test_image_classes.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reptile_np.errors import UsageError, check_generator, whole
from reptile_np.meta.inner_loop import Array

__all__ = [
    "ArrayClasses",
    "Float32Images",
    "ImageClasses",
    "Indices",
    "Splits",
    "as_float32",
    "inverted",
    "rotated",
    "selected",
    "split_classes",
    "turned",
]

Indices = NDArray[np.intp]


class ImageClasses(Protocol):
    """A finite list of classes, each a finite list of images of one shape."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""

    def __len__(self) -> int:
        """Return the number of classes."""

    def count(self, c: int) -> int:
        """Return the number of images of class `c`."""

    def name(self, c: int) -> str:
        """Return what messages call class `c`."""

    def pixels(self, c: int, indices: Indices) -> Array:
        """Return the images of class `c` at `indices` (m,): (m, h, w, channels) bool, uint8 or float32."""

    def images(self, c: int, indices: Indices) -> NDArray[np.float32]:
        """Return the images of class `c` at `indices` (m,): (m, h, w, channels) float32."""


def as_float32(x: Array) -> Array:
    """Return images that are bits or bytes (255 is 1.0) as float32; all others as they are."""
    if x.dtype == np.uint8:
        return np.divide(x, np.float32(255), dtype=np.float32)
    return x.astype(np.float32) if x.dtype == np.bool_ else x


class Float32Images:
    """The method `images` of an `ImageClasses` that has `pixels`."""

    def images(self: ImageClasses, c: int, indices: Indices) -> NDArray[np.float32]:
        """Return the images of class `c` at `indices` (m,): (m, h, w, channels) float32."""
        return as_float32(self.pixels(c, indices))


class Splits(NamedTuple):
    """Disjoint classes to train on, to choose settings by (None: there are none), and to report on."""

    train: ImageClasses
    validation: ImageClasses | None
    test: ImageClasses


class ArrayClasses(Float32Images):
    """Labelled images held in one array in memory (images in files: see `image_cache.CachedImages`).

    Parameters
    ----------
    images : (n, h, w, channels) or (n, h, w) array
        bool is read as {0, 1}, uint8 is divided by 255, floating point is used as it is.  The array is
        not copied.
    labels : (n,) array
        Integers or strings; the classes are their sorted distinct values.
    names : sequence of str, optional
        One per class, for messages; the label itself otherwise.

    Raises
    ------
    UsageError
        NaN or infinity in the images, an unsuitable dtype or shape, images of several shapes or none, a label
        that is None or NaN, labels that cannot be sorted together.
    """

    def __init__(self, images: NDArray[Any], labels: ArrayLike, names: Sequence[str] | None = None) -> None:
        try:
            images = np.asarray(images)
        except ValueError:
            raise UsageError("images: of different shapes; give all the same height and width") from None
        labels = np.asarray(labels)
        if images.ndim == 3:
            images = images[..., np.newaxis]
        if images.ndim != 4 or 0 in images.shape:
            raise UsageError(
                f"images: shape {images.shape} holds no images; give (n, height, width, channels)"
            )
        if labels.shape != images.shape[:1]:
            raise UsageError(f"labels: shape {labels.shape} for {len(images)} images; give one per image")
        if any(label is None or label != label for label in labels.tolist()):
            raise UsageError("labels: some are None or NaN; leave these images out")
        _check_pixels(images)
        try:
            distinct, of_image = np.unique(labels, return_inverse=True)
        except TypeError:
            raise UsageError("labels: some cannot be sorted together; give integers or strings") from None
        if names is not None and len(names) != len(distinct):
            raise UsageError(f"names: {len(names)} for {len(distinct)} classes; give one per class")
        by_class = np.argsort(of_image, kind="stable")
        ends = np.cumsum(np.bincount(of_image))
        self._pixels = images
        self._rows = np.split(by_class, ends[:-1])
        self._names = [str(label) for label in distinct] if names is None else list(names)
        self.image_shape: tuple[int, int, int] = images.shape[1:]

    def __len__(self) -> int:
        return len(self._rows)

    def count(self, c: int) -> int:
        """Return the number of images of class `c`."""
        return len(self._rows[c])

    def name(self, c: int) -> str:
        """Return what messages call class `c`."""
        return self._names[c]

    def pixels(self, c: int, indices: Indices) -> Array:
        """Return the images of class `c` at `indices` (m,): (m, h, w, channels) bool, uint8 or float32."""
        pixels = self._pixels.take(self._rows[c][indices], axis=0)
        return pixels if pixels.dtype.kind in "bu" else pixels.astype(np.float32, copy=False)


def _check_pixels(images: NDArray[Any]) -> None:
    """Refuse dtypes that are not pixels, and pixels that are not finite."""
    if images.dtype == np.bool_ or images.dtype == np.uint8:
        return
    if not np.issubdtype(images.dtype, np.floating):
        raise UsageError(
            f"images: dtype {images.dtype} has no agreed scale; give uint8, bool or floating point"
        )
    largest = np.finfo(np.float32).max
    for i, image in enumerate(images):  # one image at a time: no second copy of the set
        if not np.abs(image).max() <= largest:  # false for NaN too
            raise UsageError(f"images[{i}]: NaN or infinity in float32; remove or repair this image")


class _Selected(Float32Images):
    """The classes of `whole` at the given positions, in that order."""

    def __init__(self, whole: ImageClasses, positions: Indices) -> None:
        self._whole = whole
        self._positions: list[int] = positions.tolist()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self._whole.image_shape

    def __len__(self) -> int:
        return len(self._positions)

    def count(self, c: int) -> int:
        return self._whole.count(self._positions[c])

    def name(self, c: int) -> str:
        return self._whole.name(self._positions[c])

    def pixels(self, c: int, indices: Indices) -> Array:
        return self._whole.pixels(self._positions[c], indices)


class _Rotated(Float32Images):
    """Class 4c + r is class c of `upright`, turned r times by 90 degrees."""

    def __init__(self, upright: ImageClasses) -> None:
        self._upright = upright

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self._upright.image_shape

    def __len__(self) -> int:
        return 4 * len(self._upright)

    def count(self, c: int) -> int:
        return self._upright.count(c // 4)

    def name(self, c: int) -> str:
        return f"{self._upright.name(c // 4)} turned by {90 * (c % 4)} degrees"

    def pixels(self, c: int, indices: Indices) -> Array:
        return turned(self._upright.pixels(c // 4, indices), c % 4)


class _Inverted(Float32Images):
    """The classes of `whole` with 1 - x in place of each pixel x."""

    def __init__(self, whole: ImageClasses) -> None:
        self._whole = whole

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self._whole.image_shape

    def __len__(self) -> int:
        return len(self._whole)

    def count(self, c: int) -> int:
        return self._whole.count(c)

    def name(self, c: int) -> str:
        return self._whole.name(c)

    def pixels(self, c: int, indices: Indices) -> Array:
        return 1 - self._whole.images(c, indices)


def turned(images: Array, quarters: int) -> Array:
    """Return a view of images (b, h, w, channels), turned `quarters` times as `np.rot90` turns."""
    match quarters % 4:  # np.rot90 does the same with five times the overhead
        case 1:
            return images.swapaxes(1, 2)[:, ::-1]
        case 2:
            return images[:, ::-1, ::-1]
        case 3:
            return images.swapaxes(1, 2)[:, :, ::-1]
        case _:
            return images


def inverted(classes: ImageClasses) -> ImageClasses:
    """Return a view of the classes with 1 - x for each pixel x: Omniglot's ink is then 1, its paper 0.

    Finn's program reads Omniglot so; the released program does not.
    """
    return _Inverted(classes)


def selected(classes: ImageClasses, positions: ArrayLike) -> ImageClasses:
    """Return a view of the classes at `positions` (m,), in that order; a mask (c,) is read as NumPy does.

    Raises
    ------
    UsageError
        `positions` are not such a row, or there are fewer classes.
    """
    n = len(classes)
    try:
        (row,) = np.atleast_2d(positions)
        chosen = np.arange(n)[row]
    except (IndexError, ValueError):
        raise UsageError(
            f"selected: positions that no class has; give a row of whole numbers below {n}, or a mask ({n},)"
        ) from None
    return _Selected(classes, chosen)


def rotated(classes: ImageClasses) -> ImageClasses:
    """Return four classes for each class: its images turned by 0, 90, 180 and 270 degrees.

    Raises
    ------
    UsageError
        The images are not square.
    """
    height, width, _ = classes.image_shape
    if height != width:
        raise UsageError(f"rotated: images are {height} x {width}; only square images can be turned")
    return _Rotated(classes)


def split_classes(
    rng: np.random.Generator, classes: ImageClasses, train: int
) -> tuple[ImageClasses, ImageClasses]:
    """Shuffle the classes; return the first `train` of them, and the rest.

    Raises
    ------
    UsageError
        `train` is no whole number ≥ 1, or the second part would be empty.
    """
    check_generator(rng)
    if whole("split: train", train, 1) >= len(classes):
        raise UsageError(f"split: {train} training classes of {len(classes)}; give 1 to {len(classes) - 1}")
    order = rng.permutation(len(classes))
    return selected(classes, order[:train]), selected(classes, order[train:])
