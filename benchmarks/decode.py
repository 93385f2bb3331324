"""Decode speed: np.fromfile, flowio and cytoclust in one run, each until float32 values stand.

Usage: python benchmarks/decode.py [--events 1000000] [--channels 24] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cytoclust.io import read_fcs, read_fcs_datasets
from cytoclust.io.fcs_data import decode_events
from cytoclust.io.fcs_layout import Layout
from cytoclust.io.fcs_writing import write_fcs_file
from cytoclust.io.sources import load_source, open_source

if TYPE_CHECKING:
    from collections.abc import Callable


def best(work: Callable[[], Any], repeats: int) -> float:
    """Return the shortest time of several runs, in seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def float_readers(path: Path, begin: int, shape: tuple[int, int]) -> dict[str, Callable[[], Any]]:
    """Return the readers that are compared on float32 data."""

    def from_file() -> Any:
        with path.open("rb") as file:
            file.seek(begin)
            return np.fromfile(file, dtype="<f4", count=shape[0] * shape[1]).reshape(shape)

    def with_flowio() -> Any:
        import flowio

        return flowio.FlowData(str(path)).as_array(preprocess=False).astype(np.float32)

    def study_file() -> Any:
        source = open_source(path)
        out = np.empty(shape, dtype=np.float32)
        return load_source(source, out, source.channels)

    return {
        "np.fromfile": from_file,
        "cytoclust.read_fcs_datasets": lambda: np.array(
            read_fcs_datasets(path)[0].events, dtype=np.float32
        ),
        "cytoclust.read_fcs": lambda: read_fcs(path),
        "one file of read_study, with SHA-256": study_file,
        "flowio": with_flowio,
    }


def integer_speed(bits: list[int], n_events: int, repeats: int) -> float:
    """Return million events per second of masked integers."""
    layout = Layout(["I"] * len(bits), bits, [min(width, 10) for width in bits], (4, 3, 2, 1))
    raw = np.random.default_rng(0).bytes(layout.length(n_events))
    return n_events / best(lambda: decode_events(raw, n_events, layout), repeats) / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shape = (options.events, options.channels)
    results: dict[str, Any] = {"events": shape[0], "channels": shape[1], "cores": os.cpu_count()}
    results["python"], results["numpy"] = platform.python_version(), np.__version__
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "events.fcs"
        values = np.random.default_rng(0).lognormal(6, 2, size=shape).astype(np.float32)
        write_fcs_file(path, values, [f"C{number}" for number in range(shape[1])])
        begin = int(read_fcs_datasets(path)[0].keywords["$BEGINDATA"])
        reference = None
        for name, reader in float_readers(path, begin, shape).items():
            seconds = best(reader, 1 if name == "flowio" else options.repeats)
            reference = reference or seconds
            speed = shape[0] / seconds / 1e6
            results[name] = {"seconds": seconds, "million_events_per_second": speed}
            results[name]["ratio_to_fromfile"] = reference / seconds
            print(f"{name:40s} {speed:8.2f} M events/s   {reference / seconds:6.3f} x np.fromfile")
    for bits in ([16] * 8, [24] * 8, [16, 16, 32, 32, 8, 16, 32, 16], [10] * 8):
        speed = integer_speed(bits, options.events, options.repeats)
        results[f"integers {bits}"] = speed
        print(f"{'integers ' + str(bits):40s} {speed:8.2f} M events/s")
    results["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
