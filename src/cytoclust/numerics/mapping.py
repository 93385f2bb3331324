"""A clustered event set in few points, and events that arrive later placed by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cytoclust.numerics.prototypes import Index, build_index, draw_rows, train
from cytoclust.numerics.search import CHUNK, order_by_group, padded
from cytoclust.numerics.sketch import TRAINING_ROUNDS, TRAINING_ROWS, default_prototypes

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAR_QUANTILE = 0.999  # of the distances of a cluster's own events; beyond, an event is far
REACH_EVENTS = 1000  # events per cluster that its reach is measured on
FIXED_SEED = 0  # of the search among prototypes: part of the map, not of the user's randomness


class ClusterMap(NamedTuple):
    """Points that stand for clusters.

    `prototypes` (n_prototypes, n_markers) float32, their clusters `labels` int32, the events in
    each `sizes` int64, and per cluster the `reach`, the distance beyond which an event is far.
    """

    prototypes: NDArray[np.float32]
    labels: NDArray[np.int32]
    sizes: NDArray[np.int64]
    reach: NDArray[np.float32]


def summarize_clusters(
    X: NDArray[np.floating], labels: NDArray[np.int32], *, rng: np.random.Generator
) -> ClusterMap:
    """Stand in few points for clusters of events: the mean of each cluster in each k-means cell.

    Parameters
    ----------
    X
        Events x markers, finite.
    labels
        Cluster of each event, 0..n-1 without gaps.
    rng
        Source of every random choice.

    Returns
    -------
    ClusterMap
        Every cluster has a prototype, however small it is.
    """
    rows = padded(X)
    centers = train(
        rows, default_prototypes(len(rows)), rng=rng, rounds=TRAINING_ROUNDS,
        rows_per_prototype=TRAINING_ROWS,
    )  # fmt: skip
    cells = build_index(centers, rng=rng).nearest(rows)[:, 0].astype(np.int64)
    pairs, place, sizes = np.unique(
        cells * (int(labels.max()) + 1) + labels, return_inverse=True, return_counts=True
    )
    prototypes = np.empty((len(pairs), X.shape[1]), dtype=np.float32)
    for column in range(X.shape[1]):
        sums = np.bincount(place.reshape(-1), weights=rows[:, column], minlength=len(pairs))
        prototypes[:, column] = sums / sizes
    own = (pairs % (int(labels.max()) + 1)).astype(np.int32)
    reach = measure_reach(X, labels, prototypes, rng=rng)
    return ClusterMap(prototypes, own, sizes.astype(np.int64), reach)


def measure_reach(
    X: NDArray[np.floating],
    labels: NDArray[np.int32],
    prototypes: NDArray[np.float32],
    *,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Measure per cluster how far its events lie from prototypes that they did not shape.

    An event moved its own prototype towards itself, which a new event did not; so the distance to
    the second nearest prototype is taken, and of it the 0.999 quantile over at most 1,000 events.

    Returns
    -------
    Reach of each cluster, float32 (n_clusters,).
    """
    n_clusters = int(labels.max()) + 1
    index = prototype_index(prototypes)
    order, starts = order_by_group(labels, n_clusters)
    drawn = [
        rng.choice(own, size=min(len(own), REACH_EVENTS), replace=False)
        for own in np.split(order, starts[1:-1])
    ]
    chosen, k = np.concatenate(drawn), min(2, len(prototypes))
    squares = index.query(padded(X[chosen]), k=k)[1][:, -1]
    reach = np.zeros(n_clusters, dtype=np.float32)
    for cluster, own in enumerate(np.split(squares, np.cumsum([len(d) for d in drawn])[:-1])):
        reach[cluster] = np.sqrt(np.quantile(own[np.isfinite(own)], FAR_QUANTILE))
    return reach


def prototype_index(prototypes: NDArray[np.float32]) -> Index:
    """Index prototypes for search; the same for the same prototypes."""
    return build_index(padded(prototypes), rng=np.random.default_rng(FIXED_SEED))


def assign_events(
    X: NDArray[np.floating], prototypes: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find each event's nearest prototype and the distance; no event matters to another's.

    Returns
    -------
    Prototype int32 (n_events,) and Euclidean distance float32 (n_events,).
    """
    return Assignment(prototype_index(prototypes))(X)


@dataclass(frozen=True)
class Assignment:
    """Finds nearest prototypes in an index that is made once and can be sent to other processes."""

    index: Index

    def __call__(self, X: NDArray[np.floating]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return each event's prototype int32 and distance float32, as `assign_events`."""
        nearest = np.empty(len(X), dtype=np.int32)
        distances = np.empty(len(X), dtype=np.float32)
        for start in range(0, len(X), CHUNK):
            found, squares = self.index.query(padded(X[start : start + CHUNK]), k=1, alone=True)
            nearest[start : start + CHUNK] = found[:, 0]
            distances[start : start + CHUNK] = np.sqrt(squares[:, 0])
        return nearest, distances


@dataclass(frozen=True)
class Labelling:
    """Hands the prototypes' labels to events, and counts the events of every prototype."""

    assignment: Assignment
    labels: NDArray[np.signedinteger]

    def __call__(
        self, X: NDArray[np.floating]
    ) -> tuple[NDArray[np.signedinteger], NDArray[np.int64]]:
        """Return each event's label, of the dtype of `labels`, and the events per prototype."""
        nearest = self.assignment(X)[0]
        return self.labels[nearest], np.bincount(nearest, minlength=len(self.labels))


def draw_landmarks(
    X: NDArray[np.floating], n_landmarks: int, *, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw events that stand for all in a layout: half of them far from the others.

    Returns
    -------
    Rows of `X`, increasing; all of them if they are no more than `n_landmarks`.
    """
    if len(X) <= n_landmarks:
        return np.arange(len(X))
    return draw_rows(padded(X), n_landmarks, rng=rng, spread=True)
