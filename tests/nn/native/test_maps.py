"""Native convolutions are NumPy's, bitwise on integers: any block size, alignment and number of threads."""

import pickle
from copy import copy, deepcopy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.nn import native
from reptile_np.nn.native import maps
from reptile_np.nn.ops import NUMPY
from tests import native_kernels
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
def test_convolutions_around_every_block_size_are_numpys_bitwise_on_integers(kernels, conv):
    for actual, expected in zip(conv.maps(kernels), conv.maps(NUMPY), strict=True):
        np.testing.assert_array_equal(actual, expected)


@given(conv=wide_convolutions(normals))
def test_convolutions_of_reals_stay_within_gamma_n_of_their_absolute_terms(kernels, conv):
    """A sum of n products in any order, fused or not: |error| <= γ_n Σ |terms| (Higham 2002, section 3.1)."""
    assume(conv.stride > 2 or conv.taps != (3, 3))  # else perhaps by Winograd tiles: test_winograd.py
    wide = conv.astype(float)
    lengths = conv.kernel[..., 0].size, conv.kernel[:, :, 0].size, conv.y_bar[..., 0].size
    results = zip(conv.maps(kernels), wide.maps(NUMPY), abs(wide).maps(NUMPY), lengths, strict=True)
    for actual, expected, absolute, n in results:
        assert (np.abs(actual - expected) <= gamma(n, np.float32) * absolute).all()


def test_a_kernel_of_one_channel_and_many_rows_is_numpys_bitwise_on_integers(kernels):
    """96 positions of 60 inputs are more than are gathered at once: at most 48 are."""
    rng, shapes = np.random.default_rng(0), ((2, 31, 10, 1), (20, 3, 1, 4), (2, 12, 8, 4))
    conv = Convolution(*(integers_as(np.float32, rng, s) for s in shapes), 1, ((0, 0), (0, 0)))
    for actual, expected in zip(conv.maps(kernels), conv.maps(NUMPY), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_single_products_are_numpys_own_because_blas_is_faster(kernels):
    for name in ("matmul", "matmul_input", "matmul_weight"):
        assert getattr(kernels, name) is getattr(NUMPY, name)


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
    team = native_kernels.load(kernels.name.removeprefix("native-"), threads)
    for actual, expected in zip(conv.maps(team), conv.maps(kernels), strict=True):
        np.testing.assert_array_equal(actual, expected)


@given(seed=seeds)
def test_other_dtypes_and_empty_arrays_get_numpys_answer(kernels, seed):
    rng = np.random.default_rng(seed)
    x, kernel = normals(np.float64, rng, (2, 4, 4, 3)), normals(np.float64, rng, (3, 3, 3, 2))
    single, pad = np.float32, ((1, 1), (1, 1))
    for a, b in (
        (x, kernel),
        (x.astype(single), kernel),
        (x * 1j, kernel),
        (x[:0].astype(single), kernel.astype(single)),
    ):
        actual, expected = kernels.conv2d(a, b, 1, pad), NUMPY.conv2d(a, b, 1, pad)
        np.testing.assert_array_equal(actual, expected)
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)


ODD = {
    "a signal with a kernel as long as its stride": ((1, 8000), (1, 400), 400, ((0, 0), (0, 0))),
    "a small image in 4,000 rows of padding": ((4, 4), (3, 3), 1, ((4000, 4000), (0, 0))),
    "a kernel as large as its image": ((1, 20_000), (1, 20_000), 1, ((0, 0), (0, 0))),
    "a padding that lets a large kernel slide": ((150, 150), (150, 150), 1, ((149, 149), (149, 149))),
}


@pytest.mark.parametrize("name", ODD)
def test_shapes_that_c_is_not_made_for_are_left_to_numpy(kernels, name, monkeypatch):
    """NumPy's own call may not be cheap, so it is not made."""
    image, taps, stride, padding = ODD[name]
    asked = []
    for entry in ("conv2d", "conv2d_input", "conv2d_weight"):
        monkeypatch.setattr(maps, "NUMPY", replace(maps.NUMPY, **{entry: lambda *a: asked.append(a)}))
    x, kernel = np.ones((1, *image, 1), np.float32), np.ones((*taps, 1, 1), np.float32)
    out = [(n + sum(p) - k) // stride + 1 for n, k, p in zip(image, taps, padding, strict=True)]
    y_bar = np.ones((1, *out, 1), np.float32)
    kernels.conv2d(x, kernel, stride, padding)
    kernels.conv2d_input(y_bar, kernel, stride, padding, image)
    kernels.conv2d_weight(x, y_bar, stride, padding, taps)
    assert len(asked) == 3


@pytest.mark.parametrize("again", [lambda table: pickle.loads(pickle.dumps(table)), copy, deepcopy])
def test_a_table_can_be_pickled_and_copied(kernels, again):
    same = again(kernels)
    x, kernel = np.ones((1, 4, 4, 2), np.float32), np.ones((3, 3, 2, 2), np.float32)
    arguments = x, kernel, 1, ((1, 1), (1, 1))
    np.testing.assert_array_equal(same.conv2d(*arguments), kernels.conv2d(*arguments))
    assert (same.name, same.threads, same.kernels.team) == (
        kernels.name,
        kernels.threads,
        kernels.kernels.team,
    )
    alone = again(kernels.kernels)
    assert (alone.name, alone.team) == (kernels.kernels.name, kernels.kernels.team)


@pytest.mark.parametrize("name", ["conv2d_input", "conv2d_weight"])
def test_outputs_of_five_axes_are_refused(kernels, name):
    x, y_bar, kernel = (np.ones(s, np.float32) for s in ((2, 6, 7, 3), (2, 3, 4, 4, 2), (3, 2, 3, 4)))
    first, last = ((y_bar, kernel), (6, 7)) if name == "conv2d_input" else ((x, y_bar), (3, 2))
    with pytest.raises(UsageError, match=f"^{name}: .*that agree"):
        getattr(kernels, name)(*first, 2, ((1, 0), (0, 1)), last)
