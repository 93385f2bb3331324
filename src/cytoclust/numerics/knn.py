"""k nearest neighbours of every event, and the weighted graph that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit, prange
from scipy import sparse

from cytoclust.numerics.prototypes import Index, build_index, calibrate
from cytoclust.numerics.search import CHUNK, group_in_sequence, padded

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

EXACT_ROWS = 20_000  # up to here every pair is compared
RECALL = (
    0.965  # on a sample of exactly searched events; the cells looked into are raised until then
)


@dataclass(frozen=True)
class Neighbors:
    """Neighbours of each event without itself, nearest first; squared distances."""

    rows: NDArray[np.int32]
    distances: NDArray[np.float32]
    recall: float
    n_probes: int


def nearest_neighbors(
    X: NDArray[np.floating],
    k: int,
    *,
    rng: np.random.Generator,
    exact_rows: int = EXACT_ROWS,
    progress: Callable[[int], None] = lambda _: None,
) -> Neighbors:
    """Find the k nearest other events of every event.

    Parameters
    ----------
    X
        Events x markers, finite.
    k
        Neighbours per event, below the number of events.
    rng
        Source of every random choice.
    exact_rows
        Up to this many events every pair is compared; above, the events of the nearest cells.
    progress
        Called with the number of events done, after each 65,536.

    Returns
    -------
    Neighbors
        Rows (n_events, k) int32 and squared Euclidean distances float32. Bit-identical on any number of
        threads. Above `exact_rows` the recall, measured on 256 events, is at least 0.965.
    """
    rows = padded(X)
    if len(rows) <= exact_rows:
        index = Index(group_in_sequence(rows))
        return _collect(index, rows, k, recall=1.0, progress=progress)
    index = build_index(rows, rng=rng, n_probes=8)
    index, recall = calibrate(index, rows, k=k, rng=rng, recall=RECALL)
    return _collect(index, rows, k, recall=recall, progress=progress)


def _collect(
    index: Index,
    rows: NDArray[np.float32],
    k: int,
    *,
    recall: float,
    progress: Callable[[int], None],
) -> Neighbors:
    """Query the index for every row, in the order of its cells: neighbouring queries are cached."""
    found = np.empty((len(rows), k), dtype=np.int32)
    distances = np.empty((len(rows), k), dtype=np.float32)
    for start in range(0, len(rows), CHUNK):
        part = index.cells.order[start : start + CHUNK]
        found[part], distances[part] = index.query(rows[part], k=k, exclude=part)
        progress(len(part))
    return Neighbors(found, distances, recall, 0 if index.coarse is None else index.n_probes)


def distance_graph(neighbors: Neighbors) -> sparse.csr_matrix:
    """Return the directed graph of distances, (n_events, n_events) float32, k stored per row."""
    return _to_csr(neighbors.rows, np.sqrt(neighbors.distances))


def jaccard_graph(rows: NDArray[np.int32]) -> sparse.csr_matrix:
    """Weight neighbours by the neighbours they share.

    Parameters
    ----------
    rows
        Neighbours of each event without itself, (n_events, k); -1 for none.

    Returns
    -------
    Symmetric (n_events, n_events) float32 with sorted indices: an edge where either event is a
    neighbour of the other, weighted with shared / all of their neighbours, each event counted as
    its own neighbour (so every edge has a weight above 0).
    """
    n_rows = len(rows)
    members = neighborhoods(np.arange(n_rows, dtype=np.int32), rows)
    weights = np.zeros(rows.shape, dtype=np.float32)
    one_way = np.zeros(rows.shape, dtype=np.bool_)
    names = np.arange(n_rows)
    share_neighbors(names, names, rows, members, weights, one_way)
    forward = _to_csr(rows, weights)
    backward = _to_csr(np.where(one_way, rows, -1), weights).T.tocsr()
    graph = (forward + backward).tocsr()
    graph.sort_indices()
    return graph


def neighborhoods(events: NDArray[np.int32], rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return each event's neighbours and itself, sorted; (n, k + 1) int32."""
    members = np.concatenate([rows, events[:, None]], axis=1)
    members.sort(axis=1)
    return members


def _to_csr(rows: NDArray[np.int32], values: NDArray[np.float32]) -> sparse.csr_matrix:
    """Make a graph of the neighbours that are there; zeros are stored."""
    there = rows >= 0
    indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(there.sum(axis=1), out=indptr[1:])
    if indptr[-1] < np.iinfo(np.int32).max:
        indptr = indptr.astype(np.int32)
    graph = sparse.csr_matrix(
        (values[there].astype(np.float32), rows[there].astype(indptr.dtype), indptr),
        shape=(len(rows), len(rows)),
    )
    graph.sort_indices()
    return graph


@njit(cache=True, parallel=True)
def share_neighbors(names, events, rows, members, weights, one_way):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Write the Jaccard weight of each event's edges and whether the edge is only one way.

    `events` (n,) and `rows` (n, k) are the edges, as positions in `members`, which holds sorted
    neighbourhoods under the events' own `names` (n,).
    """
    width = members.shape[1]
    for edge_row in prange(len(events)):
        own = members[events[edge_row]]
        for column in range(rows.shape[1]):
            if rows[edge_row, column] < 0:
                continue
            other = members[rows[edge_row, column]]
            i, j, shared, valid = 0, 0, 0, 0
            mutual = False
            while i < width and j < width:
                if other[j] == names[edge_row]:
                    mutual = True
                if own[i] < other[j]:
                    i += 1
                elif own[i] > other[j]:
                    j += 1
                else:
                    shared += own[i] >= 0
                    i += 1
                    j += 1
            for place in range(width):
                valid += own[place] >= 0
                valid += other[place] >= 0
            weights[edge_row, column] = shared / (valid - shared)
            one_way[edge_row, column] = not mutual
