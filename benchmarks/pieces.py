"""Pieces of the benchmark suite: each does one piece of work in a process of its own.

    python benchmarks/pieces.py NAME FOLDER OPTIONS     # called by suite.py; OPTIONS is JSON

FOLDER holds what `suite.py` prepared (events.npy, truth.npy, rows.npy of exact neighbours, graph.npz).
Prints one JSON object: seconds (compiled code warm), peak memory of the process and what the work
added to it, figures of quality, versions. Peers' pieces import nothing of cytoclust, so that they run in
an environment of their own.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import signal
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Options = dict[str, Any]
WARM = 30_000  # events that compile every kernel, also those of many events
PIECES: dict[str, Callable[[Path, Options], dict[str, Any]]] = {}


def piece(function: Callable[[Path, Options], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    PIECES[function.__name__] = function
    return function


def events(folder: Path) -> np.ndarray:
    return np.load(folder / "events.npy")


def warm_events(folder: Path) -> np.ndarray:
    return np.load(folder / "events.npy", mmap_mode="r")[:WARM].copy()


def memory_mb(key: str) -> float:
    """Read VmHWM (peak) or VmRSS (now) of this process; elsewhere than on Linux the peak since start."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Start the peak anew: what was imported or compiled before does not count."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Run the work; seconds of wall clock and processor, peak memory before and after."""
    forget_peak()
    before = memory_mb("VmRSS")
    start, cpu = time.perf_counter(), time.process_time()
    value = work()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return value, {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "peak_mb": round(memory_mb("VmHWM")),
        "added_mb": round(memory_mb("VmHWM") - before),
    }


def clusters_scored(folder: Path, labels: np.ndarray) -> dict[str, Any]:
    """Agreement with the simulated populations; the rare one is 0.05 % of all events."""
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_matrix
    from sklearn.metrics import adjusted_rand_score

    truth = np.load(folder / "truth.npy")
    codes = np.unique(labels, return_inverse=True)[1]
    table = coo_matrix((np.ones(len(truth)), (truth, codes))).toarray()
    f1 = 2 * table / (table.sum(axis=0)[None] + table.sum(axis=1)[:, None])
    rows, columns = linear_sum_assignment(-f1)
    return {
        "clusters": int(codes.max()) + 1,
        "adjusted_rand": round(float(adjusted_rand_score(truth, codes)), 4),
        "mean_f1": round(float(f1[rows, columns].sum() / len(table)), 4),
        "rare_f1": round(float(f1[-1].max()), 4),
    }


def recall(folder: Path, found: np.ndarray) -> float:
    """Share of the true neighbours found, on exactly searched events."""
    queries, wanted = np.load(folder / "queries.npy"), np.load(folder / "neighbors.npy")
    k = min(wanted.shape[1], found.shape[1])
    shared = [
        len(np.intersect1d(found[q, :k], w[:k])) for q, w in zip(queries, wanted, strict=True)
    ]
    return round(float(np.mean(shared)) / k, 4)


def without_self(found: np.ndarray, k: int) -> np.ndarray:
    """Drop each event from its own neighbours."""
    own = found == np.arange(len(found))[:, None]
    own[~own.any(axis=1), -1] = True
    return found[~own].reshape(len(found), -1)[:, :k]


@piece
def arcsinh_and_compensation(folder: Path, options: Options) -> dict[str, Any]:
    import subprocess

    script = Path(__file__).with_name("arcsinh.py")
    command = [sys.executable, str(script), "--events", str(options["events"])]
    command += ["--channels", str(options["channels"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@piece
def decode_fcs(folder: Path, options: Options) -> dict[str, Any]:
    """Write one FCS file of the events, read it back with each reader."""
    import flowio

    from cytoclust import io
    from cytoclust.io.fcs_writing import write_fcs_file

    values = events(folder)
    path = folder / "events.fcs"
    write_fcs_file(path, values, [f"FL{i}-A" for i in range(values.shape[1])])
    begin = int(flowio.FlowData(str(path), only_text=True).header["data_start"])
    readers: dict[str, Callable[[], np.ndarray]] = {
        "np.fromfile": lambda: np.fromfile(path, "<f4", values.size, offset=begin),
        "cytoclust": lambda: np.array(io.read_fcs_datasets(path)[0].events, np.float32),
        "flowio": lambda: np.asarray(flowio.FlowData(str(path)).as_array(preprocess=False), "f4"),
    }
    out: dict[str, Any] = {}
    for name, read in readers.items():
        seconds = []
        for _ in range(1 if name == "flowio" else 5):
            got, cost = timed(read)
            seconds.append(cost["seconds"])
            assert np.array_equal(np.asarray(got).reshape(values.shape), values), name
        out[name] = {"seconds": float(np.median(seconds)), "peak_mb": cost["peak_mb"]}
    path.unlink()
    return {"readers": out, "seconds": out["cytoclust"]["seconds"]}


@piece
def neighbors_cytoclust(folder: Path, options: Options) -> dict[str, Any]:
    from cytoclust.numerics.knn import nearest_neighbors

    k = options["k"] - 1
    nearest_neighbors(warm_events(folder), k, rng=np.random.default_rng(0))
    X = events(folder)
    found, cost = timed(lambda: nearest_neighbors(X, k, rng=np.random.default_rng(0)))
    return cost | {"recall": recall(folder, found.rows), "claimed_recall": found.recall}


@piece
def neighbors_pynndescent(folder: Path, options: Options) -> dict[str, Any]:
    from pynndescent import NNDescent

    NNDescent(warm_events(folder), n_neighbors=options["k"], random_state=0)
    X = events(folder)
    index, cost = timed(lambda: NNDescent(X, n_neighbors=options["k"], random_state=0))
    found = without_self(index.neighbor_graph[0], options["k"] - 1)
    return cost | {"recall": recall(folder, found)}


def faiss_search(folder: Path, options: Options, kind: str, **settings: int) -> dict[str, Any]:
    import faiss

    X = events(folder)

    def work() -> np.ndarray:
        index = faiss.index_factory(X.shape[1], kind)
        for name, value in settings.items():
            faiss.ParameterSpace().set_index_parameter(index, name, value)
        index.train(X)
        index.add(X)
        return index.search(X, options["k"])[1]

    found, cost = timed(work)
    return cost | {"recall": recall(folder, without_self(found, options["k"] - 1))}


@piece
def neighbors_faiss_ivf(folder: Path, options: Options) -> dict[str, Any]:
    return faiss_search(folder, options, "IVF1024,Flat", nprobe=16)


@piece
def neighbors_faiss_hnsw(folder: Path, options: Options) -> dict[str, Any]:
    return faiss_search(folder, options, "HNSW16", efSearch=48)


def load_graph(folder: Path) -> Any:
    from scipy import sparse

    return sparse.load_npz(folder / "graph.npz")


def communities_scored(folder: Path, graph: Any, labels: np.ndarray) -> dict[str, Any]:
    """Modularity and connected communities, counted without cytoclust's kernels."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    strengths = np.asarray(graph.sum(axis=1, dtype=np.float64)).ravel()
    total = strengths.sum()
    edges = graph.tocoo()
    same = labels[edges.row] == labels[edges.col]
    mass = np.bincount(labels, weights=strengths)
    inside = edges.data[same].sum(dtype=np.float64)
    kept = sparse.csr_matrix((edges.data[same], (edges.row[same], edges.col[same])), graph.shape)
    pieces = connected_components(kept, directed=False)[0]
    return {
        "edges": graph.nnz // 2,
        "modularity": round(float(inside / total - (mass**2).sum() / total**2), 6),
        "disconnected": int(pieces - len(np.unique(labels))),
    } | clusters_scored(folder, labels)


