"""3 × 3 convolutions at stride 1 by Winograd's F(2 × 2, 3 × 3): exact on integers, its own bound on reals.

The oracle is the algorithm written out once more, in NumPy, from its three matrices.  With the matrices
as they are it must be the convolution; with all absolute values it gives the sum of the absolute values
of everything added on the way.
"""

import numpy as np
import pytest
from hypothesis import given

from reptile_np.nn import native
from reptile_np.nn.ops import NUMPY
from tests.oracles import gamma
from tests.strategies import Convolution, filtered_convolutions, integers_as, normals

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")

INPUTS = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], float)  # Bᵀ
KERNEL = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2  # G
OUTPUTS = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], float)  # Aᵀ


def patches_of(x, padding, size):
    """Every 4 × 4 patch of x that 2 × 2 outputs need: (b, rows, columns, c, 4, 4)."""
    room = [(before, 4 + n) for (before, _), n in zip(padding, size, strict=True)]
    padded = np.pad(x, ((0, 0), *room, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(1, 2))
    return windows[:, : size[0] : 2, : size[1] : 2]


def both_axes(matrix, squares):
    """matrix · square · matrixᵀ of the last two axes."""
    return matrix @ squares @ matrix.T


def winograd(x, kernel, padding, size, matrices):
    """y (b, *size, f): Aᵀ (Σ_c (G w_c Gᵀ) ⊙ (Bᵀ d_c B)) A of every patch."""
    inputs, weights, outputs = matrices
    v = both_axes(inputs, patches_of(x, padding, size))
    u = both_axes(weights, kernel.transpose(2, 3, 0, 1))
    y = both_axes(outputs, np.einsum("bijcuv,cfuv->bijfuv", v, u))
    whole = y.transpose(0, 1, 4, 2, 5, 3).reshape(len(x), 2 * y.shape[1], 2 * y.shape[2], -1)
    return whole[:, : size[0], : size[1]]


def winograd_weight(x, y_bar, padding, matrices):
    """w_bar (3, 3, c, f): Gᵀ (Σ_patches (Bᵀ d B) ⊙ (A y_bar Aᵀ)) G."""
    inputs, weights, outputs = matrices
    size = y_bar.shape[1:3]
    v = both_axes(inputs, patches_of(x, padding, size))
    b, rows, columns = v.shape[:3]
    even = np.pad(y_bar, ((0, 0), *((0, n % 2) for n in size), (0, 0)))
    squares = even.reshape(b, rows, 2, columns, 2, -1).transpose(0, 1, 3, 5, 2, 4)
    u_bar = np.einsum("bijcuv,bijfuv->cfuv", v, both_axes(outputs.T, squares))
    return both_axes(weights.T, u_bar).transpose(2, 3, 0, 1)


def oracle(conv, matrices):
    """The three maps of a convolution, the input adjoint as the forward map of the kernel turned round."""
    turned = conv.kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    back = [(2 - before, 0) for before, _ in conv.padding]
    return (
        winograd(conv.x, conv.kernel, conv.padding, conv.y_bar.shape[1:3], matrices),
        winograd(conv.y_bar, turned, back, conv.size, matrices),
        winograd_weight(conv.x, conv.y_bar, conv.padding, matrices),
    )


@given(conv=filtered_convolutions(widths=(1, 2, 3)))
def test_the_oracle_is_the_convolution(conv):
    conv = conv.astype(float)
    signed = oracle(conv, (INPUTS, KERNEL, OUTPUTS))
    for actual, expected in zip(signed, conv.maps(NUMPY), strict=True):
        np.testing.assert_array_equal(actual, expected)


@given(conv=filtered_convolutions())
def test_integers_are_exact(kernels, conv):
    for actual, expected in zip(conv.maps(kernels), conv.maps(NUMPY), strict=True):
        np.testing.assert_array_equal(actual, expected)


@given(conv=filtered_convolutions(normals))
def test_reals_stay_within_gamma_n_of_winograds_own_absolute_terms(kernels, conv):
    """Each transform is two or three additions deep along each axis, and multiplies by powers of 2 only.

    Forward and input adjoint: 2 roundings for the inputs, 4 for the kernel, c products and their sum, 4
    for the outputs.  Weight adjoint: 2 for the inputs, 2 for the adjoints, the sum over patches in up to
    8 shares, 4 for the kernel.
    """
    wide = conv.astype(float)
    terms = oracle(abs(wide), tuple(map(np.abs, (INPUTS, KERNEL, OUTPUTS))))
    channels, filters = conv.kernel.shape[2:]
    height, width = conv.y_bar.shape[1:3]
    patches = len(conv.x) * -(-height // 2) * -(-width // 2)
    lengths = channels + 10, filters + 10, patches + 16
    results = zip(conv.maps(kernels), wide.maps(NUMPY), terms, lengths, strict=True)
    for actual, expected, bound, n in results:
        assert (np.abs(actual - expected) <= gamma(n, np.float32) * bound).all()


def test_many_patches_are_shared_out_and_added_up(kernels):
    """42 × 42 positions of 10 images, as in the second layer of Mini-ImageNet: 4,410 patches in 8 shares."""
    rng = np.random.default_rng(0)
    shapes = (10, 42, 42, 32), (3, 3, 32, 32), (10, 42, 42, 32)
    conv = Convolution(*(integers_as(np.float32, rng, s) for s in shapes), 1, ((1, 1), (1, 1)))
    for actual, expected in zip(conv.maps(kernels), conv.maps(NUMPY), strict=True):
        np.testing.assert_array_equal(actual, expected)
