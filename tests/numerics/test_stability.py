from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from cytoclust.numerics import stability
from cytoclust.numerics.knn import jaccard_graph, nearest_neighbors
from cytoclust.numerics.sketch import Edges, sketch_events


def two_blocks(n: int = 60) -> Edges:
    """A graph of two groups of events, fully joined inside and not at all between."""
    block = np.arange(2 * n) // n
    rows, columns = np.triu_indices(2 * n, k=1)
    inside = block[rows] == block[columns]
    return Edges(
        rows[inside].astype(np.int32),
        columns[inside].astype(np.int32),
        np.ones(int(inside.sum())),
        np.arange(2 * n, dtype=np.int32),
    )


def test_clear_clusters_are_always_found_again() -> None:
    edges = two_blocks()
    rng = np.random.default_rng(0)
    labels = stability.partitions(edges.graph(), edges.nearest, [1.0], rng=rng)
    weights = stability.bootstrap_weights(120, 5, rng=rng)
    (found,) = stability.recover(edges, labels, [1.0], weights, rng=rng)
    assert found.sizes.tolist() == [60, 60]
    assert (found.jaccard == 1.0).all()
    assert found.jaccard.shape == (2, 5)
    assert (found.rand == 1.0).all()


def test_a_cluster_that_is_not_there_is_not_found() -> None:
    edges = two_blocks()
    rng = np.random.default_rng(0)
    made_up = (np.arange(120) % 2).astype(np.int32)  # half of each group
    (found,) = stability.recover(
        edges, [made_up], [1.0], stability.bootstrap_weights(120, 5, rng=rng), rng=rng
    )
    assert found.jaccard.max() < 0.5
    assert abs(found.rand).max() < 0.1


def test_a_cluster_of_one_group_cannot_be_judged_without_it() -> None:
    edges = two_blocks()
    rng = np.random.default_rng(0)
    groups = np.where(np.arange(120) < 60, 0, np.arange(120) % 2 + 1)
    labels = (np.arange(120) // 60).astype(np.int32)
    (found,) = stability.recover(
        edges, [labels], [1.0], stability.left_out_weights(groups), rng=rng
    )
    assert np.isnan(found.jaccard[0]).tolist() == [True, False, False]
    assert (found.jaccard[1] == 1.0).all()
    (found,) = stability.recover(
        edges, [1 - labels], [1.0], stability.left_out_weights(groups), rng=rng
    )
    assert np.isnan(found.jaccard[1]).tolist() == [True, False, False]


def test_agreement_is_that_of_the_definitions() -> None:
    rng = np.random.default_rng(0)
    own, other = rng.integers(4, size=300), rng.integers(3, size=300)
    other[:200] = own[:200] % 3
    jaccard, rand = stability.agreement(own.astype(np.int32), other, np.ones(300))
    expected = [
        max(np.sum((own == i) & (other == j)) / np.sum((own == i) | (other == j)) for j in range(3))
        for i in range(4)
    ]
    np.testing.assert_allclose(jaccard, expected, rtol=1e-12)
    assert rand == pytest.approx(adjusted_rand_score(own, other), rel=1e-10)


def test_weights_count_events_as_often_as_they_are_drawn() -> None:
    own = np.array([0, 0, 1], dtype=np.int32)
    other = np.array([0, 1, 1])
    repeated = np.repeat([0, 1, 2], [3, 1, 2])
    weighted = stability.agreement(own, other, np.array([3.0, 1.0, 2.0]))
    counted = stability.agreement(own[repeated], other[repeated], np.ones(6))
    np.testing.assert_allclose(weighted[0], counted[0])
    assert weighted[1] == pytest.approx(counted[1])


def test_edges_give_the_graph_they_are_made_of() -> None:
    X = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    graph = jaccard_graph(nearest_neighbors(X, 9, rng=np.random.default_rng(0)).rows)
    once = sparse.triu(graph, k=1).tocoo()
    edges = Edges(once.row, once.col, once.data.astype(np.float64), np.arange(500, dtype=np.int32))
    assert abs(edges.graph() - graph).max() < 1e-12
    weights = np.random.default_rng(1).poisson(1.0, size=500).astype(np.float64)
    expected = sparse.diags_array(weights) @ graph @ sparse.diags_array(weights)
    assert abs(edges.graph(weights) - expected).max() < 1e-6
    sketch = sketch_events(X, n_prototypes=50, rng=np.random.default_rng(0))
    assert abs(sketch.edges.graph(np.ones(500)) - sketch.graph).max() < 1e-9


@pytest.mark.parametrize("n_prototypes", [0, 40])
def test_replicates_are_clustered_on_the_graph_of_what_they_hold(n_prototypes: int) -> None:
    X = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    if n_prototypes:
        edges = sketch_events(X, n_prototypes=n_prototypes, rng=np.random.default_rng(0)).edges
    else:
        found = nearest_neighbors(X, 9, rng=np.random.default_rng(0))
        edges = stability.event_edges(jaccard_graph(found.rows))
    weights = np.random.default_rng(1).poisson(1.0, size=400).astype(np.float64)
    weights[edges.nearest == 3] = 0.0  # a node that holds nothing
    graph, place = stability.Pattern(edges).graph(weights)
    in_node = np.bincount(edges.nearest, weights=weights)
    kept = np.flatnonzero(in_node)
    assert 0 < len(kept) < len(in_node)
    assert place[kept].tolist() == list(range(len(kept)))
    assert (place[in_node == 0] == -1).all()
    expected = edges.graph(weights)[kept][:, kept]
    assert abs(graph - expected).max() < 1e-5


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.6])
def test_another_graph_gives_the_same_clusters(factor: float) -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(scale=3.0, size=(8, 5))
    centers[1::2] = centers[::2] + 1.1  # pairs that a coarse resolution merges
    X = (centers[np.arange(2400) % 8] + rng.normal(scale=0.4, size=(2400, 5))).astype(np.float32)
    drawn = np.sort(rng.choice(2400, 1200, replace=False))
    graph = jaccard_graph(nearest_neighbors(X[drawn], 14, rng=rng).rows)
    wanted = stability.partitions(graph, np.arange(1200), [0.5], rng=rng)[0]
    sketch = sketch_events(X, rng=rng)
    used = stability.match_partition(
        sketch.graph, sketch.nearest[drawn], wanted, start=0.5 * factor
    )
    assert 0.5 <= used / (0.5 * factor) <= 2.5
    labels = stability.partitions(sketch.graph, sketch.nearest, [used], rng=rng)[0]
    assert adjusted_rand_score(wanted, labels[drawn]) > 0.95


def test_the_finest_stable_resolution_is_chosen() -> None:
    assert stability.choose([0.1, 0.5, 1.0, 2.0], [1.0, 0.7, 0.8, 0.2]) == 1.0
    assert stability.choose([0.1, 0.5, 1.0], [0.2, 0.6, 0.6]) == 0.5
    assert stability.choose([1.0], [0.0]) == 1.0
