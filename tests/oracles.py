"""What the tests hold the code against; each is simpler or stronger than the code it checks.

Derivatives come from the **complex step**: for real-analytic f,
``Im f(x + i h ẋ) / h = f'(x) ẋ + O(h²)``, and with h = 1e-30 the O(h²) is below rounding, no
difference is taken and nothing cancels.  What is left is the rounding of f itself.

`tests/test_oracles.py` plants errors and demands that each of these notices them.
"""

import itertools

import numpy as np

STEP = 1e-30

TOLERANCE = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-12}
"""Relative error, in the largest entry, allowed between two ways to compute one derivative.

Both are sums of up to n ≈ 10³ products through some ten layers: γ_n ≈ n u is 1e-13 in float64 (u =
1.1e-16) and 6e-5 in float32 (u = 6e-8).  A wrong factor of 1.001 is ten times the larger of the two.
"""


def gamma(n, dtype):
    """``γ_n = n u / (1 - n u)``: |computed - exact| <= γ_n Σ|terms| for a sum of n products in any order.

    Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1; u is half of eps.
    """
    nu = n * float(np.finfo(dtype).eps) / 2
    return nu / (1 - nu)


def relative_error(actual, expected):
    """The largest deviation, as a fraction of the largest expected entry."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shapes differ: {actual.shape} and {expected.shape}"
    if expected.size == 0:
        return 0.0
    scale = np.abs(expected).max()
    deviation = np.abs(actual - expected).max()
    return float(deviation / scale) if scale else float(deviation)


def assert_close(actual, expected, tolerance=None):
    """Fail unless the relative error is within the tolerance of the expected array's dtype."""
    if tolerance is None:
        tolerance = TOLERANCE[np.asarray(expected).dtype]
    error = relative_error(actual, expected)
    assert error <= tolerance, f"relative error {error:.3g} exceeds {tolerance:.3g}"  # NaN fails too


def tangent(f, x, x_dot):
    """``f'(x) ẋ`` by complex step."""
    return np.imag(f(x + 1j * STEP * x_dot)) / STEP


def gradient(f, x):
    """The gradient of a real function of a vector (n,), entry by entry: n calls."""
    return np.array([tangent(f, x, e) for e in np.eye(len(x))])


def hessian(grad, x):
    """The dense Hessian (n, n), from the gradient, column by column: n calls."""
    return np.stack([tangent(grad, x, e) for e in np.eye(len(x))], axis=1)


def inner(a, b):
    """``<a, b>`` over all entries, in float64."""
    return float(np.vdot(np.asarray(a, float), np.asarray(b, float)))


def assert_adjoint(forward, x, backward, y_bar, tolerance=None):
    """Fail unless ``<ȳ, forward(x)> = <backward(ȳ), x>``: the two linear maps are each other's adjoint.

    The deviation is measured against ``Σ |ȳ| |y|``, what the inner products are summed from.
    """
    y, x_bar = forward(x), backward(y_bar)
    scale = max(inner(np.abs(y_bar), np.abs(y)), inner(np.abs(x_bar), np.abs(x)), np.finfo(float).tiny)
    deviation = abs(inner(y_bar, y) - inner(x_bar, x)) / scale
    tolerance = TOLERANCE[np.asarray(x).dtype] if tolerance is None else tolerance
    assert deviation <= tolerance, f"<y_bar, y> and <x_bar, x> differ by {deviation:.3g} of their terms"


def assert_symmetric(operator, u, v, tolerance=1e-12):
    """Fail unless ``<u, H v> = <v, H u>``."""
    hv, hu = operator(v), operator(u)
    scale = max(inner(np.abs(u), np.abs(hv)), inner(np.abs(v), np.abs(hu)))
    deviation = abs(inner(u, hv) - inner(v, hu))
    assert deviation <= tolerance * scale, f"not symmetric: off by {deviation / scale:.3g}"


def _reads(shape, kernel_size, stride, padding, out_size):
    """Yield (image, output row, output col, tap row, tap col, input row, input col) inside the image."""
    (top, _), (left, _) = padding
    for b, i, j, u, v in itertools.product(*map(range, (shape[0], *out_size, *kernel_size))):
        row, col = stride * i + u - top, stride * j + v - left
        if 0 <= row < shape[1] and 0 <= col < shape[2]:
            yield b, i, j, u, v, row, col


def out_size(shape, kernel_size, stride, padding):
    """Counts of windows, by walking each axis."""
    counts = []
    for n, k, (before, after) in zip(shape[1:3], kernel_size, padding, strict=True):
        counts.append(len(range(-before, n + after - k + 1, stride)))
    return tuple(counts)


def naive_conv2d(x, kernel, stride, padding):
    """Convolution as nested loops; exact on integers."""
    size = out_size(x.shape, kernel.shape[:2], stride, padding)
    y = np.zeros((len(x), *size, kernel.shape[3]), x.dtype)
    for b, i, j, u, v, row, col in _reads(x.shape, kernel.shape[:2], stride, padding, size):
        for c, f in np.ndindex(kernel.shape[2:]):
            y[b, i, j, f] += x[b, row, col, c] * kernel[u, v, c, f]
    return y


def naive_conv2d_input(y_bar, kernel, stride, padding, size):
    """The input adjoint as nested loops."""
    x_bar = np.zeros((len(y_bar), *size, kernel.shape[2]), y_bar.dtype)
    reads = _reads(x_bar.shape, kernel.shape[:2], stride, padding, y_bar.shape[1:3])
    for b, i, j, u, v, row, col in reads:
        for c, f in np.ndindex(kernel.shape[2:]):
            x_bar[b, row, col, c] += y_bar[b, i, j, f] * kernel[u, v, c, f]
    return x_bar


def naive_conv2d_weight(x, y_bar, stride, padding, taps):
    """The weight adjoint as nested loops."""
    kernel_bar = np.zeros((*taps, x.shape[3], y_bar.shape[3]), x.dtype)
    for b, i, j, u, v, row, col in _reads(x.shape, taps, stride, padding, y_bar.shape[1:3]):
        for c, f in np.ndindex(kernel_bar.shape[2:]):
            kernel_bar[u, v, c, f] += x[b, row, col, c] * y_bar[b, i, j, f]
    return kernel_bar
