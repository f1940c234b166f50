"""Each layer's four faces: the value is the formula, the other three are its derivatives.

`CHECKS` holds one check per face; `tests/test_oracles.py` plants errors and demands that they fail.
"""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given

from reptile_np.errors import UsageError
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.ops import NUMPY
from reptile_np.nn.parameter_free import MaxPool
from tests.oracles import STEP, assert_close, inner, naive_conv2d, tangent
from tests.strategies import placed, placed_layers

GAMMA_BETA = np.array([2.0, -3.0]), np.array([0.5, 1.0])


def forward(layer, theta, x):
    return layer.forward(theta, x, NUMPY)[0]


def moved(place):
    """(θ, x) a complex step along the tangents."""
    step = 1j * STEP
    theta = tuple(t + step * d for t, d in zip(place.theta, place.theta_dot, strict=True))
    return theta, place.x + step * place.x_dot


def check_forward_dot(place):
    """``y_dot`` is the complex step of `forward`."""
    at = place.layer.forward(place.theta, place.x, NUMPY)[1]
    y_dot, _ = place.layer.forward_dot(at, place.theta_dot, place.x_dot, NUMPY)
    assert_close(y_dot, place.value(*moved(place)).imag / STEP)


def check_backward(place):
    """<y_bar, y_dot> = <x_bar, x_dot> + <θ_bar, θ_dot>, and each adjoint by complex step on its own."""
    bars = place.vjp(place.theta, place.x, place.y_bar)
    arguments = [a + 0j for a in (place.x, *place.theta)]  # θ is one vector, of one dtype
    for i, (bar, tangents) in enumerate(zip(bars, (place.x_dot, *place.theta_dot), strict=True)):

        def along(argument, i=i):
            x, *theta = [*arguments[:i], argument, *arguments[i + 1 :]]
            return (place.y_bar * place.value(tuple(theta), x)).sum()

        expected = tangent(along, arguments[i].real, tangents)
        scale = inner(np.abs(bar), np.abs(tangents))
        assert abs(inner(bar, tangents) - expected) <= 1e-12 * max(scale, 1)


def check_backward_dot(place):
    """The tangent of every adjoint is the complex step of `backward`."""
    layer = place.layer
    at = layer.forward(place.theta, place.x, NUMPY)[1]
    dot = layer.forward_dot(at, place.theta_dot, place.x_dot, NUMPY)[1]
    x_bar_dot, theta_bar_dot = layer.backward_dot(at, dot, place.y_bar, place.y_bar_dot, NUMPY)
    stepped = place.vjp(*moved(place), place.y_bar + 1j * STEP * place.y_bar_dot)
    scale = max(np.abs(bar).max(initial=0) for bar in (x_bar_dot, *theta_bar_dot))
    for actual, bar in zip((x_bar_dot, *theta_bar_dot), stepped, strict=True):
        assert np.abs(actual - np.imag(bar) / STEP).max(initial=0) <= 1e-12 * max(scale, 1)


CHECKS = {
    "forward_dot": check_forward_dot,
    "backward": check_backward,
    "backward_dot": check_backward_dot,
}


@pytest.mark.parametrize("face", CHECKS)
@given(place=placed_layers())
def test_every_face_of_every_layer_is_the_derivative_of_the_one_before(face, place):
    CHECKS[face](place)


