"""Work spread over executors: the same results as a plain loop, whoever does it."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from multiprocessing import get_context

import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import cluster, parallel, runs
from reptile_np.experiments.experiment import make_experiment
from reptile_np.experiments.parallel import (
    job_count,
    processes,
    run_all,
    saves_when_told_to_stop,
    worker_losses_in_one_line,
    worker_processes,
)
from reptile_np.nn.ops import NUMPY
from tests.experiments.reproduced import command as reproduce
from tests.experiments.small import experiment, small


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


def die(i):
    os._exit(1)


def test_a_lost_worker_process_is_one_line():
    with (
        processes(2) as executor,
        pytest.raises(UsageError, match="a worker process was lost") as error,
        worker_losses_in_one_line(),
    ):
        list(executor.map(die, range(4)))
    assert "\n" not in str(error.value)


LARGE = """
import sys
from reptile_np.experiments.parallel import worker_processes

if __name__ == "__main__":
    try:
        with worker_processes(2) as executor:
            executor.map(len, [bytes(1 << 20)] * 20)  # more than a pipe holds, to workers that are starting
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        print("stopped")
"""


def test_ctrl_c_while_work_is_being_sent_to_workers_that_start_does_not_hang(tmp_path):
    """The thread that sends it used to wait for ever, because nobody read what it wrote."""
    (tmp_path / "program.py").write_text(LARGE)
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


STARTING = """
import multiprocessing, os, signal, sys, time
from reptile_np.experiments.parallel import worker_processes

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with worker_processes(2) as executor:
            futures = [executor.submit(time.sleep, 60.0) for _ in range(20)]
            time.sleep(float(sys.argv[1]))
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGINT)
            for future in futures:
                future.cancel()
            time.sleep(1)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        print("stopped")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("after", [0.0, 0.05, 0.2])
def test_ctrl_c_which_reaches_all_processes_of_a_terminal_does_not_end_workers_that_are_starting(
    tmp_path, after
):
    """They printed a traceback; and the pool, which had cancelled its futures, another one."""
    (tmp_path / "program.py").write_text(STARTING)
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py", str(after)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


def blas_threads(i):
    return os.environ["OPENBLAS_NUM_THREADS"]


def test_worker_processes_have_one_blas_thread_and_the_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with processes(2) as executor:
        assert list(executor.map(blas_threads, range(2))) == ["1", "1"]
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_there_are_no_more_processes_than_the_system_can_wait_for(monkeypatch):
    monkeypatch.setattr(parallel, "MOST_PROCESSES", 3)
    with processes(4) as executor:
        assert executor._max_workers == 3


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


def die_the_first_time(marker):
    if not marker.exists():
        marker.touch()
        os._exit(1)
    return marker.name


def test_run_all_begins_again_what_lost_its_worker_process(tmp_path):
    items = [tmp_path / "a", tmp_path / "b"]
    assert run_all(die_the_first_time, items, lambda: worker_processes(2)) == ["a", "b"]


def test_run_all_gives_up_an_item_that_always_kills_its_process_and_keeps_the_others(monkeypatch):
    monkeypatch.setattr(parallel, "LOSSES", 2)
    survivor, victim = run_all(die_if_odd, [2, 1], lambda: worker_processes(1))
    assert survivor == 2
    assert isinstance(victim, UsageError)
    assert "lost 2 times" in str(victim)


UNGUARDED = """
import sys
from reptile_np.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "command",
    [reproduce("out", "--quiet"), ["evaluate", "pretrained:sine-maml", "--tasks", "10", "--jobs", "2"]],
    ids=["reproduce", "evaluate"],
)
def test_a_script_that_its_own_workers_would_run_ends_at_once_with_one_line(tmp_path, command):
    (tmp_path / "program.py").write_text(UNGUARDED)
    program = [sys.executable, "program.py", *command]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert 'without `if __name__ == "__main__":`' in line


def die_if_odd(item):
    if item % 2:
        os._exit(1)
    return item


def handler_after_a_refusal(i):
    before = signal.getsignal(signal.SIGTERM)
    with suppress(UsageError), saves_when_told_to_stop():
        raise UsageError("refused")
    return signal.getsignal(signal.SIGTERM) == before


def test_a_worker_s_signal_handler_is_put_back_after_work_that_is_refused():
    with worker_processes(1) as executor:
        assert executor.submit(handler_after_a_refusal, 0).result()


class WaitsForItsProcess(Executor):
    """Broken by the loss of one process; waits for the end of another, which nobody has told to stop."""

    def __init__(self):
        self.process = get_context("spawn").Process(target=time.sleep, args=(600,))

    def submit(self, function, /, *args):
        self.process.start()
        future = Future()
        future.set_exception(BrokenExecutor("a process was lost"))
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.process.join()


def test_run_all_stops_the_processes_of_a_broken_executor_and_no_others(monkeypatch):
    """A `ProcessPoolExecutor` waits so if a process is lost while the next one is being started."""
    monkeypatch.setattr(parallel, "LOSSES", 1)
    somebody_elses = get_context("spawn").Process(target=time.sleep, args=(600,))
    somebody_elses.start()
    try:
        (lost,) = run_all(die, [1], WaitsForItsProcess)
        assert isinstance(lost, UsageError)
        assert somebody_elses.is_alive()
    finally:
        somebody_elses.kill()
        somebody_elses.join()


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
