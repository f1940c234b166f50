"""Networks computed whole in C are the layers' function, for any width, order, reduction, batch and threads.

``test_models.py`` tests for every table that value, gradient and Hessian product are as near to float64 as
float32 allows; here are the tests of `NativeNetwork` alone.
"""

import dataclasses
import gc
import os
import pickle
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.bench.workloads import forward_flops
from reptile_np.errors import UsageError
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import maml
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn import native, validation
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy, SquaredError
from reptile_np.nn.models import Model, finn_omniglot_cnn, omniglot_cnn
from reptile_np.nn.native import networks
from reptile_np.nn.native.calls import IDLE_PLANS
from reptile_np.nn.native.matching import match
from reptile_np.nn.native.networks import NativeNetwork
from reptile_np.nn.native.threads import Team
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu, SpatialMean, Tanh
from tests import native_kernels
from tests.nn.native.networks import PAPERS, single
from tests.oracles import relative_error
from tests.strategies import random_batch, random_phi, rngs

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")


@pytest.fixture(scope="module", params=PAPERS)
def model(request):
    return PAPERS[request.param]


def results(model, phi, batch, v):
    loss, grad = model.loss_and_grad(phi, batch)
    kept = model.linearize(phi, batch).hvp(v)
    return model.predict(phi, batch[0]), np.float64(loss), grad, model.hvp(phi, batch, v), kept


def test_a_hessian_product_with_a_float64_vector_is_that_of_the_layers(model):
    phi, batch, v = single(model, np.random.default_rng(0), 3)
    native_model, v = model.with_ops(native.load(threads=1)), v.astype(float)
    expected = Model.hvp(native_model, phi, batch, v)
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(native_model.hvp(phi, batch, v), expected)
    np.testing.assert_array_equal(native_model.linearize(phi, batch).hvp(v), expected)


def wide(batch):
    return tuple(a.astype(float) if a.dtype.kind == "f" else a for a in batch)


@st.composite
def native_networks(draw):
    """1-3 blocks of any width, kernel, stride, order and head, or 0-3 tanh layers: C computes them whole."""
    reduction = draw(st.sampled_from(["sum", "mean"]))
    if draw(st.booleans()):
        layers = []
        for _ in range(draw(st.integers(0, 3))):
            layers += [Dense(draw(st.integers(1, 40))), Tanh()]
        layers.append(Dense(draw(st.integers(1, 3))))
        return Model(tuple(layers), (draw(st.integers(1, 5)),), SquaredError(reduction))
    layers, image = [], (*draw(st.tuples(st.integers(3, 14), st.integers(3, 14))), draw(st.integers(1, 3)))
    size_of_map = image
    for _ in range(draw(st.integers(1, 3))):
        size, stride, filters = (draw(st.integers(1, n)) for n in (4, 3, 35))
        # a large epsilon: channels of few positions are else near degenerate, and float32 no oracle for them
        conv = Conv2d(filters=filters, size=size, stride=stride, before_batch_norm=True)
        norm, n = BatchNorm(0.1, scale=draw(st.booleans())), draw(st.integers(2, 3))
        fits = min(conv.out_size(size_of_map)[:2]) >= n
        pool = MaxPool(
            size=n, stride=n, padding=draw(st.sampled_from(["SAME", "VALID"] if fits else ["SAME"]))
        )
        block = [conv, *draw(st.sampled_from([[norm], [norm, pool], [pool, norm]])), Relu()]
        for layer in block:
            size_of_map = layer.out_size(size_of_map)
        layers += block
    layers += [draw(st.sampled_from([Flatten(), SpatialMean()])), Dense(draw(st.integers(2, 21)))]
    return Model(tuple(layers), image, SoftmaxCrossEntropy(reduction))


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


def assert_near_the_layers(variant, model, place, bound):
    """C's results at (φ, minibatch, v) are the layers' in float64, relative to the norm of each."""
    phi, batch, v = place
    native_model = model.with_ops(native_kernels.load(variant, 1))
    assert type(native_model) is NativeNetwork
    exact = results(model, phi.astype(float), wide(batch), v.astype(float))
    for a, b in zip(results(native_model, phi, batch, v), exact, strict=True):
        assert np.linalg.norm(a - b) <= bound * np.linalg.norm(b)


