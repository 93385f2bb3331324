"""Lineages clustered again on their own markers, and clusters that mix populations taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.checks import listing
from cytoclust.errors import ArgumentError
from cytoclust.numerics.threads import thread_limit
from cytoclust.tl.definitions import load_definitions
from cytoclust.tl.phenotype_evidence import descend
from cytoclust.tl.phenotype_panel import SCATTER, read_panel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from cytoclust.tl.definition_model import Definitions
    from cytoclust.tl.phenotype_panel import Panel

__all__ = ["split_mixed", "subcluster_lineages"]

LINEAGES = ("T cell", "NK cell", "B cell")
FEWEST = 60  # events below which a lineage stays one cluster


def subcluster_lineages(
    adata: AnnData,
    resolution: float = 0.5,
    *,
    lineages: Sequence[str] = LINEAGES,
    n_neighbors: int = 15,
    key_added: str = schema.LINEAGE_CLUSTER,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Cluster the events of each lineage again, on the markers that tell its members apart.

    Parameters
    ----------
    adata
        Events named by `annotate_phenotypes`.
    resolution
        Of modularity, above 0.
    lineages
        Populations of the hierarchy; each is clustered for itself.
    n_neighbors
        Neighbours per event, itself counted.
    key_added
        Column of `obs` to write.
    rng
        Seed of every random choice.
    n_jobs
        Threads; None for all. The result does not depend on it.
    copy
        Return a changed copy instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes

        - ``obs[key_added]``, category: "T cell,0", "T cell,1", ... by falling size; events of no
          lineage have none
        - ``uns["cytoclust"]["subcluster_lineages"]``: DataFrames ``clusters`` (cluster; lineage,
          phenotype = deepest name that more than half of its events have, score, runner_up,
          n_events) and ``markers`` (lineage; the markers used)

    Raises
    ------
    MissingSlotError
        `annotate_phenotypes` was not run.
    ArgumentError
        A lineage is not in the definitions.

    Notes
    -----
    Among all events, the distances between lineages hide those within one: regulatory T cells are
    1 % of lymphocytes and differ from other CD4 T cells in two or three dim markers. Markers are
    those that the rules below the lineage ask for and that have groups there; each is scaled by the
    distance between its groups, so that a dim marker counts as much as a bright one. Lineages of
    more than 50,000 events are clustered through prototypes.

    Examples
    --------
    >>> import anndata as ad, cytoclust as cc, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> profiles = np.repeat([[4.0, 4, 0, 0], [4, 0, 4, 0], [0, 0, 0, 4]], 200, axis=0)
    >>> adata = ad.AnnData((profiles + rng.normal(0, 0.4, (600, 4))).astype(np.float32))
    >>> adata.var["marker"] = ["CD3", "CD4", "CD8", "CD19"]
    >>> cc.tl.annotate_phenotypes(adata, "human_lymphoid", cluster_key=None)
    >>> cc.tl.subcluster_lineages(adata, 0.1)
    >>> sorted(adata.uns["cytoclust"]["subcluster_lineages"]["clusters"]["phenotype"])
    ['B cell', 'CD4 T', 'CD8 T']
    """
    checks.check_positive("resolution", resolution)
    adata = adata.copy() if copy else adata
    record = checks.require_step(adata, schema.ANNOTATE_PHENOTYPES, "tl.annotate_phenotypes")
    definitions = load_definitions([str(name) for name in record["params"]["definitions"]])
    unknown = [name for name in lineages if name not in definitions.populations]
    if unknown:
        msg = (
            f"lineages must be populations of the definitions {listing(definitions.populations)}; "
            f"got {listing(unknown)}."
        )
        raise ArgumentError(msg)
    panel = read_panel(adata, synonyms=definitions.synonyms)
    phenotypes = adata.obs[schema.PHENOTYPE].astype(str)
    labels = np.full(adata.n_obs, None, dtype=object)
    used = {}
    with thread_limit(n_jobs):
        for lineage, child in zip(
            lineages, np.random.default_rng(rng).spawn(len(lineages)), strict=True
        ):
            rows = np.flatnonzero(phenotypes.isin(members(definitions, lineage)))
            scales = own_markers(definitions, record["cutoffs"], panel, lineage=lineage)
            used[lineage] = ", ".join(scales)
            labels[rows] = cluster_rows(
                panel, rows, scales, lineage=lineage, resolution=resolution,
                n_neighbors=n_neighbors, rng=child,
            )  # fmt: skip
    found = sorted(
        {label for label in labels if label is not None},
        key=lambda label: part_order(label, list(lineages)),
    )
    adata.obs[key_added] = pd.Categorical(labels, categories=found)
    checks.record(
        adata,
        schema.SUBCLUSTER_LINEAGES,
        {"resolution": float(resolution), "n_neighbors": n_neighbors, "key_added": key_added},
        clusters=named_clusters(definitions, adata.obs[key_added], phenotypes),
        markers=pd.DataFrame({"markers": pd.Series(used, dtype=object)}),
    )
    return adata if copy else None


