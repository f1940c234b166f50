"""A model is a pure function of φ whose gradient and Hessian product are exact, for every table of ops."""

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given

from reptile_np.checks import check_grad, check_hvp
from reptile_np.errors import UsageError
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy, SquaredError
from reptile_np.nn.models import (
    Model,
    conv_cnn,
    finn_mini_imagenet_cnn,
    finn_omniglot_cnn,
    mini_imagenet_cnn,
    omniglot_cnn,
    sine_mlp,
)
from reptile_np.nn.ops import NUMPY
from reptile_np.nn.parameter_free import MaxPool, Relu, SpatialMean
from tests.oracles import (
    assert_close,
    assert_symmetric,
    gradient,
    hessian,
    inner,
    relative_error,
    tangent,
)
from tests.rounding import TINY, wobbling
from tests.strategies import networks, random_batch, random_phi, rngs

NETWORKS = {
    "sine": sine_mlp(),
    "omniglot": omniglot_cnn(5),
    "omniglot, 6 filters": omniglot_cnn(3, filters=6),
    "mini-imagenet": mini_imagenet_cnn(5, filters=6),
    "mini-imagenet, 32 filters": mini_imagenet_cnn(5),
    "28 x 20 x 2": conv_cnn((28, 20, 2), 3, filters=5),
    "finn, omniglot": finn_omniglot_cnn(5, filters=6),
    "finn, mini-imagenet": finn_mini_imagenet_cnn(5, filters=6),
    "mini-imagenet, v1": mini_imagenet_cnn(5, filters=6, order="conv-pool-norm"),
}


def place_of(network):
    """(model, φ, batch, v): one of the paper's networks at a random point, in float64."""
    model, rng = NETWORKS[network], np.random.default_rng(0)
    phi = random_phi(model, rng)
    return model, phi, random_batch(model, rng, 3), rng.normal(size=phi.shape)


@pytest.fixture(scope="module", params=[name for name in NETWORKS if name != "mini-imagenet, 32 filters"])
def place(request):
    """`place_of` each network in turn, Mini-ImageNet's with 6 filters only: the code is the same for 32."""
    return place_of(request.param)


@pytest.fixture(scope="module")
def at_place(place):
    """(loss, gradient, H v) of the network at its place."""
    model, phi, batch, v = place
    return *model.loss_and_grad(phi, batch), model.hvp(phi, batch, v)


def test_the_gradient_of_each_network_is_the_complex_step_of_its_loss(place, at_place):
    (model, phi, batch, v), (_, grad, _) = place, at_place
    for direction in (v, grad, np.sign(grad)):
        slope = tangent(lambda phi: model.loss_and_grad(phi, batch)[0], phi, direction)
        assert abs(inner(grad, direction) - slope) <= 1e-12 * inner(np.abs(grad), np.abs(direction))


def test_the_hessian_product_of_each_network_is_the_complex_step_of_its_gradient(place, at_place):
    (model, phi, batch, v), (*_, hv) = place, at_place
    expected = tangent(lambda phi: model.loss_and_grad(phi, batch)[1], phi, v)
    assert_close(hv, expected)


def test_the_hessian_of_each_network_is_symmetric_and_linear(place, at_place):
    (model, phi, batch, v), (*_, hv) = place, at_place
    u = np.random.default_rng(1).normal(size=phi.shape)
    hu = model.hvp(phi, batch, u)
    assert_symmetric(lambda direction: hu if direction is u else hv, u, v)
    assert_close(model.hvp(phi, batch, 2 * u - v), 2 * hu - hv)


def test_a_linearization_is_the_loss_the_gradient_and_any_number_of_hessian_products(place, at_place):
    (model, phi, batch, v), (loss, grad, hv) = place, at_place
    at = model.linearize(phi, batch)
    assert at.loss == loss
    np.testing.assert_array_equal(at.grad, grad)
    for direction, product in ((v, hv), (grad, model.hvp(phi, batch, grad)), (v, hv)):
        np.testing.assert_array_equal(at.hvp(direction), product)


def results(model, phi, batch, v):
    loss, grad = model.loss_and_grad(phi, batch)
    return {
        "logits": model.predict(phi, batch[0]),
        "loss": np.array(loss),
        "gradient": grad,
        "hvp": model.hvp(phi, batch, v),
        "linearized": model.linearize(phi, batch).hvp(v),
    }


