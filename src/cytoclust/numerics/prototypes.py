"""Prototypes of a large event set: seeding that keeps rare populations, Lloyd rounds, an index."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from cytoclust.numerics.search import CHUNK, Cells, group, group_in_sequence, padded, search

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAINING_ROWS = 64  # rows per prototype that Lloyd rounds see; more does not move them further
FLAT_ROWS = 2048  # up to here one pass over all rows is faster than finding cells first


@dataclass(frozen=True)
class Index:
    """Rows in cells, and an index of the cells' centers; flat (all cells searched) without one."""

    cells: Cells
    coarse: Index | None = None
    n_probes: int = 8

    def query(
        self,
        queries: NDArray[np.float32],
        *,
        k: int,
        exclude: NDArray[np.int32] | None = None,
        alone: bool = False,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Find the k nearest rows of padded queries: rows (n, k) and squared distances.

        With `alone` no query matters to another, even if rows are equally distant.
        """
        probes = None
        if self.coarse is not None:
            n_probes = min(self.n_probes, self.cells.n_cells)
            probes = self.coarse.query(queries, k=n_probes)[0]
        return search(self.cells, queries, k=k, probes=probes, exclude=exclude, alone=alone)

    def nearest(self, rows: NDArray[np.floating], *, k: int = 1) -> NDArray[np.int32]:
        """Find the k nearest rows of unpadded rows, chunk by chunk; (n, k) int32."""
        out = np.empty((len(rows), k), dtype=np.int32)
        for start in range(0, len(rows), CHUNK):
            chunk = padded(rows[start : start + CHUNK])
            out[start : start + CHUNK] = self.query(chunk, k=k)[0]
        return out


def build_index(
    rows: NDArray[np.float32],
    *,
    rng: np.random.Generator,
    n_probes: int = 8,
    centers: NDArray[np.float32] | None = None,
) -> Index:
    """Index padded rows for nearest-row search, in cells around `centers` if these are given."""
    if centers is None and len(rows) <= FLAT_ROWS:
        return Index(group_in_sequence(rows))
    if centers is None:
        per_root = 4 if len(rows) > 20 * FLAT_ROWS else 1
        n_cells = round(per_root * len(rows) ** 0.5)
        centers = train(rows, n_cells, rng=rng, rounds=3, spread=False)
    coarse = build_index(centers, rng=rng)
    assignment = coarse.nearest(rows)[:, 0]
    return Index(group(rows, assignment, len(centers)), coarse, n_probes)


def calibrate(
    index: Index, rows: NDArray[np.float32], *, k: int, rng: np.random.Generator, recall: float
) -> tuple[Index, float]:
    """Raise the number of probes until 256 rows find `recall` of their k true neighbours.

    Compared by distance, not by row: of equally distant rows any is right. Returns the index and
    the recall reached.
    """
    drawn = rng.choice(len(rows), size=min(256, len(rows)), replace=False)
    sample = np.sort(drawn).astype(np.int32)
    queries = np.ascontiguousarray(rows[sample])
    farthest = search(index.cells, queries, k=k, exclude=sample)[1][:, -1:]
    while True:
        found = index.query(queries, k=k, exclude=sample)[1]
        reached = float((found <= farthest).mean())
        if index.coarse is None or reached >= recall or index.n_probes >= index.cells.n_cells:
            return index, reached
        index = replace(index, n_probes=index.n_probes * 5 // 4)


def train(
    rows: NDArray[np.float32],
    n_prototypes: int,
    *,
    rng: np.random.Generator,
    rounds: int = 5,
    rows_per_prototype: int = TRAINING_ROWS,
    spread: bool = True,
) -> NDArray[np.float32]:
    """Place prototypes by Lloyd's algorithm.

    Parameters
    ----------
    rows
        Padded rows, (n_rows, width).
    n_prototypes
        Prototypes to place; never more than there are rows.
    rng
        Source of every random choice.
    rounds
        Lloyd rounds.
    rows_per_prototype
        Rows that the rounds see at most, drawn at random.
    spread
        Draw half of the seeds far from the others (probability by squared distance, as k-means++),
        so that small populations away from the rest get prototypes of their own.

    Returns
    -------
    Prototypes (n_prototypes, width) float32. Bit-identical on any number of threads.
    """
    n_prototypes = min(n_prototypes, len(rows))
    if len(rows) > rows_per_prototype * n_prototypes:
        chosen = rng.choice(len(rows), size=rows_per_prototype * n_prototypes, replace=False)
        rows = rows[np.sort(chosen)]
    prototypes = np.ascontiguousarray(rows[draw_rows(rows, n_prototypes, rng=rng, spread=spread)])
    for _ in range(rounds):
        index = build_index(prototypes, rng=rng)
        assignment = index.nearest(rows)[:, 0]
        before = prototypes.copy()
        _average(rows, assignment, prototypes)
        if np.array_equal(before, prototypes):
            break
    return prototypes


def draw_rows(
    rows: NDArray[np.float32], n_seeds: int, *, rng: np.random.Generator, spread: bool
) -> NDArray[np.int64]:
    """Draw rows uniformly; with `spread`, the second half by distance from the first; sorted."""
    first = n_seeds // 2 if spread else n_seeds
    chosen = rng.choice(len(rows), size=max(1, first), replace=False)
    if len(chosen) < n_seeds:
        index = build_index(np.ascontiguousarray(rows[chosen]), rng=rng)
        gaps = np.empty(len(rows), dtype=np.float64)
        for start in range(0, len(rows), CHUNK):
            gaps[start : start + CHUNK] = index.query(rows[start : start + CHUNK], k=1)[1][:, 0]
        gaps[chosen] = 0.0
        # a few wild events must not take all the seeds
        gaps = np.minimum(gaps, np.quantile(gaps, 0.999)) + 1e-12
        gaps[chosen] = 1e-300  # only if nothing else is left
        keys = rng.exponential(size=len(rows)) / gaps
        more = np.argsort(keys, kind="stable")[: n_seeds - len(chosen)]
        chosen = np.concatenate([chosen, more])
    return np.sort(chosen)


@njit(cache=True)
def _average(rows, assignment, prototypes):  # type: ignore[no-untyped-def]
    """Move each prototype to the mean of its rows; one without rows stays where it is."""
    n_prototypes, width = prototypes.shape
    sums = np.zeros((n_prototypes, width))
    sizes = np.zeros(n_prototypes, dtype=np.int64)
    for row in range(len(rows)):
        prototype = assignment[row]
        sizes[prototype] += 1
        for dimension in range(width):
            sums[prototype, dimension] += rows[row, dimension]
    for prototype in range(n_prototypes):
        if sizes[prototype] > 0:
            for dimension in range(width):
                prototypes[prototype, dimension] = sums[prototype, dimension] / sizes[prototype]
