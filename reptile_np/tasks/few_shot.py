"""Few-shot tasks and the minibatches of an inner loop.

All randomness of a sampler comes from the `numpy.random.Generator` that it is given: the same generator state
gives bitwise identical results.  The arrays returned are read-only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reptile_np.errors import UsageError, check_generator, whole
from reptile_np.meta.inner_loop import Array, Batch
from reptile_np.tasks.image_classes import ImageClasses, as_float32, turned

__all__ = ["Task", "minibatches", "minibatches_with_replacement", "sample_task", "separate_tail"]


class Task(NamedTuple):
    """Examples to learn from (support), and examples to measure the result with (query).

    The two are disjoint, except for sine waves in training, whose query set is the support set.

    Both are batches: inputs (b, ...) and their labels (b,) or targets (b, outputs).
    """

    support: Batch
    query: Batch


def sample_task(
    rng: np.random.Generator,
    classes: ImageClasses,
    ways: int,
    shots: int,
    queries: int = 1,
    turn: bool = False,
    as_kept: bool = False,
) -> Task:
    """Draw an N-way K-shot task (section 5.1 of the paper).

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the classes, the images and the turns.
    classes : ImageClasses
        The images of each class.
    ways : int
        N: classes drawn without replacement, labelled 0 ... N-1 in the order in which they are drawn.
    shots, queries : int
        Images per class in the support and in the query set.
    turn : bool
        Turn all images of a class by the same random multiple of 90 degrees, drawn for this task.  Finn's
        program does so, for the tasks of training and of test; the images must be square.
    as_kept : bool
        Leave the support set as the classes keep it, bool or uint8: `minibatches` makes float32 of it.  This
        saves a copy of a task of large images; the minibatches are bitwise identical.  Not for evaluation:
        the non-transductive mode refuses such a support set.

    Returns
    -------
    Task
        Support x (ways * shots, h, w, channels), float32 unless `as_kept`, and y (ways * shots,) int64; query
        x (ways * queries, h, w, channels), always float32, and y.  The examples are grouped by class, in the
        order of the labels.

    Raises
    ------
    UsageError
        `classes` has no `image_shape`, `ways` or `shots` is no whole number ≥ 1, `queries` none ≥ 0; fewer
        classes than `ways`, a class with fewer images than `shots` + `queries`, or `turn` with images that
        are not square.

    Notes
    -----
    Verified by ``tests/tasks/test_few_shot.py``.
    """
    check_generator(rng)
    ways, shots = whole("task: ways", ways, 1), whole("task: shots", shots, 1)
    queries = whole("task: queries", queries, 0)
    if not hasattr(classes, "image_shape"):
        raise UsageError(f"task: classes is a {type(classes).__name__}; give ArrayClasses(images, labels)")
    if ways > len(classes):
        raise UsageError(f"task: {ways} ways from {len(classes)} classes; choose fewer ways")
    height, width, _ = classes.image_shape
    if turn and height != width:
        raise UsageError(f"task: images are {height} x {width}; only square images can be turned")
    # Filled class by class: joining arrays of one class each would touch new memory for every task.
    support = query = np.empty(0)
    for label, c in enumerate(rng.choice(len(classes), ways, replace=False).tolist()):
        count = classes.count(c)
        if count < shots + queries:
            raise UsageError(
                f"class {classes.name(c)}: {count} images, but {shots} shots and {queries} queries "
                f"need {shots + queries}; choose fewer shots"
            )
        images = classes.pixels(c, rng.permutation(count)[: queries + shots])
        if turn:
            images = turned(images, int(rng.integers(4)))
        if label == 0:
            support, query = (np.empty((ways, n, *images.shape[1:]), images.dtype) for n in (shots, queries))
        query[label], support[label] = images[:queries], images[queries:]
    support, query = support if as_kept else as_float32(support), as_float32(query)
    return Task(_labelled(support), _labelled(query))


def _labelled(images: Array) -> Batch:
    """Return the images (ways, n, h, w, channels) in one row, each labelled by its class."""
    ways, n, *shape = images.shape
    return _frozen(images).reshape(ways * n, *shape), _frozen(np.repeat(np.arange(ways), n))


def minibatches(rng: np.random.Generator, support: Batch, batch_size: int, steps: int) -> list[Batch]:
    """Cut shuffled epochs of `support` into `steps` batches of `batch_size`.

    An epoch is a permutation of all n examples; epochs follow each other without a gap.  A batch that begins
    near the end of an epoch is filled from the next one: every batch is full, and an example may be in a
    batch more than once (a batch of more than n examples always has such an example).

    Returns
    -------
    list of (x (batch_size, ...), y (batch_size, ...))
        In the dtypes of `support`; but x of dtype bool or uint8 is converted to float32, and uint8 is divided
        by 255.

    Raises
    ------
    UsageError
        `support` is no pair (x, y), no examples, another number of labels; `batch_size` is no whole number
        ≥ 1, or `steps` none ≥ 0.

    Notes
    -----
    Verified by ``tests/tasks/test_minibatches.py`` against a queue that returns one example at a time.
    """
    x, y = _examples("minibatches", rng, support)
    batch_size, steps = whole("minibatches: batch_size", batch_size, 1), whole("minibatches: steps", steps, 0)
    n = len(y)
    examples = batch_size * steps
    order = _permutations(rng, n, count=-(-examples // n)).ravel()[:examples]
    return _gather((x, y), order.reshape(steps, batch_size))


def minibatches_with_replacement(
    rng: np.random.Generator, support: Batch, batch_size: int, steps: int
) -> list[Batch]:
    """Draw `steps` independent batches, each of `batch_size` different examples.

    Parameters and result as for `minibatches`.

    Raises
    ------
    UsageError
        As `minibatches`, and if `batch_size` is larger than the number of examples.

    Notes
    -----
    Verified by ``tests/tasks/test_minibatches.py``.
    """
    x, y = _examples("minibatches", rng, support)
    batch_size, steps = whole("minibatches: batch_size", batch_size, 1), whole("minibatches: steps", steps, 0)
    n = len(y)
    if batch_size > n:
        raise UsageError(f"minibatches: {batch_size} different examples from {n}; choose smaller batches")
    return _gather((x, y), _permutations(rng, n, count=steps)[:, :batch_size])


def separate_tail(rng: np.random.Generator, support: Batch, tail_shots: int) -> tuple[Batch, Batch]:
    """Reserve `tail_shots` random examples of each class for FOMAML's last step.

    The labels are class numbers (n,).  (Targets (n, outputs), as of sine waves, have no classes.)

    Returns
    -------
    rest, tail : Batch
        The examples for the first k-1 steps, and the batch of the last step; dtypes as `minibatches`.

    Raises
    ------
    UsageError
        `support` is no pair (x, y), no examples, another number of labels, labels that are not (n,);
        `tail_shots` is no whole number ≥ 1, or a class would have no example left for the first steps.

    Notes
    -----
    Verified by ``tests/tasks/test_minibatches.py``.
    """
    x, y = _examples("separate tail", rng, support)
    if y.ndim != 1:
        raise UsageError(
            f"separate tail: labels {y.shape}; give the class number of each example, ({len(y)},)"
        )
    order = rng.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]  # grouped by class, in random order within each
    _, first, count = np.unique(y[order], return_index=True, return_counts=True)
    if whole("separate tail: tail_shots", tail_shots, 1) >= count.min():
        raise UsageError(
            f"separate tail: {tail_shots} of {count.min()} examples per class; leave at least 1 for the rest"
        )
    in_tail = np.arange(len(y)) - np.repeat(first, count) < tail_shots
    rest, tail = order[~in_tail], order[in_tail]
    return (_frozen(as_float32(x[rest])), _frozen(y[rest])), (_frozen(as_float32(x[tail])), _frozen(y[tail]))


def _examples(what: str, rng: np.random.Generator, support: Batch) -> Batch:
    """Return the inputs and labels, which may be lists, as arrays; `what` names the caller in messages."""
    check_generator(rng)
    if not isinstance(support, tuple | list) or isinstance(support, Task) or len(support) != 2:
        raise UsageError(f"{what}: the support set is a {type(support).__name__}; give a pair (x, y)")
    try:
        x, y = map(np.asarray, support)
    except ValueError:
        raise UsageError(f"{what}: examples of different shapes; give two arrays") from None
    if min(x.ndim, y.ndim) == 0:
        raise UsageError(f"{what}: one number in place of the examples or the labels; give two arrays")
    if not len(x) == len(y) > 0:
        raise UsageError(f"{what}: {len(x)} examples and {len(y)} labels; give as many of each, at least 1")
    return x, y


def _permutations(rng: np.random.Generator, n: int, count: int) -> NDArray[np.intp]:
    """Return `count` independent permutations of 0 ... n-1: (count, n)."""
    return rng.permuted(np.broadcast_to(np.arange(n), (count, n)), axis=1)


def _gather(support: Batch, order: NDArray[np.intp]) -> list[Batch]:
    """Return one batch for each row of `order` (steps, batch_size)."""
    x, y = support
    inputs = as_float32(x.take(order, axis=0))
    return list(zip(_frozen(inputs), _frozen(y.take(order, axis=0)), strict=True))


def _frozen(a: Array) -> Array:
    a.setflags(write=False)
    return a
