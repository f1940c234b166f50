"""Networks that are computed in C on several threads: bitwise the results of one."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest

from reptile_np.bench.workloads import forward_flops
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn import native
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import Model, omniglot_cnn
from reptile_np.nn.native.matching import match
from reptile_np.nn.native.threads import Team
from reptile_np.nn.parameter_free import Relu, SpatialMean
from tests import native_kernels
from tests.nn.native.networks import PAPERS, results, single, wide

pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")


@cache  # one computation for all variants
def large_place(size, stride, examples):
    """Return a network of 64 channels, φ, a batch and v, and what NumPy computes from them in float64."""
    layers = []
    for filters, stride_of_block in ((64, 1), (35, stride)):
        conv = Conv2d(filters=filters, size=size, stride=stride_of_block, before_batch_norm=True)
        layers += [conv, BatchNorm(0.1), Relu()]
    model = Model((*layers, SpatialMean(), Dense(3)), (17, 17, 1), SoftmaxCrossEntropy("sum"))
    phi, batch, v = single(model, np.random.default_rng(0), examples)
    return model, (phi, batch, v), results(model, phi.astype(float), wide(batch), v.astype(float))


@pytest.mark.parametrize("examples", [1, 2, 5])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1), (5, 3)])
def test_a_large_batch_has_the_same_results_for_one_thread_and_for_two(variant, size, stride, examples):
    """It is planned in two halves.  Maps of 17 x 17 from 1 and 64 channels: strips, gathered taps, tiles."""
    model, place, exact = large_place(size, stride, examples)
    one, two = (results(model.with_ops(native_kernels.load(variant, n)), *place) for n in (1, 2))
    for a, b, c in zip(one, two, exact, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.linalg.norm(a - c) <= 1e-4 * np.linalg.norm(c)


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


def test_a_plan_that_another_thread_took_meanwhile_is_not_used_twice(variant):
    network = omniglot_cnn(3, filters=4).with_ops(native_kernels.load(variant, 1))
    phi, (x, _), _ = single(network, np.random.default_rng(0), 3)
    network.predict(phi, x)
    (plan,) = network._calls._idle

    class Late(list):
        def copy(self):
            return [plan]  # as it was before the other thread removed it

    network._calls._idle = Late()
    assert network._calls._take_idle(plan.key) is None


def test_the_team_is_told_the_multiply_adds_of_each_group_of_minibatches(variant, monkeypatch):
    told = []
    monkeypatch.setattr(Team, "members", lambda team, work: told.append(work) or 1)
    model = omniglot_cnn(3, filters=4).with_ops(native_kernels.load(variant))
    phi, (x, y), _ = single(model, np.random.default_rng(0), 6)
    adapt(model, Sgd(0.1), phi, [(x, y), (x[:2], y[:2]), (x[:2], y[:2])], keep="ends")
    assert told == [3 * forward_flops(model, 6) // 2, 3 * 2 * forward_flops(model, 2) // 2]
