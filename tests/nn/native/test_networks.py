"""Networks computed whole in C are the layers' function, for any width, order, reduction and batch.

``test_models.py`` tests for every table that value, gradient and Hessian product are as near to float64 as
float32 allows; here are the tests of `NativeNetwork` alone.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.nn import native
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy, SquaredError
from reptile_np.nn.models import Model, finn_omniglot_cnn, omniglot_cnn
from reptile_np.nn.native.networks import NativeNetwork
from reptile_np.nn.parameter_free import Flatten, Relu, Tanh
from tests import native_kernels
from tests.nn.native.networks import PAPERS, assert_near_the_layers, native_networks, results, single, wide
from tests.oracles import relative_error
from tests.strategies import random_batch, random_phi, rngs

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")


def test_a_hessian_product_with_a_float64_vector_is_that_of_the_layers(model):
    phi, batch, v = single(model, np.random.default_rng(0), 3)
    native_model, v = model.with_ops(native.load(threads=1)), v.astype(float)
    expected = Model.hvp(native_model, phi, batch, v)
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(native_model.hvp(phi, batch, v), expected)
    np.testing.assert_array_equal(native_model.linearize(phi, batch).hvp(v), expected)


@given(model=native_networks(), examples=st.integers(2, 9), rng=rngs)
def test_any_network_computed_in_c_gets_the_layers_results(variant, model, examples, rng):
    """Within 2e-4 of float64, relative to the norm.

    Measured over 1,000 draws: median 2e-7, largest 1.3e-5, and the same for NumPy in float32.  Draws differ
    in conditioning, hence the room; a term left out shows at 1e-2 and more.
    """
    phi, batch, v = single(model, rng, examples)
    native_model = model.with_ops(native_kernels.load(variant, 1))
    assert type(native_model) is NativeNetwork
    expected = results(model, phi.astype(float), wide(batch), v.astype(float))
    for actual, exact in zip(results(native_model, phi, batch, v), expected, strict=True):
        scale = max(np.linalg.norm(exact), 1e-3)
        assert np.linalg.norm(actual - exact) <= 2e-4 * scale


def test_huge_logits_overflow_nothing(variant):
    """A softmax of logits beyond 100 is computed from their differences to the largest."""
    model = omniglot_cnn(5, filters=3)
    phi, batch, _ = single(model, np.random.default_rng(0), 5)
    model.layout.views(phi)["dense/kernel"][...] *= 1000
    loss, grad = model.with_ops(native_kernels.load(variant, 1)).loss_and_grad(phi, batch)
    exact_loss, exact_grad = model.loss_and_grad(phi.astype(float), wide(batch))
    assert exact_loss > 500
    assert loss == pytest.approx(exact_loss, rel=1e-4)
    assert np.linalg.norm(grad - exact_grad) <= 1e-2 * np.linalg.norm(exact_grad)


def test_a_dense_layer_may_have_very_many_inputs(variant):
    """With 120,000 of them an offset exceeded 32 bits, and C read outside of its memory."""
    model = Model((Dense(4), Tanh(), Dense(1)), (200_000,), SquaredError("mean"))
    phi, batch, v = single(model, np.random.default_rng(0), 2)
    assert_near_the_layers(variant, model, (1e-2 * phi, batch, v), 1e-4)


@pytest.mark.parametrize("more", [(), (Tanh(), Dense(2))], ids=["one layer", "two layers"])
def test_a_first_layer_of_one_output_has_the_gradient_of_every_input(variant, more):
    """29 inputs are no whole registers of any variant; a later layer's inputs are padded to whole ones."""
    model = Model((Dense(1), *more), (29,), SquaredError("mean"))
    assert_near_the_layers(variant, model, single(model, np.random.default_rng(0), 3), 1e-5)


def test_a_dense_layer_of_many_examples_and_few_inputs_gets_its_gradient(variant):
    """Its weight adjoint is split over the examples, and the partial sums are added; once they were not."""
    layers = (
        Conv2d(filters=3, size=3, stride=3, before_batch_norm=True),
        BatchNorm(),
        Relu(),
        Flatten(),
        Dense(2),
    )
    model = Model(layers, (3, 3, 1), SoftmaxCrossEntropy("mean"))
    phi, batch, v = single(model, np.random.default_rng(0), 600)
    expected = results(model, phi.astype(float), wide(batch), v.astype(float))
    whole = model.with_ops(native_kernels.load(variant, 2))
    for actual, exact in zip(results(whole, phi, batch, v), expected, strict=True):
        assert relative_error(actual, exact) <= 1e-5


