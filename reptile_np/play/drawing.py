"""Strokes drawn by hand as an Omniglot image: the same canvas, pen and reduction as the data set's.

Verified by ``tests/play/test_drawing.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import Array
from reptile_np.tasks.omniglot_files import SCANNED_SIDE, SIDE, nearest

__all__ = ["PEN", "Stroke", "image"]

PEN = 2.5
"""Radius of the pen on the canvas: most lines of the data set are 5 pixels wide."""

Stroke = Sequence[tuple[float, float]]
"""The points (x, y) of a line, from (0, 0), the upper left corner, to (1, 1)."""


def image(strokes: Sequence[Stroke]) -> Array:
    """Return strokes as an image (28, 28, 1), float32: paper 1, ink 0.

    Pixels of a 105 × 105 canvas within the pen's radius of a line are ink; each pixel of the image is the
    canvas pixel at its centre (nearest neighbour, as the images of the data set are reduced).

    Raises
    ------
    UsageError
        If a stroke is not a row of points (x, y).
    """
    centres = nearest(SIDE) + 0.5
    x, y = np.meshgrid(centres, centres)
    pixels = np.stack([x.ravel(), y.ravel()], axis=1)  # (784, 2), in canvas pixels
    ink = np.zeros(SIDE * SIDE, bool)
    for stroke in strokes:
        points = np.asarray(stroke, np.float64)
        if points.size and points.shape[1:] != (2,):
            raise UsageError(f"image: a stroke has shape {points.shape}; give points (x, y): (p, 2)")
        points = points.reshape(-1, 2) * SCANNED_SIDE
        starts, ends = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
        ink |= (_squared_distances(pixels, starts, ends) <= PEN**2).any(axis=1)
    return np.where(ink, np.float32(0), np.float32(1)).reshape(SIDE, SIDE, 1)


def _squared_distances(pixels: Array, starts: Array, ends: Array) -> Array:
    """Return the squared distance (p, s) of each pixel (p, 2) from each line from starts to ends (s, 2)."""
    way = ends - starts
    offset = pixels[:, np.newaxis] - starts
    length = np.maximum((way**2).sum(1), 1e-12)
    along = np.clip((offset * way).sum(2) / length, 0, 1)
    return ((offset - along[..., np.newaxis] * way) ** 2).sum(2)
