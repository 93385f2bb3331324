"""Cluster events on their graph, or on prototypes joined by edges sampled from that graph.

Leiden's modularity of a partition does not change when nodes of one community are merged and the
weights inside them kept on the diagonal. So prototypes are joined by the very edges of the graph of
all events (sampled and scaled up where there are too many), not by distances among prototypes: the
same resolution then means nearly the same on both; prototypes that straddle a border coarsen it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from cytoclust.numerics.borders import settle_borders
from cytoclust.numerics.knn import (
    jaccard_graph,
    nearest_neighbors,
    neighborhoods,
    share_neighbors,
)
from cytoclust.numerics.leiden import leiden, rank_by_size
from cytoclust.numerics.prototypes import Index, build_index, calibrate, train
from cytoclust.numerics.search import CHUNK, padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT_EVENTS = 50_000  # up to here `cluster_events` takes the graph of all events
MAX_PROTOTYPES = 4096
EVENTS_PER_PROTOTYPE = 16
ALL_EDGES = 200_000  # up to here the edges of every event are looked at
QUERIES = 100_000  # neighbour searches that the edges of drawn events may cost above that
SKETCH_RECALL = 0.9  # of the neighbours whose edges are looked at
MIN_SAMPLED = 2  # events per prototype whose edges are always looked at
TRAINING_ROWS = 16  # rows per prototype that Lloyd rounds see
TRAINING_ROUNDS = 3


@dataclass(frozen=True)
class Edges:
    """Weighted edges between events, each listed once or as two halves, and the events' nodes.

    `starts` and `ends` (n_edges,) int32 are events, `values` (n_edges,) float64; `nearest`
    (n_events,) int32 is the node (prototype, or the event itself) that stands for each event.
    """

    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    values: NDArray[np.float64]
    nearest: NDArray[np.int32]

    def graph(self, weights: NDArray[np.float64] | None = None) -> sparse.csr_matrix:
        """Sum the edges between (and inside) nodes; an edge counts the `weights` of both events."""
        values = self.values
        if weights is not None:
            values = values * weights[self.starts] * weights[self.ends]
        n_nodes = int(self.nearest.max()) + 1
        ends = (self.nearest[self.starts], self.nearest[self.ends])
        half = sparse.coo_matrix((values, ends), shape=(n_nodes, n_nodes)).tocsr()
        graph = (half + half.T).tocsr()
        graph.sort_indices()
        return graph


@dataclass(frozen=True)
class Sketch:
    """Prototypes, the prototype of every event, and the graph that joins the prototypes.

    `prototypes` (n_prototypes, n_markers) float32; `nearest` (n_events,) int32; `graph` symmetric
    with the weight inside a prototype, counted from both ends, on the diagonal; `edges` what it is
    made of.
    """

    prototypes: NDArray[np.float32]
    nearest: NDArray[np.int32]
    graph: sparse.csr_matrix
    edges: Edges
    n_sampled: int


def cluster_events(
    X: NDArray[np.floating],
    resolution: float = 1.0,
    *,
    n_neighbors: int = 15,
    rng: np.random.Generator,
    exact_events: int = EXACT_EVENTS,
) -> NDArray[np.int32]:
    """Label every event: on the graph of all events if they are few, else through prototypes.

    Parameters
    ----------
    X
        Events x markers, finite.
    resolution
        Of Leiden's modularity, above 0.
    n_neighbors
        Neighbours per event, itself counted; fewer where there are fewer events.
    rng
        Source of every random choice.
    exact_events
        Up to this many events the graph holds every event.

    Returns
    -------
    Label of each event, int32, numbered from 0 by decreasing size.
    """
    if len(X) < 3:
        return np.zeros(len(X), dtype=np.int32)
    if len(X) <= exact_events:
        k = min(n_neighbors, len(X)) - 1
        neighbors = nearest_neighbors(X, k, rng=rng)
        return leiden(jaccard_graph(neighbors.rows), resolution, rng=rng)
    sketch = sketch_events(X, n_neighbors=n_neighbors, rng=rng)
    return label_events(sketch, leiden(sketch.graph, resolution, rng=rng))[0]


def label_events(
    sketch: Sketch, labels: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Hand the prototypes' labels to their events; both numbered by decreasing number of events.

    Where the edges of every event are known, events at borders go to the cluster of their neighbours.
    """
    events = rank_by_size(labels[sketch.nearest])
    ranked = np.zeros(len(labels), dtype=np.int32)
    ranked[sketch.nearest] = events
    if sketch.n_sampled < len(events):
        return events, ranked
    settled = settle_borders(sketch.edges, events)
    numbers = np.empty(int(events.max()) + 1, dtype=np.int32)
    numbers[settled] = final = rank_by_size(settled)
    return final, numbers[ranked]


