"""One flat vector and its named views are two sides of the same memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.nn.layout import Layout

layouts = st.dictionaries(
    st.text("abc/", min_size=1, max_size=4),
    st.lists(st.integers(0, 3), max_size=4).map(tuple),
    max_size=5,
).map(Layout)


@given(layout=layouts)
def test_flatten_is_the_inverse_of_views(layout):
    phi = np.arange(float(layout.size))
    if layout.shapes:
        np.testing.assert_array_equal(layout.flatten(layout.views(phi)), phi)


@given(layout=layouts)
def test_the_views_have_the_names_and_shapes_in_order_and_cover_phi(layout):
    phi = np.arange(float(layout.size))
    views = layout.views(phi)
    assert list(views) == list(layout.shapes)
    assert [view.shape for view in views.values()] == list(layout.shapes.values())
    assert [n for view in views.values() for n in view.flat] == phi.tolist()


@given(layout=layouts)
def test_a_view_writes_through_to_phi(layout):
    phi = np.zeros(layout.size)
    for view in layout.views(phi).values():
        view += 1
    np.testing.assert_array_equal(phi, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128, object])
def test_views_keep_the_dtype(dtype):
    layout = Layout({"kernel": (2, 3), "bias": (3,)})
    assert {view.dtype for view in layout.views(np.zeros(9, dtype)).values()} == {np.dtype(dtype)}


def test_views_of_a_read_only_vector_are_read_only():
    phi = np.zeros(3)
    phi.setflags(write=False)
    assert not Layout({"bias": (3,)}).views(phi)["bias"].flags.writeable


@pytest.mark.parametrize("shape", [(8,), (10,), (9, 1), ()])
def test_a_vector_of_another_length_is_refused(shape):
    layout = Layout({"kernel": (2, 3), "bias": (3,)})
    with pytest.raises(UsageError, match=r"^phi has shape .*; this layout needs \(9,\)$"):
        layout.views(np.zeros(shape))


@pytest.mark.parametrize("phi", [[0.0] * 9, (0.0,) * 9, None])
def test_a_list_has_no_views(phi):
    with pytest.raises(UsageError, match=r"^phi is a (list|tuple|NoneType); give an array \(9,\)$"):
        Layout({"kernel": (2, 3), "bias": (3,)}).views(phi)


def test_a_layout_without_pieces_is_that_of_the_empty_vector():
    assert Layout({}).flatten(Layout({}).views(np.empty(0))).shape == (0,)


def test_flatten_refuses_missing_unknown_and_misshapen_pieces():
    layout = Layout({"kernel": (2, 3), "bias": (3,)})
    good = {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}
    with pytest.raises(UsageError, match="'bias'"):
        layout.flatten({"kernel": good["kernel"]})
    with pytest.raises(UsageError, match="'beta'"):
        layout.flatten(good | {"beta": np.zeros(1)})
    with pytest.raises(UsageError, match=r"^bias has shape \(4,\); this layout needs \(3,\)$"):
        layout.flatten(good | {"bias": np.zeros(4)})
    with pytest.raises(UsageError, match=r"^bias has rows of different lengths; this layout needs \(3,\)$"):
        layout.flatten(good | {"bias": [[1], [1, 2]]})


LAYOUT = Layout({"conv/kernel": (2, 3), "norm/beta": (3,), "dense/kernel": (3, 2), "dense/bias": (2,)})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fill_gives_each_piece_the_value_of_the_last_key_that_matches_its_name(dtype):
    vector = LAYOUT.fill({"*": 0.5, "norm/*": 0, "dense/bias": 2}, dtype)
    assert vector.dtype == dtype
    assert [set(view.ravel()) for view in LAYOUT.views(vector).values()] == [{0.5}, {0}, {0.5}, {2}]


@pytest.mark.parametrize("value", [None, "x", "0.4", [1, 2, 3], [1, 2]])
def test_fill_refuses_a_value_that_is_no_number(value):
    with pytest.raises(UsageError, match=r"^fill: the value for a is .*; give a number$"):
        Layout({"a": (2,)}).fill({"a": value})


@pytest.mark.parametrize("dtype", [int, bool, "banana"])
def test_fill_does_not_cut_rates_to_whole_numbers(dtype):
    with pytest.raises(UsageError, match=r"^fill: .*; give float32, float64, …$"):
        LAYOUT.fill({"*": 0.4}, dtype)


def test_fill_refuses_one_number_without_a_name():
    with pytest.raises(
        UsageError, match=r'^fill: the values are 0\.4; give them by name, such as {"\*": 0\.4}$'
    ):
        LAYOUT.fill(0.4)


def test_fill_tells_capital_letters_from_small_ones():
    np.testing.assert_array_equal(Layout({"A": (1,), "a": (1,)}).fill({"A": 1, "a": 2}), [1, 2])


def test_fill_refuses_a_key_without_a_name_and_a_name_without_a_key():
    with pytest.raises(
        UsageError, match=r"^'norm/gamma' matches none of conv/kernel, norm/beta, dense/kernel"
    ):
        LAYOUT.fill({"*": 1, "norm/gamma": 0})
    with pytest.raises(UsageError, match=r"^no value for dense/kernel$"):
        LAYOUT.fill({"conv/*": 1, "norm/*": 0})
