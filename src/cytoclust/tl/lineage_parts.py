"""Groups of events taken apart: on the pooled events, and every other event by what was found there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cytoclust import chunks
from cytoclust.numerics.tallies import cross_tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cytoclust.event_arrays import EventArrays
    from cytoclust.numerics.mapping import Assignment
    from cytoclust.tl.phenotype_panel import Panel

__all__ = ["Cuts", "Nearest", "cluster_pool", "part_events"]

FEWEST = 60  # events below which a group stays one cluster
PROTOTYPES = 2048  # of a large group; it has a part of the markers and of the populations of all


@dataclass(frozen=True)
class Cuts:
    """Parts along one marker; none without cuts."""

    marker: str = ""
    cuts: np.ndarray | None = None

    def __call__(self, panel: Panel, rows: np.ndarray) -> np.ndarray:
        """Return the part of each of these events, int32."""
        if self.cuts is None:
            return np.zeros(len(rows), dtype=np.int32)
        found = np.searchsorted(self.cuts, panel.take(self.marker, rows), side="right")
        return np.asarray(found, dtype=np.int32)


@dataclass(frozen=True)
class Nearest:
    """Parts by the nearest prototype in scaled markers."""

    scales: dict[str, float]
    assignment: Assignment
    labels: np.ndarray

    def __call__(self, panel: Panel, rows: np.ndarray) -> np.ndarray:
        """Return the part of each of these events, int32."""
        return np.asarray(self.labels[self.assignment(scaled(panel, rows, self.scales))[0]])


@dataclass(frozen=True)
class Parting:
    """Takes the groups of a block apart, each by its own model."""

    panel: Panel
    models: Sequence[Cuts | Nearest]

    def __call__(self, block: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return the part of each event within its group, int16; -1 where `groups` is below 0."""
        panel = self.panel.of_block(block)
        parts = np.full(len(groups), -1, dtype=np.int16)
        for number, model in enumerate(self.models):
            rows = np.flatnonzero(groups == number)
            parts[rows] = model(panel, rows)
        return parts


def scaled(panel: Panel, rows: np.ndarray, scales: dict[str, float]) -> np.ndarray:
    """Values of markers, each divided by its scale, (n_rows, n_markers) float32."""
    columns = [panel.take(marker, rows) / np.float32(scale) for marker, scale in scales.items()]
    return np.column_stack(columns).astype(np.float32, copy=False)


def cluster_pool(
    panel: Panel,
    rows: np.ndarray,
    scales: dict[str, float],
    *,
    resolution: float,
    n_neighbors: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Cuts | Nearest]:
    """Cluster some pooled events: their clusters by falling size, and what tells those of others.

    One cluster where there is nothing to compare.
    """
    from cytoclust.numerics.leiden import leiden
    from cytoclust.numerics.mapping import Assignment, prototype_index, summarize_clusters
    from cytoclust.numerics.sketch import EXACT_EVENTS, cluster_events, label_events, sketch_events

    if len(rows) < FEWEST or not scales:
        return np.zeros(len(rows), dtype=np.int32), Cuts()
    values = scaled(panel, rows, scales)
    if len(rows) > EXACT_EVENTS:
        sketch = sketch_events(values, n_prototypes=PROTOTYPES, n_neighbors=n_neighbors, rng=rng)
        parts, own = label_events(sketch, leiden(sketch.graph, resolution, rng=rng))
        filled = np.unique(sketch.nearest)  # one without events has no cluster to hand on
        prototypes, own = sketch.prototypes[filled], own[filled]
    else:
        parts = cluster_events(values, resolution, n_neighbors=n_neighbors, rng=rng)
        if panel.rows is None:
            return parts, Cuts()  # every event has its part already
        points = summarize_clusters(values, parts, rng=rng)
        prototypes, own = points.prototypes, points.labels
    return parts, Nearest(scales, Assignment(prototype_index(prototypes)), own)


def part_events(
    panel: Panel,
    groups: np.ndarray,
    *,
    pooled: Sequence[np.ndarray],
    models: Sequence[Cuts | Nearest],
    arrays: EventArrays,
) -> tuple[np.ndarray, list[int]]:
    """Give every event its part of its group, parts numbered by falling size.

    Parameters
    ----------
    panel
        Markers and pooled values.
    groups
        (n_events,) group of each event, below 0 for none.
    pooled
        Parts of the pooled events of each group.
    models
        What tells the parts of other events, one per group.
    arrays
        What makes the result.

    Returns
    -------
    parts
        (n_events,) int16, -1 without a group.
    sizes
        Number of parts of each group; 0 of one without events.
    """
    if panel.rows is None:
        parts = arrays.full(value=-1, dtype=np.int16)
        for number, own in enumerate(pooled):
            parts[groups == number] = own
    else:
        own_groups = [groups[block] for block in chunks.row_blocks(panel.source)]
        parting = Parting(panel.emptied(), models)
        parts = arrays.filled(
            chunks.iterate_blocks(parting, panel.source, own_groups), dtype=np.int16
        )
    n_parts = int(parts.max(initial=0)) + 1
    sizes = cross_tally(groups, parts, (len(models), n_parts))
    ranks = np.argsort(np.argsort(-sizes, axis=1, kind="stable"), axis=1).astype(np.int16)
    for block in arrays.blocks():
        mine = groups[block] >= 0
        parts[block][mine] = ranks[groups[block][mine], parts[block][mine]]
    return parts, [int(number) for number in np.count_nonzero(sizes, axis=1)]
