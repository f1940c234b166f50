"""Exact statements about the samplers: which class, which image, which place, on arrays of integers."""

from itertools import pairwise

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.tasks import glyphs, sine
from reptile_np.tasks.few_shot import minibatches, minibatches_with_replacement, sample_task, separate_tail
from reptile_np.tasks.image_classes import ArrayClasses

SEEDS = range(20)


def classes_of(counts):
    """Image k of class c has the one pixel 16 c + k."""
    pixels = [16 * c + k for c, count in enumerate(counts) for k in range(count)]
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.array(pixels, np.uint8).reshape(-1, 1, 1, 1)
    return ArrayClasses(images, labels, [str(c) for c in range(len(counts))])


def pixels(x):
    return np.rint(x.reshape(-1) * 255).astype(int)


def a_task_has_distinct_classes_and_distinct_images_in_their_places():
    seen, orders = set(), set()
    for seed in SEEDS:
        task = sample_task(np.random.default_rng(seed), classes_of([4, 5, 6, 7]), ways=3, shots=2, queries=2)
        np.testing.assert_array_equal(task.support[1], [0, 0, 1, 1, 2, 2])
        np.testing.assert_array_equal(task.query[1], [0, 0, 1, 1, 2, 2])
        support, query = (pixels(part[0]).reshape(3, 2) for part in task)
        of_class = [set(np.concatenate([s, q]) // 16) for s, q in zip(support, query, strict=True)]
        assert all(len(one) == 1 for one in of_class)
        assert len(set.union(*of_class)) == 3
        assert len({*support.ravel(), *query.ravel()}) == 12
        seen |= {*support.ravel().tolist()}
        orders.add(tuple(min(one) for one in of_class))
        assert not task.support[0].flags.writeable
        assert not task.query[1].flags.writeable
    assert seen == {16 * c + k for c, count in enumerate([4, 5, 6, 7]) for k in range(count)}
    assert len(orders) > 10


def a_task_may_use_every_class_and_image_and_no_more():
    task = sample_task(np.random.default_rng(0), classes_of([4, 4]), ways=2, shots=3, queries=1)
    assert len(task.support[1]) == 6
    for ways, shots in ((3, 1), (2, 4)):
        with pytest.raises(UsageError):
            sample_task(np.random.default_rng(0), classes_of([4, 4]), ways=ways, shots=shots, queries=1)


def a_class_has_its_own_number_of_images():
    assert [classes_of([4, 7, 5]).count(c) for c in range(3)] == [4, 7, 5]


def numbered(n):
    """Examples 0 … n-1; the label of example i is 10 i."""
    return np.arange(n), 10 * np.arange(n)


def epochs_follow_each_other_without_a_gap():
    firsts = set()
    for seed in SEEDS:
        batches = minibatches(np.random.default_rng(seed), numbered(5), 3, 7)
        assert [len(x) for x, _ in batches] == [3] * 7
        handed_out = np.concatenate([x for x, _ in batches])
        for epoch in handed_out[:20].reshape(4, 5):
            assert set(epoch) == set(range(5))
        assert all((10 * x == y).all() for x, y in batches)
        assert not batches[0][0].flags.writeable
        firsts |= {tuple(epoch) for epoch in handed_out[:20].reshape(4, 5)}
    assert len(firsts) > 40


def with_replacement_every_minibatch_is_drawn_anew():
    for seed in SEEDS:
        batches = minibatches_with_replacement(np.random.default_rng(seed), numbered(20), 5, 6)
        sets = [frozenset(x.tolist()) for x, _ in batches]
        assert [len(one) for one in sets] == [5] * 6
        assert len(set(sets)) == 6
        assert any(a & b for a, b in pairwise(sets))
        assert all((10 * x == y).all() for x, y in batches)
    with pytest.raises(UsageError):
        minibatches_with_replacement(np.random.default_rng(0), numbered(4), 5, 1)


def a_separate_tail_keeps_back_its_share_of_every_class():
    x, y = np.arange(12), np.repeat([0, 1, 2], 4)
    tails = set()
    for seed in SEEDS:
        rest, tail = separate_tail(np.random.default_rng(seed), (x, y), 1)
        assert sorted(tail[1]) == [0, 1, 2]
        assert sorted([*rest[0], *tail[0]]) == list(range(12))
        assert (y[rest[0]] == rest[1]).all()
        assert (y[tail[0]] == tail[1]).all()
        tails |= {*tail[0].tolist()}
    assert tails == set(range(12))
    for shots in (0, 4):
        with pytest.raises(UsageError):
            separate_tail(np.random.default_rng(0), (x, y), shots)


class Highest(np.random.Generator):
    """A generator of the upper end of every interval, or of its lower end."""

    def __init__(self, highest=True):
        super().__init__(np.random.PCG64())
        self.highest = highest

    def uniform(self, low, high, size=()):
        return np.full(size, high if self.highest else low)[()]


def waves_are_those_of_section_3():
    high, low = sine.sample_wave(Highest()), sine.sample_wave(Highest(False))
    assert (high.amplitude, high.phase) == (5.0, 2 * np.pi)
    assert (low.amplitude, low.phase) == (0.1, 0.0)
    wave = sine.Wave(2.0, np.pi / 2)
    assert wave(np.array([0.0])) == 2.0
    assert sine.Wave(2.0, 1.0)(np.array([-1.0])) == 0.0
    assert abs(sine.Wave(2.0, 1.0)(np.array([np.pi / 2 - 1]))) == 2.0
    assert sine.Wave(2.0, 1.0)(np.array([np.pi / 2 - 1])) == 2.0


def a_wave_is_judged_on_50_points_and_learned_from_the_whole_interval():
    np.testing.assert_array_equal(sine.GRID[:, 0], np.linspace(-5, 5, 50))
    for highest in (True, False):
        task = sine.sample_task(Highest(highest), 3)
        np.testing.assert_array_equal(task.support[0], np.full((3, 1), 5.0 if highest else -5.0))
        np.testing.assert_array_equal(task.query[0], sine.GRID.astype(np.float32))
    whole = sine.sample_task(np.random.default_rng(0))
    np.testing.assert_array_equal(whole.support[0], whole.query[0])
    task = sine.sample_task(np.random.default_rng(0), 1, np.float64)
    assert task.query[1].dtype == task.support[1].dtype == np.float64
    np.testing.assert_array_equal(task.query[1], sine.sample_wave(np.random.default_rng(0))(sine.GRID))
    np.testing.assert_array_equal(whole.query[1], task.query[1].astype(np.float32))
    with pytest.raises(UsageError):
        sine.sample_task(Highest(), 0)


def glyphs_are_families_of_characters_that_do_not_depend_on_how_many_are_asked_for():
    few, many = (glyphs.draw(*size, np.random.default_rng(1)) for size in ((2, 2), (4, 3)))
    other = glyphs.draw(2, 2, np.random.default_rng(2))
    assert [many.count(c) for c in range(4)] == [3] * 4
    for c in range(2):
        np.testing.assert_array_equal(few.images(c, [0, 1]), many.images(c, [0, 1]))
        assert (few.images(c, [0]) != other.images(c, [0])).any()
        assert (few.images(c, [0]) != few.images(c, [1])).any()
    drawn = [many.images(c, [0]) for c in range(4)]
    for c in range(4):
        assert all((drawn[c] != drawn[d]).any() for d in range(c))
        assert set(np.unique(drawn[c])) == {0.0, 1.0}
        assert drawn[c].mean() > 0.5


def the_knots_of_a_character_fill_the_square_of_size_2():
    strokes = set()
    for seed in SEEDS:
        knots = glyphs._character(np.random.default_rng(seed))
        low, high = knots.min(axis=(0, 1)), knots.max(axis=(0, 1))
        np.testing.assert_allclose(low, -high, atol=1e-15)
        assert abs(high.max() - 1) < 1e-15
        strokes.add(len(knots))
    assert strokes == {1, 2, 3}
