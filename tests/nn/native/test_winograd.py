"""3 × 3 convolutions by Winograd tiles, at strides 1 and 2: exact on integers, their own bound on reals.

The oracle is the algorithm written out once more, in NumPy, from its three matrices.  With the matrices
as they are it must be the convolution; with all absolute values it gives the sum of the absolute values
of everything added on the way.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given

from reptile_np.nn import native
from reptile_np.nn.native import memory
from reptile_np.nn.native.maps import Kernels
from reptile_np.nn.native.memory import aligned_bytes
from reptile_np.nn.ops import NUMPY
from tests import native_kernels
from tests.oracles import gamma
from tests.strategies import Convolution, filtered_convolutions, integers_as, normals

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")


@dataclass(frozen=True)
class Filtering:
    """Along one axis, a tile of sources d, every `step` of them, makes y = Aᵀ ((G w) ⊙ (Bᵀ d))."""

    step: int
    inputs: np.ndarray  # Bᵀ (products, reads)
    kernel: np.ndarray  # G (products, 3)
    outputs: np.ndarray  # Aᵀ (makes, products)

    def __abs__(self):
        return Filtering(self.step, abs(self.inputs), abs(self.kernel), abs(self.outputs))


STRIDE_1 = Filtering(
    2,
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
)
A, B = 0.75, 1.5  # the points of the large tiles are 0, ±A, ±B and infinity
LARGE = Filtering(
    4,
    np.array(
        [
            [A**2 * B**2, 0, -(A**2) - B**2, 0, 1, 0],
            *([0, -p * q**2, -(q**2), p, 1, 0] for p, q in ((A, B), (-A, B), (B, A), (-B, A))),
            [0, A**2 * B**2, 0, -(A**2) - B**2, 0, 1],
        ]
    ),
    np.array(
        [
            [1 / (A * B) ** 2, 0, 0],
            *(
                [scale, scale * p, scale * p**2]
                for p, q in ((A, B), (-A, B), (B, A), (-B, A))
                for scale in [1 / (2 * p**2 * (p**2 - q**2))]
            ),
            [0, 0, 1],
        ]
    ),
    np.array([[k == 0, A**k, (-A) ** k, B**k, (-B) ** k, k == 3] for k in range(4)]),
)
STRIDE_2 = Filtering(
    4,
    np.array([[1, 0, -1, 0, 0], [0, 0, 1, 0, 0], [0, 0, -1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]),
    np.array([[1, 0, 0], [1, 0, 1], [0, 0, 1], [0, 1, 0], [0, 1, 0]]),
    np.array([[1, 1, 0, 1, 0], [0, 1, 1, 0, 1]]),
)
STRIDE_2_BACK = Filtering(
    2,
    np.array([[1, -1, 0], [0, 1, 0], [0, -1, 1], [0, 1, 0], [0, 0, 1]]),
    np.array([[0, 0, 1], [1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0]]),
    np.array([[1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]]),
)


def both_axes(matrix, squares):
    """matrix · square · matrixᵀ of the last two axes."""
    return matrix @ squares @ matrix.T


def tiles_of(x, filtering, firsts, counts):
    """The input tiles of x from sources `firsts` on, zeros outside: (b, rows, columns, c, reads, reads)."""
    reads = filtering.inputs.shape[1]
    room = [(max(0, -f), max(0, f) + reads + filtering.step * n) for f, n in zip(firsts, counts, strict=True)]
    padded = np.pad(x, ((0, 0), *room, (0, 0)))[:, max(0, firsts[0]) :, max(0, firsts[1]) :]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (reads, reads), axis=(1, 2))
    return windows[:, :: filtering.step, :: filtering.step][:, : counts[0], : counts[1]]


def counts_of(size, starts, makes):
    """How many tiles there are along each axis, the first of them at destination `start` <= 0."""
    return [-((start - n) // makes) for n, start in zip(size, starts, strict=True)]


def by_tiles(x, kernel, filtering, firsts, starts, size):
    """y (b, *size, f): Aᵀ (Σ_c (G w_c Gᵀ) ⊙ (Bᵀ d_c B)) A of every tile."""
    makes = len(filtering.outputs)
    counts = counts_of(size, starts, makes)
    v = both_axes(filtering.inputs, tiles_of(x, filtering, firsts, counts))
    u = both_axes(filtering.kernel, kernel.transpose(2, 3, 0, 1))
    y = both_axes(filtering.outputs, np.einsum("bijcuv,cfuv->bijfuv", v, u))
    whole = y.transpose(0, 1, 4, 2, 5, 3).reshape(len(x), makes * counts[0], makes * counts[1], -1)
    return whole[:, -starts[0] :, -starts[1] :][:, : size[0], : size[1]]


def weight_by_tiles(x, y_bar, filtering, firsts, starts):
    """w_bar (3, 3, c, f): Gᵀ (Σ_tiles (Bᵀ d B) ⊙ (A y_bar Aᵀ)) G."""
    makes, size = len(filtering.outputs), y_bar.shape[1:3]
    counts = counts_of(size, starts, makes)
    v = both_axes(filtering.inputs, tiles_of(x, filtering, firsts, counts))
    ends = [makes * n + start - m for n, start, m in zip(counts, starts, size, strict=True)]
    whole = np.pad(y_bar, ((0, 0), *((-start, end) for start, end in zip(starts, ends, strict=True)), (0, 0)))
    squares = whole.reshape(len(x), counts[0], makes, counts[1], makes, -1).transpose(0, 1, 3, 5, 2, 4)
    u_bar = np.einsum("bijcuv,bijfuv->cfuv", v, both_axes(filtering.outputs.T, squares))
    return both_axes(filtering.kernel.T, u_bar).transpose(2, 3, 0, 1)


def oracle(conv, outside, absolute=False, stride_1=STRIDE_1):
    """The three maps of a convolution; `outside`: the first tiles begin half a tile outside the image."""
    pads = [before for before, _ in conv.padding]
    forward = stride_1 if conv.stride == 1 else STRIDE_2
    back = stride_1 if conv.stride == 1 else STRIDE_2_BACK
    starts = [-outside * (len(forward.outputs) // 2)] * 2
    firsts = [conv.stride * start - pad for start, pad in zip(starts, pads, strict=True)]
    if conv.stride == 1:  # the forward map of the kernel turned round
        turned = conv.kernel[::-1, ::-1]
        back_starts = starts
        back_firsts = [start + pad - 2 for start, pad in zip(starts, pads, strict=True)]
    else:
        turned = conv.kernel
        back_starts = [-(pad % 2) - 2 * outside for pad in pads]
        back_firsts = [(start + pad) // 2 - 1 for start, pad in zip(back_starts, pads, strict=True)]
    if absolute:
        conv, turned, forward, back = abs(conv), abs(turned), abs(forward), abs(back)
    return (
        by_tiles(conv.x, conv.kernel, forward, firsts, starts, conv.y_bar.shape[1:3]),
        by_tiles(conv.y_bar, turned.transpose(0, 1, 3, 2), back, back_firsts, back_starts, conv.size),
        weight_by_tiles(conv.x, conv.y_bar, forward, firsts, starts),
    )


@pytest.mark.parametrize("outside", [False, True])
@given(conv=filtered_convolutions(widths=(1, 2, 3)))
def test_the_oracle_is_the_convolution(outside, conv):
    conv = conv.astype(float)
    for actual, expected in zip(oracle(conv, outside), conv.maps(NUMPY), strict=True):
        np.testing.assert_array_equal(actual, expected)


def in_rationals(filtering):
    """The matrices with exact entries: those of G are rounded fractions of small whole numbers."""
    exact = np.vectorize(lambda entry: Fraction(float(entry)).limit_denominator(1000), otypes=[object])
    return Filtering(filtering.step, *map(exact, (filtering.inputs, filtering.kernel, filtering.outputs)))


def test_the_large_tiles_are_the_convolution_exactly_in_rationals():
    """Both axes have the same one-dimensional filter, which is bilinear: pairs of unit vectors suffice."""
    large = in_rationals(LARGE)
    np.testing.assert_allclose(large.kernel.astype(float), LARGE.kernel, rtol=1e-15)
    for tap, source in np.ndindex(3, 6):
        kernel, d = np.eye(3, dtype=int)[tap], np.eye(6, dtype=int)[source]
        expected = [int(source == output + tap) for output in range(4)]
        assert (large.outputs @ ((large.kernel @ kernel) * (large.inputs @ d))).tolist() == expected


@given(conv=filtered_convolutions())
def test_integers_are_exact(kernels, conv):
    for actual, expected in zip(conv.maps(kernels), conv.maps(NUMPY), strict=True):
        np.testing.assert_array_equal(actual, expected)


@given(conv=filtered_convolutions(normals))
def test_reals_stay_within_gamma_n_of_the_algorithms_own_absolute_terms(kernels, conv):
    """Each transform is at most two additions deep along each axis, and multiplies by powers of 2 only.

    Forward and input adjoint: 2 roundings for the inputs, 4 for the kernel, up to 4 products of c channels
    and their sum, 4 for the outputs.  Weight adjoint: 2 for the inputs, 2 for the adjoints, up to 4 products
    a tile in up to 8 shares, 4 for the kernel.  Where tiles do not pay, there are 9 c products, or
    one a position in up to 16 shares.  Patches begin where it suits them: the larger terms count.
    """
    wide = conv.astype(float)
    terms = map(np.maximum, oracle(wide, False, absolute=True), oracle(wide, True, absolute=True))
    channels, filters = conv.kernel.shape[2:]
    positions = len(conv.x) * (conv.y_bar.shape[1] + 2) * (conv.y_bar.shape[2] + 2)
    lengths = 9 * channels + 10, 9 * filters + 10, positions + 16
    results = zip(conv.maps(kernels), wide.maps(NUMPY), terms, lengths, strict=True)
    for actual, expected, bound, n in results:
        assert (np.abs(actual - expected) <= gamma(n, np.float32) * bound).all()


class LargeTiles(Kernels):
    """Single convolutions as the layers of a network: by tiles of 4 × 4 outputs if these pay."""

    def _call(self, entry, shape, *arguments):
        super()._call(entry, shape._replace(large_tiles=True), *arguments)


def rounding_of_large_tiles(conv, lengths):
    """The bounds on the three maps: γ_n times the sum of the absolute terms, n from `lengths`."""
    wide = conv.astype(float)
    terms = zip(*(oracle(wide, outside, True, LARGE) for outside in (False, True)), strict=True)
    return [gamma(n, np.float32) * np.maximum(*both) for n, both in zip(lengths, terms, strict=True)]


@pytest.mark.parametrize("size", [(11, 11), (21, 21), (16, 23), (42, 42)])
@pytest.mark.parametrize("pad", [((1, 1), (1, 1)), ((0, 2), (2, 0))])
def test_large_tiles_stay_within_gamma_n_of_the_algorithms_own_absolute_terms(kernels, size, pad):
    """n counts the roundings on the way of any term.

    Along an axis an input or a kernel's transform nests at most 3 roundings, an output's 4, and each
    coefficient is itself rounded at most twice: 5 and 6.  Forward and input adjoint: 10 for the inputs, 10
    for the kernel, 32 products and their sum, 12 for the outputs: 64.  Weight adjoint: 10 for the inputs,
    12 for the adjoints, a product a tile in up to 4 shares, 14 for the kernel: tiles + 40.
    """
    rng = np.random.default_rng(0)
    large = LargeTiles(kernels.kernels.name, kernels.kernels.team)
    shapes = (5, *size, 32), (3, 3, 32, 32), (5, *size, 32)
    conv = Convolution(*(rng.normal(size=s).astype(np.float32) for s in shapes), 1, pad)
    tiles = len(conv.x) * (size[0] // 4 + 2) * (size[1] // 4 + 2)
    bounds = rounding_of_large_tiles(conv, (32 + 32, 32 + 32, tiles + 40))
    maps = zip(conv.maps(large), conv.maps(kernels), conv.astype(float).maps(NUMPY), bounds, strict=True)
    for actual, by_small_tiles, expected, bound in maps:
        assert (actual != by_small_tiles).any()  # the large tiles were taken
        assert (np.abs(actual - expected) <= bound).all()
        assert np.abs(actual - expected).max() <= 32 * np.abs(by_small_tiles - expected).max()


@pytest.mark.parametrize(
    ("images", "size", "taken"), [(2, (16, 16), True), (1, (7, 73), False), (7, (9, 9), False)], ids=str
)
def test_large_tiles_are_taken_from_512_positions_on_if_they_save_a_fifth(kernels, images, size, taken):
    """511 positions are too few.  9 x 9 outputs take 9 tiles of 36 products or 25 of 16: 81 of a hundred."""
    large, rng = LargeTiles(kernels.kernels.name, kernels.kernels.team), np.random.default_rng(0)
    x, kernel = normals(np.float32, rng, (images, *size, 32)), normals(np.float32, rng, (3, 3, 32, 32))
    y, by_small_tiles = (table.conv2d(x, kernel, 1, ((1, 1), (1, 1))) for table in (large, kernels))
    assert (y != by_small_tiles).any() == taken


@pytest.mark.parametrize(
    ("height", "stride", "pad", "tiles"),
    [
        (42, 1, 1, True),  # the layers of Mini-ImageNet
        (21, 1, 1, True),
        (10, 1, 1, True),
        (14, 2, 0, True),  # of Omniglot
        (7, 2, 1, False),
        (4, 2, 0, False),
        (10, 2, 1, True),  # 11 products for 14 taps along an axis if the first tile begins outside, else 13
    ],
)
def test_patches_are_taken_where_they_need_fewer_products(kernels, height, stride, pad, tiles):
    assert takes_tiles(kernels, 20, (height, height), stride, ((pad, 1), (pad, 1))) == tiles


def takes_tiles(kernels, images, size, stride, padding):
    """Seen by infinite pixels, whose tiles subtract them from themselves: NaN, where taps leave infinity.

    At stride 2 every second line of pixels is subtracted from none, so there are two infinite lines.
    """
    x = np.zeros((images, *size, 32), np.float32)
    x[:, 2:4, 2:4] = np.inf
    return np.isnan(kernels.conv2d(x, np.ones((3, 3, 32, 32), np.float32), stride, padding)).any()


@pytest.mark.parametrize("stride", [1, 2])
def test_patches_are_taken_from_64_positions_on_and_at_stride_2_with_16_lanes_from_192(kernels, stride):
    many = stride == 2 and kernels.kernels.name in ("avx512", "portable16")
    for size, tiles in (((8, 8), True), ((7, 9), False)):
        reads = tuple((n - 1) * stride + 3 for n in size)
        assert takes_tiles(kernels, 3 if many else 1, reads, stride, ((0, 0), (0, 0))) == tiles


@pytest.mark.parametrize("stride", [1, 2])
def test_channels_beyond_the_64_that_are_transformed_at_a_time_are_added_to_those(kernels, stride):
    """At stride 2 some sums have no transformed input at all: they read the image itself."""
    rng, size = np.random.default_rng(0), 7 * stride + 3
    shapes = (3, size, size, 96), (3, 3, 96, 96), (3, 8, 8, 96)
    conv = Convolution(*(integers_as(np.float32, rng, s) for s in shapes), stride, ((0, 0), (0, 0)))
    for actual, expected in zip(conv.maps(kernels), conv.maps(NUMPY), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_product_that_no_patch_of_a_share_needs_adds_nothing(variant, threads, monkeypatch):
    """Of 3 x 3 outputs, the patches of the last row lack a row of products; they are one of two shares.

    Four threads also cut the channels of each share into pieces.
    """

    def memory_of_nan(size):
        block = aligned_bytes(size)
        block[...] = 255
        return block

    monkeypatch.setattr(memory, "aligned_bytes", memory_of_nan)
    rng = np.random.default_rng(0)
    x = integers_as(np.float32, rng, (48, 7, 7, 96))
    arguments = x, integers_as(np.float32, rng, (48, 3, 3, 32)), 2, ((0, 0), (0, 0)), (3, 3)
    kernel_bar = native_kernels.load(variant, threads).conv2d_weight(*arguments)
    np.testing.assert_array_equal(kernel_bar, NUMPY.conv2d_weight(*arguments))


@pytest.mark.parametrize("stride", [1, 2])
def test_many_patches_are_shared_out_and_added_up(kernels, stride):
    """42 × 42 positions of 10 images, as in the second layer of Mini-ImageNet: 4,410 tiles in 8 shares."""
    rng = np.random.default_rng(0)
    size = 42 * stride
    shapes = (10, size, size, 32), (3, 3, 32, 32), (10, 42, 42, 32)
    padding = ((2 - stride, 1), (2 - stride, 1))
    conv = Convolution(*(integers_as(np.float32, rng, s) for s in shapes), stride, padding)
    for actual, expected in zip(conv.maps(kernels), conv.maps(NUMPY), strict=True):
        np.testing.assert_array_equal(actual, expected)
