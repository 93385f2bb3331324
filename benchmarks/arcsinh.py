"""arcsinh and compensation against NumPy, paired in one run.

    python benchmarks/arcsinh.py [--events 1000000] [--channels 20] [--repeats 7]

Prints one JSON object: million values per second (median of the repeats, JIT warm), ratios, the
largest relative error against float64, threads and versions. The losing variant (``math.asinh``
in a numba loop, which LLVM cannot vectorise) stays runnable.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from typing import TYPE_CHECKING

import numba
import numpy as np

from cytoclust.numerics.arcsinh import arcsinh, compensate_arcsinh, unmixing_matrix
from cytoclust.numerics.threads import available_threads, thread_limit

if TYPE_CHECKING:
    from collections.abc import Callable

COFACTOR = 150.0


@numba.njit(parallel=True)
def plain_asinh(values: np.ndarray, cofactor: float) -> None:
    for i in numba.prange(values.size):
        values.ravel()[i] = math.asinh(values.ravel()[i] / cofactor)


def speeds(variants: dict[str, tuple[int, Callable[[], object]]], reset: Callable[[], None], *,
           n_values: int, repeats: int) -> dict[str, float]:  # fmt: skip
    """Median million values per second; variants take turns, so that a busy machine hits all."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats + 1):
        for name, (threads, run) in variants.items():
            time.sleep(0.1)  # threads of BLAS spin for a while after a product
            reset()
            with thread_limit(threads):
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    return {name: n_values / 1e6 / float(np.median(all_[1:])) for name, all_ in seconds.items()}


def largest_error() -> float:
    rng = np.random.default_rng(1)
    values = (10 ** rng.uniform(-35, 38.5, 2_000_000)).astype(np.float32)
    values = np.concatenate([values, rng.uniform(0, 1e4, 2_000_000).astype(np.float32)])
    expected = np.arcsinh(values.astype(np.float64) / COFACTOR)
    return float(np.max(np.abs(arcsinh(values, COFACTOR) - expected) / expected))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    n, p = options.events, options.channels
    rng = np.random.default_rng(0)
    source = rng.normal(0, 1000, (n, p)).astype(np.float32)
    events = source.copy()
    spillover = np.eye(p) + rng.uniform(0, 0.1, (p, p)) * (1 - np.eye(p))
    unmixing = unmixing_matrix(spillover)
    single = unmixing.astype(np.float32)
    columns, cofactors, threads = np.arange(p), np.full(p, COFACTOR), available_threads()

    def two_steps() -> None:
        linear = events @ single
        linear /= np.float32(COFACTOR)
        np.arcsinh(linear, out=linear)

    def fused() -> None:
        compensate_arcsinh(events, unmixing, columns, cofactors=cofactors, out=events)

    variants: dict[str, tuple[int, Callable[[], object]]] = {
        "copy": (1, lambda: np.copyto(events, source)),
        "numpy in place": (1, lambda: np.arcsinh(events, out=events)),
        "math.asinh in numba": (threads, lambda: plain_asinh(events, COFACTOR)),
        "cytoclust, 1 thread": (1, lambda: arcsinh(events, cofactors, out=events)),
        "cytoclust": (threads, lambda: arcsinh(events, cofactors, out=events)),
        "numpy matmul, then arcsinh": (threads, two_steps),
        "numpy matmul, then arcsinh, 1 thread": (1, two_steps),
        "cytoclust fused": (threads, fused),
    }
    found = speeds(
        variants, lambda: np.copyto(events, source), n_values=n * p, repeats=options.repeats
    )
    # BLAS threads may hurt on a busy machine; the peer gets its better setting
    best = max(speed for name, speed in found.items() if name.startswith("numpy matmul"))
    report = {
        "events": n,
        "channels": p,
        "threads": threads,
        "million_values_per_second": {name: round(speed) for name, speed in found.items()},
        "arcsinh_to_numpy": round(found["cytoclust"] / found["numpy in place"], 2),
        "fused_to_two_steps": round(found["cytoclust fused"] / best, 2),
        "largest_relative_error": largest_error(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
