"""How well clusters are found again when events are drawn anew or a group of them is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import get_num_threads
from scipy import sparse

from cytoclust.numerics.leiden import leiden, rank_by_size
from cytoclust.numerics.leiden_moves import SERIAL_NODES
from cytoclust.numerics.sketch import Edges
from cytoclust.numerics.threads import thread_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

STABLE = 0.75  # Jaccard from which a cluster counts as found again (Hennig 2008)
REPLICATE_RUNS = 2  # of Leiden in a replicate; further ones hardly change what is found again
MATCH_STEPS = range(-3, 6)  # quarters of an octave around a resolution that another graph may need
STABLE_SHARE = 0.75  # of the clusters, from which a resolution counts as stable


class Recovery(NamedTuple):
    """Agreement of one partition with replicates.

    `sizes` (n_clusters,) events; `jaccard` (n_clusters, n_replicates), NaN where a replicate holds
    no event of the cluster; `rand` (n_replicates,) adjusted Rand indices.
    """

    sizes: NDArray[np.int64]
    jaccard: NDArray[np.float64]
    rand: NDArray[np.float64]


def bootstrap_weights(
    n_events: int, n_replicates: int, *, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Draw how often each event stands in each bootstrap sample (Poisson of mean 1)."""
    for child in rng.spawn(n_replicates):
        yield child.poisson(1.0, size=n_events).astype(np.float64)


def left_out_weights(groups: NDArray[np.integer]) -> Iterator[NDArray[np.float64]]:
    """Leave out the events of one group after the other; groups are 0..n-1, -1 for none."""
    for group in range(int(groups.max(initial=-1)) + 1):
        yield (groups != group).astype(np.float64)


def partitions(
    graph: sparse.csr_matrix,
    nearest: NDArray[np.int32],
    resolutions: Sequence[float],
    *,
    rng: np.random.Generator,
) -> list[NDArray[np.int32]]:
    """Cluster the graph at each resolution and label every event, by decreasing size."""
    children = rng.spawn(len(resolutions))
    with _threads_for(graph.shape[0]):
        return [
            rank_by_size(leiden(graph, resolution, rng=child)[nearest])
            for resolution, child in zip(resolutions, children, strict=True)
        ]


def recover(  # noqa: PLR0917, what is judged, on what, and how often
    edges: Edges,
    labels: Sequence[NDArray[np.int32]],
    resolutions: Sequence[float],
    weights: Iterator[NDArray[np.float64]],
    *,
    rng: np.random.Generator,
    progress: Callable[[], None] = lambda: None,
) -> list[Recovery]:
    """Cluster replicates of the events and look for each given cluster in them.

    Parameters
    ----------
    edges
        Edges between events and the node of each event.
    labels
        Partitions of the events to judge, each 0..n-1, one per resolution.
    resolutions
        Resolution that each partition is judged at.
    weights
        Per replicate, how often each event is in it.
    rng
        Seed of the visiting orders.
    progress
        Called after each replicate.

    Returns
    -------
    One `Recovery` per partition. Of each cluster the best match among the replicate's clusters
    counts, events weighted as the replicate holds them.
    """
    cells, first = _cells(edges.nearest, labels)
    nodes, owns = edges.nearest[first], [own[first] for own in labels]
    pattern = Pattern(edges)
    pairs: list[list[tuple[NDArray[np.float64], float]]] = [[] for _ in labels]
    with _threads_for(pattern.n_nodes):
        for weight in weights:
            graph, place = pattern.graph(weight)
            in_cell = np.bincount(cells, weights=weight, minlength=len(first)).astype(np.float64)
            held = np.flatnonzero(in_cell)
            at, counts = place[nodes[held]], in_cell[held]
            for i, (own, resolution) in enumerate(zip(owns, resolutions, strict=True)):
                found = leiden(graph, resolution, rng=rng.spawn(1)[0], n_iterations=REPLICATE_RUNS)
                pairs[i].append(agreement(own[held], found[at], counts, n_own=int(own.max()) + 1))
            progress()
    return [
        Recovery(
            np.bincount(own),
            np.array([jaccard for jaccard, _ in judged]).T.reshape(int(own.max()) + 1, -1),
            np.array([rand for _, rand in judged]),
        )
        for own, judged in zip(labels, pairs, strict=True)
    ]


def _threads_for(n_nodes: int) -> AbstractContextManager[int]:
    """Take one thread for a graph that is clustered serially: others would only wait and spin."""
    return thread_limit(1 if n_nodes <= SERIAL_NODES else get_num_threads())


