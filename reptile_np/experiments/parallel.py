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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from reptile_np.errors import UsageError, whole
from reptile_np.experiments.workers import Workers, stop_workers, worker_processes
from reptile_np.machine import cores

__all__ = [
    "LOSSES",
    "WORTH_A_PROCESS",
    "Executors",
    "Item",
    "job_count",
    "processes",
    "run_all",
    "worker_losses_in_one_line",
]

Item = TypeVar("Item")
Executors = Callable[[], AbstractContextManager[Executor]]
"""Makes an executor, again if worker processes of the one before were lost."""

WORTH_A_PROCESS = 50  # tasks per worker below which starting a process costs more than it saves
LOSSES = 10  # of worker processes, after which `run_all` gives up what is left
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
        are begun again in a new one, in another order, up to `LOSSES` times.
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
    for losses in range(LOSSES):
        left = [i for i in range(len(items)) if i not in results]
        if not left:
            break
        first = losses % len(left)  # another one each time: the first may be the one whose process is lost
        left = left[first:] + left[:first]
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
                stop_workers(others)
            except BaseException:  # Ctrl-C, or an error of `watch`
                for future in futures:
                    future.cancel()
                raise  # `worker_processes` stops its processes
            else:
                if any(map(_lost, futures)):
                    stop_workers(others)
            started = started or not isinstance(executor, Workers) or bool(executor.started.value)
            if not started:
                raise UsageError(LOST)
    lost = UsageError(f"its worker process was lost {LOSSES} times: killed, or out of memory; use fewer jobs")
    return [results.get(i, lost) for i in range(len(items))]


def _lost(future: Future[Any]) -> bool:
    return isinstance(future.exception(), BrokenExecutor)


def _result(future: Future[Any]) -> Any:
    """Return the result or the exception."""
    error = future.exception()
    return future.result() if error is None else error
