"""Glyphs: invented characters and random drawings of them.

A stand-in for Omniglot with nothing to download.  A character is one to three smooth strokes.  Each drawing
of it moves the strokes' knots, applies a random linear map and shift, and has its own pen width.

Verified by ``tests/tasks/test_glyphs.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reptile_np.errors import check_generator, whole
from reptile_np.meta.inner_loop import Array
from reptile_np.tasks.image_classes import Float32Images, ImageClasses, Indices

__all__ = [
    "KNOTS",
    "KNOT_NOISE",
    "LINEAR_NOISE",
    "PEN_RADIUS",
    "SAMPLES_PER_SPAN",
    "SHIFT_NOISE",
    "SIDE",
    "STEP",
    "STROKES",
    "UNIT",
    "draw",
]

SIDE = 28
STROKES = 3  # largest number
KNOTS = 5  # of each stroke
SAMPLES_PER_SPAN = 12  # enough points for lines without gaps, except in the longest spans

# The size of a character is 2: its knots span [-1, 1] in the longer direction.
UNIT = 10.0  # pixels
STEP = 0.9  # standard deviation of the step from one knot to the next, before the size is scaled to 2
# Standard deviations of the differences between drawings:
KNOT_NOISE = 0.07
LINEAR_NOISE = 0.09  # each entry of the 2 x 2 matrix: turn, slant, stretch
SHIFT_NOISE = 0.8  # pixels
PEN_RADIUS = (0.6, 1.2)  # pixels: low + (high - low) / (1 + exp(-2 z)), z normal

_ANGLES = np.arange(8) * (np.pi / 4)
_NIB = np.concatenate([np.zeros((1, 2)), np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)])


def _catmull_rom() -> NDArray[np.float64]:
    """Return the matrix (samples, knots) that maps the knots to points of a smooth curve through them.

    The uniform Catmull-Rom spline; the first and the last knot count twice.
    """
    t = np.linspace(0, 1, SAMPLES_PER_SPAN)
    weights = np.stack(
        [-(t**3) + 2 * t**2 - t, 3 * t**3 - 5 * t**2 + 2, -3 * t**3 + 4 * t**2 + t, t**3 - t**2], axis=1
    )
    curve = np.zeros((KNOTS - 1, SAMPLES_PER_SPAN, KNOTS))
    for span in range(KNOTS - 1):
        for i in range(4):
            curve[span, :, np.clip(span + i - 1, 0, KNOTS - 1)] += weights[:, i] / 2
    return curve.reshape(-1, KNOTS)


_CURVE = _catmull_rom()


def draw(classes: int, drawings: int, rng: np.random.Generator) -> ImageClasses:
    """Return `classes` invented characters, `drawings` of each: (28, 28, 1), paper 1, ink 0.

    One number drawn from `rng` determines all characters.  For a given number, drawing d of character c does
    not depend on `classes` and `drawings`.  A character is drawn when its images are first asked for.

    Raises
    ------
    UsageError
        `classes` or `drawings` is no whole number ≥ 1.

    Notes
    -----
    Verified by ``tests/tasks/test_glyphs.py``.
    """
    check_generator(rng)
    classes, drawings = whole("glyphs: classes", classes, 1), whole("glyphs: drawings", drawings, 1)
    return _Glyphs(int(rng.integers(2**63)), classes, drawings)


class _Glyphs(Float32Images):
    """The characters of the number `family`."""

    image_shape = (SIDE, SIDE, 1)

    def __init__(self, family: int, classes: int, drawings: int) -> None:
        self._family = family
        self._drawings = drawings
        self._drawn: list[Array | None] = [None] * classes

    def __len__(self) -> int:
        return len(self._drawn)

    def count(self, c: int) -> int:
        return self._drawings

    def name(self, c: int) -> str:
        return f"glyph {c}"

    def pixels(self, c: int, indices: Indices) -> Array:
        images = self._drawn[c]
        if images is None:
            rng = np.random.default_rng(np.random.SeedSequence(self._family, spawn_key=(c,)))
            images = _ink(*_pen_paths(rng, _character(rng), self._drawings))[..., np.newaxis]
            self._drawn[c] = images
        return images[indices]


def _character(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the knots (strokes, 5, 2) of a new character, centred, of size 2."""
    count = rng.integers(1, STROKES, endpoint=True)
    start = rng.uniform(-1, 1, (count, 1, 2))
    steps = rng.normal(0, STEP, (count, KNOTS - 1, 2))
    knots = np.concatenate([start, start + steps.cumsum(axis=1)], axis=1)
    low, high = knots.min(axis=(0, 1)), knots.max(axis=(0, 1))
    size = float((high - low).max())
    return np.asarray((2 * knots - low - high) / size)


def _pen_paths(
    rng: np.random.Generator, character: NDArray[np.float64], drawings: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the path of the pen (drawings, points, 2) and its radius (drawings,), in pixels."""
    # One row of random numbers per drawing: more drawings do not change the first ones.
    noise = rng.standard_normal((drawings, character.size + 7))
    knots = character + KNOT_NOISE * noise[:, 7:].reshape(drawings, *character.shape)
    linear = UNIT * (np.eye(2) + LINEAR_NOISE * noise[:, :4].reshape(drawings, 2, 2))
    path = (_CURVE @ knots).reshape(drawings, -1, 2) @ linear
    path += SIDE / 2 + SHIFT_NOISE * noise[:, np.newaxis, 4:6]
    low, high = PEN_RADIUS
    return path, low + (high - low) / (1 + np.exp(-2 * noise[:, 6]))


def _ink(path: NDArray[np.float64], radius: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the drawings (drawings, 28, 28): False at every pixel that the nib touches.

    The nib is a point and eight points of a circle around it; points outside the paper are ignored.
    """
    touched = path[:, :, np.newaxis] + radius[:, np.newaxis, np.newaxis, np.newaxis] * _NIB
    pixel = np.floor(touched).astype(np.intp).reshape(len(path), -1, 2) + 1
    framed = np.ones((len(path), SIDE + 2, SIDE + 2), bool)  # the frame receives the points outside
    row, column = np.moveaxis(pixel.clip(0, SIDE + 1), -1, 0)
    framed[np.arange(len(path))[:, np.newaxis], row, column] = False
    return framed[:, 1:-1, 1:-1]
