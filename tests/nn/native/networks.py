"""Networks that C computes whole, for the tests; and how often they call each C function."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
from hypothesis import strategies as st

from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy, SquaredError
from reptile_np.nn.models import (
    Model,
    finn_mini_imagenet_cnn,
    finn_omniglot_cnn,
    mini_imagenet_cnn,
    omniglot_cnn,
    sine_mlp,
)
from reptile_np.nn.native.networks import NativeNetwork
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu, SpatialMean, Tanh
from tests import native_kernels
from tests.strategies import random_batch, random_phi

PAPERS = {
    "omniglot": omniglot_cnn(5),
    "omniglot, 20-way, 7 filters": omniglot_cnn(20, filters=7),
    "mini-imagenet, 9 filters": mini_imagenet_cnn(5, filters=9),
    "mini-imagenet, v1, 4 filters": mini_imagenet_cnn(5, filters=4, order="conv-pool-norm"),
    "finn, omniglot": finn_omniglot_cnn(5),
    "finn, omniglot, 20-way, 7 filters": finn_omniglot_cnn(20, filters=7),
    "finn, mini-imagenet, 9 filters": finn_mini_imagenet_cnn(5, filters=9),
    "sine": sine_mlp(),
}
CLASSIFIERS = [omniglot_cnn, finn_omniglot_cnn]


def network_of(model, kernels):
    network = model.with_ops(kernels)
    assert isinstance(network, NativeNetwork)
    return network


def single(model, rng, examples):
    """φ, a minibatch and a direction in float32."""
    phi = random_phi(model, rng, np.float32)
    return phi, random_batch(model, rng, examples, np.float32), rng.normal(size=phi.size).astype(np.float32)


def results(model, phi, batch, v):
    """Everything a network computes at φ: outputs, loss, gradient, and the Hessian product in both ways."""
    loss, grad = model.loss_and_grad(phi, batch)
    kept = model.linearize(phi, batch).hvp(v)
    return model.predict(phi, batch[0]), np.float64(loss), grad, model.hvp(phi, batch, v), kept


def wide(batch):
    """The minibatch in float64."""
    return tuple(a.astype(float) if a.dtype.kind == "f" else a for a in batch)


def assert_near_the_layers(variant, model, place, bound):
    """C's results at (φ, minibatch, v) are the layers' in float64, relative to the norm of each."""
    phi, batch, v = place
    native_model = model.with_ops(native_kernels.load(variant, 1))
    assert type(native_model) is NativeNetwork
    exact = results(model, phi.astype(float), wide(batch), v.astype(float))
    for a, b in zip(results(native_model, phi, batch, v), exact, strict=True):
        assert np.linalg.norm(a - b) <= bound * np.linalg.norm(b)


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


def counted(network):
    """Return how often `network` has called each C function, a `Counter` that its later calls increase."""
    counts, calls = Counter(), network._calls

    def counting(name, function):
        def call(*arguments):
            counts[name] += 1
            return function(*arguments)

        return call

    names = ("predict", "loss_and_grad", "hvp", "loop")
    calls.entries = SimpleNamespace(
        **{name: getattr(calls.entries, name) for name in dir(calls.entries)}
        | {name: counting(name, getattr(calls.entries, name)) for name in names}
    )
    calls.optimizer_step = counting("update", calls.optimizer_step)
    return counts