@piece
def leiden_cytoclust(folder: Path, options: Options) -> dict[str, Any]:
    from cytoclust.numerics.knn import jaccard_graph, nearest_neighbors
    from cytoclust.numerics.leiden import leiden
    from cytoclust.numerics.threads import thread_limit

    rng = np.random.default_rng
    small = jaccard_graph(
        nearest_neighbors(np.tile(warm_events(folder), (2, 1)), 5, rng=rng(0)).rows
    )
    leiden(small, rng=rng(0), n_iterations=1)
    graph = load_graph(folder)
    n_jobs = options.get("n_jobs")
    with thread_limit(n_jobs):
        labels, cost = timed(lambda: leiden(graph, rng=rng(0), n_iterations=options["iterations"]))
    return cost | communities_scored(folder, graph, labels)


@piece
def leiden_igraph(folder: Path, options: Options) -> dict[str, Any]:
    from cytoclust.numerics.leiden_reference import by_igraph

    graph = load_graph(folder)
    labels, cost = timed(lambda: by_igraph(graph, 1.0, n_iterations=options["iterations"], seed=0))
    return cost | communities_scored(folder, graph, labels)


@piece
def leiden_leidenalg(folder: Path, options: Options) -> dict[str, Any]:
    from cytoclust.numerics.leiden_reference import by_leidenalg

    graph = load_graph(folder)
    labels, cost = timed(
        lambda: by_leidenalg(graph, 1.0, n_iterations=options["iterations"], seed=0)
    )
    return cost | communities_scored(folder, graph, labels)


