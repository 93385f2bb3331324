from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from cytoclust.numerics import sketch as module
from cytoclust.numerics.knn import jaccard_graph, nearest_neighbors
from cytoclust.numerics.leiden import leiden, modularity
from cytoclust.numerics.sketch import cluster_events, label_events, sketch_events
from cytoclust.numerics.threads import thread_limit


def populations(
    n: int, *, rare: int = 0, seed: int = 0, d: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping normal populations of unequal size; the last one has `rare` events."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(scale=2.2, size=(12, d))
    share = rng.lognormal(sigma=0.8, size=11)
    labels = rng.choice(11, size=n, p=share / share.sum())
    labels[:rare] = 11
    labels = rng.permutation(labels)
    return (centers[labels] + rng.normal(scale=0.6, size=(n, d))).astype(np.float32), labels


def test_exact_and_sketched_find_the_populations() -> None:
    X, truth = populations(6000)
    for exact_events in (10_000, 1000):
        labels = cluster_events(X, rng=np.random.default_rng(0), exact_events=exact_events)
        assert adjusted_rand_score(truth, labels) > 0.95
        assert (np.diff(np.bincount(labels)) <= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_population_of_one_in_two_thousand_is_a_cluster_of_its_own(seed: int) -> None:
    X, truth = populations(200_000, rare=100, seed=seed)
    labels = cluster_events(X, rng=np.random.default_rng(seed))
    own = labels[truth == 11]
    best = np.bincount(own).argmax()
    assert (own == best).mean() > 0.9
    assert (truth[labels == best] == 11).mean() > 0.9
    assert adjusted_rand_score(truth, labels) > 0.95


@pytest.mark.parametrize("resolution", [0.5, 1.0, 2.0])
def test_resolution_means_the_same_on_the_sketch(resolution: float) -> None:
    X, _ = populations(8000)
    found = nearest_neighbors(X, 14, rng=np.random.default_rng(0))
    graph = jaccard_graph(found.rows)
    exact = leiden(graph, resolution, rng=np.random.default_rng(0))
    sketch = sketch_events(X, rng=np.random.default_rng(0))
    coarse = leiden(sketch.graph, resolution, rng=np.random.default_rng(0))
    labels, _ = label_events(sketch, coarse)
    on_sketch = modularity(sketch.graph, coarse, resolution)
    on_events = modularity(graph, labels, resolution)
    assert on_sketch == pytest.approx(on_events, abs=0.01)
    assert on_events >= 0.9 * modularity(graph, exact, resolution)
    assert abs(int(labels.max()) - int(exact.max())) <= 0.35 * (exact.max() + 1)


def test_all_edges_are_summed_where_all_are_looked_at() -> None:
    X, _ = populations(3000)
    sketch = sketch_events(X, n_prototypes=150, rng=np.random.default_rng(0))
    found = nearest_neighbors(X, 14, rng=np.random.default_rng(0))
    graph = jaccard_graph(found.rows)
    inside = np.zeros((len(sketch.prototypes),) * 2)
    edges = graph.tocoo()
    np.add.at(inside, (sketch.nearest[edges.row], sketch.nearest[edges.col]), edges.data)
    assert sketch.n_sampled == 3000
    # the search in cells misses up to a tenth of the neighbours
    assert abs(sketch.graph.toarray() - inside).sum() < 0.15 * inside.sum()
    assert abs(sketch.graph - sketch.graph.T).max() < 1e-9


def test_drawn_edges_estimate_all_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    X, truth = populations(12_000, rare=60)
    full = sketch_events(X, n_prototypes=200, rng=np.random.default_rng(0))
    monkeypatch.setattr(module, "ALL_EDGES", 11_000)
    monkeypatch.setattr(module, "QUERIES", 5_500)
    drawn = sketch_events(X, n_prototypes=200, rng=np.random.default_rng(0))
    assert np.array_equal(full.nearest, drawn.nearest)
    assert drawn.n_sampled < 2000
    assert drawn.graph.sum() == pytest.approx(full.graph.sum(), rel=0.05)
    inside = [sketch.graph.diagonal().sum() / sketch.graph.sum() for sketch in (full, drawn)]
    assert inside[0] == pytest.approx(inside[1], abs=0.03)
    labels = label_events(drawn, leiden(drawn.graph, rng=np.random.default_rng(0)))[0]
    assert adjusted_rand_score(truth, labels) > 0.95


def test_same_on_one_and_two_threads() -> None:
    X, _ = populations(5000)
    results = []
    for n_jobs in (1, 2):
        with thread_limit(n_jobs):
            results.append(sketch_events(X, rng=np.random.default_rng(0)))
    one, two = results
    assert np.array_equal(one.prototypes, two.prototypes)
    assert np.array_equal(one.nearest, two.nearest)
    assert np.array_equal(one.graph.data, two.graph.data)


def test_event_order_hardly_matters() -> None:
    X, _ = populations(5000)
    order = np.random.default_rng(1).permutation(5000)
    first = cluster_events(X, rng=np.random.default_rng(0), exact_events=100)
    second = cluster_events(X[order], rng=np.random.default_rng(0), exact_events=100)
    assert adjusted_rand_score(first[order], second) > 0.95


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 16])
def test_few_events(n: int) -> None:
    X = np.random.default_rng(0).normal(size=(n, 3))
    for exact_events in (100, 0):
        assert len(cluster_events(X, rng=np.random.default_rng(0), exact_events=exact_events)) == n


def test_identical_events_do_not_fail() -> None:
    X = np.ones((3000, 4))
    labels = cluster_events(X, rng=np.random.default_rng(0), exact_events=100)
    assert len(labels) == 3000
