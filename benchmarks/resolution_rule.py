"""Which rule chooses a resolution best, and how it is carried to another graph, on simulated sets.

    python benchmarks/resolution_rule.py [--sets 32] [--first 0] [--out results.json]

Each set is a random lineage tree of 5 to 24 populations in 7 to 40 markers, 5,000 to 100,000 events:
children differ from their parent in few or several markers; sizes, spreads and tails are unequal,
some populations lie on the way to their parent, some markers vary in all of them, five donors are
shifted. The graph of all events, of up to 30,000 drawn ones, and the sketch of all are clustered at
the resolutions of `tl.scan_resolutions` and judged in bootstrap samples; a rule sees the stability
only, and is scored by the mean F1 of what it chooses. `carried` scores the sketch of all events at
what the drawn events' graph chose: at the same resolution, and at the one where the clusters chosen
find their best matches. No gated set of real events takes part.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from clustering import mean_f1

from cytoclust.numerics.knn import jaccard_graph, nearest_neighbors
from cytoclust.numerics.sketch import sketch_events
from cytoclust.numerics.stability import (
    STABLE,
    bootstrap_weights,
    choose,
    event_edges,
    match_partition,
    partitions,
    recover,
)
from cytoclust.tl import resolution

if TYPE_CHECKING:
    from collections.abc import Callable

    from cytoclust.numerics.sketch import Edges

RESOLUTIONS = list(resolution.RESOLUTIONS)
DRAWN_EVENTS = 30_000  # of more, as many are drawn for the exact graph, to spare time
LEVELS = (0.3, 1.4, 2.5, 4.0)


def lineage_tree(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return events x markers and each event's population."""
    rng = np.random.default_rng(1000 + seed)
    d = int(rng.integers(7, 41))
    n = int(10 ** rng.uniform(3.7, 5.0))
    n_leaves = int(rng.integers(5, 25))
    profiles = [rng.choice([0.3, 2.5, 4.0], size=d, p=[0.6, 0.2, 0.2])]
    parents = [-1]
    while len(profiles) < n_leaves:
        parent = int(rng.integers(len(profiles)))
        child = profiles[parent].copy()
        n_changed = int(rng.integers(1, 4)) if rng.random() < 0.6 else int(rng.integers(3, 7))
        for marker in rng.choice(d, size=min(d, n_changed), replace=False):
            child[marker] = rng.choice([v for v in LEVELS if abs(v - child[marker]) > 0.9])
        profiles.append(child)
        parents.append(parent)
    centers = np.array(profiles)
    share = rng.lognormal(sigma=rng.uniform(0.6, 1.6), size=n_leaves)
    labels = rng.choice(n_leaves, size=n, p=share / share.sum())
    spread = rng.uniform(0.25, 0.6, size=(n_leaves, 1)) * rng.uniform(0.6, 1.6, size=(1, d))
    X = centers[labels].astype(float)
    for leaf in range(1, n_leaves):
        if rng.random() < 0.35:
            own = np.flatnonzero(labels == leaf)
            own = own[rng.random(len(own)) < rng.uniform(0.1, 0.5)]
            X[own] += rng.random((len(own), 1)) * 0.5 * (centers[parents[leaf]] - centers[leaf])
    for _ in range(int(rng.integers(0, 3))):
        common = np.zeros(d)
        common[rng.choice(d, size=min(d, 3), replace=False)] = rng.uniform(0.3, 1.0)
        X += rng.normal(size=(n, 1)) * common
    heavy = rng.random() < 0.5
    X += (rng.standard_t(6, size=X.shape) if heavy else rng.normal(size=X.shape)) * spread[labels]
    donors = rng.integers(0, 5, size=n)
    X += rng.normal(scale=rng.uniform(0, 0.15), size=(5, d))[donors]
    return X.astype(np.float32), np.array([f"p{label}" for label in labels])


