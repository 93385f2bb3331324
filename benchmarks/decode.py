"""Decode speed and memory of FCS files, against np.fromfile and the other readers, in one run.

Every reader runs in a fresh process and counts until each value stands in a float32 array; best of
``--repeats`` while all take turns. Memory is the highest resident size above that before the read
(pages of a mapped file included), and what Python and NumPy allocated. A reader that cannot live in
this environment (fcsparser needs numpy below 2) is run by ``--peer-python``.

Usage: python benchmarks/decode.py [--events 1000000] [--channels 24] [--repeats 5] [--gigabytes 2]
       [--peer-python PYTHON] [--json FILE] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_fcs import assembled

from cytoclust.io.fcs_writing import write_fcs_file

OURS = "import cytoclust.io as io, warnings; warnings.simplefilter('ignore')"
LOAD = """
from pathlib import Path
from cytoclust.io.fcs import read_header
from cytoclust.io.fcs_loading import load_fcs
def load(path, rows, columns):
    out = np.empty((rows, columns), dtype=np.float32)
    load_fcs(Path(path), read_header(path), out, columns=list(range(columns)), scalings=(), digest=False)
    return out
"""
FROM_FILE = """
def from_file(path, order, begin, rows, columns):
    with open(path, 'rb') as file:
        file.seek(begin)
        stored = np.fromfile(file, dtype=order + 'f4', count=rows * columns)
    return stored.reshape(rows, columns).astype(np.float32, copy=False)
"""
REFERENCE = "np.fromfile"
READERS = {  # name: (what is imported, what gives the float32 array)
    REFERENCE: (FROM_FILE, "from_file(path, order, begin, rows, columns)"),
    "read_fcs_datasets, mapped": (OURS, "np.asarray(io.read_fcs_datasets(path)[0].events, dtype=np.float32)"),
    "read_fcs_datasets, copied": (OURS, "np.array(io.read_fcs_datasets(path)[0].events, dtype=np.float32)"),
    "loader of read_fcs and read_study": (LOAD, "load(path, rows, columns)"),
    "read_fcs, whole AnnData": (OURS, "io.read_fcs(path).X"),
    "flowio": (
        "import flowio",
        "np.asarray(flowio.FlowData(path).as_array(preprocess=False), dtype=np.float32)",
    ),
    "fcsparser": (
        "import fcsparser",
        "fcsparser.parse(path, reformat_meta=False)[1].to_numpy(dtype=np.float32)",
    ),
    "readfcs": ("import readfcs", "np.asarray(readfcs.read(path).X, dtype=np.float32)"),
}  # fmt: skip
RUNNER = """
import json, resource, sys, time, tracemalloc
import numpy as np
{setup}
path, order, begin, rows, columns = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
def status(key):
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) * 1024
def read():
    values = {expression}
    assert values.shape == (rows, columns) and values.dtype == np.float32, (values.shape, values.dtype)
    return values
with open('/proc/self/clear_refs', 'w') as file:
    file.write('5')
