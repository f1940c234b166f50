"""A model is a pure function of φ whose gradient and Hessian product are exact, for every table of ops."""

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given

from reptile_np.nn.models import (
    conv_cnn,
    finn_mini_imagenet_cnn,
    finn_omniglot_cnn,
    mini_imagenet_cnn,
    omniglot_cnn,
    sine_mlp,
)
from reptile_np.nn.ops import NUMPY
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


def test_the_gradient_of_a_bias_before_a_batch_norm_is_exactly_zero(ops):
    model, rng = omniglot_cnn(5, filters=16).with_ops(ops), np.random.default_rng(0)
    phi = random_phi(model, rng, np.float32)
    grad = model.loss_and_grad(phi, random_batch(model, rng, 5, np.float32))[1]
    zeros = {name for name, view in model.layout.views(grad).items() if not view.any()}
    assert zeros == {name for name in model.layout.shapes if "conv" in name and name.endswith("bias")}


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
    phi, batch = model.init(np.random.default_rng(0)), (np.zeros((4, 28, 28, 1), np.float32), np.arange(4))
    layers = 5  # four convolutions, one dense
    at = model.linearize(phi, batch)
    assert (
        sum(counts.values()) == 3 * layers - 1
    )  # forward; backward by weights and, but for the first, inputs
    for _ in range(2):
        counts.clear()
        at.hvp(phi)
        assert sum(counts.values()) == 6 * (layers - 1) + 2


@pytest.mark.parametrize("network", [mini_imagenet_cnn, finn_mini_imagenet_cnn])
def test_mini_imagenets_networks_take_colour_images_of_84_pixels(network):
    assert network(5).input_shape == (84, 84, 3)


@pytest.mark.parametrize("network", [omniglot_cnn, finn_omniglot_cnn])
def test_omniglots_networks_take_grey_images_of_28_pixels(network):
    assert network(5).input_shape == (28, 28, 1)
