"""JAX, jitted: two ways to convolve, everything else shared.

``jax_conv`` is ``lax.conv_general_dilated``.  ``jax_im2col`` is the fastest JAX program found
for these sizes; JAX does not have it: nine strided slices, one concatenation, one matrix product.

Written to be as fast as possible: a whole step (forward, backward, Adam in our form) is one compiled
function; pooling is the maximum of four strided slices, not ``reduce_window``; inner loops are unrolled,
because ``lax.scan`` keeps XLA from its fast convolution; only the 20 steps of the longest MAML gradient are
scanned and rematerialised, and only with im2col, which scanning does not hurt.  Parameters are a list of
arrays in the order of φ.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reptile_np.bench.workloads import (
    Answer,
    Contender,
    HessianProduct,
    InnerLoop,
    MetaGradient,
    MetaIteration,
    Workload,
)
from reptile_np.meta.optimizers import Adam
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SquaredError
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu, Tanh

Convolution = Callable  # (x NHWC, kernel HWIO, stride, padding) -> y
LONGEST_UNROLLED = 5


def contender(workload: Workload, convolve: Convolution, scan: bool) -> Contender | None:
    match workload:
        case InnerLoop():
            return inner_loop(workload, convolve)
        case MetaIteration():
            return meta_iteration(workload, convolve)
        case HessianProduct():
            return hessian_product(workload, convolve)
        case MetaGradient() if scan or len(workload.batches) - 1 <= LONGEST_UNROLLED:
            return meta_gradient(workload, convolve)
    return None


def forward(model, convolve, parameters, x):
    p = iter(parameters)
    for layer in model.layers:
        match layer:
            case Conv2d():
                x = convolve(x, next(p), layer.stride, layer.pad(*x.shape[1:3])) + next(p)
            case BatchNorm():
                mean = x.mean((0, 1, 2))
                centred = x - mean
                r = lax.rsqrt((centred * centred).mean((0, 1, 2)) + layer.epsilon)
                x = centred * (r * next(p)) + next(p)
            case MaxPool():
                x = pool(x, layer.pad(*x.shape[1:3]))
            case Relu():
                x = jnp.maximum(x, 0)
            case Tanh():
                x = jnp.tanh(x)
            case Flatten():
                x = x.reshape(len(x), -1)
            case Dense():
                x = x @ next(p) + next(p)
    return x


def pool(x, padding):
    (top, bottom), (left, right) = padding
    x = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=-jnp.inf)
    rows = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def loss(model, convolve, parameters, x, y):
    z = forward(model, convolve, parameters, x)
    if isinstance(model.loss, SquaredError):
        return ((z - y) ** 2).mean()
    return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1).sum()


def split(model, phi):
    """Return φ's pieces as arrays."""
    return [jnp.array(view) for view in model.layout.views(phi).values()]


def vector(pieces):
    return np.concatenate([np.ravel(piece) for piece in pieces])


def batches_of(workload):
    return [(jnp.array(x), jnp.array(y)) for x, y in workload.batches]


def value_and_grad(model, convolve):
    """Differentiate by everything but the convolutions' biases, whose gradient is exactly zero."""
    value = partial(loss, model, convolve)
    fixed = [name.startswith("conv") and name.endswith("bias") for name in model.layout.shapes]

    def held(parameters, x, y):
        parameters = [lax.stop_gradient(p) if f else p for p, f in zip(parameters, fixed, strict=True)]
        return value(parameters, x, y)

    return jax.value_and_grad(held)


def stepper(model, convolve, optimizer):
    """Return ``(parameters, state, x, y) -> (parameters, state, loss)``."""
    gradient = value_and_grad(model, convolve)

    def sgd(parameters, state, x, y):
        value, grads = gradient(parameters, x, y)
        rate = optimizer.learning_rate
        return [p - rate * g for p, g in zip(parameters, grads, strict=True)], state, value

    def adam(parameters, state, x, y):
        moments, t = state
        value, grads = gradient(parameters, x, y)
        t, beta2 = t + 1, optimizer.beta2
        rate = optimizer.learning_rate * jnp.sqrt(1 - beta2**t)
        moments = [beta2 * v + (1 - beta2) * g * g for v, g in zip(moments, grads, strict=True)]
        new = [
            p - rate * g / (jnp.sqrt(v) + optimizer.epsilon)
            for p, g, v in zip(parameters, grads, moments, strict=True)
        ]
        return new, (moments, t), value

    return adam if isinstance(optimizer, Adam) else sgd


