"""Which models have a twin in C, and the struct that describes them to it.

A model matches where its layers are those of ``csrc/kernels.h``'s rk_network (convolution blocks, a dense
layer, softmax cross-entropy) or rk_mlp (tanh layers, squared error), at any widths.

Verified by ``tests/nn/native/test_networks.py`` (what matches, what must not).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy, SquaredError
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu, Tanh

MOST_BLOCKS = 8
MOST_DENSE = 8


def struct_of(model: Any) -> tuple[str, tuple[Any, ...]] | None:
    """Return ("network" or "mlp", the fields of its struct, nested); None for any other model."""
    if isinstance(model.loss, SoftmaxCrossEntropy) and len(model.input_shape) == 3:
        kind, fields = "network", _blocks(model)
    elif isinstance(model.loss, SquaredError) and len(model.input_shape) == 1:
        kind, fields = "mlp", _tanh_layers(model)
    else:
        return None
    return None if fields is None else (kind, fields)


def multiply_adds(kind: str, fields: tuple[Any, ...]) -> int:
    """Return those of a forward pass over one example, padding's included."""
    if kind == "mlp":
        _, _, units = fields
        return sum(math.prod(pair) for pair in pairwise(units))
    _, _, blocks, dense = fields
    total = 0
    for conv in (*(block[0] for block in blocks), dense):
        _, _, channels, taps_y, taps_x, filters, _, _, _, rows, cols, *_ = conv
        total += rows * cols * taps_y * taps_x * channels * filters
    return total


def _blocks(model: Any) -> tuple[Any, ...] | None:
    """Match 1-8 × [conv, norm, relu, perhaps a pool before or after norm], flatten, dense: rk_network."""
    layers, image = list(model.layers), model.input_shape
    blocks: list[tuple[Any, ...]] = []
    while layers and isinstance(layers[0], Conv2d):
        kinds = tuple(type(layer) for layer in layers[1:4])
        if kinds[:2] == (BatchNorm, Relu):
            length, norm, pool, first = 3, layers[1], None, False
        elif kinds == (BatchNorm, MaxPool, Relu):
            length, norm, pool, first = 4, layers[1], layers[2], False
        elif kinds == (MaxPool, BatchNorm, Relu):
            length, norm, pool, first = 4, layers[2], layers[1], True
        else:
            return None
        if not layers[0].centred:
            return None
        conv = _conv(layers[0], image)
        image = layers[0].out_size(image)
        pooling: tuple[int, ...] | None = (0, 0, 0, 0, 0, 0)
        if pool is not None:
            pooling = _tiling(pool, image, first)
            image = pool.out_size(image)
        if pooling is None:
            return None
        blocks.append((conv, *pooling, norm.epsilon))
        del layers[:length]
    if not 1 <= len(blocks) <= MOST_BLOCKS or [type(layer) for layer in layers] != [Flatten, Dense]:
        return None
    rows, cols, channels = image
    dense = (rows, cols, channels, rows, cols, layers[1].units, 1, 0, 0, 1, 1)
    return len(blocks), model.loss.reduction == "mean", blocks, dense


def _conv(layer: Conv2d, image: tuple[int, ...]) -> tuple[int, ...]:
    """Return the fields of rk_conv; the last: at stride 1, tiles of 4 × 4 outputs are allowed."""
    (top, _), (left, _) = layer.pad(*image[:2])
    return (
        *image,
        layer.size,
        layer.size,
        layer.filters,
        layer.stride,
        top,
        left,
        *layer.out_size(image)[:2],
        1,
    )


def _tiling(pool: MaxPool, image: tuple[int, ...], first: bool) -> tuple[int, ...] | None:
    """Return rk_block's fields of a pooling whose windows tile the image; None where they do not."""
    (top, _), (left, _) = pool.pad(*image[:2])
    rows, cols = pool.counts(*image[:2])
    tiles = pool.size == pool.stride > 1 and max(top, left) < pool.size
    covers = rows * pool.size - top >= image[0] and cols * pool.size - left >= image[1]
    return (pool.size, first, top, left, rows, cols) if tiles and covers else None


def _tanh_layers(model: Any) -> tuple[Any, ...] | None:
    """Match [dense, tanh] × 0..7, dense: the fields of rk_mlp."""
    dense, tanh = model.layers[::2], model.layers[1::2]
    if len(model.layers) % 2 == 0 or not 1 <= len(dense) <= MOST_DENSE:
        return None
    if any(type(layer) is not Dense for layer in dense) or any(type(layer) is not Tanh for layer in tanh):
        return None
    units = [*model.input_shape, *(layer.units for layer in dense)]
    return len(dense), model.loss.reduction == "mean", units