def judge(seed: int) -> dict[str, Any]:
    """Return stability and agreement with the truth at each resolution, per graph."""
    X, truth = lineage_tree(seed)
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(len(X), min(len(X), DRAWN_EVENTS), replace=False))
    found = nearest_neighbors(X[drawn], 14, rng=rng)
    edges = event_edges(jaccard_graph(found.rows))
    sketch = sketch_events(X, rng=rng)
    exact, clusters = stabilities(edges, truth[drawn], rng)
    chosen = choose(RESOLUTIONS, exact["share of clusters stable"].tolist())
    wanted = clusters[RESOLUTIONS.index(chosen)]
    matched = match_partition(sketch.graph, sketch.nearest[drawn], wanted, start=chosen)
    labels = partitions(sketch.graph, sketch.nearest, [chosen, matched], rng=rng)
    return {
        "events": len(X),
        "exact": exact,
        "sketch": stabilities(sketch.edges, truth, rng)[0],
        "carried": {
            "drawn events, chosen": float(exact["f1"].loc[chosen]),
            "sketch, same resolution": mean_f1(truth, labels[0]),
            "sketch, best matches": mean_f1(truth, labels[1]),
        },
    }


def stabilities(
    edges: Edges, truth: np.ndarray, rng: np.random.Generator
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    labels = partitions(edges.graph(), edges.nearest, RESOLUTIONS, rng=rng)
    weights = bootstrap_weights(len(truth), 10, rng=rng)
    rows = []
    for own, found in zip(
        labels, recover(edges, labels, RESOLUTIONS, weights, rng=rng), strict=True
    ):
        jaccard = np.nan_to_num(found.jaccard).mean(axis=1)
        rows.append(
            {
                "f1": mean_f1(truth, own),
                "share of clusters stable": (jaccard >= STABLE).mean(),
                "mean over events": np.average(jaccard, weights=found.sizes),
                "mean over clusters": jaccard.mean(),
                "adjusted Rand": found.rand.mean(),
                "number stable": (jaccard >= STABLE).sum(),
            }
        )
    return pd.DataFrame(rows, index=RESOLUTIONS), labels


def finest(column: str, limit: float) -> Callable[[pd.DataFrame], float]:
    def rule(table: pd.DataFrame) -> float:
        enough = table.index[table[column] >= limit - 1e-3]
        return float(enough.max() if len(enough) else table[column].idxmax())

    return rule


def rules() -> dict[str, Callable[[pd.DataFrame], float]]:
    found: dict[str, Callable[[pd.DataFrame], float]] = {
        "best possible": lambda table: float(table["f1"].idxmax()),
        "most stable clusters": lambda table: float(table["number stable"].idxmax()),
        "always 0.6": lambda _: 0.6,
        "always 1": lambda _: 1.0,
        "always 2": lambda _: 2.0,
    }
    for column in (
        "share of clusters stable",
        "mean over events",
        "mean over clusters",
        "adjusted Rand",
    ):
        for limit in (0.5, 0.6, 0.667, 0.7, 0.75, 0.8, 0.85, 0.9):
            found[f"finest, {column} >= {limit}"] = finest(column, limit)
    return found


def score(tables: list[pd.DataFrame]) -> dict[str, dict[str, float]]:
    scores = {}
    for name, rule in rules().items():
        f1 = [float(table["f1"].loc[rule(table)]) for table in tables]
        scores[name] = {"mean_f1": round(float(np.mean(f1)), 3), "lowest": round(min(f1), 3)}
    return dict(sorted(scores.items(), key=lambda item: -item[1]["mean_f1"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=32)
    parser.add_argument("--first", type=int, default=0, help="seed of the first set")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    judged = []
    for seed in range(options.first, options.first + options.sets):
        judged.append(judge(seed))
        print(seed, judged[-1]["events"], judged[-1]["carried"], flush=True)
    carried = pd.DataFrame([one["carried"] for one in judged])
    results = {
        "cytoclust": version("cytoclust"),
        "sets": options.sets,
        "first": options.first,
        "rules, graph of drawn events": score([one["exact"] for one in judged]),
        "rules, sketch": score([one["sketch"] for one in judged]),
        "carried": carried.mean().round(3).to_dict(),
        "lowest against drawn": (carried.sub(carried.iloc[:, 0], axis=0)).min().round(3).to_dict(),
    }
    print(json.dumps(results, indent=2))
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
