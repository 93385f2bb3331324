"""Two workers against one, on what is done by sample and chunk: decoding, transformation, assignment.

    python benchmarks/workers.py --folder /somewhere   # where larger_than_memory.py simulated a study

Each turn starts a LocalCluster of 1 or 2 processes with one thread each, warms it up on a part of the
files, and times: `convert_study` of all files; compensation and arcsinh of every event (read, changed,
added up); the nearest of 4,096 prototypes of every event. The turns alternate; the ratio is of the
medians. Results go to ``results/workers.json``.
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
from pathlib import Path

import numpy as np
import pandas as pd
from distributed import Client, LocalCluster

import cytoclust as cc
from cytoclust import chunks
from cytoclust.numerics.mapping import Assignment, prototype_index

RESULTS = Path(__file__).parent / "results" / "workers.json"
FILES = 120


def total(block: np.ndarray) -> float:
    """Read a block as it is after transformation."""
    return float(block.sum(dtype=np.float64))


def assigned(block: np.ndarray, *, assignment: Assignment) -> np.ndarray:
    """Find each event's prototype."""
    return assignment(block)[0].astype(np.int16)


def turn(sheet: pd.DataFrame, panel: Path, folder: Path, workers: int) -> dict[str, float]:
    """Time every step once."""
    seconds = {}
    store = folder / "workers_store"
    shutil.rmtree(store, ignore_errors=True)
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        for part, name in ((sheet[:4], "warm"), (sheet, "decode")):
            start = time.perf_counter()
            cc.io.convert_study(part, panel, store)
            seconds[name] = time.perf_counter() - start
            adata = cc.io.open_study(store)
            cc.pp.compensate(adata)
            cc.pp.arcsinh(adata, 150.0)
            markers = np.flatnonzero(adata.var["marker_class"] == "type")
            prototypes = chunks.take_rows(
                adata.X, np.arange(0, adata.n_obs, adata.n_obs // 4096)[:4096]
            )
            nearest = partial(
                assigned, assignment=Assignment(prototype_index(prototypes[:, markers]))
            )
            start = time.perf_counter()
            chunks.map_blocks(total, adata.X)
            seconds[name + " transform"] = time.perf_counter() - start
            start = time.perf_counter()
            chunks.map_blocks(nearest, adata.X, columns=markers)
            seconds[name + " assign"] = time.perf_counter() - start
    shutil.rmtree(store)
    return {
        "decoding": seconds["decode"],
        "transformation": seconds["decode transform"],
        "assignment": seconds["decode assign"],
        "events": adata.n_obs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    warnings.simplefilter("ignore", cc.errors.CytoclustWarning)
    study = asked.folder / "study"
    sheet = pd.read_csv(study / "samples.csv", dtype=str)[:FILES]
    sheet["file"] = [str(study / name) for name in sheet["file"]]
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(asked.turns):
        for workers, turns in found.items():
            turns.append(turn(sheet, study / "panel.csv", asked.folder, workers))
            print(workers, turns[-1], flush=True)
    steps = {}
    for step in ("decoding", "transformation", "assignment"):
        one, two = (float(np.median([t[step] for t in found[n]])) for n in (1, 2))
        steps[step] = {
            "one_seconds": round(one, 2),
            "two_seconds": round(two, 2),
            "ratio": round(one / two, 2),
        }
    facts = {
        "date": datetime.now(UTC).date().isoformat(), "files": len(sheet),
        "events": int(found[1][0]["events"]), "processors": len(os.sched_getaffinity(0)), "steps": steps,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
