# kernels take the arrays of a graph or an index one by one, and numba finds their types
# ruff: noqa: PLR0913, PLR0917
# mypy: disable-error-code="no-untyped-def"
"""Refinement and aggregation of the Leiden algorithm, in batches as `leiden_moves` explains."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from cytoclust.numerics.leiden_moves import slot

__all__ = ["aggregate", "refine", "split_disconnected"]


@njit(cache=True)
def _best_part(
    node,
    indptr,
    indices,
    weights,
    community,
    part,
    part_mass,
    cut,
    mass,
    penalty,
    own_mass,
    keys,
    sums,
    met,
):
    """Return the well connected part of largest gain inside the community, and the weight to it."""
    n_met = 0
    home = community[node]
    for edge in range(indptr[node], indptr[node + 1]):
        other = indices[edge]
        if community[other] == home:
            label = part[other]
            place = slot(keys, label)
            if keys[place] == -1:
                keys[place] = label
                sums[place] = 0.0
                met[n_met] = place
                n_met += 1
            sums[place] += weights[edge]
    best, best_gain, toward = part[node], 0.0, 0.0
    for i in range(n_met):
        label = keys[met[i]]
        keys[met[i]] = -1
        inner = part_mass[label]
        gain = sums[met[i]] - penalty * own_mass * inner
        if gain > best_gain and cut[label] >= penalty * inner * (mass[home] - inner):
            best, best_gain, toward = label, gain, sums[met[i]]
    return best, toward


@njit(cache=True, parallel=True)
def _start_cuts(indptr, indices, weights, community):
    """Sum each node's weight to the rest of its community."""
    n_nodes = len(community)
    cut = np.zeros(n_nodes)
    for node in prange(n_nodes):
        total = 0.0
        for edge in range(indptr[node], indptr[node + 1]):
            if community[indices[edge]] == community[node]:
                total += weights[edge]
        cut[node] = total
    return cut


@njit(cache=True)
def _apply_merges(
    batch,
    best,
    toward_best,
    indptr,
    indices,
    weights,
    masses,
    community,
    mass,
    part,
    part_mass,
    part_size,
    cut,
    flags,
    penalty,
    keys,
    sums,
    met,
):
    """Merge the nodes of a batch in order, where the part they chose still qualifies."""
    for i in range(len(batch)):
        node = batch[i]
        if part_size[part[node]] > 1:
            continue
        own_mass = masses[node]
        target, toward = best[i], toward_best[i]
        if flags[node]:
            target, toward = _best_part(
                node, indptr, indices, weights, community, part, part_mass, cut, mass, penalty,
                own_mass, keys, sums, met,
            )  # fmt: skip
        if target == part[node]:
            continue
        inner = part_mass[target]
        well_connected = cut[target] >= penalty * inner * (mass[community[node]] - inner)
        if not well_connected or toward <= penalty * own_mass * inner:
            continue
        cut[target] += cut[node] - 2.0 * toward
        part_mass[target] += own_mass
        part_size[target] += 1
        part_size[part[node]] = 0
        part[node] = target
        for edge in range(indptr[node], indptr[node + 1]):
            flags[indices[edge]] = 1


