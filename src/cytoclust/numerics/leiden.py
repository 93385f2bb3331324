"""Leiden communities of a weighted CSR graph: modularity or constant Potts model, deterministic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

Objective = Literal["modularity", "cpm"]
MAX_ITERATIONS = 100  # of a run "until stable"; reached by no graph seen so far


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
        Runs of the whole algorithm, each from the communities of the last; -1 runs until stable.
    node_sizes
        Events per node for "cpm", (n_nodes,); 1 by default.

    Returns
    -------
    Community of each node, int32, numbered from 0 by decreasing number of nodes. Every community
    is connected. The same on any number of threads.

    References
    ----------
    Traag, Waltman & van Eck (2019), https://doi.org/10.1038/s41598-019-41695-z
    """
    indptr = graph.indptr.astype(np.int64)
    indices = graph.indices.astype(np.int32)
    weights = graph.data.astype(np.float64)
    n_nodes = len(indptr) - 1
    if objective == "modularity":
        masses = _strengths(indptr, weights)
        total = masses.sum()
        penalty = resolution / total if total > 0 else 0.0
    else:
        masses = np.ones(n_nodes) if node_sizes is None else node_sizes.astype(np.float64)
        penalty = resolution
    membership = np.arange(n_nodes, dtype=np.int32)
    rounds = MAX_ITERATIONS if n_iterations < 0 else n_iterations
    for _ in range(rounds):
        before = membership
        membership = _iterate(indptr, indices, weights, masses, membership, penalty, rng)
        membership = _split_disconnected(indptr, indices, weights, membership)
        gain = _quality(indptr, indices, weights, masses, membership, penalty) - _quality(
            indptr, indices, weights, masses, before, penalty
        )
        if gain <= 1e-7 * max(1e-300, weights.sum()):
            break
    return rank_by_size(membership)


def modularity(
    graph: sparse.csr_matrix, membership: NDArray[np.integer], resolution: float = 1.0
) -> float:
    """Return the modularity of communities on a symmetric graph."""
    indptr, weights = graph.indptr.astype(np.int64), graph.data.astype(np.float64)
    masses = _strengths(indptr, weights)
    total = masses.sum()
    if total <= 0:
        return 0.0
    labels = np.unique(membership, return_inverse=True)[1].astype(np.int32)
    indices = graph.indices.astype(np.int32)
    return float(_quality(indptr, indices, weights, masses, labels, resolution / total) / total)


