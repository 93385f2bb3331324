"""Agreement with manual gates: exact graph, sketch and FlowSOM by the same protocol, in one run.

    python benchmarks/gated.py FOLDER [--seeds 3] [--peers-python PYTHON] [--out results.json]

FOLDER holds the gated sets (see `gated_sets`). All events are clustered, gated ones are scored: mean
F1 over populations, each matched with one cluster (Weber & Robinson 2016,
https://doi.org/10.1002/cyto.a.23030). Both graphs take the resolution that `tl.scan_resolutions`
chooses, with no setting of the set; FlowSOM is given the true number of populations, by the
interpreter that has it (`--peers-python`), in the same run. `*_at_1` are at resolution 1. Nothing was
tuned on these sets.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from clustering import gated_sets, mean_f1

import cytoclust as cc


def by_cytoclust(X: np.ndarray, gates: np.ndarray, seed: int) -> dict[str, Any]:
    names = [str(i) for i in range(len(X))]
    adata = ad.AnnData(np.asarray(X, dtype=np.float32), obs=pd.DataFrame(index=names))
    start = time.perf_counter()
    cc.tl.scan_resolutions(adata, use_rep="X", rng=seed)
    result: dict[str, Any] = {"scan_seconds": round(time.perf_counter() - start, 1)}
    chosen = adata.uns["cytoclust"]["scan_resolutions"]["params"]
    result |= {"resolution": chosen["resolution"], "n_clusters": chosen["n_clusters"]}
    cc.pp.neighbors(adata, use_rep="X", rng=seed)
    for way, verb in (("exact", cc.tl.leiden), ("sketched", cc.tl.leiden_sketched)):
        more = {} if way == "exact" else {"use_rep": "X"}
        verb(adata, resolution=None, key_added=way, rng=seed, **more)
        result[way] = mean_f1(gates, adata.obs[way].cat.codes.to_numpy())
        result[f"{way}_clusters"] = int(adata.obs[way].nunique())
        verb(adata, resolution=1.0, key_added=way, rng=seed, **more)
        result[f"{way}_at_1"] = mean_f1(gates, adata.obs[way].cat.codes.to_numpy())
    return result


FLOWSOM = """
import sys, warnings
import anndata, flowsom, numpy
warnings.simplefilter("ignore")
X = numpy.load(sys.argv[1] + "/X.npy")
found = flowsom.FlowSOM(
    anndata.AnnData(X), n_clusters=int(sys.argv[2]), cols_to_use=list(range(X.shape[1])),
    seed=int(sys.argv[3]),
)
numpy.save(sys.argv[1] + "/labels.npy", numpy.asarray(found.metacluster_labels))
"""


def by_flowsom(X: np.ndarray, gates: np.ndarray, seed: int, python: str) -> dict[str, Any]:
    if subprocess.run(
        [python, "-c", "import flowsom"], check=False, capture_output=True
    ).returncode:
        return {}
    wanted = len(set(gates[pd.notna(gates) & (gates != "")]))
    with TemporaryDirectory() as folder:
        np.save(Path(folder) / "X.npy", np.asarray(X, dtype=np.float32))
        command = [python, "-c", FLOWSOM, folder, str(wanted), str(seed)]
        subprocess.run(command, check=True, capture_output=True)
        return {"flowsom": mean_f1(gates, np.load(Path(folder) / "labels.npy"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter with flowsom")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {"cytoclust": version("cytoclust"), "seeds": options.seeds}
    for name, X, gates in gated_sets(options.folder):
        runs = [
            by_cytoclust(X, gates, seed) | by_flowsom(X, gates, seed, options.peers_python)
            for seed in range(options.seeds)
        ]
        table = pd.DataFrame(runs)
        results[name] = {
            "events": len(X),
            "channels": X.shape[1],
            "mean": table.mean().round(3).to_dict(),
            "runs": table.round(3).to_dict("list"),
        }
        print(name, results[name]["mean"], flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=2) + "\n")
    sets = [value["mean"] for value in results.values() if isinstance(value, dict)]
    ways = [way for way in ("exact", "sketched", "flowsom") if all(way in own for own in sets)]
    results["mean"] = {way: round(float(np.mean([own[way] for own in sets])), 3) for way in ways}
    print("mean", results["mean"])
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
