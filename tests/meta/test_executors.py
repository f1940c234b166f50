"""The tasks of a meta-batch at the same time: bitwise the same results, every error named, nothing left."""

import gc
import weakref
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from multiprocessing import get_context
from queue import Queue
from threading import Event, Semaphore, Thread
from time import sleep

import numpy as np
import pytest

from reptile_np.errors import UsageError
from reptile_np.meta.meta_gradients import fomaml, gradient_sum, maml, reptile
from reptile_np.meta.optimizers import Adam, HeavyBall, Sgd
from reptile_np.meta.training import begin, meta_train
from reptile_np.nn.models import sine_mlp
from tests.meta.runs import (
    ALPHA,
    INNERS,
    MODEL,
    OUTERS,
    assert_same_state,
    episodes,
    phi_0,
    train,
)


@pytest.mark.parametrize(
    "meta_gradient", [reptile, fomaml, maml(MODEL, ALPHA)], ids=["reptile", "fomaml", "maml"]
)
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_tasks_at_the_same_time_give_bitwise_the_results_of_tasks_one_after_another(meta_gradient, workers):
    expected = train(INNERS[0], OUTERS[2], meta_gradient, meta_batch=7)
    with ThreadPoolExecutor(workers) as executor:
        steps = train(INNERS[0], OUTERS[2], meta_gradient, meta_batch=7, executor=executor)
    for a, b in zip(expected, steps, strict=True):
        np.testing.assert_array_equal(a.phi, b.phi)
        assert_same_state(a.outer_state, b.outer_state)
        assert (a.done, a.first_loss, a.last_loss) == (b.done, b.first_loss, b.last_loss)


def test_the_results_are_added_in_the_tasks_order_even_if_a_later_task_ends_first():
    """The first tasks wait for the last one; an order of arrival would add other partial sums."""
    last_has_run = Event()

    def waiting(i, j):
        if j == 5:
            last_has_run.set()
        assert last_has_run.wait(10)
        return episodes(i, j)

    expected = train(INNERS[0], meta_batch=6, steps=1)
    with ThreadPoolExecutor(6) as executor:
        steps = train(INNERS[0], meta_batch=6, steps=1, episodes=waiting, executor=executor)
    np.testing.assert_array_equal(steps[-1].phi, expected[-1].phi)


def test_tasks_may_run_in_processes():
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        for direction in (maml(MODEL, ALPHA), gradient_sum([1, 0, 1])):
            steps = train(INNERS[0], OUTERS[2], direction, steps=2, meta_batch=3, executor=executor)
            expected = train(INNERS[0], OUTERS[2], direction, steps=2, meta_batch=3)
            np.testing.assert_array_equal(steps[-1].phi, expected[-1].phi)


@pytest.mark.parametrize("inner", [Adam(0.01), HeavyBall(0.01)], ids=str)
def test_tasks_that_hand_on_a_state_are_refused_an_executor_in_one_line(inner):
    with (
        ThreadPoolExecutor(2) as executor,
        pytest.raises(UsageError, match=r"^meta_train: the state of (Adam|Heavy)"),
    ):
        train(inner, executor=executor)


@pytest.mark.parametrize("state", [0, 1.5, np.zeros(()), np.zeros(1), np.zeros(3), [0.0], (0.0,)], ids=repr)
def test_a_state_of_any_kind_but_the_empty_tuple_is_refused_an_executor(state):
    class Mine(Sgd):
        def init(self, phi):
            return state

    with (
        ThreadPoolExecutor(2) as executor,
        pytest.raises(UsageError, match=r"^meta_train: the state of Mine continues from task to task"),
    ):
        train(Mine(ALPHA), executor=executor)


def test_a_bad_loss_is_named_by_its_task_even_if_the_tasks_run_at_the_same_time():
    def bad(i, j):
        batches = episodes(i, j)
        return [(np.full_like(x, np.nan), y) for x, y in batches] if j == 2 else batches

    with (
        ThreadPoolExecutor(2) as executor,
        pytest.raises(UsageError, match=r"^outer step 1, task 3, inner step 1: "),
    ):
        train(INNERS[0], meta_batch=4, episodes=bad, executor=executor)


@pytest.mark.parametrize("first_to_end", [1, 3])
def test_the_error_of_the_first_task_is_raised_whichever_task_fails_first(first_to_end):
    has_failed = Event()

    def bad(i, j):
        if j == first_to_end:
            has_failed.set()
        assert has_failed.wait(10)
        return [(np.full_like(x, np.nan), y) for x, y in episodes(i, j)] if j in (1, 3) else episodes(i, j)

    with (
        ThreadPoolExecutor(5) as executor,
        pytest.raises(UsageError, match=r"^outer step 1, task 2, inner step 1: "),
    ):
        train(INNERS[0], meta_batch=5, episodes=bad, executor=executor)


