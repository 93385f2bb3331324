"""How stable names are: other samples, one marker less, another seed."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.errors import CytoclustWarning
from cytoclust.numerics.threads import thread_limit
from cytoclust.tl.definitions import load_definitions
from cytoclust.tl.phenotype_evidence import descend
from cytoclust.tl.phenotype_panel import read_panel, usable_rows
from cytoclust.tl.phenotype_walk import Walk

if TYPE_CHECKING:
    from anndata import AnnData

    from cytoclust.tl.definition_model import Definitions
    from cytoclust.tl.phenotype_panel import Panel

__all__ = ["name_stability"]


def name_stability(
    adata: AnnData,
    *,
    sample_key: str = schema.SAMPLE,
    n_repeats: int = 3,
    max_events: int = 20_000,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Say how often clusters keep their names when samples, markers or the seed are others.

    Parameters
    ----------
    adata
        Events whose clusters were named by `annotate_phenotypes`.
    sample_key
        Column of ``obs`` with the sample.
    n_repeats
        Random halves of the samples, and seeds.
    max_events
        Events that are annotated each time; the cost is that of ``n_repeats * 2`` plus one
        annotation per marker of this many events.
    rng
        Seed of every random choice.
    n_jobs
        Threads; None for all. The result does not depend on it.
    copy
        Return a changed copy instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Adds columns to ``uns["cytoclust"]["annotate_phenotypes"]["clusters"]``:

        - ``stability_samples``: share of random halves of the samples in which the cluster gets the
          same name
        - ``stability_markers``: share of markers without which it gets the same name, or falls back
          to a population above it; ``sensitive_to`` lists the others
        - ``stability_seed``: share of its events that keep their cluster's name when the events are
          clustered again with another seed

        Shares are NaN for clusters with fewer than 20 of the events.

    Raises
    ------
    MissingSlotError
        `annotate_phenotypes` was not run, or without clusters.

    Examples
    --------
    >>> import anndata as ad, cytoclust as cc, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> profiles = np.repeat([[4.0, 0, 0], [0, 4, 0], [0, 0, 4]], 200, axis=0)
    >>> adata = ad.AnnData((profiles + rng.normal(0, 0.4, (600, 3))).astype(np.float32))
    >>> adata.var["marker"] = ["CD3", "CD19", "CD56"]
    >>> adata.obs["leiden"] = np.repeat(["0", "1", "2"], 200)
    >>> adata.obs["sample"] = np.tile(["a", "b"], 300)
    >>> cc.tl.annotate_phenotypes(adata, "human_lymphoid")
    >>> cc.tl.name_stability(adata, n_repeats=1)
    >>> adata.uns["cytoclust"]["annotate_phenotypes"]["clusters"]["stability_samples"].tolist()
    [1.0, 1.0, 1.0]
    """
    adata = adata.copy() if copy else adata
    record = checks.require_step(adata, schema.ANNOTATE_PHENOTYPES, "tl.annotate_phenotypes")
    cluster_key = str(record["params"].get("cluster_key", ""))
    checks.check_key(adata, cluster_key, remedy="Run tl.annotate_phenotypes with clusters.")
    definitions = load_definitions([str(name) for name in record["params"]["definitions"]])
    panel = read_panel(adata, synonyms=definitions.synonyms).with_axes(definitions.axes)
    seeds = np.random.default_rng(rng).spawn(3)
    rows = usable_rows(adata, panel)
    if len(rows) > max_events:
        rows = np.sort(seeds[0].choice(rows, max_events, replace=False))
    clusters = pooled_labels(adata.obs[cluster_key], panel)
    table = record["clusters"]
    names = table["phenotype"].astype(str).to_dict()
    with thread_limit(n_jobs), warnings.catch_warnings():
        warnings.simplefilter("ignore", CytoclustWarning)
        naming = Naming(definitions, panel, clusters)
        table["stability_samples"] = pd.Series(
            over_samples(
                adata,
                naming,
                rows=rows,
                names=names,
                key=sample_key,
                n_repeats=n_repeats,
                rng=seeds[1],
            )
        )
        kept, sensitive = over_markers(naming, rows, names)
        table["stability_markers"] = pd.Series(kept)
        table["sensitive_to"] = pd.Series(sensitive).reindex(table.index).fillna("")
        table["stability_seed"] = pd.Series(
            over_seeds(naming, rows, names, n_repeats=n_repeats, rng=seeds[2])
        )
    record["params"]["stability_events"] = len(rows)
    return adata if copy else None


FEWEST = 20


