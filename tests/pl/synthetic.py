"""An analysed study made of random numbers: every slot and table that figures and report read."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

MARKERS = (
    "CD3",
    "CD4",
    "CD8",
    "CD19",
    "CD45RA",
    "CCR7",
    "CD25",
    "CD127",
    "CD56",
    "CD16",
    "CD14",
    "HLA-DR",
)
STATE = ("PD-1", "CD39")
POPULATIONS = (
    "CD4 naive", "CD4 CM", "CD4 EM", "CD8 naive", "CD8 EM", "CD8 TEMRA", "effector Treg", "naive Treg",
    "CD56dim CD57- NK", "CD56bright NK", "naive B", "memory B", "classical monocyte", "mDC", "B-ALL blast",
)  # fmt: skip
VISITS = ("d0", "d7", "d15", "d28")
COMPARTMENTS = ("PB", "BM")
FLAGS = ("qc_invalid", "qc_margin", "qc_time", "qc_doublet", "qc_debris", "qc_dead")


def sample_sheet(n_donors: int, rng: np.random.Generator) -> pd.DataFrame:
    """One row per sample; a third of the marrow visits is missing."""
    rows = [
        {
            "sample": f"P{donor + 1:02d}_{where}_{when}",
            "patient": f"P{donor + 1:02d}",
            "compartment": where,
            "visit": when,
        }
        for donor in range(n_donors)
        for where in COMPARTMENTS
        for when in VISITS
        if where == "PB" or when == "d0" or rng.random() > 0.35
    ]
    table = pd.DataFrame(rows).set_index("sample")
    for key in table.columns:
        table[key] = pd.Categorical(table[key], categories=list(dict.fromkeys(table[key])))
    return table


def result_table(
    rng: np.random.Generator, populations: tuple[str, ...], *, markers: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Test results with the columns of the architecture; Treg and NK change, one row is not tested."""
    contrasts = [f"{v} - d0" for v in VISITS[1:]] + ["d28 - d7"]
    rows = []
    for where in (*COMPARTMENTS, "BM - PB"):
        for contrast in contrasts:
            for population in populations:
                for marker in markers or (None,):
                    effect = rng.normal(0, 0.25)
                    if population == "effector Treg" and contrast == "d7 - d0" and where == "PB":
                        effect = 1.8
                    if (
                        population == "CD56dim CD57- NK"
                        and contrast != "d28 - d7"
                        and where == "PB"
                    ):
                        effect = 1.3
                    error = abs(rng.normal(0.28, 0.05))
                    p = float(2 * np.exp(-1.2 * (effect / error) ** 2 / 2)) / 2
                    row = {
                        "population": population, "level": "phenotype", "parent": "T cell", "denominator": "log_ratio",
                        "compartment": where, "contrast": contrast, "log2_fold_change": effect,
                        "ci_low": effect - 2 * error, "ci_high": effect + 2 * error, "std_error": error, "df": 30.0,
                        "statistic": effect / error, "p_value": p, "fdr": min(1.0, p * 15), "n_samples": 24,
                        "n_paired": 11, "method": "voom", "status": "ok", "reason": "",
                    }  # fmt: skip
                    if population == "mDC":
                        row |= dict.fromkeys(
                            (
                                "log2_fold_change",
                                "ci_low",
                                "ci_high",
                                "std_error",
                                "df",
                                "statistic",
                                "p_value",
                                "fdr",
                            ),
                            np.nan,
                        )
                        row |= {
                            "status": "filtered",
                            "reason": "fewer than 3 cells in 5 of 12 samples",
                        }
                    if marker is not None:
                        row["marker"] = marker
                        row["difference"] = row.pop("log2_fold_change")
                    rows.append(row)
    return pd.DataFrame(rows)


def call_table(populations: tuple[str, ...]) -> pd.DataFrame:
    """Calls of trajectories."""
    calls = {"effector Treg": "transient", "CD56dim CD57- NK": "persistent", "mDC": ""}
    return pd.DataFrame(
        [
            {
                "population": name, "compartment": where, "call": calls.get(name, "no change detected") if where == "PB" else "no change detected",
                "p_value": 0.004 if name in calls and where == "PB" else 0.6, "reason": "" if name != "mDC" else "not tested",
            }
            for where in COMPARTMENTS
            for name in populations
        ]
    )  # fmt: skip


def exclusion_table(sheet: pd.DataFrame, rng: np.random.Generator, kept: pd.Series) -> pd.DataFrame:
    """Counts of flags per sample, indexed by sample."""
    counts = pd.DataFrame(
        {flag: rng.integers(0, 60, len(sheet)) for flag in FLAGS}, index=sheet.index
    )
    counts.insert(0, "events", kept + (counts.sum(axis=1) * 0.8).astype(int))
    counts["kept"] = kept
    return counts


