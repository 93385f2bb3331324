"""Names without manual gates, scored: gated sets of a shared folder, and time for a million events.

    python benchmarks/phenotypes.py --gated FOLDER [--peers] [--seeds 6] [--keep-clusterings]
    python benchmarks/phenotypes.py --time [--peers]

`--gated` annotates each gated set by the shipped definitions alone, on panel and values as they come
(mass cytometry with arcsinh of the cofactor its source names), and scores events and samples against
the gates. The yardstick is the best unsupervised clustering of the same values: our Leiden at two
resolutions and, with `--peers`, FlowSOM_Python; its clusters are matched with the gates after the fact,
which no name can be. Where a set has several donors, a classifier that learned the gates of the others
(gradient boosting on the same markers) says how far these gates can be told at all. No setting may be chosen here: these sets are for judging.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from clustering import mean_f1

import cytoclust as cc

if TYPE_CHECKING:
    from collections.abc import Iterator

LINEAGES = {"T cell", "CD4 T", "CD8 T", "NK cell", "B cell", "monocyte"}
RESULTS = Path(__file__).parent / "results" / "phenotypes.json"


def event_table(values: np.ndarray, markers: list[str]) -> ad.AnnData:
    adata = ad.AnnData(np.ascontiguousarray(values, dtype=np.float32))
    adata.var_names = markers
    adata.var["marker"] = markers
    adata.var["marker_class"] = "type"
    return adata


def cytomem(folder: Path) -> tuple[ad.AnnData, str, dict[str, str]]:
    """PBMC, mass cytometry, 7 gates."""
    table = pd.read_parquet(folder / "pbmc_cytomem" / "events.parquet")
    markers = [name for name in table if table[name].dtype == "float32"]
    adata = event_table(np.arcsinh(table[markers].to_numpy() / 15), markers)
    # no shipped population rests on IgM: both gates are B cells
    gates = (
        table["label"].astype(str).replace({"IgM+ B cells": "B cells", "IgM- B cells": "B cells"})
    )
    adata.obs["gate"] = gates.to_numpy()
    names = {
        "CD4+ T cells": "CD4 T",
        "CD8+ T cells": "CD8 T",
        "NK cells": "NK cell",
        "Monocytes": "monocyte",
        "Dendritic cells": "dendritic cell",
        "B cells": "B cell",
    }
    return adata, "human_leukocyte", names


def hipc(folder: Path) -> tuple[ad.AnnData, str, dict[str, str]]:
    """Pre-gated T cells of nine samples, fluorescence, 10 gates."""
    table = pd.read_parquet(folder / "hipc_tcell_yale" / "events.parquet")
    markers = ["CCR7", "CD4", "CD45RA", "CD3", "HLADR", "CD38", "CD8"]
    adata = event_table(table[markers].to_numpy(), markers)
    adata.obs["gate"] = table["label"].astype(str).to_numpy()
    adata.obs["sample"] = pd.Categorical(table["sample"].astype(str))
    adata.obs["donor"] = pd.Categorical(table["subject"].astype(str))
    ends = {
        "Naive": "naive",
        "Central Memory": "CM",
        "Effector Memory": "EM",
        "Effector": "TEMRA",
        "Activated": "activated",
    }
    names = {}
    for label in sorted(set(adata.obs["gate"])):
        lineage = "CD4" if "4" in label else "CD8"
        end = next(ends[e] for e in sorted(ends, key=len, reverse=True) if label.endswith(e))
        names[label] = f"{lineage} {end}"
    return adata, "human_leukocyte", names


def spleen(folder: Path) -> tuple[ad.AnnData, str, dict[str, str]]:
    """One mouse sample, fluorescence, 6 gates and ungated events."""
    import flowio

    data = flowio.FlowData(str(folder / "mouse_spleen" / "ff.fcs"))
    values = np.reshape(data.events, (-1, data.channel_count)).astype(np.float32)
    labels = [data.channels[i].get("pns", "").strip() for i in sorted(data.channels)]
    kept = [i for i, label in enumerate(labels) if label and label not in {"l/d", "GFP"}]
    adata = event_table(values[:, kept], [labels[i] for i in kept])
    gates = pd.read_csv(folder / "mouse_spleen" / "labels.csv")["label"]
    adata.obs["gate"] = gates.replace("ungated", "").fillna("").to_numpy()
    names = {
        "CD4 T cells": "CD4 T",
        "CD8 T cells": "CD8 T",
        "B cells": "B cell",
        "NK cells": "NK cell",
        "NK T cells": "NKT-like",
        "gd T cells": "gd T",
    }
    return adata, "mouse_basic", names


def gated_sets(folder: Path) -> Iterator[tuple[str, ad.AnnData, str, dict[str, str]]]:
    for name, read in {
        "pbmc_cytomem": cytomem,
        "hipc_tcell_yale": hipc,
        "mouse_spleen": spleen,
    }.items():
        yield name, *read(folder)


def best_clustering(adata: ad.AnnData, *, peers: bool, n_seeds: int) -> dict[str, float]:
    """Mean F1 of each clustering, its clusters matched with the gates after the fact."""
    from cytoclust.numerics.sketch import cluster_events

    values = np.asarray(adata.X, dtype=np.float32)
    values = np.ascontiguousarray(values / max(float(np.median(values.std(axis=0))), 1e-9))
    gates = adata.obs["gate"].astype(str).to_numpy()
    found: dict[str, float] = {}
    for resolution in (0.3, 0.5, 1.0):
        scores = [
            mean_f1(
                gates,
                cluster_events(values, resolution, n_neighbors=15, rng=np.random.default_rng(seed)),
            )
            for seed in range(n_seeds)
        ]
        found[f"leiden, resolution {resolution:g}"] = float(np.mean(scores))
    if peers:
        for n_clusters in (8, 12, 20):
            scores = [mean_f1(gates, flowsom(values, n_clusters, seed)) for seed in range(n_seeds)]
            found[f"FlowSOM, {n_clusters} metaclusters"] = float(np.mean(scores))
    return {name: round(score, 4) for name, score in found.items()}


def flowsom(values: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """Metaclusters of FlowSOM_Python with its defaults."""
    import flowsom as fs

    adata = ad.AnnData(values, var=pd.DataFrame(index=[f"m{j}" for j in range(values.shape[1])]))
    adata.var["pns"] = adata.var["pnn"] = adata.var["marker"] = adata.var_names
    adata.var["channel"] = adata.var_names
    found = fs.FlowSOM(adata, n_clusters=n_clusters, cols_to_use=list(adata.var_names), seed=seed)
    return np.asarray(found.get_cell_data().obs["metaclustering"].astype(str))


def score_names(adata: ad.AnnData, definitions: str, names: dict[str, str]) -> dict[str, Any]:
    """Names of events and samples against the gates that the definitions can express."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cc.errors.CytoclustWarning)
        cc.tl.annotate_phenotypes(adata, definitions, cluster_key=None)
    seconds = time.perf_counter() - start
    result = cc.tl.compare_gates(adata, "gate", names=names)
    table = result.populations
    lineages = {g: float(table.loc[g, "f1"]) for g, n in names.items() if n in LINEAGES}
    gated = adata.obs["gate"] != ""
    share = table["n_gate"] / table["n_gate"].sum()
    large = table[share > 0.01]
    return {
        "seconds": round(seconds, 2),
        "mean_f1": round(result.mean_f1, 4),
        "f1": table["f1"].round(4).to_dict(),
        "lineage_f1": {name: round(value, 4) for name, value in lineages.items()},
        "precision_mean": round(float(table.loc[table["n_found"] > 0, "precision"].mean()), 4),
        "precision_of_named": round(
            float((table["precision"] * table["n_found"]).sum() / table["n_found"].sum()), 4
        ),
        "unassigned_share": round(
            float((adata.obs.loc[gated, "phenotype"] == "unassigned").mean()), 4
        ),
        "concordance": large["concordance"].round(3).dropna().to_dict(),
        "mean_absolute_error_points": large["mean_absolute_error"].round(2).to_dict(),
        "n_samples": int(table["n_samples"].max()),
    }