def default_prototypes(n_events: int) -> int:
    """Return one prototype per 16 events, at least 1,024 (or every event) and at most 4,096."""
    return min(n_events, max(1024, min(MAX_PROTOTYPES, n_events // EVENTS_PER_PROTOTYPE)))


def sketch_events(
    X: NDArray[np.floating],
    *,
    n_prototypes: int | None = None,
    n_neighbors: int = 15,
    rng: np.random.Generator,
) -> Sketch:
    """Place prototypes, find each event's own, and join them by the events' Jaccard edges.

    Parameters
    ----------
    X
        Events x markers, finite, at least 3 events.
    n_prototypes
        By default one per 16 events, between 1,024 and 4,096.
    n_neighbors
        Neighbours per event, itself counted.
    rng
        Source of every random choice.

    Returns
    -------
    Sketch
        Prototypes that no event is nearest to are left out. Bit-identical on any number of threads.
    """
    rows = padded(X)
    wanted = default_prototypes(len(rows)) if n_prototypes is None else n_prototypes
    centers = train(rows, wanted, rng=rng, rounds=TRAINING_ROUNDS, rows_per_prototype=TRAINING_ROWS)
    index = build_index(rows, rng=rng, n_probes=8, centers=centers)
    sizes = np.diff(index.cells.starts)
    nearest = np.empty(len(rows), dtype=np.int32)
    present = sizes > 0
    compact = (np.cumsum(present) - 1).astype(np.int32)
    nearest[index.cells.order] = np.repeat(compact, sizes)
    k = min(n_neighbors, len(rows)) - 1
    index = calibrate(index, rows, k=k, rng=rng, recall=SKETCH_RECALL)[0]
    events, scale = _draw_events(index, k, rng)
    edges = _sample_edges(index, rows, events, scale, nearest, k)
    prototypes = np.ascontiguousarray(centers[present, : X.shape[1]])
    return Sketch(prototypes, nearest, edges.graph(), edges, len(events))


def _draw_events(
    index: Index, k: int, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Draw the events whose edges are looked at, and how many events each stands for.

    All of them up to 200,000; else in proportion to the cells' sizes, but at least two per
    cell, so that the edges of rare populations are seen.
    """
    n_events = len(index.cells.order)
    if n_events <= ALL_EDGES:
        return np.arange(n_events, dtype=np.int32), np.ones(n_events)
    sizes = np.diff(index.cells.starts)
    share = QUERIES / (k + 1) / n_events
    drawn = np.minimum(sizes, np.maximum(MIN_SAMPLED, np.ceil(sizes * share).astype(np.int64)))
    # every so many events from a random one on: samples and times are drawn evenly
    cell = np.repeat(np.arange(len(sizes)), drawn)
    turn = np.arange(len(cell)) - np.repeat(np.cumsum(drawn) - drawn, drawn)
    steps = (turn + rng.random(len(sizes))[cell]) * (sizes / np.maximum(drawn, 1))[cell]
    places = index.cells.starts[cell] + np.minimum(steps.astype(np.int64), sizes[cell] - 1)
    return index.cells.order[places], (sizes / np.maximum(drawn, 1))[cell]


def _sample_edges(  # noqa: PLR0917, one step of sketch_events
    index: Index,
    rows: NDArray[np.float32],
    events: NDArray[np.int32],
    scale: NDArray[np.float64],
    nearest: NDArray[np.int32],
    k: int,
) -> Edges:
    """Weigh the drawn events' edges by Jaccard, each for the events it stands for."""
    found = _search_neighbors(index, rows, events, k)
    if len(events) == len(rows):
        named, around = events, found
    else:
        named = np.unique(np.concatenate([events, found[found >= 0]]))
        around = _search_neighbors(index, rows, named, k)
    position = np.full(len(rows) + 1, -1, dtype=np.int32)  # the last place answers for "none": -1
    position[named] = np.arange(len(named), dtype=np.int32)
    weights = np.zeros(found.shape, dtype=np.float32)
    one_way = np.zeros(found.shape, dtype=np.bool_)
    members = neighborhoods(named, around)
    share_neighbors(events, position[events], position[found], members, weights, one_way)
    # an edge that is drawn from both of its ends counts half from each
    values = np.where(one_way, 1.0, 0.5) * weights * scale[:, None]
    there = found >= 0
    starts = np.repeat(events, there.sum(axis=1))
    return Edges(starts, found[there], values[there], nearest)


def _search_neighbors(  # noqa: PLR0917, internal
    index: Index, rows: NDArray[np.float32], events: NDArray[np.int32], k: int
) -> NDArray[np.int32]:
    """Find the neighbours of some events, chunk by chunk, nearby events together."""
    rank = np.empty(len(rows), dtype=np.int32)
    rank[index.cells.order] = np.arange(len(rows), dtype=np.int32)
    order = np.argsort(rank[events], kind="stable")
    found = np.empty((len(events), k), dtype=np.int32)
    for start in range(0, len(events), CHUNK):
        part = order[start : start + CHUNK]
        found[part] = index.query(rows[events[part]], k=k, exclude=events[part])[0]
    return found