before = status('VmRSS')
values = read()
resident = status('VmHWM') - before
some = np.ascontiguousarray(values[:: max(1, rows // 1000)])
total = int(some.view(np.uint32).sum(dtype=np.uint64))
del values
allocated = None
if {trace}:
    tracemalloc.start()
    values = read()
    allocated = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del values
print('ready', flush=True)
for line in sys.stdin:
    began, worked = time.perf_counter(), time.process_time()
    values = read()
    print(time.perf_counter() - began, time.process_time() - worked, flush=True)
    del values
print(json.dumps(dict(resident=resident, allocated=allocated, total=total)))
"""


class Reader:
    """One reader in a process of its own, which reads when it is told to."""

    def __init__(self, name: str, python: str, arguments: list[str]) -> None:
        setup, expression = READERS[name]
        trace = "cytoclust" in setup or name == REFERENCE  # tracing lists of numbers takes minutes
        code = RUNNER.format(setup=setup, expression=expression, trace=trace)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        self.process = subprocess.Popen(
            [python, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.times: list[float] = []
        self.processor: list[float] = []
        self.works = self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def read(self) -> None:
        """Read once and note the time."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, processor = map(float, self._line().split())
        self.times.append(seconds)
        self.processor.append(processor)

    def finish(self) -> dict[str, Any]:
        """End the process; return what it measured."""
        out, err = self.process.communicate()
        if not self.works:
            return {"failed": err.strip().splitlines()[-1][:120] if err.strip() else "no answer"}
        return {
            "seconds": min(self.times),
            "processor_seconds": min(self.processor),
            **json.loads(out),
        }


def compare(
    path: Path,
    names: list[str],
    options: argparse.Namespace,
    *,
    order: str,
    begin: int,
    shape: tuple[int, int],
) -> dict[str, Any]:
    """Measure the readers on one file, in turns, and their ratio to the first."""
    rows, columns = shape
    arguments = [str(path), order, str(begin), str(rows), str(columns)]
    readers = {}
    for name in names:
        readers[name] = Reader(name, sys.executable, arguments)
        if not readers[name].works and options.peer_python:
            other = Reader(name, options.peer_python, arguments)
            readers[name].finish()
            readers[name] = other
    for turn in range(options.repeats):
        for reader in readers.values():
            if reader.works and (
                turn < 1 or min(reader.times) < 0.5 or (turn < 4 and min(reader.times) < 2)
            ):
                reader.read()
    results = {name: reader.finish() for name, reader in readers.items()}
    first = results[names[0]]
    for name, result in results.items():
        if "failed" in result:
            print(f"{name:36s} {result['failed']}")
            continue
        result["million_events_per_second"] = rows / result["seconds"] / 1e6
        result["ratio"] = first["seconds"] / result["seconds"]
        result["processor_ratio"] = first["processor_seconds"] / result["processor_seconds"]
        result["same_values"] = result["total"] == first["total"]
        size = rows * columns * 4
        result["resident_to_result"] = result.pop("resident") / size
        allocated = result.pop("allocated")
        result["allocated_to_result"] = None if allocated is None else allocated / size
        print(
            f"{name:36s} {result['million_events_per_second']:8.2f} M events/s {result['ratio']:6.3f} x "
            f"{names[0]} ({result['processor_ratio']:.3f} by processor time); resident {result['resident_to_result']:.2f} x result, same values: "
            f"{result['same_values']}"
        )
    return results


def float_file(path: Path, shape: tuple[int, int], order: str) -> int:
    """Write random floats in an order; return where DATA begins."""
    values = np.random.default_rng(0).lognormal(6, 2, size=shape).astype(f"{order}f4")
    pairs = {
        "$PAR": str(shape[1]),
        "$TOT": str(shape[0]),
        "$DATATYPE": "F",
        "$MODE": "L",
        "$NEXTDATA": "0",
    }
    pairs["$BYTEORD"] = "1,2,3,4" if order == "<" else "4,3,2,1"
    for number in range(1, shape[1] + 1):
        pairs |= {f"$P{number}B": "32", f"$P{number}N": f"C{number}", f"$P{number}R": "262144"}
        pairs[f"$P{number}S"] = f"M{number}"  # readfcs needs it
    content = assembled(pairs, values.tobytes())
    path.write_bytes(content)
    return len(content) - values.nbytes


def integer_file(path: Path, bits: list[int], n_events: int) -> None:
    """Write random integers of these widths, of which $PnR keeps at most 10 bits."""
    pairs = {"$PAR": str(len(bits)), "$TOT": str(n_events), "$DATATYPE": "I", "$MODE": "L"}
    pairs["$BYTEORD"] = "4,3,2,1"
    for number, width in enumerate(bits, start=1):
        pairs |= {f"$P{number}B": str(width), f"$P{number}N": f"C{number}"}
        pairs[f"$P{number}R"] = str(1 << min(width, 10))
    path.write_bytes(assembled(pairs, np.random.default_rng(0).bytes(n_events * sum(bits) // 8)))


def large_file(folder: Path, gigabytes: float) -> tuple[Path, int, int]:
    """Write a large file with `write_fcs_file`; return its path, and rows and columns."""
    columns = 24
    rows = int(gigabytes * 1e9) // (4 * columns)
    raw, path = folder / "large.raw", folder / "large.fcs"
    values = np.memmap(raw, dtype="<f4", mode="w+", shape=(rows, columns))
    rng = np.random.default_rng(0)
    for start in range(0, rows, 1 << 18):
        values[start : start + (1 << 18)] = rng.random(
            (min(1 << 18, rows - start), columns), np.float32
        )
    write_fcs_file(path, values, [f"C{number}" for number in range(columns)], ranges=[1] * columns)
    raw.unlink()
    return path, rows, columns


STUDY = """
import json, sys, time, warnings
import pandas as pd
import cytoclust as cc
warnings.simplefilter('ignore')
files, jobs = sys.argv[2:], int(sys.argv[1])
def status(key):
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) * 1024
sheet = pd.DataFrame({'file': files, 'sample': [str(number) for number in range(len(files))]})
cc.io.read_study(sheet.iloc[:1], n_jobs=jobs)
with open('/proc/self/clear_refs', 'w') as file:
    file.write('5')
from cytoclust.io import study
read_events, assemble = [], study._assemble
def probe(values, *rest, **options):
    read_events.extend([status('VmHWM') - before, values.nbytes])
    return assemble(values, *rest, **options)
study._assemble = probe
before, began = status('VmRSS'), time.perf_counter()
adata = cc.io.read_study(sheet, n_jobs=jobs, layer_raw=False)
seconds = time.perf_counter() - began
result = adata.X.nbytes + int(adata.obs.memory_usage(deep=True).sum())
measured = dict(seconds=seconds, resident=status('VmHWM') - before, result=result)
print(json.dumps(measured | dict(resident_events=read_events[0], events=read_events[1])))
"""


def study_reading(folder: Path, n_files: int, n_events: int, columns: int) -> list[dict[str, Any]]:
    """Read a study with one and two files in work; memory against the result and one file."""
    files = []
    for number in range(n_files):
        files.append(folder / f"study_{number}.fcs")
        values = np.random.default_rng(number).lognormal(6, 2, size=(n_events, columns))
        write_fcs_file(files[-1], values, [f"C{number}" for number in range(columns)])
    measured = []
    for jobs in (1, 2):
        done = subprocess.run(
            [sys.executable, "-c", STUDY, str(jobs), *map(str, files)],
            check=True,
            capture_output=True,
            text=True,
        )
        result = {"n_jobs": jobs, **json.loads(done.stdout)}
        beyond = result["resident_events"] - result["events"]
        result["beyond_events_in_files"] = beyond / files[0].stat().st_size
        measured.append(result)
        print(
            f"read_study, {n_files} files of {n_events} x {columns}, n_jobs={jobs}: {result['seconds']:.2f} s, "
            f"{result['events'] / 1e6:.0f} MB of values held with {result['resident_events'] / 1e6:.0f} MB, "
            f"{result['beyond_events_in_files']:+.2f} files beyond; AnnData of {result['result'] / 1e6:.0f} MB "
            f"with {result['resident'] / 1e6:.0f} MB"
        )
    return measured


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run every comparison."""
    shape = (options.events, options.channels)
    results: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "events": shape[0],
        "channels": shape[1],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    for order, title in (("<", "float32, little endian"), (">", "float32, big endian")):
        path = folder / "events.fcs"
        begin = float_file(path, shape, order)
        print(title)
        results[title] = compare(
            path, list(READERS), options, order=order, begin=begin, shape=shape
        )
    ours = [name for name in READERS if name.startswith(("read_fcs_datasets, copied", "loader"))]
    for bits in (
        [16] * 8,
        [24] * 8,
        [32] * 8,
        [16, 16, 32, 32, 8, 16, 32, 16],
        [10] * 8,
        [12, 10, 16, 7, 24, 32, 9, 10],
    ):
        integer_file(path, bits, options.events)
        title = f"integers of {bits} bits, masked"
        print(title)
        results[title] = compare(path, ours, options, order="<", begin=0, shape=(options.events, 8))
    path.unlink()
    if options.gigabytes:
        large, rows, columns = large_file(folder, options.gigabytes)
        title = f"{large.stat().st_size / 1e9:.2f} GB"
        print(title)
        names = [
            REFERENCE,
            *(name for name in READERS if name.startswith(("read_fcs_datasets, m", "loader"))),
        ]
        begin = large.stat().st_size - 8 - rows * columns * 4
        results[title] = compare(
            large, names, options, order="<", begin=begin, shape=(rows, columns)
        )
        large.unlink()
    results["study"] = study_reading(folder, 8, 250_000, 24)
    return results


def markdown(results: dict[str, Any]) -> str:
    """Return the results as tables."""
    lines = [
        (
            f"# Decoding, {results['date']}, {results['events']:,} events, {results['cores']} cores, "
            f"Python {results['python']}, NumPy {results['numpy']}"
        ),
        "",
        (
            "Until every value stands in a float32 array. Resident: highest resident size beyond that before the read, "
            "over the size of the array (pages of a mapped file count, though the system can take them back). "
            "Allocated: what Python and NumPy allocated, over the size of the array."
        ),
    ]
    for title, rows in results.items():
        if not isinstance(rows, dict):
            continue
        lines += [
            "",
            f"## {title}",
            "",
            f"| reader | M events/s | x {next(iter(rows))} | by processor time | resident | allocated |",
        ]
        lines += ["|---|---|---|---|---|---|"]
        for name, row in rows.items():
            if "failed" in row:
                lines.append(f"| {name} | {row['failed']} | | | | |")
                continue
            allocated = row["allocated_to_result"]
            lines.append(
                f"| {name} | {row['million_events_per_second']:.2f} | {row['ratio']:.3f} | "
                f"{row['processor_ratio']:.3f} | "
                f"{row['resident_to_result']:.2f} | {'' if allocated is None else f'{allocated:.2f}'} |"
            )
    lines += [
        "",
        "## Study of 8 files of 250,000 x 24",
        "",
        (
            "Resident while the files are read, against the values they give; then of the whole `read_study`, whose peak "
            "is AnnData's own check that event names are unique."
        ),
        "",
        "| n_jobs | s | values, MB | resident, MB | files beyond | AnnData, MB | resident, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["study"]:
        sizes = [row[key] / 1e6 for key in ("events", "resident_events", "result", "resident")]
        lines.append(
            f"| {row['n_jobs']} | {row['seconds']:.2f} | {sizes[0]:.0f} | {sizes[1]:.0f} | "
            f"{row['beyond_events_in_files']:+.2f} | {sizes[2]:.0f} | {sizes[3]:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--peer-python", help="a Python with readers that cannot live in this one")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(markdown(results), encoding="utf-8")


if __name__ == "__main__":
    main()
