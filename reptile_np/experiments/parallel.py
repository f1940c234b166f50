"""Processes that share the tasks of an evaluation.

    with processes(4) as executor:                    # this machine, one thread in each process
        scores = experiment.evaluate(step, executor=executor)

`meta.evaluation.evaluate` takes any `concurrent.futures.Executor`, and its result does not depend on it:
Dask's ``Client.get_executor()`` and mpi4py's ``MPIPoolExecutor`` serve unchanged.
Verified by ``tests/experiments/test_parallel.py``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

from reptile_np.errors import UsageError

WORTH_A_PROCESS = 50  # tasks per worker below which starting a process costs more than it saves
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@contextmanager
def worker_losses_in_one_line() -> Iterator[None]:
    """Raise a `UsageError` if a worker process is lost."""
    try:
        yield
    except BrokenExecutor:
        raise UsageError(
            "a worker process was lost: killed, out of memory, or never started because a script runs this "
            'without `if __name__ == "__main__":`; use fewer jobs'
        ) from None


def job_count(jobs: int | None, tasks: int) -> int:
    """Return how many processes to use: `jobs`, or every core that `tasks` calls keep busy.

    Raises
    ------
    UsageError
        If `jobs` is less than 1.
    """
    if jobs is None:
        return max(min(_cores(), tasks // WORTH_A_PROCESS), 1)
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: must be at least 1")
    return jobs


@contextmanager
def processes(jobs: int) -> Iterator[Executor | None]:
    """Yield an executor of `jobs` processes of one thread each; None for 1, which needs no process.

    The processes are spawned, not forked: a fork while another thread holds a lock can hang.  A BLAS reads
    its number of threads when it is loaded, so the environment says 1 while the processes start.
    """
    if jobs == 1:
        yield None
        return
    before = {name: os.environ.get(name) for name in BLAS_THREADS}
    os.environ.update(dict.fromkeys(BLAS_THREADS, "1"))
    try:
        context = multiprocessing.get_context("spawn")
        ignore = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent process
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=ignore) as executor:
            yield executor
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
