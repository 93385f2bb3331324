from __future__ import annotations

import igraph
import networkx as nx
import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import adjusted_rand_score

from cytoclust.numerics.knn import jaccard_graph, nearest_neighbors
from cytoclust.numerics.leiden import leiden, modularity, rank_by_size
from cytoclust.numerics.leiden_reference import by_igraph, by_leidenalg


def graph_of(network: nx.Graph) -> sparse.csr_matrix:
    return sparse.csr_matrix(nx.to_scipy_sparse_array(network, weight="weight", dtype=np.float64))


def run(graph: sparse.csr_matrix, resolution: float = 1.0, **options: object) -> np.ndarray:
    return leiden(graph, resolution, rng=np.random.default_rng(0), **options)


def assert_connected(graph: sparse.csr_matrix, labels: np.ndarray) -> None:
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        assert connected_components(graph[members][:, members])[0] == 1, f"community {label}"


def neighbor_graph(n: int = 4000, d: int = 6, *, noise: float = 0.8) -> sparse.csr_matrix:
    rng = np.random.default_rng(3)
    centers = rng.normal(scale=2.0, size=(10, d))
    X = centers[rng.integers(10, size=n)] + rng.normal(scale=noise, size=(n, d))
    return jaccard_graph(nearest_neighbors(X, 14, rng=rng).rows)


def test_karate_club() -> None:
    network = nx.karate_club_graph()
    for _, _, edge in network.edges(data=True):
        edge["weight"] = 1.0
    graph = graph_of(network)
    labels = run(graph)
    assert modularity(graph, labels) == pytest.approx(0.4197896, abs=2e-3)
    assert_connected(graph, labels)
    parts = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
    assert modularity(graph, labels) == pytest.approx(nx.community.modularity(network, parts))


@pytest.mark.parametrize("resolution", [1.0, 2.0])
def test_ring_of_cliques(resolution: float) -> None:
    network = nx.ring_of_cliques(10, 6)
    labels = run(graph_of(network), resolution)
    assert adjusted_rand_score(np.repeat(np.arange(10), 6), labels) == 1.0


def test_resolution_limit_merges_cliques_and_cpm_does_not() -> None:
    network = nx.ring_of_cliques(40, 3)  # the classic case: modularity joins neighbouring cliques
    graph = graph_of(network)
    assert run(graph).max() + 1 < 40
    assert run(graph, 0.5, objective="cpm").max() + 1 == 40


def test_two_cliques_and_isolated_nodes() -> None:
    network = nx.disjoint_union(nx.complete_graph(6), nx.complete_graph(4))
    network.add_nodes_from([10, 11])
    labels = run(graph_of(network))
    assert labels.tolist() == [0] * 6 + [1] * 4 + [2, 3]


def test_weights_decide() -> None:
    network = nx.cycle_graph(4)
    for u, v, weight in ((0, 1, 9.0), (1, 2, 0.1), (2, 3, 9.0), (3, 0, 0.1)):
        network[u][v]["weight"] = weight
    assert run(graph_of(network)).tolist() == [0, 0, 1, 1]
    for u, v, weight in ((0, 1, 0.1), (1, 2, 9.0), (2, 3, 0.1), (3, 0, 9.0)):
        network[u][v]["weight"] = weight
    assert run(graph_of(network)).tolist() == [0, 1, 1, 0]


def test_graph_without_edges() -> None:
    assert run(sparse.csr_matrix((3, 3))).tolist() == [0, 1, 2]
    assert run(sparse.csr_matrix((0, 0))).tolist() == []
    assert modularity(sparse.csr_matrix((3, 3)), np.zeros(3, int)) == 0.0


@pytest.mark.parametrize("resolution", [0.3, 1.0, 3.0])
def test_modularity_is_as_high_as_igraph(resolution: float) -> None:
    graph = neighbor_graph()
    own = run(graph, resolution)
    other = by_igraph(graph, resolution, n_iterations=-1, seed=1)
    assert modularity(graph, own, resolution) >= 0.997 * modularity(graph, other, resolution)
    assert_connected(graph, own)


