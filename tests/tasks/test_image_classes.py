"""Classes of images and their views: parts and rotations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reptile_np.errors import UsageError
from reptile_np.tasks.image_classes import (
    ArrayClasses,
    as_float32,
    inverted,
    rotated,
    selected,
    split_classes,
    turned,
)

seeds = st.integers(0, 2**32 - 1)
pixel_arrays = hnp.arrays(
    st.sampled_from([np.dtype(bool), np.dtype(np.uint8), np.dtype(np.float32)]),
    hnp.array_shapes(min_dims=4, max_dims=4, max_side=5),
    elements=None,
)
all_finite = pixel_arrays.filter(lambda a: bool(np.isfinite(a).all()))


def square_classes(classes=3, per_class=4, side=5):
    x = np.random.default_rng(0).random((classes * per_class, side, side, 2), np.float32)
    return ArrayClasses(x, np.repeat(np.arange(classes), per_class))


def all_images(classes, c):
    return classes.images(c, np.arange(classes.count(c)))


@given(all_finite, st.data())
def test_a_class_holds_the_images_of_its_label_in_their_order(images, data):
    labels = np.array(data.draw(st.lists(st.sampled_from("abc"), min_size=len(images), max_size=len(images))))
    classes = ArrayClasses(images, labels)
    scaled = images.astype(np.float32) / np.float32(255 if images.dtype == np.uint8 else 1)
    assert len(classes) == len(set(labels))
    for c, label in enumerate(sorted(set(labels))):
        assert classes.name(c) == label
        np.testing.assert_array_equal(all_images(classes, c), scaled[labels == label])


def test_each_class_has_its_own_number_of_images():
    classes = ArrayClasses(np.zeros((6, 2, 2, 1)), [2, 0, 2, 1, 2, 1])
    assert [classes.count(c) for c in range(3)] == [1, 2, 3]
    backwards = selected(classes, np.array([2, 0]))
    assert [backwards.count(c) for c in range(2)] == [3, 1]
    assert [backwards.name(c) for c in range(2)] == ["2", "0"]
    assert [rotated(classes).count(c) for c in range(12)] == [1] * 4 + [2] * 4 + [3] * 4


def names_of(classes):
    return [classes.name(c) for c in range(len(classes))]


@pytest.mark.parametrize(
    "positions", [[0, 2], (0, 2), np.array([0, 2], np.uint8), [True, False, True], np.array([1, 0, 1], bool)]
)
def test_classes_are_selected_by_positions_or_a_mask(positions):
    assert names_of(selected(square_classes(), positions)) == ["0", "2"]


@pytest.mark.parametrize(
    "positions", [[3], [0.0, 1.0], [True, False], [[0], [1]], [[0, 1], [0, 1]], None, ["0"]], ids=repr
)
def test_positions_that_no_class_has_are_refused(positions):
    with pytest.raises(
        UsageError, match=r"^selected: .*; give a row of whole numbers below 3, or a mask \(3,\)$"
    ):
        selected(square_classes(), positions)


@given(all_finite)
def test_images_are_float32_of_the_shape_announced(images):
    classes = ArrayClasses(images, np.zeros(len(images), int))
    picked = classes.images(0, np.array([0, 0]))
    assert picked.dtype == np.float32
    assert picked.shape == (2, *classes.image_shape)


@given(all_finite)
def test_pixels_stay_bits_bytes_or_float32_and_give_the_same_images(images):
    classes = ArrayClasses(images, np.zeros(len(images), int))
    for view in (classes, selected(classes, np.array([0]))):
        pixels = view.pixels(0, np.arange(len(images)))
        assert pixels.dtype == images.dtype
        assert as_float32(pixels).tobytes() == all_images(view, 0).tobytes()


def test_pixels_of_float64_become_float32_and_other_arrays_stay_as_they_are():
    images = np.random.default_rng(0).random((2, 3, 3, 1))
    assert ArrayClasses(images, [0, 0]).pixels(0, np.array([1])).dtype == np.float32
    assert as_float32(images) is images


def test_white_is_one_and_black_is_zero_in_bytes():
    classes = ArrayClasses(np.array([0, 255], np.uint8).reshape(2, 1, 1), [0, 1])
    assert [float(all_images(classes, c).item()) for c in (0, 1)] == [0.0, 1.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_images_that_are_not_finite_are_refused_by_position(bad):
    images = np.zeros((3, 2, 2, 1))
    images[1, 0, 1, 0] = bad
    with pytest.raises(UsageError, match=r"images\[1\]: NaN or infinity"):
        ArrayClasses(images, [0, 0, 1])


@pytest.mark.parametrize(
    ("images", "labels", "names", "says"),
    [
        (np.zeros((2, 3)), [0, 1], None, "holds no images"),
        (np.zeros((0, 3, 3, 1)), [], None, "holds no images"),
        ([np.zeros((2, 3, 1)), np.zeros((3, 3, 1))], [0, 1], None, "of different shapes; give all the same"),
        (np.zeros((2, 3, 3, 1)), [0], None, "2 images; give one per image"),
        (np.zeros((2, 3, 3, 1), np.int64), [0, 1], None, "no agreed scale"),
        (np.zeros((2, 3, 3, 1)), [0, 1], ["a"], "one per class"),
    ],
)
def test_arrays_that_are_not_labelled_images_are_refused(images, labels, names, says):
    with pytest.raises(UsageError, match=says):
        ArrayClasses(images, labels, names)


# Rotations


@pytest.mark.parametrize("quarter_turns", range(4))
def test_a_rotated_class_is_its_class_turned(quarter_turns):
    upright = square_classes()
    turned = rotated(upright)
    assert len(turned) == 4 * len(upright)
    for c in range(len(upright)):
        expected = np.rot90(all_images(upright, c), quarter_turns, axes=(1, 2))
        np.testing.assert_array_equal(all_images(turned, 4 * c + quarter_turns), expected)


def test_rotations_say_which_class_they_turn():
    assert rotated(square_classes()).name(6) == "1 turned by 180 degrees"


def test_rotating_what_is_not_square_is_refused():
    with pytest.raises(UsageError, match="only square"):
        rotated(ArrayClasses(np.zeros((1, 2, 3, 1)), [0]))


# Splits


@given(seeds, st.integers(2, 12), st.data())
def test_a_split_parts_the_classes_without_loss_or_overlap(seed, n, data):
    train_count = data.draw(st.integers(1, n - 1))
    classes = ArrayClasses(np.zeros((n, 2, 2, 1)), np.arange(n), names=[f"class {c}" for c in range(n)])
    train, test = split_classes(np.random.default_rng(seed), classes, train_count)
    assert (len(train), len(test)) == (train_count, n - train_count)
    names = [part.name(c) for part in (train, test) for c in range(len(part))]
    assert sorted(names) == sorted(classes.name(c) for c in range(n))


def test_a_part_shows_the_images_of_its_own_classes():
    classes = square_classes()
    for part in split_classes(np.random.default_rng(1), classes, 2):
        assert part.image_shape == classes.image_shape
        for c in range(len(part)):
            assert part.count(c) == 4
            np.testing.assert_array_equal(all_images(part, c), all_images(classes, int(part.name(c))))


@given(seeds, st.integers(2, 12), st.data())
def test_a_split_is_the_beginning_and_the_rest_of_one_permutation(seed, n, data):
    train_count = data.draw(st.integers(1, n - 1))
    classes = ArrayClasses(np.zeros((n, 2, 2, 1)), np.arange(n))
    train, test = split_classes(np.random.default_rng(seed), classes, train_count)
    names = [part.name(c) for part in (train, test) for c in range(len(part))]
    assert names == list(map(str, np.random.default_rng(seed).permutation(n).tolist()))


@given(seeds)
def test_the_same_generator_state_splits_alike(seed):
    (one, _), (two, _) = (split_classes(np.random.default_rng(seed), square_classes(9), 4) for _ in range(2))
    assert [one.name(c) for c in range(4)] == [two.name(c) for c in range(4)]


@pytest.mark.parametrize(
    ("train", "says"),
    [
        (3, "split: 3 training classes of 3; give 1 to 2"),
        *((n, f"split: train is {n}; give a whole number of at least 1") for n in (0, 1.5, None, True)),
    ],
)
def test_a_split_with_an_empty_part_or_half_a_class_is_refused(train, says):
    with pytest.raises(UsageError, match=f"^{says}$"):
        split_classes(np.random.default_rng(0), square_classes(), train)


@pytest.mark.parametrize("quarters", range(-2, 6))
def test_turned_images_are_turned_as_numpy_turns(quarters):
    x = all_images(square_classes(), 1)
    np.testing.assert_array_equal(turned(x, quarters), np.rot90(x, quarters, axes=(1, 2)))


def test_inverted_classes_are_the_classes_with_one_minus_each_pixel():
    classes = square_classes()
    view = inverted(classes)
    assert (len(view), view.image_shape) == (len(classes), classes.image_shape)
    for c in range(len(classes)):
        assert (view.name(c), view.count(c)) == (classes.name(c), classes.count(c))
        np.testing.assert_array_equal(all_images(view, c), 1 - all_images(classes, c))
        assert all_images(view, c).dtype == np.float32


@pytest.mark.parametrize("missing", [None, np.nan, np.datetime64("NaT")], ids=["None", "NaN", "NaT"])
def test_an_image_without_a_label_is_refused(missing):
    labels = np.array(["a", missing], object)
    with pytest.raises(UsageError, match=r"^labels: some are None or NaN; leave these images out$"):
        ArrayClasses(np.zeros((2, 3, 3, 1)), labels)
    with pytest.raises(UsageError, match=r"^labels: some are None or NaN"):
        ArrayClasses(np.zeros((2, 3, 3, 1)), [0.0, np.nan])


@pytest.mark.parametrize("labels", [np.array([0, "a"], object), [object(), object()]])
def test_labels_that_cannot_be_sorted_are_refused(labels):
    with pytest.raises(
        UsageError, match=r"^labels: some cannot be sorted together; give integers or strings$"
    ):
        ArrayClasses(np.zeros((2, 3, 3, 1)), labels)


@pytest.mark.parametrize("shape", [(3, 1), (3, 2)])
def test_labels_that_are_no_vector_are_refused(shape):
    with pytest.raises(UsageError, match="give one per image"):
        ArrayClasses(np.zeros((3, 2, 2, 1)), np.zeros(shape, int))
