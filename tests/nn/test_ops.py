"""Convolution and product, each with its two adjoints: exact on integers, whatever the shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.nn import ops as numpy_ops
from reptile_np.nn.ops import resolve_padding
from tests.oracles import (
    assert_adjoint,
    gamma,
    naive_conv2d,
    naive_conv2d_input,
    naive_conv2d_weight,
    out_size,
)
from tests.strategies import convolutions, integers_as, normals, rngs

sizes = st.integers(1, 40)


@given(conv=convolutions(np.float32))
def test_conv2d_equals_nested_loops_exactly_on_integers(ops, conv):
    y = ops.conv2d(conv.x, conv.kernel, conv.stride, conv.padding)
    np.testing.assert_array_equal(y, naive_conv2d(conv.x, conv.kernel, conv.stride, conv.padding))
    assert y.dtype == np.float32


@given(conv=convolutions(np.float32))
def test_conv2d_input_equals_nested_loops_exactly_on_integers(ops, conv):
    x_bar = ops.conv2d_input(conv.y_bar, conv.kernel, conv.stride, conv.padding, conv.size)
    expected = naive_conv2d_input(conv.y_bar, conv.kernel, conv.stride, conv.padding, conv.size)
    np.testing.assert_array_equal(x_bar, expected)


@given(conv=convolutions(np.float32))
def test_conv2d_weight_equals_nested_loops_exactly_on_integers(ops, conv):
    kernel_bar = ops.conv2d_weight(conv.x, conv.y_bar, conv.stride, conv.padding, conv.taps)
    expected = naive_conv2d_weight(conv.x, conv.y_bar, conv.stride, conv.padding, conv.taps)
    np.testing.assert_array_equal(kernel_bar, expected)


@given(conv=convolutions(np.float64, normals))
def test_the_two_adjoints_of_conv2d_are_adjoint_to_it(ops, conv):
    rest = conv.stride, conv.padding
    assert_adjoint(
        lambda x: ops.conv2d(x, conv.kernel, *rest),
        conv.x,
        lambda y_bar: ops.conv2d_input(y_bar, conv.kernel, *rest, conv.size),
        conv.y_bar,
    )
    assert_adjoint(
        lambda kernel: ops.conv2d(conv.x, kernel, *rest),
        conv.kernel,
        lambda y_bar: ops.conv2d_weight(conv.x, y_bar, *rest, conv.taps),
        conv.y_bar,
    )


@given(rng=rngs, p=sizes, i=sizes, o=sizes)
def test_the_product_and_its_adjoints_are_exact_on_integers(ops, rng, p, i, o):
    x, w, y_bar = (integers_as(np.float32, rng, shape) for shape in ((p, i), (i, o), (p, o)))
    exact = [array.astype(np.int64) for array in (x, w, y_bar)]
    np.testing.assert_array_equal(ops.matmul(x, w), exact[0] @ exact[1])
    np.testing.assert_array_equal(ops.matmul_input(y_bar, w), exact[2] @ exact[1].T)
    np.testing.assert_array_equal(ops.matmul_weight(x, y_bar), exact[0].T @ exact[2])


@pytest.mark.parametrize("size", [28, 14, 7, 4, 84, 21])
@pytest.mark.parametrize("stride", [1, 2])
def test_float32_stays_within_gamma_n_of_float64_at_the_networks_own_sizes(ops, size, stride):
    rng = np.random.default_rng(size)
    channels, filters, padding = 32, 64, resolve_padding("SAME", (size, size), (3, 3), stride)
    x = normals(np.float32, rng, (2, size, size, channels))
    kernel = normals(np.float32, rng, (3, 3, channels, filters))
    rows = -(-size // stride)
    y_bar = normals(np.float32, rng, (2, rows, rows, filters))
    maps = [  # (map, arguments, length of its sums)
        ("conv2d", (x, kernel, stride, padding), 9 * channels),
        ("conv2d_input", (y_bar, kernel, stride, padding, (size, size)), 9 * filters),
        ("conv2d_weight", (x, y_bar, stride, padding, (3, 3)), 2 * rows * rows),
    ]
    for name, arguments, n in maps:
        wide = [a.astype(float) if isinstance(a, np.ndarray) else a for a in arguments]
        terms = [np.abs(a) if isinstance(a, np.ndarray) else a for a in wide]
        deviation = np.abs(getattr(ops, name)(*arguments) - getattr(numpy_ops, name)(*wide))
        assert (deviation <= gamma(n, np.float32) * getattr(numpy_ops, name)(*terms)).all(), name


@given(conv=convolutions(np.complex128, normals))
def test_complex_numbers_pass_through_unconjugated(conv):
    y = numpy_ops.conv2d(1j * conv.x, conv.kernel, conv.stride, conv.padding)
    np.testing.assert_array_equal(y, 1j * numpy_ops.conv2d(conv.x, conv.kernel, conv.stride, conv.padding))


@given(conv=convolutions(np.float32))
def test_inputs_may_be_read_only_and_strided_and_are_not_written(ops, conv):
    spread = [np.repeat(a, 2, axis=-1)[..., ::2] for a in (conv.x, conv.kernel, conv.y_bar)]
    given_arrays = conv.x, conv.kernel, conv.y_bar, *spread
    before = [array.copy() for array in given_arrays]
    for array in spread:
        array.setflags(write=False)
    x, kernel, y_bar = spread
    rest = conv.stride, conv.padding
    expected = [
        ops.conv2d(conv.x, conv.kernel, *rest),
        ops.conv2d_input(conv.y_bar, conv.kernel, *rest, conv.size),
        ops.conv2d_weight(conv.x, conv.y_bar, *rest, conv.taps),
    ]
    actual = [
        ops.conv2d(x, kernel, *rest),
        ops.conv2d_input(y_bar, kernel, *rest, conv.size),
        ops.conv2d_weight(x, y_bar, *rest, conv.taps),
    ]
    for a, e in zip([*actual, *given_arrays], [*expected, *before], strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize(("n", "pair"), [(28, (0, 1)), (14, (0, 1)), (7, (1, 1)), (4, (0, 1))])
def test_same_padding_is_tensorflows_on_the_omniglot_maps(n, pair):
    assert resolve_padding("SAME", (n, n), (3, 3), 2) == (pair, pair)


@given(n=sizes, k=st.integers(1, 7), stride=st.integers(1, 4))
def test_same_padding_gives_ceil_n_over_stride_outputs_with_the_larger_half_last(n, k, stride):
    (before, after), _ = resolve_padding("SAME", (n, n), (k, k), stride)
    assert out_size((1, n, n), (k, k), stride, ((before, after),) * 2) == (-(-n // stride),) * 2
    assert after - before in (0, 1)
    if before + after:  # no padding is wasted: one less would lose an output
        assert out_size((1, n, n), (k, k), stride, ((before, after - 1),) * 2)[0] < -(-n // stride)


def test_same_padding_treats_rows_and_columns_apart():
    assert resolve_padding("SAME", (5, 4), (3, 2), 2) == ((1, 1), (0, 0))


def test_a_window_that_does_not_fit_is_refused_in_one_line():
    with pytest.raises(UsageError, match=r"^a window of 4 does not fit an image of 3 padded by \(0, 0\)$"):
        resolve_padding("VALID", (3, 3), (4, 4), 1)


@pytest.mark.parametrize("stride", [0, -1, 1.5])
def test_a_stride_that_is_no_whole_number_of_at_least_1_is_refused(stride):
    with pytest.raises(
        UsageError, match=f"^a window: its stride is {stride}; give a whole number of at least 1$"
    ):
        resolve_padding("SAME", (5, 5), (3, 3), stride)
