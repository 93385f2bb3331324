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
PROTOTYPES = 2048  # of a large lineage; it has a part of the markers and of the populations of all


def subcluster_lineages(
    adata: AnnData,
    resolution: float = 0.7,
    *,
    lineages: Sequence[str] | None = None,
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
        Populations of the hierarchy, each clustered for itself; by default T, NK and B cells, those
        of them that the definitions have.
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
    distance between its groups, so that a dim marker counts as much as a bright one. A lineage with
    one such marker is cut where its groups part, as no graph is needed for that. Lineages of more
    than 50,000 events are clustered through 2,048 prototypes.

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
    lineages = chosen_lineages(definitions, lineages)
    panel = read_panel(adata, synonyms=definitions.synonyms)
    phenotypes = adata.obs[schema.PHENOTYPE].astype("category")
    codes = np.full(adata.n_obs, -1, dtype=np.int32)
    found: list[str] = []
    used = {}
    with thread_limit(n_jobs):
        for lineage, child in zip(
            lineages, np.random.default_rng(rng).spawn(len(lineages)), strict=True
        ):
            rows = events_named(phenotypes, members(definitions, lineage))
            table = own_cutoffs(definitions, record["cutoffs"], panel, lineage=lineage)
            distances = table.groupby("marker", sort=False)["distance"].max()
            scales = {str(marker): float(value) for marker, value in distances.items()}
            used[lineage] = ", ".join(scales)
            parts = (
                cut_rows(panel, rows, table)
                if len(scales) == 1
                else cluster_rows(
                    panel, rows, scales, resolution=resolution, n_neighbors=n_neighbors, rng=child
                )
            )
            codes[rows] = len(found) + parts
            found += [f"{lineage},{k}" for k in range(int(parts.max(initial=-1)) + 1)]
    adata.obs[key_added] = pd.Categorical.from_codes(codes, categories=pd.Index(found))
    checks.record(
        adata,
        schema.SUBCLUSTER_LINEAGES,
        {
            "resolution": float(resolution),
            "n_neighbors": n_neighbors,
            "key_added": key_added,
            "lineages": list(lineages),
        },
        clusters=named_clusters(definitions, adata.obs[key_added], phenotypes),
        markers=pd.DataFrame({"markers": pd.Series(used, dtype=object)}),
    )
    return adata if copy else None


def chosen_lineages(definitions: Definitions, lineages: Sequence[str] | None) -> Sequence[str]:
    """Lineages asked for, all of which the definitions must have, or the usual ones that they have."""
    if lineages is None:
        return [name for name in LINEAGES if name in definitions.populations]
    unknown = [name for name in lineages if name not in definitions.populations]
    if unknown:
        msg = (
            f"lineages must be populations of the definitions {listing(definitions.populations)}; "
            f"got {listing(unknown)}."
        )
        raise ArgumentError(msg)
    return lineages


def members(definitions: Definitions, name: str) -> list[str]:
    """List a population and all below it."""
    return [
        other
        for other, population in definitions.populations.items()
        if not population.facet and name in definitions.path(other)
    ]


def events_named(phenotypes: pd.Series[str], names: Sequence[str]) -> np.ndarray:
    """Rows of the events that have one of some names."""
    wanted = np.append(phenotypes.cat.categories.isin(names), [False])  # no name: the last, -1
    return np.flatnonzero(wanted[phenotypes.cat.codes.to_numpy()])


def own_cutoffs(
    definitions: Definitions, cutoffs: pd.DataFrame, panel: Panel, *, lineage: str
) -> pd.DataFrame:
    """Cut-offs of markers with groups among the events of a lineage, and the groups' distance."""
    if not len(cutoffs):  # nothing was divided, and the table has no columns
        return pd.DataFrame({"marker": [], "distance": []})
    stained = [marker for marker in panel.columns if marker not in SCATTER]
    table = cutoffs.assign(distance=cutoffs["high_mean"] - cutoffs["low_mean"])
    keep = table["parent"].isin(members(definitions, lineage)) & table["informative"].astype(bool)
    return table[keep & table["marker"].isin(stained) & (table["distance"] > 0)]


def cut_rows(panel: Panel, rows: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """Cut some events into groups along one marker, numbered by falling size."""
    cuts = np.unique(table["cut_positive"].to_numpy(dtype=np.float64))
    groups = np.searchsorted(cuts, panel.take(str(table["marker"].iloc[0]), rows), side="right")
    sizes = np.bincount(groups, minlength=len(cuts) + 1)
    ranks = np.argsort(np.argsort(-sizes, kind="stable"))
    return np.asarray(ranks[groups], dtype=np.int32)


def cluster_rows(
    panel: Panel,
    rows: np.ndarray,
    scales: dict[str, float],
    *,
    resolution: float,
    n_neighbors: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Clusters among some events, by falling size; one where there is nothing to compare."""
    from cytoclust.numerics.leiden import leiden
    from cytoclust.numerics.sketch import EXACT_EVENTS, cluster_events, label_events, sketch_events

    if len(rows) < FEWEST or not scales:
        return np.zeros(len(rows), dtype=np.int32)
    values = np.column_stack(
        [panel.take(marker, rows) / np.float32(scale) for marker, scale in scales.items()]
    ).astype(np.float32, copy=False)
    if len(rows) <= EXACT_EVENTS:
        return cluster_events(values, resolution, n_neighbors=n_neighbors, rng=rng)
    sketch = sketch_events(values, n_prototypes=PROTOTYPES, n_neighbors=n_neighbors, rng=rng)
    return label_events(sketch, leiden(sketch.graph, resolution, rng=rng))[0]


def named_clusters(
    definitions: Definitions, clusters: pd.Series[str], phenotypes: pd.Series[str]
) -> pd.DataFrame:
    """Name clusters by the deepest population that more than half of their events have."""
    names = phenotypes.cat.categories.astype(str)
    own = clusters.cat.codes.to_numpy().astype(np.int64)
    codes = phenotypes.cat.codes.to_numpy()
    keep = (own >= 0) & (codes >= 0)
    n_clusters = len(clusters.cat.categories)
    crossed = np.bincount(own[keep] * len(names) + codes[keep], minlength=n_clusters * len(names))
    rows = {}
    for cluster, counts in zip(
        clusters.cat.categories.astype(str), crossed.reshape(n_clusters, len(names)), strict=True
    ):
        total = max(int(counts.sum()), 1)
        shares = {n: float(c) / total for n, c in zip(names, counts, strict=True) if c}
        name, score, runner_up = descend(definitions, shares)
        rows[cluster] = {
            "lineage": cluster.rsplit(",", 1)[0],
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
    clusters = adata.obs[cluster_key].astype("category").cat
    phenotypes = adata.obs[schema.PHENOTYPE].astype("category")
    own = clusters.codes.to_numpy()
    codes = np.full(adata.n_obs, -1, dtype=np.int32)
    found: list[str] = []
    children = iter(np.random.default_rng(rng).spawn(len(mixed)))
    with thread_limit(n_jobs):
        for number, cluster in enumerate(clusters.categories.astype(str)):
            rows = np.flatnonzero(own == number)
            if not len(rows):
                continue
            if cluster not in mixed:
                codes[rows] = len(found)
                found.append(cluster)
                continue
            scales = telling_markers(panel, rows, phenotypes.iloc[rows])
            parts = cluster_rows(
                panel, rows, scales, resolution=resolution, n_neighbors=15, rng=next(children)
            )
            codes[rows] = len(found) + parts
            found += [f"{cluster},{k}" for k in range(int(parts.max(initial=-1)) + 1)]
    adata.obs[key_added] = pd.Categorical.from_codes(codes, categories=pd.Index(found))
    checks.record(
        adata,
        schema.SPLIT_MIXED,
        {"resolution": float(resolution), "cluster_key": cluster_key, "mixed": mixed},
        clusters=named_clusters(definitions, adata.obs[key_added], phenotypes).drop(
            columns="lineage"
        ),
    )
    return adata if copy else None


def telling_markers(panel: Panel, rows: np.ndarray, names: pd.Series[str]) -> dict[str, float]:
    """Markers whose medians differ most between the two largest populations, and by how much."""
    first, second = (rows[names == name] for name in names.value_counts().index[:2])
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
