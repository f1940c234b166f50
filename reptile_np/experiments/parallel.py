"""Processes that share work: the tasks of an evaluation, or the runs of a table.

    with processes(4) as executor:                    # this machine, one thread in each process
        scores = experiment.evaluate(step, executor=executor)

    results = run_all(work, items, executors)         # continues after the loss of worker processes

`evaluate` takes any `concurrent.futures.Executor`, `run_all` a function that makes one; the results do not
depend on it.  `reptile_np.experiments.cluster` makes an executor for a Dask cluster;
``mpi4py.futures.MPIPoolExecutor`` is one for a program that is started by ``mpiexec``.

Verified by ``tests/experiments/test_parallel.py`` and ``test_worker_processes.py``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from reptile_np.errors import UsageError, whole
from reptile_np.machine import BLAS_THREADS, TERMINAL_SIGNALS, cores

__all__ = [
    "LOSSES",
    "STOPPED",
    "WORTH_A_PROCESS",
    "Executors",
    "Item",
    "job_count",
    "processes",
    "run_all",
    "saves_when_told_to_stop",
    "worker_losses_in_one_line",
    "worker_processes",
]

Item = TypeVar("Item")
Executors = Callable[[], AbstractContextManager[Executor]]
"""Makes an executor, again if worker processes of the one before were lost."""

WORTH_A_PROCESS = 50  # tasks per worker below which starting a process costs more than it saves
MOST_PROCESSES = 61 if sys.platform == "win32" else 4096  # Windows cannot wait for more
LOSSES = 10  # of worker processes, after which `run_all` gives up what is left
STOP_SECONDS = 1.0  # to wait for a pool that was told to stop
STOPPED = 130  # exit code of a worker process that was told to stop
LOST = (
    "a worker process was lost: killed, out of memory, or never started because a script runs this "
    'without `if __name__ == "__main__":`; use fewer jobs'
)


@contextmanager
def worker_losses_in_one_line() -> Iterator[None]:
    """Raise a `UsageError` if a worker process is lost."""
    try:
        yield
    except BrokenExecutor:
        raise UsageError(LOST) from None


def job_count(jobs: int | None, tasks: int) -> int:
    """Return how many processes to use: `jobs`, or every core that `tasks` calls keep busy.

    Raises
    ------
    UsageError
        If `jobs` is no whole number ≥ 1.
    """
    if jobs is None:
        return max(min(cores(), tasks // WORTH_A_PROCESS), 1)
    return whole("--jobs", jobs, 1)


@contextmanager
def processes(jobs: int) -> Iterator[Executor | None]:
    """Yield an executor of `jobs` processes of one thread each; None for 1, which needs no process."""
    if jobs == 1:
        yield None
        return
    with worker_processes(jobs) as executor:
        yield executor


@contextmanager
def worker_processes(jobs: int) -> Iterator[Executor]:
    """Yield an executor of `jobs` processes of one thread each, at most `MOST_PROCESSES`.

    The processes are spawned, not forked: a fork while another thread holds a lock can hang.  A BLAS reads
    its number of threads when it is loaded, so the environment says 1 until the executor is closed.  Ctrl-C
    stops the processes at once.
    """
    this: Any = multiprocessing.current_process()
    if getattr(this, "_inheriting", False):  # a worker that runs its parent's script: the parent says LOST
        os._exit(1)
    others = set(multiprocessing.active_children())
    before = {name: os.environ.get(name) for name in BLAS_THREADS}
    os.environ.update(dict.fromkeys(BLAS_THREADS, "1"))
    try:
        with _Processes(min(jobs, MOST_PROCESSES)) as executor:
            try:
                yield executor
            except KeyboardInterrupt:
                executor.stop(others)
                raise
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Processes(ProcessPoolExecutor):
    """A pool whose processes do not receive the terminal's signals, and that can be stopped."""

    def __init__(self, jobs: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.started = context.RawValue("b")  # 1 once a process has started; no lock that it could die with
        super().__init__(jobs, context, _prepare_worker, (self.started,))

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Begin the work; a process that is started for it inherits that the terminal's signals are blocked.

        They are sent to all processes of a terminal; one that is starting would end, and break the pool.
        """
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            return super().submit(function, *args, **options)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
        try:
            return super().submit(function, *args, **options)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self, others: set[BaseProcess]) -> None:
        """Cancel what has not begun, then stop the processes (all child processes but `others`).

        In this order: if a process ends while the pool has cancelled futures, the pool's own thread raises
        InvalidStateError, and Python prints it.
        """
        pool: Any = self
        calls, thread = pool._call_queue, pool._executor_manager_thread
        pool.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + STOP_SECONDS
        while pool._cancel_pending_futures and thread is not None and time.monotonic() < deadline:
            time.sleep(0.001)
        _stop_workers(others)
        if thread is not None:
            thread.join(STOP_SECONDS)
            if thread.is_alive():  # Python 3.11.4 and older: another thread may wait until its work is read
                calls._reader.close()


def run_all(
    work: Callable[[Item], Any],
    items: Sequence[Item],
    executors: Executors,
    *,
    watch: Callable[[], None] = lambda: None,
    every: float = 1.0,
) -> list[Any]:
    """Return ``work(item)`` for each item, or the exception that it raised; the first items start first.

    Parameters
    ----------
    work
        A function that can be pickled, and that can be begun again after its process was killed.
    executors
        Makes the executor.  If it breaks, because a worker process was lost, the items without a result
        are begun again in a new one, up to `LOSSES` times.
    watch
        Called every `every` seconds while work goes on.

    Raises
    ------
    UsageError
        If the worker processes of this machine are lost before one of them has ever started.
    KeyboardInterrupt
        On Ctrl-C, after worker processes of this machine were told to stop; they save their states before
        they end.  (Windows ends them at once, without what came after the last save.)  Work that the workers
        of a cluster have begun goes on; the rest is cancelled.
    """
    results: dict[int, Any] = {}
    started = False
    for _ in range(LOSSES):
        left = [i for i in range(len(items)) if i not in results]
        if not left:
            break
        others = set(multiprocessing.active_children())
        with executors() as executor:
            futures: dict[Future[Any], int] = {}
            try:
                futures.update((executor.submit(work, items[i]), i) for i in left)
                waiting = set(futures)
                while waiting:
                    done, waiting = wait(waiting, timeout=every)
                    results |= {futures[future]: _result(future) for future in done if not _lost(future)}
                    watch()
            except BrokenExecutor:  # while the work was being submitted
                _stop_workers(others)
            except KeyboardInterrupt:
                for future in futures:
                    future.cancel()
                raise  # `worker_processes` stops its processes
            else:
                if any(map(_lost, futures)):
                    _stop_workers(others)
            started = started or not isinstance(executor, _Processes) or bool(executor.started.value)
            if not started:
                raise UsageError(LOST)
    lost = UsageError(f"its worker process was lost {LOSSES} times: killed, or out of memory; use fewer jobs")
    return [results.get(i, lost) for i in range(len(items))]


@contextmanager
def saves_when_told_to_stop() -> Iterator[None]:
    """Within a worker process's work: SIGTERM raises KeyboardInterrupt, and the process then ends.

    What is interrupted saves its state first.  If the exception is lost or replaced by another, which happens
    inside some imports and callbacks, the process ends after the work.  In the main process, and in other
    threads such as those of a Dask worker, the signal handlers are not changed.
    """
    alone = threading.current_thread() is threading.main_thread()
    if multiprocessing.parent_process() is None or not alone:
        yield
        return
    import numpy.random  # noqa: F401  # NumPy imports it at its first use, and would replace the exception

    told = False

    def stop(number: int, frame: object) -> None:
        nonlocal told
        if not told:
            told = True
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
    finally:
        if told:  # else a deadlock: the closing pool waits for this worker, and the worker for work
            os._exit(STOPPED)


def _prepare_worker(started: Any) -> None:
    """Leave the signals of the terminal to the parent process, and stop if that one is killed."""
    started.value = 1
    for number in TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_stop_with_parent, daemon=True).start()


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    while True:  # Python loses a signal that arrives while `saves_when_told_to_stop` puts the handler back
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.0)


def _stop_workers(others: set[BaseProcess]) -> None:
    """Tell every child process to stop but `others`, which are not the executor's.

    A `ProcessPoolExecutor` that breaks stops its processes, and then waits for their end.  It also waits for
    a process that the main thread was just starting, but does not stop that process.
    """
    for process in set(multiprocessing.active_children()) - others:
        process.terminate()


def _lost(future: Future[Any]) -> bool:
    return isinstance(future.exception(), BrokenExecutor)


def _result(future: Future[Any]) -> Any:
    """Return the result or the exception."""
    error = future.exception()
    return future.result() if error is None else error
