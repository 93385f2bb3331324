"""Clusters of events: Leiden on the graph of all events or through prototypes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.errors import ArgumentError, MissingSlotError
from cytoclust.event_arrays import event_arrays, put_column
from cytoclust.tl.choice import chosen_resolution
from cytoclust.tl.pooling import label_all, pool_matrix
from cytoclust.tl.references import forget, reference_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy import sparse


__all__ = ["leiden", "leiden_sketched"]

Flavor = Literal["cytoclust", "igraph", "leidenalg"]
Objective = Literal["modularity", "cpm"]


def leiden(
    adata: AnnData,
    resolution: float | None = 1.0,
    *,
    key_added: str = schema.LEIDEN,
    neighbors_key: str | None = None,
    objective: Objective = "modularity",
    flavor: Flavor = "cytoclust",
    n_iterations: int = -1,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Cluster events on their neighbour graph with the Leiden algorithm.

    Parameters
    ----------
    adata
        Events with a neighbour graph (`pp.neighbors`, or scanpy's).
    resolution
        Of the objective, above 0; more gives more clusters. None takes the one that
        `scan_resolutions` chose.
    key_added
        Column of `obs` to write.
    neighbors_key
        Graph to cluster, as named by `pp.neighbors`; None takes the default one.
    objective
        "modularity", or "cpm": the constant Potts model, where `resolution` is the mean weight
        between two events above which they belong together (small: about 1e-4 for 100,000 events),
        and the number of events changes nothing about a cluster that is far from the rest.
    flavor
        "cytoclust" is this package's own implementation; "igraph" and "leidenalg" are kept as
        references.
    n_iterations
        Runs of the algorithm, each starting from the last; -1 runs until stable.
    rng
        Seed of the order in which nodes are visited.
    n_jobs
        Threads; None takes all processors. The result does not depend on it.
    copy
        Return a changed copy and leave `adata` as it is.

    Returns
    -------
    None, or a copy with these slots written:

    ``obs[key_added]``
        Cluster of each event, categorical "0", "1", ... by decreasing size.
    ``uns["cytoclust"][key_added]``
        Parameters, the modularity reached (at `resolution`; at 1 for "cpm"), and what `map_events`
        needs: ``prototypes`` float32 (n_prototypes, n_markers), their ``labels`` int32 and
        ``sizes`` int64, the ``reach`` of each cluster, and the ``panel``. (``leiden_<key_added>``
        where `key_added` is not "leiden".)

    Raises
    ------
    MissingSlotError
        There is no neighbour graph, or `resolution` is None and none was chosen.
    ArgumentError
        `resolution` is not above 0, or `objective` or `flavor` is unknown.

    Notes
    -----
    Every cluster is connected in the graph. Threads look for moves, which are then made one after
    another: the same clusters on any number of threads. The kernels need about 16 bytes per stored
    weight and 60 per event beside the graph (about 570 MB for 1M events and 15 neighbours).

    References
    ----------
    Traag, Waltman & van Eck (2019), https://doi.org/10.1038/s41598-019-41695-z

    Examples
    --------
    >>> import anndata as ad, cytoclust as cc, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 3)) + 9 * (np.arange(200) % 2)[:, None]
    >>> adata = ad.AnnData(X.astype("float32"))
    >>> cc.pp.neighbors(adata, use_rep="X")
    >>> cc.tl.leiden(adata, 0.1)
    >>> adata.obs["leiden"].nunique()
    2
    """
    from cytoclust.numerics.leiden import leiden as find_communities
    from cytoclust.numerics.leiden import modularity, rank_by_size
    from cytoclust.numerics.leiden_reference import by_igraph, by_leidenalg
    from cytoclust.numerics.threads import thread_limit

    _check_resolution(adata, resolution)
    checks.check_one_of("objective", objective, ("modularity", "cpm"))
    if resolution is None and objective == "cpm":
        msg = "objective='cpm' needs a resolution; scan_resolutions chooses one of modularity."
        raise ArgumentError(msg)
    checks.check_one_of("flavor", flavor, ("cytoclust", "igraph", "leidenalg"))
    graph = _graph(adata, neighbors_key)
    generator = np.random.default_rng(rng)
    with thread_limit(n_jobs):
        if resolution is None:
            made_with = adata.uns[neighbors_key or schema.NEIGHBORS]["params"].get("n_neighbors")
            resolution = chosen_resolution(adata, graph, n_neighbors=made_with)
        if flavor == "cytoclust":
            labels = find_communities(
                graph, resolution, rng=generator, objective=objective, n_iterations=n_iterations
            )
        else:
            seed = int(generator.integers(1, 2**31 - 1))
            reference = by_igraph if flavor == "igraph" else by_leidenalg
            found = reference(
                graph, resolution, objective=objective, n_iterations=n_iterations, seed=seed
            )
            labels = rank_by_size(found)
        quality = modularity(graph, labels, resolution if objective == "modularity" else 1.0)
        kept, made_of = _points_kept(adata, labels, neighbors_key, rng=generator)
    adata = adata.copy() if copy else adata
    adata.obs[key_added] = categorical(labels)
    params = {
        "resolution": float(resolution),
        "objective": objective,
        "flavor": flavor,
        "n_iterations": n_iterations,
        "neighbors_key": neighbors_key,
        "rng": rng if isinstance(rng, int) else None,
        **made_of,
    }
    forget(adata, step_name(schema.LEIDEN_SKETCHED, key_added))
    checks.record(adata, step_name(schema.LEIDEN, key_added), params, modularity=quality, **kept)
    return adata if copy else None