@cache  # one computation for all tables of kernels
def rounded_place(network):
    """Return (φ, batch, v) of a network in float32, what float64 computes from them, and each result's bound.

    The bound is itself computed, to first order: the same network in float64 with wobbling products.  They
    wobble TINY times as much as float32's own may, so that no ReLU or maximum changes sides.
    """
    model, phi, (x, y), v = place_of(network)
    phi, v, x = (array.astype(np.float32) for array in (phi, v, x))
    y = y if y.dtype.kind == "i" else y.astype(np.float32)
    wide = phi.astype(float), (x.astype(float), y), v.astype(float)
    double = results(model, *wide)
    loose = [results(model.with_ops(wobbling(seed)), *wide) for seed in range(2)]
    bounds = {
        name: max(relative_error(wobbly[name], expected) for wobbly in loose) / TINY
        for name, expected in double.items()
    }
    return phi, (x, y), v, double, bounds


@pytest.mark.parametrize("network", NETWORKS)
def test_float32_is_as_near_to_float64_as_the_rounding_of_its_products_allows(network, ops):
    phi, batch, v, double, bounds = rounded_place(network)
    single = results(NETWORKS[network].with_ops(ops), phi, batch, v)
    for name, expected in double.items():
        assert relative_error(single[name], expected) <= bounds[name] < 0.01, name
    assert {a.dtype for name, a in single.items() if name != "loss"} == {np.dtype(np.float32)}


@given(model=networks(), rng=rngs)
def test_any_small_network_has_the_gradient_and_the_dense_hessian_of_the_complex_step(model, rng):
    phi, batch = random_phi(model, rng), random_batch(model, rng, 4)
    loss, grad = model.loss_and_grad(phi, batch)
    scale = max(1, abs(loss), np.abs(grad).max())
    expected = gradient(lambda phi: model.loss_and_grad(phi, batch)[0], phi)
    np.testing.assert_allclose(grad, expected, rtol=0, atol=1e-11 * scale)
    dense = hessian(lambda phi: model.loss_and_grad(phi, batch)[1], phi)
    scale = max(1, np.abs(dense).max())
    np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-11 * scale)
    v = rng.normal(size=phi.shape)
    np.testing.assert_allclose(model.hvp(phi, batch, v), dense @ v, rtol=0, atol=1e-10 * scale)


@given(model=networks(), rng=rngs)
def test_a_model_writes_to_nothing_it_is_given(model, rng):
    phi, (x, y) = random_phi(model, rng), random_batch(model, rng, 3)
    v = rng.normal(size=phi.shape)
    for array in (phi, x, y, v):
        array.setflags(write=False)
    first = results(model, phi, (x, y), v)
    for name, again in results(model, phi, (x, y), v).items():
        np.testing.assert_array_equal(again, first[name])


@pytest.mark.parametrize("network", [omniglot_cnn, finn_omniglot_cnn])
def test_read_only_float32_arrays_are_served_and_left_alone(ops, network):
    model, rng = network(5, filters=16).with_ops(ops), np.random.default_rng(0)
    phi, (x, y) = random_phi(model, rng, np.float32), random_batch(model, rng, 5, np.float32)
    v = rng.normal(size=phi.shape).astype(np.float32)
    arrays = phi, x, y, v
    before = [array.copy() for array in arrays]  # C can write where NumPy may not
    for array in arrays:
        array.setflags(write=False)
    results(model, phi, (x, y), v)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


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


def test_the_gradient_of_a_bias_before_a_batch_norm_is_exactly_zero(ops):
    model, rng = omniglot_cnn(5, filters=16).with_ops(ops), np.random.default_rng(0)
    phi = random_phi(model, rng, np.float32)
    grad = model.loss_and_grad(phi, random_batch(model, rng, 5, np.float32))[1]
    zeros = {name for name, view in model.layout.views(grad).items() if not view.any()}
    assert zeros == {name for name in model.layout.shapes if "conv" in name and name.endswith("bias")}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_results_have_the_dtype_of_phi(dtype):
    model, rng = NETWORKS["omniglot, 6 filters"], np.random.default_rng(0)
    phi = model.init(rng, dtype)
    x, y = random_batch(model, rng, 3, np.float32)
    arrays = phi, model.predict(phi, x), model.loss_and_grad(phi, (x, y))[1], model.hvp(phi, (x, y), phi)
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


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


@pytest.mark.parametrize("dtype", [int, np.uint8, bool])
def test_initial_values_are_not_cut_to_whole_numbers(dtype):
    with pytest.raises(UsageError, match=r"^init: dtype .* holds no fractions; give float32"):
        omniglot_cnn(5, filters=4).init(np.random.default_rng(0), dtype)


