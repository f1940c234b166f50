"""Work spread over executors: the same results as a plain loop, whoever does it."""

import os
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import cluster, parallel, runs
from reptile_np.experiments.experiment import make_experiment
from reptile_np.experiments.parallel import job_count, processes, run_all
from reptile_np.experiments.workers import worker_processes
from reptile_np.nn.ops import NUMPY
from tests.experiments.small import experiment, small
from tests.waiting import wait_for


class LastFirst(Executor):
    """An executor that does the work when the first result is asked for, the last piece first."""

    def __init__(self):
        self.work = []

    def submit(self, function, /, *args):
        future = Future()
        self.work.append((future, function, args))
        future.result = lambda timeout=None: self.finish(future)
        return future

    def finish(self, future):
        while self.work:
            done, function, args = self.work.pop()
            done.set_result(function(*args))
        return Future.result(future)


def test_one_job_needs_no_process():
    with processes(1) as executor:
        assert executor is None


def test_the_default_is_the_cores_that_the_tasks_keep_busy(monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: 8)
    assert [job_count(None, tasks) for tasks in (1, 99, 100, 10_000)] == [1, 1, 2, 8]
    assert job_count(3, 1) == 3


@pytest.mark.parametrize("jobs", [0, 1.5, "2", True])
def test_jobs_are_a_whole_number(jobs):
    with pytest.raises(UsageError, match=r"^--jobs is .*; give a whole number of at least 1$"):
        job_count(jobs, 10)


@pytest.fixture(scope="module")
def workers():
    """Two processes, started once for all evaluations."""
    with processes(2) as executor:
        yield executor


@pytest.mark.parametrize("name", ["glyphs-5way", "sine-reptile"])
def test_an_evaluation_is_the_same_for_any_executor(name, default_ops, workers):
    made = make_experiment(small(name, "evaluation.tasks=7"), 0, default_ops)
    alone = made.evaluate(made.start()).to_json()
    with ThreadPoolExecutor(2) as threads:
        for executor in (threads, workers, LastFirst()):
            assert made.evaluate(made.start(), executor=executor).to_json() == alone


