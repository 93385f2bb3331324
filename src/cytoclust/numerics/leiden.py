"""Leiden communities of a weighted CSR graph: modularity or constant Potts model, deterministic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numba
import numpy as np
from numba import njit, prange

from cytoclust.numerics.leiden_merges import aggregate, refine, split_disconnected
from cytoclust.numerics.leiden_moves import BATCH, SERIAL_NODES, move_nodes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

Objective = Literal["modularity", "cpm"]
MAX_ITERATIONS = 100  # of a run "until stable"; reached by no graph seen so far
# an iteration that gains less than this share of all weight (1e-4 of modularity) is the last
STABLE = 5e-5
BLOCK = 4096  # nodes whose terms are summed together, so that sums do not depend on threads


def leiden(
    graph: sparse.csr_matrix,
    resolution: float = 1.0,
    *,
    rng: np.random.Generator,
    objective: Objective = "modularity",
    n_iterations: int = -1,
    node_sizes: NDArray[np.float64] | None = None,
) -> NDArray[np.int32]:
    """Find communities by the Leiden algorithm.

    Parameters
    ----------
    graph
        Symmetric weights >= 0, (n_nodes, n_nodes); a diagonal entry holds the weight inside a node,
        counted from both ends (twice the weight of its inner edges).
    resolution
        Above 0; more gives more communities.
    rng
        Source of the order in which nodes are visited.
    objective
        "modularity" (against the configuration model) or "cpm" (constant Potts model).
    n_iterations
        Runs of the whole algorithm, each from the communities of the last; -1 runs until stable:
        until an iteration gains less than 5e-5 of all weight (1e-4 of modularity).
    node_sizes
        Events per node for "cpm", (n_nodes,); 1 by default.

    Returns
    -------
    Community of each node, int32, numbered from 0 by decreasing number of nodes. Every community
    is connected. The same on any number of threads.

    Notes
    -----
    Peak memory beyond the graph: about 8 bytes per stored weight (12 if they are float64) for a
    copy whose rows stand in the order of visits, as much again while the first level is merged, and
    60 bytes per node.

    References
    ----------
    Traag, Waltman & van Eck (2019), https://doi.org/10.1038/s41598-019-41695-z
    """
    n_nodes = graph.shape[0]
    order = rng.permutation(n_nodes).astype(np.int32)
    level, strengths = _in_order_of_visits(graph, order)
    if objective == "modularity":
        masses = strengths
        total = masses.sum()
        penalty = resolution / total if total > 0 else 0.0
    else:
        masses = np.ones(n_nodes) if node_sizes is None else node_sizes.astype(np.float64)[order]
        penalty = resolution
    membership = np.arange(n_nodes, dtype=np.int32)
    rounds = MAX_ITERATIONS if n_iterations < 0 else n_iterations
    for _ in range(rounds):
        membership, gain = _iterate(level, masses, membership, penalty, rng)
        if gain <= STABLE * max(1e-300, strengths.sum()):
            break
    labels = np.empty(n_nodes, dtype=np.int32)
    labels[order] = membership
    return rank_by_size(labels)


def modularity(
    graph: sparse.csr_matrix, membership: NDArray[np.integer], resolution: float = 1.0
) -> float:
    """Return the modularity of communities on a symmetric graph."""
    strengths = _strengths(graph.indptr, graph.data)
    total = strengths.sum()
    if total <= 0:
        return 0.0
    labels = np.unique(membership, return_inverse=True)[1].astype(np.int32)
    inside = _inside(graph.indptr, graph.indices, graph.data, labels).sum()
    mass = np.bincount(labels, weights=strengths)
    return float((inside - resolution / total * (mass * mass).sum()) / total)


def rank_by_size(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Renumber labels from 0 by decreasing size; of equal sizes the one met first is first."""
    sizes = np.bincount(labels)
    first = np.zeros(len(sizes), dtype=np.int64)
    first[labels[::-1]] = np.arange(len(labels) - 1, -1, -1)  # the last assignment stands
    present = np.flatnonzero(sizes)
    ranks = np.zeros(len(sizes), dtype=np.int32)
    order = np.lexsort((first[present], -sizes[present]))
    ranks[present[order]] = np.arange(len(present), dtype=np.int32)
    return ranks[labels]


Level = tuple["NDArray[np.int64]", "NDArray[np.int32]", "NDArray[np.floating]"]


def _in_order_of_visits(
    graph: sparse.csr_matrix, order: NDArray[np.int32]
) -> tuple[Level, NDArray[np.float64]]:
    """Copy the graph with node `order[i]` at place i; visits then read memory from end to end.

    Edges of no weight and the diagonal are left out; returns strengths with the diagonal, too.
    """
    data = graph.data if graph.data.dtype == np.float32 else graph.data.astype(np.float64)
    counts = _kept(graph.indptr, graph.indices, data, order)
    indptr = np.zeros(len(order) + 1, dtype=np.int64)
    np.cumsum(counts, out=indptr[1:])
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    indices = np.empty(indptr[-1], dtype=np.int32)
    weights = np.empty(indptr[-1], dtype=data.dtype)
    _copy_rows(graph.indptr, graph.indices, data, order, place, indptr, indices, weights)
    return (indptr, indices, weights), _strengths(graph.indptr, data)[order]


