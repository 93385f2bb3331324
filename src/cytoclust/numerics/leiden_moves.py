# kernels take the arrays of a graph or an index one by one, and numba finds their types
# ruff: noqa: PLR0913, PLR0917
# mypy: disable-error-code="no-untyped-def"
"""Local moving of the Leiden algorithm: nodes change community in batches, the same on any thread count.

Threads look for the best community of every node of a batch while nothing moves; then the moves are
made one after another, and a node whose neighbourhood changed since it was looked at is looked at
again. So every move truly gains, as in the serial algorithm, and the number of threads changes
nothing. A graph stands in CSR: `indptr` int64, `indices` int32, `weights` > 0, no diagonal; `tables`
(n_threads, capacity) are hash tables that sum weights by label: keys -1 where free.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, prange

__all__ = ["BATCH", "SERIAL_NODES", "move_nodes", "slot"]

BATCH = 4096  # nodes that are looked at together; few of them are neighbours in a large graph
SERIAL_NODES = 1 << 15  # below, a batch would hold too many neighbours: one node after another
EMPTY: Final = -1  # stands for a community without nodes


@njit(cache=True, inline="always")
def slot(keys, label):
    """Return the place of a label in a hash table, or the free place where it belongs."""
    mask = len(keys) - 1
    place = (label * 40503) & mask
    while keys[place] != label and keys[place] != -1:
        place = (place + 1) & mask
    return place


@njit(cache=True)
def _best_community(
    node, indptr, indices, weights, community, mass, scaled, own_mass, keys, sums, met
):
    """Return the community of largest gain, the weight toward it and toward the node's own."""
    n_met = 0
    for edge in range(indptr[node], indptr[node + 1]):
        label = community[indices[edge]]
        place = slot(keys, label)
        if keys[place] == -1:
            keys[place] = label
            sums[place] = 0.0
            met[n_met] = place
            n_met += 1
        sums[place] += weights[edge]
    old = community[node]
    place = slot(keys, old)
    toward_old = sums[place] if keys[place] == old else 0.0
    best, toward_best = old, toward_old
    best_gain = toward_old - scaled * (mass[old] - own_mass)
    for i in range(n_met):
        label = keys[met[i]]
        if label != old:
            gain = sums[met[i]] - scaled * mass[label]
            if gain > best_gain:
                best, best_gain, toward_best = label, gain, sums[met[i]]
    for i in range(n_met):
        keys[met[i]] = -1
    if best_gain < 0.0:
        best, toward_best = EMPTY, 0.0
    return best, toward_best, toward_old


@njit(cache=True)
def _start_communities(masses, community):
    """Return mass and size of each label, and a stack of the labels that are free."""
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
    return mass, size, empty, n_empty


@njit(cache=True)
def _apply_moves(
    batch,
    best,
    toward_best,
    toward_old,
    indptr,
    indices,
    weights,
    masses,
    community,
    mass,
    size,
    empty,
    n_empty,
    flags,
    penalty,
    keys,
    sums,
    met,
):
    """Make the moves of a batch in order; returns the number of free labels and the gain."""
    total_gain = 0.0
    for i in range(len(batch)):
        node = batch[i]
        own_mass = masses[node]
        scaled = penalty * own_mass
        old = community[node]
        target, toward, leaving = best[i], toward_best[i], toward_old[i]
        if flags[node] & 2:  # a neighbour moved since
            flags[node] = 0
            target, toward, leaving = _best_community(
                node, indptr, indices, weights, community, mass, scaled, own_mass, keys, sums, met
            )
        if target == old or (target == -1 and (size[old] == 1 or n_empty == 0)):
            continue
        stay = leaving - scaled * (mass[old] - own_mass)
        move = 0.0
        if target == -1:
            target = empty[n_empty - 1]
        else:
            move = toward - scaled * mass[target]
        # a move must gain more than rounding, or two communities could swap a node for ever
        if move - stay <= 1e-12 * (abs(stay) + abs(move) + scaled):
            continue
        total_gain += move - stay
        if size[target] == 0:
            n_empty -= 1
        mass[old] -= own_mass
        size[old] -= 1
        if size[old] == 0:
            mass[old] = 0.0
            empty[n_empty] = old
            n_empty += 1
        mass[target] += own_mass
        size[target] += 1
        community[node] = target
        for edge in range(indptr[node], indptr[node + 1]):
            other = indices[edge]
            flags[other] |= 2 if community[other] == target else 3
    return n_empty, total_gain


@njit(cache=True, parallel=True)
def move_nodes(
    indptr, indices, weights, masses, community, penalty, order, keys, sums, met, batch_size, alone
):
    """Move nodes to the best neighbouring (or a free) community until no move improves.

    Nodes are visited in `order`, in batches; `alone`, one after another. Changes `community`; returns
    the gain in quality, in units of summed weight from one end.
    """
    n_nodes, n_workers = len(masses), len(keys)
    mass, size, empty, n_empty = _start_communities(masses, community)
    flags = np.full(n_nodes, 1, dtype=np.uint8)  # 1: to be visited, 2: a neighbour moved
    batch = np.empty(batch_size, dtype=np.int32)
    best = np.empty(batch_size, dtype=np.int32)
    toward_best = np.empty(batch_size)
    toward_old = np.empty(batch_size)
    total_gain = 0.0
    moving = True
    while moving:
        moving = False
        position = 0
        while position < n_nodes:
            count = 0
            while position < n_nodes and count < batch_size:
                node = order[position]
                if flags[node] & 1:
                    batch[count] = node
                    flags[node] = 0
                    count += 1
                position += 1
            if count == 0:
                break
            moving = True
            if alone:
                for i in range(count):
                    flags[batch[i]] = 2  # looked at when its turn comes
            else:
                for worker in prange(n_workers):
                    for i in range(worker * count // n_workers, (worker + 1) * count // n_workers):
                        node = batch[i]
                        best[i], toward_best[i], toward_old[i] = _best_community(
                            node, indptr, indices, weights, community, mass,
                            penalty * masses[node], masses[node],
                            keys[worker], sums[worker], met[worker],
                        )  # fmt: skip
            n_empty, gain = _apply_moves(
                batch[:count], best, toward_best, toward_old, indptr, indices, weights, masses,
                community, mass, size, empty, n_empty, flags, penalty, keys[0], sums[0], met[0],
            )  # fmt: skip
            total_gain += gain
    return total_gain
