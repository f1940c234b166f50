"""Glyphs: a seeded family of characters that differ more between classes than within."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.tasks import glyphs

seeds = st.integers(0, 2**32 - 1)


def drawn(classes, drawings, seed=0):
    """All pixels (classes, drawings, 28, 28)."""
    characters = glyphs.draw(classes, drawings, np.random.default_rng(seed))
    every = np.arange(drawings)
    return np.stack([characters.images(c, every)[..., 0] for c in range(classes)])


@given(seeds, st.integers(1, 4), st.integers(1, 4))
def test_glyphs_are_ink_zero_on_paper_one(seed, classes, drawings):
    pixels = drawn(classes, drawings, seed)
    assert pixels.shape == (classes, drawings, 28, 28)
    assert set(np.unique(pixels)) <= {0.0, 1.0}


def test_every_drawing_has_ink_and_mostly_paper():
    ink = 1 - drawn(100, 10).mean(axis=(2, 3))
    assert ink.min() > 0.01
    assert ink.max() < 0.6


@given(seeds, st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3))
def test_a_drawing_is_the_same_however_many_are_asked_for(seed, classes, drawings, more_classes, more):
    few = drawn(classes, drawings, seed)
    many = drawn(classes + more_classes, drawings + more, seed)
    np.testing.assert_array_equal(many[:classes, :drawings], few)


INK = bytes.fromhex(
    "000000000000000000000000000000000000038000007800003f800007e00001fffff81fffff83fffff87ff00007fe0000"
    "3ffdb803ffffc03ffefc03c01b803c000003c0000018000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000001800c001c03e00381fc00707e000e7f0000ff80001fe00003f800003f0060"
    "0fe07e00fdffe01fffe001cfc0001c000001c000001c000001c000001c000001c000001800000000000000000000000000"
    "00000000000000000002000000700c000701f000f00f000e00f801e007801c003c03c003c038003e078001e070001f0f00"
    "01f0e0000f1e0000f9c0000fbc00007f800007f000003f000001e000000e000000e0000000000000000000000000000000"
    "000000000000003e000103f000381f000701f000701f800e00f800e00f801c007c018003c038003c030001e070001c0f00"
    "01e0e0000f1e0000f1c0000f3c00007b800007f800007f000003e000003c000001c000001e000000e00000040000000000"
)
"""Two drawings of two characters of seed 0, 28 x 28 bits each: 1 is ink."""


def test_the_drawings_of_a_seed_stay_the_same_up_to_rounding():
    """Records and released weights were made with them.  Rounding may change a pixel of each of the four."""
    ink = np.unpackbits(np.frombuffer(INK, np.uint8)).reshape(2, 2, 28, 28)
    assert (drawn(2, 2) != 1 - ink).sum() <= 4


def test_seeds_draw_different_families():
    assert not np.array_equal(drawn(3, 2, seed=0), drawn(3, 2, seed=1))


def test_drawings_of_a_character_differ_but_less_than_characters_do():
    pixels = drawn(60, 8).reshape(60, 8, -1)
    between_drawings = np.abs(pixels[:, 1:] - pixels[:, :1]).mean()
    between_characters = np.abs(pixels[1:, :] - pixels[:1, :]).mean()
    assert (np.abs(pixels[:, 1:] - pixels[:, :1]).mean(axis=2) > 0).all()
    assert between_drawings < between_characters


def test_a_stroke_passes_through_its_knots_and_reproduces_straight_lines():
    knots = np.arange(glyphs.KNOTS, dtype=float)
    path = glyphs._CURVE @ knots
    ends = path.reshape(glyphs.KNOTS - 1, -1)[:, [0, -1]]
    # Weights are dyadic combinations of t; a few roundings of numbers below 5.
    np.testing.assert_allclose(ends, np.stack([knots[:-1], knots[1:]], axis=1), atol=1e-14)
    np.testing.assert_allclose(glyphs._CURVE @ np.ones(glyphs.KNOTS), 1, atol=1e-14)


@given(seeds)
def test_a_character_is_centred_of_size_two_and_has_one_to_three_strokes_of_five_knots(seed):
    knots = glyphs._character(np.random.default_rng(seed))
    strokes, knots_each, dimensions = knots.shape
    assert 1 <= strokes <= 3
    assert (knots_each, dimensions) == (5, 2)
    low, high = knots.min(axis=(0, 1)), knots.max(axis=(0, 1))
    np.testing.assert_allclose(low, -high, atol=1e-14)
    assert (high - low).max() == pytest.approx(2, abs=1e-14)


def test_one_two_and_three_strokes_are_equally_likely():
    draws = 3000
    counts = Counter(len(glyphs._character(np.random.default_rng(i))) for i in range(draws))
    assert sorted(counts) == [1, 2, 3]
    assert max(abs(n - draws / 3) for n in counts.values()) < 5 * (draws * 2 / 9) ** 0.5


def test_drawings_vary_as_much_as_stated():
    """Standard deviations over many drawings of one knot: 5 standard errors of each."""
    n = 4000
    character = np.zeros((1, 5, 2))
    character[0, :, 0] = 1.0
    path, radius = glyphs._pen_paths(np.random.default_rng(0), character, n)
    normal = np.random.default_rng(0).standard_normal((n, 7 + character.size))[:, 6]
    centre = path.mean(axis=1)  # 14 + 10 (1 + noise) + shift in the first direction
    weights = glyphs._CURVE.mean(axis=0)
    variance = 100 * (0.07**2 * (weights**2).sum() * (1 + 2 * 0.09**2) + 0.09**2) + 0.8**2
    assert abs(centre[:, 0].var() / variance - 1) < 5 * (2 / n) ** 0.5
    np.testing.assert_array_equal(radius, 0.6 + (1.2 - 0.6) / (1 + np.exp(-2 * normal)))


def test_ink_beyond_the_paper_is_lost_and_nothing_else():
    path = np.array([[[-50.0, 14.0], [14.0, 1000.0], [5.5, 7.5]]])
    image = glyphs._ink(path, np.array([0.1]))
    assert np.argwhere(~image).tolist() == [[0, 5, 7]]


@pytest.mark.parametrize(("classes", "drawings"), [(0, 1), (1, 0), (2.5, 3), (2, 3.5), (None, 3), (True, 2)])
def test_no_or_half_glyphs_are_refused(classes, drawings):
    with pytest.raises(UsageError, match=r"^glyphs: (classes|drawings) is .* whole number of at least 1$"):
        glyphs.draw(classes, drawings, np.random.default_rng(0))
