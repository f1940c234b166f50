"""The benchmark counts its FLOPs as published, and its workloads compute what they say."""

import math
from dataclasses import replace

import numpy as np
import pytest

from reptile_np.bench import measurement as bench
from reptile_np.bench.catalogue import all_workloads
from reptile_np.bench.workloads import forward_flops, gradient_flops, maml_flops
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Adam
from reptile_np.nn import models
from reptile_np.nn.ops import NUMPY

ALL = all_workloads()
WORKLOADS = {workload.name: workload for workload in ALL}


def count_multiply_adds():
    """A NumPy table that counts the multiply-adds it is asked for, direct and with the padding."""
    counted = []

    def product(entry, positions):
        def counting(*arguments):
            counted.append(positions(*arguments))
            return getattr(NUMPY, entry)(*arguments)

        return counting

    def rows(y, channels):
        return y.size // y.shape[-1] * channels

    table = replace(
        NUMPY,
        matmul=product("matmul", lambda x, w: len(x) * w.size),
        matmul_input=product("matmul_input", lambda y_bar, w: len(y_bar) * w.size),
        matmul_weight=product("matmul_weight", lambda x, y_bar: x.size * y_bar.shape[1]),
        conv2d=product("conv2d", lambda x, k, s, p: NUMPY.conv2d(x, k, s, p).size * math.prod(k.shape[:3])),
        conv2d_input=product("conv2d_input", lambda y_bar, k, s, p, hw: rows(y_bar, k.size)),
        conv2d_weight=product(
            "conv2d_weight", lambda x, y_bar, s, p, taps: y_bar.size * math.prod(taps) * x.shape[3]
        ),
    )
    return table, counted


@pytest.mark.parametrize(
    ("ways", "batch", "published"), [(5, 5, 79), (5, 10, 157), (5, 25, 393), (20, 15, 236), (20, 20, 315)]
)
def test_an_omniglot_step_counts_the_published_megaflops(ways, batch, published):
    assert round(gradient_flops(models.omniglot_cnn(ways), batch) / 1e6) == published


def test_a_mini_imagenet_step_counts_the_published_gigaflops():
    # 1.530: one percent more than published, which is what 10 instead of 11 rows in the last block make
    assert gradient_flops(models.mini_imagenet_cnn(5), 10) / 1e9 == pytest.approx(1.52, rel=0.01)


@pytest.mark.parametrize(("steps", "floor"), [(1, 1.34), (5, 5.35), (20, 20.4)])
def test_a_maml_gradient_counts_the_published_floor(steps, floor):
    milliseconds = maml_flops(models.omniglot_cnn(5), 5, steps) / 235e9 * 1e3  # at a peak of 235 GFLOP/s
    assert milliseconds == pytest.approx(floor, abs=0.01)


@pytest.mark.parametrize(
    "model",
    [models.omniglot_cnn(5, filters=4), models.mini_imagenet_cnn(3, filters=2), models.sine_mlp((5,))],
)
def test_the_counts_are_of_the_products_that_the_layers_ask_for(model):
    table, counted = count_multiply_adds()
    rng = np.random.default_rng(0)
    x = rng.random((3, *model.input_shape))
    y = np.arange(3) if len(model.input_shape) == 3 else rng.random((3, 1))
    phi = model.init(rng, np.float64)
    model.with_ops(table).predict(phi, x)
    assert 2 * sum(counted) == forward_flops(model, 3)
    counted.clear()
    model.with_ops(table).loss_and_grad(phi, (x, y))
    assert 2 * sum(counted) == gradient_flops(model, 3)


def test_an_op_counts_what_it_multiplies():
    table, counted = count_multiply_adds()
    for workload in WORKLOADS.values():
        if hasattr(workload, "entry"):
            counted.clear()
            workload.contender(table).run()
            assert 2 * sum(counted) == workload.flops, workload.name


FORWARD = 2 * (14 * 14 * 9 * 64 + (7 * 7 + 4 * 4 + 2 * 2) * 9 * 64 * 64 + 2 * 2 * 64 * 5)
"""Operations of an Omniglot forward pass, 5-way, for each image: 28 → 14 → 7 → 4 → 2 pixels, 64 filters."""
GRADIENT = 3 * FORWARD - 2 * (14 * 14 * 9 * 64)
"""Of its gradient: the images need none."""
SINE = 3 * 2 * (64 + 64 * 64 + 64) - 2 * 64


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("Omniglot step, 5-way, batch 25", 25 * GRADIENT),
        ("Omniglot meta-iteration, 25 steps of batch 10", 25 * 10 * GRADIENT),
        (
            "Omniglot evaluation task, 5-shot, 50 steps",  # of batch 5; 5 queries, alone and with 25 images
            50 * 5 * GRADIENT + 5 * FORWARD + 5 * (25 + 1) * FORWARD,
        ),
        ("Omniglot step, 20-way, batch 20", 20 * (GRADIENT + 3 * 2 * 256 * 15)),
        (
            "Mini-ImageNet step, 5-way, batch 10",  # 84 → 42 → 21 → 11 → 6 pixels, 32 filters
            10 * (6 * (84**2 * 864 + (42**2 + 21**2 + 11**2) * 9216 + 36 * 32 * 5) - 2 * 84**2 * 864),
        ),
        ("Omniglot hvp, batch 10", 2 * 10 * GRADIENT),
        ("Omniglot MAML gradient, K = 1, 5+5 images", (2 + 2 * 1) * 5 * GRADIENT),
        ("Omniglot MAML gradient, K = 5, 5+5 images", (6 + 2 * 5) * 5 * GRADIENT),
        ("Omniglot MAML gradient, K = 20, 5+5 images", (21 + 2 * 20) * 5 * GRADIENT),
        ("sine meta-iteration, 32 SGD steps of batch 10", 32 * 10 * SINE),
    ],
)
def test_a_workload_counts_the_operations_of_all_its_gradients_products_and_passes(name, flops):
    assert WORKLOADS[name].flops == flops


