"""Pooled vectors: memory is used again when, and only when, nothing can read or write it any more."""

import gc
import os
import sys
import threading
import time
import warnings
import weakref
from queue import Queue

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.nn.native.vector_pool import MOST_BYTES, MOST_FREE, VectorPool


def new_pool(size=8):
    return VectorPool(lambda: np.empty(size, np.float32), 4 * size)


def address(array):
    return array.__array_interface__["data"][0]


def buffer_taken_by_c_code(vector):
    cffi = pytest.importorskip("cffi")
    return cffi.FFI().from_buffer("float[]", vector)


HOLDERS = {
    "the vector": lambda vector: vector,
    "a view": lambda vector: vector[2:6],
    "a view of a view": lambda vector: vector[1:7][::2],
    "a reshaped view": lambda vector: vector.reshape(2, 4).T,
    "another dtype's view": lambda vector: vector.view(np.int32),
    "a view of a subclass": lambda vector: vector.view(np.ndarray).view(np.recarray),
    "an array on the base": lambda vector: np.asarray(vector[2:].base),
    "a memoryview": memoryview,
    "a memoryview's slice": lambda vector: memoryview(vector)[3:5],
    "a frombuffer array": lambda vector: np.frombuffer(vector, np.uint8),
    "a DLPack array": np.from_dlpack,
    "a DLPack capsule": lambda vector: vector.__dlpack__(),
    "a buffer taken by C code": buffer_taken_by_c_code,
    "an iterator": lambda vector: vector.flat,
    "a ctypes object": lambda vector: vector.ctypes.data_as(__import__("ctypes").c_void_p),
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS.keys())
def test_memory_is_not_handed_out_while_any_kind_of_holder_exists_and_is_afterwards(hold):
    pool = new_pool()
    vector = pool.take()
    held, where = hold(vector), address(vector)
    del vector
    gc.collect()
    other = pool.take()
    assert address(other) != where
    del held
    gc.collect()  # interpreters without reference counts
    assert address(pool.take()) == where


ACTIONS = st.sampled_from(["take", "view", "memoryview", "drop"])


@given(st.lists(st.tuples(ACTIONS, st.integers(0, 9)), max_size=60))
def test_no_held_vector_is_ever_overwritten_by_a_later_one(actions):
    pool, held = new_pool(), {}
    for serial, (action, at) in enumerate(actions):
        keys = list(held)
        if action == "take":
            vector = pool.take()
            vector[...] = serial
            held[serial] = vector if at % 2 else vector[2:6][::2]
        elif keys:
            key = keys[at % len(keys)]
            if action == "view":
                held[key] = np.asarray(held[key])[:]
            elif action == "memoryview":
                held[key] = memoryview(held[key])
            else:
                del held[key]
        vector = None
        for key, value in held.items():
            np.testing.assert_array_equal(np.asarray(value), np.float32(key))


def test_the_contract_of_a_vector_dtype_shape_and_flags():
    vector = new_pool(5).take()
    assert type(vector) is np.ndarray
    assert vector.dtype == np.float32
    assert vector.shape == (5,)
    assert vector.flags.writeable
    assert vector.flags.c_contiguous
    assert vector.flags.aligned


def test_what_a_holder_does_to_a_vectors_shape_and_flags_does_not_reach_the_next_one():
    pool = new_pool(8)
    vector = pool.take()
    vector.setflags(write=False)
    vector = vector.reshape(2, 4)
    where = address(vector)
    del vector
    gc.collect()
    again = pool.take()
    assert address(again) == where
    assert again.shape == (8,)
    assert again.flags.writeable


def test_a_vector_in_a_reference_cycle_is_kept_until_the_cycle_is_collected():
    pool = new_pool()
    cycle = {"vector": pool.take()[1:]}
    cycle["self"], where = cycle, address(cycle["vector"].base)
    gc.disable()
    try:
        del cycle
        assert address(pool.take()) != where
    finally:
        gc.enable()
    gc.collect()
    assert where in {address(vector) for vector in [pool.take(), pool.take()]}


def test_a_vector_that_a_finaliser_resurrects_is_not_handed_out():
    pool, saved = new_pool(), []

    class Owner:
        def __init__(self):
            self.vector, self.cycle = pool.take(), self

        def __del__(self):
            saved.append(self.vector)

    where = address(Owner().vector)
    gc.collect()
    assert address(saved[0]) == where
    assert address(pool.take()) != where


