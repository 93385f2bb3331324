"""Events at the border of two clusters, whose prototype stands on the wrong side for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cytoclust.numerics.sketch import Edges


def settle_borders(edges: Edges, labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Hand each event to the cluster that most of its own edges lead to.

    Parameters
    ----------
    edges
        Edges of every event.
    labels
        Cluster of each event, 0..n-1, as its prototype has it.

    Returns
    -------
    Cluster of each event, int32. All events are looked at once and at the same time; one stays where
    two clusters hold as much weight. A cluster that every event would leave is kept as it was.
    """
    n_events, n_clusters = len(labels), int(labels.max(initial=-1)) + 1
    ends = np.concatenate([edges.ends, edges.starts])
    shape = (n_events, n_clusters)
    toward = sparse.coo_matrix(
        (np.tile(edges.values, 2), (np.concatenate([edges.starts, edges.ends]), labels[ends])),
        shape=shape,
    ).tocsr()  # sums what leads to the same cluster
    row = np.repeat(np.arange(n_events), np.diff(toward.indptr))
    own = toward.indices == labels[row]
    order = np.lexsort((own, toward.data, row))
    row, column = row[order], toward.indices[order]
    last = np.diff(row, append=-1) != 0  # the largest weight; of equal ones one's own
    settled = labels.copy()
    settled[row[last]] = column[last]
    emptied = np.bincount(settled, minlength=n_clusters) == 0
    return np.where(emptied[labels], labels, settled).astype(np.int32)
