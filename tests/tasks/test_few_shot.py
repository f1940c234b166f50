"""Tasks are drawn as the released program draws them, example by example."""

from collections import Counter

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
from reptile_np.tasks.image_classes import ArrayClasses
from tests.tasks.numbered import identities, numbered_classes, rng, seeds

# Tasks


def drawings(classes=6, per_class=6):
    """Square images of random pixels: no two are alike, turned or not."""
    x = np.random.default_rng(5).random((classes * per_class, 4, 4, 1), np.float32)
    return ArrayClasses(x, np.repeat(np.arange(classes), per_class))


def quarters_of(batch, originals):
    """For each example: its class, its image, and by how many quarters it is turned."""
    found = []
    for image in batch[0]:
        turns = [np.rot90(originals, k, axes=(1, 2)) for k in range(4)]
        ((k, row),) = np.argwhere([[(image == original).all() for original in turn] for turn in turns])
        found.append((row // 6, row % 6, k))
    return found


@given(seeds)
def test_all_images_of_a_class_are_turned_alike_in_a_task_that_turns(seed):
    classes = drawings()
    originals = np.concatenate([classes.images(c, np.arange(6)) for c in range(6)])
    task = sample_task(rng(seed), classes, 4, 2, 2, turn=True)
    support, query = (quarters_of(batch, originals) for batch in task)
    for label in range(4):
        pairs = {(c, k) for c, _, k in support[2 * label : 2 * label + 2] + query[2 * label : 2 * label + 2]}
        assert len(pairs) == 1


def test_every_quarter_is_equally_likely_for_every_class_of_a_task():
    """4,000 turns: each count is within 5 standard deviations (√(4000 · 3/16) = 27) of 1,000."""
    classes, generator = drawings(), rng()
    originals = np.concatenate([classes.images(c, np.arange(6)) for c in range(6)])
    counts = Counter()
    for _ in range(1000):
        counts.update(
            k
            for _, _, k in quarters_of(sample_task(generator, classes, 4, 1, 0, turn=True).support, originals)
        )
    assert all(abs(counts[k] - 1000) <= 5 * 27 for k in range(4))


def test_images_that_are_not_square_are_not_turned():
    with pytest.raises(UsageError, match=r"^task: images are 1 x 2; only square images can be turned$"):
        sample_task(rng(), numbered_classes(6, 8), 2, 1, turn=True)


@given(seeds, st.integers(1, 6), st.integers(1, 5), st.integers(0, 3))
def test_a_task_holds_shots_and_queries_of_each_of_its_ways(seed, ways, shots, queries):
    task = sample_task(rng(seed), numbered_classes(6, 8), ways, shots, queries)
    for (x, y), per_class in ((task.support, shots), (task.query, queries)):
        assert x.shape == (ways * per_class, 1, 2, 1)
        assert x.dtype == np.float32
        np.testing.assert_array_equal(y, np.repeat(np.arange(ways), per_class))


@given(seeds, st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))
def test_a_label_stands_for_one_class_in_support_and_query(seed, ways, shots, queries):
    task = sample_task(rng(seed), numbered_classes(6, 8), ways, shots, queries)
    pairs = {
        (label, c)
        for batch in task
        for label, (c, _) in zip(batch[1].tolist(), identities(batch), strict=True)
    }
    assert len(pairs) == len({label for label, _ in pairs}) == len({c for _, c in pairs}) == ways


@given(seeds, st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))
def test_no_image_is_used_twice_in_a_task(seed, ways, shots, queries):
    task = sample_task(rng(seed), numbered_classes(6, 8), ways, shots, queries)
    used = identities(task.support) + identities(task.query)
    assert len(set(used)) == len(used)


def test_every_ordered_choice_of_classes_is_equally_likely():
    # 4 * 3 ordered pairs; 5 standard deviations of a binomial count.
    draws, classes = 6000, numbered_classes(4, 2)
    generator = rng()
    counts = Counter(
        tuple(sample_task(generator, classes, ways=2, shots=1).query[0][:, 0, 0, 0]) for _ in range(draws)
    )
    p = 1 / 12
    assert len(counts) == 12
    assert max(abs(n - draws * p) for n in counts.values()) < 5 * (draws * p * (1 - p)) ** 0.5


def test_every_image_is_equally_likely_to_be_the_query():
    draws, classes = 4000, numbered_classes(1, 5)
    generator = rng()
    counts = Counter(
        sample_task(generator, classes, ways=1, shots=2).query[0][0, 0, 1, 0] for _ in range(draws)
    )
    p = 1 / 5
    assert len(counts) == 5
    assert max(abs(n - draws * p) for n in counts.values()) < 5 * (draws * p * (1 - p)) ** 0.5


@given(seeds, st.integers(1, 4), st.integers(1, 2), st.integers(0, 1))
def test_a_task_is_these_draws_of_the_generator(seed, ways, shots, queries):
    """Records of runs depend on every draw and its order."""
    counts = [3, 7, 4, 9]
    task = sample_task(rng(seed), uneven_classes(counts), ways, shots, queries)
    generator = rng(seed)
    support, query = [], []
    for c in generator.choice(4, ways, replace=False):
        order = generator.permutation(counts[c]).tolist()
        query += [(c, i) for i in order[:queries]]
        support += [(c, i) for i in order[queries : queries + shots]]
    assert identities(task.support) == support
    assert identities(task.query) == query