def test_a_name_in_place_of_a_table_of_kernels_is_refused():
    with pytest.raises(
        UsageError, match=r"^with_ops\('avx2'\): give a table of kernels, such as native\.load"
    ):
        omniglot_cnn(5, filters=4).with_ops("avx2")


def counting(counts):
    """NumPy's table, whose products of a layer are counted by their names."""

    def counted(name):
        def product(*arguments, **options):
            counts[name] += 1
            return getattr(NUMPY, name)(*arguments, **options)

        return product

    names = ("matmul", "matmul_input", "matmul_weight", "conv2d", "conv2d_input", "conv2d_weight")
    return replace(NUMPY, **{name: counted(name) for name in names})


def test_a_hessian_product_at_saved_activations_takes_six_products_of_a_layer_and_two_of_the_first():
    counts = Counter()
    model = omniglot_cnn(5, filters=4).with_ops(counting(counts))
    phi, batch = model.init(np.random.default_rng(0)), (X, Y)
    layers = 5  # four convolutions, one dense
    at = model.linearize(phi, batch)
    assert (
        sum(counts.values()) == 3 * layers - 1
    )  # forward; backward by weights and, but for the first, inputs
    for _ in range(2):
        counts.clear()
        at.hvp(phi)
        assert sum(counts.values()) == 6 * (layers - 1) + 2


def test_init_is_a_function_of_the_generator():
    model = omniglot_cnn(5, filters=4)
    phi, again, other = (model.init(np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(phi, again)
    assert not np.array_equal(phi, other)
    assert phi.dtype == np.float32


X, Y = np.zeros((4, 28, 28, 1), np.float32), np.arange(4)
BAD = {
    "no channel axis": ((X[..., 0], Y), r"inputs have shape \(4, 28, 28\); this model needs \(b, 28, "),
    "empty": ((X[:0], Y[:0]), "with b >= 1"),
    "integer pixels": ((X.astype(np.uint8), Y), "inputs have dtype uint8; scale them to floats"),
    "wide pixels": ((X.astype(float), Y), "inputs have dtype float64, phi has float32; convert"),
    "label too large": ((X, Y + 2), "labels run from 2 to 5; this model has labels 0 to 4"),
    "negative label": ((X, Y - 1), "labels run from -1 to 2; this model has labels 0 to 4"),
    "one label short": ((X, Y[:3]), r"labels are int64 \(3,\); need integers of shape \(4,\)"),
    "truth values as labels": ((X, Y > 1), r"labels are bool \(4,\); need integers of shape \(4,\)"),
    "one-hot labels": ((X, np.eye(4, 5)), r"labels are float64 \(4, 5\); need integers of shape \(4,\)"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_batch_that_does_not_fit_is_refused_in_one_clear_line(ops, bad):
    batch, line = BAD[bad]
    model = omniglot_cnn(5, filters=8).with_ops(ops)
    phi = model.init(np.random.default_rng(0))
    for call in (lambda: model.loss_and_grad(phi, batch), lambda: model.hvp(phi, batch, phi)):
        with pytest.raises(UsageError, match=line) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8])
def test_labels_may_be_integers_of_any_kind(ops, dtype):
    model = omniglot_cnn(5, filters=8).with_ops(ops)
    phi = model.init(np.random.default_rng(0))
    one, other = (model.loss_and_grad(phi, (X, labels)) for labels in (Y, Y.astype(dtype)))
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1], other[1])


def test_targets_that_do_not_fit_are_refused_in_one_clear_line(ops):
    model, x = sine_mlp().with_ops(ops), np.zeros((3, 1), np.float32)
    phi = model.init(np.random.default_rng(0))
    with pytest.raises(UsageError, match=r"^targets have shape \(3,\); need \(3, 1\)$"):
        model.loss_and_grad(phi, (x, x[:, 0]))
    with pytest.raises(UsageError, match=r"^targets have dtype float64, phi has float32"):
        model.loss_and_grad(phi, (x, x.astype(float)))
    with pytest.raises(
        UsageError, match=r"^targets have dtype int32, phi has float32"
    ):  # not all fit float32
        model.loss_and_grad(phi, (x, x.astype(np.int32)))


def test_images_in_float16_are_those_in_float32(ops):
    model = omniglot_cnn(5, filters=8).with_ops(ops)
    phi, half = (
        model.init(np.random.default_rng(0)),
        np.random.default_rng(0).random(X.shape).astype(np.float16),
    )
    one, other = (model.loss_and_grad(phi, (x, Y)) for x in (half, half.astype(np.float32)))
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1], other[1])


