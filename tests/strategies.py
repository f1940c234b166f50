"""What Hypothesis draws: convolutions, layers at a point, small networks, batches, trajectories.

Numbers come from a drawn seed: the identities under test are polynomial or analytic, so a generic
point decides them, and a kink (probability zero) is never met by accident.  Shapes, strides and
paddings, where code goes wrong, are drawn widely and shrink.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from reptile_np.meta import inner_loop, optimizers
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy, SquaredError
from reptile_np.nn.models import Model
from reptile_np.nn.ops import NUMPY, resolve_padding
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu, SpatialMean, Tanh

seeds = st.integers(0, 2**32 - 1)
rngs = seeds.map(np.random.default_rng)


def integers_as(dtype, rng, shape):
    """Integer-valued floats in -8 … 8: products and short sums of them are exact in any float."""
    return rng.integers(-8, 9, shape).astype(dtype)


@st.composite
def paddings(draw, size, taps, stride):
    """SAME, VALID (where the window fits), or four free numbers that leave room for a window."""
    kind = draw(st.sampled_from(["SAME", "VALID", "free"]))
    if kind == "SAME" or (kind == "VALID" and (taps[0] > size[0] or taps[1] > size[1])):
        return resolve_padding("SAME", size, taps, stride)
    if kind == "VALID":
        return (0, 0), (0, 0)
    pairs = []
    for n, k in zip(size, taps, strict=True):
        before = draw(st.integers(0, 3))
        pairs.append((before, draw(st.integers(max(0, k - n - before), max(3, k - n - before)))))
    return tuple(pairs)


@dataclass(frozen=True)
class Convolution:
    """A convolution's arguments: x (b, h, w, c), kernel (kh, kw, c, f), and a y_bar that fits."""

    x: Any
    kernel: Any
    y_bar: Any
    stride: int
    padding: Any

    @property
    def size(self):
        return self.x.shape[1:3]

    @property
    def taps(self):
        return self.kernel.shape[:2]

    def maps(self, ops):
        """The convolution, its input adjoint and its weight adjoint."""
        rest = self.stride, self.padding
        return (
            ops.conv2d(self.x, self.kernel, *rest),
            ops.conv2d_input(self.y_bar, self.kernel, *rest, self.size),
            ops.conv2d_weight(self.x, self.y_bar, *rest, self.taps),
        )

    def astype(self, dtype):
        x, kernel, y_bar = (a.astype(dtype) for a in (self.x, self.kernel, self.y_bar))
        return Convolution(x, kernel, y_bar, self.stride, self.padding)

    def __abs__(self):
        x, kernel, y_bar = map(np.abs, (self.x, self.kernel, self.y_bar))
        return Convolution(x, kernel, y_bar, self.stride, self.padding)


