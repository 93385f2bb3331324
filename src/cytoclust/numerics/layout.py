"""UMAP layouts: fuzzy weights, a smooth start, a deterministic parallel optimiser, placement.

umap-learn moves both ends of one edge after the other, which depends on the order and so on the
threads. Here every point moves itself, along its own edges, against the positions of the epoch
before; random numbers are a function of seed, epoch and point. So the coordinates are bit-identical
on any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit, prange
from scipy import sparse
from scipy.optimize import curve_fit

from cytoclust.numerics.knn import distance_graph, nearest_neighbors
from cytoclust.numerics.prototypes import Index, build_index, train
from cytoclust.numerics.search import CHUNK, padded
from cytoclust.numerics.threads import thread_limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PLACEMENT_EPOCHS = 15  # twice as many preserve neighbours no better on the real sets
LANDMARK_EPOCHS = 300
DIFFUSION_STEPS = 60
LANDMARK_NEIGHBORS = 10  # landmarks that place an event


def embed_graph(
    distances: sparse.csr_matrix,
    X: NDArray[np.floating],
    *,
    rng: np.random.Generator,
    min_dist: float = 0.3,
    spread: float = 1.0,
    n_epochs: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float32]:
    """Lay out a neighbour graph in two dimensions as UMAP does.

    Parameters
    ----------
    distances
        Distance of each event to its neighbours without itself, (n_events, n_events).
    X
        Events x markers, for the start: principal components, smoothed along the graph.
    rng
        Source of the random numbers.
    min_dist, spread
        UMAP's: how close points may lie, and the scale of the layout.
    n_epochs
        By default 500 up to 10,000 events, else 200, as umap-learn.
    progress
        Called after each epoch with 1.

    Returns
    -------
    Coordinates (n_events, 2) float32, bit-identical on any number of threads.

    References
    ----------
    McInnes, Healy & Melville (2018), https://doi.org/10.48550/arXiv.1802.03426
    """
    if len(X) < 3:
        return np.arange(2.0 * len(X), dtype=np.float32).reshape(-1, 2)
    graph = fuzzy_graph(distances)
    a, b = curve(min_dist, spread)
    points = initial_layout(graph, X, rng=rng)
    epochs = n_epochs or default_epochs(len(X))
    # an edge so weak that it would never pull is left out, as umap-learn does
    graph.data[graph.data < graph.data.max(initial=0.0) / epochs] = 0.0
    graph.eliminate_zeros()
    pulls = (graph.data / graph.data.max(initial=1e-12)).astype(np.float32)
    indptr = graph.indptr.astype(np.int64)
    indices = graph.indices.astype(np.int32)
    seed = np.uint64(rng.integers(1, 2**62))
    new = points.copy()
    for epoch in range(epochs):
        alpha = np.float32(1.0 - epoch / epochs)
        _move_points(points, new, indptr, indices, pulls, a, b, alpha, epoch, seed)
        points, new = new, points
        progress(1)
    return points - points.mean(axis=0, dtype=np.float64).astype(np.float32)


def default_epochs(n_events: int) -> int:
    """Return umap-learn's number of epochs: 500 up to 10,000 events, else 200."""
    return 500 if n_events <= 10_000 else 200


