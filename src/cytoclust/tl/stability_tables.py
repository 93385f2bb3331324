"""Tables of how well clusters are found again, per cluster and per resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from cytoclust.numerics.stability import Recovery


def cluster_rows(ways: list[Recovery]) -> pd.DataFrame:
    """One row per cluster: events, mean Jaccard in each way, and whether all find it again."""
    from cytoclust.numerics.stability import STABLE

    table = pd.DataFrame({"n_events": ways[0].sizes})
    stable = np.ones(len(table), dtype=bool)
    for way, suffix in zip(ways, ("", "_left_out"), strict=False):
        held = ~np.isnan(way.jaccard)
        mean = np.where(held, way.jaccard, 0.0).sum(axis=1) / np.maximum(held.sum(axis=1), 1)
        table[f"jaccard{suffix}"] = mean
        stable &= mean >= STABLE
    table["stable"] = stable
    table.index = table.index.astype(str)
    return table


def resolution_rows(
    clusters: pd.DataFrame, judged: list[list[Recovery]], resolutions: list[float]
) -> pd.DataFrame:
    """One row per resolution: clusters, stable ones, agreement."""
    rows = []
    for i, resolution in enumerate(resolutions):
        own = clusters[clusters["resolution"] == resolution]
        row = {
            "resolution": resolution,
            "n_clusters": len(own),
            "n_stable": int(own["stable"].sum()),
            "share_stable": float(own["stable"].mean()),
        }
        for way, suffix in zip(judged, ("", "_left_out"), strict=False):
            jaccard = own[f"jaccard{suffix}"]
            row[f"jaccard{suffix}"] = float(jaccard.mean())
            row[f"jaccard_events{suffix}"] = float(np.average(jaccard, weights=own["n_events"]))
            row[f"adjusted_rand{suffix}"] = float(way[i].rand.mean())
        rows.append(row)
    return pd.DataFrame(rows)