class Pattern:
    """Where the edges between events add to the graph of nodes, found once for all replicates."""

    def __init__(self, edges: Edges) -> None:
        self.edges = edges
        self.n_nodes = int(edges.nearest.max()) + 1
        ends = [edges.nearest[own].astype(np.int64) for own in (edges.starts, edges.ends)]
        codes = np.concatenate([ends[0] * self.n_nodes + ends[1], ends[1] * self.n_nodes + ends[0]])
        entries, self.places = np.unique(codes, return_inverse=True)
        self.indptr = np.searchsorted(entries, np.arange(self.n_nodes + 1) * self.n_nodes)
        self.indices = (entries % self.n_nodes).astype(np.int32)

    def graph(self, weights: NDArray[np.float64]) -> tuple[sparse.csr_matrix, NDArray[np.int64]]:
        """Join the nodes that hold any weight; returns each node's row, -1 for those left out."""
        edges = self.edges
        values = edges.values * weights[edges.starts] * weights[edges.ends]
        data = np.bincount(
            self.places.reshape(-1), weights=np.tile(values, 2), minlength=len(self.indices)
        )
        shape = (self.n_nodes, self.n_nodes)
        graph = sparse.csr_matrix((data.astype(np.float32), self.indices, self.indptr), shape=shape)
        held = np.bincount(edges.nearest, weights=weights, minlength=self.n_nodes) > 0
        kept = np.flatnonzero(held)
        place = np.where(held, np.cumsum(held) - 1, -1)
        return (graph if held.all() else graph[kept][:, kept]), place


def _cells(
    nearest: NDArray[np.int32], labels: Sequence[NDArray[np.int32]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group events that share node and clusters: the cell of each, and a first event per cell."""
    _, first, cells = np.unique(nearest, return_index=True, return_inverse=True)
    for own in labels:
        if not np.array_equal(own[first][cells], own):
            code = cells.astype(np.int64) * (int(own.max()) + 1) + own
            _, first, cells = np.unique(code, return_index=True, return_inverse=True)
    return cells.reshape(-1), first


def agreement(
    own: NDArray[np.int32],
    other: NDArray[np.int32],
    weights: NDArray[np.float64],
    *,
    n_own: int | None = None,
) -> tuple[NDArray[np.float64], float]:
    """Return each own cluster's best Jaccard index among the others', and the adjusted Rand index.

    Clusters are 0..n_own-1, those that `own` names by default; one that holds no weight has NaN.
    """
    n_own = int(own.max()) + 1 if n_own is None else n_own
    n_other = int(other.max()) + 1
    shared = np.bincount(
        own.astype(np.int64) * n_other + other, weights=weights, minlength=n_own * n_other
    ).astype(np.float64)
    shared = shared.reshape(-1, n_other)
    sizes, other_sizes = shared.sum(axis=1), shared.sum(axis=0)
    union = sizes[:, None] + other_sizes[None, :] - shared
    best = (shared / np.maximum(union, 1e-300)).max(axis=1)
    best[sizes == 0] = np.nan
    return best, _adjusted_rand(shared, sizes, other_sizes)


def _adjusted_rand(
    shared: NDArray[np.float64], sizes: NDArray[np.float64], other_sizes: NDArray[np.float64]
) -> float:
    """Return the adjusted Rand index of a contingency table; 1 for two partitions in one cluster."""

    def pairs(counts: NDArray[np.float64]) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    total = max(pairs(np.array([shared.sum()])), 1e-300)
    both, own, other = pairs(shared), pairs(sizes), pairs(other_sizes)
    expected = own * other / total
    largest = (own + other) / 2
    return (
        1.0 if largest - expected <= 1e-12 * largest else (both - expected) / (largest - expected)
    )


def match_partition(
    graph: sparse.csr_matrix,
    nearest: NDArray[np.int32],
    wanted: NDArray[np.int32],
    *,
    start: float,
) -> float:
    """Find the resolution at which another graph of the same events gives the clusters wanted.

    Parameters
    ----------
    graph
        To find it for.
    nearest
        Node of each event that is compared.
    wanted
        Cluster of each of these events, 0..n-1.
    start
        Resolution that gave them; from 0.6 to 2.4 times this are tried.

    Returns
    -------
    Of those tried, the one at which the clusters wanted find their best matches: the largest mean of
    Jaccard's index over them; of equal ones the nearest to `start`.
    """
    ones = np.ones(len(wanted))
    best, most = start, -1.0
    with _threads_for(graph.shape[0]):
        for step in sorted(MATCH_STEPS, key=abs):
            tried = start * 2.0 ** (step / 4)
            rng = np.random.default_rng(0)  # the same visits each time
            labels = leiden(graph, tried, rng=rng, n_iterations=REPLICATE_RUNS)
            found = float(np.nanmean(agreement(wanted, labels[nearest], ones)[0]))
            if found > most + 1e-9:
                best, most = tried, found
    return best


def event_edges(graph: sparse.csr_matrix) -> Edges:
    """List the edges of a symmetric graph of all events, each once."""
    edges = graph.tocoo()
    once = edges.row < edges.col
    return Edges(
        edges.row[once].astype(np.int32),
        edges.col[once].astype(np.int32),
        edges.data[once].astype(np.float64),
        np.arange(graph.shape[0], dtype=np.int32),
    )


def choose(resolutions: Sequence[float], shares: Sequence[float]) -> float:
    """Choose the finest resolution at which enough clusters are stable, or the one with the most.

    Parameters
    ----------
    resolutions
        Those scanned.
    shares
        Share of the clusters that are stable at each.
    """
    enough = [
        r for r, share in zip(resolutions, shares, strict=True) if share >= STABLE_SHARE - 1e-9
    ]
    if enough:
        return max(enough)
    return min(r for r, share in zip(resolutions, shares, strict=True) if share == max(shares))