def test_modularity_agrees_with_igraph_and_leidenalg() -> None:
    graph = neighbor_graph(1000)
    labels = by_leidenalg(graph, 1.0, n_iterations=2, seed=1)
    edges = sparse.triu(graph).tocoo()
    network = igraph.Graph(n=1000, edges=np.column_stack([edges.row, edges.col]))
    wanted = network.modularity(labels, weights=edges.data.astype(float))
    assert modularity(graph, labels) == pytest.approx(wanted, rel=1e-5)
    assert modularity(graph, run(graph)) >= 0.997 * wanted


@pytest.mark.parametrize("seed", range(4))
def test_planted_communities(seed: int) -> None:
    sizes = [120, 80, 50, 30, 20]
    network = nx.random_partition_graph(sizes, 0.35, 0.01, seed=seed)
    planted = np.repeat(np.arange(5), sizes)
    graph = graph_of(network)
    labels = run(graph)
    assert adjusted_rand_score(planted, labels) > 0.9
    assert_connected(graph, labels)


@pytest.mark.parametrize("objective", ["modularity", "cpm"])
def test_sparse_random_graphs_stay_connected(objective: str) -> None:
    for seed in range(15):
        network = nx.gnm_random_graph(120, 150, seed=seed)
        graph = graph_of(network)
        resolution = 0.6 if objective == "modularity" else 0.05
        labels = leiden(
            graph, resolution, rng=np.random.default_rng(seed), objective=objective, n_iterations=1
        )
        assert_connected(graph, labels)


def test_merged_nodes_keep_the_modularity() -> None:
    graph = neighbor_graph(1000)
    parts = run(graph, 20.0)
    member = sparse.csr_matrix((np.ones(1000), (np.arange(1000), parts)))
    merged = (member.T @ graph @ member).tocsr()
    labels = run(merged, 1.0)
    assert modularity(merged, labels) == pytest.approx(modularity(graph, labels[parts]), rel=1e-9)
    assert modularity(merged, labels) >= 0.98 * modularity(graph, run(graph))


def test_seed_repeats_and_node_order_hardly_matters() -> None:
    graph = neighbor_graph(2000, noise=0.4)
    first = run(graph)
    assert np.array_equal(first, run(graph))
    order = np.random.default_rng(0).permutation(2000)
    assert adjusted_rand_score(first[order], run(graph[order][:, order])) > 0.95


def test_more_iterations_never_lower_the_quality() -> None:
    graph = neighbor_graph()
    quality = [modularity(graph, run(graph, n_iterations=n)) for n in (1, 2, -1)]
    assert quality[0] <= quality[1] + 1e-12
    assert quality[1] <= quality[2] + 1e-12


def test_rank_by_size() -> None:
    assert rank_by_size(np.array([5, 2, 2, 9, 9, 9])).tolist() == [2, 1, 1, 0, 0, 0]
    assert rank_by_size(np.array([7, 3])).tolist() == [0, 1]
    assert rank_by_size(np.array([], dtype=int)).tolist() == []


def test_kernels_in_python_agree() -> None:
    from cytoclust.numerics import leiden as module

    graph = graph_of(nx.ring_of_cliques(4, 4))
    arrays = (graph.indptr.astype(np.int64), graph.indices.astype(np.int32), graph.data)
    masses = module._strengths.py_func(arrays[0], arrays[2])
    assert np.array_equal(masses, module._strengths(arrays[0], arrays[2]))
    order = np.arange(16, dtype=np.int32)
    one, two = order.copy(), order.copy()
    module._move_nodes(*arrays, masses, one, 1 / masses.sum(), order)
    module._move_nodes.py_func(*arrays, masses, two, 1 / masses.sum(), order)
    assert np.array_equal(one, two)
    refined = module._refine(*arrays, masses, one, 1 / masses.sum(), order)
    again = module._refine.py_func(*arrays, masses, one, 1 / masses.sum(), order)
    assert np.array_equal(refined, again)
    part = module._compact(refined)
    wanted = module._aggregate(*arrays, part, int(part.max()) + 1)
    got = module._aggregate.py_func(*arrays, part, int(part.max()) + 1)
    assert all(np.array_equal(a, b) for a, b in zip(wanted, got, strict=True))
    whole = np.zeros(16, dtype=np.int32)
    assert module._split_disconnected.py_func(*arrays, whole).max() == 0
    assert module._quality.py_func(*arrays, masses, whole, 0.0) == graph.sum()
