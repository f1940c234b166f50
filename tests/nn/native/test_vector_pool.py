"""Recycled vectors: memory comes back only when nobody can see it any more."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.nn.native.vector_pool import MOST, VectorPool


@given(st.lists(st.tuples(st.sampled_from(["take", "view", "drop"]), st.integers(0, 9)), max_size=60))
def test_no_vector_is_handed_out_while_it_or_a_view_of_it_is_held(actions):
    recycler, held = VectorPool(lambda: np.empty(8)), {}
    for serial, (action, at) in enumerate(actions):
        keys = list(held)
        if action == "take":
            vector = recycler.take()
            vector[...] = serial
            held[serial] = vector[2:6][::2]  # a view of a view keeps the vector
            if at % 2:
                held[serial] = vector
        elif keys and action == "view":
            held[keys[at % len(keys)]] = held[keys[at % len(keys)]][:]
        elif keys:
            del held[keys[at % len(keys)]]
        vector = None
        for key, value in held.items():
            np.testing.assert_array_equal(value, key)


def test_a_dropped_vector_s_memory_comes_back():
    recycler = VectorPool(lambda: np.empty(1000))
    address = recycler.take().ctypes.data
    assert recycler.take().ctypes.data == address


def test_more_vectors_than_are_kept_are_still_distinct():
    recycler = VectorPool(lambda: np.empty(4))
    vectors = [recycler.take() for _ in range(2 * MOST)]
    assert len({vector.ctypes.data for vector in vectors}) == 2 * MOST
