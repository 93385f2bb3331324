"""What a run found against what the simulation planted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from cytoclust import chunks, schema
from cytoclust.event_arrays import category_column
from cytoclust.numerics.tallies import cross_tally

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
    """Count the events of truth/events.parquet by what they are and what they were called.

    Columns kind, population, phenotype ("" where the event was excluded) and n_events; by codes, since
    a text per event of a large study does not fit.
    """
    import pyarrow.parquet as pq

    columns = ["sample", "population", "kind"]
    table = pq.read_table(truth / "events.parquet", read_dictionary=columns)
    sample, population, kind = (
        pd.Categorical(table.column(name).to_pandas().astype("category")) for name in columns
    )
    phenotype = category_column(adata, schema.PHENOTYPE).cat
    found = np.zeros(len(sample), dtype=np.int16)
    rows_of = chunks.group_rows(sample.codes, len(sample.categories))
    order = np.asarray(table.column("event").to_numpy())
    own = category_column(adata, schema.SAMPLE).cat
    mine_of = dict(
        zip(own.categories.astype(str), chunks.group_rows(own.codes.to_numpy(), len(own.categories)), strict=True)
    )  # fmt: skip
    events, codes = adata.obs[schema.EVENT].to_numpy(), phenotype.codes.to_numpy()
    for name, rows in zip(sample.categories.astype(str), rows_of, strict=True):
        mine = mine_of.get(name, slice(0, 0))
        of_file = np.zeros(int(order[rows].max(initial=-1)) + 1, dtype=np.int16)
        of_file[events[mine]] = codes[mine] + np.int16(1)
        found[rows] = of_file[order[rows]]
    names = ["", *phenotype.categories.astype(str)]
    both = population.codes.astype(np.int16) * np.int16(len(kind.categories)) + kind.codes
    shape = (len(population.categories) * len(kind.categories), len(names))
    counts = cross_tally(both, found, shape).reshape(
        len(population.categories), len(kind.categories), len(names)
    )
    index = pd.MultiIndex.from_product(
        [population.categories.astype(str), kind.categories.astype(str), names],
        names=["population", "kind", schema.PHENOTYPE],
    )
    joined = pd.DataFrame({"n_events": counts.ravel()}, index=index).reset_index()
    return joined[joined["n_events"] > 0].reset_index(drop=True)


def f1_scores(counts: pd.DataFrame) -> pd.DataFrame:
    """Precision, recall and F1 of each true population (rows), matched by name with those found."""
    rows = {}
    for name in sorted(counts.index):
        hit = int(counts.loc[name].get(name, 0))
        n_true = int(counts.loc[name].sum())
        n_found = int(counts[name].sum()) if name in counts else 0
        rows[name] = {
            "n_true": n_true,
            "n_found": n_found,
            "precision": hit / n_found if n_found else 0.0,
            "recall": hit / n_true,
            "f1": 2 * hit / (n_true + n_found),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def adjusted_rand(counts: np.ndarray) -> float:
    """Return the adjusted Rand index of two partitions, from the events they share.

    Hubert and Arabie 1985, doi 10.1007/BF01908075.
    """

    def pairs(sizes: np.ndarray) -> float:
        return float((sizes.astype(np.float64) * (sizes - 1) / 2).sum())

    together = pairs(counts)
    first, second = pairs(counts.sum(axis=0)), pairs(counts.sum(axis=1))
    expected = first * second / max(pairs(counts.sum()), 1.0)
    most = (first + second) / 2
    return (together - expected) / (most - expected) if most > expected else 1.0


def score_populations(joined: pd.DataFrame) -> tuple[float, pd.DataFrame, pd.DataFrame]:
    """Score phenotypes against the truth over the good cells that passed quality control."""
    kept = joined[(joined["kind"] == "cell") & (joined["phenotype"] != "")]
    lineages = kept.assign(
        population=kept["population"].map(LINEAGE_OF).fillna("none"),
        phenotype=kept["phenotype"].map(LINEAGE_OF).fillna("none"),
    )
    counts, of_lineages = (
        part.pivot_table(
            index="population", columns="phenotype", values="n_events", aggfunc="sum", fill_value=0
        )
        for part in (kept, lineages)
    )
    return adjusted_rand(counts.to_numpy()), f1_scores(of_lineages), f1_scores(counts)


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
    agreement, lineages, populations = score_populations(joined)
    effects, findings = compare_effects(abundance, Path(study) / "truth")
    good = joined[joined["kind"] == "cell"]
    excluded = float(good.loc[good["phenotype"] == "", "n_events"].sum() / good["n_events"].sum())
    return Score(agreement, lineages, populations, effects, findings, excluded)