def _iterate(  # noqa: PLR0917, the state of one run
    level: Level,
    masses: NDArray[np.float64],
    membership: NDArray[np.int32],
    penalty: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int32], float]:
    """Run the algorithm once: move nodes, refine, aggregate, until nothing is left to merge."""
    place = np.arange(len(masses), dtype=np.int32)  # node of the current level that holds each node
    community = _compact(membership)
    gain = 0.0
    while True:
        tables = _tables(level[0])
        alone = len(masses) <= SERIAL_NODES
        order = _visits(len(masses), 1 if alone else BATCH, rng)
        gain += move_nodes(*level, masses, community, penalty, order, *tables, BATCH, alone)
        community = _compact(community)
        n_communities = int(community.max(initial=-1)) + 1
        if n_communities >= len(masses):
            return community[place], gain
        refined = _compact(refine(*level, masses, community, penalty, order, *tables, BATCH, alone))
        n_refined = int(refined.max()) + 1
        if n_refined >= len(masses):  # refinement kept every node apart: merge whole communities
            refined = split_disconnected(level[0], level[1], community)
            n_refined = int(refined.max()) + 1
            if n_refined >= len(masses):
                return refined[place], gain
        parents = np.empty(n_refined, dtype=np.int32)
        parents[refined] = community
        masses = np.bincount(refined, weights=masses, minlength=n_refined).astype(np.float64)
        level = aggregate(*level, refined, n_refined, numba.get_num_threads())
        place = refined[place]
        community = parents


def _visits(n_nodes: int, batch: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw an order of visits that differs between runs and levels, but keeps batches in one piece.

    Nodes of a large level stand in random order already and are read from end to end.
    """
    nodes = np.arange(n_nodes, dtype=np.int32)
    if batch == 1:
        return rng.permutation(nodes)
    starts = rng.permutation(np.arange(0, n_nodes, batch))
    return np.concatenate([nodes[start : start + batch] for start in starts])


def _tables(
    indptr: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int32]]:
    """Make a hash table for each thread that holds the labels around any node."""
    widest = int(np.diff(indptr).max(initial=1)) + 1
    shape = numba.get_num_threads(), 1 << (2 * widest - 1).bit_length()
    return np.full(shape, -1, dtype=np.int32), np.empty(shape), np.empty(shape, dtype=np.int32)


def _compact(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Renumber labels to 0..n-1 without gaps."""
    present = np.zeros(int(labels.max(initial=-1)) + 1, dtype=np.bool_)
    present[labels] = True
    return (np.cumsum(present) - 1).astype(np.int32)[labels]


@njit(cache=True, parallel=True)
def _strengths(indptr, weights):  # type: ignore[no-untyped-def]
    """Sum the weights of every node."""
    out = np.zeros(len(indptr) - 1)
    for node in prange(len(out)):
        total = 0.0
        for edge in range(indptr[node], indptr[node + 1]):
            total += weights[edge]
        out[node] = total
    return out


@njit(cache=True, parallel=True)
def _inside(indptr, indices, weights, labels):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Sum the weights inside communities, block of nodes by block."""
    n_nodes = len(labels)
    out = np.zeros((n_nodes + BLOCK - 1) // BLOCK)
    for block in prange(len(out)):
        total = 0.0
        for node in range(block * BLOCK, min(n_nodes, (block + 1) * BLOCK)):
            for edge in range(indptr[node], indptr[node + 1]):
                if labels[indices[edge]] == labels[node]:
                    total += weights[edge]
        out[block] = total
    return out


@njit(cache=True, parallel=True)
def _kept(indptr, indices, weights, order):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Count the edges of every node that have weight and lead to another node."""
    out = np.zeros(len(order), dtype=np.int64)
    for i in prange(len(order)):
        count = 0
        for edge in range(indptr[order[i]], indptr[order[i] + 1]):
            count += weights[edge] > 0 and indices[edge] != order[i]
        out[i] = count
    return out


@njit(cache=True, parallel=True)
def _copy_rows(indptr, indices, weights, order, place, new_indptr, new_indices, new_weights):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Copy the edges that `_kept` counts, rows in order and columns renamed."""
    for i in prange(len(order)):
        at = new_indptr[i]
        for edge in range(indptr[order[i]], indptr[order[i] + 1]):
            if weights[edge] > 0 and indices[edge] != order[i]:
                new_indices[at] = place[indices[edge]]
                new_weights[at] = weights[edge]
                at += 1