def start_state(workload, model):
    return (split(model, workload.state.v), jnp.float32(workload.state.t)) if workload.state else ()


def inner_loop(workload: InnerLoop, convolve: Convolution) -> Contender:
    step = stepper(workload.model, convolve, workload.optimizer)

    @jax.jit
    def loop(parameters, state, batches):
        losses = []
        for x, y in batches:
            parameters, state, value = step(parameters, state, x, y)
            losses.append(value)
        return parameters, state, jnp.stack(losses)

    batches, state = batches_of(workload), start_state(workload, workload.model)
    parameters = split(workload.model, workload.phi)

    def run():
        return jax.block_until_ready(loop(parameters, state, batches))

    def read(result):
        return Answer(np.array(result[2], float), vector(result[0]) - workload.phi)

    return Contender(run, read)


def meta_iteration(workload: MetaIteration, convolve: Convolution) -> Contender:
    model, tasks = workload.model, workload.episodes.preset.outer.meta_batch
    step = jax.jit(stepper(model, convolve, workload.inner))
    add = jax.jit(lambda total, parameters: [a + b for a, b in zip(total, parameters, strict=True)])

    @jax.jit
    def interpolate(total, parameters):
        rate = workload.rate
        return [(1 - rate) * p + rate / tasks * w for p, w in zip(parameters, total, strict=True)]

    start, state = split(model, workload.phi), start_state(workload, model)

    def run():
        total, inner, first, last = None, state, [], []
        for j in range(tasks):
            parameters = start
            losses = []
            for x, y in workload.episodes.training(0, j):
                parameters, inner, value = step(parameters, inner, x, y.astype(np.int32))
                losses.append(value)
            total = parameters if total is None else add(total, parameters)
            first.append(losses[0])
            last.append(losses[-1])
        return jax.block_until_ready((interpolate(total, start), first, last))

    def read(result):
        phi, first, last = result
        return Answer(np.array([np.mean(first), np.mean(last)], float), vector(phi) - workload.phi)

    return Contender(run, read)


def hessian_product(workload: HessianProduct, convolve: Convolution) -> Contender:
    gradient = value_and_grad(workload.model, convolve)
    x, y = jnp.array(workload.batch[0]), jnp.array(workload.batch[1])

    @jax.jit
    def product(parameters, v):
        return jax.jvp(lambda p: gradient(p, x, y)[1], (parameters,), (v,))[1]

    parameters, v = split(workload.model, workload.phi), split(workload.model, workload.v)
    return Contender(
        lambda: jax.block_until_ready(product(parameters, v)), lambda hv: Answer(np.zeros(0), vector(hv))
    )


def meta_gradient(workload: MetaGradient, convolve: Convolution, checkpoint: bool | None = None) -> Contender:
    """Scan the steps, rematerialised or not; by default unroll a few, and rematerialise many."""
    unroll = checkpoint is None and len(workload.batches) - 1 <= LONGEST_UNROLLED
    gradient = value_and_grad(workload.model, convolve)

    def step(parameters, batch):
        value, grads = gradient(parameters, *batch)
        return [p - workload.alpha * g for p, g in zip(parameters, grads, strict=True)], value

    def query_loss(parameters, batches, query):
        losses = []
        if unroll:
            for batch in batches:
                parameters, value = step(parameters, batch)
                losses.append(value)
        else:
            stacked = jax.tree.map(lambda *a: jnp.stack(a), *batches)
            again = step if checkpoint is False else jax.checkpoint(step)
            parameters, losses = lax.scan(again, parameters, stacked)
        value = loss(workload.model, convolve, parameters, *query)
        return value, jnp.append(jnp.array(losses), value)

    *support, query = batches_of(workload)
    parameters = split(workload.model, workload.phi)
    whole = jax.jit(jax.grad(query_loss, has_aux=True)).lower(parameters, support, query).compile()

    def read(result):
        grads, losses = result
        names = workload.model.layout.shapes
        pieces = [
            np.zeros(s) if n.startswith("conv") and n.endswith("bias") else g
            for (n, s), g in zip(names.items(), grads, strict=True)
        ]
        return Answer(np.array(losses, float), vector(pieces))

    return Contender(lambda: jax.block_until_ready(whole(parameters, support, query)), read)
