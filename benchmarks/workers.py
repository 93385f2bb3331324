"""Two workers against one, on what is done by sample and chunk: decoding, transformation, assignment.

    python benchmarks/workers.py --folder /somewhere   # where larger_than_memory.py simulated a study

Each turn starts a LocalCluster of 1 or 2 processes with one thread each, warms it up on a part of the
files, and times: `convert_study` of all files; compensation and arcsinh of every event (read, changed,
added up); the nearest of 4,096 prototypes of every event. The turns alternate; the ratio is of the
medians. What the machine gives at best is measured by the same verbs in 1 and 2 processes that know
nothing of each other, each with its share of the files. Results go to ``results/workers.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
import warnings
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from distributed import Client, LocalCluster
from flowio import FlowData

import cytoclust as cc
from cytoclust import chunks
from cytoclust.numerics.mapping import Assignment, prototype_index

RESULTS = Path(__file__).parent / "results" / "workers.json"
STEPS = ("decoding", "transformation", "assignment")


def total(block: np.ndarray) -> float:
    """Read a block as it is after transformation."""
    return float(block.sum(dtype=np.float64))


def assigned(block: np.ndarray, *, assignment: Assignment) -> np.ndarray:
    """Find each event's prototype."""
    return assignment(block)[0].astype(np.int16)


def timed_steps(sheet: pd.DataFrame, panel: Path, store: Path) -> dict[str, float]:
    """Time every step once, after a warm-up on four files."""
    seconds = {}
    shutil.rmtree(store, ignore_errors=True)
    for part, found in ((sheet[:4], {}), (sheet, seconds)):
        start = time.perf_counter()
        cc.io.convert_study(part, panel, store)
        found["decoding"] = time.perf_counter() - start
        adata = cc.io.open_study(store)
        cc.pp.compensate(adata)
        cc.pp.arcsinh(adata, 150.0)
        markers = np.flatnonzero(adata.var["marker_class"] == "type")
        rows = np.arange(0, adata.n_obs, adata.n_obs // 4096)[:4096]
        prototypes = chunks.take_rows(adata.X, rows)[:, markers]
        nearest = partial(assigned, assignment=Assignment(prototype_index(prototypes)))
        start = time.perf_counter()
        chunks.map_blocks(total, adata.X)
        found["transformation"] = time.perf_counter() - start
        start = time.perf_counter()
        chunks.map_blocks(nearest, adata.X, columns=markers)
        found["assignment"] = time.perf_counter() - start
    shutil.rmtree(store)
    return seconds


def on_cluster(sheet: pd.DataFrame, panel: Path, folder: Path, workers: int) -> dict[str, float]:
    """Time the steps on a LocalCluster."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        return timed_steps(sheet, panel, folder / "workers_store")


def apart(sheet: pd.DataFrame, panel: Path, folder: Path, workers: int) -> dict[str, float]:
    """Time the steps in processes without a cluster; the slowest counts."""
    given = [(sheet[i::workers], panel, folder / f"apart_{i}") for i in range(workers)]
    os.environ["NUMBA_NUM_THREADS"] = "1"  # and so one thread for blocks
    try:
        with get_context("spawn").Pool(workers) as pool:
            found = pool.starmap(timed_steps, given, chunksize=1)
    finally:
        del os.environ["NUMBA_NUM_THREADS"]
    return {step: max(seconds[step] for seconds in found) for step in STEPS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    warnings.simplefilter("ignore", cc.errors.CytoclustWarning)
    study = asked.folder / "study"
    sheet = pd.read_csv(study / "samples.csv", dtype=str)
    sheet["file"] = [str(study / name) for name in sheet["file"]]
    n_events = sum(FlowData(name, only_text=True).event_count for name in sheet["file"])
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(asked.turns):
        for way in (on_cluster, apart):
            for workers in (1, 2):
                seconds = way(sheet, study / "panel.csv", asked.folder, workers)
                found.setdefault((way.__name__, workers), []).append(seconds)
                print(way.__name__, workers, seconds, flush=True)
    steps = {}
    for step in STEPS:
        middle = {key: float(np.median([t[step] for t in turns])) for key, turns in found.items()}
        steps[step] = {
            "one_worker_seconds": round(middle["on_cluster", 1], 2),
            "two_workers_seconds": round(middle["on_cluster", 2], 2),
            "ratio": round(middle["on_cluster", 1] / middle["on_cluster", 2], 2),
            "ratio_of_processes_apart": round(middle["apart", 1] / middle["apart", 2], 2),
        }
    facts = {
        "date": datetime.now(UTC).date().isoformat(), "files": len(sheet), "events": n_events,
        "processors": len(os.sched_getaffinity(0)), "steps": steps,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
