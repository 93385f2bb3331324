"""Which rule chooses a resolution best, on simulated sets with known populations.

    python benchmarks/resolution_rule.py [--sets 32] [--out results.json]

Each set is a random lineage tree of 5 to 24 populations in 7 to 40 markers, 5,000 to 100,000 events:
children differ from their parent in few or several markers; sizes, spreads and tails are unequal,
some populations lie on the way to their parent, some markers vary in all of them, five donors are
shifted. Every set is sketched, clustered at eleven resolutions and judged in bootstrap samples; a
rule sees the stability only, and is scored by the mean F1 of what it chooses. No gated set of real
events takes part.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from clustering import mean_f1

from cytoclust.numerics.sketch import sketch_events
from cytoclust.numerics.stability import STABLE, bootstrap_weights, partitions, recover

if TYPE_CHECKING:
    from collections.abc import Callable

RESOLUTIONS = [0.1, 0.15, 0.22, 0.33, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.5]
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


def judge(seed: int) -> pd.DataFrame:
    """Return stability and agreement with the truth at each resolution."""
    X, truth = lineage_tree(seed)
    rng = np.random.default_rng(seed)
    edges = sketch_events(X, rng=rng).edges
    labels = partitions(edges.graph(), edges.nearest, RESOLUTIONS, rng=rng)
    weights = bootstrap_weights(len(X), 12, rng=rng)
    rows = []
    for own, found in zip(
        labels, recover(edges, labels, RESOLUTIONS, weights, rng=rng), strict=True
    ):
        jaccard = found.jaccard.mean(axis=1)
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
    return pd.DataFrame(rows, index=RESOLUTIONS)


def finest(column: str, limit: float) -> Callable[[pd.DataFrame], float]:
    def choose(table: pd.DataFrame) -> float:
        enough = table.index[table[column] >= limit]
        return float(enough.max() if len(enough) else table[column].idxmax())

    return choose


def rules() -> dict[str, Callable[[pd.DataFrame], float]]:
    found: dict[str, Callable[[pd.DataFrame], float]] = {
        "best possible": lambda table: float(table["f1"].idxmax()),
        "most stable clusters": lambda table: float(table["number stable"].idxmax()),
        "always 0.5": lambda _: 0.5,
        "always 1": lambda _: 1.0,
        "always 2": lambda _: 2.0,
    }
    for column in (
        "share of clusters stable",
        "mean over events",
        "mean over clusters",
        "adjusted Rand",
    ):
        for limit in (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
            found[f"finest, {column} >= {limit}"] = finest(column, limit)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=32)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    tables = []
    for seed in range(options.sets):
        tables.append(judge(seed))
        print(seed, tables[-1]["f1"].round(2).tolist(), flush=True)
    scores: dict[str, Any] = {}
    for name, choose in rules().items():
        f1 = [float(table["f1"].loc[choose(table)]) for table in tables]
        scores[name] = {"mean_f1": round(np.mean(f1), 3), "lowest": round(min(f1), 3)}
    scores = dict(sorted(scores.items(), key=lambda item: -item[1]["mean_f1"]))
    print(json.dumps(scores, indent=2))
    if options.out:
        options.out.write_text(json.dumps({"sets": options.sets, "rules": scores}, indent=2) + "\n")


if __name__ == "__main__":
    main()
