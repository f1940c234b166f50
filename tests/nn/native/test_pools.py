"""Blocks with a pool, and their kinks: the layers' results for every border, in every band, at every tie."""

import numpy as np
import pytest

from reptile_np.nn import native
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import Model
from reptile_np.nn.native.networks import NativeNetwork
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu
from tests import native_kernels
from tests.nn.native.networks import assert_near_the_layers, results, single, wide

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")


@pytest.mark.parametrize(
    "padding", ["VALID", "SAME", ((1, 0), (1, 0)), ((1, 1), (1, 1)), ((0, 1), (0, 1))], ids=str
)
@pytest.mark.parametrize("pool_first", [False, True])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("side", [7, 8, 9])
def test_pools_that_leave_rows_out_or_reach_over_the_border_have_the_layers_results(
    variant, side, size, pool_first, padding
):
    """In a first and in a second block; the bound is that of `test_networks`."""
    pool, norm = MaxPool(size=size, stride=size, padding=padding), BatchNorm(0.1)
    layers = []
    for filters in (5, 6):
        conv = Conv2d(filters=filters, before_batch_norm=True)
        layers += [conv, *((pool, norm) if pool_first else (norm, pool)), Relu()]
    model = Model((*layers, Flatten(), Dense(3)), (2 * side, 2 * side + 1, 1), SoftmaxCrossEntropy("mean"))
    assert_near_the_layers(variant, model, single(model, np.random.default_rng(0), 3), 2e-4)


def first_block(stride, pool, right=0):
    """A pixel with `stride` rows of padding below and `right` columns left of it; windows of `pool` rows."""
    conv = Conv2d(size=1, stride=stride, padding=((0, stride), (right, 0)), filters=8, before_batch_norm=True)
    pooling = MaxPool(size=pool, stride=pool, padding=((0, pool - 2), (0, pool - 1)))
    layers = (conv, pooling, BatchNorm(0.1), Relu(), Flatten(), Dense(2))
    return Model(layers, (1, 1, 1), SoftmaxCrossEntropy("sum"))


BANDS = {  # an image, and the convolution that reads it
    "twelve kernel rows": ((20, 20, 1), {"size": 12, "filters": 3}),
    "800 positions": ((4, 400, 1), {"size": 1, "filters": 3}),
    "many channels": ((4, 84, 1), {"size": 3, "filters": 64}),
    "many inputs": ((8, 200, 3), {"size": 8, "filters": 3}),
    "62 columns of its image unread": ((126, 126, 1), {"size": 1, "stride": 63, "filters": 3}),
}


@pytest.mark.parametrize("name", BANDS)
def test_a_first_block_whose_bands_are_about_as_large_as_c_has_memory_for_has_the_layers_results(
    variant, name
):
    """Bands that are larger are not used: C would write beyond the memory of one."""
    image, options = BANDS[name]
    layers = (Conv2d(**options, before_batch_norm=True), BatchNorm(0.1), MaxPool(), Relu())
    model = Model((*layers, Flatten(), Dense(2)), image, SoftmaxCrossEntropy("sum"))
    assert_near_the_layers(variant, model, single(model, np.random.default_rng(0), 3), 2e-4)


@pytest.mark.parametrize("stride", [3, 100, 3999])
def test_columns_of_padding_left_of_all_that_a_first_block_reads_have_the_layers_results(variant, stride):
    """With 3,999 C used to write beyond the memory of a band."""
    model = first_block(stride, 2, right=stride - 1)
    assert_near_the_layers(variant, model, single(model, np.random.default_rng(0), 3), 1e-5)


