"""Score whole runs against planted truth, on seeds that nobody developed on.

    python benchmarks/accuracy.py --seeds 9001-9010            # effects planted
    python benchmarks/accuracy.py --seeds 9101-9120 --null     # nothing planted

Pools the seeds, prints each criterion and writes JSON (one row per seed, the pooled figures, date,
versions) to benchmarks/results/. Files are simulated into a temporary folder and removed again.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

import cytoclust as cc
from cytoclust import demo, schema
from cytoclust.checks import package_version

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("cytoclust", "numpy", "numba", "anndata", "scanpy", "umap-learn", "scikit-learn")


def seeds_of(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def run_one(seed: int, *, null: bool, n_patients: int) -> dict[str, object]:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", cc.errors.CytoclustWarning)
        study = Path(folder) / "study"
        cc.simulate.study(study, n_patients=n_patients, null=null, rng=seed)
        adata = cc.pipeline.run(
            study / "samples.csv",
            study / "panel.csv",
            treatment_key="visit",
            compartment_key="compartment",
            donor_key="patient",
            definitions=("human_leukocyte", "b_all"),
            rng=seed,
            embedding=False,
        )
        table = adata.uns[schema.UNS]["differential_abundance"]["table"]
        found = demo.score(adata, table, study)
    tested = table[table["p_value"].notna()]
    within = tested[~tested["compartment"].str.contains(" - ", regex=False)]
    return {
        "seed": seed,
        "seconds": time.perf_counter() - start,
        "n_events": int(adata.n_obs),
        "adjusted_rand": found.adjusted_rand,
        "excluded": found.good_cells_excluded,
        "lineages": found.lineages,
        "populations": found.populations,
        "effects": found.effects,
        "findings": found.findings,
        "p_values": tested["p_value"].to_numpy(),
        "p_values_within": within["p_value"].to_numpy(),
    }


def pooled_f1(tables: list[pd.DataFrame]) -> pd.Series:
    """F1 over all seeds' events together."""
    counts = sum(
        table.assign(hit=table["recall"] * table["n_true"])[["n_true", "n_found", "hit"]]
        for table in tables
    )
    return 2 * counts["hit"] / (counts["n_true"] + counts["n_found"])


def pool(rows: list[dict[str, object]]) -> dict[str, object]:
    populations = pooled_f1([row["populations"] for row in rows])
    lineages = pooled_f1([row["lineages"] for row in rows])
    effects = pd.concat([row["effects"] for row in rows])
    findings = pd.concat([row["findings"] for row in rows])
    detectable = effects[(effects["planted"].abs() >= 1) & (effects["power"] >= 0.9)]
    p_values = np.concatenate([row["p_values"] for row in rows])
    within = np.concatenate([row["p_values_within"] for row in rows])
    return {
        "lineage_f1": lineages.round(4).to_dict(),
        "population_f1": populations.sort_values().round(4).to_dict(),
        "populations_at_least_0.8": int((populations >= 0.8).sum()),
        "adjusted_rand_mean": float(np.mean([row["adjusted_rand"] for row in rows])),
        "adjusted_rand_min": float(np.min([row["adjusted_rand"] for row in rows])),
        "good_cells_excluded": float(np.mean([row["excluded"] for row in rows])),
        "detectable_planted": len(detectable),
        "detectable_found_share": float(detectable["found"].mean()) if len(detectable) else None,
        "planted_two_fold": int((effects["planted"].abs() >= 1).sum()),
        "planted_two_fold_found_share": float(
            effects.loc[effects["planted"].abs() >= 1, "found"].mean()
        )
        if len(effects)
        else None,
        "findings": len(findings),
        "findings_false_share": float((~findings["true"]).mean()) if len(findings) else None,
        "tests": len(p_values),
        "p_below_0.05": float((p_values < 0.05).mean()),
        "p_below_0.05_within_compartments": float((within < 0.05).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="9001-9010")
    parser.add_argument("--null", action="store_true")
    parser.add_argument("--patients", type=int, default=29)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for seed in seeds_of(arguments.seeds):
        rows.append(run_one(seed, null=arguments.null, n_patients=arguments.patients))
        last = rows[-1]
        print(
            f"seed {seed}: ARI {last['adjusted_rand']:.3f}, {last['n_events']:,} events, {last['seconds']:.0f} s",
            flush=True,
        )
    figures = pool(rows)
    print(json.dumps(figures, indent=2))
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "versions": {name: package_version(name) for name in PACKAGES},
        "null": arguments.null,
        "seeds": arguments.seeds,
        "n_patients": arguments.patients,
        "pooled": figures,
        "per_seed": [{key: row[key] for key in ("seed", "seconds", "n_events", "adjusted_rand", "excluded")} for row in rows],
        "findings_false": pd.concat([row["findings"] for row in rows]).query("not true")[["population", "compartment", "contrast"]]
        .value_counts().head(30).rename("n").reset_index().to_dict("records"),
    }  # fmt: skip
    path = arguments.out or RESULTS / f"accuracy{'_null' if arguments.null else ''}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
