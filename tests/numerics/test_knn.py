from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from cytoclust.numerics import knn, prototypes, search
from cytoclust.numerics.threads import thread_limit


def populations(n: int, d: int, *, n_populations: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centers = rng.normal(scale=2.0, size=(n_populations, d))
    labels = rng.integers(n_populations, size=n)
    return (centers[labels] + rng.normal(scale=0.6, size=(n, d))).astype(np.float32)


def truth(X: np.ndarray, k: int) -> np.ndarray:
    """Distances to the k nearest others, in float64."""
    found = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(X.astype(np.float64))
    return found.kneighbors(X.astype(np.float64))[0][:, 1:]


@pytest.mark.parametrize("d", [1, 3, 4, 7, 20])
def test_exact_neighbors_agree_with_sklearn(d: int) -> None:
    X = populations(1500, d)
    found = knn.nearest_neighbors(X, 15, rng=np.random.default_rng(0))
    assert found.recall == 1.0
    np.testing.assert_allclose(np.sqrt(found.distances), truth(X, 15), rtol=1e-4, atol=1e-5)
    assert (found.rows != np.arange(len(X))[:, None]).all()
    assert all(len(set(row)) == 15 for row in found.rows)


@pytest.mark.parametrize("k", [15, 30])
def test_cells_reach_the_promised_recall(k: int) -> None:
    X = populations(12_000, 12)
    found = knn.nearest_neighbors(X, k, rng=np.random.default_rng(1), exact_rows=1000)
    reached = (np.sqrt(found.distances) <= truth(X, k)[:, -1:] * (1 + 1e-5)).mean()
    assert found.n_probes > 0
    assert reached >= 0.95
    assert abs(reached - found.recall) < 0.03


def test_same_on_one_and_two_threads() -> None:
    X = populations(6000, 6)
    results = []
    for n_jobs in (1, 2):
        with thread_limit(n_jobs):
            found = knn.nearest_neighbors(X, 14, rng=np.random.default_rng(0), exact_rows=1000)
            results.append((found, knn.jaccard_graph(found.rows)))
    (one, graph_one), (two, graph_two) = results
    assert np.array_equal(one.rows, two.rows)
    assert np.array_equal(one.distances, two.distances)
    assert np.array_equal(graph_one.data, graph_two.data)
    assert np.array_equal(graph_one.indices, graph_two.indices)


def test_duplicated_events_and_constant_channels() -> None:
    X = np.repeat(populations(100, 3), 30, axis=0)
    X[:, 1] = 5.0
    found = knn.nearest_neighbors(X, 10, rng=np.random.default_rng(0))
    assert (found.distances == 0).all()
    assert (found.rows >= 0).all()
    many = knn.nearest_neighbors(X, 10, rng=np.random.default_rng(0), exact_rows=500)
    assert (many.distances == 0).mean() > 0.95
    same = knn.nearest_neighbors(np.ones((3000, 2)), 5, rng=np.random.default_rng(0), exact_rows=9)
    assert (same.distances == 0).all()


def test_ties_go_to_the_first_row() -> None:
    X = np.array([[0.0], [1.0], [-1.0], [1.0]])
    found = knn.nearest_neighbors(X, 2, rng=np.random.default_rng(0))
    assert found.rows[0].tolist() == [1, 2]


def by_definition(rows: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum squares in float32, four dimensions at a time; of equally distant rows the first."""
    total = np.zeros((len(queries), len(rows)), np.float32)
    for dimension in range(0, rows.shape[1], 4):
        gaps = (
            queries[:, None, dimension : dimension + 4] - rows[None, :, dimension : dimension + 4]
        )
        a, b, c, d = np.moveaxis(gaps * gaps, -1, 0)
        total += (a + b) + (c + d)
    order = np.argsort(total, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(total, order, axis=1)


@pytest.mark.parametrize("offset", [0.0, 1000.0, -1e6])
@pytest.mark.parametrize("d", [2, 5, 20])
def test_search_has_the_bits_of_its_definition(d: int, offset: float) -> None:
    # far from the origin the screen rounds away all differences and must let every row through
    rows = search.padded(populations(1100, d) + np.float32(offset))
    queries = np.ascontiguousarray(rows[5:600])
    found, distances = search.search(search.group_in_sequence(rows), queries, k=14)
    wanted, values = by_definition(rows, queries, 14)
    assert np.array_equal(distances, values)
    assert np.array_equal(found, wanted)


def test_search_walks_through_cells_as_python_would() -> None:
    rows = search.padded(populations(40, 5))
    cells = search.group_in_sequence(rows)
    squares = ((rows[:9, None].astype(float) - rows[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    found, distances = search.search(cells, rows[:9], k=3, exclude=np.arange(9, dtype=np.int32))
    assert np.array_equal(found, np.argsort(squares, axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(squares, axis=1)[:, :3], rtol=1e-5)


def test_jaccard_weights_by_hand() -> None:
    rows = np.array([[1, 2], [0, 2], [1, 0], [2, 1]], dtype=np.int32)
    graph = knn.jaccard_graph(rows).toarray()
    sets = [{0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {1, 2, 3}]
    wanted = np.zeros((4, 4))
    for i in range(4):
        for j in rows[i]:
            shared = len(sets[i] & sets[j]) / len(sets[i] | sets[j])
            wanted[i, j] = wanted[j, i] = shared
    np.testing.assert_allclose(graph, wanted, rtol=1e-6)


def test_jaccard_graph_is_symmetric_and_positive() -> None:
    found = knn.nearest_neighbors(populations(800, 5), 14, rng=np.random.default_rng(0))
    graph = knn.jaccard_graph(found.rows)
    assert abs(graph - graph.T).max() == 0
    assert graph.data.min() > 0
    assert graph.data.max() <= 1
    assert graph.diagonal().sum() == 0
    union = (knn.distance_graph(found) > 0) + (knn.distance_graph(found).T > 0)
    assert graph.nnz == sparse.csr_matrix(union).nnz


def test_share_neighbors_in_python() -> None:
    rows = np.array([[1, 2], [0, -1], [1, 0]], dtype=np.int32)
    members = knn.neighborhoods(np.arange(3, dtype=np.int32), rows)
    arguments = (np.arange(3), np.arange(3), rows, members)
    results = []
    for kernel in (knn.share_neighbors, knn.share_neighbors.py_func):
        weights, one_way = np.zeros((3, 2), np.float32), np.zeros((3, 2), bool)
        kernel(*arguments, weights, one_way)
        results.append((weights, one_way))
    assert np.array_equal(results[0][0], results[1][0])
    assert results[0][1].tolist() == results[1][1].tolist() == [[0, 0], [0, 0], [1, 0]]


def test_far_small_population_gets_prototypes() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40_000, 5)).astype(np.float32)
    X[:20] += 12
    rows = search.padded(X)
    for seed in range(5):
        found = prototypes.train(rows, 256, rng=np.random.default_rng(seed))
        assert (found[:, 0] > 6).sum() >= 1


def test_prototypes_lower_the_distance_and_never_outnumber_events() -> None:
    rows = search.padded(populations(3000, 4))
    near = prototypes.train(rows, 100, rng=np.random.default_rng(0))
    index = prototypes.build_index(near, rng=np.random.default_rng(0))
    start = prototypes.build_index(np.ascontiguousarray(rows[:100]), rng=np.random.default_rng(0))
    assert index.query(rows, k=1)[1].sum() < start.query(rows, k=1)[1].sum()
    assert len(prototypes.train(rows[:7], 100, rng=np.random.default_rng(0))) == 7
