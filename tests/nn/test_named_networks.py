"""The networks of the paper, of Finn's program and for own images: parameters, maps, initial values."""

from dataclasses import replace

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.nn.layers import BatchNorm
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import (
    conv_cnn,
    finn_mini_imagenet_cnn,
    finn_omniglot_cnn,
    mini_imagenet_cnn,
    omniglot_cnn,
    sine_mlp,
)
from reptile_np.nn.parameter_free import MaxPool, Relu
from tests.oracles import (
    assert_close,
)
from tests.strategies import random_batch, random_phi


@pytest.mark.parametrize(
    ("model", "parameters"),
    [(omniglot_cnn(5), 113_221), (omniglot_cnn(20), 117_076), (mini_imagenet_cnn(5), 34_661)],
    ids=["omniglot 5-way", "omniglot 20-way", "mini-imagenet 5-way"],
)
def test_the_networks_have_the_released_programs_parameter_counts(model, parameters):
    assert model.layout.size == parameters == model.init(np.random.default_rng(0)).size


def test_phi_holds_kernel_bias_gamma_beta_of_each_block_and_then_the_dense_layer():
    pieces = [name.split("/")[1] for name in omniglot_cnn(5).layout.shapes]
    assert pieces == ["kernel", "bias", "gamma", "beta"] * 4 + ["kernel", "bias"]
    shapes = list(omniglot_cnn(5).layout.shapes.values())
    assert shapes[0] == (3, 3, 1, 64)  # HWIO
    assert shapes[4] == (3, 3, 64, 64)
    assert shapes[-2:] == [(256, 5), (5,)]


def test_the_maps_shrink_28_14_7_4_2_and_84_42_21_11_6():
    for model, sides in ((omniglot_cnn(5), [14, 7, 4, 2]), (mini_imagenet_cnn(5), [42, 21, 11, 6])):
        size, seen = model.input_shape, []
        for layer in model.layers:
            size = layer.out_size(size)
            if isinstance(layer, Relu):
                seen.append(size[0])
        assert seen == sides
        assert model.output_shape == (5,)


@pytest.mark.parametrize("hidden", [(64, 64), (7,), (3, 200)])
def test_the_sine_networks_kernels_and_biases_are_uniform_in_plus_minus_1_by_root_fan_in(hidden):
    """Glorot's bound for a kernel (64, 64) would be 0.217 instead of 0.125, and all biases zero."""
    model = sine_mlp(hidden)
    phis = np.stack([model.init(np.random.default_rng(seed), np.float64) for seed in range(200)])
    fan_in = np.repeat([1, *hidden], 2)
    for (name, shape), n in zip(model.layout.shapes.items(), fan_in, strict=True):
        values = np.stack([model.layout.views(phi)[name] for phi in phis])
        r = 1 / np.sqrt(n)
        assert 0.95 * r < np.abs(values).max() <= r, name
        assert abs(values.std() - r / np.sqrt(3)) < 0.15 * r, name
        assert values[0].shape == shape


def test_the_sine_network_is_1_64_64_1_unless_told_otherwise():
    assert list(sine_mlp().layout.shapes.values()) == [(1, 64), (64,), (64, 64), (64,), (64, 1), (1,)]


def test_convolution_kernels_are_glorot_uniform():
    """A block's kernel (3, 3, 64, 64): both fans count the 9 taps, r = √(6 / 1152)."""
    model = omniglot_cnn(5)
    views = model.layout.views(model.init(np.random.default_rng(0), np.float64))
    for name, fans in (("conv2/kernel", 9 * 128), ("dense/kernel", 256 + 5)):
        r = np.sqrt(6 / fans)
        assert 0.95 * r < np.abs(views[name]).max() <= r
    assert not views["conv2/bias"].any()
    assert (views["norm2/gamma"] == 1).all()


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((28, 28, 1), [14, 7, 4, 2]),
        ((32, 48, 3), [(16, 24), (8, 12), (4, 6), (2, 3)]),
        ((64, 64, 3), [32, 16, 8, 4, 2]),
        ((84, 84, 3), [42, 21, 11, 6, 3]),
        ((1, 1, 1), [1]),
    ],
)
def test_a_network_for_own_images_halves_them_until_no_side_exceeds_3(shape, sides):
    model, seen, size = conv_cnn(shape, 7, filters=4), [], shape
    for layer in model.layers:
        size = layer.out_size(size)
        if isinstance(layer, Relu):
            seen.append(size[:2])
    assert seen == [(side, side) if isinstance(side, int) else side for side in sides]
    assert model.output_shape == (7,)
    assert (model.input_shape, model.loss) == (shape, SoftmaxCrossEntropy("sum"))


@pytest.mark.parametrize("shape", [(768, 1, 1), (1, 768, 1)])
def test_the_largest_images_have_eight_blocks(shape):
    layers = conv_cnn(shape, 2, filters=1).layers
    assert sum(isinstance(layer, Relu) for layer in layers) == 8


def test_the_omniglot_network_is_the_one_for_images_of_28_x_28():
    assert omniglot_cnn(5) == conv_cnn((28, 28, 1), 5) == conv_cnn((28, 28, 1), ways=5, filters=64)


