"""What stability chose, carried to the graph that is clustered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cytoclust import checks, chunks, schema
from cytoclust.errors import ArgumentError

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy import sparse


def chosen_resolution(
    adata: AnnData,
    graph: sparse.csr_matrix,
    nearest: NDArray[np.int32] | None = None,
    *,
    n_neighbors: int | None,
) -> float:
    """Return the resolution that `scan_resolutions` chose, or what gives its clusters on this graph.

    `nearest` (n_pooled,) is the node of each event of the pool in a graph of prototypes.
    """
    from cytoclust.numerics.stability import match_partition

    scan = checks.require_step(adata, schema.SCAN_RESOLUTIONS, "tl.scan_resolutions")
    chosen, wanted = scan["params"], np.asarray(scan["labels"])
    if chosen["n_events"] != adata.n_obs:
        msg = (
            f"resolution=None takes what scan_resolutions chose, but it saw {chosen['n_events']:,} "
            f"events and there are {adata.n_obs:,} now. Run tl.scan_resolutions again, or give a "
            "resolution."
        )
        raise ArgumentError(msg)
    resolution = float(chosen["resolution"])
    way = "exact" if nearest is None else "sketched"
    if (chosen["clustering"], chosen["n_neighbors"]) == (way, n_neighbors):
        return resolution
    nodes = chunks.pool_rows(adata.n_obs).astype(np.int32) if nearest is None else nearest
    return match_partition(graph, nodes, wanted, start=resolution)
