"""A study from files to report through a zarr store: seconds and peak memory of every step.

    python benchmarks/larger_than_memory.py 10000000 --workers 0 --folder /somewhere

The study is simulated (34 channels, 27 of them markers; about 175 files per 10 million events), which
is not timed. The run is
a process of its own; every 0.2 s the resident memory of that process and all its children is added
up, and the largest sum is the peak; beside it stands the largest sum without pages of files (those the
system takes back when it needs room; columns of a lazy study are such files). ``--workers 0`` takes threads, 1 or 2 a LocalCluster of processes
with one thread each. Results are added to ``results/larger_than_memory.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import psutil
from pyarrow import parquet

RESULTS = Path(__file__).parent / "results" / "larger_than_memory.json"
USUAL_EVENTS = 630_000  # of a simulated study by default
PART_EVENTS = 10_000_000


def simulate(folder: Path, events: int) -> None:
    """Write parts of some 9 million events and 175 files, each of other patients, until they are enough."""
    if (folder / "samples.csv").is_file():
        return
    sheets: list[pd.DataFrame] = []
    total = 0
    while total < events:
        part = len(sheets)
        place = folder / f"part_{part}"
        if not (place / "samples.csv").is_file():
            factor = min(events, PART_EVENTS) / USUAL_EVENTS
            sizes = (round(2_000 * factor), round(6_000 * factor))
            code = f"import cytoclust as cc; cc.simulate.study({str(place)!r}, events_per_sample={sizes}, rng={part})"
            subprocess.run([sys.executable, "-c", code], check=True)  # its memory is not the run's
        total += parquet.read_metadata(place / "truth" / "events.parquet").num_rows
        sheet = pd.read_csv(place / "samples.csv", dtype=str)
        for column in ("sample", "patient", "batch"):
            sheet[column] = f"{part}_" + sheet[column]
        sheets.append(sheet.assign(file=f"part_{part}/" + sheet["file"]))
    shutil.copy(folder / "part_0" / "panel.csv", folder / "panel.csv")
    table = pd.concat(sheets).sort_values(
        "visit", key=lambda c: c.str[1:].astype(int), kind="stable"
    )
    table.to_csv(folder / "samples.csv", index=False)


def analyse(study: Path, out: Path, workers: int) -> None:
    """Run the pipeline on threads or on workers of this machine."""
    import warnings

    import cytoclust as cc

    warnings.simplefilter("ignore", cc.errors.CytoclustWarning)
    cluster = nullcontext()
    if workers:
        from distributed import LocalCluster

        cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, memory_limit="6GB"
        )
    with cluster, cluster.get_client() if workers else nullcontext() as client:
        cc.pipeline.run(
            study / "samples.csv", study / "panel.csv", out, treatment_key="visit",
            compartment_key="compartment", donor_key="patient",
            definitions=("human_leukocyte", "b_all"), store=out.parent / "store", client=client,
            fcs=False,
        )  # fmt: skip


class Watch(threading.Thread):
    """Adds up the resident memory of a process and its children until it ends: all, and without files."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process, self.trace = psutil.Process(pid), []

    def run(self) -> None:
        start = time.time()
        while self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE:
            total = held = 0
            for process in [self.process, *self.process.children(recursive=True)]:
                try:
                    memory = process.memory_info()
                except psutil.Error:
                    continue
                total += memory.rss
                held += memory.rss - memory.shared
            self.trace.append((time.time() - start, total, held))
            time.sleep(0.2)

    def peaks(self, begin: float = 0.0, end: float = float("inf")) -> dict[str, int]:
        """Return the largest sums in MB between two times."""
        sizes = [sums for when, *sums in self.trace if begin <= when <= end] or [[0, 0]]
        total, held = (round(max(column) / 1e6) for column in zip(*sizes, strict=True))
        return {"peak_mb": total, "peak_mb_without_files": held}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("events", type=int)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    study = asked.folder / "study"
    if asked.inside:
        analyse(study, asked.folder / "run", asked.workers)
        return
    simulate(study, asked.events)
    for old in ("store", "run"):
        subprocess.run(["rm", "-rf", asked.folder / old], check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS")}
    command = [sys.executable, __file__, str(asked.events), "--workers", str(asked.workers)]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--folder", asked.folder, "--inside"], env=environment)
    watch = Watch(process.pid)
    watch.start()
    code = process.wait()
    seconds = time.perf_counter() - start
    if code:
        sys.exit(code)
    facts = json.loads((asked.folder / "run" / "run.json").read_text())
    n_read = sum(row["n_events"] for row in facts["inputs"])
    clock, ends = 0.0, {}
    for row in facts["steps"]:
        begin, clock = clock, clock + row["seconds"]
        ends[row["step"]] = {"seconds": row["seconds"], **watch.peaks(begin, clock + 5)}
    store = sum(p.stat().st_size for p in (asked.folder / "store").rglob("*") if p.is_file())
    found = {
        "date": datetime.now(UTC).date().isoformat(), "events_read": n_read,
        "events_kept": facts["n_events_kept"], "files": len(facts["inputs"]),
        "workers": asked.workers or "threads", "processors": len(os.sched_getaffinity(0)),
        "seconds": round(seconds, 1), **watch.peaks(),
        "store_bytes_per_event": round(store / n_read, 1), "steps": ends,
    }  # fmt: skip
    earlier = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    same = ("events_read", "workers")
    kept = [row for row in earlier if any(row[key] != found[key] for key in same)]
    RESULTS.write_text(json.dumps([*kept, found], indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
