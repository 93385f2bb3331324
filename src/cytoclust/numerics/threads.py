"""One thread count for every parallel loop, honoured and restored."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numba
import numpy as np
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Iterator


def available_threads() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def thread_limit(n_jobs: int | None = None) -> Iterator[int]:
    """Run the block on `n_jobs` threads (None or -1: all) in numba and BLAS; restore afterwards."""
    wanted = available_threads() if n_jobs in (None, -1) else max(1, int(n_jobs or 1))
    wanted = min(wanted, numba.config.NUMBA_NUM_THREADS)
    before = numba.get_num_threads()
    numba.set_num_threads(wanted)
    try:
        with threadpool_limits(limits=wanted):
            yield wanted
    finally:
        numba.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the block on one thread in numba; for one of several threads that work side by side."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def concurrent_threads() -> int:
    """Count the threads that may call numba side by side: as many as were asked for, or one.

    Numba's own "workqueue", which is taken where neither OpenMP nor TBB is there, can serve one
    caller at a time.
    """
    _start_threads(np.zeros(2))
    if numba.threading_layer() == "workqueue":
        return 1
    return int(numba.get_num_threads())


@numba.njit(parallel=True, cache=True)
def _start_threads(values):  # type: ignore[no-untyped-def]
    """Make numba choose its threading layer."""
    for i in numba.prange(len(values)):
        values[i] += 1.0


def release_memory() -> None:
    """Give back what the C library keeps of freed blocks, which it cannot by itself between results."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
