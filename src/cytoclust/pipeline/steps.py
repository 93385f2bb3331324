"""The steps between reading a study and its results, each a few verbs in their order."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from cytoclust import checks, chunks, pp, schema, tl
from cytoclust.errors import CytoclustWarning, StatisticsWarning, StudyError
from cytoclust.event_arrays import used_categories

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData

    from cytoclust.pipeline.comparison import Comparison

__all__ = ["cluster", "compare", "embed", "is_small", "name", "prepare"]

N_NEIGHBORS = 15
EXACT_EVENTS = 50_000  # up to here the graph holds every event; above, prototypes stand for them


def check_enough_events(adata: AnnData) -> None:
    """Refuse to cluster fewer events than one event has neighbours, and say where they went."""
    if adata.n_obs >= N_NEIGHBORS:
        return
    counts = adata.uns[schema.UNS][schema.FILTER_EVENTS]["counts"].sum()
    flags = [f"{flag}: {counts[flag]}" for flag in schema.QC_FLAGS if counts[flag]] or ["none"]
    msg = (
        f"clustering needs at least {N_NEIGHBORS} events; {counts['kept']} of {counts['events']} "
        f"events of the study passed quality control (excluded by flag: {checks.listing(flags)}). "
        "Check the event files, or run the steps one by one with other limits."
    )
    raise StudyError(msg)


def prepare(
    adata: AnnData, *, n_jobs: int | None, cofactor: pd.Series[float] | None = None
) -> None:
    """Flag, exclude what is flagged, compensate and transform (with cofactors of another study)."""
    for flag in (
        pp.flag_invalid,
        pp.flag_margins,
        pp.flag_time_drift,
        pp.flag_doublets,
        pp.flag_debris,
        pp.flag_dead,
    ):
        flag(adata)
    pp.profile_quality(adata)  # afterwards the excluded events are gone
    pp.filter_events(adata)
    check_enough_events(adata)
    pp.compensate(adata)
    pp.arcsinh(adata, cofactor, n_jobs=n_jobs)
    if is_small(adata) and chunks.is_lazy(adata.X):
        chunks.load_events(adata)  # the graph of all events needs them


def is_small(adata: AnnData) -> bool:
    """Tell whether the graph can hold every event; otherwise prototypes stand for them."""
    return bool(adata.n_obs <= EXACT_EVENTS)


def cluster(
    adata: AnnData, *, resolution: float | None, rng: np.random.Generator, n_jobs: int | None
) -> None:
    """Cluster every event, on the exact graph or through prototypes."""
    if resolution is None:
        tl.scan_resolutions(adata, n_neighbors=N_NEIGHBORS, rng=rng.spawn(1)[0], n_jobs=n_jobs)
    if is_small(adata):
        first, second = rng.spawn(2)
        pp.neighbors(adata, N_NEIGHBORS, rng=first, n_jobs=n_jobs)
        tl.leiden(adata, resolution, rng=second, n_jobs=n_jobs)
    else:
        tl.leiden_sketched(adata, resolution, rng=rng, n_jobs=n_jobs)


def embed(adata: AnnData, *, rng: np.random.Generator, n_jobs: int | None) -> None:
    """Give every event its UMAP coordinates, along the way that clustering took."""
    verb = tl.umap if is_small(adata) else tl.umap_sketched
    verb(adata, rng=rng, n_jobs=n_jobs)


def name(
    adata: AnnData,
    comparison: Comparison,
    definitions: list[str],
    *,
    rng: np.random.Generator,
    n_jobs: int | None,
) -> None:
    """Find cut-offs, name clusters and events, say how stable clusters are, cluster each lineage."""
    tl.call_markers(adata, compartment_key=comparison.compartment_key)
    tl.annotate_phenotypes(adata, tuple(definitions), n_jobs=n_jobs)
    donors = comparison.donor_key
    several = donors is not None and len(used_categories(adata, donors)[1]) > 1
    tl.cluster_stability(adata, leave_out_key=donors if several else None, rng=rng, n_jobs=n_jobs)
    found = adata.uns[schema.UNS][schema.CLUSTER_STABILITY]["table"]
    table = adata.uns[schema.UNS][schema.ANNOTATE_PHENOTYPES]["clusters"]
    for column in found.columns.intersection(["jaccard", "jaccard_left_out"]):
        table[column.replace("jaccard", "stability")] = found[column].reindex(table.index).round(3)
    tl.subcluster_lineages(adata, rng=rng.spawn(1)[0], n_jobs=n_jobs)


def compare(adata: AnnData, comparison: Comparison) -> None:
    """Test abundance and marker state, call trajectories, and keep the tables in ``uns``."""
    design = asdict(comparison)
    with warnings.catch_warnings():  # the table's column `alarm` says so, row by row
        warnings.filterwarnings("ignore", "denominators disagree", StatisticsWarning)
        both = tl.differential_abundance(adata, **design, denominator=("log_ratio", "total"))
    abundance = both[both["denominator"] == "log_ratio"].reset_index(drop=True)
    results = {
        "differential_abundance": tl.detectable_changes(abundance),
        "abundance_levels": abundance_levels(adata, design),
    }
    if (adata.var[schema.MARKER_CLASS] == "state").any():
        results["differential_state"] = tl.differential_state(adata, **design)
    if comparison.donor_key is not None and comparison.treatment_key is not None:
        # a course needs donors who are followed
        results["trajectories"] = tl.classify_trajectories(abundance)
    params = {key: value for key, value in design.items() if value}
    params["covariates"] = list(comparison.covariates)
    for step, table in results.items():
        checks.record(adata, step, params, table=table)


def abundance_levels(adata: AnnData, design: dict[str, Any]) -> pd.DataFrame:
    """Test clusters, inner nodes of the hierarchy and other denominators; warned of already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CytoclustWarning)
        named = tl.differential_abundance(
            adata, **design, levels=("leaf", "parent"), denominator=("log_ratio", "total", "parent")
        )
        clusters = tl.differential_abundance(
            adata, **design, levels="cluster", denominator=("log_ratio", "total")
        )
    return pd.concat([named, clusters], ignore_index=True)
