"""Native kernels equal NumPy to the bit on integers: around every block size, any alignment, any threads."""

import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reptile_np.nn import native
from reptile_np.nn.ops import NUMPY
from tests.oracles import gamma
from tests.strategies import (
    Convolution,
    filtered_convolutions,
    integers_as,
    normals,
    paddings,
    rngs,
    seeds,
)

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")

# around each size at which a kernel does something else: lanes (4, 8, 16), panels of two (8, 16, 32),
# rows of a block (6, 12), weight rows in a strip (48), positions in a tile (96), spreads of panels (64, 128)
EDGES = sorted({n + d for n in (4, 6, 8, 12, 16, 32, 48, 64, 96, 128) for d in (-1, 0, 1)})


@st.composite
def wide_convolutions(draw, numbers=integers_as):
    """Convolutions whose channels, filters and positions lie around the kernels' block sizes."""
    edge = st.sampled_from([n for n in EDGES if n <= 65])
    channels, filters = draw(st.tuples(st.one_of(st.integers(1, 5), edge), edge))
    size = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    taps, stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4))), draw(st.integers(1, 3))
    padding, batch, rng = draw(paddings(size, taps, stride)), draw(st.integers(1, 4)), draw(rngs)
    out = [(n + sum(p) - k) // stride + 1 for n, k, p in zip(size, taps, padding, strict=True)]
    shapes = (batch, *size, channels), (*taps, channels, filters), (batch, *out, filters)
    return Convolution(*(numbers(np.float32, rng, shape) for shape in shapes), stride, padding)


@given(conv=wide_convolutions())
def test_convolutions_around_every_block_size_are_numpys_to_the_bit_on_integers(kernels, conv):
    for actual, expected in zip(conv.maps(kernels), conv.maps(NUMPY), strict=True):
        np.testing.assert_array_equal(actual, expected)


@given(conv=wide_convolutions(normals))
def test_convolutions_of_reals_stay_within_gamma_n_of_their_absolute_terms(kernels, conv):
    """A sum of n products in any order, fused or not: |error| <= γ_n Σ |terms| (Higham 2002, section 3.1)."""
    assume(conv.stride > 2 or conv.taps != (3, 3))  # perhaps by patches: test_native_winograd.py
    wide = conv.astype(float)
    lengths = conv.kernel[..., 0].size, conv.kernel[:, :, 0].size, conv.y_bar[..., 0].size
    results = zip(conv.maps(kernels), wide.maps(NUMPY), abs(wide).maps(NUMPY), lengths, strict=True)
    for actual, expected, absolute, n in results:
        assert (np.abs(actual - expected) <= gamma(n, np.float32) * absolute).all()


@given(p=st.sampled_from(EDGES), i=st.sampled_from(EDGES), o=st.sampled_from(EDGES), rng=rngs)
def test_products_around_every_block_size_are_exact_on_integers(kernels, p, i, o, rng):
    x, w, y_bar = (integers_as(np.float32, rng, shape) for shape in ((p, i), (i, o), (p, o)))
    np.testing.assert_array_equal(kernels.matmul(x, w), x @ w)
    np.testing.assert_array_equal(kernels.matmul_input(y_bar, w), y_bar @ w.T)
    np.testing.assert_array_equal(kernels.matmul_weight(x, y_bar), x.T @ y_bar)


def shifted(array, floats, odd_bytes=0):
    """A copy of `array` that starts `floats` elements and `odd_bytes` bytes after a cache line."""
    raw = np.zeros(array.nbytes + 256, np.uint8)
    start = -raw.ctypes.data % 64 + 4 * floats + odd_bytes
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("floats", range(16))
def test_any_alignment_gives_the_same_bits(kernels, floats):
    conv = Convolution(
        *(
            normals(np.float32, np.random.default_rng(0), s)
            for s in ((2, 7, 7, 5), (3, 3, 5, 33), (2, 4, 4, 33))
        ),
        2,
        ((1, 1), (1, 1)),
    )
    for odd_bytes in (0, 1):  # off even a float's alignment: copied first
        moved = (shifted(a, floats, odd_bytes) for a in (conv.x, conv.kernel, conv.y_bar))
        same = Convolution(*moved, conv.stride, conv.padding)
        for actual, expected in zip(same.maps(kernels), conv.maps(kernels), strict=True):
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("threads", [2, 3, 4])
@given(conv=st.one_of(wide_convolutions(normals), filtered_convolutions(normals)))
def test_any_number_of_threads_gives_the_same_bits(kernels, threads, conv):
    team = native.load(kernels.name.removeprefix("native-"), threads)
    for actual, expected in zip(conv.maps(team), conv.maps(kernels), strict=True):
        np.testing.assert_array_equal(actual, expected)


@given(seed=seeds)
def test_other_dtypes_and_empty_arrays_answer_as_numpys_ops_do(kernels, seed):
    rng = np.random.default_rng(seed)
    x, w = normals(np.float64, rng, (3, 4)), normals(np.float64, rng, (4, 2))
    for a, b in (
        (x, w),
        (x.astype(np.float32), w),
        (x * 1j, w),
        (x[:0].astype(np.float32), w.astype(np.float32)),
    ):
        actual, expected = kernels.matmul(a, b), NUMPY.matmul(a, b)
        np.testing.assert_array_equal(actual, expected)
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)


def test_a_table_survives_pickling(kernels):
    copy = pickle.loads(pickle.dumps(kernels))
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(copy.matmul(x, x.T), kernels.matmul(x, x.T))
    assert copy.name == kernels.name