def annotated(X: np.ndarray) -> Any:
    import anndata

    return anndata.AnnData(X)


@piece
def cluster_cytoclust_exact(folder: Path, options: Options) -> dict[str, Any]:
    import cytoclust as cc

    def work(adata: Any) -> np.ndarray:
        cc.pp.neighbors(adata, 15, use_rep="X")
        cc.tl.leiden(adata, n_iterations=options["iterations"])
        return adata.obs["leiden"].cat.codes.to_numpy()

    work(annotated(np.tile(warm_events(folder), (2, 1))))
    adata = annotated(events(folder))
    labels, cost = timed(lambda: work(adata))
    return cost | clusters_scored(folder, labels)


@piece
def cluster_cytoclust_sketched(folder: Path, options: Options) -> dict[str, Any]:
    import cytoclust as cc

    def work(adata: Any) -> np.ndarray:
        cc.tl.leiden_sketched(adata, use_rep="X")
        return adata.obs["leiden"].cat.codes.to_numpy()

    work(annotated(warm_events(folder)))
    adata = annotated(events(folder))
    labels, cost = timed(lambda: work(adata))
    return cost | clusters_scored(folder, labels)


@piece
def cluster_scanpy(folder: Path, options: Options) -> dict[str, Any]:
    import scanpy as sc

    def work(adata: Any) -> np.ndarray:
        sc.pp.neighbors(adata, n_neighbors=15, use_rep="X")
        sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
        return adata.obs["leiden"].cat.codes.to_numpy()

    work(annotated(warm_events(folder)))
    adata = annotated(events(folder))
    labels, cost = timed(lambda: work(adata))
    return cost | clusters_scored(folder, labels)


@piece
def cluster_flowsom(folder: Path, options: Options) -> dict[str, Any]:
    """FlowSOM_Python, given the true number of populations."""
    import flowsom

    n_clusters = int(np.load(folder / "truth.npy").max()) + 1

    def work(X: np.ndarray) -> np.ndarray:
        adata = annotated(X)
        adata.var["marker"] = adata.var["channel"] = adata.var_names
        found = flowsom.FlowSOM(
            adata, n_clusters=n_clusters, cols_to_use=list(adata.var_names), seed=0
        )
        return np.asarray(found.get_cell_data().obs["metaclustering"]).astype(int)

    work(warm_events(folder))
    X = events(folder)
    labels, cost = timed(lambda: work(X))
    return cost | clusters_scored(folder, labels)


