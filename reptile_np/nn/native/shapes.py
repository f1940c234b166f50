"""The shapes that kernels are given, field by field as in ``csrc/interface.h``, and their limits.

These limits are checked in Python's integers before a shape is passed to C.  C then computes whether all
offsets fit, with the padding of its instruction set: if they do not, it returns 0 as the size of the memory.

Verified by ``tests/nn/native/test_argument_checks.py``, ``test_large_sizes.py`` and ``test_matching.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

__all__ = ["LARGEST", "MOST_PLANNING", "PANEL", "Block", "Conv", "ConvNetwork", "Shape", "TanhNetwork"]

LARGEST = 2**29
"""The most elements of any one work array: byte offsets stay within 32 bits."""
MOST_PLANNING = 4_000_000
"""The largest estimate of planning (see `Conv.planning`) that is accepted; other shapes are left to NumPy."""
PANEL = 32
"""Channels are padded to a multiple of this at most: the widest kernels' panels."""


class Conv(NamedTuple):
    """``rk_conv``: x (height, width, channels), kernel (kernel_height, kernel_width, channels, filters)."""

    height: int
    width: int
    channels: int
    kernel_height: int
    kernel_width: int
    filters: int
    stride: int
    pad_top: int
    pad_left: int
    out_height: int
    out_width: int
    large_tiles: bool
    """Whether Winograd tiles of 4 × 4 outputs, which are not exact on integers, may be used at stride 1."""

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image, those with padding included."""
        return self.out_height * self.out_width * self.taps * self.channels * self.filters

    @property
    def taps(self) -> int:
        """Kernel rows times kernel columns."""
        return self.kernel_height * self.kernel_width

    @property
    def largest_image(self) -> int:
        """Elements of the larger of x and y for one image, with y's channels padded."""
        outputs = self.out_height * self.out_width * _padded(self.filters)
        return max(outputs, self.height * self.width * self.channels)

    @property
    def largest_offset(self) -> int:
        """Elements, channels padded, that a kernel may reach above an image."""
        x_row, y_row = self.width * _padded(self.channels), self.out_width * _padded(self.filters)
        return (self.kernel_height + self.pad_top) * max(x_row, y_row)

    @property
    def packed_kernel(self) -> int:
        """Elements of the packed kernel, channels padded: its taps, or 36 points of a Winograd tile."""
        return max(self.taps, 36) * _padded(self.channels) * _padded(self.filters)

    @property
    def planning(self) -> int:
        """An upper estimate of the steps of planning, for both directions (``csrc/conv/plan.h``).

        A plan sorts positions into classes that read the same taps.  Usual layers have a dozen classes an
        axis; if kernel, stride or padding is of the size of the image, every position is a class of its own.
        The estimate assumes that each position is compared with all earlier classes.  C compares it with one
        class only, so for such layers the estimate is far too high (10⁹ steps for 1 ms).  They are left to
        NumPy nevertheless: their packed weights, padded to whole panels, would need much memory.
        """
        forward = (
            _Axis(self.out_height, self.height, self.kernel_height, self.stride, self.pad_top, False),
            _Axis(self.out_width, self.width, self.kernel_width, self.stride, self.pad_left, False),
        )
        back = (
            _Axis(self.height, self.out_height, self.kernel_height, self.stride, self.pad_top, True),
            _Axis(self.width, self.out_width, self.kernel_width, self.stride, self.pad_left, True),
        )
        return sum(_planning(y, x) for y, x in (forward, back))


@dataclass(frozen=True)
class _Axis:
    """One axis of a plan: `n` positions that read taps of `sources`; transposed in the input adjoint."""

    n: int
    sources: int
    taps: int
    stride: int
    pad: int
    transposed: bool

    @property
    def classes(self) -> int:
        """The most classes: by tap at the two borders, by outside position, and by stride phase."""
        last = (self.n - 1) * self.stride - self.pad + self.taps - self.sources
        outside = 0 if self.transposed else max(self.pad - self.taps, 0) + max(last - self.taps, 0)
        borders = 2 * self.taps + (self.stride if self.transposed else 0)
        return min(self.n, borders + outside + 1)

    @property
    def reading(self) -> int:
        """Steps to work out what one position reads."""
        return 1 + (min(self.stride, self.taps) if self.transposed else 0)

    @property
    def sorting(self) -> int:
        """Steps to sort the positions into classes."""
        return self.n * self.classes * self.reading


