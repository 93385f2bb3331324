"""What a run found against what the simulation planted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from cytoclust import schema

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["LINEAGES", "Score", "compare_effects", "join_truth", "score", "score_populations"]

LINEAGES = {
    "T": (
        "CD4 naive", "CD4 CM", "CD4 EM", "CD4 TEMRA", "CD8 naive", "CD8 CM", "CD8 EM", "CD8 TEMRA",
        "naive Treg", "effector Treg", "gd T", "NKT-like", "T cell", "CD4 T", "CD8 T", "Treg", "DN T", "DP T", "MAIT",
    ),
    "NK": ("CD56bright NK", "CD56dim CD57- NK", "CD56dim CD57+ NK", "NK cell", "CD56dim NK"),
    "B": ("naive B", "memory B", "B-ALL blast", "haematogone", "B-cell precursor", "B cell", "plasmablast"),
    "myeloid": (
        "classical monocyte", "intermediate monocyte", "non-classical monocyte", "monocyte", "mDC", "pDC",
        "dendritic cell", "neutrophil", "basophil", "granulocyte", "myeloid cell", "eosinophil",
    ),
}  # fmt: skip
LINEAGE_OF = {name: lineage for lineage, names in LINEAGES.items() for name in names}


@dataclass(frozen=True)
class Score:
    """Agreement of one run with the planted truth."""

    adjusted_rand: float
    lineages: pd.DataFrame
    populations: pd.DataFrame
    effects: pd.DataFrame
    findings: pd.DataFrame
    good_cells_excluded: float


def join_truth(adata: AnnData, truth: Path) -> pd.DataFrame:
    """Return truth/events.parquet with the phenotype that each event got ("" where it was excluded)."""
    events = pd.read_parquet(truth / "events.parquet")
    found = adata.obs[[schema.SAMPLE, schema.EVENT, schema.PHENOTYPE]].astype(
        {schema.SAMPLE: str, schema.PHENOTYPE: str}
    )
    events = events.astype({"sample": str, "population": str, "kind": str, "event": "int64"})
    found = found.astype({schema.EVENT: "int64"})
    joined = events.merge(
        found, how="left", left_on=["sample", "event"], right_on=[schema.SAMPLE, schema.EVENT]
    )
    return joined.assign(phenotype=joined[schema.PHENOTYPE].fillna(""))


def f1_scores(truth: pd.Series[str], found: pd.Series[str]) -> pd.DataFrame:
    """Precision, recall and F1 of each true population, matched by name."""
    rows = {}
    for name in sorted(truth.unique()):
        hit = int(((truth == name) & (found == name)).sum())
        n_true, n_found = int((truth == name).sum()), int((found == name).sum())
        rows[name] = {
            "n_true": n_true,
            "n_found": n_found,
            "precision": hit / n_found if n_found else 0.0,
            "recall": hit / n_true,
            "f1": 2 * hit / (n_true + n_found),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def score_populations(joined: pd.DataFrame) -> tuple[float, pd.DataFrame, pd.DataFrame]:
    """Score phenotypes against the truth over the good cells that passed quality control."""
    from sklearn.metrics import adjusted_rand_score

    kept = joined[(joined["kind"] == "cell") & (joined["phenotype"] != "")]
    lineage_true = kept["population"].map(LINEAGE_OF).fillna("none")
    lineage_found = kept["phenotype"].map(LINEAGE_OF).fillna("none")
    adjusted_rand = float(adjusted_rand_score(kept["population"], kept["phenotype"]))
    return (
        adjusted_rand,
        f1_scores(lineage_true, lineage_found),
        f1_scores(kept["population"], kept["phenotype"]),
    )


def detection_power(
    results: pd.DataFrame, planted: pd.Series[float], alpha: float = 0.05
) -> np.ndarray:
    """Power of a two-sided t test at the planted effect, given each row's standard error and d.f."""
    freedom = results["df"].to_numpy(dtype=float)
    shift = np.abs(planted.to_numpy(dtype=float)) / results["std_error"].to_numpy(dtype=float)
    limit = stats.t.ppf(1 - alpha / 2, freedom)
    return np.asarray(stats.nct.sf(limit, freedom, shift) + stats.nct.cdf(-limit, freedom, shift))


def compare_effects(
    abundance: pd.DataFrame, truth: Path, *, alpha: float = 0.05
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join results with planted effects: (every planted change, every finding), each with a verdict."""
    planted = pd.read_csv(truth / "effects.csv").rename(columns={"log2_fold_change": "planted"})
    planted = planted.astype({"planted": float})  # a table without rows has no dtype of its own
    keys = ["population", "compartment", "contrast"]
    results = abundance[~abundance["compartment"].astype(str).str.contains(" - ", regex=False)]
    joined = planted.merge(results, on=keys, how="left")
    joined["power"] = detection_power(joined, joined["planted"])
    joined["found"] = (joined["fdr"] < alpha) & (
        np.sign(joined["log2_fold_change"]) == np.sign(joined["planted"])
    )
    findings = results[results["fdr"] < alpha].merge(planted, on=keys, how="left")
    findings["planted"] = findings["planted"].fillna(0.0)
    findings["true"] = np.sign(findings["planted"]) == np.sign(findings["log2_fold_change"])
    return joined, findings


def score(adata: AnnData, abundance: pd.DataFrame, study: Path) -> Score:
    """Compare a finished run on a simulated study with the truth in its ``truth`` folder.

    Parameters
    ----------
    adata
        The analysed study, as `pipeline.run` returns it.
    abundance
        The leaf phenotypes' abundance results.
    study
        Folder that `simulate.study` wrote.

    Returns
    -------
    Score
        Adjusted Rand index, F1 tables by name, planted changes and findings with their verdicts,
        and the share of good cells that quality control excluded.
    """
    joined = join_truth(adata, Path(study) / "truth")
    adjusted_rand, lineages, populations = score_populations(joined)
    effects, findings = compare_effects(abundance, Path(study) / "truth")
    good = joined[joined["kind"] == "cell"]
    excluded = float((good["phenotype"] == "").mean())
    return Score(adjusted_rand, lineages, populations, effects, findings, excluded)