@piece
def cluster_phenograph(folder: Path, options: Options) -> dict[str, Any]:
    import phenograph

    X = events(folder)
    work = lambda: phenograph.cluster(X, k=30, n_jobs=os.cpu_count(), seed=0)[0]  # noqa: E731
    labels, cost = timed(work)
    return cost | clusters_scored(folder, np.asarray(labels) + 1)


def preservation(folder: Path, coordinates: np.ndarray) -> float:
    """Share of the 15 neighbours in marker space that are among the 15 on the map; 2,000 events."""
    from sklearn.neighbors import NearestNeighbors

    queries, wanted = np.load(folder / "queries.npy"), np.load(folder / "neighbors.npy")[:, :15]
    near = NearestNeighbors(n_neighbors=16).fit(coordinates).kneighbors(coordinates[queries])[1]
    shared = [
        len(np.intersect1d(n[n != q][:15], w))
        for n, q, w in zip(near, queries, wanted, strict=True)
    ]
    return round(float(np.mean(shared)) / 15, 4)


@piece
def umap_cytoclust_sketched(folder: Path, options: Options) -> dict[str, Any]:
    import cytoclust as cc

    def work(adata: Any) -> np.ndarray:
        cc.tl.umap_sketched(adata, use_rep="X")
        return np.asarray(adata.obsm["X_umap"])

    work(annotated(warm_events(folder)))
    adata = annotated(events(folder))
    found, cost = timed(lambda: work(adata))
    return cost | {"preservation": preservation(folder, found)}


class Stopped(Exception):  # noqa: N818, not an error
    """The time that a piece was given is over."""


def stop(*_: object) -> None:
    raise Stopped


@piece
def umap_scanpy(folder: Path, options: Options) -> dict[str, Any]:
    """scanpy.tl.umap, its neighbours given; stopped where it takes longer than `stop_after` seconds."""
    import scanpy as sc

    small, adata = annotated(warm_events(folder)[:3000]), annotated(events(folder))
    for one in (small, adata):
        sc.pp.neighbors(one, n_neighbors=15, use_rep="X")
    sc.tl.umap(small)
    signal.signal(signal.SIGALRM, stop)

    def work() -> bool:
        signal.alarm(options.get("stop_after", 0))
        try:
            sc.tl.umap(adata)
        except Stopped:
            return False
        finally:
            signal.alarm(0)
        return True

    done, cost = timed(work)
    if not done:
        return cost | {"stopped": True}
    return cost | {"preservation": preservation(folder, adata.obsm["X_umap"])}


@piece
def umap_learn(folder: Path, options: Options) -> dict[str, Any]:
    import umap

    umap.UMAP(n_neighbors=15).fit(warm_events(folder)[:3000])
    X = events(folder)
    found, cost = timed(lambda: umap.UMAP(n_neighbors=15).fit_transform(X))
    return cost | {"preservation": preservation(folder, found)}


@piece
def pipeline_cytoclust(folder: Path, options: Options) -> dict[str, Any]:
    """A whole run on a simulated study: files in, tables and report out."""
    import cytoclust as cc

    study = folder / "study"
    cc.simulate.study(study, n_patients=options["patients"], rng=9001)
    work = lambda: cc.pipeline.run(  # noqa: E731
        study / "samples.csv",
        study / "panel.csv",
        out=folder / "out",
        treatment_key="visit",
        compartment_key="compartment",
        donor_key="patient",
        definitions=("human_leukocyte", "b_all"),
    )
    adata, cost = timed(work)
    return cost | {"run_events": int(adata.n_obs), "files": len(list(study.glob("**/*.fcs")))}


def versions() -> dict[str, str]:
    names = ("cytoclust", "numpy", "numba", "scipy", "scanpy", "igraph", "leidenalg", "pynndescent",
             "faiss-cpu", "umap-learn", "flowsom", "phenograph", "flowio")  # fmt: skip
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    name, folder, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    warnings.simplefilter("ignore")
    result = PIECES[name](folder, options)
    print("\n" + json.dumps(result | {"versions": versions()}))


if __name__ == "__main__":
    main()
