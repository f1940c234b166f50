"""The worker processes of this machine: how they start, and how they stop.

Verified by ``tests/experiments/test_worker_processes.py`` and ``test_reproduction_interrupted.py``.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

from reptile_np.machine import BLAS_THREADS, TERMINAL_SIGNALS

__all__ = ["STOPPED", "Workers", "saves_when_told_to_stop", "stop_workers", "worker_processes"]

MOST_PROCESSES = 61 if sys.platform == "win32" else 4096  # Windows cannot wait for more
STOP_SECONDS = 1.0  # to wait for a pool that was told to stop
SAVE_SECONDS = 10.0  # that a worker process has to save its state
STOPPED = 130  # exit code of a worker process that was told to stop


@contextmanager
def worker_processes(jobs: int) -> Iterator[Executor]:
    """Yield an executor of `jobs` processes of one thread each, at most `MOST_PROCESSES`.

    The processes are spawned, not forked: a fork while another thread holds a lock can hang.  A BLAS reads
    its number of threads when it is loaded, so the environment says 1 until the executor is closed.  Ctrl-C
    and every other exception stop the processes at once.
    """
    this: Any = multiprocessing.current_process()
    if getattr(this, "_inheriting", False):  # a worker that runs its parent's script: the parent explains
        os._exit(1)
    others = set(multiprocessing.active_children())
    before = {name: os.environ.get(name) for name in BLAS_THREADS}
    os.environ.update(dict.fromkeys(BLAS_THREADS, "1"))
    try:
        with Workers(min(jobs, MOST_PROCESSES)) as executor:
            try:
                yield executor
            except BaseException:  # or the pool would first finish all its work
                executor.stop(others)
                raise
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class Workers(ProcessPoolExecutor):
    """A pool whose processes do not receive the terminal's signals, and that can be stopped."""

    def __init__(self, jobs: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.started = context.RawValue("b")  # 1 once a process has started; no lock that it could die with
        super().__init__(jobs, context, _prepare_worker, (self.started,))

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Begin the work; a process that is started for it inherits that the terminal's signals are blocked.

        They are sent to all processes of a terminal; one that is starting would end, and break the pool.

        Raises
        ------
        BrokenProcessPool
            If a process has been lost, also while another one was being started.
        """
        pool: Any = self
        started, blocks = len(pool._processes or ()), hasattr(signal, "pthread_sigmask")  # not on Windows
        if blocks:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
        try:
            future = super().submit(function, *args, **options)
        except OSError as error:
            if pool._broken:  # it has closed a pipe that the new process was to be given
                raise BrokenProcessPool(pool._broken) from error
            raise
        finally:
            if blocks:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if len(pool._processes or ()) > started:
            # The pool's thread was woken before the process was started, and does not watch it yet.
            with pool._shutdown_lock:
                if pool._executor_manager_thread_wakeup is not None:
                    pool._executor_manager_thread_wakeup.wakeup()
        return future

    def stop(self, others: set[BaseProcess]) -> None:
        """Cancel what has not begun, then stop the processes (all child processes but `others`).

        In this order: if a process ends while the pool has cancelled futures, the pool's own thread raises
        InvalidStateError, and Python prints it.
        """
        pool: Any = self
        calls, thread = pool._call_queue, pool._executor_manager_thread
        pool.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + STOP_SECONDS
        while pool._cancel_pending_futures and thread and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.001)
        stop_workers(others)
        if thread is not None:
            thread.join(STOP_SECONDS)
            if thread.is_alive():  # Python 3.11.4 and older: another thread may wait until its work is read
                calls._reader.close()


@contextmanager
def saves_when_told_to_stop() -> Iterator[None]:
    """Within a worker process's work: SIGTERM raises KeyboardInterrupt, and the process then ends.

    What is interrupted saves its state first.  If the exception is lost or replaced by another, which happens
    inside some imports and callbacks, the next SIGTERM after `SAVE_SECONDS` raises it again, and the process
    ends after the work at the latest.  In the main process, and in other threads such as those of a Dask
    worker, the signal handlers are not changed.
    """
    alone = threading.current_thread() is threading.main_thread()
    if multiprocessing.parent_process() is None or not alone:
        yield
        return
    import numpy.random  # noqa: F401  # NumPy imports it at its first use, and would replace the exception

    told = -math.inf

    def stop(number: int, frame: object) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= SAVE_SECONDS:
            told = now
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    try:
        try:
            signal.signal(signal.SIGTERM, stop)  # here: the signal may arrive at once
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
    finally:
        # If it did not end, the closing pool would wait for this process, and this process for work.
        if told > -math.inf:
            os._exit(STOPPED)


def _prepare_worker(started: Any) -> None:
    """Leave the signals of the terminal to the parent process, and stop if that one is killed."""
    started.value = 1
    for number in TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_stop_with_parent, daemon=True).start()


def _stop_with_parent() -> None:
    """Wait for the end of the parent process, then end this one; first so that it can save its state."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    for _ in range(3 * int(SAVE_SECONDS)):  # the signal may be ignored, or it or its exception lost
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.0)
    os._exit(STOPPED)


def stop_workers(others: set[BaseProcess]) -> None:
    """Tell every child process to stop but `others`, which are not the executor's.

    A `ProcessPoolExecutor` that breaks stops its processes, and then waits for their end.  It also waits for
    a process that the main thread was just starting, but does not stop that process.
    """
    for process in set(multiprocessing.active_children()) - others:
        process.terminate()
