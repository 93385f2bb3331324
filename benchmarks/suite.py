"""The benchmark suite: cytoclust against its peers, each piece of work in a process of its own.

    python benchmarks/suite.py small              # under a minute; also runs in CI
    python benchmarks/suite.py regular            # 100,000 and 1,000,000 events
    python benchmarks/suite.py large              # 1M and 10M events (with --sizes 50000000: 50M)

Options: `--only leiden,neighbors` runs the comparisons whose names start so; `--sizes` takes other
numbers of events; `--peers-python` names the interpreter of an environment in which flowsom and
phenograph are installed (`pip install 'cytoclust[peers]'`), if they are not in this one. `--shared`
names a folder of gated real sets to score as well. Writes JSON, tables and a figure on log axes to
benchmarks/results/ (`--out` elsewhere). Peers that need more than some minutes stop at the size in
LIMITS, where cytoclust is measured too: a ratio is only formed between pieces of the same size and run.
scanpy's UMAP is stopped after 180 seconds, and the ratio is then the least that it can be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from suite_report import write_report

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
SIZES = {"small": [20_000], "regular": [100_000, 1_000_000], "large": [1_000_000, 10_000_000]}
# comparison: its pieces, cytoclust's first, and options
COMPARISONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "arcsinh": (["arcsinh_and_compensation"], {}),
    "decode": (["decode_fcs"], {}),
    "neighbors k=15": (
        ["neighbors_cytoclust", "neighbors_pynndescent", "neighbors_faiss_ivf", "neighbors_faiss_hnsw"],
        {"k": 15},
    ),
    "neighbors k=30": (["neighbors_cytoclust", "neighbors_pynndescent"], {"k": 30}),
    "leiden": (["leiden_cytoclust", "leiden_igraph", "leiden_leidenalg"], {"iterations": 2}),
    "leiden, 1 thread": (["leiden_cytoclust"], {"iterations": 2, "n_jobs": 1}),
    "leiden until stable": (["leiden_cytoclust"], {"iterations": -1}),
    "clustering": (
        ["cluster_cytoclust_exact", "cluster_cytoclust_sketched", "cluster_flowsom", "cluster_scanpy",
         "cluster_phenograph"],
        {"iterations": 2},
    ),
    "umap": (["umap_cytoclust_sketched", "umap_scanpy", "umap_learn"], {"stop_after": 180}),
    "pipeline": (["pipeline_cytoclust"], {"patients": 6}),
}  # fmt: skip
PEERS = {"cluster_flowsom": "flowsom", "cluster_phenograph": "phenograph", "neighbors_faiss_ivf": "faiss",
         "neighbors_faiss_hnsw": "faiss"}  # fmt: skip
LIMITS = {
    "leiden_leidenalg": 100_000,
    "cluster_phenograph": 100_000,
    "umap_scanpy": 1_000_000,
    "umap_learn": 100_000,
    "neighbors_faiss_ivf": 1_000_000,
    "neighbors_faiss_hnsw": 1_000_000,
    "neighbors_pynndescent": 1_000_000,
    "neighbors_cytoclust": 1_000_000,
    "leiden_igraph": 1_000_000,
    "leiden_cytoclust": 1_000_000,
    "cluster_cytoclust_exact": 1_000_000,
    "cluster_scanpy": 1_000_000,
    "cluster_flowsom": 1_000_000,
    "decode_fcs": 1_000_000,
}
# compiling or importing these takes longer than the work
NOT_SMALL = {"neighbors_pynndescent", "cluster_scanpy", "cluster_flowsom", "cluster_phenograph",
             "umap_scanpy", "umap_learn", "umap_cytoclust_sketched", "pipeline_cytoclust",
             "cluster_cytoclust_exact", "neighbors_faiss_ivf", "leiden_leidenalg"}  # fmt: skip
NOT_LARGE = {"neighbors k=15", "neighbors k=30", "leiden", "leiden, 1 thread", "leiden until stable",
             "pipeline"}  # fmt: skip


def populations(n: int, d: int, *, n_populations: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Normal populations of log-normal sizes, and one of 0.05 %; float32."""
    rng = np.random.default_rng(1)
    centers = rng.normal(scale=2.0, size=(n_populations, d))
    share = rng.lognormal(sigma=1.2, size=n_populations)
    share[-1] = 0.0
    share *= 0.9995 / share.sum()
    share[-1] = 0.0005
    labels = rng.choice(n_populations, size=n, p=share).astype(np.int16)
    X = np.empty((n, d), dtype=np.float32)
    for start in range(0, n, 1_000_000):
        part = slice(start, start + 1_000_000)
        noise = rng.normal(scale=0.5, size=(len(labels[part]), d))
        X[part] = centers[labels[part]] + noise
    return X, labels