def pooled_labels(column: pd.Series[Any], panel: Panel) -> np.ndarray:
    """Return the pooled events' values of a column as text."""
    labels = column if panel.rows is None else column.iloc[panel.rows]
    return np.asarray(labels.astype(str).to_numpy())


class Naming:
    """Names clusters anew, among some events and without some markers."""

    def __init__(self, definitions: Definitions, panel: Panel, clusters: np.ndarray) -> None:
        self.definitions = definitions
        self.panel = panel
        self.clusters = clusters

    def events(self, rows: np.ndarray, *, without: str = "") -> np.ndarray:
        """Name of each of these events."""
        columns = {m: c for m, c in self.panel.columns.items() if m != without}
        panel = self.panel.part(rows, columns).with_axes(self.definitions.axes)
        walk = Walk(
            self.definitions, panel, rows=np.arange(len(rows)), given={}, min_probability=0.5
        )
        walk.run()
        return np.array(walk.names, dtype=object)[walk.codes]

    def of_clusters(self, clusters: np.ndarray, names: np.ndarray) -> dict[str, str]:
        """Name of each cluster with enough events."""
        crossed = pd.crosstab(clusters, names)
        crossed = crossed[crossed.sum(axis=1) >= FEWEST]
        return {
            str(cluster): descend(
                self.definitions,
                {str(n): float(c) / float(counts.sum()) for n, c in counts.items() if c},
            )[0]
            for cluster, counts in crossed.iterrows()
        }


def over_samples(
    adata: AnnData,
    naming: Naming,
    *,
    rows: np.ndarray,
    names: dict[str, str],
    key: str,
    n_repeats: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Share of random halves of the samples in which a cluster keeps its name."""
    if key not in adata.obs:
        return {}
    samples = pooled_labels(adata.obs[key], naming.panel)[rows]
    levels = np.unique(samples)
    if len(levels) < 2:
        return {}
    votes: dict[str, list[bool]] = {}
    for _ in range(n_repeats):
        half = rng.choice(levels, max(len(levels) // 2, 1), replace=False)
        part = rows[np.isin(samples, half)]
        found = naming.of_clusters(naming.clusters[part], naming.events(part))
        for cluster, name in found.items():
            votes.setdefault(cluster, []).append(name == names.get(cluster))
    return {cluster: float(np.mean(kept)) for cluster, kept in votes.items()}


def over_markers(
    naming: Naming, rows: np.ndarray, names: dict[str, str]
) -> tuple[dict[str, float], dict[str, str]]:
    """Share of markers without which a cluster keeps its name or falls back; the others."""
    asked = set(naming.definitions.markers())
    for plus, minus in naming.definitions.axes.values():
        asked |= {*plus, *minus}
    votes: dict[str, list[bool]] = {}
    changed: dict[str, list[str]] = {}
    for marker in [m for m in naming.panel.columns if m in asked]:
        found = naming.of_clusters(naming.clusters[rows], naming.events(rows, without=marker))
        for cluster, name in found.items():
            before = names.get(cluster, schema.UNASSIGNED)
            above = (
                [*naming.definitions.path(before), schema.UNASSIGNED]
                if before in naming.definitions.populations
                else [before]
            )
            votes.setdefault(cluster, []).append(name in above)
            if name not in above:
                changed.setdefault(cluster, []).append(f"{marker} ({name})")
    shares = {cluster: float(np.mean(kept)) for cluster, kept in votes.items()}
    return shares, {cluster: ", ".join(texts) for cluster, texts in changed.items()}


def over_seeds(
    naming: Naming,
    rows: np.ndarray,
    names: dict[str, str],
    *,
    n_repeats: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Share of a cluster's events that keep its name when the events are clustered again."""
    from cytoclust.numerics.sketch import cluster_events

    events = naming.events(rows)
    values = np.column_stack([naming.panel.take(m, rows) for m in naming.panel.columns])
    values = np.ascontiguousarray(values, dtype=np.float32)
    before = naming.clusters[rows]
    wanted = np.array([names.get(cluster, "") for cluster in before], dtype=object)
    kept = np.zeros(len(rows))
    for child in rng.spawn(n_repeats):
        again = cluster_events(values, 1.0, n_neighbors=15, rng=child).astype(str)
        found = naming.of_clusters(again, events)
        kept += np.array([found.get(cluster, "") for cluster in again], dtype=object) == wanted
    shares = pd.Series(kept / n_repeats).groupby(before).agg(["mean", "size"])
    enough = shares[shares["size"] >= FEWEST]
    return {str(cluster): float(share) for cluster, share in enough["mean"].items()}