@njit(cache=True, parallel=True)
def refine(
    indptr, indices, weights, masses, community, penalty, order, keys, sums, met, batch_size, alone
):
    """Merge nodes again from singletons, inside their community and only where well connected.

    A node joins the neighbouring part of largest gain; it never leaves again, so each part is
    connected.
    """
    n_nodes, n_workers = len(masses), len(keys)
    part = np.arange(n_nodes).astype(np.int32)
    part_mass = masses.copy()
    part_size = np.ones(n_nodes, dtype=np.int32)
    mass = np.zeros(n_nodes)
    for node in range(n_nodes):
        mass[community[node]] += masses[node]
    cut = _start_cuts(indptr, indices, weights, community)
    flags = np.zeros(n_nodes, dtype=np.uint8)
    batch = np.empty(batch_size, dtype=np.int32)
    best = np.empty(batch_size, dtype=np.int32)
    toward_best = np.empty(batch_size)
    position = 0
    while position < n_nodes:
        count = 0
        while position < n_nodes and count < batch_size:
            node = order[position]
            outer = mass[community[node]] - masses[node]
            if part_size[part[node]] == 1 and cut[node] >= penalty * masses[node] * outer:
                batch[count] = node
                flags[node] = alone
                count += 1
            position += 1
        if not alone:
            for worker in prange(n_workers):
                for i in range(worker * count // n_workers, (worker + 1) * count // n_workers):
                    node = batch[i]
                    best[i], toward_best[i] = _best_part(
                        node, indptr, indices, weights, community, part, part_mass, cut, mass,
                        penalty, masses[node], keys[worker], sums[worker], met[worker],
                    )  # fmt: skip
        _apply_merges(
            batch[:count], best, toward_best, indptr, indices, weights, masses, community, mass,
            part, part_mass, part_size, cut, flags, penalty, keys[0], sums[0], met[0],
        )  # fmt: skip
    return part


@njit(cache=True)
def _members(part, n_parts):
    """List the nodes of each part: where its list starts, and all lists one after another."""
    starts = np.zeros(n_parts + 1, dtype=np.int64)
    for node in range(len(part)):
        starts[part[node] + 1] += 1
    for label in range(n_parts):
        starts[label + 1] += starts[label]
    filled = starts[:-1].copy()
    members = np.empty(len(part), dtype=np.int32)
    for node in range(len(part)):
        members[filled[part[node]]] = node
        filled[part[node]] += 1
    return starts, members


@njit(cache=True)
def _merge_rows(
    members, label, indptr, indices, weights, part, keys, sums, new_indices, new_weights
):
    """Write the edges of one part to other parts; returns how many. `new_indices` lists places first."""
    n_met = 0
    for node in members:
        for edge in range(indptr[node], indptr[node + 1]):
            other = part[indices[edge]]
            if other != label:
                place = slot(keys, other)
                if keys[place] == -1:
                    keys[place] = other
                    sums[place] = 0.0
                    new_indices[n_met] = place
                    n_met += 1
                sums[place] += weights[edge]
    for i in range(n_met):
        place = new_indices[i]
        new_indices[i] = keys[place]
        new_weights[i] = sums[place]
        keys[place] = -1
    return n_met


@njit(cache=True, parallel=True)
def aggregate(indptr, indices, weights, part, n_parts, n_workers):
    """Make the graph whose nodes are the parts; what lies inside a part is left out."""
    starts, members = _members(part, n_parts)
    room = np.zeros(n_parts + 1, dtype=np.int64)  # where the edges of a part are written first
    widest = 1
    for label in range(n_parts):
        degree = 0
        for i in range(starts[label], starts[label + 1]):
            degree += indptr[members[i] + 1] - indptr[members[i]]
        room[label + 1] = room[label] + degree
        widest = max(widest, min(degree, n_parts))
    capacity = 2
    while capacity < 2 * widest:
        capacity *= 2
    loose_indices = np.empty(len(indices), dtype=np.int32)
    loose_weights = np.empty(len(indices), dtype=weights.dtype)
    counts = np.zeros(n_parts, dtype=np.int64)
    bounds = np.searchsorted(room, np.arange(n_workers + 1) * room[-1] // n_workers)
    bounds[0], bounds[-1] = 0, n_parts
    for worker in prange(n_workers):
        keys = np.full(capacity, -1, dtype=np.int32)
        sums = np.empty(capacity)
        for label in range(bounds[worker], bounds[worker + 1]):
            counts[label] = _merge_rows(
                members[starts[label] : starts[label + 1]], label, indptr, indices, weights, part,
                keys, sums, loose_indices[room[label] :], loose_weights[room[label] :],
            )  # fmt: skip
    new_indptr = np.zeros(n_parts + 1, dtype=np.int64)
    for label in range(n_parts):
        new_indptr[label + 1] = new_indptr[label] + counts[label]
    new_indices = np.empty(new_indptr[-1], dtype=np.int32)
    new_weights = np.empty(new_indptr[-1], dtype=weights.dtype)
    for label in prange(n_parts):
        for i in range(counts[label]):
            new_indices[new_indptr[label] + i] = loose_indices[room[label] + i]
            new_weights[new_indptr[label] + i] = loose_weights[room[label] + i]
    return new_indptr, new_indices, new_weights


@njit(cache=True)
def split_disconnected(indptr, indices, membership):
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
                if out[other] < 0 and membership[other] == membership[node]:
                    out[other] = n_pieces
                    stack[depth] = other
                    depth += 1
        n_pieces += 1
    return out