def test_a_phi_of_another_length_is_refused(ops):
    model = omniglot_cnn(5, filters=8).with_ops(ops)
    with pytest.raises(UsageError, match=r"phi .*\(3,\)"):
        model.predict(np.zeros(3, np.float32), X)


def test_a_direction_of_another_length_is_refused(ops):
    model = omniglot_cnn(5, filters=8).with_ops(ops)
    phi = model.init(np.random.default_rng(0))
    with pytest.raises(UsageError, match=r"^v .*\(3,\)"):
        model.hvp(phi, (X, Y), phi[:3])


def test_a_model_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match="first layer must be Dense or Conv2d"):
        Model((Relu(), Dense(2)), (2,), SoftmaxCrossEntropy("sum"))
    with pytest.raises(UsageError, match="first layer must be Dense or Conv2d"):
        Model((), (2,), SoftmaxCrossEntropy("sum"))
    with pytest.raises(UsageError, match=r"^order 'pool' is unknown; use \"conv-norm-pool\" or"):
        mini_imagenet_cnn(5, order="pool")


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


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_network_may_have_images_as_outputs(reduction):
    rng = np.random.default_rng(0)
    model = Model((Conv2d(filters=2),), (4, 5, 1), SquaredError(reduction))
    phi = model.init(rng, np.float64)
    batch = rng.normal(size=(3, 4, 5, 1)), rng.normal(size=(3, 4, 5, 2))
    assert check_grad(model.loss_and_grad, phi, batch).holds
    assert check_hvp(model.loss_and_grad, model.hvp, phi, batch).holds


def test_cross_entropy_needs_a_vector_of_outputs():
    rng = np.random.default_rng(0)
    model = Model((Conv2d(filters=2),), (4, 5, 1), SoftmaxCrossEntropy("sum"))
    batch = rng.normal(size=(3, 4, 5, 1)), np.array([0, 1, 0])
    with pytest.raises(
        UsageError, match=r"a vector of outputs .* not \(4, 5, 2\); end the layers with Flatten"
    ):
        model.loss_and_grad(model.init(rng, np.float64), batch)


@pytest.mark.parametrize(
    ("layers", "line"),
    [
        (
            (Conv2d(filters=2), Dense(3)),
            r"^Dense needs a vector for each example, not \(4, 4, 2\): put Flatten\(\) or SpatialMean",
        ),
        ((Dense(3), Conv2d(filters=2)), r"^Conv2d needs an image \(rows, cols, channels\), not \(3,\)$"),
        ((Dense(3), MaxPool()), r"^MaxPool needs an image \(rows, cols, channels\), not \(3,\)$"),
        ((Dense(3), SpatialMean()), r"^SpatialMean needs an image \(rows, cols, channels\), not \(3,\)$"),
    ],
)
def test_layers_that_do_not_fit_together_are_named(layers, line):
    model = Model(layers, (4, 4, 1) if isinstance(layers[0], Conv2d) else (2,), SquaredError("sum"))
    for use in (
        lambda: model.init(np.random.default_rng(0)),
        lambda: model.layout,
        lambda: model.output_shape,
    ):
        with pytest.raises(UsageError, match=line):
            use()


def test_the_shape_of_the_input_may_be_a_list():
    model, rng = conv_cnn([28, 28, 1], 5), np.random.default_rng(0)
    assert model.predict(model.init(rng), np.zeros((2, 28, 28, 1), np.float32)).shape == (2, 5)


def test_a_hessian_product_with_a_float32_direction_has_the_precision_of_a_float64_phi():
    model, rng = NETWORKS["sine"], np.random.default_rng(0)
    phi = random_phi(model, rng)
    x, y = (part.astype(np.float32) for part in random_batch(model, rng, 4))
    v = rng.normal(size=len(phi)).astype(np.float32)
    assert_close(model.hvp(phi, (x, y), v), model.hvp(phi, (x.astype(float), y), v.astype(float)), 1e-12)


def test_float16_is_refused():
    rng = np.random.default_rng(0)
    model = omniglot_cnn(5, 4)
    phi, x = model.init(rng).astype(np.float16), np.zeros((5, 28, 28, 1), np.float16)
    for call in (lambda: model.predict(phi, x), lambda: model.loss_and_grad(phi, (x, np.arange(5)))):
        with pytest.raises(UsageError, match=r"phi is float16, .*; use float32"):
            call()