def test_a_finaliser_that_returns_and_takes_memory_may_run_inside_take():
    taken = []

    class Owner:
        def __init__(self):
            self.vector = pool.take()

        def __del__(self):
            del self.vector
            taken.append(pool.take())

    def make():
        owners.clear()
        gc.collect()
        return np.empty(8, np.float32)

    owners, pool = [], VectorPool(make, 32)
    owners.append(Owner())
    vectors = [pool.take(), pool.take(), *taken]
    assert len(taken) == 1
    assert len({address(vector) for vector in vectors}) == 3


def test_no_python_function_runs_when_a_vector_is_deleted():
    """In one, Ctrl-C would raise a KeyboardInterrupt that Python prints and forgets."""
    pool, calls = new_pool(), []
    vector = pool.take()
    sys.setprofile(lambda frame, event, argument: calls.append(event))
    del vector
    sys.setprofile(None)
    gc.collect()
    assert "call" not in calls
    assert len(pool._free) == 1


def test_of_the_free_blocks_the_one_used_last_is_handed_out_first():
    """Parts of it may still be in the caches."""
    pool = new_pool()
    first, last = pool.take(), pool.take()
    where = address(last)
    del first
    gc.collect()
    del last
    gc.collect()
    assert address(pool.take()) == where


def test_a_vector_outlives_its_pool():
    pool = new_pool()
    vector = pool.take()
    vector[...] = 7
    del pool
    gc.collect()
    other = new_pool().take()
    other[...] = 8
    np.testing.assert_array_equal(vector, np.float32(7))


def test_the_array_that_owns_a_block_lives_as_long_as_a_view_of_a_vector_or_the_pool():
    made = []

    def make():
        array = np.empty(8, np.float32)
        made.append(weakref.ref(array))
        return array

    pool = VectorPool(make, 32)
    view = pool.take()[2:]
    del pool
    gc.collect()
    assert made[0]() is not None
    del view
    gc.collect()
    assert made[0]() is None


def test_a_pool_that_keeps_no_blocks_hands_out_what_make_returned():
    made = []
    pool = VectorPool(lambda: made.append(np.empty(8, np.float32)) or made[-1], 32, keep=False)
    assert pool.take() is made[0]
    assert pool.take() is made[1]


def test_at_most_the_stated_number_of_free_blocks_is_kept():
    pool = new_pool(4)
    vectors = [pool.take() for _ in range(2 * MOST_FREE)]
    where = {address(vector) for vector in vectors}
    assert len(where) == 2 * MOST_FREE
    vectors.clear()
    gc.collect()
    assert len(pool._free) == MOST_FREE


@pytest.mark.parametrize(
    ("size", "kept"), [(MOST_BYTES // 5, 5), (MOST_BYTES // 5 + 1, 4), (MOST_BYTES, 1), (2 * MOST_BYTES, 1)]
)
def test_the_free_blocks_have_at_most_the_stated_number_of_bytes_but_one_is_kept(size, kept):
    pool = VectorPool(lambda: np.empty(8, np.float32), size)
    vectors = [pool.take() for _ in range(8)]
    vectors.clear()
    gc.collect()
    assert len(pool._free) == kept


def test_threads_that_share_a_pool_and_pass_vectors_on_never_see_each_others_numbers():
    pool, queue, wrong, rounds = new_pool(64), Queue(maxsize=8), [], 2000

    def produce(number):
        for i in range(rounds):
            vector = pool.take()
            vector[...] = number * rounds + i
            queue.put((number * rounds + i, vector[::3]))
            del vector
        queue.put(None)

    def consume():
        while (item := queue.get()) is not None:
            number, view = item
            scratch = pool.take()
            scratch[...] = -1
            if (view != number).any():
                wrong.append(number)
            del item, view, scratch

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        work = [threading.Thread(target=produce, args=(number,)) for number in range(2)]
        work += [threading.Thread(target=consume) for _ in range(2)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    # blocks did come back: 8 are queued, a producer has one more, a consumer a view and a scratch vector
    assert len(pool._free) <= 8 + 2 * 1 + 2 * 2


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "emscripten", reason="this system cannot fork")
def test_a_child_forked_while_another_thread_is_inside_take_can_take():
    inside, leave = threading.Event(), threading.Event()

    def make():
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            leave.wait()
        return np.empty(8, np.float32)

    pool = VectorPool(make, 32)
    thread = threading.Thread(target=pool.take)
    thread.start()
    inside.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork in a process with threads
        child = os.fork()
    if child == 0:
        pool.take()
        os._exit(0)
    end, done = time.monotonic() + 20, (0, 0)
    while done[0] == 0 and time.monotonic() < end:
        done = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    leave.set()
    thread.join()
    if done[0] == 0:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert done == (child, 0), "the child did not return from take"