def score_gated(
    folder: Path, *, peers: bool, n_seeds: int, earlier: dict[str, Any]
) -> dict[str, Any]:
    """Score every set; `earlier` has clusterings by set that are not to be run again."""
    results = {}
    for name, adata, definitions, names in gated_sets(folder):
        clusterings = earlier.get(name, {}).get("clusterings") or best_clustering(
            adata, peers=peers, n_seeds=n_seeds
        )
        found = score_names(adata, definitions, names)
        if "donor" in adata.obs:
            found["trained_on_other_donors"] = trained_on_other_donors(adata)
        best = max(clusterings.values())
        found["clusterings"] = clusterings
        found["share_of_distance_closed"] = round((found["mean_f1"] - best) / (1 - best), 3)
        results[name] = found
        print(name, json.dumps(found, indent=2), flush=True)
    return results


def trained_on_other_donors(adata: ad.AnnData) -> dict[str, Any]:
    """Score a classifier that learned the gates of the other donors: how far the markers tell them."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    gates = adata.obs["gate"].astype(str).to_numpy()
    found = np.empty(adata.n_obs, dtype=object)
    for donor in adata.obs["donor"].cat.categories:
        own = (adata.obs["donor"] == donor).to_numpy()
        model = HistGradientBoostingClassifier(max_iter=150, random_state=0)
        found[own] = model.fit(adata.X[~own], gates[~own]).predict(adata.X[own])
    adata.obs["trained"] = pd.Categorical(found)
    result = cc.tl.compare_gates(adata, "gate", key="trained")
    table = result.populations
    large = table[table["n_gate"] > 0.01 * table["n_gate"].sum()]
    return {
        "mean_f1": round(result.mean_f1, 4),
        "f1": table["f1"].round(4).to_dict(),
        "concordance": large["concordance"].round(3).to_dict(),
        "mean_absolute_error_points": large["mean_absolute_error"].round(2).to_dict(),
    }


def simulated_events(n_events: int) -> ad.AnnData:
    """Events of a simulated study that is large enough, none twice, in its 26 marker channels."""
    import tempfile

    from cytoclust.pipeline import steps

    fold = max(1.0, n_events / 100_000)  # at least so many events pass quality control without it
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", cc.errors.CytoclustWarning)
        cc.simulate.study(
            folder, n_patients=6, events_per_sample=(int(2000 * fold), int(6000 * fold)), rng=77
        )
        adata = cc.io.read_study(f"{folder}/samples.csv", f"{folder}/panel.csv")
        steps.prepare(adata, n_jobs=None)
        truth = pd.read_parquet(f"{folder}/truth/events.parquet").astype({"sample": str})
    keys = adata.obs[["sample", "event"]].astype({"sample": str})
    populations = keys.merge(truth, on=["sample", "event"], how="left")["population"].to_numpy()
    kinds = adata.var["marker_class"].isin(["type", "state"]).to_numpy()
    rows = np.sort(np.random.default_rng(0).choice(adata.n_obs, n_events, replace=False))
    found = ad.AnnData(np.ascontiguousarray(adata.X[rows][:, kinds]), var=adata.var[kinds].copy())
    found.obs["truth"] = pd.Categorical(populations[rows].astype(str))
    return found


def depth(adata: ad.AnnData) -> dict[str, Any]:
    """F1 of the clusters and of the events that carry the name of a population which hides among all."""
    found = {}
    named = adata.uns["cytoclust"]["subcluster_lineages"]["clusters"]
    for population in ("effector Treg", "CD56bright NK"):
        truth = (adata.obs["truth"] == population).to_numpy()
        events = (adata.obs["phenotype"] == population).to_numpy()
        own = named.index[named["phenotype"] == population]
        clusters = adata.obs["lineage_cluster"].isin(own).to_numpy()
        found[population] = {"events": int(truth.sum()), "clusters": len(own)} | {
            f"{way}_f1": round(2 * float((hit & truth).sum()) / float(hit.sum() + truth.sum()), 3)
            for way, hit in (("event", events), ("cluster", clusters))
        }
    return found


@contextmanager
def timed(results: dict[str, Any], name: str) -> Iterator[None]:
    """Note wall seconds, and the processor seconds of all threads, which other work hardly changes."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    results[f"{name}_seconds"] = round(time.perf_counter() - wall, 2)
    results[f"{name}_cpu_seconds"] = round(time.process_time() - cpu, 2)