def _planning(y: _Axis, x: _Axis) -> int:
    strips = 0 if y.transposed else y.taps * min(x.taps, 2 * x.classes) * x.sorting
    return x.sorting + x.classes * (y.sorting + y.classes * (y.n + x.n) * x.reading) + strips


class Block(NamedTuple):
    """``rk_block``: a convolution, a batch norm with or without γ, perhaps a pool before or after it."""

    conv: Conv
    scale: bool
    pool: int
    pool_first: bool
    pool_top: int
    pool_left: int
    pool_height: int
    pool_width: int
    epsilon: float


@dataclass(frozen=True)
class ConvNetwork:
    """``rk_network``: blocks, perhaps a spatial mean, and a dense layer with softmax cross-entropy."""

    struct: ClassVar[str] = "rk_network"
    mean_loss: bool
    spatial_mean: bool
    block: tuple[Block, ...]
    dense: Conv

    @property
    def convs(self) -> tuple[Conv, ...]:
        """The products of the network; the dense layer is a convolution whose kernel is its whole image."""
        return (*(block.conv for block in self.block), self.dense)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a forward pass of one example, those with padding included."""
        # with `spatial_mean` the dense layer's input is the mean, one pixel
        dense = self.dense.multiply_adds // (self.dense.taps if self.spatial_mean else 1)
        return sum(block.conv.multiply_adds for block in self.block) + dense

    @property
    def planning(self) -> int:
        """Steps of planning."""
        return sum(conv.planning for conv in self.convs)

    @property
    def largest_image(self) -> int:
        """Elements of the largest work array for one example."""
        return max(conv.largest_image for conv in self.convs)

    @property
    def packed_kernel(self) -> int:
        """Elements of the largest kernel."""
        return max(conv.packed_kernel for conv in self.convs)

    @property
    def largest_offset(self) -> int:
        """Elements that a kernel reaches above an image."""
        return max(conv.largest_offset for conv in self.convs)

    def fields(self) -> dict[str, Any]:
        """Return the struct's fields by name."""
        blocks = [{**block._asdict(), "conv": block.conv._asdict()} for block in self.block]
        return {
            "blocks": len(blocks),
            "mean_loss": self.mean_loss,
            "spatial_mean": self.spatial_mean,
            "block": blocks,
            "dense": self.dense._asdict(),
        }


@dataclass(frozen=True)
class TanhNetwork:
    """``rk_mlp``: dense layers with tanh between them, and the squared error."""

    struct: ClassVar[str] = "rk_mlp"
    mean_loss: bool
    units: tuple[int, ...]

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a forward pass of one example."""
        return sum(math.prod(pair) for pair in pairwise(self.units))

    @property
    def planning(self) -> int:
        """Steps of planning: a product is a convolution with one position."""
        return 0

    @property
    def largest_image(self) -> int:
        """Elements of the largest work array for one example."""
        return max(map(_padded, self.units))

    @property
    def packed_kernel(self) -> int:
        """Elements of the largest kernel."""
        return max(_padded(a) * _padded(b) for a, b in pairwise(self.units))

    @property
    def largest_offset(self) -> int:
        """Return 0: there are no images."""
        return 0

    def fields(self) -> dict[str, Any]:
        """Return the struct's fields by name."""
        return {"layers": len(self.units) - 1, "mean_loss": self.mean_loss, "units": self.units}


Shape = ConvNetwork | TanhNetwork


def _padded(channels: int) -> int:
    return -(-channels // PANEL) * PANEL