def maps_of(layer, *which):
    return [f"{layer} {one}" for one in ("forward", "weight", *which)]


def test_the_table_has_these_workloads_in_this_order():
    assert [workload.name for workload in ALL] == [
        *(f"Omniglot step, 5-way, batch {b}" for b in (5, 10, 25)),
        *(f"Omniglot step, 20-way, batch {b}" for b in (15, 20)),
        *(f"Mini-ImageNet step, 5-way, batch {b}" for b in (10, 15)),
        "Omniglot meta-iteration, 25 steps of batch 10",
        "Omniglot evaluation task, 5-shot, 50 steps",
        "Omniglot hvp, batch 10",
        *(f"Omniglot MAML gradient, K = {k}, 5+5 images" for k in (1, 5, 20)),
        "sine meta-iteration, 32 SGD steps of batch 10",
        *maps_of("Omniglot conv1"),  # the images need no gradient
        *maps_of("Omniglot conv2", "input"),
        *maps_of("Omniglot conv3", "input"),
        *maps_of("Omniglot conv4", "input"),
        *maps_of("Omniglot dense5", "input"),
        *maps_of("Mini-ImageNet conv2", "input"),
        *maps_of("sine dense2", "input"),
    ]


def test_a_meta_iteration_is_the_first_outer_step_of_the_preset():
    """Five tasks of five steps of Adam, whose state goes from task to task; the outer rate is 1."""
    workload = WORKLOADS["Omniglot meta-iteration, 25 steps of batch 10"]
    contender = workload.contender(NUMPY)
    phi, state, total = workload.phi, workload.state, 0 * workload.phi
    for j in range(5):
        batches = workload.episodes.training(0, j)
        assert [len(y) for _, y in batches] == [10] * 5
        t = adapt(workload.model, Adam(1e-3), phi, batches, state, keep="ends")
        state = t.state
        total += phi - t.phis[-1]
    moved = contender.read(contender.run()).vector
    np.testing.assert_array_equal(moved, (phi - total / 5) - phi)


def test_an_evaluation_classifies_each_query_in_both_modes():
    workload = WORKLOADS["Omniglot evaluation task, 5-shot, 50 steps"]
    short = replace(workload, episode=workload.episode._replace(batches=workload.episode.batches[:1]))
    contender = short.contender(NUMPY)
    transductive, other = contender.read(contender.run()).vector.reshape(2, 5, 5)  # mode, query, class
    assert (transductive != other).all()


@pytest.mark.parametrize("name", [w.name for w in ALL if hasattr(w, "phi") and "sine" not in w.name])
def test_half_of_the_channels_of_each_batch_norm_are_on(name):
    workload = WORKLOADS[name]
    views = workload.model.layout.views(workload.phi)
    shifts = [view for name, view in views.items() if name.endswith("beta")]
    assert len(shifts) == 4
    for shift in shifts:
        assert sorted(shift) == [-0.5] * (len(shift) // 2) + [0.5] * (len(shift) // 2)


def test_adam_s_state_is_that_of_the_middle_of_a_training():
    workload = WORKLOADS["Omniglot step, 5-way, batch 5"]
    assert workload.state.t == 1000
    _, grad = workload.model.loss_and_grad(workload.phi, workload.batches[0])
    views = workload.model.layout.views
    for kept, square in zip(views(workload.state.v).values(), views(grad**2).values(), strict=True):
        assert (kept == (square if square.any() else grad**2).mean()).all()


@pytest.mark.parametrize(
    "name", [name for name, workload in WORKLOADS.items() if workload.flops < 5e8]
)  # the bench does all
def test_the_data_keep_clear_of_kinks_so_that_float32_agrees_with_float64(name):
    workload = WORKLOADS[name]
    answers = []
    for dtype in (np.float32, np.float64):
        contender = workload.contender(NUMPY, dtype)
        answers.append(contender.read(contender.run()))
    assert not bench.disagreement(workload, *answers)


def test_a_meta_gradient_is_not_first_order():
    """Else a contender that dropped the second order would pass."""
    workload = WORKLOADS["Omniglot MAML gradient, K = 1, 5+5 images"]
    contender = workload.contender(NUMPY)
    exact = contender.read(contender.run())
    phi = workload.phi - workload.alpha * workload.model.loss_and_grad(workload.phi, workload.batches[0])[1]
    first_order = exact._replace(vector=workload.model.loss_and_grad(phi, workload.batches[1])[1])
    assert bench.disagreement(workload, first_order, exact)
