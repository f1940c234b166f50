"""The executor of a Dask cluster, for `reptile_np.experiments.parallel`.

Verified by ``tests/experiments/test_dask.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from reptile_np.errors import UsageError, printable

__all__ = ["dask_executor"]

NO_CLUSTER = "its cluster was shut down or is out of reach; start it, and give the same command again"


class _DaskExecutor(Executor):
    """Like Dask's own executor, whose futures can wait for ever if the scheduler is lost."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        theirs = self._client.submit(function, *args, pure=False, **options)
        ours: Future[Any] = Future()

        def cancel(_: Future[Any]) -> None:
            if ours.cancelled():
                theirs.cancel()

        def finish(_: object) -> None:
            if not ours.set_running_or_notify_cancel():
                return
            try:
                ours.set_result(theirs.result())
            except BaseException as error:  # Dask's CancelledError is no Exception
                ours.set_exception(error if theirs.status == "error" else UsageError(NO_CLUSTER))

        ours.add_done_callback(cancel)
        theirs.add_done_callback(finish)
        return ours


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """Yield the executor of the Dask cluster whose scheduler is at `address`, such as tcp://10.0.0.1:8786.

    Its workers must see the same files under the same paths.  Work whose worker is lost is given to another
    one by Dask, three times; then its future raises Dask's `KilledWorker`.  If the scheduler is lost, every
    future raises a `UsageError`.  A future that is cancelled is not begun; what a worker has begun goes on.

    Raises
    ------
    UsageError
        If dask and distributed are not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("--executor dask needs Dask; run: pip install dask distributed") from None
    make: Any = Client
    try:
        client = make(address, timeout=10)
    except (OSError, ValueError) as error:
        raise UsageError(f"--executor dask:{printable(address)}: no scheduler answers ({error})") from None
    log = logging.getLogger("distributed.client")
    level = log.level
    log.setLevel(logging.CRITICAL)  # of a lost scheduler it writes a traceback; the futures say enough
    try:
        with client:
            yield _DaskExecutor(client)
    finally:
        log.setLevel(level)
