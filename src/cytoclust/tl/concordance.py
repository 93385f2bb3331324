"""Agreement of phenotypes with manual gates or with another annotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.checks import listing
from cytoclust.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

__all__ = ["Concordance", "compare_gates"]


@dataclass(frozen=True)
class Concordance:
    """Agreement of two annotations of the same events.

    Attributes
    ----------
    populations
        One row per gate: n_gate, n_found, precision, recall, f1, concordance (Lin's correlation of
        per-sample percentages), bias (mean difference found minus gated, percentage points),
        limit_low, limit_high (Bland-Altman 95 % limits), mean_absolute_error, n_samples.
    confusion
        Events by gate (rows) and by name found (columns).
    frequencies
        One row per sample and gate: percentages by gate and as found.
    mean_f1
        Mean of f1 over gates.
    adjusted_rand
        Adjusted Rand index over the gated events.
    """

    populations: pd.DataFrame
    confusion: pd.DataFrame
    frequencies: pd.DataFrame
    mean_f1: float
    adjusted_rand: float


def compare_gates(
    adata: AnnData,
    gates: str | pd.Series[str],
    *,
    key: str = schema.PHENOTYPE,
    names: Mapping[str, str] | None = None,
    sample_key: str = schema.SAMPLE,
) -> Concordance:
    """Compare phenotypes with manual gates, event by event and sample by sample.

    Parameters
    ----------
    adata
        Events with ``obs[key]``.
    gates
        Column of ``obs``, or a Series by event name, with the gate of each event; missing or empty
        for events that no gate holds, which are left out.
    key
        Column of ``obs`` with the names to be judged.
    names
        Gate to the phenotype that it stands for, for gates with other names. A phenotype counts as
        found for a gate if it is that phenotype or one of its descendants; a name of a facet (such
        as "CD4 activated") is looked for in the column of the facet, and its events count for no
        other gate, since each event has one.
    sample_key
        Column of ``obs`` with the sample; per-sample figures are NaN if it does not exist.

    Returns
    -------
    Concordance
        Tables and summary figures; nothing is written to `adata`.

    Raises
    ------
    MissingSlotError
        ``obs[key]`` or ``obs[gates]`` does not exist.
    ArgumentError
        No event has a gate.

    Notes
    -----
    Percentages are of the gated events of a sample, for both annotations.

    References
    ----------
    Lin 1989, doi 10.2307/2532051 (concordance correlation); Bland and Altman 1986,
    doi 10.1016/S0140-6736(86)90837-8.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd
    >>> obs = pd.DataFrame({"phenotype": ["T cell", "T cell", "B cell"], "gate": ["T", "T", "B"]})
    >>> obs.index = obs.index.astype(str)
    >>> adata = ad.AnnData(np.zeros((3, 1)), obs=obs)
    >>> compare_gates(adata, "gate", names={"T": "T cell", "B": "B cell"}).mean_f1
    1.0
    """
    checks.check_key(adata, key, remedy="Run tl.annotate_phenotypes first.")
    if isinstance(gates, str):
        checks.check_key(adata, gates)
    given = adata.obs[gates] if isinstance(gates, str) else gates
    gate = given.reindex(adata.obs_names).astype("string").fillna("")
    keep = (gate != "").to_numpy()
    if not keep.any():
        msg = (
            f"gates must name the gate of some events of adata; found none for {adata.n_obs} events. "
            "Index the Series by adata.obs_names."
        )
        raise ArgumentError(msg)
    truth = gate[keep].astype(str)
    found = adata.obs.loc[keep, key].astype(str)
    wanted = {name: (names or {}).get(name, name) for name in sorted(truth.unique())}
    beside = facet_hits(adata, wanted, key, keep=keep)
    below = descendants(adata, [t for g, t in wanted.items() if g not in beside], key)
    # gates exclude each other: an event of a facet's gate counts for that one
    elsewhere = np.logical_or.reduce([np.zeros(len(found), dtype=bool), *beside.values()])
    hits = {
        name: beside[name] if name in beside else found.isin(below[target]).to_numpy() & ~elsewhere
        for name, target in wanted.items()
    }
    if sample_key in adata.obs:
        samples = adata.obs.loc[keep, sample_key].astype(str)
    else:
        samples = pd.Series("all", index=truth.index)
    frequencies = sample_frequencies(truth, hits, samples)
    rows = {
        name: {
            **event_agreement((truth == name).to_numpy(), hit),
            **sample_agreement(frequencies[frequencies["gate"] == name]),
        }
        for name, hit in hits.items()
    }
    populations = pd.DataFrame.from_dict(rows, orient="index")
    from sklearn.metrics import adjusted_rand_score

    return Concordance(
        populations,
        pd.crosstab(truth, found),
        frequencies,
        float(populations["f1"].mean()),
        float(adjusted_rand_score(truth, found)),
    )


def facet_hits(
    adata: AnnData, wanted: Mapping[str, str], key: str, *, keep: np.ndarray
) -> dict[str, np.ndarray]:
    """Events found for the gates that stand for a population of a facet, such as activated cells."""
    recorded = checks.recorded(adata, schema.ANNOTATE_PHENOTYPES)
    if recorded is None or key != schema.PHENOTYPE or "facet" not in recorded["rules"]:
        return {}
    facets = recorded["rules"]["facet"].astype(str).to_dict()
    found = {}
    for gate, target in wanted.items():
        column = schema.PHENOTYPE_FACET + facets.get(target, "")
        if facets.get(target):
            named = adata.obs.loc[keep, column] if column in adata.obs else None
            hit = np.zeros(int(keep.sum()), dtype=bool)
            found[gate] = hit if named is None else (named.astype(str) == target).to_numpy()
    return found


def descendants(adata: AnnData, names: object, key: str) -> dict[str, list[str]]:
    """Each name with the names below it in the recorded hierarchy."""
    recorded = checks.recorded(adata, schema.ANNOTATE_PHENOTYPES)
    parents: dict[str, str] = {}
    if recorded is not None and key in {schema.PHENOTYPE, schema.PHENOTYPE_CLUSTER}:
        parents = recorded["hierarchy"]["parent"].astype(str).to_dict()
    found: dict[str, list[str]] = {str(name): [str(name)] for name in names}  # type: ignore[attr-defined]
    for name in parents:
        ancestor = parents[name]
        while ancestor:
            if ancestor in found:
                found[ancestor].append(name)
            ancestor = parents.get(ancestor, "")
    missing = [name for name in found if name not in parents] if parents else []
    if missing:
        msg = (
            f"names must map every gate to a defined phenotype {listing(parents)}; "
            f"not defined: {listing(missing)}. Pass names={{gate: phenotype}}."
        )
        raise ArgumentError(msg)
    return found


def event_agreement(truth: np.ndarray, hit: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 of one population."""
    both, n_gate, n_found = int((truth & hit).sum()), int(truth.sum()), int(hit.sum())
    return {
        "n_gate": n_gate,
        "n_found": n_found,
        "precision": both / n_found if n_found else 0.0,
        "recall": both / n_gate,
        "f1": 2 * both / (n_gate + n_found),
    }


