"""Delayed tasks run: on the workers of the active Dask client, or on threads of this process."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from cytoclust.errors import CytoclustError
from cytoclust.numerics.threads import concurrent_threads, release_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["active_client", "client_active", "n_workers", "run_tasks"]

PATIENCE: Final = 60.0  # seconds without any worker


def active_client() -> Any:
    """Return the active Dask client, or None: then threads of this process do the work."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


@contextmanager
def client_active(client: Any = None) -> Iterator[None]:
    """Let a Dask client do the work of the block; None leaves the active one, or threads."""
    if client is None:
        yield
        return
    with client.as_current():
        yield


def n_workers() -> int:
    """Return how many tasks run side by side, at least 1."""
    client = active_client()
    return concurrent_threads() if client is None else max(1, sum(client.nthreads().values()))


def run_tasks(tasks: Sequence[Any], advance: Callable[[int], None]) -> list[Any]:
    """Run delayed tasks on the active client or on threads; results in the order of the tasks."""
    client = active_client()
    if client is not None:
        return _run_on_client(client, tasks, advance)
    import dask
    from dask.callbacks import Callback
    from threadpoolctl import threadpool_limits

    names = {task.key for task in tasks}

    def finished(key: Any, *_: object) -> None:
        if key in names:
            advance(1)

    n_threads = concurrent_threads()
    # on an error the pool waits for what its other threads are writing
    with (
        Callback(posttask=finished),
        threadpool_limits(limits=1),
        ThreadPoolExecutor(n_threads) as pool,
    ):
        # a task is whole as it is: nothing is left to optimise
        found = dask.compute(
            *tasks, scheduler="threads", pool=pool, num_workers=n_threads, optimize_graph=False
        )
    release_memory()
    return list(found)


def _run_on_client(client: Any, tasks: Sequence[Any], advance: Callable[[int], None]) -> list[Any]:
    """Submit tasks in order; what a lost worker did is done again, and each result counts once."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        futures = client.compute(list(tasks), optimize_graph=False)
    try:
        _wait(client, futures, advance)
        return list(client.gather(futures))
    finally:
        client.cancel(futures)


def _wait(client: Any, futures: Sequence[Any], advance: Callable[[int], None]) -> None:
    """Wait until all tasks are done, one failed, or no worker has been there for a while."""
    told = 0
    while waiting := [future for future in futures if future.status == "pending"]:
        finished: SimpleQueue[Any] = SimpleQueue()  # again for results that were lost with a worker
        for future in waiting:
            future.add_done_callback(finished.put)
        for _ in waiting:
            if _next_done(client, finished).status == "error":
                return
            told += 1
            advance(int(told <= len(futures)))


def _next_done(client: Any, finished: SimpleQueue[Any]) -> Any:
    """Return the next task that is done; refuse to wait without workers."""
    alone_since: float | None = None
    while True:
        with suppress(Empty):
            return finished.get(timeout=PATIENCE / 20)
        now = time.monotonic()
        alone_since = None if client.nthreads() else (alone_since or now)
        if alone_since is not None and now - alone_since > PATIENCE:
            msg = (
                f"no worker of the Dask cluster at {client.scheduler.address} has been there for "
                f"{PATIENCE:.0f} s, and not all blocks are done. Workers die if they need more memory "
                "than they may have. Start workers and run again: what was converted and every "
                "finished step of a run is kept."
            )
            raise CytoclustError(msg)
