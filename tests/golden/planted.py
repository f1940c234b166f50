"""Errors of a whole program that a recording must show: {name: (words of the kinds, its recording)}."""

from dataclasses import fields, replace

import numpy as np

from reptile_np.meta.meta_gradients import reptile
from reptile_np.meta.optimizers import Adam, AdamState
from reptile_np.nn.layers import BatchNorm, Conv2d
from reptile_np.nn.losses import SoftmaxCrossEntropy
from reptile_np.nn.models import mini_imagenet_cnn
from reptile_np.nn.parameter_free import MaxPool
from tests.golden.recordings import META_BATCH, Recording, recorded


class EpsilonInTheRoot(Adam):
    def update(self, grad, state, phi):
        t, v = state.t + 1, self.beta2 * state.v + (1 - self.beta2) * grad**2
        rate = self.learning_rate * np.float32(np.sqrt(1 - self.beta2**t))
        return phi - rate * grad / np.sqrt(v + self.epsilon), AdamState(state.m, v, t)


class ResetBetweenTasks(Adam):
    steps = 3

    def update(self, grad, state, phi):
        if state.t % self.steps == 0:
            state = state._replace(v=0 * state.v)
        phi, after = super().update(grad, state._replace(t=state.t % self.steps), phi)
        return phi, after._replace(t=state.t + 1)


class EpsilonOutsideTheRoot(BatchNorm):
    """r = 1 / (√variance + ε)."""

    def forward(self, theta, x, ops):
        gamma, beta = theta
        rows = x.reshape(-1, x.shape[-1])
        centred = rows - rows.mean(0)
        r = 1 / (np.sqrt((centred**2).mean(0)) + self.epsilon)
        return (centred * (gamma * r) + beta).reshape(x.shape), (gamma, centred, r)


class RunningStatistics(BatchNorm):
    """Normalises by statistics that belong to no batch: mean 0 and variance 1, where running ones start."""

    def forward(self, theta, x, ops):
        gamma, beta = theta
        rows = x.reshape(-1, x.shape[-1])
        r = np.full(len(gamma), 1 / np.sqrt(1 + self.epsilon), x.dtype)
        return (rows * (gamma * r) + beta).reshape(x.shape), (gamma, rows, r)


def _inner(program, **changes):
    return replace(program, inner=replace(program.inner, **changes))


def _optimizer(program, kind):
    return replace(program, inner=kind(program.inner.learning_rate))


def _model(program, **changes):
    return replace(program, model=replace(program.model, **changes))


def _layers(program, kind, change):
    layers = tuple(change(layer) if isinstance(layer, kind) else layer for layer in program.model.layers)
    return _model(program, layers=layers)


def _shifted(layer):
    """SAME's padding with the larger half first."""

    class Shifted(type(layer)):
        def pad(self, rows, cols):
            return tuple((after, before) for before, after in super().pad(rows, cols))

    return Shifted(**{field.name: getattr(layer, field.name) for field in fields(layer)})


def _pool_first(program):
    return replace(program, model=mini_imagenet_cnn(5, program.model.layers[0].filters, "conv-pool-norm"))


def _swapped(data, program):
    """The last two minibatches of the first task change places, and are recorded under each other's names."""
    sizes = data.arrays["train0/batch_sizes"]
    k = len(sizes) // META_BATCH
    cuts = np.cumsum([0, *sizes])
    order = [*range(k - 2), k - 1, k - 2, *range(k, len(sizes))]
    rows = np.concatenate([np.arange(cuts[n], cuts[n + 1]) for n in order])
    changed = {key: data.arrays[key][rows] for key in ("train0/x", "train0/y")}
    changed["train0/batch_sizes"] = sizes[order]
    wrong = recorded(Recording(data.name, data.arrays | changed), program)
    back = wrong.arrays["train0/per_example_loss"][np.argsort(rows)]
    return Recording(
        data.name,
        wrong.arrays | {key: data.arrays[key] for key in changed} | {"train0/per_example_loss": back},
    )


def _by(change):
    return lambda data, program: recorded(data, change(program))


PLANTED = {
    "the inner rate 0.1 % off": ("", _by(lambda p: _inner(p, learning_rate=1.001 * p.inner.learning_rate))),
    "the outer rate 0.1 % off": ("", _by(lambda p: replace(p, outer_rate=1.001 * p.outer_rate))),
    "a mean loss for the sum": ("", _by(lambda p: _model(p, loss=SoftmaxCrossEntropy("mean")))),
    "two minibatches swapped": ("", _swapped),
    "batch norm: ε outside the root": (
        "",
        _by(lambda p: _layers(p, BatchNorm, lambda _: EpsilonOutsideTheRoot())),
    ),
    "batch norm: running statistics": (
        "",
        _by(lambda p: _layers(p, BatchNorm, lambda _: RunningStatistics())),
    ),
    "batch norm: ε = 1e-5": ("", _by(lambda p: _layers(p, BatchNorm, lambda _: BatchNorm(1e-5)))),
    "Adam: ε inside the root": ("adam", _by(lambda p: _optimizer(p, EpsilonInTheRoot))),
    "Adam: β2 = 0.99": ("adam", _by(lambda p: _inner(p, beta2=0.99))),
    "Adam: β1 = 0.01": ("adam", _by(lambda p: _inner(p, beta1=0.01))),
    "Adam: reset between tasks": ("omniglot adam", _by(lambda p: _optimizer(p, ResetBetweenTasks))),
    "FOMAML: the whole displacement": ("foml", _by(lambda p: replace(p, direction=reptile))),
    "FOMAML: the step before the last": (
        "foml",
        _by(lambda p: replace(p, direction=lambda t: t.phis[-3] - t.phis[-2])),
    ),
    "symmetric padding": (
        "omniglot",
        _by(lambda p: _layers(p, Conv2d, lambda c: replace(c, padding=((1, 1), (1, 1))))),
    ),
    "padding: the larger half first": ("omniglot", _by(lambda p: _layers(p, Conv2d, _shifted))),
    "pooling: the larger half first": ("mini", _by(lambda p: _layers(p, MaxPool, _shifted))),
    "pooling before batch norm": ("mini", _by(_pool_first)),
}
