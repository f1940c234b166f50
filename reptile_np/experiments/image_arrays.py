"""A user's arrays of images as a network's input: checked and, if asked, resized and recoloured.

Verified by ``tests/experiments/test_image_arrays.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import Array

__all__ = ["as_inputs"]

LUMA = np.array([19595, 38470, 7471], np.uint32)
"""Weights of red, green and blue in grey, in 1/65536: ITU-R 601, as in Pillow."""
MODES = ("1", "L", "LA", "RGB", "RGBA")
"""Modes of PIL images that are read as they are."""


def as_inputs(
    images: Any, shape: tuple[int, int, int], *, resize: bool = False, recolour: bool = False
) -> Array:
    """Return images as float32 (b, *shape) in [0, 1].

    Parameters
    ----------
    images
        (b, h, w) or (b, h, w, channels): uint8 (divided by 255), bool, or floats in [0, 1].  Or a list of
        images (h, w) or (h, w, channels), which may differ in dtype, with `resize` in size, with `recolour`
        in channels; PIL images of one of `MODES` too, which are turned as their EXIF orientation says.
    shape
        Height, width and channels that the network reads.
    resize
        Cut the largest centred rectangle of the network's proportions from each image and resize it by
        Pillow's bicubic filter, as an imported folder of images is; False: refuse images of another size.
    recolour
        Convert colour to grey (ITU-R 601 luma), or grey to three equal channels, if the network reads 1 or 3
        channels.  Images of 2 or 4 channels, the last one opacity, are put on white first.  False: refuse
        images of another number of channels.

    Raises
    ------
    UsageError
        For images that do not fit, or a `shape` that is not three numbers, in one line that says what to do.
    """
    if len(shape) != 3:
        raise UsageError(f"shape is {shape}; give (height, width, channels)")

    def one_by_one() -> Array:
        inputs = []
        for i, image in enumerate(images):
            try:
                inputs.append(as_inputs([image], shape, resize=resize, recolour=recolour))
            except UsageError as error:
                raise UsageError(f"image {i} (the first is 0): {error}") from None
        return np.concatenate(inputs)

    if isinstance(images, list | tuple):
        images = [_upright(i, image) for i, image in enumerate(images)]
    else:
        images = _upright(0, images)
    if isinstance(images, list | tuple) and len({getattr(image, "dtype", None) for image in images}) > 1:
        return one_by_one()  # NumPy would merge bool and uint8 images into uint8, where True is 1 of 255
    try:
        x = np.asarray(images)
    except ValueError:  # arrays of different shapes
        if len(images) == 1:
            raise UsageError("the rows of an image differ in length; give each as many pixels") from None
        if not (resize or recolour):
            raise UsageError(
                "images have different sizes or numbers of channels; make them equal, or set resize=True for "
                "sizes, recolour=True for channels"
            ) from None
        return one_by_one()
    if not isinstance(images, list | tuple) and x.ndim == 3 and x.shape[2] in (3, 4):
        raise UsageError(
            f"images have shape {x.shape}, as one image in colour has; give (images, height, width, "
            "channels); for one image x that is x[None]"
        )
    if not isinstance(images, list | tuple) and x.shape == shape:
        raise UsageError(f"images have shape {x.shape}, as one image has; for one image x give x[None]")
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.ndim != 4 or 0 in x.shape:
        raise UsageError(
            f"images have shape {np.shape(images)}; give (images, height, width) or "
            "(images, height, width, channels), at least one"
        )
    _check_pixels(x)
    if x.shape[3] != shape[2]:
        possible = x.shape[3] <= 4 and shape[2] in (1, 3)
        if not (possible and recolour):
            raise UsageError(
                f"images have {x.shape[3]} channels, this model reads {shape[2]} "
                "(1: grey, 3: red, green, blue; 2 or 4: with opacity); convert them"
                + (", or set recolour=True" if possible else "")
            )
        if x.shape[3] in (2, 4):
            x = _on_white(x)
        if x.shape[3] != shape[2]:
            x = _grey(x) if shape[2] == 1 else np.repeat(x, 3, axis=3)
    if x.shape[1:3] != shape[:2]:
        if not resize:
            raise UsageError(
                f"images are {x.shape[1]} x {x.shape[2]} pixels, this model reads {shape[0]} x {shape[1]}; "
                "resize them, or set resize=True"
            )
        x = np.stack([_resized(image, shape) for image in x])
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x.astype(np.float32)


def _upright(i: int, image: Any) -> Any:
    """Return a PIL image turned as its EXIF orientation says, as an import does; anything else as it is.

    Raises
    ------
    UsageError
        If the numbers of PIL image `i` are not grey values, colours and opacity.
    """
    mode = getattr(image, "mode", None)
    if not isinstance(mode, str):
        return image
    if mode.startswith(("I", "F")):  # Pillow would cut all values above 255
        raise UsageError(
            f"image {i} (the first is 0) has the PIL mode {mode}; give np.asarray(image) divided by its "
            "largest possible value (65535 for 16 bits)"
        )
    if mode not in MODES or "transparency" in image.info:
        what = "transparent parts" if mode in MODES else f"the PIL mode {mode}"
        raise UsageError(f'image {i} (the first is 0) has {what}; convert it: image.convert("RGBA")')
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _check_pixels(x: Array) -> None:
    """Refuse dtypes and values of no agreed scale."""
    if x.dtype == bool:
        return
    if x.dtype == np.uint8:
        if x.max() == 1:
            raise UsageError("images: uint8 from 0 to 1; give bool (x > 0), or uint8 from 0 to 255")
        return
    if x.dtype.kind != "f":
        raise UsageError(f"images have dtype {x.dtype}; give uint8 (0-255), bool, or floats from 0 to 1")
    finite = np.isfinite(x).all(axis=(1, 2, 3))
    if not finite.all():
        which = f"image {finite.argmin()} (the first is 0)" if len(x) > 1 else "images"
        raise UsageError(f"{which}: some pixels are NaN or infinite; give numbers from 0 to 1")
    low, high = x.min(), x.max()
    if low < 0 or high > 1:
        raise UsageError(f"images: floats from {low!s} to {high!s}; scale them to 0 … 1, or give uint8")


def _on_white(x: Array) -> Array:
    """Return the images without their last channel, the opacity, on a white ground; bytes are rounded."""
    colours, opacity = x[..., :-1], x[..., -1:]
    if x.dtype == np.uint8:
        total = colours.astype(np.uint32) * opacity + 255 * (255 - opacity.astype(np.uint32))
        return ((total + 127) // 255).astype(np.uint8)
    if x.dtype == bool:
        return colours | ~opacity
    return 1 - opacity * (1 - colours)


def _grey(x: Array) -> Array:
    """Return the luma (b, h, w, 1) of colours; bytes are rounded to bytes."""
    if x.dtype == np.uint8:
        return ((x @ LUMA + (1 << 15)) >> 16).astype(np.uint8)[..., np.newaxis]
    return (x @ (LUMA / np.float32(1 << 16)).astype(np.float32))[..., np.newaxis]


def _resized(image: Array, shape: tuple[int, int, int]) -> Array:
    """Return one image (h, w, c) as (*shape): bytes as bytes, all else as floats, cut to [0, 1]."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise UsageError("resizing images needs Pillow; run: pip install pillow") from None
    if image.dtype != np.uint8:
        image = image.astype(np.float32)
    size = (shape[1], shape[0])
    planes = [
        np.asarray(ImageOps.fit(Image.fromarray(plane), size, Image.Resampling.BICUBIC))
        for plane in np.moveaxis(image, 2, 0)
    ]
    return np.clip(np.stack(planes, axis=2), 0, None if image.dtype == np.uint8 else 1)