def leiden_sketched(
    adata: AnnData,
    resolution: float | None = 1.0,
    *,
    n_prototypes: int | None = None,
    n_neighbors: int = 15,
    markers: Sequence[str] | None = None,
    use_rep: str | None = None,
    key_added: str = schema.LEIDEN,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Cluster many events through prototypes; every event gets its label.

    Parameters
    ----------
    adata
        Events; `X` transformed. No neighbour graph is needed.
    resolution
        Of modularity, above 0; nearly as in `leiden`, often somewhat coarser. None takes the one that
        `scan_resolutions` chose.
    n_prototypes
        By default one per 16 events, between 1,024 and 4,096.
    n_neighbors
        Neighbours per event, itself counted.
    markers
        Markers or channels to compare; by default those with ``var["marker_class"] == "type"``.
    use_rep
        Slot of `obsm` to compare instead of markers, or "X" for all channels.
    key_added
        Column of `obs` to write.
    rng
        Seed of prototypes, drawn edges and visiting order.
    n_jobs
        Threads; None takes all processors. The result does not depend on it.
    copy
        Return a changed copy and leave `adata` as it is.

    Returns
    -------
    None, or a copy with these slots written:

    ``obs[key_added]``
        Cluster of each event, categorical "0", "1", ... by decreasing size.
    ``uns["cytoclust"]["leiden_sketched"]``
        Parameters; ``prototypes`` float32 (n_prototypes, n_markers); ``labels``, the cluster of
        each prototype, int32; ``sizes``, its events, int64; ``reach``, the distance beyond which an
        event is far from a cluster, float32; the ``panel``. `map_events` needs them.
        (``leiden_sketched_<key_added>`` where `key_added` is not "leiden".)

    Raises
    ------
    MissingSlotError
        `resolution` is None and none was chosen.
    ArgumentError
        No markers, NaN or infinite values, a resolution or number of prototypes that is not above 0.

    Notes
    -----
    k-means prototypes, half of them seeded away from the others so that rare populations keep
    their own, are joined by the edges of the events' own neighbour graph: all of its Jaccard
    weights up to 200,000 events, above that those of events drawn from every prototype. Edges
    inside a prototype are kept, and with them the modularity of each partition, so that a
    resolution means nearly the same as on the graph of all events. Up to 200,000 events, each event
    is then handed to the cluster that most of its own edges lead to, which settles borders that run
    through a prototype. Linear in events; bit-identical on any number of threads.

    Above a million events prototypes and clusters are found on a million evenly spaced ones, and
    every event gets the label of its nearest prototype, block by block: the same in memory and
    where `X` is read when it is needed (Dask), however it is chunked and whoever works on it.

    References
    ----------
    Traag, Waltman & van Eck (2019), https://doi.org/10.1038/s41598-019-41695-z

    Examples
    --------
    >>> import anndata as ad, cytoclust as cc, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(3000, 3)) + 9 * (np.arange(3000) % 2)[:, None]
    >>> adata = ad.AnnData(X.astype("float32"))
    >>> cc.tl.leiden_sketched(adata, 0.1, use_rep="X")
    >>> adata.obs["leiden"].nunique()
    2
    """
    from cytoclust.numerics.leiden import leiden as find_communities
    from cytoclust.numerics.mapping import measure_reach
    from cytoclust.numerics.sketch import label_events, sketch_events
    from cytoclust.numerics.threads import thread_limit

    _check_resolution(adata, resolution)
    check_neighbors(n_neighbors)
    if n_prototypes is not None:
        checks.check_positive("n_prototypes", n_prototypes)
    pool = pool_matrix(adata, markers, use_rep=use_rep)
    X, names = pool.X, pool.names
    check_enough(len(X))
    generator = np.random.default_rng(rng)
    with thread_limit(n_jobs):
        sketch = sketch_events(X, n_prototypes=n_prototypes, n_neighbors=n_neighbors, rng=generator)
        if resolution is None:
            resolution = chosen_resolution(
                adata, sketch.graph, sketch.nearest, n_neighbors=n_neighbors
            )
        labels, own = label_events(
            sketch, find_communities(sketch.graph, resolution, rng=generator)
        )
        reach = measure_reach(X, labels, sketch.prototypes, rng=generator)
        sizes = np.bincount(sketch.nearest, minlength=len(own)).astype(np.int64)
        if pool.rows is not None:
            labels, own, sizes, reach = label_all(
                pool, sketch.prototypes, own=own, reach=reach, arrays=event_arrays(adata)
            )
    adata = adata.copy() if copy else adata
    put_column(adata, key_added, categorical(labels))
    params = {
        "resolution": float(resolution),
        "n_prototypes": len(own),
        "n_neighbors": n_neighbors,
        "markers": names,
        "use_rep": use_rep,
        "n_events_pooled": len(X),
        "n_events_sampled": sketch.n_sampled,
        "rng": rng if isinstance(rng, int) else None,
    }
    forget(adata, step_name(schema.LEIDEN, key_added))
    checks.record(
        adata,
        step_name(schema.LEIDEN_SKETCHED, key_added),
        params,
        prototypes=sketch.prototypes,
        labels=own,
        sizes=sizes,
        reach=reach,
        **reference_facts(adata, names, use_rep),
    )
    return adata if copy else None


def _graph(adata: AnnData, neighbors_key: str | None) -> sparse.csr_matrix:
    """Return the weights of a neighbour graph."""
    key = neighbors_key or schema.NEIGHBORS
    if key not in adata.uns:
        checks.check_in_memory(adata.X)
    checks.check_key(adata, key, place="uns", remedy="Run pp.neighbors first.")
    name = adata.uns[key]["connectivities_key"]
    checks.check_key(adata, name, place="obsp", remedy="Run pp.neighbors first.")
    return adata.obsp[name].tocsr()


def graph_matrix(
    adata: AnnData, neighbors_key: str | None
) -> tuple[NDArray[np.float32], list[str], str | None]:
    """Return the values that a neighbour graph was made of, their names, and the slot if any."""
    made_of = adata.uns[neighbors_key or schema.NEIGHBORS]["params"]
    use_rep = made_of.get("use_rep")
    markers = made_of.get("markers") if use_rep is None else None
    if markers is None and use_rep is None:
        use_rep = "X_pca" if "X_pca" in adata.obsm else "X"  # a graph of scanpy's
    X, names = checks.event_matrix(adata, markers, use_rep=use_rep)
    return X, names, use_rep


def _points_kept(
    adata: AnnData,
    labels: NDArray[np.int32],
    neighbors_key: str | None,
    *,
    rng: np.random.Generator,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the points that stand for clusters, and the parameters that say what they hold."""
    from cytoclust.numerics.mapping import summarize_clusters

    try:
        X, names, use_rep = graph_matrix(adata, neighbors_key)
    except (ArgumentError, MissingSlotError) as error:  # the graph alone is enough to cluster
        checks.logger.info("leiden: nothing kept for map_events: %s", error)
        return {}, {}
    facts = reference_facts(adata, names, use_rep)
    points = summarize_clusters(X, labels, rng=rng)._asdict()
    return {**points, **facts}, {"markers": names, "use_rep": use_rep}


