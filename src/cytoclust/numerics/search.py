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
BLOCK = 256  # columns per inner loop: their distances stay in the first-level cache
TILE = 8  # queries that walk through the cells together
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
    positions where cells begin, `blocks` (n_rows * width,) the values.
    """

    order: NDArray[np.int32]
    starts: NDArray[np.int64]
    blocks: NDArray[np.float32]
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
    blocks = np.empty(rows.size, dtype=np.float32)
    _fill_blocks(rows, order, starts, blocks)
    return Cells(order, starts, blocks, rows.shape[1])


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
    _search(queries, cells.order, cells.starts, cells.blocks, probes, exclude, found, distances)
    return found, distances


@njit(cache=True)
def _fill_blocks(rows, order, starts, blocks):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    width = rows.shape[1]
    for cell in range(len(starts) - 1):
        first = starts[cell]
        size = starts[cell + 1] - first
        for position in range(size):
            row = order[first + position]
            for dimension in range(width):
                blocks[first * width + dimension * size + position] = rows[row, dimension]


@njit(cache=True, inline="always")
def keep_nearest(value, row, distances, found):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Insert a row into the sorted list of the nearest."""
    place = len(distances) - 1
    while place > 0 and distances[place - 1] > value:
        distances[place] = distances[place - 1]
        found[place] = found[place - 1]
        place -= 1
    distances[place] = value
    found[place] = row


@njit(cache=True)
def _scan(query, block, size, order, skip, sums, distances, found):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Compare one query with one cell, block by block."""
    width = len(query)
    last = len(distances) - 1
    for first in range(0, size, 256):
        count = min(256, size - first)
        part = sums[:count]
        part[:] = np.float32(0.0)
        for dimension in range(0, width, 4):
            base = dimension * size + first
            a = block[base : base + count]
            b = block[base + size : base + size + count]
            c = block[base + 2 * size : base + 2 * size + count]
            d = block[base + 3 * size : base + 3 * size + count]
            qa = query[dimension]
            qb = query[dimension + 1]
            qc = query[dimension + 2]
            qd = query[dimension + 3]
            for j in range(count):
                ta = qa - a[j]
                tb = qb - b[j]
                tc = qc - c[j]
                td = qd - d[j]
                part[j] += (ta * ta + tb * tb) + (tc * tc + td * td)
        for start in range(0, count, 32):
            stop = min(count, start + 32)
            close = False
            limit = distances[last]
            for j in range(start, stop):  # vectorised: most groups hold nothing close
                close |= part[j] < limit
            if close:
                for j in range(start, stop):
                    if part[j] < distances[last] and order[first + j] != skip:
                        keep_nearest(part[j], order[first + j], distances, found)


@njit(cache=True, parallel=True)
def _search(queries, order, starts, blocks, probes, exclude, found, distances):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    n_queries, width = queries.shape
    for tile in prange((n_queries + 7) // 8):
        sums = np.empty(256, dtype=np.float32)
        for turn in range(probes.shape[1]):
            for query in range(tile * 8, min(n_queries, tile * 8 + 8)):
                cell = probes[query if probes.shape[0] > 1 else 0, turn]
                if cell < 0:
                    continue
                first = starts[cell]
                size = starts[cell + 1] - first
                _scan(
                    queries[query],
                    blocks[first * width : (first + size) * width],
                    size,
                    order[first : first + size],
                    exclude[query if len(exclude) > 1 else 0],
                    sums,
                    distances[query],
                    found[query],
                )
