"""JAX with the convolution it ships."""

from functools import partial

from jax import lax

from peers import jax_jit


def convolve(x, kernel, stride, padding):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def variants(threads):
    return {"jax": partial(jax_jit.contender, convolve=convolve, scan=False)}
