"""Which networks C can compute whole, and the shape that describes them to C.

The layers must be those of ``csrc/interface.h``'s rk_network (convolution blocks, a dense layer, softmax
cross-entropy) or rk_mlp (tanh layers, squared error), of any widths.

Verified by ``tests/nn/native/test_matching.py`` (what matches, what must not, and the reason given).
"""

from __future__ import annotations

import numpy as np

from reptile_np.nn.layers import BatchNorm, Conv2d, Dense, Layer
from reptile_np.nn.losses import SoftmaxCrossEntropy, SquaredError
from reptile_np.nn.models import Model
from reptile_np.nn.native.shapes import (
    LARGEST,
    MOST_PLANNING,
    Block,
    Conv,
    ConvNetwork,
    Shape,
    TanhNetwork,
)
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu, SpatialMean, Tanh

__all__ = ["MOST_BLOCKS", "MOST_DENSE", "NotMatched", "conv_shape", "match"]

LOSSES = (SoftmaxCrossEntropy, SquaredError)
TINY = np.finfo(np.float32).tiny
LARGEST_POOL = 2**14
"""A window of the kernels can have 2 p rows of 2 p indices (`pool.h`), which must fit in 32 bits."""
MOST_BLOCKS = 8
"""Blocks of a network in C: RK_MAX_BLOCKS of ``csrc/interface.h``."""
MOST_DENSE = 8
"""Dense layers of a network in C: RK_MAX_DENSE."""


class NotMatched(Exception):
    """Why C cannot compute a network whole."""


def match(model: Model) -> Shape:
    """Return the shape of a network that C can compute whole.

    Raises
    ------
    NotMatched
        For any other network, with the reason.
    """
    for part, kinds in ((model.loss, LOSSES), (model.layers[0], (Conv2d,))):
        if isinstance(part, kinds) and type(part) not in kinds:
            raise NotMatched(f"the C kernels do not have the methods of {type(part).__name__}, a subclass")
    loss = type(model.loss)
    if loss is SoftmaxCrossEntropy and len(model.input_shape) == 3:
        shape: Shape = _conv_network(model)
    elif loss is SquaredError and len(model.input_shape) == 1:
        shape = _tanh_network(model)
    else:
        raise NotMatched(
            "the C kernels support image classifiers (cross-entropy) and vector regression (squared error)"
        )
    if max(shape.largest_image, shape.largest_offset, shape.packed_kernel) > LARGEST:
        raise NotMatched("its arrays are too large for 32-bit offsets")
    if shape.planning > MOST_PLANNING:
        raise NotMatched("a kernel, stride or padding is about as large as a large image")
    return shape


def _conv_network(model: Model) -> ConvNetwork:
    """Match 1-8 × [conv, norm, relu, perhaps a pool before or after the norm], flatten or mean, dense."""
    layers, image = list(model.layers), model.input_shape
    blocks: list[Block] = []
    while layers and type(layers[0]) is Conv2d:
        block, length, image = _block(layers, image)
        blocks.append(block)
        del layers[:length]
    if not 1 <= len(blocks) <= MOST_BLOCKS:
        raise NotMatched(f"it has {len(blocks)} convolution blocks; the C kernels support 1 to {MOST_BLOCKS}")
    kinds = [type(layer) for layer in layers]
    if kinds not in ([Flatten, Dense], [SpatialMean, Dense]):
        raise NotMatched(
            f"after its blocks come {_names(layers)}; the C kernels support Flatten or SpatialMean, Dense"
        )
    rows, cols, channels = image
    (ways,) = model.output_shape
    dense = Conv(rows, cols, channels, rows, cols, ways, 1, 0, 0, 1, 1, large_tiles=False)
    return ConvNetwork(model.loss.reduction == "mean", kinds[0] is SpatialMean, tuple(blocks), dense)


