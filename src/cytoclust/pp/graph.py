"""The neighbour graph of all events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cytoclust import checks, schema
from cytoclust.errors import ArgumentError
from cytoclust.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

__all__ = ["neighbors"]


def neighbors(
    adata: AnnData,
    n_neighbors: int = 15,
    *,
    markers: Sequence[str] | None = None,
    use_rep: str | None = None,
    metric: Literal["euclidean"] = "euclidean",
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    key_added: str | None = None,
    progress: bool = False,
    copy: bool = False,
) -> AnnData | None:
    """Join every event with its nearest neighbours in marker space.

    Parameters
    ----------
    adata
        Events; `X` transformed (see `pp.arcsinh`). Channels are compared as they are, not scaled.
    n_neighbors
        Neighbours per event, itself counted (as scanpy does); at most the number of events.
    markers
        Markers or channels to compare; by default those with ``var["marker_class"] == "type"``.
    use_rep
        Slot of `obsm` to compare instead of markers, or "X" for all channels.
    metric
        Only "euclidean".
    rng
        Seed of the cells in which many events are searched.
    n_jobs
        Threads; None takes all processors. The result does not depend on it.
    key_added
        Name of the graph; None writes to scanpy's default slots.
    progress
        Show a progress bar on standard error.
    copy
        Return a changed copy and leave `adata` as it is.

    Returns
    -------
    None, or a copy with these slots written:

    ``obsp["distances"]``
        Euclidean distances to the n_neighbors - 1 others, float32 CSR (n_events, n_events).
    ``obsp["connectivities"]``
        Jaccard weights that `tl.leiden` clusters on: neighbours shared / all neighbours of two
        events, each its own neighbour; symmetric float32 CSR.
    ``uns["neighbors"]``
        Keys and parameters as scanpy writes them; ``params`` adds ``weights``, ``markers`` and
        the measured ``recall``.

    Raises
    ------
    ArgumentError
        No markers, NaN or infinite values (the channels are named), more neighbours than events.

    Notes
    -----
    Up to 20,000 events every pair is compared. Above, events are grouped in cells around k-means
    centers, and each is compared with the events of its nearest cells; how many cells is raised
    until 256 exactly searched events find 96.5 % of their true neighbours. Sums run in a fixed
    order, so the graph is bit-identical on any number of threads.

    Peak memory beside the events: about 900 bytes per event for 15 neighbours and 20 markers, of
    which the written slots keep 300 (8 bytes per stored weight and distance); 8 bytes per marker
    and 45 per neighbour in general. An interrupt (Ctrl-C) takes effect after the 65,536 events
    being searched and leaves `adata` as it was: all slots are written together at the end.

    References
    ----------
    Levine et al. (2015), Jaccard weights for cytometry, https://doi.org/10.1016/j.cell.2015.05.047

    Examples
    --------
    >>> import anndata as ad, cytoclust as cc, numpy as np
    >>> adata = ad.AnnData(np.random.default_rng(0).normal(size=(100, 3)).astype("float32"))
    >>> cc.pp.neighbors(adata, 10, use_rep="X")
    >>> adata.obsp["distances"].nnz
    900
    """
    from cytoclust.numerics.knn import distance_graph, jaccard_graph, nearest_neighbors
    from cytoclust.numerics.threads import thread_limit

    checks.check_one_of("metric", metric, ("euclidean",))
    X, names = checks.event_matrix(adata, markers, use_rep=use_rep)
    _check_count(n_neighbors, len(X))
    with thread_limit(n_jobs), progress_bar("neighbors", len(X), shown=progress) as advance:
        generator = np.random.default_rng(rng)
        found = nearest_neighbors(X, n_neighbors - 1, rng=generator, progress=advance)
        distances, weights = distance_graph(found), jaccard_graph(found.rows)
    params: dict[str, Any] = {
        "n_neighbors": int(n_neighbors),
        "method": "cells" if found.n_probes else "exact",
        "metric": metric,
        "weights": "jaccard",
        "recall": found.recall,
        "markers": names,
    }
    if use_rep is not None:
        params["use_rep"] = use_rep
    adata = adata.copy() if copy else adata
    prefix = "" if key_added is None else f"{key_added}_"
    adata.obsp[prefix + schema.DISTANCES] = distances
    adata.obsp[prefix + schema.CONNECTIVITIES] = weights
    adata.uns[key_added or schema.NEIGHBORS] = {
        "connectivities_key": prefix + schema.CONNECTIVITIES,
        "distances_key": prefix + schema.DISTANCES,
        "params": params,
    }
    checks.logger.info("neighbors: %d events, %s", len(X), params["method"])
    return adata if copy else None


def _check_count(n_neighbors: int, n_events: int) -> None:
    if not 2 <= n_neighbors <= n_events:
        msg = (
            f"n_neighbors must be between 2 and the number of events, {n_events}; "
            f"got {n_neighbors}. Take fewer neighbours or more events."
        )
        raise ArgumentError(msg)
