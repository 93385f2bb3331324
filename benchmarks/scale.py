"""Growth of the sketched way with the number of events: seconds and peak memory, against FlowSOM.

    python benchmarks/scale.py [--events 1000000 10000000] [--flowsom PYTHON] [--out FILE]

Each size runs in a process of its own, after a small run that compiles the kernels; peak memory is
of the whole process, events included. `--flowsom` names an interpreter with FlowSOM_Python, which
clusters the first size in the same run (40 metaclusters, its defaults).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

CHANNELS = 20
FLOWSOM = """
import sys, time, warnings
warnings.filterwarnings("ignore")
import anndata, numpy as np, flowsom
adata = anndata.AnnData(np.load(sys.argv[1]))
start = time.perf_counter()
flowsom.FlowSOM(adata, n_clusters=40, cols_to_use=list(range(adata.n_vars)), seed=0)
print("seconds", time.perf_counter() - start)
"""


def populations(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Forty normal populations of log-normal sizes, the last of 0.05 %, made in blocks."""
    rng = np.random.default_rng(1)
    centers = rng.normal(scale=2.0, size=(40, CHANNELS))
    share = rng.lognormal(sigma=1.2, size=40)
    share[-1] = 0.0
    share *= 0.9995 / share.sum()
    share[-1] = 0.0005
    labels = rng.choice(40, size=n, p=share).astype(np.int8)
    X = np.empty((n, CHANNELS), dtype=np.float32)
    for start in range(0, n, 100_000):
        part = labels[start : start + 100_000]
        X[start : start + 100_000] = centers[part] + rng.normal(scale=0.5, size=(len(part), 20))
    return X, labels


def run(X: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    from cytoclust.numerics.layout import embed_landmarks, place_events
    from cytoclust.numerics.leiden import leiden
    from cytoclust.numerics.mapping import measure_reach
    from cytoclust.numerics.sketch import label_events, sketch_events

    rng = np.random.default_rng(0)
    seconds: dict[str, float] = {}
    start, cpu = time.perf_counter(), time.process_time()
    sketch = sketch_events(X, rng=rng)
    labels = label_events(sketch, leiden(sketch.graph, rng=rng))[0]
    measure_reach(X, labels, sketch.prototypes, rng=rng)
    seconds["leiden_sketched"] = round(time.perf_counter() - start, 2)
    seconds["leiden_sketched_cpu"] = round(time.process_time() - cpu, 2)
    seconds["leiden_sketched_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    start = time.perf_counter()
    landmarks, coordinates = embed_landmarks(X, rng=rng)
    place_events(X, landmarks, coordinates, rng=rng)
    seconds["umap_sketched"] = round(time.perf_counter() - start, 2)
    seconds["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return seconds, labels


def measure(n: int) -> dict[str, Any]:
    from sklearn.metrics import adjusted_rand_score

    run(populations(60_000)[0])
    X, truth = populations(n)
    result, labels = run(X)
    rare = truth == 39
    own = np.bincount(labels[rare]).argmax()
    chosen = np.random.default_rng(0).choice(n, size=min(n, 1_000_000), replace=False)
    return {
        "events": n,
        "channels": CHANNELS,
        "matrix_mb": X.nbytes // 2**20,
        **result,
        "ari": round(adjusted_rand_score(truth[chosen], labels[chosen]), 4),
        "rare_recall": round(float((labels[rare] == own).mean()), 4),
        "rare_precision": round(float(rare[labels == own].mean()), 4),
    }


def flowsom_seconds(python: str, n: int) -> float:
    path = Path("/tmp/flowsom_events.npy")
    np.save(path, populations(n)[0])
    try:
        done = subprocess.run(
            [python, "-c", FLOWSOM, str(path)], check=True, capture_output=True, text=True
        )
    finally:
        path.unlink()
    return round(float(done.stdout.split()[-1]), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--flowsom")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    results: dict[str, Any] = {"date": str(date.today()), "sizes": []}
    for n in options.events:
        command = [sys.executable, __file__, "--one", str(n)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results["sizes"].append(json.loads(done.stdout.splitlines()[-1]))
        print(results["sizes"][-1], flush=True)
        if options.flowsom and n == options.events[0]:
            results["flowsom_seconds"] = flowsom_seconds(options.flowsom, n)
            own = results["sizes"][0]["leiden_sketched"]
            results["times_flowsom"] = round(results["flowsom_seconds"] / own, 1)
            print({key: results[key] for key in ("flowsom_seconds", "times_flowsom")}, flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