def members(definitions: Definitions, name: str) -> list[str]:
    """List a population and all below it."""
    return [
        other
        for other, population in definitions.populations.items()
        if not population.facet and name in definitions.path(other)
    ]


def own_markers(
    definitions: Definitions, cutoffs: pd.DataFrame, panel: Panel, *, lineage: str
) -> dict[str, float]:
    """Markers with groups among the events of a lineage, and the distance between the groups."""
    below = set(members(definitions, lineage))
    table = cutoffs[cutoffs["parent"].isin(below) & cutoffs["informative"].astype(bool)]
    found: dict[str, float] = {}
    for row in table.to_dict("records"):
        marker = str(row["marker"])
        distance = float(row["high_mean"] - row["low_mean"])
        if marker in panel.columns and marker not in SCATTER and distance > 0:
            found[marker] = max(found.get(marker, 0.0), distance)
    return found


def cluster_rows(
    panel: Panel,
    rows: np.ndarray,
    scales: dict[str, float],
    *,
    lineage: str,
    resolution: float,
    n_neighbors: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Labels of the clusters among some events; one cluster where there is nothing to compare."""
    from cytoclust.numerics.sketch import cluster_events

    if len(rows) < FEWEST or not scales:
        return np.array([f"{lineage},0"] * len(rows), dtype=object)
    values = np.column_stack(
        [panel.take(marker, rows) / np.float32(scale) for marker, scale in scales.items()]
    )
    labels = cluster_events(
        np.ascontiguousarray(values, dtype=np.float32), resolution, n_neighbors=n_neighbors, rng=rng
    )
    names = np.array([f"{lineage},{k}" for k in range(int(labels.max()) + 1)], dtype=object)
    return np.asarray(names[labels])


def named_clusters(
    definitions: Definitions, clusters: pd.Series[str], phenotypes: pd.Series[str]
) -> pd.DataFrame:
    """Name clusters by the deepest population that more than half of their events have."""
    crossed = pd.crosstab(clusters, phenotypes)
    rows = {}
    for cluster, counts in crossed.iterrows():
        total = int(counts.sum())
        shares = {str(name): float(n) / total for name, n in counts.items() if n}
        name, score, runner_up = descend(definitions, shares)
        rows[str(cluster)] = {
            "lineage": str(cluster).rsplit(",", 1)[0],
            "phenotype": name,
            "score": score,
            "runner_up": runner_up,
            "n_events": total,
        }
    columns = ["lineage", "phenotype", "score", "runner_up", "n_events"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def split_mixed(
    adata: AnnData,
    resolution: float = 0.5,
    *,
    key_added: str = schema.CLUSTER_SPLIT,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Take clusters that mix populations apart, on the markers that decide between them.

    Parameters
    ----------
    adata
        Events whose clusters were named by `annotate_phenotypes`.
    resolution
        Of modularity, above 0, within each mixed cluster.
    key_added
        Column of `obs` to write.
    rng
        Seed of every random choice.
    n_jobs
        Threads; None for all. The result does not depend on it.
    copy
        Return a changed copy instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes ``obs[key_added]``, category: "3,0", "3,1", ... for the parts of a mixed cluster 3,
        the other clusters as they were; and ``uns["cytoclust"]["split_mixed"]``: DataFrame
        ``clusters`` (part; phenotype, score, runner_up, n_events). `annotate_phenotypes` with
        ``cluster_key=key_added`` names the parts with their evidence.

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
    >>> adata.obs["leiden"] = np.repeat(["0", "1"], [200, 400])
    >>> cc.tl.annotate_phenotypes(adata, "human_lymphoid")
    >>> cc.tl.split_mixed(adata, 0.1)
    >>> adata.obs["cluster_split"].cat.categories.tolist()
    ['0', '1,0', '1,1']
    """
    checks.check_positive("resolution", resolution)
    adata = adata.copy() if copy else adata
    record = checks.require_step(adata, schema.ANNOTATE_PHENOTYPES, "tl.annotate_phenotypes")
    cluster_key = str(record["params"].get("cluster_key", ""))
    checks.check_key(adata, cluster_key, remedy="Run tl.annotate_phenotypes with clusters.")
    definitions = load_definitions([str(name) for name in record["params"]["definitions"]])
    panel = read_panel(adata, synonyms=definitions.synonyms)
    table = record["clusters"]
    mixed = [str(cluster) for cluster in table.index[table["mixed"] != ""]]
    clusters = adata.obs[cluster_key].astype(str).to_numpy()
    labels = clusters.astype(object)
    phenotypes = adata.obs[schema.PHENOTYPE].astype(str)
    with thread_limit(n_jobs):
        for cluster, child in zip(mixed, np.random.default_rng(rng).spawn(len(mixed)), strict=True):
            rows = np.flatnonzero(clusters == cluster)
            scales = telling_markers(panel, rows, phenotypes.to_numpy()[rows])
            labels[rows] = cluster_rows(
                panel, rows, scales, lineage=cluster, resolution=resolution, n_neighbors=15, rng=child
            )  # fmt: skip
    found = pd.Series(labels, index=adata.obs_names)
    order = [str(c) for c in adata.obs[cluster_key].astype("category").cat.categories]
    parts = sorted(found.unique(), key=lambda part: part_order(part, order))
    adata.obs[key_added] = pd.Categorical(found, categories=parts)
    checks.record(
        adata,
        schema.SPLIT_MIXED,
        {"resolution": float(resolution), "cluster_key": cluster_key, "mixed": mixed},
        clusters=named_clusters(definitions, adata.obs[key_added], phenotypes).drop(
            columns="lineage"
        ),
    )
    return adata if copy else None


def part_order(part: str, clusters: Sequence[str]) -> tuple[int, int]:
    """Place of a cluster or of a part of one among all."""
    if part in clusters:
        return clusters.index(part), -1
    cluster, number = part.rsplit(",", 1)
    return clusters.index(cluster), int(number)


def telling_markers(panel: Panel, rows: np.ndarray, names: np.ndarray) -> dict[str, float]:
    """Markers whose medians differ most between the two largest populations, and by how much."""
    counts = pd.Series(names).value_counts()
    first, second = (rows[names == name] for name in counts.index[:2])
    differences = {
        marker: abs(
            float(np.median(panel.take(marker, first)) - np.median(panel.take(marker, second)))
        )
        for marker in panel.columns
        if marker not in SCATTER
    }
    largest = max(differences.values(), default=0.0)
    # scaled by the one largest difference: noise of a marker that tells little stays small
    return {m: largest for m, value in differences.items() if value >= 0.3 * largest > 0}