@pytest.mark.parametrize(
    "shape", [(28, 28), (8, 8, 1, 1), (0, 28, 1), (28, 28, 0), (769, 8, 1), (8, 769, 3), 28, (28.5, 28, 1)]
)
def test_an_image_that_cannot_be_is_refused_in_one_line(shape):
    with pytest.raises(UsageError, match=r": needs \(rows, cols, channels\), rows and cols from 1"):
        conv_cnn(shape, 5)
    for ways in (0, 5.0):
        with pytest.raises(UsageError, match=r"channels, ways and filters of at least 1, all whole numbers$"):
            conv_cnn((28, 28, 1), ways)


@pytest.mark.parametrize("dtype", [int, np.uint8, bool, "S3", "M8[s]"])
def test_initial_values_are_not_cut_to_whole_numbers(dtype):
    with pytest.raises(UsageError, match=r"^init: dtype .* holds no fractions; give float32"):
        omniglot_cnn(5, filters=4).init(np.random.default_rng(0), dtype)


def test_a_dtype_that_is_none_is_named():
    with pytest.raises(
        UsageError, match=r"^init: data type 'banana' not understood; give float32, float64, …$"
    ):
        omniglot_cnn(5, filters=4).init(np.random.default_rng(0), "banana")


def test_one_width_of_the_sine_network_is_given_in_a_tuple():
    with pytest.raises(
        UsageError, match=r"^sine_mlp: hidden is 64; give a tuple of widths, such as \(64, 64\)$"
    ):
        sine_mlp(64)


def test_init_is_a_function_of_the_generator():
    model = omniglot_cnn(5, filters=4)
    phi, again, other = (model.init(np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(phi, again)
    assert not np.array_equal(phi, other)
    assert phi.dtype == np.float32


def test_the_networks_of_finns_program_have_its_maps_and_numbers_of_parameters():
    """Counted from its shapes: convolutions 9 c f + f, β f, and a head on 64 means or on 5·5·32 maps."""
    omniglot, mini = finn_omniglot_cnn(5), finn_mini_imagenet_cnn(5)
    assert omniglot.layout.size == (9 + 3 * 9 * 64) * 64 + 4 * 64 + 4 * 64 + 65 * 5 == 112_005
    assert mini.layout.size == (27 + 3 * 9 * 32) * 32 + 4 * 32 + 4 * 32 + 801 * 5 == 32_773
    assert [omniglot.layout.shapes["dense/kernel"], mini.layout.shapes["dense/kernel"]] == [(64, 5), (800, 5)]
    for model in (omniglot, mini):
        assert not any(name.endswith("gamma") for name in model.layout.shapes)


def test_the_head_of_finns_omniglot_network_starts_from_the_normal_distribution():
    model = finn_omniglot_cnn(400)
    views = model.layout.views(model.init(np.random.default_rng(0)))
    kernel = views[
        "dense/kernel"
    ]  # 25,600 numbers: the mean is within 4 / √25,600, the deviation within 4 / √51,200
    assert abs(kernel.mean()) < 4 / 160
    assert abs(kernel.std() - 1) < 4 / 226
    assert not views["dense/bias"].any()


def test_a_pool_before_the_relu_is_bitwise_a_pool_after_it():
    """Finn's program pools after the ReLU; loss, gradient and Hessian product are the same."""
    model, rng = finn_mini_imagenet_cnn(3, filters=4), np.random.default_rng(0)
    layers = list(model.layers)
    for i in [i for i, layer in enumerate(layers) if isinstance(layer, MaxPool)]:
        layers[i], layers[i + 1] = layers[i + 1], layers[i]
    literal = replace(model, layers=tuple(layers))
    phi = random_phi(model, rng)
    batch, v = random_batch(model, rng, 2), rng.normal(size=phi.shape)
    (loss, grad), (expected_loss, expected) = (m.loss_and_grad(phi, batch) for m in (model, literal))
    assert loss == expected_loss
    np.testing.assert_array_equal(grad, expected)
    np.testing.assert_array_equal(model.hvp(phi, batch, v), literal.hvp(phi, batch, v))


def test_without_gamma_the_network_is_the_one_with_gamma_of_one():
    model, rng = finn_omniglot_cnn(3, filters=4), np.random.default_rng(0)
    layers = tuple(
        replace(layer, scale=True) if isinstance(layer, BatchNorm) else layer for layer in model.layers
    )
    scaled = replace(model, layers=layers)
    phi, batch = random_phi(model, rng), random_batch(model, rng, 5)
    pieces = model.layout.views(phi)
    gammas = {name: np.ones(4) for name in scaled.layout.shapes if name.endswith("gamma")}
    whole = scaled.layout.flatten(pieces | gammas)
    v = rng.normal(size=phi.shape)
    v_whole = scaled.layout.flatten(model.layout.views(v) | {name: np.zeros(4) for name in gammas})
    for name, view in scaled.layout.views(scaled.loss_and_grad(whole, batch)[1]).items():
        if name not in gammas:
            np.testing.assert_array_equal(view, model.layout.views(model.loss_and_grad(phi, batch)[1])[name])
    for name, view in scaled.layout.views(scaled.hvp(whole, batch, v_whole)).items():
        if name not in gammas:
            assert_close(model.layout.views(model.hvp(phi, batch, v))[name], view)