@given(place=placed_layers())
def test_the_input_may_be_constant_and_its_adjoint_left_out(place):
    layer, zero = place.layer, np.zeros_like(place.x)
    at = layer.forward(place.theta, place.x, NUMPY)[1]
    both = layer.backward(at, place.y_bar, NUMPY)
    alone = layer.backward(at, place.y_bar, NUMPY, want_x_bar=False)
    for a, b in zip(alone[1], both[1], strict=True):
        np.testing.assert_array_equal(a, b)
    if isinstance(layer, (Dense, Conv2d)):  # the layers a network may start with
        assert alone[0] is None
        moving = layer.forward_dot(at, place.theta_dot, zero, NUMPY)
        still = layer.forward_dot(at, place.theta_dot, None, NUMPY)
        np.testing.assert_array_equal(still[0], moving[0])
        args = place.y_bar, place.y_bar_dot, NUMPY
        _, expected = layer.backward_dot(at, moving[1], *args)
        x_bar_dot, theta_bar_dot = layer.backward_dot(at, still[1], *args, want_x_bar=False)
        assert x_bar_dot is None
        for a, b in zip(theta_bar_dot, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@given(place=placed_layers())
def test_no_face_writes_to_what_it_is_given(place):
    layer = place.layer
    given_arrays = (*place.theta, *place.theta_dot, place.x, place.x_dot, place.y_bar, place.y_bar_dot)
    for array in given_arrays:
        array.setflags(write=False)
    at = layer.forward(place.theta, place.x, NUMPY)[1]
    dot = layer.forward_dot(at, place.theta_dot, place.x_dot, NUMPY)[1]
    before = layer.backward(at, place.y_bar, NUMPY)
    layer.backward_dot(at, dot, place.y_bar, place.y_bar_dot, NUMPY)
    after = layer.backward(at, place.y_bar, NUMPY)  # `at` has not been changed either
    for a, b in zip((after[0], *after[1]), (before[0], *before[1]), strict=True):
        np.testing.assert_array_equal(a, b)


@given(place=placed_layers())
def test_float32_in_gives_float32_out_of_every_face(place):
    single = np.float32
    theta, theta_dot = (tuple(a.astype(single) for a in t) for t in (place.theta, place.theta_dot))
    x, x_dot, y_bar, y_bar_dot = (
        a.astype(single) for a in (place.x, place.x_dot, place.y_bar, place.y_bar_dot)
    )
    y, at = place.layer.forward(theta, x, NUMPY)
    y_dot, dot = place.layer.forward_dot(at, theta_dot, x_dot, NUMPY)
    x_bar, theta_bar = place.layer.backward(at, y_bar, NUMPY)
    x_bar_dot, theta_bar_dot = place.layer.backward_dot(at, dot, y_bar, y_bar_dot, NUMPY)
    outputs = (y, y_dot, x_bar, *theta_bar, x_bar_dot, *theta_bar_dot)
    assert {array.dtype for array in outputs} == {np.dtype(single)}


@given(place=placed_layers())
def test_out_size_is_the_size_that_comes_out(place):
    y = place.value(place.theta, place.x)
    assert y.shape == (len(place.x), *place.layer.out_size(place.x.shape[1:]))


def test_dense_is_x_w_plus_bias():
    x, w, bias = np.array([[1.0, 2.0]]), np.array([[1.0, 0.0, 5.0], [10.0, 1.0, 0.0]]), np.arange(3.0)
    np.testing.assert_array_equal(forward(Dense(3), (w, bias), x), [[21.0, 3.0, 7.0]])


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_conv2d_is_the_convolution_plus_bias(padding):
    layer = Conv2d(filters=2, size=3, stride=2, padding=padding)
    place = placed(layer, (6, 5, 2), 2, np.random.default_rng(0))
    kernel, bias = place.theta
    expected = naive_conv2d(place.x, kernel, 2, layer.pad(6, 5)) + bias
    assert_close(place.value(place.theta, place.x), expected)


@pytest.mark.parametrize("make", [partial(Conv2d, filters=1), MaxPool])
@pytest.mark.parametrize(
    "values",
    [
        {"size": 0},
        {"size": 2.5},
        {"stride": 0},
        {"stride": -1},
        {"stride": math.nan},
        {"padding": ((0, -1), (0, 0))},
    ],
    ids=str,
)
def test_a_window_that_cannot_be_moved_over_an_image_is_refused(make, values):
    with pytest.raises(UsageError, match=r"^a window(: its (size|stride) is| has)"):
        make(**values)


@pytest.mark.parametrize("make", [partial(Conv2d, filters=1), MaxPool])
@pytest.mark.parametrize(
    "padding",
    ["same", "", 1, None, (1, 1), (), ((1, 1),), (("a", "b"), (0, 0)), ((1.5, 0), (0, 0))],
    ids=str,
)
def test_a_padding_of_another_library_is_refused(make, padding):
    with pytest.raises(UsageError, match=r'^padding is .*; give "SAME", "VALID" or \(\(top, bottom\)'):
        make(padding=padding)


def test_an_initializer_that_there_is_not_is_refused():
    with pytest.raises(UsageError, match=r"^Dense: initializer is 'he'; give \"glorot\""):
        Dense(5, "he")


@pytest.mark.parametrize("outputs", [0, -1, 2.5, 8.0, True])
def test_a_number_of_outputs_that_cannot_be_is_refused(outputs):
    for make in (lambda n: Conv2d(filters=n), Dense):
        with pytest.raises(UsageError, match=f"is {outputs}; give a whole number of at least 1$"):
            make(outputs)


@pytest.mark.parametrize("epsilon", [-1e-3, math.nan, "small", None])
def test_a_batch_norm_that_divides_by_the_root_of_a_negative_number_is_refused(epsilon):
    with pytest.raises(UsageError, match=r"^BatchNorm: epsilon is"):
        BatchNorm(epsilon)


def test_an_epsilon_of_numpy_leaves_float32_as_it_is():
    x = np.ones((3, 2), np.float32)
    theta = np.ones(2, np.float32), np.zeros(2, np.float32)
    assert BatchNorm(np.float64(1e-3)).forward(theta, x, NUMPY)[0].dtype == np.float32


def test_batch_norm_gives_each_channel_mean_beta_and_nearly_deviation_gamma():
    gamma, beta = GAMMA_BETA
    x = np.random.default_rng(0).normal(3, 5, (4, 6, 7, 2))
    y = forward(BatchNorm(), (gamma, beta), x)
    variance = x.var((0, 1, 2))  # biased, as in the released program
    np.testing.assert_allclose(y.mean((0, 1, 2)), beta, rtol=1e-13)
    expected = np.abs(gamma) * np.sqrt(variance / (variance + 1e-3))
    np.testing.assert_allclose(y.std((0, 1, 2)), expected, rtol=1e-13)


def test_batch_norm_ignores_a_shift_and_an_image_s_output_depends_on_the_other_images():
    x = np.random.default_rng(0).normal(size=(3, 2, 2, 2))
    np.testing.assert_allclose(
        forward(BatchNorm(), GAMMA_BETA, x + 7), forward(BatchNorm(), GAMMA_BETA, x), atol=1e-13
    )
    alone = forward(BatchNorm(), GAMMA_BETA, x[:1])
    assert np.abs(alone - forward(BatchNorm(), GAMMA_BETA, x)[:1]).max() > 0.01


def test_a_constant_channel_is_normalised_to_beta():
    y = forward(BatchNorm(), GAMMA_BETA, np.full((3, 2), 4.0))
    np.testing.assert_array_equal(y, np.broadcast_to(GAMMA_BETA[1], (3, 2)))


def test_a_convolution_before_a_batch_norm_has_a_bias_gradient_of_exactly_zero():
    place = placed(Conv2d(filters=3, before_batch_norm=True), (4, 4, 2), 2, np.random.default_rng(0))
    bias_bar = place.vjp(place.theta, place.x, place.y_bar)[2]
    np.testing.assert_array_equal(bias_bar, np.zeros(3))


def test_glorot_kernels_count_the_taps_and_the_rest_starts_at_zero_or_one():
    rng = np.random.default_rng(0)
    kernel, bias = Conv2d(filters=32).init(rng, (8, 8, 16))
    bound = np.sqrt(6 / (9 * 16 + 9 * 32))
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    assert abs(kernel.std() / (bound / np.sqrt(3)) - 1) < 0.03  # uniform; 4,608 draws: sd 0.7 %
    gamma, beta = BatchNorm().init(rng, (8, 8, 16))
    assert (gamma == 1).all()
    assert (beta == 0).all()
    assert (bias == 0).all()


def test_fan_in_kernels_and_biases_are_within_one_over_the_root_of_the_inputs():
    kernel, bias = Dense(300, "fan_in").init(np.random.default_rng(0), (16,))
    for piece in (kernel, bias):
        assert 0.95 / 4 < np.abs(piece).max() <= 1 / 4
