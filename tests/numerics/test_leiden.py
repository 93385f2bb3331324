from __future__ import annotations

import os
import subprocess
import sys

import igraph
import networkx as nx
import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import adjusted_rand_score

from cytoclust.numerics import leiden as module
from cytoclust.numerics import leiden_merges as merges
from cytoclust.numerics import leiden_moves as moves
from cytoclust.numerics.knn import jaccard_graph, nearest_neighbors
from cytoclust.numerics.leiden import leiden, modularity, rank_by_size
from cytoclust.numerics.leiden_reference import by_igraph, by_leidenalg


@pytest.fixture(params=["one after another", "batches"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let every test run as small graphs do, and in batches, as large graphs do."""
    if request.param == "batches":
        monkeypatch.setattr(module, "SERIAL_NODES", 0)
        monkeypatch.setattr(module, "BATCH", 32)
    return str(request.param)


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
    """Both end in one of many local optima, 0.2 % apart: means of five seeds are compared."""
    graph = neighbor_graph()
    own, other = [], []
    for seed in range(1, 6):
        labels = leiden(graph, resolution, rng=np.random.default_rng(seed))
        own.append(modularity(graph, labels, resolution))
        assert_connected(graph, labels)
        labels = by_igraph(graph, resolution, n_iterations=-1, seed=seed)
        other.append(modularity(graph, labels, resolution))
    assert np.mean(own) >= 0.997 * np.mean(other)


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


@pytest.mark.parametrize("mixing", [0.1, 0.3])
def test_lfr_graphs(mixing: float) -> None:
    network = nx.LFR_benchmark_graph(
        1000, 3, 1.5, mixing, average_degree=12, max_degree=50, min_community=30, seed=4
    )
    planted = np.empty(1000, dtype=int)
    for label, members in enumerate({frozenset(network.nodes[n]["community"]) for n in network}):
        planted[list(members)] = label
    network.remove_edges_from(nx.selfloop_edges(network))
    graph = graph_of(network)
    labels = run(graph)
    other = by_igraph(graph, 1.0, n_iterations=-1, seed=1)
    assert modularity(graph, labels) >= 0.997 * modularity(graph, other)
    assert adjusted_rand_score(planted, labels) > 0.9
    assert_connected(graph, labels)


@pytest.mark.parametrize("resolution", [0.01, 0.1])
def test_cpm_is_as_good_as_igraph_and_leidenalg(resolution: float) -> None:
    graph = neighbor_graph(1500)
    edges = sparse.triu(graph, 1).tocoo()

    def quality(labels: np.ndarray) -> float:
        inside = edges.data[labels[edges.row] == labels[edges.col]].sum()
        sizes = np.bincount(labels)
        return float(inside - resolution * (sizes * (sizes - 1) / 2).sum())

    own = run(graph, resolution, objective="cpm")
    for reference in (by_igraph, by_leidenalg):
        other = reference(graph, resolution, objective="cpm", n_iterations=-1, seed=1)
        assert quality(own) >= 0.995 * quality(other)
    assert_connected(graph, own)


def test_sizes_of_nodes_stand_for_events_in_cpm() -> None:
    graph = graph_of(nx.ring_of_cliques(6, 5))
    merged = sparse.csr_matrix(sparse.kron(sparse.eye(6), np.ones((1, 5)))) @ graph
    merged = (merged @ sparse.kron(sparse.eye(6), np.ones((5, 1)))).tocsr()
    labels = run(merged, 0.01, objective="cpm", node_sizes=np.full(6, 5.0))
    assert labels.max() + 1 == 3  # one link of 25 possible pairs: 0.04 > 0.01, but not for three
    assert run(merged, 0.1, objective="cpm", node_sizes=np.full(6, 5.0)).max() + 1 == 6


def test_zero_weights_and_the_diagonal_join_nothing() -> None:
    graph = graph_of(nx.disjoint_union(nx.complete_graph(4), nx.complete_graph(4))).tolil()
    graph[0, 7] = graph[7, 0] = 1.0
    graph[2, 2] = 3.0
    graph = graph.tocsr()
    graph[0, 7] = graph[7, 0] = 0.0
    assert run(graph).tolist() == [0] * 4 + [1] * 4


THREADS = """
import numpy as np
from scipy import sparse
from cytoclust.numerics.knn import jaccard_graph, nearest_neighbors
from cytoclust.numerics.leiden import leiden
from cytoclust.numerics.threads import thread_limit
rng = np.random.default_rng(3)
X = (rng.normal(size=(9, 6)) * 2)[rng.integers(9, size=40_000)] + rng.normal(size=(40_000, 6))
results = []
for n_jobs in (1, 2, 4):
    with thread_limit(n_jobs) as used:
        assert used == n_jobs
        found = nearest_neighbors(X, 14, rng=np.random.default_rng(0))
        graph = jaccard_graph(found.rows)
        labels = leiden(graph, rng=np.random.default_rng(0), n_iterations=2)
        potts = leiden(graph, 0.001, rng=np.random.default_rng(0), objective="cpm", n_iterations=1)
    arrays = found.rows, found.distances, graph.indices, graph.data, labels, potts
    results.append([array.tobytes() for array in arrays])
assert results[0] == results[1] == results[2]
print("same", labels.max() + 1)
"""


@pytest.mark.slow
def test_same_bits_on_one_two_and_four_threads(way: str) -> None:
    if way == "batches":
        pytest.skip("the graph is large enough for batches anyway")
    environment = os.environ | {"NUMBA_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-c", THREADS],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("same")


def test_kernels_in_python_agree(way: str) -> None:
    graph = graph_of(nx.ring_of_cliques(4, 4))
    order = np.arange(16, dtype=np.int32)
    level, masses = module._in_order_of_visits(graph, order)
    assert np.array_equal(masses, module._strengths.py_func(graph.indptr, graph.data))
    penalty = 1 / masses.sum()
    more = order, *module._tables(level[0]), 4, way == "one after another"
    one, two = order.copy(), order.copy()
    gain = moves.move_nodes(*level, masses, one, penalty, *more)
    again = moves.move_nodes.py_func(*level, masses, two, penalty, *more)
    assert np.array_equal(one, two)
    assert gain == pytest.approx(again)
    arguments = (*level, masses, one, penalty, *more)
    refined = merges.refine(*arguments)
    assert np.array_equal(refined, merges.refine.py_func(*arguments))
    part = module._compact(refined)
    wanted = merges.aggregate(*level, part, int(part.max()) + 1, 2)
    got = merges.aggregate.py_func(*level, part, int(part.max()) + 1, 2)
    assert all(np.array_equal(a, b) for a, b in zip(wanted, got, strict=True))
    whole = np.zeros(16, dtype=np.int32)
    assert merges.split_disconnected.py_func(level[0], level[1], whole).max() == 0
    inside = module._inside.py_func(graph.indptr, graph.indices, graph.data, whole)
    assert inside.sum() == graph.sum()


def test_helpers_in_python_agree() -> None:
    graph = neighbor_graph(200)
    order = np.random.default_rng(0).permutation(200).astype(np.int32)
    (indptr, indices, weights), _ = module._in_order_of_visits(graph, order)
    wanted = graph[order][:, order]
    got = sparse.csr_matrix((weights, indices, indptr), shape=(200, 200))
    assert (abs(got - wanted) > 0).nnz == 0
    counts = module._kept.py_func(graph.indptr, graph.indices, graph.data, order)
    assert np.array_equal(counts, np.diff(indptr))
    copy = np.empty_like(indices), np.empty_like(weights)
    place = np.argsort(order).astype(np.int32)
    arrays = graph.indptr, graph.indices, graph.data, order, place, indptr
    module._copy_rows.py_func(*arrays, *copy)
    assert np.array_equal(copy[0], indices)
    keys, sums = np.full(8, -1, np.int32), np.empty(8)
    assert moves.slot.py_func(keys, 3) == moves.slot(keys, 3)
    met = np.empty(8, np.int32)
    community, mass = np.array([0, 1, 1], np.int32), np.array([1.0, 2.0])
    star = np.array([0, 2, 3, 4]), np.array([1, 2, 0, 0], np.int32), np.array([1.0, 2.0, 1.0, 2.0])
    arguments = (0, *star, community, mass, 0.1, 1.0, keys, sums, met)
    assert moves._best_community.py_func(*arguments) == (1, 3.0, 0.0)
    assert moves._best_community(*arguments) == (1, 3.0, 0.0)