@pytest.mark.parametrize("examples", [1, 2, 5])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1), (5, 3)])
def test_a_large_batch_has_the_same_results_for_one_thread_and_for_two(variant, size, stride, examples):
    """It is planned in two halves.  Maps of 17 x 17 from 1 and 64 channels: strips, gathered taps, tiles."""
    layers = []
    for filters, stride_of_block in ((64, 1), (35, stride)):
        conv = Conv2d(filters=filters, size=size, stride=stride_of_block, before_batch_norm=True)
        layers += [conv, BatchNorm(0.1), Relu()]
    model = Model((*layers, SpatialMean(), Dense(3)), (17, 17, 1), SoftmaxCrossEntropy("sum"))
    phi, batch, v = single(model, np.random.default_rng(0), examples)
    one, two = (results(model.with_ops(native_kernels.load(variant, n)), phi, batch, v) for n in (1, 2))
    exact = results(model, phi.astype(float), wide(batch), v.astype(float))
    for a, b, c in zip(one, two, exact, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.linalg.norm(a - c) <= 1e-4 * np.linalg.norm(c)


@pytest.mark.parametrize(
    "padding", ["VALID", "SAME", ((1, 0), (1, 0)), ((1, 1), (1, 1)), ((0, 1), (0, 1))], ids=str
)
@pytest.mark.parametrize("pool_first", [False, True])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("side", [7, 8, 9])
def test_pools_that_leave_rows_out_or_reach_over_the_border_have_the_layers_results(
    variant, side, size, pool_first, padding
):
    """In a first and in a second block; bounds as above."""
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
    """Bands that are larger are not used: C would write beyond the memory of one.  Bounds as above."""
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


def test_memory_of_few_batch_sizes_is_kept(variant):
    model = omniglot_cnn(5, filters=3).with_ops(native_kernels.load(variant, 1))
    for examples in range(1, 12):
        phi, batch, v = single(model, np.random.default_rng(0), examples)
        model.linearize(phi, batch).hvp(v)
    assert len(model._calls._idle) == len(model._calls._saved) == IDLE_PLANS
    newest = list(range(12 - IDLE_PLANS, 12))
    assert [plan.key for plan in model._calls._idle] == [(examples, True) for examples in newest]
    assert list(model._calls._saved) == newest


@pytest.mark.parametrize(("filters", "kept"), [(64, 1), (3, 0)])
def test_only_large_vectors_memory_is_kept_for_the_next(variant, filters, kept):
    network = omniglot_cnn(5, filters).with_ops(native_kernels.load(variant, 1))
    phi, batch, _ = single(network, np.random.default_rng(0), 2)
    network.loss_and_grad(phi, batch)
    gc.collect()
    assert len(network._calls.vectors._free) == kept


@pytest.mark.parametrize(("units", "kept"), [(2**14, 1), (2**14 - 1, 0)])
def test_vectors_of_128_kb_are_large(units, kept):
    network = Model((Dense(units),), (1,), SquaredError("mean")).with_ops(native_kernels.load())
    x, y = np.ones((1, 1), np.float32), np.ones((1, units), np.float32)
    network.loss_and_grad(np.ones(2 * units, np.float32), (x, y))
    gc.collect()
    assert len(network._calls.vectors._free) == kept


def test_a_batch_size_that_is_used_again_is_not_the_oldest(variant):
    model = omniglot_cnn(5, filters=3).with_ops(native_kernels.load(variant, 1))
    for examples in (*range(1, IDLE_PLANS + 1), 1, IDLE_PLANS + 1):
        phi, batch, _ = single(model, np.random.default_rng(0), examples)
        model.linearize(phi, batch)
    newest = [*range(3, IDLE_PLANS + 1), 1, IDLE_PLANS + 1]
    assert list(model._calls._saved) == [plan.key[0] for plan in model._calls._idle] == newest


def test_labels_that_are_written_after_their_check_do_not_reach_c(variant, monkeypatch):
    """Another thread may do that; C would read beyond its memory."""
    model = omniglot_cnn(5, filters=3).with_ops(native_kernels.load(variant, 1))
    phi, (x, y), _ = single(model, np.random.default_rng(0), 3)
    y = y.astype(np.int32)
    expected, _ = model.loss_and_grad(phi, (x, y))

    def check(labels, count, ways):
        checked = validation.checked_labels(labels, count, ways)
        y[...] = (y + 1) % ways
        return checked

    monkeypatch.setattr(networks, "checked_labels", check)
    assert model.loss_and_grad(phi, (x, y))[0] == expected


@given(model=native_networks(), sizes=st.lists(st.integers(2, 5), min_size=2, max_size=4), rng=rngs)
def test_saved_activations_give_any_number_of_products_whatever_else_runs_meanwhile(
    variant, model, sizes, rng
):
    """Bitwise `loss_and_grad`'s results, and `hvp`'s, which computes the activations again."""
    native_model = model.with_ops(native_kernels.load(variant, 1))
    phi, _, v = single(model, rng, 2)
    batches = [random_batch(model, rng, size, np.float32) for size in sizes]
    kept = [native_model.linearize(phi, batch) for batch in batches]
    for direction in (v, kept[0].grad):
        for batch, point in reversed(list(zip(batches, kept, strict=True))):
            np.testing.assert_array_equal(point.hvp(direction), native_model.hvp(phi, batch, direction))
            loss, grad = native_model.loss_and_grad(phi, batch)
            assert point.loss == loss
            np.testing.assert_array_equal(point.grad, grad)


@pytest.mark.parametrize("name", ["omniglot, 20-way, 7 filters", "sine"])
def test_a_product_from_saved_activations_reads_them_and_computes_no_gradient_again(variant, name):
    model = PAPERS[name].with_ops(native_kernels.load(variant, 1))
    phi, batch, v = single(model, np.random.default_rng(0), 3)
    point = model.linearize(phi, batch)
    assert np.isfinite(point.hvp(v)).all()
    point.hvp._saved[0] = np.nan  # of the first activation
    assert np.isnan(point.hvp(v)).any()


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


def test_saved_memory_is_as_large_as_the_activations_and_is_used_again_when_nobody_holds_it(variant):
    """Two floats a unit, z and its activation's adjoint, and a few vectors: 1.1 allows for those."""
    model, rng = omniglot_cnn(5).with_ops(native_kernels.load(variant, 1)), np.random.default_rng(0)
    phi, batch, v = single(model, rng, 5)
    units = 5 * 64 * (14**2 + 7**2 + 4**2 + 2**2)
    model.linearize(phi, batch).hvp(v)  # makes the plan
    tracemalloc.start()
    sizes = []
    for _ in range(2):
        points = [model.linearize(phi, batch) for _ in range(8)]
        sizes.append(tracemalloc.get_traced_memory()[1] / len(points) - phi.nbytes)
        del points
    tracemalloc.stop()
    assert sizes[0] <= sizes[1] <= 1.1 * 8 * units


def test_a_networks_work_is_the_naive_count_of_a_forward_pass(model):
    assert 2 * match(model).multiply_adds == forward_flops(model, 1)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_any_number_of_threads_gives_the_same_bits(variant, model, threads):
    rng = np.random.default_rng(threads)
    place = single(model, rng, 3)
    one = model.with_ops(native_kernels.load(variant, 1))
    team = model.with_ops(native_kernels.load(variant, threads))
    expected = results(one, *place)
    for _ in range(3):  # who runs what is left to chance
        for actual, right in zip(results(team, *place), expected, strict=True):
            np.testing.assert_array_equal(actual, right)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity to set")
def test_a_team_keeps_to_the_cores_it_is_given_and_leaves_them_as_they_were(variant):
    """Helpers are started on another core than their parent's, where there is one."""
    model, cores = omniglot_cnn(5, filters=7), os.sched_getaffinity(0)
    phi, batch, v = single(model, np.random.default_rng(0), 3)
    expected = results(model.with_ops(native_kernels.load(variant, 1)), phi, batch, v)
    team = model.with_ops(native_kernels.load(variant, 4))
    try:
        for allowed in (cores, {min(cores)}):
            os.sched_setaffinity(0, allowed)
            for actual, exact in zip(results(team, phi, batch, v), expected, strict=True):
                np.testing.assert_array_equal(actual, exact)
            assert os.sched_getaffinity(0) == allowed
    finally:
        os.sched_setaffinity(0, cores)


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


def test_two_models_and_one_model_twice_may_run_in_threads_at_once(variant):
    pairs = [
        (PAPERS["omniglot, 20-way, 7 filters"], 4),
        (PAPERS["sine"], 10),
        (PAPERS["omniglot, 20-way, 7 filters"], 4),
    ]
    jobs = []
    for seed, (model, examples) in enumerate(pairs):
        native_model = model.with_ops(native_kernels.load(variant, 2))
        jobs.append((native_model, single(native_model, np.random.default_rng(seed), examples)))
    jobs += [(jobs[0][0], single(jobs[0][0], np.random.default_rng(9), 4))] * 2
    expected = [results(native_model, *place) for native_model, place in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        for _ in range(5):
            for actual, right in zip(
                pool.map(lambda job: results(job[0], *job[1]), jobs), expected, strict=True
            ):
                for a, b in zip(actual, right, strict=True):
                    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("again", [lambda model: pickle.loads(pickle.dumps(model)), copy, deepcopy])
def test_a_native_network_can_be_pickled_and_copied(variant, again):
    model = omniglot_cnn(3, filters=4).with_ops(native_kernels.load(variant))
    place = single(model, np.random.default_rng(0), 3)
    expected = results(model, *place)
    same = again(model)
    assert type(same) is NativeNetwork
    for actual, right in zip(results(same, *place), expected, strict=True):
        np.testing.assert_array_equal(actual, right)


def test_the_team_is_told_the_multiply_adds_of_a_whole_call(variant, monkeypatch):
    told = []
    monkeypatch.setattr(Team, "members", lambda team, work: told.append(work) or 1)
    model = omniglot_cnn(3, filters=4).with_ops(native_kernels.load(variant))
    phi, (x, y), v = single(model, np.random.default_rng(0), 6)
    model.predict(phi, x)
    model.loss_and_grad(phi, (x, y))
    model.hvp(phi, (x, y), v)
    adapt(model, Sgd(0.1), phi, [(x, y)] * 4, keep="ends")
    model.linearize(phi, (x, y)).hvp(v)
    forward = forward_flops(model, 6) // 2
    assert told == [products * forward for products in (1, 3, 8, 3 * 4, 3, 6)]


def test_the_team_is_told_the_multiply_adds_of_a_whole_convolution(variant, monkeypatch):
    told = []
    monkeypatch.setattr(Team, "members", lambda team, work: told.append(work) or 1)
    x, w = np.ones((6, 8, 9, 2), np.float32), np.ones((3, 3, 2, 4), np.float32)
    native_kernels.load(variant).conv2d(x, w, 1, ((1, 1), (1, 1)))
    assert told == [6 * 8 * 9 * 3 * 3 * 2 * 4]


def test_a_native_network_that_was_used_gives_its_fields_as_a_dictionary(variant):
    model = omniglot_cnn(3, filters=4).with_ops(native_kernels.load(variant))
    fields = dataclasses.asdict(model)
    results(model, *single(model, np.random.default_rng(0), 3))
    assert dataclasses.asdict(model).keys() == fields.keys() == {"layers", "input_shape", "loss", "ops"}


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


def test_a_network_that_is_not_used_any_more_gives_its_memory_back_at_once(variant):
    """Without waiting for the garbage collector, which does not know how large its blocks are."""
    model = omniglot_cnn(3, filters=4).with_ops(native.load(variant, threads=1))
    rng = np.random.default_rng(0)
    phi, batch = model.init(rng), (rng.random((6, 28, 28, 1), np.float32), np.arange(6) % 3)
    gc.disable()
    try:
        model.predict(phi, batch[0])
        trajectory = adapt(model, Sgd(0.01), phi, [batch] * 3, keep="hessians")
        maml(model, 0.01)(trajectory)
        calls = weakref.ref(model._calls)
        del model, trajectory
        assert calls() is None
    finally:
        gc.enable()
