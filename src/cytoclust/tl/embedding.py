"""Two-dimensional coordinates for every event: UMAP on the graph, or through landmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cytoclust import checks, schema
from cytoclust.errors import ArgumentError
from cytoclust.event_arrays import event_arrays, put_points
from cytoclust.progress import progress_bar
from cytoclust.tl.clustering import graph_matrix
from cytoclust.tl.pooling import pool_matrix
from cytoclust.tl.references import forget, reference_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

__all__ = ["umap", "umap_sketched"]

LANDMARKS = 10_000  # events of an exact layout that are kept to place later ones


def umap(
    adata: AnnData,
    *,
    neighbors_key: str | None = None,
    min_dist: float = 0.3,
    spread: float = 1.0,
    n_epochs: int | None = None,
    key_added: str = schema.UMAP,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    progress: bool = False,
    copy: bool = False,
) -> AnnData | None:
    """Embed every event with UMAP on the neighbour graph that is there.

    Parameters
    ----------
    adata
        Events with the distances of `pp.neighbors`; no second neighbour search is made.
    neighbors_key
        Graph to embed, as named by `pp.neighbors`; None takes the default one.
    min_dist, spread
        UMAP's: how close events may lie in the layout, and its scale.
    n_epochs
        By default 500 up to 10,000 events, else 200, as umap-learn.
    key_added
        Slot of `obsm` to write.
    rng
        Seed of start and of random repulsion.
    n_jobs
        Threads; None takes all processors. The result does not depend on it.
    progress
        Show a progress bar on standard error.
    copy
        Return a changed copy and leave `adata` as it is.

    Returns
    -------
    None, or a copy with these slots written:

    ``obsm["X_umap"]``
        Coordinates, float32 (n_events, 2).
    ``uns["cytoclust"]["umap"]``
        Parameters, and what `map_events` needs: ``landmarks``, the values of at most 10,000 of the
        events, float32, their ``coordinates``, the ``panel`` and the ``placement_seed``.

    Raises
    ------
    MissingSlotError
        There is no neighbour graph.

    Notes
    -----
    UMAP's fuzzy weights and forces, with an optimiser of our own: every event moves against the
    positions of the epoch before, so coordinates are bit-identical on any number of threads. The
    start is two principal components smoothed along the graph. For more than about 100,000 events
    `umap_sketched` is much faster.

    References
    ----------
    McInnes, Healy & Melville (2018), https://doi.org/10.48550/arXiv.1802.03426

    Examples
    --------
    >>> import anndata as ad, cytoclust as cc, numpy as np
    >>> adata = ad.AnnData(np.random.default_rng(0).normal(size=(100, 3)).astype("float32"))
    >>> cc.pp.neighbors(adata, use_rep="X")
    >>> cc.tl.umap(adata)
    >>> adata.obsm["X_umap"].shape
    (100, 2)
    """
    from cytoclust.numerics.layout import default_epochs, embed_graph
    from cytoclust.numerics.mapping import draw_landmarks
    from cytoclust.numerics.threads import thread_limit

    _check_shape(min_dist, spread)
    key = neighbors_key or schema.NEIGHBORS
    if key not in adata.uns:
        checks.check_in_memory(adata.X)
    checks.check_key(adata, key, place="uns", remedy="Run pp.neighbors first.")
    graph = adata.uns[key]
    checks.check_key(adata, graph["distances_key"], place="obsp", remedy="Run pp.neighbors first.")
    distances = adata.obsp[graph["distances_key"]].tocsr()
    X, names, use_rep = graph_matrix(adata, neighbors_key)
    generator = np.random.default_rng(rng)
    epochs = n_epochs or default_epochs(len(X))
    with thread_limit(n_jobs), progress_bar("umap", epochs, shown=progress) as advance:
        points = embed_graph(
            distances,
            X,
            rng=generator,
            min_dist=min_dist,
            spread=spread,
            n_epochs=epochs,
            progress=advance,
        )
        landmarks = draw_landmarks(X, LANDMARKS, rng=generator)
    adata = adata.copy() if copy else adata
    adata.obsm[key_added] = points
    params = {
        "neighbors_key": neighbors_key,
        "min_dist": float(min_dist),
        "spread": float(spread),
        "n_epochs": n_epochs,
        "rng": rng if isinstance(rng, int) else None,
        "markers": names,
        "use_rep": use_rep,
    }
    forget(adata, _step_name(schema.UMAP_SKETCHED, key_added))
    checks.record(
        adata,
        _step_name(schema.UMAP_STEP, key_added),
        params,
        landmarks=X[landmarks],
        coordinates=points[landmarks],
        placement_seed=int(generator.integers(2**62)),
        **reference_facts(adata, names, use_rep),
    )
    return adata if copy else None


def umap_sketched(  # noqa: PLR0913, the options of a public verb
    adata: AnnData,
    *,
    n_landmarks: int = 10_000,
    n_neighbors: int = 15,
    markers: Sequence[str] | None = None,
    use_rep: str | None = None,
    min_dist: float = 0.3,
    spread: float = 1.0,
    key_added: str = schema.UMAP,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Embed landmarks with UMAP and place every event among them; linear in events.

    Parameters
    ----------
    adata
        Events; `X` transformed. No neighbour graph is needed.
    n_landmarks
        k-means centers to embed; never more than there are events.
    n_neighbors
        Neighbours per landmark, itself counted.
    markers
        Markers or channels to compare; by default those with ``var["marker_class"] == "type"``.
    use_rep
        Slot of `obsm` to compare instead of markers, or "X" for all channels.
    min_dist, spread
        UMAP's: how close points may lie in the layout, and its scale.
    key_added
        Slot of `obsm` to write.
    rng
        Seed of landmarks, start and random repulsion.
    n_jobs
        Threads; None takes all processors. The result does not depend on it.
    copy
        Return a changed copy and leave `adata` as it is.

    Returns
    -------
    None, or a copy with these slots written:

    ``obsm["X_umap"]``
        Coordinates, float32 (n_events, 2).
    ``uns["cytoclust"]["umap_sketched"]``
        Parameters; ``landmarks`` float32 (n_landmarks, n_markers) and their ``coordinates``
        float32 (n_landmarks, 2), the ``panel`` and the ``placement_seed``: `map_events` places
        later events with them.

    Raises
    ------
    ArgumentError
        No markers, NaN or infinite values, fewer than 3 events.

    Notes
    -----
    An event starts at the weighted mean of its 10 nearest landmarks in marker space; landmarks
    then pull and push it as umap-learn's ``transform`` does, and stay where they are. Bit-identical
    on any number of threads. Above a million events landmarks are made of a million evenly spaced
    ones, and every event is placed block by block, in memory or read by Dask.

    References
    ----------
    McInnes, Healy & Melville (2018), https://doi.org/10.48550/arXiv.1802.03426

    Examples
    --------
    >>> import anndata as ad, cytoclust as cc, numpy as np
    >>> adata = ad.AnnData(np.random.default_rng(0).normal(size=(500, 3)).astype("float32"))
    >>> cc.tl.umap_sketched(adata, n_landmarks=100, use_rep="X")
    >>> adata.obsm["X_umap"].shape
    (500, 2)
    """
    from cytoclust.numerics.layout import embed_landmarks, make_placement
    from cytoclust.numerics.threads import thread_limit

    _check_shape(min_dist, spread)
    if n_landmarks < 3 or n_neighbors < 2:
        msg = (
            "n_landmarks must be 3 or more and n_neighbors 2 or more; "
            f"got {n_landmarks} and {n_neighbors}."
        )
        raise ArgumentError(msg)
    pool = pool_matrix(adata, markers, use_rep=use_rep)
    X, names = pool.X, pool.names
    if len(X) < 3:
        msg = f"an embedding needs 3 events or more; got {len(X)}. Check what filtering excluded."
        raise ArgumentError(msg)
    generator = np.random.default_rng(rng)
    shape = {"min_dist": float(min_dist), "spread": float(spread)}
    with thread_limit(n_jobs):
        landmarks, coordinates = embed_landmarks(
            X,
            rng=generator,
            n_landmarks=n_landmarks,
            n_neighbors=n_neighbors,
            min_dist=min_dist,
            spread=spread,
        )
        placement_seed = int(generator.integers(2**62))
        placement = make_placement(
            landmarks,
            coordinates,
            rng=np.random.default_rng(placement_seed),
            min_dist=min_dist,
            spread=spread,
        )
        points = (
            placement(X)
            if pool.rows is None
            else event_arrays(adata).filled(pool.source.iterate(placement), np.float32, width=2)
        )
    adata = adata.copy() if copy else adata
    put_points(adata, key_added, points)
    params = {
        "n_events_pooled": len(X),
        "n_landmarks": len(landmarks),
        "n_neighbors": n_neighbors,
        "markers": names,
        "use_rep": use_rep,
        **shape,
        "rng": rng if isinstance(rng, int) else None,
    }
    forget(adata, _step_name(schema.UMAP_STEP, key_added))
    checks.record(
        adata,
        _step_name(schema.UMAP_SKETCHED, key_added),
        params,
        landmarks=landmarks,
        coordinates=coordinates,
        placement_seed=placement_seed,
        **reference_facts(adata, names, use_rep),
    )
    return adata if copy else None


def _step_name(step: str, key_added: str) -> str:
    """Name the record: the step's own name, or with the slot it wrote."""
    return step if key_added == schema.UMAP else f"{step}_{key_added}"


def _check_shape(min_dist: float, spread: float) -> None:
    checks.check_positive("spread", spread)
    if not 0 <= min_dist <= spread:
        msg = f"min_dist must be between 0 and spread, {spread}; got {min_dist}."
        raise ArgumentError(msg)
