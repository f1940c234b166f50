"""Blocks for the kernels are aligned, as large as asked, and each thread's own."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reptile_np.nn.native.memory import HUGE_PAGE, Workspace, aligned_bytes, contiguous


@pytest.mark.parametrize("size", [1, 63, 64, 65, HUGE_PAGE // 2, HUGE_PAGE // 2 + 1, 3 * HUGE_PAGE + 1])
def test_blocks_have_their_size_and_start_on_a_cache_line_and_large_ones_get_huge_pages(size):
    block = aligned_bytes(size)
    assert block.size == size
    large = size > HUGE_PAGE // 2
    assert block.ctypes.data % (HUGE_PAGE if large else 64) == 0
    assert not large or block.base.nbytes >= 2 * HUGE_PAGE  # for which NumPy asks Linux for huge pages


def test_a_workspace_keeps_its_largest_block():
    workspace = Workspace()
    first = workspace.take(100)
    assert workspace.take(50) is first
    assert workspace.take(200).size == 200
    assert workspace.take(100).size == 200


def test_every_thread_has_a_block_of_its_own():
    workspace = Workspace()
    mine = workspace.take(100)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(workspace.take, 100).result() is not mine


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0)[::2],
        np.arange(6)[:3],
        np.arange(6.0).reshape(2, 3).T,
        np.arange(3, dtype=">f8"),
        np.arange(33, dtype=np.uint8)[1:].view(np.float64),  # between the addresses of float64
    ],
)
def test_an_array_that_kernels_cannot_read_is_copied(array):
    copy = contiguous(array, np.float64)
    assert (copy.dtype, copy.flags.c_contiguous, copy.flags.aligned) == (np.float64, True, True)
    np.testing.assert_array_equal(copy, array)
    assert contiguous(copy, np.float64) is copy


def test_an_array_of_another_dtype_and_order_is_copied_in_order():
    given = np.arange(6).reshape(2, 3).T
    copy = contiguous(given, np.float64)
    assert copy.flags.c_contiguous
    np.testing.assert_array_equal(copy, given)
