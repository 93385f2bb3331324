"""Clustering and embedding: time, memory and quality, each against its peer in the same run.

    python benchmarks/clustering.py --events 100000 --channels 20 [--peers] [--gated FOLDER]

`--peers` adds igraph's Leiden on the same graph; `--gated` scores the gated sets of a folder of
shared data (mean F1 by the protocol of Weber & Robinson 2016) on the exact graph and sketched, over
six seeds. Kernels are compiled before they are timed. Peak memory is of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from cytoclust.numerics.knn import jaccard_graph, nearest_neighbors
from cytoclust.numerics.layout import embed_landmarks, place_events
from cytoclust.numerics.leiden import leiden, modularity
from cytoclust.numerics.leiden_reference import by_igraph
from cytoclust.numerics.sketch import label_events, sketch_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def populations(n: int, d: int, *, n_populations: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Normal populations of log-normal sizes, and one of 0.05 %."""
    rng = np.random.default_rng(1)
    centers = rng.normal(scale=2.0, size=(n_populations, d))
    share = rng.lognormal(sigma=1.2, size=n_populations)
    share[-1] = 0.0
    share *= 0.9995 / share.sum()
    share[-1] = 0.0005
    labels = rng.choice(n_populations, size=n, p=share)
    return (centers[labels] + rng.normal(scale=0.5, size=(n, d))).astype(np.float32), labels


def timed(results: dict[str, Any], name: str, function: Callable[[], Any]) -> Any:
    start, cpu = time.perf_counter(), time.process_time()
    value = function()
    results[name] = {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
    }
    print(name, results[name], flush=True)
    return value


def sketched(X: np.ndarray, results: dict[str, Any], truth: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    sketch = timed(results, "sketch", lambda: sketch_events(X, rng=rng))
    labels = timed(
        results,
        "sketch_leiden",
        lambda: label_events(sketch, leiden(sketch.graph, rng=rng))[0],
    )
    results["sketch_ari"] = adjusted_rand_score(truth, labels)
    landmarks, coordinates = timed(results, "landmarks", lambda: embed_landmarks(X, rng=rng))
    timed(results, "place", lambda: place_events(X, landmarks, coordinates, rng=rng))


def exact(X: np.ndarray, results: dict[str, Any], truth: np.ndarray, *, peers: bool) -> None:
    found = timed(
        results, "neighbors", lambda: nearest_neighbors(X, 14, rng=np.random.default_rng(0))
    )
    results["recall"] = found.recall
    graph = timed(results, "jaccard", lambda: jaccard_graph(found.rows))
    labels = timed(
        results,
        "leiden_2_iterations",
        lambda: leiden(graph, rng=np.random.default_rng(0), n_iterations=2),
    )
    results["exact_ari"] = adjusted_rand_score(truth, labels)
    results["modularity"] = modularity(graph, labels)
    if peers:
        other = timed(
            results, "igraph_2_iterations", lambda: by_igraph(graph, 1.0, n_iterations=2, seed=0)
        )
        results["igraph_modularity"] = modularity(graph, other)


def mean_f1(gates: np.ndarray, clusters: np.ndarray) -> float:
    """Mean F1 over gates, each matched with one cluster; ungated events count for no gate."""
    gated = pd.notna(gates) & (gates != "")
    table = pd.crosstab(gates[gated], clusters[gated]).to_numpy()
    sums = table.sum(axis=0, keepdims=True) + table.sum(axis=1, keepdims=True)
    f1 = 2 * table / sums
    return float(f1[linear_sum_assignment(-f1)].sum() / len(table))


def gated_sets(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    table = pd.read_parquet(folder / "pbmc_cytomem" / "events.parquet")
    markers = [name for name in table if table[name].dtype == "float32"]
    yield "pbmc_cytomem", np.arcsinh(table[markers].to_numpy() / 15), table["label"].to_numpy()
    import flowio

    data = flowio.FlowData(str(folder / "mouse_spleen" / "ff.fcs"))
    values = np.reshape(data.events, (-1, data.channel_count)).astype(np.float32)
    names = [data.channels[i].get("pns", "").strip() for i in sorted(data.channels)]
    kept = [i for i, name in enumerate(names) if name and name not in {"l/d", "GFP"}]
    gates = pd.read_csv(folder / "mouse_spleen" / "labels.csv")["label"].to_numpy()
    yield "mouse_spleen", values[:, kept], gates
    table = pd.read_parquet(folder / "hipc_tcell_yale" / "events.parquet")
    markers = ["CCR7", "CD4", "CD45RA", "CD3", "HLADR", "CD38", "CD8"]
    yield "hipc_tcell_yale", table[markers].to_numpy() / 500, table["label"].to_numpy()


def score_gated(folder: Path, results: dict[str, Any], *, n_seeds: int = 6) -> None:
    for name, X, gates in gated_sets(folder):
        graph = jaccard_graph(nearest_neighbors(X, 14, rng=np.random.default_rng(0)).rows)
        for resolution in (1.0, 2.0):
            scores: dict[str, list[float]] = {"exact": [], "sketched": []}
            for seed in range(n_seeds):
                rng = np.random.default_rng(seed)
                if seed == 0 or len(X) < 50_000:
                    labels = leiden(graph, resolution, rng=rng)
                    scores["exact"].append(mean_f1(gates, labels))
                sketch = sketch_events(X, rng=rng)
                labels = label_events(sketch, leiden(sketch.graph, resolution, rng=rng))[0]
                scores["sketched"].append(mean_f1(gates, labels))
            means = {way: round(float(np.mean(values)), 3) for way, values in scores.items()}
            results[f"mean_f1 {name} resolution {resolution:g}"] = means
            print(name, resolution, means, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--channels", type=int, default=20)
    parser.add_argument("--sketched-only", action="store_true")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--gated", type=Path)
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    options = parser.parse_args()
    small, truth = populations(3000, options.channels)
    ignored: dict[str, Any] = {}
    print("warming up")
    sketched(small, ignored, truth)
    exact(small, ignored, truth, peers=options.peers)
    print(f"{options.events} events x {options.channels} channels, {os.cpu_count()} processors")
    results: dict[str, Any] = {"events": options.events, "channels": options.channels}
    X, truth = populations(options.events, options.channels)
    sketched(X, results, truth)
    if not options.sketched_only:
        exact(X, results, truth, peers=options.peers)
    if options.gated:
        score_gated(options.gated, results)
    print(json.dumps(results, indent=2))
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
