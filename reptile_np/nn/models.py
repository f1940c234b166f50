"""The networks: functions that return a `Model`.

`omniglot_cnn` and `mini_imagenet_cnn` are the released program's; `finn_omniglot_cnn` and
`finn_mini_imagenet_cnn` are those of Finn's program, from which the MAML rows of the paper's tables come;
`sine_mlp` is the authors' demo's.

Verified by ``tests/nn/test_named_networks.py`` and ``tests/nn/test_models.py``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from reptile_np.errors import UsageError
from reptile_np.nn.faces import Layer, Shape
from reptile_np.nn.layers import BatchNorm, Conv2d, Dense
from reptile_np.nn.losses import SoftmaxCrossEntropy, SquaredError
from reptile_np.nn.model import Model
from reptile_np.nn.parameter_free import Flatten, MaxPool, Relu, SpatialMean, Tanh

__all__ = [
    "Model",
    "conv_cnn",
    "finn_mini_imagenet_cnn",
    "finn_omniglot_cnn",
    "mini_imagenet_cnn",
    "omniglot_cnn",
    "sine_mlp",
]


def sine_mlp(hidden: tuple[int, ...] = (64, 64)) -> Model:
    """Return the sine wave network 1-64-64-1: tanh, mean squared error, as in the authors' demo.

    Its initial values are also the demo's: kernels and biases from U(-r, r), r = 1/√fan_in.  With Glorot
    kernels and zero biases the centres of all tanh units lie at x = 0, and training is several times slower.
    `UsageError` if `hidden` is no tuple of whole numbers of at least 1.
    """
    if np.ndim(hidden) != 1:
        raise UsageError(f"sine_mlp: hidden is {hidden!r}; give a tuple of widths, such as (64, 64)")
    layers: list[Layer] = []
    for units in hidden:
        layers += [Dense(units, "fan_in"), Tanh()]
    return Model((*layers, Dense(1, "fan_in")), (1,), SquaredError("mean"))


def conv_cnn(shape: Shape, ways: int, filters: int = 64) -> Model:
    """Return a classifier of images of any `shape` (rows, cols, channels): `omniglot_cnn` with enough blocks.

    n × [conv 3×3 stride 2 SAME → batch norm → ReLU] → flatten → dense.  Every block halves rows and columns
    (rounding up); n is the number of blocks after which neither exceeds 3: 4 blocks for 28×28 up to 48×48, 5
    for 84×84 up to 96×96.  `filters` is the width of every block: 64 is Omniglot's, 32 Mini-ImageNet's.  C
    computes the whole, if its arrays are not too large (`Model.kernels` says this).

    Raises
    ------
    UsageError
        If `shape` is not three positive integers with at most 8 blocks (768 rows or columns), or `ways` or
        `filters` is not a whole number of at least 1.
    """
    numbers = (*shape, ways, filters) if np.shape(shape) == (3,) else ()
    fit = all(isinstance(number, int | np.integer) and number >= 1 for number in numbers)
    if not numbers or not fit or max(shape[:2]) > 3 * 2**8:
        raise UsageError(
            f"conv_cnn({shape!r}, ways={ways!r}, filters={filters!r}): needs (rows, cols, channels), rows "
            f"and cols from 1 to {3 * 2**8}, and channels, ways and filters of at least 1, all whole numbers"
        )
    layers: list[Layer] = []
    size: Shape = shape
    while not layers or max(size[:2]) > 3:
        block = [Conv2d(filters=filters, stride=2, before_batch_norm=True), BatchNorm(), Relu()]
        size = block[0].out_size(size)
        layers += block
    return Model((*layers, Flatten(), Dense(ways)), shape, SoftmaxCrossEntropy("sum"))


def omniglot_cnn(ways: int, filters: int = 64) -> Model:
    """Return the released Omniglot network on (28, 28, 1): 113,221 parameters at 5-way.

    4 × [conv 3×3 stride 2 SAME → batch norm → ReLU] → flatten 2·2·filters → dense.
    Differs from the paper's "same architecture as Finn et al.": no spatial mean, batch norm with γ.
    `UsageError` unless `ways` and `filters` are whole numbers of at least 1.
    """
    return conv_cnn((28, 28, 1), ways, filters)


def mini_imagenet_cnn(
    ways: int,
    filters: int = 32,
    order: Literal["conv-norm-pool", "conv-pool-norm"] = "conv-norm-pool",
) -> Model:
    """Return the released Mini-ImageNet network on (84, 84, 3): 34,661 parameters at 5-way.

    4 × [conv 3×3 SAME → batch norm → max-pool 2×2 SAME → ReLU] → flatten 6·6·filters → dense.
    Version 1 of the paper pooled before normalising: ``order="conv-pool-norm"``.  `UsageError` for another
    order, or unless `ways` and `filters` are whole numbers of at least 1.
    """
    if order not in ("conv-norm-pool", "conv-pool-norm"):
        raise UsageError(f'order {order!r} is unknown; use "conv-norm-pool" or "conv-pool-norm"')
    middle: list[Layer] = [BatchNorm(), MaxPool()]
    if order == "conv-pool-norm":
        middle.reverse()
    block = [Conv2d(filters=filters, before_batch_norm=True), *middle, Relu()]
    return Model((*block * 4, Flatten(), Dense(ways)), (84, 84, 3), SoftmaxCrossEntropy("sum"))


def finn_omniglot_cnn(ways: int, filters: int = 64) -> Model:
    """Return the Omniglot network of Finn's program (MAML) on (28, 28, 1): 112,005 parameters at 5-way.

    4 × [conv 3×3 stride 2 SAME → batch norm without γ → ReLU] → mean over rows and columns → dense, whose
    kernel starts from N(0, 1).  The inner loop of that program does not change β: give β rates of 0
    (`reptile_np.nn.layout.Layout.fill`).

    Differs from that program: here the loss is the mean over the minibatch, there N times the mean (N is the
    number of ways).  So its inner rate 0.4 is 2.0 here at 5-way, and its 0.1 is 2.0 at 20-way.
    `UsageError` unless `ways` and `filters` are whole numbers of at least 1.
    """
    block = [Conv2d(filters=filters, stride=2, before_batch_norm=True), BatchNorm(scale=False), Relu()]
    head = [SpatialMean(), Dense(ways, "normal")]
    return Model((*block * 4, *head), (28, 28, 1), SoftmaxCrossEntropy("mean"))


def finn_mini_imagenet_cnn(ways: int, filters: int = 32) -> Model:
    """Return the Mini-ImageNet network of Finn's program (MAML) on (84, 84, 3): 32,773 parameters at 5-way.

    4 × [conv 3×3 SAME → batch norm without γ → ReLU → max-pool 2×2 VALID] → flatten 5·5·filters → dense.
    In Finn's program the pool follows the ReLU; here the ReLU follows the pool, and is applied to a quarter
    of the entries.  The function and its derivatives are the same, because a maximum of ReLUs is the ReLU of
    the maximum.

    Differs from that program: here the loss is the mean over the minibatch, there N times the mean (N is the
    number of ways).  So its inner rate 0.01 is 0.05 here at 5-way.
    `UsageError` unless `ways` and `filters` are whole numbers of at least 1.
    """
    conv = Conv2d(filters=filters, before_batch_norm=True)
    block = [conv, BatchNorm(scale=False), MaxPool(padding="VALID"), Relu()]
    return Model((*block * 4, Flatten(), Dense(ways)), (84, 84, 3), SoftmaxCrossEntropy("mean"))