def uneven_classes(counts):
    """As `numbered_classes`, with another number of images in each class."""
    pairs = np.array([(c, i) for c, n in enumerate(counts) for i in range(n)], np.float32)
    return ArrayClasses(pairs.reshape(-1, 1, 2, 1), pairs[:, 0])


def test_every_image_of_every_class_is_drawn_whatever_the_sizes_of_the_other_classes():
    counts, generator = [3, 7, 4], rng()
    classes = uneven_classes(counts)
    seen = {i for _ in range(200) for i in identities(sample_task(generator, classes, 3, 2).support)}
    assert seen == {(c, i) for c, n in enumerate(counts) for i in range(n)}


def test_the_class_drawn_first_has_label_zero():
    order = rng(3).choice(6, 4, replace=False)
    assert order.tolist() != sorted(order)
    x, y = sample_task(rng(3), numbered_classes(6, 8), ways=4, shots=1).support
    assert x[:, 0, 0, 0].tolist() == order.tolist()
    assert y.tolist() == [0, 1, 2, 3]


def test_a_class_with_too_few_images_is_refused_by_name():
    x = np.zeros((5, 2, 2, 1), np.float32)
    classes = ArrayClasses(x, [0, 0, 0, 1, 1], names=["alpha", "beta"])
    with pytest.raises(UsageError, match=r"class beta: 2 images, but 2 shots and 1 queries need 3"):
        sample_task(rng(), classes, ways=2, shots=2)


def test_images_without_classes_are_refused():
    with pytest.raises(
        UsageError, match=r"^task: classes is a ndarray; give ArrayClasses\(images, labels\)$"
    ):
        sample_task(rng(), np.zeros((9, 4, 4, 1)), 3, 1)


def test_more_ways_than_classes_are_refused():
    with pytest.raises(UsageError, match="4 ways from 3 classes"):
        sample_task(rng(), numbered_classes(3, 5), ways=4, shots=1)


@pytest.mark.parametrize(
    ("ways", "shots", "queries"),
    [(0, 1, 1), (1, 0, 1), (1, 1, -1), (True, 1, 1), (1, True, 1), (1, 1, True), (1.5, 1, 1), (1, None, 1)],
)
def test_tasks_of_no_or_broken_numbers_of_examples_are_refused(ways, shots, queries):
    with pytest.raises(
        UsageError, match=r"^task: (ways|shots|queries) is .*; give a whole number of at least"
    ):
        sample_task(rng(), numbered_classes(3, 5), ways, shots, queries)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32, np.float64])
@given(seed=seeds, turn=st.booleans(), queries=st.integers(0, 2))
def test_a_task_as_it_is_kept_gives_bitwise_the_same_minibatches(dtype, seed, turn, queries):
    pixels = rng(7).integers(0, 2 if dtype == np.bool_ else 256, (24, 3, 3, 1)).astype(dtype)
    classes = ArrayClasses(pixels, np.repeat(np.arange(4), 6))
    tasks = [sample_task(rng(seed), classes, 3, 4, queries, turn, as_kept=kept) for kept in (False, True)]
    assert tasks[0].support[0].dtype == tasks[0].query[0].dtype == tasks[1].query[0].dtype == np.float32
    assert tasks[1].support[0].dtype == (np.float32 if dtype == np.float64 else dtype)
    batches = [
        [
            task.query,
            *separate_tail(rng(seed), task.support, 1),
            *minibatches(rng(seed), task.support, 5, 4),
            *minibatches_with_replacement(rng(seed), task.support, 5, 4),
        ]
        for task in tasks
    ]
    for floats, kept in zip(*batches, strict=True):
        assert floats[0].dtype == kept[0].dtype == np.float32
        assert [a.tobytes() for a in floats] == [a.tobytes() for a in kept]


# Values


@given(seeds)
def test_the_same_generator_state_gives_the_same_bits(seed):
    def draw():
        generator = rng(seed)
        task = sample_task(generator, numbered_classes(6, 8), ways=3, shots=4)
        rest, tail = separate_tail(generator, task.support, 1)
        return [
            *task,
            tail,
            *minibatches(generator, rest, 4, 3),
            *minibatches_with_replacement(generator, rest, 4, 3),
        ]

    for first, second in zip(draw(), draw(), strict=True):
        assert [a.tobytes() for a in first] == [a.tobytes() for a in second]


def test_everything_sampled_is_read_only():
    task = sample_task(rng(), numbered_classes(6, 8), ways=3, shots=4)
    batches = [
        *task,
        *separate_tail(rng(), task.support, 1),
        *minibatches(rng(), task.support, 4, 3),
        *minibatches_with_replacement(rng(), task.support, 4, 3),
    ]
    assert not any(a.flags.writeable for batch in batches for a in batch)
