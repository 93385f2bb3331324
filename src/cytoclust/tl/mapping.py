"""Clusters, phenotypes and coordinates of an analysed study for samples that arrive later."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.errors import MissingSlotError, StudyWarning
from cytoclust.event_arrays import category_codes, event_arrays, put_column, put_points
from cytoclust.numerics.tallies import cross_tally
from cytoclust.tl.clustering import categorical, step_name
from cytoclust.tl.pooling import event_source
from cytoclust.tl.references import matching_source

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from cytoclust.event_arrays import EventArrays
    from cytoclust.tl.pooling import Source

__all__ = ["map_events"]

MANY_FAR = 0.01  # share of far events worth a warning; 0.001 is expected of the reference's own
FEW = 10  # far events that may be chance in a small sample


def map_events(
    adata: AnnData,
    reference: AnnData,
    *,
    cluster_key: str = schema.LEIDEN,
    n_jobs: int | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Give later events the clusters, phenotypes and coordinates of an analysed reference.

    Nothing of the reference moves, and no new event matters to another: an event gets the same
    answer in any order, in any batch and on any number of threads.

    Parameters
    ----------
    adata
        New events, prepared as the reference was: same channels, compensated alike, transformed
        with the reference's cofactors (``pp.arcsinh(adata, cofactor=reference.var["cofactor"])``).
    reference
        Analysed events, or what an h5ad file kept of them; ``reference[:0]`` is enough for clusters
        and coordinates, phenotypes of single events also need its events.
    cluster_key
        Column of the reference's clusters (`leiden` or `leiden_sketched` with this `key_added`).
    n_jobs
        Threads; None takes all processors. The result does not depend on it.
    copy
        Return a changed copy and leave `adata` as it is.

    Returns
    -------
    None, or a copy with these slots written:

    ``obs[cluster_key]``
        Cluster of each event, with the reference's categories.
    ``obs["mapped_far"]``
        bool: farther from the nearest prototype than 99.9 % of the reference's events of that
        cluster are from one that is not their own. Such an event may be of a population that the
        reference has not.
    ``obs["phenotype"]``, ``obs["phenotype_cluster"]``
        Where the reference is annotated. The most frequent phenotype among the reference's events
        of the same prototype, or, without those, the name of the cluster; the name of the cluster.
        Far events are "unassigned" in both.
    ``obsm["X_umap"]``
        Where the reference has a UMAP: coordinates among its landmarks, float32 (n_events, 2).
    ``uns["cytoclust"]["map_events"]``
        Parameters, ``n_events``, ``n_far`` and, where ``obs["sample"]`` is there, ``samples``: one
        row per sample with ``n_events`` and ``n_far``.

    Raises
    ------
    MissingSlotError
        The reference keeps no prototypes under `cluster_key`.
    ArgumentError
        Channel, marker, scale, cofactor, compensation or transformation differ; NaN or infinite
        values. The text names the channel and both values.

    Warns
    -----
    StudyWarning
        More than 1 % of the events, and more than ten, are far.

    Notes
    -----
    Linear in events, which are worked through block by block, in memory or read by Dask; about 16
    bytes per event beside the result.

    Examples
    --------
    >>> import anndata as ad, cytoclust as cc, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(3000, 3)) + 9 * (np.arange(3000) % 2)[:, None]
    >>> study = ad.AnnData(X[:2000].astype("float32"))
    >>> cc.tl.leiden_sketched(study, 0.1, use_rep="X")
    >>> later = ad.AnnData(X[2000:].astype("float32"))
    >>> cc.tl.map_events(later, study)
    >>> later.obs["leiden"].value_counts().tolist()
    [500, 500]
    """
    from cytoclust.numerics.threads import thread_limit

    step, kept = _kept_clusters(reference, cluster_key)
    source = matching_source(adata, kept, step)
    layout = _kept_layout(reference)
    arrays = event_arrays(adata)
    columns: dict[str, Any] = {}
    with thread_limit(n_jobs):
        nearest, distances = _assign(adata, source, kept["prototypes"])
        own, reach = np.asarray(kept["labels"], dtype=np.int32), np.asarray(kept["reach"])
        labels = arrays.mapped(lambda part: own[part], nearest, dtype=np.int32)
        far = arrays.mapped(
            lambda away, part: away > reach[part], distances, labels, dtype=np.bool_
        )
        columns |= _phenotypes(reference, cluster_key, kept=kept)
        points = None if layout is None else _place(adata, *layout)
    adata = adata.copy() if copy else adata
    put_column(adata, cluster_key, _like_reference(labels, kept))
    put_column(adata, schema.MAPPED_FAR, far)
    for key, names in columns.items():
        put_column(adata, key, _named(names, nearest, far, arrays=arrays))
    if points is not None:
        put_points(adata, schema.UMAP, points)
    params = {"cluster_key": cluster_key, "clustering": step}
    if layout is not None:
        params["layout"] = layout[0]
    _record(adata, params, far)
    return adata if copy else None


