"""One thread count for every parallel loop, honoured and restored."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numba
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
