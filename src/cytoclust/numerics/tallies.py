"""Events counted by codes, a block at a time: no copy of all codes in a wider type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["cross_tally", "tally"]

EVENTS_AT_ONCE = 1 << 20


def tally(codes: NDArray[np.integer], n_codes: int) -> NDArray[np.int64]:
    """Count the events of each code 0 .. n_codes - 1; those below 0 count nowhere."""
    total = np.zeros(n_codes, dtype=np.int64)
    for start in range(0, len(codes), EVENTS_AT_ONCE):
        block = codes[start : start + EVENTS_AT_ONCE]
        total += np.bincount(block[block >= 0], minlength=n_codes)
    return total


def cross_tally(
    rows: NDArray[np.integer], columns: NDArray[np.integer], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Count the events by two codes, (n_rows, n_columns); those with either below 0 count nowhere."""
    total = np.zeros(shape[0] * shape[1], dtype=np.int64)
    for start in range(0, len(rows), EVENTS_AT_ONCE):
        row, column = (part[start : start + EVENTS_AT_ONCE] for part in (rows, columns))
        keep = (row >= 0) & (column >= 0)
        place = row[keep].astype(np.int64) * shape[1] + column[keep]
        total += np.bincount(place, minlength=len(total))
    return total.reshape(shape)
