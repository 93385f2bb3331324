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

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANES = 4  # dimensions are padded to a multiple, so that the inner loop adds four at a time
BLOCK = 256  # rows per inner loop: their distances stay in the first-level cache
PAD = 32  # rows of a cell are padded to a multiple, so that vector loops have no scalar rest
TILE = 256  # queries that walk through the cells together
EPSILON = np.float32(1.2e-7)  # rounding of one step of the screen, relative to squared norms
CHUNK = 1 << 16  # queries per kernel call, which bounds the memory of their probe lists


def padded(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Copy rows to float32 C order, zero columns added up to a multiple of four."""
    n_rows, n_columns = rows.shape
    width = max(LANES, -(-n_columns // LANES) * LANES)
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
    order = np.argsort(assignment, kind="stable").astype(np.int32)
    starts = np.zeros(n_cells + 1, dtype=np.int64)
    np.cumsum(np.bincount(assignment, minlength=n_cells), out=starts[1:])
    offsets = np.zeros(n_cells + 1, dtype=np.int64)
    np.cumsum((np.diff(starts) + PAD - 1) // PAD * PAD, out=offsets[1:])
    blocks = np.zeros(offsets[-1] * rows.shape[1], dtype=np.float32)
    halves = np.full(offsets[-1], np.inf, dtype=np.float32)
    _fill_blocks(rows, order, starts, offsets, blocks, halves)
    return Cells(order, starts, offsets, blocks, halves, rows.shape[1])


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

    Returns
    -------
    Rows (n_queries, k) int32, -1 where the cells held too few, and squared distances float32.
    Of equally distant rows the one met first wins: without probes, the one that comes first.
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
        probes, exclude, found, distances,
    )  # fmt: skip
    return found, distances


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
def keep_nearest(value, row, distances, found):
    """Insert a row into the sorted list of the nearest."""
    place = len(distances) - 1
    while place > 0 and distances[place - 1] > value:
        distances[place] = distances[place - 1]
        found[place] = found[place - 1]
        place -= 1
    distances[place] = value
    found[place] = row


@njit(cache=True)
def _exact_distance(query, block, stride, position):
    """Return the squared distance to the row at a position of a cell."""
    total = np.float32(0.0)
    for dimension in range(0, len(query), 4):
        base = dimension * stride + position
        ta = query[dimension] - block[base]
        tb = query[dimension + 1] - block[base + stride]
        tc = query[dimension + 2] - block[base + 2 * stride]
        td = query[dimension + 3] - block[base + 3 * stride]
        total += (ta * ta + tb * tb) + (tc * tc + td * td)
    return total


@njit(cache=True, fastmath={"contract"})  # rounding of the screen is covered by its slack
def _screen(four, limits, block, stride, first, count, halves, part):
    """Write |row|^2 / 2 - query . row for four queries and up to 256 rows of a cell.

    Four at a time, so that a row is loaded once for all of them. Returns which queries (bits) have
    a value at or below their limit; mostly none.
    """
    for j in range(count):
        part[j] = halves[j]
        part[256 + j] = halves[j]
        part[512 + j] = halves[j]
        part[768 + j] = halves[j]
    for dimension in range(0, four.shape[1], 4):
        base = dimension * stride + first
        a = block[base : base + count]
        b = block[base + stride : base + stride + count]
        c = block[base + 2 * stride : base + 2 * stride + count]
        d = block[base + 3 * stride : base + 3 * stride + count]
        qa, qb, qc, qd = (
            four[:, dimension],
            four[:, dimension + 1],
            four[:, dimension + 2],
            four[:, dimension + 3],
        )
        a0, b0, c0, d0 = qa[0], qb[0], qc[0], qd[0]
        a1, b1, c1, d1 = qa[1], qb[1], qc[1], qd[1]
        a2, b2, c2, d2 = qa[2], qb[2], qc[2], qd[2]
        a3, b3, c3, d3 = qa[3], qb[3], qc[3], qd[3]
        for j in range(count):
            part[j] = (((part[j] - a0 * a[j]) - b0 * b[j]) - c0 * c[j]) - d0 * d[j]
            part[256 + j] = (((part[256 + j] - a1 * a[j]) - b1 * b[j]) - c1 * c[j]) - d1 * d[j]
            part[512 + j] = (((part[512 + j] - a2 * a[j]) - b2 * b[j]) - c2 * c[j]) - d2 * d[j]
            part[768 + j] = (((part[768 + j] - a3 * a[j]) - b3 * b[j]) - c3 * c[j]) - d3 * d[j]
    limit0, limit1, limit2, limit3 = limits[0], limits[1], limits[2], limits[3]
    near0 = near1 = near2 = near3 = False
    for j in range(count):
        near0 |= part[j] <= limit0
        near1 |= part[256 + j] <= limit1
        near2 |= part[512 + j] <= limit2
        near3 |= part[768 + j] <= limit3
    return int(near0) + 2 * int(near1) + 4 * int(near2) + 8 * int(near3)


@njit(cache=True)
def _take_near(query, limit, half, block, stride, first, order, skip, part, distances, found):
    """Measure the rows that the screen lets through, keep the nearest; returns the new limit.

    A row can only be among the nearest if its screen is at most the largest distance / 2 - `half`.
    """
    last = len(distances) - 1
    for j in range(min(len(part), len(order) - first)):
        if part[j] <= limit and order[first + j] != skip:
            value = _exact_distance(query, block, stride, first + j)
            if value < distances[last]:
                keep_nearest(value, order[first + j], distances, found)
                limit = np.float32(0.5) * distances[last] - half
    return limit


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
    queries, order, starts, offsets, blocks, halves, largest, probes, exclude, found, distances
):
    """Let some queries go through their cells together, four at a time."""
    n_queries, width = queries.shape
    cells, firsts, visitors = _visits(probes, n_queries, len(starts) - 1)
    part = np.empty(1024, dtype=np.float32)
    four = np.empty((4, width), dtype=np.float32)
    halfs = np.empty(n_queries, dtype=np.float32)
    limits = np.full(n_queries, np.inf, dtype=np.float32)
    own_limits = np.empty(4, dtype=np.float32)
    slack = EPSILON * (width // 2 + 8)  # of 6e-8 x width sums, and of the norms
    for query in range(n_queries):
        norm = 0.0
        for dimension in range(width):
            norm += np.float64(queries[query, dimension]) ** 2
        halfs[query] = 0.5 * norm - slack * (norm + largest)
    for visit in range(len(cells)):
        cell = cells[visit]
        offset = offsets[cell]
        stride = offsets[cell + 1] - offset
        block = blocks[offset * width : (offset + stride) * width]
        own_order = order[starts[cell] : starts[cell + 1]]
        for group in range(firsts[visit], firsts[visit + 1], 4):
            n_four = min(4, firsts[visit + 1] - group)
            for i in range(4):
                query = visitors[group + min(i, n_four - 1)]
                own_limits[i] = limits[query]
                for dimension in range(width):
                    four[i, dimension] = queries[query, dimension]
            for first in range(0, stride, 256):
                count = min(256, stride - first)
                own_halves = halves[offset + first : offset + first + count]
                near = _screen(four, own_limits, block, stride, first, count, own_halves, part)
                for i in range(n_four):
                    if not near & (1 << i):
                        continue
                    query = visitors[group + i]
                    own_limits[i] = _take_near(
                        four[i], own_limits[i], halfs[query], block, stride, first, own_order,
                        exclude[query if len(exclude) > 1 else 0], part[i * 256 : i * 256 + count],
                        distances[query], found[query],
                    )  # fmt: skip
            for i in range(n_four):
                limits[visitors[group + i]] = own_limits[i]


@njit(cache=True, parallel=True)
def _search(
    queries, order, starts, offsets, blocks, halves, largest, probes, exclude, found, distances
):
    n_queries = len(queries)
    for tile in prange((n_queries + TILE - 1) // TILE):
        a, b = tile * TILE, min(n_queries, tile * TILE + TILE)
        _search_together(
            queries[a:b], order, starts, offsets, blocks, halves, largest,
            probes[a:b] if len(probes) > 1 else probes,
            exclude[a:b] if len(exclude) > 1 else exclude,
            found[a:b], distances[a:b],
        )  # fmt: skip