def true_neighbors(X: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Compare with every event, in float64; ties do not matter in these data."""
    centre = X[queries].mean(axis=0, dtype=np.float64)
    Q = X[queries].astype(np.float64) - centre
    best = np.full((len(queries), k + 1), np.inf)
    rows = np.full((len(queries), k + 1), -1)
    for start in range(0, len(X), 20_000):
        part = X[start : start + 20_000].astype(np.float64) - centre
        distances = (Q**2).sum(1)[:, None] + (part**2).sum(1)[None] - 2 * Q @ part.T
        together = np.concatenate([best, distances], axis=1)
        names = np.concatenate(
            [rows, np.broadcast_to(np.arange(start, start + len(part)), distances.shape)], axis=1
        )
        kept = np.argpartition(together, k, axis=1)[:, : k + 1]
        best = np.take_along_axis(together, kept, axis=1)
        rows = np.take_along_axis(names, kept, axis=1)
    order = np.argsort(best, axis=1)
    rows = np.take_along_axis(rows, order, axis=1)
    own = rows == queries[:, None]
    return rows[~own].reshape(len(queries), k)


def prepare(folder: Path, n: int, d: int, *, graph: bool) -> None:
    X, truth = populations(n, d)
    np.save(folder / "events.npy", X)
    np.save(folder / "truth.npy", truth)
    n_queries = 1000 if n <= 1_000_000 else 200
    queries = np.sort(np.random.default_rng(0).choice(n, n_queries, replace=False))
    np.save(folder / "queries.npy", queries)
    np.save(folder / "neighbors.npy", true_neighbors(X, queries, 29))
    if graph:
        code = (
            "import numpy as np, sys; from scipy import sparse\n"
            "from cytoclust.numerics.knn import jaccard_graph, nearest_neighbors\n"
            "X = np.load(sys.argv[1] + '/events.npy')\n"
            "found = nearest_neighbors(X, 14, rng=np.random.default_rng(0))\n"
            "sparse.save_npz(sys.argv[1] + '/graph.npz', jaccard_graph(found.rows), compressed=False)\n"
        )
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def environment() -> dict[str, str]:
    """Every library picks its own best kernels: what a machine forces on BLAS is unset."""
    return {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}


def importable(python: str, module: str) -> bool:
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


def interpreter_of(piece: str, peers_python: str) -> str | None:
    """Return the interpreter in which a piece can run, if any."""
    module = PEERS.get(piece)
    for python in (sys.executable, peers_python):
        if module is None or importable(python, module):
            return python
    return None


def run_piece(python: str, piece: str, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [python, str(HERE / "pieces.py"), piece, str(folder), json.dumps(options)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return {"failed": done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def chosen(size: str, n: int, piece: str, comparison: str) -> bool:
    if size == "small" and piece in NOT_SMALL:
        return False
    if size == "large" and comparison in NOT_LARGE:
        return False
    return n <= LIMITS.get(piece, n)


def run_size(size: str, n: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Run every comparison on one number of events; gives one row a piece."""
    wanted = {
        name: (pieces, extra)
        for name, (pieces, extra) in COMPARISONS.items()
        if not options.only or any(name.startswith(start) for start in options.only.split(","))
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        graph = n <= 1_000_000 and size != "large" and any("leiden" in name for name in wanted)
        prepare(folder, n, options.channels, graph=graph)
        for name, (pieces, extra) in wanted.items():
            for piece in pieces:
                if not chosen(size, n, piece, name):
                    continue
                python = interpreter_of(piece, options.peers_python)
                if python is None:
                    print(f"{name:20} {piece:28} left out: {PEERS[piece]} is not installed")
                    continue
                asked = {"events": n, "channels": options.channels} | extra
                load = os.getloadavg()[0]
                got = run_piece(python, piece, folder, asked)
                about = {"comparison": name, "piece": piece, "load_before": round(load, 2)}
                shown = {k: v for k, v in got.items() if k not in {"versions", "readers"}}
                print(f"{name:20} {piece:28} {n:>9,} x {options.channels}", shown, flush=True)
                yield about | asked | got


def score_gated(shared: Path) -> dict[str, Any]:
    from clustering import score_gated as score

    results: dict[str, Any] = {}
    score(shared, results, n_seeds=3)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("size", choices=list(SIZES))
    parser.add_argument("--sizes", help="numbers of events, comma between")
    parser.add_argument("--channels", type=int, default=20)
    parser.add_argument("--only", help="first words of comparisons, comma between")
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--shared", type=Path, help="folder of gated real sets")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--name", help="of the files; default suite_SIZE")
    options = parser.parse_args()
    sizes = [int(n) for n in options.sizes.split(",")] if options.sizes else SIZES[options.size]
    start = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.name or 'suite_' + options.size}.json"
    rows: list[dict[str, Any]] = []
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "size": options.size,
        "processors": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "rows": rows,
    }

    def write() -> None:
        result["seconds"] = round(time.perf_counter() - start)
        path.write_text(json.dumps(result, indent=1) + "\n")

    for n in sizes:
        for row in run_size(options.size, n, options):
            rows.append(row)
            write()  # a run that is stopped keeps what it has measured
    if options.shared:
        result["gated"] = score_gated(options.shared)
    write()
    write_report(path)
    print(f"{path}: {result['seconds']} s")
    failed = [row for row in rows if "failed" in row]
    for row in failed:
        print("failed:", row["piece"], row["failed"], file=sys.stderr)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