def _record(adata: AnnData, params: dict[str, Any], far: NDArray[np.bool_]) -> None:
    """Write the counts, and warn of many far events."""
    results: dict[str, Any] = {"n_events": len(far), "n_far": int(far.sum())}
    if schema.SAMPLE in adata.obs:
        codes, samples = category_codes(adata, schema.SAMPLE)
        names = pd.Index([*map(str, samples), "nan"])  # code -1: no sample
        arrays = event_arrays(adata)
        placed = arrays.mapped(
            lambda part: np.where(part < 0, len(samples), part), codes, dtype=np.int32
        )
        counts = cross_tally(placed, far.view(np.int8), (len(names), 2))
        table = pd.DataFrame({"n_events": counts.sum(axis=1), "n_far": counts[:, 1]}, index=names)
        results["samples"] = table[table["n_events"] > 0].sort_index()
    checks.record(adata, schema.MAP_EVENTS, params, **results)
    if far.sum() > max(FEW, MANY_FAR * len(far)):
        msg = (
            f"{results['n_far']} of {len(far)} events ({100 * far.mean():.1f} %) are far from every "
            f"population of the reference (obs['{schema.MAPPED_FAR}']; about 0.1 % are expected). "
            "Staining, instrument or populations may differ; look at them before you trust counts."
        )
        warnings.warn(msg, StudyWarning, stacklevel=3)


def _kept_clusters(reference: AnnData, key: str) -> tuple[str, dict[str, Any]]:
    """Return the name and content of the record that holds prototypes for a column of clusters."""
    for step in (schema.LEIDEN_SKETCHED, schema.LEIDEN):
        name = step_name(step, key)
        kept = checks.recorded(reference, name)
        if kept is not None and "prototypes" in kept:
            return name, kept
    done = checks.listing(reference.uns.get(schema.UNS, {}))
    msg = (
        f"the reference keeps no prototypes of obs[{key!r}]; steps recorded: {done}. Cluster it with "
        "tl.leiden (after pp.neighbors) or tl.leiden_sketched."
    )
    raise MissingSlotError(msg)


def _kept_layout(reference: AnnData) -> tuple[str, dict[str, Any]] | None:
    """Return the name and content of the record that holds landmarks, if there is one."""
    for step in (schema.UMAP_SKETCHED, schema.UMAP_STEP):
        kept = checks.recorded(reference, step)
        if kept is not None and "landmarks" in kept:
            return step, kept
    return None


def _place(adata: AnnData, step: str, kept: dict[str, Any]) -> NDArray[np.float32]:
    """Place new events among the landmarks."""
    from cytoclust.numerics.layout import make_placement

    placement = make_placement(
        np.asarray(kept["landmarks"], dtype=np.float32),
        np.asarray(kept["coordinates"], dtype=np.float32),
        rng=np.random.default_rng(int(kept["placement_seed"])),
        min_dist=float(kept["params"]["min_dist"]),
        spread=float(kept["params"]["spread"]),
    )
    source = matching_source(adata, kept, step)
    return event_arrays(adata).filled(source.iterate(placement), np.float32, width=2)


def _assign(
    adata: AnnData, source: Source, prototypes: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find each event's nearest prototype and the distance, block by block."""
    from cytoclust.numerics.mapping import Assignment, prototype_index

    arrays = event_arrays(adata)
    nearest, distances = arrays.zeros(np.int32), arrays.zeros(np.float32)
    assignment = Assignment(prototype_index(np.asarray(prototypes, dtype=np.float32)))
    for rows, (own, away) in source.iterate(assignment):
        nearest[rows], distances[rows] = own, away
    return nearest, distances


def _like_reference(labels: NDArray[np.int32], kept: dict[str, Any]) -> pd.Categorical[str]:
    """Make clusters categorical with every category of the reference."""
    names = categorical(np.asarray(kept["labels"], dtype=np.int32)).categories
    return pd.Categorical.from_codes(labels, categories=names)


def _phenotypes(
    reference: AnnData, cluster_key: str, *, kept: dict[str, Any]
) -> dict[str, NDArray[np.object_]]:
    """Name prototypes by their cluster and by the reference's events around them."""
    annotated = checks.recorded(reference, schema.ANNOTATE_PHENOTYPES)
    if annotated is None or annotated["params"].get("cluster_key") != cluster_key:
        return {}
    names = annotated["clusters"]["phenotype"].astype(str)
    of_cluster = np.array(
        [names.get(str(label), schema.UNASSIGNED) for label in np.asarray(kept["labels"])],
        dtype=object,
    )
    of_event = of_cluster.copy()
    if reference.n_obs and schema.PHENOTYPE in reference.obs:
        params = kept["params"]
        source = event_source(reference, params.get("markers"), use_rep=params.get("use_rep"))
        around = _assign(reference, source, kept["prototypes"])[0]
        codes, own = category_codes(reference, schema.PHENOTYPE)
        table = cross_tally(around, codes, (len(of_cluster), len(own)))
        seen = table.any(axis=1)
        of_event[seen] = np.asarray(own, dtype=object)[table[seen].argmax(axis=1)]
    return {schema.PHENOTYPE_CLUSTER: of_cluster, schema.PHENOTYPE: of_event}


def _named(
    names: NDArray[np.object_],
    nearest: NDArray[np.int32],
    far: NDArray[np.bool_],
    *,
    arrays: EventArrays,
) -> pd.Categorical[str]:
    """Give events the name of their prototype, far ones none; categories are the names given."""
    categories = [schema.UNASSIGNED, *sorted({*names} - {schema.UNASSIGNED})]
    place = {name: i for i, name in enumerate(categories)}
    of_prototype = np.array([place[name] for name in names], dtype=np.int16)
    codes = arrays.mapped(
        lambda part, away: np.where(away, 0, of_prototype[part]), nearest, far, dtype=np.int16
    )
    return arrays.categorical(codes, categories, always=1)
