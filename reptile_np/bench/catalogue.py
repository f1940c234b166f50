"""The workloads of the benchmark's table, with their data: the networks and sizes of the paper.

The data are drawn, not loaded, so that the benchmark runs anywhere; speed does not depend on them.

Verified by ``tests/bench/test_workloads.py``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import numpy as np

from reptile_np.bench.workloads import (
    Evaluation,
    HessianProduct,
    InnerLoop,
    MetaGradient,
    MetaIteration,
    Operation,
    Workload,
)
from reptile_np.experiments import presets
from reptile_np.experiments.episodes import FewShotEpisodes
from reptile_np.experiments.streams import Streams
from reptile_np.meta.inner_loop import Batch
from reptile_np.meta.optimizers import Adam, AdamState, Sgd
from reptile_np.nn import models
from reptile_np.nn.layers import Bilinear, Conv2d
from reptile_np.nn.models import Model
from reptile_np.nn.ops import Array
from reptile_np.tasks.image_classes import ArrayClasses

__all__ = ["all_workloads"]


@cache
def all_workloads() -> tuple[Workload, ...]:
    """Return every workload of the table, in order; the same data each time."""
    rng = np.random.default_rng(0)
    omniglot, mini = models.omniglot_cnn(5), models.mini_imagenet_cnn(5)
    workloads: list[Workload] = []
    workloads += [_step(rng, f"Omniglot step, 5-way, batch {b}", omniglot, b) for b in (5, 10, 25)]
    workloads += [
        _step(rng, f"Omniglot step, 20-way, batch {b}", models.omniglot_cnn(20), b) for b in (15, 20)
    ]
    for b, seed in ((10, 58), (15, 16)):  # the two of 60 seeds with the largest margins in max pooling
        workloads.append(_step(np.random.default_rng(seed), f"Mini-ImageNet step, 5-way, batch {b}", mini, b))
    workloads += _task_workloads(rng, omniglot)
    workloads += [_maml(rng, omniglot, steps) for steps in (1, 5, 20)]
    workloads.append(_sine(rng))
    workloads += _ops(rng, "Omniglot", omniglot, 10, range(5))
    workloads += _ops(rng, "Mini-ImageNet", mini, 10, (1,))
    workloads += _ops(rng, "sine", models.sine_mlp(), 10, (1,))
    return tuple(workloads)


def _step(rng: np.random.Generator, name: str, model: Model, size: int) -> Workload:
    phi = _init(rng, model)
    batch = _batch(rng, model, size)
    return InnerLoop(name, model, Adam(1e-3), phi, _moments(model, phi, batch), (batch,))


def _task_workloads(rng: np.random.Generator, model: Model) -> list[Workload]:
    """Return a meta-iteration, an evaluation task and a Hessian product."""
    preset = presets.get("omniglot-5way")
    drawings = rng.random((20 * 20, 28, 28)) < 0.9  # paper is 1, ink 0
    classes = ArrayClasses(drawings, np.repeat(np.arange(20), 20))
    episodes = FewShotEpisodes(preset, Streams(0), classes, classes)
    phi, batch = _init(rng, model), _batch(rng, model, 10)
    moments = _moments(model, phi, batch)
    episode = episodes.evaluation(preset.evaluation, "test", 0)
    v = rng.standard_normal(len(phi)).astype(np.float32)
    return [
        MetaIteration("Omniglot meta-iteration, 25 steps of batch 10", model, episodes, phi, moments),
        Evaluation("Omniglot evaluation task, 5-shot, 50 steps", model, Adam(1e-3), phi, moments, episode),
        HessianProduct("Omniglot hvp, batch 10", model, phi, batch, v),
    ]


def _maml(rng: np.random.Generator, model: Model, steps: int) -> Workload:
    batches = tuple(_batch(rng, model, 5) for _ in range(2))
    name = f"Omniglot MAML gradient, K = {steps}, 5+5 images"
    return MetaGradient(name, model, _init(rng, model), (batches[0],) * steps + (batches[1],))


def _sine(rng: np.random.Generator) -> Workload:
    model, name = models.sine_mlp(), "sine meta-iteration, 32 SGD steps of batch 10"
    x = rng.uniform(-5, 5, (32, 10, 1)).astype(np.float32)
    return InnerLoop(name, model, Sgd(0.02), _init(rng, model), (), tuple((b, np.sin(b)) for b in x))


def _ops(
    rng: np.random.Generator, title: str, model: Model, batch: int, which: Collection[int]
) -> Iterator[Workload]:
    """Yield the three maps of the layers in `which`; only layers that have a kernel are counted, from 0."""
    size, index = model.input_shape, 0
    for layer in model.layers:
        out = layer.out_size(size)
        if isinstance(layer, Bilinear):
            if index in which:
                yield from _layer_ops(rng, f"{title} {layer.label}{index + 1}", layer, size, batch, index > 0)
            index += 1
        size = out


def _layer_ops(
    rng: np.random.Generator, title: str, layer: Bilinear, size: tuple[int, ...], batch: int, want_x_bar: bool
) -> Iterator[Workload]:
    out, shape = layer.out_size(size), layer.shapes(size)["kernel"]
    shapes = (batch, *size), (batch, *out), shape
    x, y_bar, kernel = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    window: tuple[Any, ...] = ()
    entry, image, taps = "matmul", window, window
    if isinstance(layer, Conv2d):
        entry, window = "conv2d", (layer.stride, layer.pad(size[0], size[1]))
        image, taps = (size[:2],), (shape[:2],)
    flops = 2 * batch * math.prod(out[:-1]) * math.prod(shape)
    yield Operation(f"{title} forward", entry, (x, kernel, *window), flops)
    yield Operation(f"{title} weight", f"{entry}_weight", (x, y_bar, *window, *taps), flops)
    if want_x_bar:
        yield Operation(f"{title} input", f"{entry}_input", (y_bar, kernel, *window, *image), flops)


def _batch(rng: np.random.Generator, model: Model, size: int) -> Batch:
    """Return black and white images, or coloured ones, with labels that cover the classes."""
    ways, shape = model.output_shape[0], (size, *model.input_shape)
    x = rng.random(shape) < 0.9 if shape[-1] == 1 else rng.random(shape)
    return x.astype(np.float32), rng.permutation(np.arange(size) % ways)


def _init(rng: np.random.Generator, model: Model) -> Array:
    """Return φ with every ReLU far from its kink: γ = 1/16 and β = ±1/2.

    The activations of half of the channels are then positive.  A gradient jumps where an activation crosses
    0.  Near 0, float32 rounds some of 10^5 activations to the other side, which changes a gradient by 1e-2,
    and no contender would be within 1e-4 of float64.  Speed does not depend on it.
    """
    phi = model.init(rng)
    for name, view in model.layout.views(phi).items():
        if name.endswith("gamma"):
            view[:] = 1 / 16
        elif name.endswith("beta"):
            view[::2], view[1::2] = 0.5, -0.5
    return phi


def _moments(model: Model, phi: Array, batch: Batch) -> AdamState:
    """Return Adam's state as in the middle of training: v is the mean square gradient of each piece.

    If v were 0, the first step would be the gradient's *sign*, which rounding decides if the gradient is
    nearly zero; contenders could then not be compared.
    """
    grad = model.loss_and_grad(phi, batch)[1]
    v = np.full_like(phi, np.mean(grad**2))
    for piece, square in zip(
        model.layout.views(v).values(), model.layout.views(grad**2).values(), strict=True
    ):
        if square.any():
            piece[:] = square.mean()
    return AdamState(phi[:0].copy(), v, 1000)