def rank_by_size(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Renumber labels from 0 by decreasing size; of equal sizes the one met first is first."""
    _, first, codes, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    ranks = np.empty(len(sizes), dtype=np.int32)
    ranks[np.lexsort((first, -sizes))] = np.arange(len(sizes), dtype=np.int32)
    return ranks[codes.reshape(-1)]


def _iterate(  # noqa: PLR0917, the arrays of one graph
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weights: NDArray[np.float64],
    masses: NDArray[np.float64],
    membership: NDArray[np.int32],
    penalty: float,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Run the algorithm once: move nodes, refine, aggregate, until nothing is left to merge."""
    place = np.arange(len(masses), dtype=np.int32)  # node of the current graph that holds each node
    community = _compact(membership)
    while True:
        order = rng.permutation(len(masses)).astype(np.int32)
        _move_nodes(indptr, indices, weights, masses, community, penalty, order)
        community = _compact(community)
        n_communities = int(community.max(initial=-1)) + 1
        if n_communities >= len(masses):
            return community[place]
        order = rng.permutation(len(masses)).astype(np.int32)
        refined = _refine(indptr, indices, weights, masses, community, penalty, order)
        refined = _compact(refined)
        n_refined = int(refined.max()) + 1
        if n_refined >= len(masses):  # refinement kept every node apart: merge whole communities
            refined, n_refined = community, n_communities
        parents = np.empty(n_refined, dtype=np.int32)
        parents[refined] = community
        masses = np.bincount(refined, weights=masses, minlength=n_refined).astype(np.float64)
        indptr, indices, weights = _aggregate(indptr, indices, weights, refined, n_refined)
        place = refined[place]
        community = parents


def _compact(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Renumber labels to 0..n-1 without gaps."""
    present = np.zeros(int(labels.max(initial=-1)) + 1, dtype=np.bool_)
    present[labels] = True
    return (np.cumsum(present) - 1).astype(np.int32)[labels]


@njit(cache=True)
def _strengths(indptr, weights):  # type: ignore[no-untyped-def]
    """Sum the weights of every node."""
    out = np.zeros(len(indptr) - 1)
    for node in range(len(out)):
        for edge in range(indptr[node], indptr[node + 1]):
            out[node] += weights[edge]
    return out


@njit(cache=True)
def _quality(indptr, indices, weights, masses, membership, penalty):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Weight inside communities minus what their masses make expected."""
    mass = np.zeros(len(masses))
    inside = 0.0
    for node in range(len(masses)):
        mass[membership[node]] += masses[node]
        for edge in range(indptr[node], indptr[node + 1]):
            if membership[indices[edge]] == membership[node]:
                inside += weights[edge]
    return inside - penalty * (mass * mass).sum()


@njit(cache=True)
def _move_nodes(indptr, indices, weights, masses, community, penalty, order):  # type: ignore[no-untyped-def]  # noqa: PLR0912, PLR0915, PLR0917
    """Move nodes to the best neighbouring (or an empty) community until no move improves.

    Nodes wait in a ring; those whose neighbourhood changed queue again. Gains are compared per
    visit, ties keep the node where it is or take the community met first.
    """
    n_nodes = len(masses)
    mass = np.zeros(n_nodes)
    size = np.zeros(n_nodes, dtype=np.int32)
    for node in range(n_nodes):
        mass[community[node]] += masses[node]
        size[community[node]] += 1
    empty = np.empty(n_nodes, dtype=np.int32)
    n_empty = 0
    for label in range(n_nodes - 1, -1, -1):
        if size[label] == 0:
            empty[n_empty] = label
            n_empty += 1
    queue = order.copy()
    queued = np.ones(n_nodes, dtype=np.bool_)
    toward = np.zeros(n_nodes)
    met = np.empty(n_nodes, dtype=np.int32)
    head, waiting = 0, n_nodes
    while waiting > 0:
        node = queue[head]
        head = head + 1 if head + 1 < n_nodes else 0
        waiting -= 1
        queued[node] = False
        old = community[node]
        n_met = 0
        for edge in range(indptr[node], indptr[node + 1]):
            other = indices[edge]
            if other != node and weights[edge] > 0.0:
                label = community[other]
                if toward[label] == 0.0:
                    met[n_met] = label
                    n_met += 1
                toward[label] += weights[edge]
        scaled = penalty * masses[node]
        best, stay = old, toward[old] - scaled * (mass[old] - masses[node])
        best_gain = stay
        for i in range(n_met):
            label = met[i]
            if label != old:
                gain = toward[label] - scaled * mass[label]
                if gain > best_gain:
                    best, best_gain = label, gain
        for i in range(n_met):
            toward[met[i]] = 0.0
        if size[old] > 1 and n_empty > 0 and best_gain < 0.0:
            best, best_gain = empty[n_empty - 1], 0.0
        # a move must gain more than rounding, or two communities could swap a node for ever
        if best == old or best_gain - stay <= 1e-12 * (abs(stay) + abs(best_gain) + scaled):
            continue
        if size[best] == 0:
            n_empty -= 1
        mass[old] -= masses[node]
        size[old] -= 1
        if size[old] == 0:
            empty[n_empty] = old
            n_empty += 1
        mass[best] += masses[node]
        size[best] += 1
        community[node] = best
        for edge in range(indptr[node], indptr[node + 1]):
            other = indices[edge]
            if not queued[other] and community[other] != best and other != node:
                queued[other] = True
                tail = head + waiting
                queue[tail if tail < n_nodes else tail - n_nodes] = other
                waiting += 1


@njit(cache=True)
def _refine(indptr, indices, weights, masses, community, penalty, order):  # type: ignore[no-untyped-def]  # noqa: PLR0912, PLR0917
    """Merge nodes again from singletons, inside their community and only where well connected.

    A node joins the neighbouring part of largest gain; it never leaves again, so each part is
    connected.
    """
    n_nodes = len(masses)
    part = np.arange(n_nodes).astype(np.int32)
    part_mass = masses.copy()
    part_size = np.ones(n_nodes, dtype=np.int32)
    cut = np.zeros(n_nodes)  # weight from each part to the rest of its community
    mass = np.zeros(n_nodes)
    for node in range(n_nodes):
        mass[community[node]] += masses[node]
        for edge in range(indptr[node], indptr[node + 1]):
            other = indices[edge]
            if other != node and community[other] == community[node]:
                cut[node] += weights[edge]
    toward = np.zeros(n_nodes)
    met = np.empty(n_nodes, dtype=np.int32)
    for node in order:
        total = mass[community[node]]
        if part_size[part[node]] > 1 or cut[node] < penalty * masses[node] * (total - masses[node]):
            continue
        n_met = 0
        for edge in range(indptr[node], indptr[node + 1]):
            other = indices[edge]
            if other != node and community[other] == community[node] and weights[edge] > 0.0:
                label = part[other]
                if toward[label] == 0.0:
                    met[n_met] = label
                    n_met += 1
                toward[label] += weights[edge]
        best, best_gain = part[node], 0.0
        for i in range(n_met):
            label = met[i]
            inner = part_mass[label]
            if cut[label] >= penalty * inner * (total - inner):
                gain = toward[label] - penalty * masses[node] * inner
                if gain > best_gain:
                    best, best_gain = label, gain
        if best != part[node]:
            cut[best] += cut[node] - 2.0 * toward[best]
            part_mass[best] += masses[node]
            part_size[best] += 1
            part_size[part[node]] = 0
            part[node] = best
        for i in range(n_met):
            toward[met[i]] = 0.0
    return part


@njit(cache=True)
def _aggregate(indptr, indices, weights, part, n_parts):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Make the graph whose nodes are the parts; weights inside a part stand on the diagonal."""
    n_nodes = len(part)
    starts = np.zeros(n_parts + 1, dtype=np.int64)
    for node in range(n_nodes):
        starts[part[node] + 1] += 1
    for label in range(n_parts):
        starts[label + 1] += starts[label]
    filled = starts[:-1].copy()
    members = np.empty(n_nodes, dtype=np.int32)
    for node in range(n_nodes):
        members[filled[part[node]]] = node
        filled[part[node]] += 1
    new_indptr = np.zeros(n_parts + 1, dtype=np.int64)
    new_indices = np.empty(len(indices), dtype=np.int32)
    new_weights = np.empty(len(indices))
    toward = np.zeros(n_parts)
    last = 0
    for label in range(n_parts):
        first = last
        for i in range(starts[label], starts[label + 1]):
            node = members[i]
            for edge in range(indptr[node], indptr[node + 1]):
                if weights[edge] > 0.0:
                    other = part[indices[edge]]
                    if toward[other] == 0.0:
                        new_indices[last] = other
                        last += 1
                    toward[other] += weights[edge]
        for edge in range(first, last):
            new_weights[edge] = toward[new_indices[edge]]
            toward[new_indices[edge]] = 0.0
        new_indptr[label + 1] = last
    return new_indptr, new_indices[:last].copy(), new_weights[:last].copy()


@njit(cache=True)
def _split_disconnected(indptr, indices, weights, membership):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Give each connected piece of a community a number of its own; never lowers the quality."""
    n_nodes = len(membership)
    out = np.full(n_nodes, -1, dtype=np.int32)
    stack = np.empty(n_nodes, dtype=np.int32)
    n_pieces = 0
    for start in range(n_nodes):
        if out[start] >= 0:
            continue
        out[start] = n_pieces
        stack[0] = start
        depth = 1
        while depth > 0:
            depth -= 1
            node = stack[depth]
            for edge in range(indptr[node], indptr[node + 1]):
                other = indices[edge]
                if weights[edge] > 0.0 and out[other] < 0 and membership[other] == membership[node]:
                    out[other] = n_pieces
                    stack[depth] = other
                    depth += 1
        n_pieces += 1
    return out