def _block(layers: list[Layer], image: tuple[int, ...]) -> tuple[Block, int, tuple[int, ...]]:
    """Match one block: its shape, how many layers it has, and the image that it returns."""
    conv, *rest = layers
    norm: Layer
    pool: Layer | None
    kinds = tuple(type(layer) for layer in rest[:3])
    if kinds[:2] == (BatchNorm, Relu):
        length, norm, pool = 3, rest[0], None
    elif kinds == (BatchNorm, MaxPool, Relu):
        length, norm, pool = 4, rest[0], rest[1]
    elif kinds == (MaxPool, BatchNorm, Relu):
        length, norm, pool = 4, rest[1], rest[0]
    else:
        raise NotMatched(
            f"after a convolution come {_names(rest[:3])}; the C kernels support BatchNorm, Relu, and "
            "a MaxPool before or after the BatchNorm"
        )
    assert isinstance(conv, Conv2d)
    assert isinstance(norm, BatchNorm)
    if not conv.before_batch_norm:
        raise NotMatched("a convolution before a batch norm does not say before_batch_norm=True")
    if conv.stride > LARGEST:
        raise NotMatched(f"a convolution has the stride {conv.stride}")
    if max(max(axis) for axis in conv.pad(*image[:2])) > LARGEST:
        raise NotMatched(f"a convolution has the padding {conv.padding}")
    if not np.float32(norm.epsilon) >= TINY:
        raise NotMatched(
            f"the epsilon of a BatchNorm is less than {TINY:.2g}, the least normal float32 number"
        )
    shape = conv_shape(image, conv)
    image = conv.out_size(image)
    if not isinstance(pool, MaxPool):
        return Block(shape, norm.scale, 0, False, 0, 0, 0, 0, norm.epsilon), length, image
    (top, _), (left, _) = pool.pad(*image[:2])
    rows, cols = pool.counts(*image[:2])
    if min(rows, cols) < 1:
        raise NotMatched("a MaxPool has no window")
    if not LARGEST_POOL >= pool.size == pool.stride > 1:
        raise NotMatched(
            f"a MaxPool has size {pool.size} and stride {pool.stride}; the C kernels support equal ones, "
            f"from 2 to {LARGEST_POOL}"
        )
    first = rest[0] is pool
    block = Block(shape, norm.scale, pool.size, first, top, left, rows, cols, norm.epsilon)
    return block, length, pool.out_size(image)


def conv_shape(image: tuple[int, ...], layer: Conv2d) -> Conv:
    """Return the shape of a convolution layer on an image (rows, cols, channels)."""
    height, width, channels = image
    (top, _), (left, _) = layer.pad(height, width)
    size, counts = layer.size, layer.counts(height, width)
    kernel = (size, size, layer.filters)
    return Conv(height, width, channels, *kernel, layer.stride, top, left, *counts, large_tiles=True)


def _tanh_network(model: Model) -> TanhNetwork:
    """Match [dense, tanh] × 0..7, dense."""
    dense, tanh = model.layers[::2], model.layers[1::2]
    kinds = {type(layer) for layer in dense}, {type(layer) for layer in tanh}
    if kinds[0] != {Dense} or kinds[1] - {Tanh}:
        raise NotMatched(
            f"its layers are {_names(model.layers)}; the C kernels support Dense, Tanh, Dense, ..., Dense"
        )
    if len(model.layers) % 2 == 0 or len(dense) > MOST_DENSE:
        raise NotMatched(
            f"it has {len(dense)} dense and {len(tanh)} Tanh layers; the C kernels support 1 to {MOST_DENSE} "
            "dense layers, with a Tanh between each two"
        )
    units = [layer.units for layer in dense if isinstance(layer, Dense)]
    return TanhNetwork(model.loss.reduction == "mean", (*model.input_shape, *units))


def _names(layers: list[Layer] | tuple[Layer, ...]) -> str:
    return ", ".join(type(layer).__name__ for layer in layers) or "no layers"
