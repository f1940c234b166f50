"""The oracles notice planted errors: a checker that cannot fail checks nothing."""

from fractions import Fraction

import numpy as np
import pytest

from reptile_np.nn import ops
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import Model
from reptile_np.nn.parameter_free import Flatten, Tanh
from tests.nn.test_layers import CHECKS
from tests.oracles import (
    assert_adjoint,
    assert_close,
    assert_symmetric,
    gamma,
    gradient,
    hessian,
    naive_conv2d,
    naive_conv2d_input,
    naive_conv2d_weight,
    relative_error,
    tangent,
)
from tests.strategies import placed, random_batch, random_phi

PAD = ((0, 1), (1, 1))


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_the_complex_step_gives_known_derivatives_to_the_last_digits():
    x = np.array([0.3, -1.2, 2.0])
    np.testing.assert_allclose(tangent(np.exp, x, np.ones(3)), np.exp(x), rtol=1e-15)
    np.testing.assert_allclose(gradient(lambda x: (x**3).sum(), x), 3 * x**2, rtol=1e-15)
    expected = np.diag(6 * x)
    np.testing.assert_allclose(hessian(lambda x: 3 * x**2, x), expected, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_factor_of_1_001_is_noticed_in_every_precision(dtype, rng):
    expected = rng.normal(size=50).astype(dtype)
    assert_close(expected.copy(), expected)
    with pytest.raises(AssertionError, match="relative error"):
        assert_close(expected * dtype(1.001), expected)


def test_nan_and_a_broadcast_shape_are_noticed():
    with pytest.raises(AssertionError):
        assert_close(np.array([1.0, np.nan]), np.array([1.0, 2.0]))
    with pytest.raises(AssertionError, match="shapes differ"):
        relative_error(np.ones((3, 1)), np.ones((1, 3)))


def test_a_deviation_from_exact_zero_is_noticed():
    with pytest.raises(AssertionError):
        assert_close(np.array([1e-3]), np.array([0.0]))


def test_a_transposed_matrix_is_noticed_by_the_adjoint_identity(rng):
    w, x, y_bar = rng.normal(size=(3, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    assert_adjoint(lambda x: x @ w, x, lambda y_bar: y_bar @ w.T, y_bar)
    with pytest.raises(AssertionError, match="differ by"):
        assert_adjoint(lambda x: x @ w, x, lambda y_bar: y_bar @ w, y_bar)


def test_an_asymmetric_matrix_is_noticed(rng):
    h, u, v = rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=4)
    assert_symmetric((h + h.T).__matmul__, u, v)
    with pytest.raises(AssertionError, match="not symmetric"):
        assert_symmetric((h + h.T + 1e-6 * np.triu(h)).__matmul__, u, v)


def test_the_naive_convolution_is_the_textbook_sum_on_a_case_done_by_hand():
    x = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    kernel = np.array([[10.0, 1.0], [0.0, 100.0]]).reshape(2, 2, 1, 1)
    expected = [[1 * 10 + 2 * 1 + 4 * 100, 2 * 10], [3 * 10 + 4 * 1, 4 * 10]]
    y = naive_conv2d(x, kernel, 1, ((0, 1), (0, 1)))
    np.testing.assert_array_equal(y[0, :, :, 0], expected)


def test_the_naive_adjoints_are_adjoints_of_the_naive_convolution(rng):
    x, kernel = rng.normal(size=(2, 4, 5, 2)), rng.normal(size=(3, 2, 2, 3))
    y_bar = rng.normal(size=naive_conv2d(x, kernel, 2, PAD).shape)
    assert_adjoint(
        lambda x: naive_conv2d(x, kernel, 2, PAD),
        x,
        lambda y_bar: naive_conv2d_input(y_bar, kernel, 2, PAD, (4, 5)),
        y_bar,
    )
    assert_adjoint(
        lambda kernel: naive_conv2d(x, kernel, 2, PAD),
        kernel,
        lambda y_bar: naive_conv2d_weight(x, y_bar, 2, PAD, (3, 2)),
        y_bar,
    )


@pytest.mark.parametrize(
    ("kernel_of", "padding"),
    [
        (lambda k: k, ((1, 0), (1, 1))),  # an off-by-one pad
        (lambda k: k.transpose(1, 0, 2, 3), PAD),  # a transposed kernel
        (lambda k: k[::-1, ::-1], PAD),  # a flipped kernel: true convolution, not correlation
        (lambda k: k.transpose(0, 1, 3, 2), PAD),  # input and output channels exchanged
    ],
    ids=["pad", "transposed", "flipped", "channels"],
)
def test_a_wrong_convolution_differs_from_the_naive_one(kernel_of, padding, rng):
    x, kernel = rng.integers(-8, 9, (2, 4, 4, 3)) * 1.0, rng.integers(-8, 9, (3, 3, 3, 3)) * 1.0
    expected = naive_conv2d(x, kernel, 1, PAD)
    np.testing.assert_array_equal(ops.conv2d(x, kernel, 1, PAD), expected)
    assert not np.array_equal(ops.conv2d(x, kernel_of(kernel), 1, padding), expected)


class ForgetfulBatchNorm(BatchNorm):
    """Treats the batch's statistics as constants in the vjp."""

    def backward(self, at, y_bar, ops, want_x_bar=True):
        gamma, _, r = at
        return gamma * r * y_bar, super().backward(at, y_bar, ops)[1]


class FirstOrderBatchNorm(BatchNorm):
    """Drops the second-order term."""

    def backward_dot(self, at, dot, y_bar, y_bar_dot, ops, want_x_bar=True):
        return self.backward(at, y_bar_dot, ops)


class FirstOrderConv2d(Conv2d):
    """Drops the second-order terms."""

    def backward_dot(self, at, dot, y_bar, y_bar_dot, ops, want_x_bar=True):
        return self.backward(at, y_bar_dot, ops, want_x_bar)


class ScaledTanh(Tanh):
    """Has a tangent 0.1 % too large."""

    def forward_dot(self, at, theta_dot, x_dot, ops):
        y_dot, dot = super().forward_dot(at, theta_dot, x_dot, ops)
        return 1.001 * y_dot, dot


class FirstOrderTanh(Tanh):
    """Drops the second-order term."""

    def backward_dot(self, at, dot, y_bar, y_bar_dot, ops, want_x_bar=True):
        return self.backward(at, y_bar_dot, ops, want_x_bar)


@pytest.mark.parametrize(
    ("layer", "face"),
    [
        (ForgetfulBatchNorm(), "backward"),
        (ScaledTanh(), "forward_dot"),
        (FirstOrderBatchNorm(), "backward_dot"),
        (FirstOrderConv2d(filters=2), "backward_dot"),
        (FirstOrderTanh(), "backward_dot"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_wrong_face_is_noticed_by_the_very_check_that_guards_it(layer, face, rng):
    CHECKS[face](placed(type(layer).__base__(**vars(layer)), (3, 3, 2), 3, rng))  # the right layer passes
    with pytest.raises(AssertionError):
        CHECKS[face](placed(layer, (3, 3, 2), 3, rng))


@pytest.mark.parametrize("wrong", [FirstOrderBatchNorm(), FirstOrderTanh()], ids=["norm", "tanh"])
def test_a_dropped_second_order_term_is_noticed_in_a_whole_network(wrong, rng):
    layers = (Conv2d(filters=2), BatchNorm(), Tanh(), Flatten(), Dense(2))
    broken = tuple(wrong if isinstance(wrong, type(layer)) else layer for layer in layers)
    errors = {}
    for name, stack in (("right", layers), ("broken", broken)):
        model = Model(stack, (3, 3, 1), SoftmaxCrossEntropy("sum"))
        generator = np.random.default_rng(3)
        phi, batch = random_phi(model, generator), random_batch(model, generator, 4)
        v = generator.normal(size=phi.shape)
        expected = tangent(lambda phi, batch=batch, m=model: m.loss_and_grad(phi, batch)[1], phi, v)
        errors[name] = relative_error(model.hvp(phi, batch, v), expected)
    assert errors["right"] <= 1e-12
    assert errors["broken"] > 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gamma_bounds_the_rounding_of_a_dot_product_and_not_of_a_wrong_one(dtype, rng):
    n = 300
    x, w = rng.normal(size=(2, n)).astype(dtype)
    exact = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, w, strict=True))
    terms = np.abs(x).astype(float) @ np.abs(w).astype(float)
    assert abs(float(Fraction(float(x @ w)) - exact)) <= gamma(n, dtype) * terms
    all_positive = sum(abs(Fraction(float(a)) * Fraction(float(b))) for a, b in zip(x, w, strict=True))
    wrong = float(np.abs(x) @ np.abs(w)) * 1.001
    assert abs(wrong - float(all_positive)) > gamma(n, dtype) * terms