def sample_frequencies(
    truth: pd.Series[str], hits: Mapping[str, np.ndarray], samples: pd.Series[str]
) -> pd.DataFrame:
    """Percentages of each gate in each sample, by gate and as found."""
    parts = []
    for name, hit in hits.items():
        table = pd.DataFrame(
            {
                "sample": samples.to_numpy(),
                "gated": (truth == name).to_numpy() * 100.0,
                "found": hit * 100.0,
            }
        )
        means = table.groupby("sample", sort=True).mean().reset_index()
        parts.append(means.assign(gate=name)[["sample", "gate", "gated", "found"]])
    return pd.concat(parts, ignore_index=True)


def sample_agreement(table: pd.DataFrame) -> dict[str, float]:
    """Lin's concordance correlation and Bland-Altman figures of one population."""
    gated, found = table["gated"].to_numpy(dtype=float), table["found"].to_numpy(dtype=float)
    difference = found - gated
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else np.nan
    below = gated.var() + found.var() + (gated.mean() - found.mean()) ** 2
    covariance = float(np.mean((gated - gated.mean()) * (found - found.mean())))
    return {
        "concordance": 2 * covariance / below if below > 0 and len(table) > 1 else np.nan,
        "bias": float(difference.mean()),
        "limit_low": float(difference.mean()) - 1.96 * spread,
        "limit_high": float(difference.mean()) + 1.96 * spread,
        "mean_absolute_error": float(np.abs(difference).mean()),
        "n_samples": len(table),
    }
