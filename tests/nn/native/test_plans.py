"""Planning takes time in proportion to the positions of a convolution, and refuses offsets beyond 32 bits."""

import time

import numpy as np
import pytest

from reptile_np.nn import native
from reptile_np.nn.native.memory import aligned_bytes

kernels = pytest.importorskip("reptile_np.nn.native._kernels", reason="native kernels are not built here")
ffi, lib = kernels.ffi, kernels.lib

NAMES = (
    *("height", "width", "channels", "kernel_height", "kernel_width", "filters"),
    *("stride", "pad_top", "pad_left", "out_height", "out_width"),
)
LONG = {  # took 8 to 60 seconds when the classes of destinations were found by comparing all pairs
    "a kernel of 1 x 400 at stride 400": (1, 8000, 1, 1, 400, 1, 400, 0, 0, 1, 20),
    "4 x 4 padded by 8,000 along one axis": (4, 4, 1, 3, 3, 1, 1, 1, 8000, 4, 16002),
    "a signal of 1 x 20,000": (1, 20_000, 1, 1, 3, 64, 2, 0, 1, 1, 10_000),
    "a dense layer of 1 x 20,000": (1, 20_000, 64, 1, 20_000, 5, 1, 0, 0, 1, 1),
    "a dense layer of 200 x 200": (200, 200, 64, 200, 200, 5, 1, 0, 0, 1, 1),
}


@pytest.fixture(scope="module", params=native.available())
def table(request):
    return lib.rk_dispatch(request.param.encode())


def fields(*numbers):
    return dict(zip(NAMES, numbers, strict=True))


@pytest.mark.parametrize("name", LONG)
def test_a_long_axis_is_planned_in_less_than_a_second(table, name):
    """Measured: 15 ms at most on one core."""
    shape = ffi.new("rk_conv *", fields(*LONG[name]))
    start = time.process_time()
    assert table.conv_size(shape, 2) > 0
    assert time.process_time() - start < 1.0


def network(side, released=True):
    """One block on a square image and a dense layer; if not `released`, without γ and on the spatial mean."""
    out = side // 2
    block = {"conv": fields(side, side, 1, 3, 3, 64, 2, 0, 0, out, out), "epsilon": 1e-3, "scale": released}
    dense = fields(out, out, 64, out, out, 5, 1, 0, 0, 1, 1)
    return ffi.new(
        "rk_network *", {"blocks": 1, "spatial_mean": not released, "block": [block], "dense": dense}
    )


def test_sizes_beyond_32_bits_are_exact_and_refused(table):
    parameters = {True: 9 * 64 + 3 * 64 + 50_000**2 * 64 * 5 + 5, False: 9 * 64 + 2 * 64 + 64 * 5 + 5}
    for released, count in parameters.items():
        shape = network(100_000, released)
        assert table.network.parameters(shape) == count
        for hessian in (0, 1):
            assert table.network.plan_size(shape, 1, hessian) == 0
        assert table.network.saved_size(shape, 1) == 0
    mlp = ffi.new("rk_mlp *", {"layers": 2, "units": [1, 10**6, 10**6]})
    assert table.mlp.parameters(mlp) == 2 * 10**6 + (10**6 + 1) * 10**6
    assert table.mlp.plan_size(mlp, 1, 0) == table.mlp.saved_size(mlp, 1) == 0
    assert table.conv_size(ffi.new("rk_conv *", fields(1, 1, 10**6, 1, 1, 10**6, 1, 0, 0, 1, 1)), 1) == 0


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param((40_000, 40_000, 1, 1, 1, 1, 20_000, 0, 0, 2, 2), id="x"),
        pytest.param((2, 2, 1, 1, 1, 1, 1, 0, 0, 40_000, 40_000), id="y"),
        pytest.param((1, 1, 8_000, 1, 1, 8_000, 1, 0, 0, 1, 1), id="36 points of a tile"),
        pytest.param((200, 200, 250, 200, 200, 250, 1, 0, 0, 1, 1), id="kernel"),
        pytest.param((2, 13_600, 3_296, 49, 1, 1, 1, 47, 0, 1, 13_600), id="x, above the image"),
        pytest.param((2, 1, 1, 49, 1, 3_296, 1, 47, 0, 1, 13_600), id="y, above the image"),
        pytest.param((1, 1, 30_000, 1, 1, 1, 80_000, 0, 0, 2, 1), id="x, below the image"),
        pytest.param((1, 1, 2**31 - 1, 1, 1, 1, 1, 0, 0, 1, 1), id="channels near 2³¹"),
    ],
)
def test_each_offset_beyond_32_bits_is_refused(table, sizes):
    assert table.conv_size(ffi.new("rk_conv *", fields(*sizes)), 1) == 0


@pytest.mark.parametrize("units", [[2**31 - 1, 1], [1, 2**31 - 1], [10**5, 10**5]])
def test_each_offset_of_a_dense_network_beyond_32_bits_is_refused(table, units):
    assert table.mlp.plan_size(ffi.new("rk_mlp *", {"layers": 1, "units": units}), 1, 0) == 0


def test_a_dense_network_is_refused_once_its_widest_layer_exceeds_32_bits(table):
    shape = ffi.new("rk_mlp *", {"layers": 1, "units": [1, 1000]})
    assert table.mlp.plan_size(shape, 1000, 0) > 0
    assert table.mlp.plan_size(shape, 3 * 10**6, 0) == 0


@pytest.mark.parametrize("batch", [1, 2, 1000, 2**31 - 1])
def test_a_batch_is_refused_once_its_offsets_exceed_32_bits(table, batch):
    fits = batch * 14 * 14 * 64 < np.iinfo(np.int32).max
    assert (table.network.plan_size(network(28), batch, 0) > 0) == fits


@pytest.mark.parametrize("panel", [8, 16, 32])
def test_a_convolution_writes_only_to_the_memory_that_it_asks_for(table, panel):
    """The weight adjoint needs most here: with channels not padded to a panel it is split over positions."""
    channels, filters, width = panel - 1, 255, 32 * panel
    shape = ffi.new("rk_conv *", fields(2, width, channels, 2, 2, filters, 1, 0, 0, 1, width - 1))
    x, w = np.ones((2, width, channels), np.float32), np.ones((2, 2, channels, filters), np.float32)
    y, size = np.empty((width - 1, filters), np.float32), table.conv_size(shape, 1)
    memory = aligned_bytes(size + 2**22)
    memory[size:] = 255
    for entry, arrays in (
        (table.conv, (x, w, y)),
        (table.conv_input, (y, w, x)),
        (table.conv_weight, (x, y, w)),
    ):
        entry(shape, 1, *(ffi.from_buffer("float[]", array) for array in arrays), ffi.from_buffer(memory), 1)
        assert (memory[size:] == 255).all()