def categorical(labels: NDArray[np.signedinteger]) -> pd.Categorical[str]:
    """Turn codes 0..n-1 into categories "0".."n-1"."""
    names = [str(label) for label in range(int(labels.max(initial=-1)) + 1)]
    return pd.Categorical.from_codes(labels, categories=pd.Index(names))


def step_name(step: str, key_added: str) -> str:
    """Name the record: the step's own name, or with the column it wrote."""
    if not key_added or "/" in key_added:
        msg = f"key_added must be a name without '/' (files nest on it); got {key_added!r}."
        raise ArgumentError(msg)
    return step if key_added in {schema.LEIDEN, step} else f"{step}_{key_added}"


def _check_resolution(adata: AnnData, resolution: float | None) -> None:
    """Refuse a resolution that is not above 0, and None where none was chosen."""
    if resolution is None:
        checks.require_step(adata, schema.SCAN_RESOLUTIONS, "tl.scan_resolutions")
    else:
        checks.check_positive("resolution", resolution)


def check_neighbors(n_neighbors: int) -> None:
    if n_neighbors < 2:
        msg = f"n_neighbors must be 2 or more (the event itself is counted); got {n_neighbors}."
        raise ArgumentError(msg)


def check_enough(n_events: int) -> None:
    if n_events < 3:
        msg = f"clustering needs 3 events or more; got {n_events}. Widen the choice of events."
        raise ArgumentError(msg)
