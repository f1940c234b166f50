"""JAX with the convolution rewritten by hand: kh·kw strided slices, a concatenation, a matrix product."""

from functools import partial

import jax.numpy as jnp

from peers import jax_jit


def convolve(x, kernel, stride, padding):
    (top, bottom), (left, right) = padding
    kh, kw, channels, filters = kernel.shape
    x = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    batch, height, width, _ = x.shape
    rows, cols = (height - kh) // stride + 1, (width - kw) // stride + 1
    taps = [
        x[:, u : u + stride * rows : stride, v : v + stride * cols : stride]
        for u in range(kh)
        for v in range(kw)
    ]
    seen = jnp.concatenate([tap[:, :rows, :cols] for tap in taps], -1).reshape(-1, kh * kw * channels)
    return (seen @ kernel.reshape(-1, filters)).reshape(batch, rows, cols, filters)


def variants(threads):
    return {"jax-im2col": partial(jax_jit.contender, convolve=convolve, scan=True)}
