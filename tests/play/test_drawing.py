"""Strokes become images as Omniglot's drawings do."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.play.drawing import PEN, image
from reptile_np.tasks.omniglot_files import SCANNED_SIDE, SIDE

CENTRES = (np.arange(SIDE) + 0.5) * SCANNED_SIDE / SIDE
POINTS = st.tuples(st.floats(0, 1), st.floats(0, 1))
STROKES = st.lists(POINTS, min_size=1, max_size=8)


def ink(strokes):
    return image(strokes)[..., 0] == 0


def test_nothing_drawn_is_paper():
    got = image([])
    assert (got.shape, got.dtype) == ((28, 28, 1), np.float32)
    assert (got == 1).all()


def test_the_pixels_are_those_that_pillow_s_nearest_neighbour_takes():
    image_module = pytest.importorskip("PIL.Image")
    canvas = np.random.default_rng(0).random((SCANNED_SIDE, SCANNED_SIDE)) < 0.5
    reduced = image_module.fromarray(canvas).resize((SIDE, SIDE), image_module.Resampling.NEAREST)
    places = np.floor(CENTRES).astype(int)
    np.testing.assert_array_equal(np.asarray(reduced), canvas[np.ix_(places, places)])


@given(STROKES)
def test_ink_is_where_a_densely_sampled_line_is_within_the_pen_s_radius(stroke):
    points = np.array(stroke) * SCANNED_SIDE
    t = np.linspace(0, 1, 500)[:, np.newaxis]
    pairs = pairwise(points) if len(points) > 1 else [(points[0], points[0])]
    samples = np.concatenate([a + t * (b - a) for a, b in pairs])
    places = np.floor(CENTRES) + 0.5
    x, y = np.meshgrid(places, places)
    pixels = np.stack([x, y], axis=2).reshape(-1, 1, 2)
    nearest = np.concatenate(
        [np.sqrt(((part - samples) ** 2).sum(2).min(1)) for part in np.array_split(pixels, 28)]
    ).reshape(SIDE, SIDE)
    got = ink([stroke])
    assert got[nearest < PEN - 0.1].all()
    assert not got[nearest > PEN + 0.1].any()


@given(STROKES, STROKES)
def test_two_strokes_leave_the_ink_of_both(a, b):
    np.testing.assert_array_equal(ink([a, b]), ink([a]) | ink([b]))


@given(STROKES)
def test_the_direction_of_a_stroke_does_not_matter(stroke):
    np.testing.assert_array_equal(ink([stroke]), ink([stroke[::-1]]))


@given(STROKES)
def test_exchanging_x_and_y_transposes_the_image(stroke):
    np.testing.assert_array_equal(ink([[(y, x) for x, y in stroke]]), ink([stroke]).T)


def test_a_single_point_is_a_dot_at_its_place():
    row, column = np.argwhere(ink([[(0.75, 0.25)]])).mean(axis=0)
    assert abs(column + 0.5 - 0.75 * SIDE) < 1
    assert abs(row + 0.5 - 0.25 * SIDE) < 1


@pytest.mark.parametrize("strokes", [[[(0, 0, 0), (1, 1, 1)]], [(0, 0), (1, 1)], [[0, 0, 1, 1]]])
def test_what_is_no_row_of_points_is_refused(strokes):
    """The second one is a stroke in place of a list of strokes."""
    with pytest.raises(UsageError, match=r"^image: a stroke has shape .*; give points \(x, y\): \(p, 2\)$"):
        image(strokes)