@pytest.mark.parametrize("wrong", [0, 2, 4])
@pytest.mark.parametrize("workers", [1, 5])
def test_a_direction_that_cannot_be_added_is_an_error_with_an_executor_too(wrong, workers):
    """With five workers the first task ends last, so its worker is the one that adds the wrong direction."""
    others = Semaphore(0)

    def in_order(i, j):
        if j == 0 and workers == 5:
            assert all(others.acquire(timeout=10) for _ in range(4))
        return [(np.full(1, j), None)]

    class Linear:
        def loss_and_grad(self, phi, batch):
            return 0.0, np.zeros_like(phi)

    def direction(t):
        (j,) = t.batches[0][0]
        if j > 0:
            others.release()
        return np.full(3, None if j == wrong else 0.0, object)

    start = begin(np.zeros(3, object), Sgd(1.0), Sgd(1.0))
    options = {"inner": Sgd(1.0), "outer": lambda i: Sgd(1.0), "outer_steps": 1, "meta_batch": 5}
    with ThreadPoolExecutor(workers) as executor, pytest.raises(TypeError, match="unsupported"):
        list(meta_train(Linear(), start, in_order, meta_gradient=direction, executor=executor, **options))


def test_infinite_directions_give_one_line_and_no_warning_with_an_executor_too():
    signs = iter([1, -1])

    def direction(t):
        return np.full_like(t.phis[0], next(signs) * np.inf)

    with ThreadPoolExecutor(1) as executor, pytest.raises(UsageError, match=r"^outer step 1: the parameters"):
        train(INNERS[0], meta_gradient=direction, steps=1, meta_batch=2, executor=executor)


def test_a_direction_is_freed_as_soon_as_it_is_added():
    """A meta-batch of n tasks does not hold n directions."""
    directions, held = [], []

    def direction(t):
        held.append(sum(ref() is not None for ref in directions))
        result = reptile(t)
        directions.append(weakref.ref(result))
        return result

    with ThreadPoolExecutor(1) as executor:
        train(INNERS[0], meta_gradient=direction, steps=1, meta_batch=20, executor=executor)
    assert max(held) <= 1


def test_tasks_that_have_not_begun_are_cancelled_if_the_run_is_interrupted():
    begun, go_on = [], Event()

    class Interrupted(ThreadPoolExecutor):
        def submit(self, function, /, *args, **keywords):
            if args[0] == 3:
                raise KeyboardInterrupt
            return super().submit(function, *args, **keywords)

    def waiting(i, j):
        begun.append(j)
        assert go_on.wait(10)
        return episodes(i, j)

    with Interrupted(1) as executor:
        with pytest.raises(KeyboardInterrupt):
            train(INNERS[0], meta_batch=5, episodes=waiting, executor=executor)
        go_on.set()
    assert begun in ([], [0])


def test_an_executor_whose_submit_waits_for_a_task_to_end_comes_to_its_end():
    """Its queue holds one task: submit waits until a worker, which must be able to end its task, is free."""
    expected = train(INNERS[0], meta_batch=30, steps=1)
    with ThreadPoolExecutor(2) as executor:
        executor._work_queue = Queue(1)
        steps = train(INNERS[0], meta_batch=30, steps=1, executor=executor)
    np.testing.assert_array_equal(steps[-1].phi, expected[-1].phi)


def test_a_broken_executor_can_end_all_of_its_futures():
    """A pool of processes fails every future if a worker dies; it fails itself if one was cancelled."""
    futures, errors = [], []

    class Breaking(Executor):
        def submit(self, function, /, *args, **keywords):
            futures.append(Future())
            if len(futures) == 20:
                self.manager = Thread(target=self.fail)
                self.manager.start()
            return futures[-1]

        def fail(self):
            for future in futures:
                try:
                    future.set_exception(BrokenExecutor("a worker died"))
                except InvalidStateError as error:
                    errors.append(error)
                sleep(0.001)  # the first error has woken up the thread that waits

    executor = Breaking()
    with pytest.raises(BrokenExecutor, match=r"^a worker died$"):
        train(INNERS[0], meta_batch=20, steps=1, executor=executor)
    executor.manager.join()
    assert errors == []


@pytest.mark.parametrize("fails", ["the task", "the addition", "a cancelled task"])
def test_after_an_error_nothing_is_held_by_a_cycle(fails):
    """With the garbage collector off, the model goes with the exception."""

    class Cancelling(ThreadPoolExecutor):
        def submit(self, function, /, *args, **keywords):
            future = super().submit(function, *args, **keywords)
            if args[0] == 2 and fails == "a cancelled task":
                future.cancel()
                go_on.set()
            return future

    go_on = Event()
    if fails != "a cancelled task":
        go_on.set()
    model, start = sine_mlp((4,)), begin(phi_0(), INNERS[0], OUTERS[0])
    held = weakref.ref(model)

    def direction(t):
        assert go_on.wait(10)
        if fails == "the task":
            raise ValueError
        return reptile(t) if fails == "a cancelled task" else np.zeros(3)

    gc.disable()
    try:
        options = {"inner": INNERS[0], "outer": lambda i: Sgd(1.0), "outer_steps": 1, "meta_batch": 4}
        with Cancelling(1) as executor, pytest.raises((ValueError, CancelledError)) as raised:
            list(meta_train(model, start, episodes, meta_gradient=direction, executor=executor, **options))
        del model, raised
        assert held() is None
    finally:
        gc.enable()
