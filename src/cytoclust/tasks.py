"""Delayed tasks run: on the workers of the active Dask client, or on threads of this process."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
    told, pause, alone_since, asked = 0, 0.005, None, time.monotonic()
    while True:
        states = [future.status for future in futures]
        done = len(states) - states.count("pending")
        if done > told:
            advance(done - told)
            told = done
        if done == len(states) or "error" in states:
            return
        if time.monotonic() - asked > PATIENCE / 20:
            asked = time.monotonic()
            alone_since = None if client.nthreads() else (alone_since or asked)
        if alone_since is not None and asked - alone_since > PATIENCE:
            msg = (
                f"no worker of the Dask cluster at {client.scheduler.address} has been there for "
                f"{PATIENCE:.0f} s, and {len(states) - done} of {len(states)} blocks are not done. Workers die "
                "if they need more memory than they may have. Start workers and run again: what was "
                "converted and every finished step of a run is kept."
            )
            raise CytoclustError(msg)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