def analysed_study(
    n_events: int = 12_000,
    *,
    n_donors: int = 8,
    seed: int = 0,
    populations: tuple[str, ...] = POPULATIONS,
    markers: tuple[str, ...] = MARKERS,
    state: tuple[str, ...] = STATE,
) -> AnnData:
    """Return an AnnData as `pipeline.run` leaves it."""
    rng = np.random.default_rng(seed)
    sheet = sample_sheet(n_donors, rng)
    empty = sheet.index[-1]  # a sample whose file holds no events
    weight = rng.dirichlet(np.full(len(populations), 0.8))
    names = np.array([*populations, "unassigned"])
    code = rng.choice(len(names), n_events, p=np.r_[0.97 * weight, 0.03])
    sample = rng.integers(0, len(sheet) - 1, n_events)
    centre = rng.normal(0, 5, (len(names), 2))
    level = rng.choice([0.3, 2.5, 4.0], (len(names), len(markers) + len(state)))
    X = (level[code] + rng.normal(0, 0.5, (n_events, level.shape[1]))).astype(np.float32)
    obs = pd.DataFrame(
        {"sample": pd.Categorical.from_codes(sample, categories=list(sheet.index))},
        index=np.arange(n_events).astype(str),
    )
    for key in sheet.columns:
        obs[key] = pd.Categorical(
            sheet[key].to_numpy()[sample], categories=sheet[key].cat.categories
        )
    obs["event"] = np.arange(n_events, dtype=np.int32)
    obs["phenotype"] = pd.Categorical.from_codes(code, categories=list(names))
    obs["phenotype_cluster"] = obs["phenotype"]
    cluster = (2 * code + rng.integers(0, 2, n_events)).astype(str)
    obs["leiden"] = pd.Categorical(cluster, categories=sorted(set(cluster), key=int))
    var = pd.DataFrame(
        {
            "channel": [f"FL{i}-A" for i in range(X.shape[1])], "marker": [*markers, *state], "channel_type": "fluorescence",
            "marker_class": ["type"] * len(markers) + ["state"] * len(state), "scale": "linear", "cofactor": 150.0,
        },
        index=[f"FL{i}-A" for i in range(X.shape[1])],
    )  # fmt: skip
    spot = (centre[code] + rng.normal(0, 0.9, (n_events, 2))).astype(np.float32)
    adata = AnnData(X, obs=obs, var=var, obsm={"X_umap": spot})
    kept = obs["sample"].value_counts().reindex(sheet.index, fill_value=0)
    adata.uns["cytoclust"] = records(sheet, rng, kept, populations, state) | {
        "annotate_phenotypes": phenotype_record(obs)
    }
    adata.uns["cytoclust"]["read_study"]["files"].loc[:, "n_events"] = kept.to_numpy()
    assert kept[empty] == 0
    return adata


def phenotype_record(obs: pd.DataFrame) -> dict[str, object]:
    """Evidence per cluster, as tl.annotate_phenotypes records it."""
    first = obs.groupby("leiden", observed=True)["phenotype"].first().astype(str)
    clusters = pd.DataFrame(
        {
            "phenotype": first, "path": "T cell/" + first, "score": 0.9, "runner_up": "CD4 EM", "evidence": "CD3+ CD4+ CD45RA- (0.92)",
            "n_events": obs["leiden"].value_counts().reindex(first.index).to_numpy(),
        },
        index=first.index.astype(str),
    )  # fmt: skip
    hierarchy = pd.DataFrame(
        {"parent": "T cell", "depth": 2, "cell_ontology": "CL:0000624"}, index=sorted(set(first))
    )
    return {
        "params": {"definitions": ["human_leukocyte"]},
        "version": "0.1.0",
        "clusters": clusters,
        "hierarchy": hierarchy,
    }


def records(
    sheet: pd.DataFrame,
    rng: np.random.Generator,
    kept: pd.Series,
    populations: tuple[str, ...],
    state: tuple[str, ...],
) -> dict[str, dict[str, object]]:
    """Return uns["cytoclust"]."""
    files = pd.DataFrame(
        {"sample": sheet.index, "file": [f"/data/{s}.fcs" for s in sheet.index], "sha256": "ab" * 32, "n_events": 0, "spillover_id": "", "timestep": 0.01},
        index=np.arange(len(sheet)).astype(str),
    )  # fmt: skip

    def step(table: pd.DataFrame) -> dict[str, object]:
        return {"params": {"treatment_key": "visit"}, "version": "0.1.0", "table": table}

    levels = result_table(rng, populations)
    return {
        "samples": sheet,
        "read_study": {"params": {}, "version": "0.1.0", "files": files},
        "filter_events": {"params": {}, "version": "0.1.0", "counts": exclusion_table(sheet, rng, kept)},
        "arcsinh": {"params": {}, "version": "0.1.0"},
        "differential_abundance": step(result_table(rng, populations)),
        "abundance_levels": step(pd.concat([levels, levels.assign(denominator="total")], ignore_index=True)),
        "differential_state": step(result_table(rng, populations, markers=state)),
        "trajectories": step(call_table(populations)),
        "run": {
            "params": {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient", "baseline": "d0", "seed": 0},
            "versions": {"python": "3.11", "cytoclust": "0.1.0"},
            "seconds": pd.DataFrame({"step": ["read", "cluster"], "seconds": [1.5, 20.25], "peak_mb": [300.0, 900.0]}, index=["0", "1"]),
            "seed": 0,
        },
    }  # fmt: skip