def test_runs_evaluate_is_the_same_for_any_number_of_jobs_and_any_executor(tmp_path):
    runs.train(small("glyphs-5way"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    one, two = (runs.evaluate(tmp_path / "run", NUMPY, tasks=5, jobs=jobs, quiet=True) for jobs in (1, 2))
    with ProcessPoolExecutor(1) as executor:
        other = runs.evaluate(tmp_path / "run", NUMPY, tasks=5, executor=executor, quiet=True)
    assert one == two == other


def test_a_pickled_experiment_is_made_again_once(default_ops):
    import pickle

    made = make_experiment(small("glyphs-5way"), 3, default_ops)
    again, third = (pickle.loads(pickle.dumps(made)) for _ in range(2))
    assert again is third
    assert (again.preset, again.seed, again.model.ops) == (made.preset, 3, NUMPY)
    assert len(pickle.dumps(made)) < 2000
    (x, _), (y, _) = made.episodes.training(1, 0)[0], again.episodes.training(1, 0)[0]
    assert (x == y).all()


def test_what_an_executor_is_given_can_be_pickled():
    import pickle

    made = experiment("glyphs-5way")

    class Pickling(LastFirst):
        def submit(self, function, /, *args):
            return super().submit(*pickle.loads(pickle.dumps((function, *args))))

    alone = made.evaluate(made.start()).to_json()
    assert made.evaluate(made.start(), executor=Pickling()).to_json() == alone


def square_or_refuse(item):
    if item == 2:
        raise UsageError("no twos")
    return item**2


def test_run_all_returns_each_result_or_exception_in_the_order_of_the_items():
    with ThreadPoolExecutor(2) as threads:
        results = run_all(square_or_refuse, [3, 2, 1], lambda: nullcontext(threads))
    assert (results[0], results[2]) == (9, 1)
    assert str(results[1]) == "no twos"
    assert run_all(square_or_refuse, [], lambda: nullcontext(None)) == []


class LostInTheEnd:
    """A Dask client, and its future: the work was done, but the scheduler is gone before the result came."""

    status = "finished"

    def submit(self, function, *args, **options):
        return self

    def add_done_callback(self, callback):
        callback(self)

    def result(self):
        raise OSError("Stream is closed")


def test_a_result_that_a_dask_cluster_cannot_hand_over_is_not_waited_for():
    (lost,) = run_all(print, [1], lambda: nullcontext(cluster._DaskExecutor(LostInTheEnd())))
    assert isinstance(lost, UsageError)
    assert "out of reach" in str(lost)


def test_run_all_calls_its_watcher_while_work_goes_on():
    calls = []
    with ThreadPoolExecutor(1) as threads:
        run_all(time.sleep, [0.3], lambda: nullcontext(threads), watch=lambda: calls.append(1), every=0.05)
    assert len(calls) >= 2


def die_the_first_time(marker):
    if not marker.exists():
        marker.touch()
        os._exit(1)
    return marker.name


def test_run_all_begins_again_what_lost_its_worker_process(tmp_path):
    items = [tmp_path / "a", tmp_path / "b"]
    assert run_all(die_the_first_time, items, lambda: worker_processes(2)) == ["a", "b"]


def die_the_first_time_or_wait_for_the_second(item):
    marker, dies = item
    if not dies:
        wait_for(lambda: marker.with_suffix(".again").exists(), 30)
    elif marker.exists():
        marker.with_suffix(".again").touch()
    else:
        marker.touch()
        time.sleep(1)  # until the pool waits for the ends of its processes
        os._exit(1)


@pytest.mark.parametrize("jobs", [2, 3])
def test_run_all_notices_the_loss_of_the_process_that_was_started_last_at_once(tmp_path, jobs):
    """A pool was woken before it started that process, and noticed its loss when another one had worked."""
    items = [(tmp_path / "marker", False)] * (jobs - 1) + [(tmp_path / "marker", True)]
    results = run_all(die_the_first_time_or_wait_for_the_second, items, lambda: worker_processes(jobs))
    assert results == [None] * jobs


def die_if_odd(item):
    if item % 2:
        os._exit(1)
    return item


def test_run_all_gives_up_an_item_that_always_kills_its_process_and_keeps_the_others(monkeypatch):
    monkeypatch.setattr(parallel, "LOSSES", 2)
    survivor, victim = run_all(die_if_odd, [2, 1], lambda: worker_processes(1))
    assert survivor == 2
    assert isinstance(victim, UsageError)
    assert "lost 2 times" in str(victim)


def test_an_item_that_always_kills_its_process_does_not_keep_the_others_from_beginning():
    """It was begun first each time, and the others never, although each of them would have ended well."""
    victim, *survivors = run_all(die_if_odd, [1, 2, 4, 6], lambda: worker_processes(1))
    assert isinstance(victim, UsageError)
    assert survivors == [2, 4, 6]


class NeverBegins(Executor):
    """A cluster without workers."""

    def __init__(self):
        self.futures = []

    def submit(self, function, /, *args):
        self.futures.append(Future())
        return self.futures[-1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_waits_for_a_cluster_is_cancelled_after_ctrl_c_or_an_error_of_the_watcher(error):
    def watch():
        raise error

    cluster = NeverBegins()
    with pytest.raises(error):
        run_all(abs, [1, 2], lambda: nullcontext(cluster), watch=watch, every=0.01)
    assert [future.cancelled() for future in cluster.futures] == [True, True]


def test_an_error_of_the_watcher_stops_the_processes_at_once():
    """The pool finished all its work first, and the results were lost."""

    def watch():
        raise OSError("stale file handle")

    start = time.monotonic()
    with pytest.raises(OSError, match="stale"):
        run_all(time.sleep, [30.0] * 4, lambda: worker_processes(2), watch=watch, every=0.1)
    assert time.monotonic() - start < 15
