from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from cytoclust.numerics import layout, mapping
from cytoclust.numerics.knn import distance_graph, nearest_neighbors
from cytoclust.numerics.threads import thread_limit


def populations(n: int = 1200, *, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centers = rng.normal(scale=3.0, size=(6, d))
    labels = rng.integers(6, size=n)
    return (centers[labels] + rng.normal(scale=0.5, size=(n, d))).astype(np.float32), labels


def preserved(X: np.ndarray, points: np.ndarray, k: int = 15) -> float:
    """Share of the neighbours in marker space that are among the neighbours in the layout."""
    lists = [
        NearestNeighbors(n_neighbors=k + 1).fit(values).kneighbors(values)[1][:, 1:]
        for values in (X, points)
    ]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(*lists, strict=True)]))


def test_curve_agrees_with_umap_learn() -> None:
    # umap.umap_.find_ab_params(1.0, 0.1) and (1.0, 0.5), umap-learn 0.5
    assert layout.curve(0.1, 1.0) == pytest.approx((1.576943, 0.895061), rel=1e-4)
    assert layout.curve(0.5, 1.0) == pytest.approx((0.583030, 1.334167), rel=1e-4)


def test_fuzzy_weights_agree_with_umap_learn() -> None:
    # umap.umap_.fuzzy_simplicial_set on these neighbours, umap-learn 0.5.12
    X = (np.arange(12.0) ** 1.5)[:, None]
    graph = layout.fuzzy_graph(distance_graph(nearest_neighbors(X, 4, rng=np.random.default_rng())))
    weights = graph.toarray()
    np.testing.assert_allclose(weights[0], [0, 1, 0.84477, 0.52792, 0.22872, *[0] * 7], atol=1e-5)
    np.testing.assert_allclose(
        weights[5], [0, 0, 0, 0.29483, 1, 0, 1, 0.37967, 0, 0, 0, 0], atol=1e-5
    )
    assert weights.sum() == pytest.approx(34.896744, rel=1e-5)


def test_layout_separates_populations_and_keeps_neighbors() -> None:
    X, labels = populations()
    found = nearest_neighbors(X, 14, rng=np.random.default_rng(0))
    points = layout.embed_graph(distance_graph(found), X, rng=np.random.default_rng(0))
    assert points.dtype == np.float32
    assert silhouette_score(points, labels) > 0.6
    assert preserved(X, points) > 0.25


def test_landmarks_and_placement() -> None:
    X, labels = populations(4000)
    rng = np.random.default_rng(0)
    landmarks, coordinates = layout.embed_landmarks(X, rng=rng, n_landmarks=600)
    points = layout.place_events(X, landmarks, coordinates, rng=rng)
    assert points.shape == (4000, 2)
    assert np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) > 3990
    assert silhouette_score(points, labels) > 0.6
    low, high = coordinates.min(axis=0) - 2, coordinates.max(axis=0) + 2
    assert ((points > low) & (points < high)).all()


def test_placement_of_an_event_does_not_depend_on_the_others() -> None:
    X, _ = populations(900)
    landmarks, coordinates = layout.embed_landmarks(
        X, rng=np.random.default_rng(0), n_landmarks=200
    )
    whole = layout.place_events(X, landmarks, coordinates, rng=np.random.default_rng(1))
    part = layout.place_events(X[:100], landmarks, coordinates, rng=np.random.default_rng(1))
    assert np.array_equal(whole[:100], part)


def test_same_on_one_and_two_threads() -> None:
    X, _ = populations(3000)
    results = []
    for n_jobs in (1, 2):
        with thread_limit(n_jobs):
            rng = np.random.default_rng(0)
            landmarks, coordinates = layout.embed_landmarks(X, rng=rng, n_landmarks=500)
            results.append(layout.place_events(X, landmarks, coordinates, rng=rng))
    assert np.array_equal(*results)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_few_events(n: int) -> None:
    X = np.random.default_rng(0).normal(size=(n, 3))
    graph = sparse.csr_matrix(np.abs(X[:, :1] - X[:, 0]))
    points = layout.embed_graph(graph, X, rng=np.random.default_rng(0))
    assert points.shape == (n, 2)
    assert np.isfinite(points).all()


def test_equal_events_part() -> None:
    X = np.ones((60, 2), dtype=np.float32)
    found = nearest_neighbors(X, 5, rng=np.random.default_rng(0))
    points = layout.embed_graph(distance_graph(found), X, rng=np.random.default_rng(0))
    assert np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) == 60


def test_kernels_in_python_agree() -> None:
    indptr, distances = np.array([0, 3, 5]), np.array([0.0, 1.0, 2.0, 0.5, 0.9], dtype=np.float32)
    one, two = np.empty(5, np.float32), np.empty(5, np.float32)
    layout._memberships(indptr, distances, one)
    layout._memberships.py_func(indptr, distances, two)
    np.testing.assert_allclose(one, two, rtol=1e-5)
    assert one[0] == one[1] == 1.0
    assert one[:3].sum() == pytest.approx(2.0 + np.exp(-20), abs=1e-3)


def test_no_event_matters_to_another_where_landmarks_are_equally_distant() -> None:
    """Values on a coarse grid: many landmarks and prototypes are exactly as far as others."""
    rng = np.random.default_rng(0)
    X = (rng.integers(0, 6, size=(6_000, 6)) / 4).astype(np.float32)
    landmarks = np.unique(X, axis=0)[:3_000]  # enough for an index of cells
    coordinates = rng.normal(size=(len(landmarks), 2)).astype(np.float32)
    place = layout.make_placement(landmarks, coordinates, rng=np.random.default_rng(1))
    assign = mapping.Assignment(mapping.prototype_index(landmarks))
    parts = np.split(X, [7, 2_000, 2_001, 3_333])
    np.testing.assert_array_equal(np.concatenate([place(part) for part in parts]), place(X))
    np.testing.assert_array_equal(np.concatenate([assign(part)[0] for part in parts]), assign(X)[0])
