"""Models are fitted on a pool of events and applied to every event, block by block.

Up to a million events the pool is all of them, above that a million evenly spaced ones: the same
ones in memory and where events are read when they are needed, and so the same results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cytoclust import checks, chunks
from cytoclust.event_arrays import let_go

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from cytoclust.event_arrays import EventArrays


@dataclass(frozen=True)
class Source:
    """Where the compared values of all events are: `columns` (None: all) of `values`, by name."""

    values: Any
    columns: list[int] | None
    names: list[str]

    def take(self, rows: NDArray[np.integer] | None = None) -> NDArray[np.float32]:
        """Return the values of some events (increasing rows) or of all, float32 C order, finite."""
        if rows is None and not chunks.is_lazy(self.values):
            every = [slice(None)]
            found = chunks.map_blocks(np.asarray, self.values, blocks=every, columns=self.columns)[
                0
            ]
        else:
            rows = np.arange(self.values.shape[0]) if rows is None else rows
            found = chunks.take_rows(self.values, rows, self.columns)
        found = np.ascontiguousarray(found, dtype=np.float32)
        checks.check_finite(found, self.names)
        return found

    def iterate(
        self, function: Callable[[NDArray[np.float32]], Any]
    ) -> Iterator[tuple[chunks.Rows, Any]]:
        """Apply a function to the values of every block; it must be possible to pickle it."""
        checked = _Checked(function, self.names)
        return chunks.iterate_blocks(checked, self.values, columns=self.columns)


@dataclass(frozen=True)
class Pool:
    """The events that a model is fitted on: their `rows` (None: all events) and values `X`."""

    source: Source
    rows: NDArray[np.int64] | None
    X: NDArray[np.float32]

    @property
    def names(self) -> list[str]:
        """Names of the columns of `X`."""
        return self.source.names

    def of(self, per_event: NDArray[Any]) -> NDArray[Any]:
        """Return the pool's elements of an array with one per event."""
        return per_event if self.rows is None else per_event[self.rows]


@dataclass(frozen=True)
class _Checked:
    """A function of a block whose values are seen to be finite first."""

    function: Callable[[NDArray[np.float32]], Any]
    names: Sequence[str]

    def __call__(self, block: NDArray[Any]) -> Any:
        values = np.ascontiguousarray(block, dtype=np.float32)
        checks.check_finite(values, self.names)
        return self.function(values)


def event_source(
    adata: AnnData, markers: Sequence[str] | None = None, *, use_rep: str | None = None
) -> Source:
    """Find the values that clustering works on, and read none of them."""
    return Source(*checks.event_source(adata, markers, use_rep=use_rep))


def pool_matrix(
    adata: AnnData, markers: Sequence[str] | None = None, *, use_rep: str | None = None
) -> Pool:
    """Take out the values that models are fitted on: of every event up to a million."""
    source = event_source(adata, markers, use_rep=use_rep)
    rows = chunks.pool_rows(adata.n_obs)
    every = len(rows) == adata.n_obs
    return Pool(source, None if every else rows, source.take(None if every else rows))


def label_all(
    pool: Pool,
    prototypes: NDArray[np.float32],
    *,
    own: NDArray[np.int32],
    reach: NDArray[np.float32],
    arrays: EventArrays,
) -> tuple[NDArray[np.signedinteger], NDArray[np.int32], NDArray[np.int64], NDArray[np.float32]]:
    """Label every event by its nearest prototype; clusters numbered by falling size over all.

    Returns
    -------
    Labels of the events, in as few bytes as they need, then labels and sizes of the prototypes and
    the reach of the clusters.
    """
    from cytoclust.numerics.mapping import Assignment, Labelling, prototype_index

    small = own.astype(np.min_scalar_type(-len(reach)))
    sizes = np.zeros(len(own), dtype=np.int64)
    labels = arrays.zeros(small.dtype)
    labelling = Labelling(Assignment(prototype_index(prototypes)), small)
    for rows, (part, counts) in pool.source.iterate(labelling):
        labels[rows] = part
        sizes += counts
        let_go(labels)
    of_cluster = np.bincount(own, weights=sizes, minlength=len(reach))
    order = np.argsort(-of_cluster, kind="stable")
    numbers = np.empty(len(order), dtype=small.dtype)
    numbers[order] = np.arange(len(order))
    for rows in arrays.blocks():
        labels[rows] = numbers[labels[rows]]
    return labels, numbers[own].astype(np.int32), sizes, reach[order]
