"""The memory of networks that are computed in C: plans, vectors, saved activations, copies."""

import dataclasses
import gc
import pickle
import tracemalloc
import weakref
from copy import copy, deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import maml
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn import native, validation
from reptile_np.nn.layers import Dense
from reptile_np.nn.losses import SquaredError
from reptile_np.nn.models import Model, omniglot_cnn
from reptile_np.nn.native import networks
from reptile_np.nn.native.calls import IDLE_PLANS
from reptile_np.nn.native.networks import NativeNetwork
from tests import native_kernels
from tests.nn.native.networks import PAPERS, native_networks, results, single
from tests.strategies import random_batch, rngs

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")


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


@pytest.mark.parametrize("again", [lambda model: pickle.loads(pickle.dumps(model)), copy, deepcopy])
def test_a_native_network_can_be_pickled_and_copied(variant, again):
    model = omniglot_cnn(3, filters=4).with_ops(native_kernels.load(variant))
    place = single(model, np.random.default_rng(0), 3)
    expected = results(model, *place)
    same = again(model)
    assert type(same) is NativeNetwork
    for actual, right in zip(results(same, *place), expected, strict=True):
        np.testing.assert_array_equal(actual, right)


def test_a_native_network_that_was_used_gives_its_fields_as_a_dictionary(variant):
    model = omniglot_cnn(3, filters=4).with_ops(native_kernels.load(variant))
    fields = dataclasses.asdict(model)
    results(model, *single(model, np.random.default_rng(0), 3))
    assert dataclasses.asdict(model).keys() == fields.keys() == {"layers", "input_shape", "loss", "ops"}


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
