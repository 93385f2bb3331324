# kernels take the arrays of a graph or an index one by one, and numba finds their types
# ruff: noqa: PLR0913, PLR0917
# mypy: disable-error-code="no-untyped-def"
"""Nearest-row search in cells of rows: exact over all cells, approximate over the nearest ones.

Distances are squared Euclidean, summed dimension by dimension in a fixed order without fused
multiply-add, so that vector width, thread count and machine do not change a bit of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit, prange

from cytoclust.numerics.vectors import ROWS, exact_distances, lowest_bit, screen_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANES = 4  # dimensions are padded to a multiple, so that the inner loop adds four at a time
BLOCK = 256  # rows per inner loop: their distances stay in the first-level cache
PAD = ROWS  # rows of a cell are padded to a multiple
TILE = 256  # queries that walk through the cells together
EPSILON = np.float32(1.2e-7)  # rounding of one step of the screen, relative to squared norms
CHUNK = 1 << 16  # queries per kernel call, which bounds the memory of their probe lists


def padded(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return rows in float32 C order, zero columns added up to a multiple of four; copied if need be."""
    n_rows, n_columns = rows.shape
    width = max(LANES, -(-n_columns // LANES) * LANES)
    if width == n_columns and rows.dtype == np.float32 and rows.flags.c_contiguous:
        return np.asarray(rows, dtype=np.float32)
    out = np.zeros((n_rows, width), dtype=np.float32)
    out[:, :n_columns] = rows
    return out


@dataclass(frozen=True)
class Cells:
    """Rows grouped in cells; within a cell stored column after column.

    `order` (n_rows,) int32 gives the original row of each position, `starts` (n_cells + 1,) the
    positions where cells begin. A cell stands in `blocks` with its rows padded to a multiple of 32,
    from `offsets` (n_cells + 1,) x width on; `halves` holds half of each row's squared norm,
    infinite for padding, which is therefore never near.
    """

    order: NDArray[np.int32]
    starts: NDArray[np.int64]
    offsets: NDArray[np.int64]
    blocks: NDArray[np.float32]
    halves: NDArray[np.float32]
    width: int

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.starts) - 1


def group(rows: NDArray[np.float32], assignment: NDArray[np.int32], n_cells: int) -> Cells:
    """Group padded rows by their cell; within a cell rows keep their order."""
    order, starts = order_by_group(assignment, n_cells)
    offsets = np.zeros(n_cells + 1, dtype=np.int64)
    np.cumsum((np.diff(starts) + PAD - 1) // PAD * PAD, out=offsets[1:])
    blocks = np.zeros(offsets[-1] * rows.shape[1], dtype=np.float32)
    halves = np.full(offsets[-1], np.inf, dtype=np.float32)
    _fill_blocks(rows, order, starts, offsets, blocks, halves)
    return Cells(order, starts, offsets, blocks, halves, rows.shape[1])


def order_by_group(
    groups: NDArray[np.integer], n_groups: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """List the rows of each group (0..n_groups-1), increasing, and where each list starts."""
    starts = np.zeros(n_groups + 1, dtype=np.int64)
    np.cumsum(np.bincount(groups, minlength=n_groups), out=starts[1:])
    order = np.empty(len(groups), dtype=np.int32)
    _place_in_groups(groups, starts[:-1].copy(), order)
    return order, starts


def group_in_sequence(rows: NDArray[np.float32]) -> Cells:
    """Group padded rows in cells of `BLOCK` consecutive rows, for search over all of them."""
    n_cells = max(1, -(-len(rows) // BLOCK))
    assignment = (np.arange(len(rows)) // BLOCK).astype(np.int32)
    return group(rows, assignment, n_cells)


def search(
    cells: Cells,
    queries: NDArray[np.float32],
    *,
    k: int,
    probes: NDArray[np.int32] | None = None,
    exclude: NDArray[np.int32] | None = None,
    alone: bool = False,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the k nearest rows of padded queries, nearest first.

    Parameters
    ----------
    cells
        The rows to search in.
    queries
        Padded queries, (n_queries, width).
    k
        Rows to find per query.
    probes
        Cells to look into, (n_queries, n_probes); all cells by default.
    exclude
        Row that is not a neighbour of the query (itself), (n_queries,).
    alone
        Let no query matter to another: of equally distant rows the one that comes first wins.

    Returns
    -------
    Rows (n_queries, k) int32, -1 where the cells held too few, and squared distances float32.
    Of equally distant rows the one met first wins (in an order that queries near each other share):
    without probes, the one that comes first.
    """
    if probes is None:
        probes = np.arange(cells.n_cells, dtype=np.int32)[None, :]
    if exclude is None:
        exclude = np.full(1, -1, dtype=np.int32)
    found = np.full((len(queries), k), -1, dtype=np.int32)
    distances = np.full((len(queries), k), np.inf, dtype=np.float32)
    finite = cells.halves[cells.halves < np.inf]
    largest = np.float32(2.0) * finite.max(initial=0.0)
    _search(
        queries, cells.order, cells.starts, cells.offsets, cells.blocks, cells.halves, largest,
        probes, exclude, alone, found, distances,
    )  # fmt: skip
    return found, distances


@njit(cache=True)
def _place_in_groups(groups, filled, order):
    for row in range(len(groups)):
        order[filled[groups[row]]] = row
        filled[groups[row]] += 1


@njit(cache=True, parallel=True)
def _fill_blocks(rows, order, starts, offsets, blocks, halves):
    width = rows.shape[1]
    for cell in prange(len(starts) - 1):
        stride = offsets[cell + 1] - offsets[cell]
        for position in range(starts[cell + 1] - starts[cell]):
            row = order[starts[cell] + position]
            norm = 0.0
            for dimension in range(width):
                value = rows[row, dimension]
                blocks[offsets[cell] * width + dimension * stride + position] = value
                norm += np.float64(value) ** 2
            halves[offsets[cell] + position] = 0.5 * norm


@njit(cache=True, inline="always")
def _take_near(
    query, queries, mask, blocks, start, stride, order, name, skip, alone, part, distances, found
):
    """Measure the rows that the screen lets through (bits of the mask), keep the nearest.

    Row j is named `order[name + j]`. Returns the largest distance kept.
    """
    last = distances.shape[1] - 1
    exact_distances(queries, query, blocks, start, stride, part)
    while mask:
        j = lowest_bit(mask)
        mask &= mask - np.uint32(1)
        value, row = part[j], order[name + j]
        nearer = value < distances[query, last]
        if alone and value == distances[query, last]:
            nearer = row < found[query, last]
        if nearer and row != skip:
            place = last
            while place > 0 and (
                distances[query, place - 1] > value
                or (
                    alone and distances[query, place - 1] == value and found[query, place - 1] > row
                )
            ):
                distances[query, place] = distances[query, place - 1]
                found[query, place] = found[query, place - 1]
                place -= 1
            distances[query, place] = value
            found[query, place] = row
    return distances[query, last]


@njit(cache=True)
def _visits(probes, n_queries, n_cells):
    """Turn probes of queries round: cells in the order they are met, and the queries of each.

    Returns cells (n,), starts (n + 1,) and queries, those of one cell after those of another.
    """
    place = np.full(n_cells, -1, dtype=np.int32)
    cells = np.empty(n_cells, dtype=np.int32)
    counts = np.zeros(n_cells + 1, dtype=np.int32)
    n_met = 0
    for turn in range(probes.shape[1]):
        for query in range(n_queries):
            cell = probes[query if len(probes) > 1 else 0, turn]
            if cell < 0:
                continue
            if place[cell] < 0:
                place[cell] = n_met
                cells[n_met] = cell
                n_met += 1
            counts[place[cell] + 1] += 1
    starts = np.cumsum(counts[: n_met + 1]).astype(np.int32)
    filled = starts.copy()
    queries = np.empty(starts[-1], dtype=np.int32)
    for query in range(n_queries):
        for turn in range(probes.shape[1]):
            cell = probes[query if len(probes) > 1 else 0, turn]
            if cell >= 0:
                queries[filled[place[cell]]] = query
                filled[place[cell]] += 1
    return cells[:n_met], starts, queries


@njit(cache=True)
def _search_together(
    queries,
    order,
    starts,
    offsets,
    blocks,
    halves,
    largest,
    probes,
    exclude,
    alone,
    found,
    distances,
):
    """Let some queries go through their cells together, four at a time."""
    n_queries, width = queries.shape
    cells, firsts, visitors = _visits(probes, n_queries, len(starts) - 1)
    part = np.empty(ROWS, dtype=np.float32)
    halfs = np.empty(n_queries, dtype=np.float32)
    limits = np.full(n_queries, np.inf, dtype=np.float32)
    slack = EPSILON * (width // 2 + 8)  # of 6e-8 x width sums, and of the norms
    for query in range(n_queries):
        norm = 0.0
        for dimension in range(width):
            norm += np.float64(queries[query, dimension]) ** 2
        halfs[query] = 0.5 * norm - slack * (norm + largest)
    for visit in range(len(cells)):
        cell = cells[visit]
        offset, size = offsets[cell], starts[cell + 1] - starts[cell]
        stride = offsets[cell + 1] - offset
        for group in range(firsts[visit], firsts[visit + 1], 4):
            last = min(4, firsts[visit + 1] - group) - 1
            a, b = visitors[group], visitors[group + min(1, last)]
            c, d = visitors[group + min(2, last)], visitors[group + min(3, last)]
            for first in range(0, size, ROWS):
                start = offset * width + first
                masks = screen_rows(
                    queries, (a, b, c, d), (limits[a], limits[b], limits[c], limits[d]),
                    blocks, start, stride, halves, offset + first,
                )  # fmt: skip
                if not masks[0] | masks[1] | masks[2] | masks[3]:
                    continue
                there = np.uint32(0xFFFFFFFF) >> np.uint32(max(0, ROWS - (size - first)))
                for i in range(last + 1):
                    mask = masks[i] & there
                    if mask:
                        query = visitors[group + i]
                        skip = exclude[query if len(exclude) > 1 else 0]
                        farthest = _take_near(
                            query, queries, mask, blocks, start, stride, order, starts[cell] + first,
                            skip, alone, part, distances, found,
                        )  # fmt: skip
                        # a row nearer than that has a screen of at most this
                        limits[query] = np.float32(0.5) * farthest - halfs[query]


@njit(cache=True, parallel=True)
def _search(
    queries,
    order,
    starts,
    offsets,
    blocks,
    halves,
    largest,
    probes,
    exclude,
    alone,
    found,
    distances,
):
    n_queries = len(queries)
    for tile in prange((n_queries + TILE - 1) // TILE):
        a, b = tile * TILE, min(n_queries, tile * TILE + TILE)
        _search_together(
            queries[a:b], order, starts, offsets, blocks, halves, largest,
            probes[a:b] if len(probes) > 1 else probes,
            exclude[a:b] if len(exclude) > 1 else exclude,
            alone,
            found[a:b], distances[a:b],
        )  # fmt: skip