def test_the_moments_of_many_positions_are_merged_right_though_their_mean_drifts(variant):
    """12,288 positions, of which each tenth is brighter than the one before."""
    layers = (Conv2d(filters=4, before_batch_norm=True), BatchNorm(), Relu(), Flatten(), Dense(2))
    model = Model(layers, (64, 64, 1), SoftmaxCrossEntropy("mean"))
    phi, (x, y), v = single(model, np.random.default_rng(0), 3)
    x = (x.ravel() + np.linspace(0, 20, x.size, dtype=np.float32)).reshape(x.shape)
    assert_near_the_layers(variant, model, (phi, (x, y), v), 1e-5)


@pytest.mark.parametrize("network", [omniglot_cnn, finn_omniglot_cnn])
def test_the_bias_before_a_batch_norm_has_a_gradient_of_exact_zero(variant, network):
    model = network(5, filters=7).with_ops(native_kernels.load(variant))
    phi, batch, v = single(model, np.random.default_rng(0), 4)
    for vector in (model.loss_and_grad(phi, batch)[1], model.hvp(phi, batch, v)):
        views = model.layout.views(vector)
        assert all(
            not views[name].any() for name in views if name.startswith("conv") and name.endswith("bias")
        )


def test_tanh_is_within_four_units_in_the_last_place(variant):
    """Read off a network of one tanh unit with weight 1; the odd symmetry, 0 and saturation are exact."""
    model = Model((Dense(1), Tanh(), Dense(1)), (1,), SquaredError("sum")).with_ops(
        native_kernels.load(variant)
    )
    phi = np.array([1, 0, 1, 0], np.float32)
    magnitudes = np.concatenate([np.geomspace(1e-30, 30, 200_001), [0, 1e-45, 88, 1e30]])
    x = magnitudes.astype(np.float32)[:, None]
    y, exact = model.predict(phi, x), np.tanh(x.astype(float))
    assert (np.abs(y - exact) <= 4 * np.spacing(np.abs(exact).astype(np.float32))).all()
    np.testing.assert_array_equal(model.predict(phi, -x), -y)
    np.testing.assert_array_equal(y[-2:], 1)
    assert np.isnan(model.predict(phi, np.array([[np.nan]], np.float32))).all()


@pytest.mark.parametrize("name", ["omniglot, 20-way, 7 filters", "finn, omniglot, 20-way, 7 filters", "sine"])
def test_other_dtypes_are_computed_by_the_layers_bitwise(variant, name):
    model, rng = PAPERS[name], np.random.default_rng(0)
    native_model = model.with_ops(native_kernels.load(variant))
    phi, batch = random_phi(model, rng), random_batch(model, rng, 3)
    for actual, right in zip(
        results(native_model, phi, batch, phi), results(model, phi, batch, phi), strict=True
    ):
        np.testing.assert_array_equal(actual, right)
    phi, batch, v = single(model, rng, 3)
    layers = Model(model.layers, model.input_shape, model.loss, native_model.ops)
    expected = layers.hvp(phi, batch, v.astype(float))
    np.testing.assert_array_equal(native_model.hvp(phi, batch, v.astype(float)), expected)


def test_a_network_that_c_cannot_compute_is_not_made_one():
    model = omniglot_cnn(3, filters=4)
    ops = native_kernels.load()
    with pytest.raises(UsageError, match=r"whole: after its blocks come Dense; the C kernels support"):
        NativeNetwork((*model.layers[:3], model.layers[-1]), model.input_shape, model.loss, ops)


def test_nan_in_an_image_gives_nan_in_the_loss_and_in_the_gradient(variant, model):
    """A comparison with NaN is false: relu and the pool must not take it for a value that they drop."""
    phi, (x, y), _ = single(model, np.random.default_rng(0), 3)
    x[1] = np.nan
    loss, grad = model.with_ops(native_kernels.load(variant, 1)).loss_and_grad(phi, (x, y))
    assert np.isnan(loss)
    assert np.isnan(grad).any()
