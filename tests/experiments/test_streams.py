"""Random streams: the same place gives the same numbers, other places give others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.experiments.streams import _KEYS, Streams

seeds = st.integers(0, 2**64)
places = st.lists(st.integers(0, 2**32 - 1), max_size=3)
names = st.sampled_from(sorted(_KEYS))


@given(seeds, names, places)
def test_the_same_place_gives_the_same_numbers(seed, name, place):
    first, again = (Streams(seed).rng(name, *place).random(4) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@given(seeds, st.tuples(names, places), st.tuples(names, places))
def test_different_places_give_different_numbers(seed, one, other):
    if one == other:
        return
    a, b = (Streams(seed).rng(name, *place).random(4) for name, place in (one, other))
    assert not np.array_equal(a, b)


@given(st.tuples(seeds, seeds).filter(lambda pair: pair[0] != pair[1]), names)
def test_different_seeds_give_different_numbers(pair, name):
    a, b = (Streams(seed).rng(name).random(4) for seed in pair)
    assert not np.array_equal(a, b)


def test_stream_keys_are_distinct():
    assert len(set(_KEYS.values())) == len(_KEYS)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("split", 0),
        ("init", 1),
        ("tasks", 2),
        ("batches", 3),
        ("evaluation", 4),
        ("classes", 5),
        ("watch", 6),
    ],
)
def test_a_stream_is_the_leaf_of_the_seed_s_tree_from_which_published_runs_were_drawn(name, key):
    sequence = np.random.SeedSequence(11, spawn_key=(key, 2, 3))
    expected = np.random.Generator(np.random.PCG64(sequence)).random(4)
    np.testing.assert_array_equal(Streams(11).rng(name, 2, 3).random(4), expected)


@pytest.mark.parametrize("seed", [None, -1, 1.5, "1", True])
def test_a_seed_that_does_not_name_one_family_of_streams_is_refused(seed):
    """NumPy would draw other numbers at each call for None."""
    with pytest.raises(UsageError, match=r"^seed is .*; give a whole number of at least 0$"):
        Streams(seed)
