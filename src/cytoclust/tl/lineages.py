"""Lineages clustered again on their own markers, and clusters that mix populations taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.checks import listing
from cytoclust.errors import ArgumentError
from cytoclust.event_arrays import category_column, event_arrays, put_column
from cytoclust.numerics.threads import thread_limit
from cytoclust.tl.definitions import load_definitions
from cytoclust.tl.lineage_parts import Cuts, Nearest, cluster_pool, part_events
from cytoclust.tl.phenotype_evidence import cross_codes, descend
from cytoclust.tl.phenotype_panel import SCATTER, read_panel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from cytoclust.event_arrays import EventArrays
    from cytoclust.tl.definition_model import Definitions
    from cytoclust.tl.phenotype_panel import Panel

__all__ = ["split_mixed", "subcluster_lineages"]

LINEAGES = ("T cell", "NK cell", "B cell")


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
    than 50,000 events are clustered through 2,048 prototypes. Of more than a million events, a million
    evenly spaced ones are clustered, and every other goes to the cluster of its nearest prototype.

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
    phenotypes = category_column(adata, schema.PHENOTYPE)
    arrays = event_arrays(adata)
    below = [members(definitions, lineage) for lineage in lineages]
    groups = lineage_of(phenotypes, below, arrays)
    in_pool = panel.pooled(groups)
    pooled: list[np.ndarray] = []
    models: list[Cuts | Nearest] = []
    used = {}
    with thread_limit(n_jobs):
        for number, child in enumerate(np.random.default_rng(rng).spawn(len(lineages))):
            rows = np.flatnonzero(in_pool == number)
            table = own_cutoffs(definitions, record["cutoffs"], panel, lineage=lineages[number])
            distances = table.groupby("marker", sort=False)["distance"].max()
            scales = {str(marker): float(value) for marker, value in distances.items()}
            used[lineages[number]] = ", ".join(scales)
            if len(scales) == 1:
                model: Cuts | Nearest = Cuts(
                    next(iter(scales)), np.unique(table["cut_positive"].to_numpy(dtype=np.float64))
                )
                parts = model(panel, rows)
            else:
                parts, model = cluster_pool(
                    panel, rows, scales, resolution=resolution, n_neighbors=n_neighbors, rng=child
                )
            pooled.append(parts)
            models.append(model)
        parts, sizes = part_events(panel, groups, pooled=pooled, models=models, arrays=arrays)
    found = [f"{name},{k}" for name, size in zip(lineages, sizes, strict=True) for k in range(size)]
    codes = numbered(groups, parts, sizes, arrays=arrays)
    put_column(adata, key_added, pd.Categorical.from_codes(codes, categories=pd.Index(found)))
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


def lineage_of(
    phenotypes: pd.Series[str], lineages: Sequence[Sequence[str]], arrays: EventArrays
) -> np.ndarray:
    """Position of each event's lineage, the last that has its name; -1 for none; int8."""
    names = phenotypes.cat.categories
    found = np.full(len(names) + 1, -1, dtype=np.int8)  # no name: the last, -1
    for number, members_of in enumerate(lineages):
        found[:-1][names.isin(members_of)] = number
    return arrays.mapped(lambda part: found[part], phenotypes.cat.codes.to_numpy(), dtype=np.int8)


def numbered(
    groups: np.ndarray, parts: np.ndarray, sizes: Sequence[int], *, arrays: EventArrays
) -> np.ndarray:
    """Count the parts of all groups in a row; -1 for events of no group."""
    smallest = np.min_scalar_type(-max(sum(sizes), 1))
    offsets = np.append(np.cumsum([0, *sizes])[:-1], 0).astype(smallest)  # no group: the last, -1

    def count(group: np.ndarray, part: np.ndarray) -> np.ndarray:
        return np.where(group < 0, smallest.type(-1), offsets[group] + part.astype(smallest))

    return arrays.mapped(count, groups, parts, dtype=smallest)


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


def named_clusters(
    definitions: Definitions, clusters: pd.Series[str], phenotypes: pd.Series[str]
) -> pd.DataFrame:
    """Name clusters by the deepest population that more than half of their events have."""
    names = phenotypes.cat.categories.astype(str)
    crossed = cross_codes(clusters, phenotypes)
    rows = {}
    for cluster, counts in zip(clusters.cat.categories.astype(str), crossed, strict=True):
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
    column = category_column(adata, cluster_key)
    phenotypes = category_column(adata, schema.PHENOTYPE)
    arrays = event_arrays(adata)
    levels = column.cat.categories.astype(str).tolist()
    groups = column.cat.codes.to_numpy()
    in_pool = panel.pooled(groups)
    names = panel.pooled(phenotypes.cat.codes.to_numpy())
    pooled: list[np.ndarray] = []
    models: list[Cuts | Nearest] = []
    children = iter(np.random.default_rng(rng).spawn(len(mixed)))
    with thread_limit(n_jobs):
        for number, cluster in enumerate(levels):
            rows = np.flatnonzero(in_pool == number)
            parts = np.zeros(len(rows), dtype=np.int32)
            model: Cuts | Nearest = Cuts()
            if cluster in mixed and len(rows):
                scales = telling_markers(panel, rows, names[rows])
                parts, model = cluster_pool(
                    panel, rows, scales, resolution=resolution, n_neighbors=15, rng=next(children)
                )
            pooled.append(parts)
            models.append(model)
        parts, sizes = part_events(panel, groups, pooled=pooled, models=models, arrays=arrays)
    found = [
        f"{cluster},{k}" if cluster in mixed else cluster
        for cluster, size in zip(levels, sizes, strict=True)
        for k in range(size)
    ]
    codes = numbered(groups, parts, sizes, arrays=arrays)
    put_column(adata, key_added, pd.Categorical.from_codes(codes, categories=pd.Index(found)))
    checks.record(
        adata,
        schema.SPLIT_MIXED,
        {"resolution": float(resolution), "cluster_key": cluster_key, "mixed": mixed},
        clusters=named_clusters(definitions, adata.obs[key_added], phenotypes).drop(
            columns="lineage"
        ),
    )
    return adata if copy else None


def telling_markers(panel: Panel, rows: np.ndarray, names: np.ndarray) -> dict[str, float]:
    """Markers whose medians differ most between the two largest populations, and by how much.

    `names` are the events' populations as codes; of one population alone no marker tells.
    """
    largest_two = pd.Series(names).value_counts().index[:2]
    if len(largest_two) < 2:
        return {}
    first, second = (rows[names == code] for code in largest_two)
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
