"""Minibatches and FOMAML's separate tail are dealt as the released program deals them, example by example."""

from collections import Counter, deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.tasks.few_shot import (
    minibatches,
    minibatches_with_replacement,
    sample_task,
    separate_tail,
)
from tests.refusal import refusal
from tests.tasks.numbered import examples, identities, numbered_classes, rng, seeds


def dealt_one_by_one(order, n, batch_size, steps):
    """The specification, literally: a queue refilled by the next shuffle when it runs out."""
    shuffles = iter(order.reshape(-1, n))
    queue = deque()
    for _ in range(steps):
        batch = []
        while len(batch) < batch_size:
            if not queue:
                queue.extend(next(shuffles))
            batch.append(queue.popleft())
        yield batch


@given(seeds, st.integers(1, 30), st.integers(1, 35), st.integers(0, 12))
def test_minibatches_are_dealt_from_a_reshuffled_queue(seed, n, batch_size, steps):
    epochs = -(-batch_size * steps // n)
    order = rng(seed).permuted(np.tile(np.arange(n), (epochs, 1)), axis=1)
    batches = minibatches(rng(seed), examples(n), batch_size, steps)
    assert [y.tolist() for _, y in batches] == list(dealt_one_by_one(order, n, batch_size, steps))


@given(seeds, st.integers(1, 30), st.integers(1, 35), st.integers(1, 12))
def test_batches_are_always_full_and_epochs_contiguous(seed, n, batch_size, steps):
    batches = minibatches(rng(seed), examples(n), batch_size, steps)
    assert [len(y) for _, y in batches] == [batch_size] * steps
    dealt = np.concatenate([y for _, y in batches])
    for start in range(0, len(dealt) - n + 1, n):
        assert sorted(dealt[start : start + n]) == list(range(n))
    rest = dealt[len(dealt) // n * n :]
    assert len(set(rest)) == len(rest)


def test_a_batch_may_hold_an_example_twice_across_a_reshuffle():
    twice = [
        len(set(y.tolist())) < len(y)
        for seed in range(20)
        for _, y in minibatches(rng(seed), examples(5), 3, 4)
    ]
    assert any(twice)


@given(seeds, st.integers(1, 30), st.data())
def test_with_replacement_a_batch_never_holds_an_example_twice(seed, n, data):
    batch_size = data.draw(st.integers(1, n))
    for _, y in minibatches_with_replacement(rng(seed), examples(n), batch_size, 6):
        assert len(set(y.tolist())) == batch_size


@given(seeds, st.integers(1, 12), st.data())
def test_with_replacement_every_batch_is_the_beginning_of_its_own_permutation(seed, n, data):
    batch_size, steps = data.draw(st.integers(1, n)), data.draw(st.integers(1, 6))
    batches = minibatches_with_replacement(rng(seed), examples(n), batch_size, steps)
    order = rng(seed).permuted(np.tile(np.arange(n), (steps, 1)), axis=1)
    assert [y.tolist() for _, y in batches] == order[:, :batch_size].tolist()


def test_with_replacement_the_batches_of_a_loop_differ():
    batches = minibatches_with_replacement(rng(), examples(100), 10, 5)
    assert len({tuple(y.tolist()) for _, y in batches}) == 5


def test_with_replacement_every_batch_starts_from_all_examples():
    # A shuffled epoch of 4 in two batches of 2 never repeats; fresh samples do (5 times in 6).
    repeats = [
        bool(set(first[1].tolist()) & set(second[1].tolist()))
        for seed in range(30)
        for first, second in [minibatches_with_replacement(rng(seed), examples(4), 2, 2)]
    ]
    assert any(repeats)


@pytest.mark.parametrize("sampler", [minibatches, minibatches_with_replacement])
@given(seed=seeds, n=st.integers(1, 20), steps=st.integers(0, 6))
def test_inputs_and_labels_stay_together_and_keep_their_dtypes(sampler, seed, n, steps):
    x, y = examples(n)
    for bx, by in sampler(rng(seed), (x.astype(np.float64), y), min(n, 3), steps):
        assert (bx.dtype, by.dtype) == (np.float64, y.dtype)
        np.testing.assert_array_equal(bx[:, 0], by)


@pytest.mark.parametrize("sampler", [minibatches, minibatches_with_replacement])
@pytest.mark.parametrize(
    ("n", "batch_size", "steps"),
    [(0, 1, 1), (3, 0, 1), (3, 1, -1), (3, True, 1), (3, 1, True), (3, 1.5, 1), (3, 1, "2"), (3, None, 1)],
)
def test_impossible_batches_are_refused(sampler, n, batch_size, steps):
    with pytest.raises(UsageError, match=r"^minibatches: .* at least"):
        sampler(rng(), examples(n), batch_size, steps)


@pytest.mark.parametrize("sampler", [minibatches, minibatches_with_replacement, separate_tail])
def test_as_many_labels_as_examples_are_needed(sampler):
    (x, _), (_, y), sizes = examples(3), examples(4), (1,) if sampler is separate_tail else (1, 1)
    with pytest.raises(UsageError, match=r": 3 examples and 4 labels; give as many of each, at least 1$"):
        sampler(rng(), (x, y), *sizes)


TASK = sample_task(rng(), numbered_classes(3, 5), ways=3, shots=2)
SAMPLERS = {minibatches: (2, 3), minibatches_with_replacement: (2, 3), separate_tail: (1,)}


@pytest.mark.parametrize(("sampler", "sizes"), SAMPLERS.items())
@pytest.mark.parametrize(
    ("support", "line"),
    [
        (TASK, "the support set is a Task; give a pair (x, y)"),
        (TASK.support[0], "the support set is a ndarray; give a pair (x, y)"),
        ((*TASK.support, TASK.query), "the support set is a tuple; give a pair (x, y)"),
        (None, "the support set is a NoneType; give a pair (x, y)"),
        (([[1.0], [1.0, 2.0]], [0, 1]), "examples of different shapes; give two arrays"),
        ((1.0, [0]), "one number in place of the examples or the labels; give two arrays"),
    ],
    ids=["a task", "images alone", "three", "none", "two shapes", "a number"],
)
def test_what_is_no_pair_of_examples_and_labels_is_refused(sampler, sizes, support, line):
    """Of images alone the first would be read as the examples and the second as their labels."""
    assert refusal(sampler, rng(), support, *sizes).endswith(line)


@pytest.mark.parametrize("sampler", [minibatches, minibatches_with_replacement])
def test_a_support_set_may_be_two_lists(sampler):
    x, y = examples(5)
    of_lists, of_arrays = (sampler(rng(), pair, 2, 3) for pair in ((x.tolist(), y.tolist()), (x, y)))
    for batches in zip(of_lists, of_arrays, strict=True):
        for a, b in zip(*batches, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("sampler", [minibatches, minibatches_with_replacement])
def test_sizes_in_narrow_integers_of_numpy_do_not_overflow(sampler):
    batches = sampler(rng(), examples(30), np.uint8(20), np.uint8(20))
    assert [len(y) for _, y in batches] == [20] * 20


def test_a_batch_of_more_different_examples_than_there_are_is_refused():
    with pytest.raises(UsageError, match="4 different examples from 3"):
        minibatches_with_replacement(rng(), examples(3), 4, 1)


@given(seeds, st.integers(1, 5), st.integers(2, 6), st.data())
def test_the_tail_holds_its_shots_of_each_class_and_the_rest_holds_the_others(seed, ways, shots, data):
    tail_shots = data.draw(st.integers(1, shots - 1))
    support = sample_task(rng(seed), numbered_classes(6, 8), ways, shots).support
    rest, tail = separate_tail(rng(seed), support, tail_shots)
    assert Counter(tail[1].tolist()) == dict.fromkeys(range(ways), tail_shots)
    assert sorted(identities(rest) + identities(tail)) == sorted(identities(support))
    label_of = dict(zip(identities(support), support[1].tolist(), strict=True))
    for batch in (rest, tail):
        assert [label_of[i] for i in identities(batch)] == batch[1].tolist()


def test_the_tail_holds_its_shots_of_classes_of_different_sizes():
    labels = np.repeat([0, 1, 2], [3, 5, 4])
    rest, tail = separate_tail(rng(), (examples(12)[0], labels), 2)
    assert Counter(tail[1].tolist()) == {0: 2, 1: 2, 2: 2}
    assert Counter(rest[1].tolist()) == {0: 1, 1: 3, 2: 2}


def test_every_example_is_equally_likely_to_be_kept_back():
    support = examples(4)[0], np.zeros(4, int)
    generator, draws = rng(), 3000
    counts = Counter(separate_tail(generator, support, 1)[1][0][0, 0] for _ in range(draws))
    assert len(counts) == 4
    assert max(abs(n - draws / 4) for n in counts.values()) < 5 * (draws * 3 / 16) ** 0.5


def test_labels_of_a_tail_may_be_a_list():
    x, y = examples(4)[0], [0, 1, 1, 0]
    rest, tail = separate_tail(rng(), (x, y), 1)
    assert [sorted(batch[1].tolist()) for batch in (rest, tail)] == [[0, 1], [0, 1]]


@pytest.mark.parametrize("targets", [np.zeros((4, 1)), np.eye(2)[[0, 1, 1, 0]]])
def test_a_tail_needs_a_class_number_for_each_example(targets):
    """Targets (n, 1) sort along their axis of length 1: rest and tail would repeat one example."""
    line = refusal(separate_tail, rng(), (examples(4)[0], targets), 1)
    assert line.endswith(f"labels {targets.shape}; give the class number of each example, (4,)")


def test_a_tail_must_leave_something():
    support = sample_task(rng(), numbered_classes(3, 5), ways=3, shots=3).support
    with pytest.raises(UsageError, match="3 of 3 examples per class; leave at least 1"):
        separate_tail(rng(), support, 3)


@pytest.mark.parametrize("tail_shots", [0, 1.5, True, "1", None])
def test_a_tail_is_a_whole_number_of_examples(tail_shots):
    support = sample_task(rng(), numbered_classes(3, 5), ways=3, shots=3).support
    with pytest.raises(
        UsageError, match=r"^separate tail: tail_shots is .*; give a whole number of at least 1"
    ):
        separate_tail(rng(), support, tail_shots)