def test_windows_that_span_more_rows_than_32_bits_count_are_windows(variant):
    """The same two positions are read with a stride of 2 and windows of 2."""
    model, same = first_block(8_500_000, 256), first_block(2, 2)
    phi, batch, v = single(same, np.random.default_rng(0), 3)
    far = model.with_ops(native_kernels.load(variant, 1))
    assert type(far) is NativeNetwork
    exact = results(same, phi.astype(float), wide(batch), v.astype(float))
    for a, b in zip(results(far, phi, batch, v), exact, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


@pytest.mark.parametrize("pool_first", [False, True])
@pytest.mark.parametrize("size", [2, 3])
def test_of_equal_maxima_in_a_window_the_first_counts(variant, size, pool_first):
    """Outputs of a window are equal; the gradient of a second channel, whose weights are 0, tells which."""
    pool, norm = MaxPool(size=size, stride=size), BatchNorm(0.1)
    order = (pool, norm) if pool_first else (norm, pool)
    layers = (Conv2d(filters=5, size=1, before_batch_norm=True), *order, Relu(), Flatten(), Dense(3))
    model = Model(layers, (4 * size, 4 * size, 2), SoftmaxCrossEntropy("mean"))
    phi, (x, y), v = single(model, np.random.default_rng(0), 3)
    kernel = model.layout.views(phi)["conv/kernel"]
    kernel[:, :, 1] = 0
    x[..., 0] = x[:, ::size, ::size, 0].repeat(size, 1).repeat(size, 2)
    assert_near_the_layers(variant, model, (phi, (x, y), v), 2e-4)
    first, last = x.astype(float), x.astype(float)
    last[..., 1] = last.reshape(3, 4, size, 4, size, 2)[:, :, ::-1, :, ::-1, 1].reshape(last.shape[:3])
    first, last = (model.loss_and_grad(phi.astype(float), (images, y))[1] for images in (first, last))
    assert np.linalg.norm(first - last) > 0.01 * np.linalg.norm(first)


def test_where_the_scale_before_a_pool_is_zero_the_first_of_a_window_counts(variant):
    """All outputs of such a channel are its β > 0; the gradient of γ tells which input was taken."""
    layers = (
        Conv2d(filters=5, before_batch_norm=True),
        BatchNorm(0.1),
        MaxPool(),
        Relu(),
        Flatten(),
        Dense(3),
    )
    model = Model(layers, (8, 8, 2), SoftmaxCrossEntropy("mean"))
    phi, batch, v = single(model, np.random.default_rng(0), 3)
    views = model.layout.views(phi)
    views["norm/gamma"][2], views["norm/beta"][2] = 0, 1
    assert_near_the_layers(variant, model, (phi, batch, v), 2e-4)


@pytest.mark.parametrize(
    "middle",
    [(BatchNorm(0.1),), (BatchNorm(0.1), MaxPool()), (MaxPool(), BatchNorm(0.1))],
    ids=["norm", "norm, pool", "pool, norm"],
)
def test_the_derivative_of_relu_at_exactly_zero_is_zero(variant, middle):
    """With γ = β = 0 every output of a channel is exactly 0."""
    layers = (Conv2d(filters=5, before_batch_norm=True), *middle, Relu(), Flatten(), Dense(3))
    model = Model(layers, (8, 8, 2), SoftmaxCrossEntropy("mean"))
    phi, batch, v = single(model, np.random.default_rng(0), 3)
    for name in ("gamma", "beta"):
        model.layout.views(phi)[f"norm/{name}"][2] = 0
    assert_near_the_layers(variant, model, (phi, batch, v), 2e-4)


def test_a_first_block_by_tiles_is_not_computed_band_by_band(variant):
    """Images of 32 channels fill whole panels; the packed weights of tiles are not those of taps."""
    layers = (Conv2d(filters=32, before_batch_norm=True), BatchNorm(0.1), MaxPool(), Relu())
    model = Model((*layers, Flatten(), Dense(3)), (12, 12, 32), SoftmaxCrossEntropy("mean"))
    assert_near_the_layers(variant, model, single(model, np.random.default_rng(0), 3), 2e-4)


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)], ids=str)
def test_a_nan_is_the_maximum_only_if_it_is_the_first_entry_of_its_window(variant, place):
    layers = (Conv2d(filters=8, size=1, before_batch_norm=True), MaxPool(), BatchNorm(), Relu())
    model = Model((*layers, Flatten(), Dense(2)), (4, 4, 1), SoftmaxCrossEntropy("sum"))
    phi, (x, _), _ = single(model, np.random.default_rng(0), 3)
    x = np.array(x)
    x[0, 2 + place[0], 0 + place[1]] = np.nan
    found, expected = (m.predict(phi, x) for m in (model.with_ops(native_kernels.load(variant, 1)), model))
    assert np.isnan(expected).all() == np.isnan(found).all() == (place == (0, 0))
    if place != (0, 0):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