@st.composite
def convolutions(draw, dtype=np.float64, numbers=integers_as):
    """Any small convolution, oblong images and kernels included."""
    size = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    taps = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.integers(1, 3))
    padding = draw(paddings(size, taps, stride))
    batch, channels, filters = draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)))
    rng = draw(rngs)
    out = [(n + sum(p) - k) // stride + 1 for n, k, p in zip(size, taps, padding, strict=True)]
    return Convolution(
        numbers(dtype, rng, (batch, *size, channels)),
        numbers(dtype, rng, (*taps, channels, filters)),
        numbers(dtype, rng, (batch, *out, filters)),
        stride,
        padding,
    )


def normals(dtype, rng, shape):
    return rng.normal(size=shape).astype(dtype)


@st.composite
def filtered_convolutions(draw, numbers=integers_as, widths=(32, 64, 96)):
    """3 × 3 at stride 1 or 2, so mostly by patches: widths around what is transformed at a time (64)."""
    channels, filters = draw(st.tuples(st.sampled_from(widths), st.sampled_from(widths)))
    size = draw(st.tuples(st.integers(3, 15), st.integers(3, 15)))
    padding = tuple(draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in size)
    stride, rng = draw(st.integers(1, 2)), draw(rngs)
    out = [(n + sum(p) - 3) // stride + 1 for n, p in zip(size, padding, strict=True)]
    enough = -(-192 // (out[0] * out[1]))  # for tiles at stride 2, with 16 lanes
    batch = draw(
        st.integers(1, 5) if stride == 1 else st.sampled_from([1, 2, 5, enough, enough + 1, enough + 2])
    )
    shapes = (batch, *size, channels), (3, 3, channels, filters), (batch, *out, filters)
    return Convolution(*(numbers(np.float32, rng, shape) for shape in shapes), stride, padding)


@dataclass(frozen=True)
class Placed:
    """A layer at a point (θ, x), with tangents, an adjoint and the adjoint's tangent; all float64."""

    layer: Any
    theta: tuple
    x: Any
    theta_dot: tuple
    x_dot: Any
    y_bar: Any
    y_bar_dot: Any
    ops: Any = NUMPY

    def value(self, theta, x):
        return self.layer.forward(theta, x, self.ops)[0]

    def vjp(self, theta, x, y_bar):
        """(x_bar, *theta_bar), each computed from scratch at (theta, x)."""
        at = self.layer.forward(theta, x, self.ops)[1]
        x_bar, theta_bar = self.layer.backward(at, y_bar, self.ops)
        return (x_bar, *theta_bar)


image_layers = st.one_of(
    st.builds(
        Conv2d,
        filters=st.integers(1, 3),
        size=st.integers(1, 4),
        stride=st.integers(1, 3),
        padding=st.sampled_from(["SAME", ((1, 0), (2, 1))]),
    ),
    st.builds(BatchNorm, st.sampled_from([1e-3, 0.1]), st.booleans()),
    st.builds(
        MaxPool,
        size=st.integers(1, 3),
        stride=st.integers(1, 3),
        padding=st.sampled_from(["SAME", "VALID"]),
    ),
    st.builds(Relu),
    st.builds(Tanh),
    st.builds(Flatten),
    st.builds(SpatialMean),
)
vector_layers = st.one_of(
    st.builds(Dense, st.integers(1, 4)),
    st.builds(BatchNorm, scale=st.booleans()),
    st.builds(Relu),
    st.builds(Tanh),
)


@st.composite
def placed_layers(draw):
    """Any layer, anywhere away from its kinks."""
    if draw(st.booleans()):
        layer = draw(image_layers)
        size = (*draw(st.tuples(st.integers(3, 6), st.integers(3, 6))), draw(st.integers(1, 3)))
    else:
        layer, size = draw(vector_layers), (draw(st.integers(1, 5)),)
    return placed(layer, size, draw(st.integers(2, 4)), draw(rngs))


def placed(layer, size, batch, rng):
    """Put a layer at a random point."""
    shapes = layer.shapes(size).values()
    theta, theta_dot = (tuple(rng.normal(size=shape) for shape in shapes) for _ in range(2))
    x, x_dot = rng.normal(size=(2, batch, *size))
    y_bar, y_bar_dot = rng.normal(size=(2, batch, *layer.out_size(size)))
    return Placed(layer, theta, x, theta_dot, x_dot, y_bar, y_bar_dot)


def block(filters, stride, pooled, scale=True):
    convolution = Conv2d(filters=filters, stride=stride, before_batch_norm=True)
    return [convolution, BatchNorm(0.1, scale), *([MaxPool()] if pooled else []), Relu()]


@st.composite
def networks(draw):
    """A small classifier or regressor: image blocks or a plain stack of dense layers."""
    reduction = draw(st.sampled_from(["sum", "mean"]))
    if draw(st.booleans()):
        size = (*draw(st.tuples(st.integers(3, 6), st.integers(3, 6))), draw(st.integers(1, 2)))
        layers = []
        for _ in range(draw(st.integers(1, 2))):
            layers += block(
                draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.booleans()), draw(st.booleans())
            )
        layers.append(draw(st.sampled_from([Flatten(), SpatialMean()])))
    else:
        size, layers = (draw(st.integers(1, 4)),), []
        for _ in range(draw(st.integers(1, 2))):
            between = draw(st.sampled_from([Tanh(), Relu(), BatchNorm(0.1)]))
            layers += [Dense(draw(st.integers(1, 4))), between]
    layers.append(Dense(draw(st.integers(2, 3))))
    loss = draw(st.sampled_from([SoftmaxCrossEntropy(reduction), SquaredError(reduction)]))
    return Model(tuple(layers), size, loss)


def random_batch(model, rng, examples, dtype=np.float64):
    """A minibatch that fits the model."""
    x = rng.normal(size=(examples, *model.input_shape)).astype(dtype)
    if isinstance(model.loss, SoftmaxCrossEntropy):
        return x, rng.integers(0, model.output_shape[0], examples)
    return x, rng.normal(size=(examples, *model.output_shape)).astype(dtype)


def random_phi(model, rng, dtype=np.float64):
    """A point with no special entries: γ, β and biases perturbed too."""
    return (model.init(rng, np.float64) + 0.1 * rng.normal(size=model.layout.size)).astype(dtype)


@dataclass(frozen=True)
class Setting:
    """A model, a starting point φ and the k minibatches of one task."""

    model: Any
    phi: Any
    batches: tuple

    def trajectory(self, alpha):
        return inner_loop.adapt(self.model, optimizers.Sgd(alpha), self.phi, self.batches)


@st.composite
def settings_of_a_task(draw, steps=(1, 4)):
    """A smooth network (tanh, so that derivatives of a whole loop exist everywhere) and a task for it."""
    sizes = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 2)))
    loss = draw(st.sampled_from([SquaredError("sum"), SquaredError("mean")]))
    model = Model((Dense(sizes[1]), Tanh(), Dense(sizes[2])), sizes[:1], loss)
    rng = draw(rngs)
    batches = tuple(random_batch(model, rng, 3) for _ in range(draw(st.integers(*steps))))
    return Setting(model, random_phi(model, rng), batches)
