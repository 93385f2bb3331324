"""Leiden by igraph and leidenalg: references for our own, and a choice for those who know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

    from cytoclust.numerics.leiden import Objective


def by_igraph(
    graph: sparse.csr_matrix,
    resolution: float,
    *,
    n_iterations: int,
    seed: int,
    objective: Objective = "modularity",
) -> NDArray[np.int64]:
    """Cluster with igraph's Leiden."""
    import random

    import igraph

    own, weights = _as_igraph(graph)
    igraph.set_random_number_generator(random.Random(seed))
    try:
        found = own.community_leiden(
            "CPM" if objective == "cpm" else "modularity",
            weights=weights,
            resolution=resolution,
            n_iterations=n_iterations,
        )
    finally:
        igraph.set_random_number_generator(random)
    return np.array(found.membership, dtype=np.int64)


def by_leidenalg(
    graph: sparse.csr_matrix,
    resolution: float,
    *,
    n_iterations: int,
    seed: int,
    objective: Objective = "modularity",
) -> NDArray[np.int64]:
    """Cluster with leidenalg."""
    import leidenalg

    own, weights = _as_igraph(graph)
    partition = (
        leidenalg.CPMVertexPartition
        if objective == "cpm"
        else leidenalg.RBConfigurationVertexPartition
    )
    found = leidenalg.find_partition(
        own,
        partition,
        weights=weights,
        resolution_parameter=resolution,
        n_iterations=n_iterations,
        seed=seed,
    )
    return np.array(found.membership, dtype=np.int64)


def _as_igraph(graph: sparse.csr_matrix) -> tuple[Any, NDArray[np.float64]]:
    """Hand a symmetric graph to igraph, each edge once."""
    import igraph

    edges = graph.tocoo()
    once = edges.row < edges.col
    pairs = np.column_stack([edges.row[once], edges.col[once]])
    return igraph.Graph(n=graph.shape[0], edges=pairs), edges.data[once].astype(np.float64)
