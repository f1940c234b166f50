"""ReLU, tanh, pooling and flattening, beside the definitions; a pool's windows each hold a pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.nn.ops import NUMPY
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu, SpatialMean, Tanh
from tests.strategies import rngs


@given(size=st.integers(1, 3), stride=st.integers(1, 3), padding=st.sampled_from(["SAME", "VALID"]), rng=rngs)
def test_max_pool_is_the_largest_pixel_of_each_window(size, stride, padding, rng):
    x, pool = rng.normal(size=(2, 6, 5, 2)), MaxPool(size=size, stride=stride, padding=padding)
    y, ((top, _), (left, _)) = pool.forward((), x, NUMPY)[0], pool.pad(6, 5)
    for i, j in np.ndindex(y.shape[1:3]):
        row, column = i * stride - top, j * stride - left
        window = x[:, max(row, 0) : row + size, max(column, 0) : column + size]
        np.testing.assert_array_equal(y[:, i, j], window.max((1, 2)))


def test_the_derivative_of_relu_at_zero_is_zero():
    x = np.array([[-1.0, -0.0, 0.0, 2.0]])
    y, at = Relu().forward((), x, NUMPY)
    np.testing.assert_array_equal(y, [[0, 0, 0, 2]])
    np.testing.assert_array_equal(Relu().backward(at, np.ones((1, 4)), NUMPY)[0], [[0, 0, 0, 1]])
    np.testing.assert_array_equal(Relu().forward_dot(at, (), np.ones((1, 4)), NUMPY)[0], [[0, 0, 0, 1]])


def test_of_equal_entries_the_first_in_row_order_wins_the_maximum():
    x = np.array([[3.0, 5.0], [5.0, 5.0]]).reshape(1, 2, 2, 1)
    y, at = MaxPool().forward((), x, NUMPY)
    assert y.item() == 5
    x_bar = MaxPool().backward(at, np.ones((1, 1, 1, 1)), NUMPY)[0]
    np.testing.assert_array_equal(x_bar[0, :, :, 0], [[0, 1], [0, 0]])


@pytest.mark.parametrize("size", [2, 11, 12, 17])
def test_the_last_tap_of_a_window_of_any_size_can_win(size):
    x = np.arange(size**2, dtype=float).reshape(1, size, size, 1)
    pool = MaxPool(size=size, stride=size)
    y, at = pool.forward((), x, NUMPY)
    assert y.item() == size**2 - 1
    np.testing.assert_array_equal(pool.backward(at, y, NUMPY)[0], np.where(x == y, y, 0))


def test_a_nan_is_the_maximum_only_if_it_is_the_first_entry_of_its_window():
    for window, maximum in (([np.nan, 1, 2, 0], np.nan), ([1, 2, 0, np.nan], 2), ([1, np.nan, 0, 2], 2)):
        x = np.array(window, float).reshape(1, 2, 2, 1)
        np.testing.assert_array_equal(MaxPool().forward((), x, NUMPY)[0].ravel(), maximum)


def test_padding_never_wins_a_maximum():
    x = np.full((1, 3, 3, 1), -4.0)
    np.testing.assert_array_equal(MaxPool().forward((), x, NUMPY)[0], np.full((1, 2, 2, 1), -4.0))


def test_max_pool_valid_leaves_an_odd_row_out():
    x = np.arange(25.0).reshape(1, 5, 5, 1)
    y = MaxPool(padding="VALID").forward((), x, NUMPY)[0]
    np.testing.assert_array_equal(y[0, :, :, 0], [[6, 8], [16, 18]])


def test_flatten_goes_row_column_channel_and_the_spatial_mean_keeps_channels():
    x = np.arange(24.0).reshape(2, 2, 3, 2)
    np.testing.assert_array_equal(Flatten().forward((), x, NUMPY)[0][1], np.arange(12, 24))
    np.testing.assert_array_equal(SpatialMean().forward((), x, NUMPY)[0], x.mean((1, 2)))


def test_tanh_is_tanh():
    x = np.linspace(-2, 2, 7)[None]
    np.testing.assert_array_equal(Tanh().forward((), x, NUMPY)[0], np.tanh(x))


@pytest.mark.parametrize(
    ("padding", "stride"),
    [(((2, 2), (0, 0)), 2), (((0, 0), (2, 0)), 1), (((0, 3), (0, 0)), 2), (((0, 0), (0, 2)), 1)],
)
def test_a_pool_with_a_window_of_padding_alone_is_refused(padding, stride):
    pool = MaxPool(size=2, stride=stride, padding=padding)
    with pytest.raises(UsageError, match="has windows without a pixel of the 4 x 4 image; give less padding"):
        pool.out_size((4, 4, 1))


@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((1, 0), (0, 1)), "SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_window_of_a_pool_has_a_pixel(padding, stride):
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
    assert np.isfinite(MaxPool(size=2, stride=stride, padding=padding).forward((), x, NUMPY)[0]).all()