def time_annotation(*, n_events: int, peers: bool) -> dict[str, Any]:
    """Seconds to annotate and to cluster lineages again, against FlowSOM_Python on the same events.

    Both have compiled what they need before: on 20,000 events and on enough for the way through
    prototypes.
    """
    results: dict[str, Any] = {"events": n_events}
    for size in (20_000, 200_000, n_events):
        adata = simulated_events(size)
        with timed(results, "annotate"):
            cc.tl.annotate_phenotypes(adata, ("human_leukocyte", "b_all"), cluster_key=None)
        with timed(results, "subcluster"):
            cc.tl.subcluster_lineages(adata)
        results[f"depth, {size:,} events"] = depth(adata)
    results["channels"] = adata.n_vars
    if peers:
        import flowsom as fs

        values = np.asarray(adata.X, dtype=np.float64)
        fs.models.FlowSOMEstimator(n_clusters=20).fit(values[:20_000])
        with timed(results, "flowsom"):
            fs.models.FlowSOMEstimator(n_clusters=20).fit(values)
        for kind in ("seconds", "cpu_seconds"):
            ours = results[f"annotate_{kind}"] + results[f"subcluster_{kind}"]
            results[f"ratio_{kind}"] = round(ours / results[f"flowsom_{kind}"], 3)
    print(json.dumps(results, indent=2), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gated", type=Path, help="folder of gated sets")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--keep-clusterings", action="store_true", help="take them from the recorded results"
    )
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results["date"] = datetime.now(UTC).date().isoformat()
    if options.gated:
        results["gated"] = score_gated(
            options.gated,
            peers=options.peers,
            n_seeds=options.seeds,
            earlier=results.get("gated", {}) if options.keep_clusterings else {},
        )
    if options.time:
        results["time"] = time_annotation(n_events=options.events, peers=options.peers)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
