"""Which resolution, and which clusters, the data would give again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, chunks, schema
from cytoclust.errors import ArgumentError
from cytoclust.event_arrays import used_categories
from cytoclust.progress import progress_bar
from cytoclust.tl.clustering import check_enough, check_neighbors, step_name
from cytoclust.tl.pooling import pool_matrix
from cytoclust.tl.stability_tables import cluster_rows, resolution_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from cytoclust.numerics.sketch import Edges
    from cytoclust.numerics.stability import Recovery

__all__ = ["cluster_stability", "scan_resolutions"]

RESOLUTIONS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0)


def scan_resolutions(  # noqa: PLR0913, the options of a public verb
    adata: AnnData,
    resolutions: Sequence[float] | None = None,
    *,
    n_replicates: int = 10,
    leave_out_key: str | None = None,
    n_neighbors: int = 15,
    markers: Sequence[str] | None = None,
    use_rep: str | None = None,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    progress: bool = False,
    copy: bool = False,
) -> AnnData | None:
    """Find the finest resolution whose clusters the data would give again.

    Parameters
    ----------
    adata
        Events; `X` transformed. No neighbour graph is needed.
    resolutions
        Of modularity, each above 0; by default twelve from 0.1 to 4.
    n_replicates
        Bootstrap samples of the events.
    leave_out_key
        Column of `obs` (patient or sample): its values are left out one after the other, too.
    n_neighbors
        Neighbours per event, itself counted.
    markers
        Markers or channels to compare; by default those with ``var["marker_class"] == "type"``.
    use_rep
        Slot of `obsm` to compare instead of markers, or "X" for all channels.
    rng
        Seed of prototypes, replicates and visiting orders.
    n_jobs
        Threads; None takes all processors. The result does not depend on it.
    progress
        Show a progress bar on standard error.
    copy
        Return a changed copy and leave `adata` as it is.

    Returns
    -------
    None, or a copy with this slot written:

    ``uns["cytoclust"]["scan_resolutions"]``
        ``params``, with the ``resolution`` and ``n_clusters`` chosen; ``table``, one row per resolution: n_clusters,
        n_stable, share_stable, jaccard (mean over clusters), jaccard_events (mean over events),
        adjusted_rand, chosen; ``clusters``, one row per resolution and cluster: n_events, jaccard
        (mean over bootstrap samples), stable. With `leave_out_key` both add ``*_left_out``, and a
        stable cluster is so in both ways. ``labels`` int32, each pooled event's cluster at
        the resolution chosen.

    Raises
    ------
    ArgumentError
        A resolution that is not above 0, fewer than 2 replicates or values to leave out, no
        markers, NaN or infinite values.
    MissingSlotError
        ``obs[leave_out_key]`` is not there.

    Notes
    -----
    Up to 50,000 events are scanned on the graph of all events, more on that of prototypes
    (`leiden_sketched`); it is made once. In a bootstrap sample each event counts as often as it is
    drawn, and so do its edges; every sample is clustered at every resolution (two iterations), and
    each cluster is compared with its best match there by Jaccard's index of their events. From a mean
    of 0.75 a cluster is stable [1]_. Chosen is the finest resolution at which at least three quarters
    of the clusters are stable; if there is none, the one with the largest share.
    ``tl.leiden(adata, resolution=None)`` and ``tl.leiden_sketched`` take it; on the graph that was
    not scanned they take the resolution at which the clusters chosen find their best matches. Both
    numbers, 0.75, are the usual ones for Jaccard's index; how rules of this kind do on simulated
    lineages stands in benchmarks/README.md. Linear in events; about 60 bytes per event above 50,000 events.
    Above a million events a million evenly spaced ones are scanned, in memory or read by Dask.

    References
    ----------
    .. [1] Hennig (2007), Cluster-wise assessment of cluster stability,
       https://doi.org/10.1016/j.csda.2006.11.025

    Examples
    --------
    >>> import anndata as ad, cytoclust as cc, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(900, 3)) + 9 * (np.arange(900) % 3)[:, None]
    >>> adata = ad.AnnData(X.astype("float32"))
    >>> cc.tl.scan_resolutions(adata, [0.02, 0.1, 4.0], n_replicates=5, use_rep="X")
    >>> cc.tl.leiden_sketched(adata, resolution=None, use_rep="X")
    >>> adata.obs["leiden"].nunique()
    3
    """
    from cytoclust.numerics.sketch import EXACT_EVENTS
    from cytoclust.numerics.stability import choose, partitions
    from cytoclust.numerics.threads import thread_limit

    wanted = _check_resolutions(RESOLUTIONS if resolutions is None else resolutions)
    _check_counts(n_replicates, n_neighbors)
    groups = None if leave_out_key is None else _groups(adata, leave_out_key)
    pool = pool_matrix(adata, markers, use_rep=use_rep)
    X, names = pool.X, pool.names
    check_enough(len(X))
    generator = np.random.default_rng(rng)
    with thread_limit(n_jobs):
        exact = len(X) <= EXACT_EVENTS
        edges = _edges(X, n_neighbors, exact=exact, rng=generator)
        labels = partitions(edges.graph(), edges.nearest, wanted, rng=generator)
        judged = _replicate(
            edges, labels, wanted, n_replicates=n_replicates, groups=groups, rng=generator,
            progress=progress,
        )  # fmt: skip
    clusters = pd.concat(
        [
            cluster_rows([way[i] for way in judged]).assign(resolution=resolution)
            for i, resolution in enumerate(wanted)
        ]
    )
    clusters = clusters.rename_axis("cluster").reset_index()
    table = resolution_rows(clusters, judged, wanted)
    chosen = choose(wanted, table["share_stable"].tolist())
    table["chosen"] = table["resolution"] == chosen
    for frame in (table, clusters):
        frame.index = frame.index.astype(str)
    adata = adata.copy() if copy else adata
    params = {
        "resolution": chosen,
        "n_clusters": int(table["n_clusters"][table["chosen"]].iloc[0]),
        "n_events": adata.n_obs,
        "n_events_pooled": len(X),
        "clustering": "exact" if exact else "sketched",
        "n_replicates": n_replicates,
        "leave_out_key": leave_out_key,
        "n_neighbors": n_neighbors,
        "markers": names,
        "use_rep": use_rep,
        "rng": rng if isinstance(rng, int) else None,
    }
    checks.record(
        adata,
        schema.SCAN_RESOLUTIONS,
        params,
        table=table,
        clusters=clusters,
        labels=labels[wanted.index(chosen)],
    )
    return adata if copy else None


def cluster_stability(
    adata: AnnData,
    *,
    cluster_key: str = schema.LEIDEN,
    n_replicates: int = 10,
    leave_out_key: str | None = None,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    progress: bool = False,
    copy: bool = False,
) -> AnnData | None:
    """Say of each cluster how well the data would give it again.

    Parameters
    ----------
    adata
        Events clustered by `leiden` or `leiden_sketched`.
    cluster_key
        Column of `obs` with the clusters.
    n_replicates
        Bootstrap samples of the events.
    leave_out_key
        Column of `obs` (patient or sample): its values are left out one after the other, too.
    rng
        Seed of prototypes, replicates and visiting orders.
    n_jobs
        Threads; None takes all processors. The result does not depend on it.
    progress
        Show a progress bar on standard error.
    copy
        Return a changed copy and leave `adata` as it is.

    Returns
    -------
    None, or a copy with this slot written:

    ``uns["cytoclust"]["cluster_stability"]``
        ``params`` and ``table``, one row per cluster: n_events, jaccard (mean over bootstrap
        samples of the best match's Jaccard index), stable (0.75 or more); with `leave_out_key`
        jaccard_left_out, its smallest value and the value left out then. ``adjusted_rand`` of each
        sample. (``cluster_stability_<cluster_key>`` where `cluster_key` is not "leiden".)

    Raises
    ------
    MissingSlotError
        The column, or the record of how it was made, is not there.
    ArgumentError
        Fewer than 2 replicates or values.

    Notes
    -----
    As `scan_resolutions`, which names the source, at the clustering's resolution and markers; above a
    million events on a million evenly spaced ones, which are the table's ``n_events``.

    Examples
    --------
    >>> import anndata as ad, cytoclust as cc, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(900, 3)) + 9 * (np.arange(900) % 3)[:, None]
    >>> adata = ad.AnnData(X.astype("float32"))
    >>> cc.tl.leiden_sketched(adata, 0.1, use_rep="X")
    >>> cc.tl.cluster_stability(adata, n_replicates=5)
    >>> bool(adata.uns["cytoclust"]["cluster_stability"]["table"]["stable"].all())
    True
    """
    from cytoclust.numerics.sketch import EXACT_EVENTS
    from cytoclust.numerics.stability import match_partition
    from cytoclust.numerics.threads import thread_limit

    _check_counts(n_replicates)
    checks.check_key(adata, cluster_key, remedy="Run tl.leiden or tl.leiden_sketched first.")
    made, exact = _clustering(adata, cluster_key)
    groups = None if leave_out_key is None else _groups(adata, leave_out_key)
    pool = pool_matrix(adata, made.get("markers"), use_rep=made.get("use_rep"))
    X = pool.X
    every, clusters = used_categories(adata, cluster_key)
    codes = pool.of(every).astype(np.int32)
    held = np.arange(len(clusters))
    if pool.rows is not None:  # a cluster may have no event in the pool
        held, place = np.unique(codes, return_inverse=True)
        codes = place.astype(np.int32)
    resolution = float(made["resolution"])
    generator = np.random.default_rng(rng)
    with thread_limit(n_jobs):
        exact_here = exact and len(X) <= EXACT_EVENTS
        edges = _edges(X, int(made.get("n_neighbors", 15)), exact=exact_here, rng=generator)
        used = resolution
        if exact != exact_here:  # the clusters on the prototypes
            used = match_partition(edges.graph(), edges.nearest, codes, start=resolution)
        judged = _replicate(
            edges, [codes], [used],
            n_replicates=n_replicates, groups=groups, rng=generator, progress=progress,
        )  # fmt: skip
    table = cluster_rows([way[0] for way in judged])
    table.index = pd.Index([clusters[i] for i in held], name="cluster")
    if groups is not None:
        names = pd.Index(groups[1])
        left_out = np.where(np.isnan(judged[1][0].jaccard), np.inf, judged[1][0].jaccard)
        table["lowest_left_out"] = left_out.min(axis=1)
        table["left_out"] = names[left_out.argmin(axis=1)].astype(str)
    adata = adata.copy() if copy else adata
    params = {
        "cluster_key": cluster_key,
        "resolution": resolution,
        "n_replicates": n_replicates,
        "leave_out_key": leave_out_key,
        "rng": rng if isinstance(rng, int) else None,
    }
    checks.record(
        adata,
        step_name(schema.CLUSTER_STABILITY, cluster_key),
        params,
        table=table,
        adjusted_rand=judged[0][0].rand,
    )
    return adata if copy else None


def _edges(
    X: NDArray[np.float32], n_neighbors: int, *, exact: bool, rng: np.random.Generator
) -> Edges:
    """Join events by Jaccard weights: all of them, or those that stand for all."""
    from cytoclust.numerics.knn import jaccard_graph, nearest_neighbors
    from cytoclust.numerics.sketch import sketch_events
    from cytoclust.numerics.stability import event_edges

    if not exact:
        return sketch_events(X, n_neighbors=n_neighbors, rng=rng).edges
    found = nearest_neighbors(X, min(n_neighbors, len(X)) - 1, rng=rng)
    return event_edges(jaccard_graph(found.rows))


def _clustering(adata: AnnData, key: str) -> tuple[dict[str, Any], bool]:
    """Return the parameters of the clustering that wrote a column, and if it was exact."""
    for step in (schema.LEIDEN_SKETCHED, schema.LEIDEN):
        kept = checks.recorded(adata, step_name(step, key))
        if kept is not None and ("markers" in kept["params"] or "use_rep" in kept["params"]):
            params = dict(kept["params"])
            if step == schema.LEIDEN:
                graph = adata.uns.get(params.get("neighbors_key") or schema.NEIGHBORS, {})
                params["n_neighbors"] = graph.get("params", {}).get("n_neighbors", 15)
            return params, step == schema.LEIDEN
    checks.require_step(adata, step_name(schema.LEIDEN_SKETCHED, key), "tl.leiden_sketched")
    raise AssertionError  # pragma: no cover


def _replicate(
    edges: Edges,
    labels: list[NDArray[np.int32]],
    resolutions: list[float],
    *,
    n_replicates: int,
    groups: tuple[NDArray[np.int64], list[str]] | None,
    rng: np.random.Generator,
    progress: bool,
) -> list[list[Recovery]]:
    """Judge partitions by bootstrap and, with groups, by leaving one out."""
    from cytoclust.numerics.stability import bootstrap_weights, left_out_weights, recover

    ways = [bootstrap_weights(len(edges.nearest), n_replicates, rng=rng)]
    total = n_replicates
    if groups is not None:
        ways.append(left_out_weights(groups[0]))
        total += len(groups[1])
    with progress_bar("stability", total, shown=progress) as advance:
        return [
            recover(
                edges, labels, resolutions, way, rng=rng, progress=lambda: advance(1)
            )
            for way in ways
        ]  # fmt: skip


def _check_resolutions(resolutions: Sequence[float]) -> list[float]:
    """Return the resolutions, increasing; refuse none, and any that is not above 0."""
    if len(resolutions) == 0:
        msg = "resolutions must hold at least one number above 0; got none."
        raise ArgumentError(msg)
    for resolution in resolutions:
        checks.check_positive("each of resolutions", resolution)
    return sorted({float(resolution) for resolution in resolutions})


def _check_counts(n_replicates: int, n_neighbors: int = 15) -> None:
    check_neighbors(n_neighbors)
    if n_replicates < 2:
        msg = f"n_replicates must be 2 or more; got {n_replicates}."
        raise ArgumentError(msg)


def _groups(adata: AnnData, key: str) -> tuple[NDArray[np.int64], list[str]]:
    """Return the code of each pooled event's group (-1 for none) and the groups' names."""
    codes, names = used_categories(adata, key)
    if len(names) < 2:
        held = checks.listing(names)
        msg = f"obs[{key!r}] must have 2 values or more to leave one out; it has {held}."
        raise ArgumentError(msg)
    return codes[chunks.pool_rows(adata.n_obs)].astype(np.int64), names