def embed_landmarks(
    X: NDArray[np.floating],
    *,
    rng: np.random.Generator,
    n_landmarks: int = 10_000,
    n_neighbors: int = 15,
    min_dist: float = 0.3,
    spread: float = 1.0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Place landmarks by k-means and lay them out.

    Returns
    -------
    Landmarks (n_landmarks, n_markers) and their coordinates (n_landmarks, 2), float32.
    """
    rows = padded(X)
    if len(rows) > 20 * n_landmarks:
        rows = rows[np.sort(rng.choice(len(rows), size=20 * n_landmarks, replace=False))]
    landmarks = train(rows, n_landmarks, rng=rng, rounds=4)[:, : X.shape[1]]
    landmarks = np.ascontiguousarray(landmarks)
    k = min(n_neighbors, len(landmarks)) - 1
    neighbors = nearest_neighbors(landmarks, max(1, k), rng=rng)
    coordinates = embed_graph(
        distance_graph(neighbors),
        landmarks,
        rng=rng,
        min_dist=min_dist,
        spread=spread,
        n_epochs=LANDMARK_EPOCHS,
    )
    return landmarks, coordinates


def place_events(
    X: NDArray[np.floating],
    landmarks: NDArray[np.float32],
    coordinates: NDArray[np.float32],
    *,
    rng: np.random.Generator,
    min_dist: float = 0.3,
    spread: float = 1.0,
) -> NDArray[np.float32]:
    """Place events among landmarks that stay where they are.

    Each event starts at the weighted mean of its 10 nearest landmarks and is then pulled by them
    and pushed by random ones for 15 epochs. Events do not act on each other, and the random numbers
    of one are made of its own values: its place is the same in any order and among any others.

    Returns
    -------
    Coordinates (n_events, 2) float32.
    """
    return make_placement(landmarks, coordinates, rng=rng, min_dist=min_dist, spread=spread)(X)


@dataclass(frozen=True)
class Placement:
    """Places events among landmarks, whose index is made once and can be sent to other processes."""

    index: Index
    coordinates: NDArray[np.float32]
    shape: tuple[np.float32, np.float32]
    seed: np.uint64

    def __call__(self, X: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the coordinates of events (n_events, 2), as `place_events`."""
        k = min(LANDMARK_NEIGHBORS, len(self.coordinates))
        a, b = self.shape
        out = np.empty((len(X), 2), dtype=np.float32)
        for start in range(0, len(X), CHUNK):
            part = padded(X[start : start + CHUNK])
            near, distances = self.index.query(part, k=k, alone=True)
            np.sqrt(distances, out=distances)
            distances[near < 0] = np.inf
            indptr = np.arange(len(part) + 1, dtype=np.int64) * k
            weights = np.empty(distances.shape, dtype=np.float32)
            _memberships(indptr, distances.reshape(-1), weights.reshape(-1))
            part = part + np.float32(0.0)  # -0 and 0 are one value, and so must be their bits
            keys = row_keys(part.view(np.uint32), self.seed)
            _place(near, weights, self.coordinates, out, start, a, b, keys, PLACEMENT_EPOCHS)
        return out


def make_placement(
    landmarks: NDArray[np.float32],
    coordinates: NDArray[np.float32],
    *,
    rng: np.random.Generator,
    min_dist: float = 0.3,
    spread: float = 1.0,
) -> Placement:
    """Prepare what places events among landmarks; see `place_events`."""
    seed = np.uint64(rng.integers(1, 2**62))
    index = build_index(padded(landmarks), rng=rng)
    return Placement(index, coordinates, curve(min_dist, spread), seed)


def curve(min_dist: float, spread: float) -> tuple[np.float32, np.float32]:
    """Fit a and b of 1 / (1 + a x^2b) to UMAP's target: 1 up to min_dist, then decaying."""
    x = np.linspace(0, 3 * spread, 300)
    y = np.where(x < min_dist, 1.0, np.exp(-(x - min_dist) / spread))
    (a, b), _ = curve_fit(lambda x, a, b: 1.0 / (1.0 + a * x ** (2 * b)), x, y)
    return np.float32(a), np.float32(b)


def fuzzy_graph(distances: sparse.csr_matrix) -> sparse.csr_matrix:
    """Turn distances into UMAP's fuzzy weights, joined by probabilistic or; symmetric float32."""
    weights = np.empty(len(distances.data), dtype=np.float32)
    _memberships(distances.indptr.astype(np.int64), distances.data.astype(np.float32), weights)
    one = sparse.csr_matrix((weights, distances.indices, distances.indptr), shape=distances.shape)
    other = one.T.tocsr()
    graph = (one + other - one.multiply(other)).tocsr()
    graph.sort_indices()
    return graph


def initial_layout(
    graph: sparse.csr_matrix, X: NDArray[np.floating], *, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Start from two principal components, smoothed along the graph, within 10 of the center.

    A few steps of a power iteration toward the graph's slow eigenvectors: near a spectral start in
    each connected part, while the components keep the parts apart.
    """
    with thread_limit(1):  # sums in BLAS would depend on the threads
        centered = np.asarray(X, dtype=np.float64) - X.mean(axis=0, dtype=np.float64)
        _, vectors = np.linalg.eigh(centered.T @ centered)
        axes = vectors[:, ::-1][:, :2]
        axes = axes * np.where(
            axes[np.abs(axes).argmax(axis=0), [0, 1][: axes.shape[1]]] < 0, -1, 1
        )
        start = centered @ axes
        if start.shape[1] < 2:
            start = np.hstack([start, np.zeros((len(X), 1))])
        degree = np.asarray(graph.sum(axis=1), dtype=np.float64).ravel()
        step = sparse.diags_array(1.0 / np.maximum(degree, 1e-12)) @ graph.astype(np.float64)
        for _ in range(DIFFUSION_STEPS):
            start = 0.5 * (start + step @ start)
            start /= np.maximum(np.abs(start).max(axis=0), 1e-12)
    start = start - start.mean(axis=0)
    start *= 10.0 / max(1e-12, float(np.abs(start).max()))
    start += rng.normal(scale=1e-2, size=start.shape)  # equal events must be able to part
    return np.ascontiguousarray(start, dtype=np.float32)


@njit(cache=True, parallel=True)
def _memberships(indptr, distances, weights):  # type: ignore[no-untyped-def]
    """Scale each row's distances so that the weights sum to log2 of the neighbours (and itself)."""
    for row in prange(len(indptr) - 1):
        first, last = indptr[row], indptr[row + 1]
        rho, mean = np.inf, 0.0
        for edge in range(first, last):
            value = distances[edge]
            mean += value / (last - first)
            if 0.0 < value < rho:
                rho = value
        if rho == np.inf:
            rho = 0.0
        target = np.log2(last - first + 1.0)
        low, high, sigma = 0.0, np.inf, 1.0
        for _ in range(64):
            total = 0.0
            for edge in range(first, last):
                gap = distances[edge] - rho
                total += np.exp(-gap / sigma) if gap > 0.0 else 1.0
            if abs(total - target) < 1e-5:
                break
            if total > target:
                high = sigma
                sigma = 0.5 * (low + high)
            else:
                low = sigma
                sigma = 2.0 * sigma if high == np.inf else 0.5 * (low + high)
        sigma = max(sigma, 1e-3 * mean, 1e-12)
        for edge in range(first, last):
            gap = distances[edge] - rho
            weights[edge] = np.exp(-gap / sigma) if gap > 0.0 else 1.0


@njit(cache=True, inline="always")
def _draw(state, n):  # type: ignore[no-untyped-def]
    """Advance a splitmix64 state; returns it and a number in 0..n-1."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return state, np.int64((z >> np.uint64(33)) % np.uint64(n))


@njit(cache=True, inline="always")
def _clip(value, limit):  # type: ignore[no-untyped-def]
    return min(limit, max(-limit, value))


@njit(cache=True)
def _pull(x, y, other, a, b, alpha):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Move (x, y) toward another point; returns the new place."""
    dx, dy = x - other[0], y - other[1]
    square = dx * dx + dy * dy
    if square > np.float32(0.0):
        power = square**b
        force = np.float32(-2.0) * a * b * power / (square * (np.float32(1.0) + a * power))
        x += alpha * _clip(force * dx, np.float32(4.0))
        y += alpha * _clip(force * dy, np.float32(4.0))
    return x, y


@njit(cache=True)
def _push(x, y, other, a, b, alpha, limit):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Move (x, y) away from another point; returns the new place."""
    dx, dy = x - other[0], y - other[1]
    square = dx * dx + dy * dy
    if square > np.float32(0.0):
        force = np.float32(2.0) * b
        force /= (np.float32(0.001) + square) * (np.float32(1.0) + a * square**b)
        x += alpha * _clip(force * dx, limit)
        y += alpha * _clip(force * dy, limit)
    return x, y


@njit(cache=True, parallel=True)
def _move_points(old, new, indptr, indices, pulls, a, b, alpha, epoch, seed):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    n_points = len(old)
    for point in prange(n_points):
        x, y = old[point, 0], old[point, 1]
        counter = np.uint64(epoch) * np.uint64(n_points) + np.uint64(point)
        state = seed ^ (counter * np.uint64(0xD1342543DE82EF95))
        for edge in range(indptr[point], indptr[point + 1]):
            pull = np.float64(pulls[edge])
            if np.floor((epoch + 1) * pull) <= np.floor(epoch * pull):
                continue
            other = old[indices[edge]]
            # umap-learn pulls a point for its own edge and again for its neighbour's
            x, y = _pull(x, y, other, a, b, alpha)
            x, y = _pull(x, y, other, a, b, alpha)
            for _ in range(5):  # random points that push, per edge that pulls; as umap-learn
                state, chosen = _draw(state, n_points)
                if chosen != point:
                    x, y = _push(x, y, old[chosen], a, b, alpha, np.float32(4.0))
        new[point, 0], new[point, 1] = x, y


@njit(cache=True, parallel=True)
def row_keys(bits, seed):  # type: ignore[no-untyped-def]
    """Hash the bits of each row (uint32) with a seed to the start of its random numbers."""
    keys = np.empty(len(bits), dtype=np.uint64)
    for row in prange(len(bits)):
        state = seed
        for column in range(bits.shape[1]):
            state = (state ^ np.uint64(bits[row, column])) * np.uint64(0xD1342543DE82EF95)
            state ^= state >> np.uint64(32)
        keys[row] = state
    return keys


@njit(cache=True, parallel=True)
def _place(near, weights, coordinates, out, start, a, b, keys, n_epochs):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    n_landmarks = len(coordinates)
    for event in prange(len(near)):
        total, sum_x, sum_y = 0.0, 0.0, 0.0
        for i in range(near.shape[1]):
            if near[event, i] >= 0:
                total += weights[event, i]
                sum_x += weights[event, i] * coordinates[near[event, i], 0]
                sum_y += weights[event, i] * coordinates[near[event, i], 1]
        x, y = np.float32(sum_x / total), np.float32(sum_y / total)
        state = keys[event]
        for epoch in range(n_epochs):
            alpha = np.float32(0.25) * np.float32(1.0 - epoch / n_epochs)
            for i in range(near.shape[1]):
                pull = np.float64(weights[event, i])
                if near[event, i] < 0 or np.floor((epoch + 1) * pull) <= np.floor(epoch * pull):
                    continue
                x, y = _pull(x, y, coordinates[near[event, i]], a, b, alpha)
                for _ in range(5):  # random points that push, per edge that pulls; as umap-learn
                    state, chosen = _draw(state, n_landmarks)
                    # a short limit: a landmark hit by chance must not throw the event out
                    x, y = _push(x, y, coordinates[chosen], a, b, alpha, np.float32(0.5))
        out[start + event, 0], out[start + event, 1] = x, y
