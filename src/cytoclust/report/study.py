"""What an analysed AnnData holds, gathered once for the report; everything may be missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from cytoclust import checks, get, schema

if TYPE_CHECKING:
    from anndata import AnnData

ALPHA: Final = 0.05
ABUNDANCE: Final = "differential_abundance"
LEVELS: Final = "abundance_levels"
STATE: Final = "differential_state"
TRAJECTORIES: Final = "trajectories"
RUN: Final = "run"


@dataclass(frozen=True)
class Study:
    """Slots and tables of an analysed study; None where a step was not run."""

    adata: AnnData
    treatment_key: str | None
    compartment_key: str | None
    donor_key: str | None
    groupby: str | None
    samples: pd.DataFrame | None
    counts: pd.DataFrame | None
    exclusions: pd.DataFrame | None
    abundance: pd.DataFrame | None
    levels: pd.DataFrame | None
    state: pd.DataFrame | None
    trajectories: pd.DataFrame | None
    clusters: pd.DataFrame | None
    lineages: pd.DataFrame | None
    files: pd.DataFrame | None
    run: dict[str, Any]
    missing: tuple[str, ...]

    @property
    def adjusted(self) -> str:
        """Return the covariates of the tests, joined for a sentence; empty without."""
        steps = (checks.recorded(self.adata, step) or {} for step in (ABUNDANCE, STATE))
        terms = (step.get("params", {}).get("covariates") for step in steps)
        found = [str(name) for some in terms if some is not None for name in some]
        return " and ".join(dict.fromkeys(found))


def step_table(adata: AnnData, step: str, name: str = "table") -> pd.DataFrame | None:
    """Return a table that a step recorded, or None."""
    found = (checks.recorded(adata, step) or {}).get(name)
    return found if isinstance(found, pd.DataFrame) else None


def recorded_key(adata: AnnData, name: str, given: str | None) -> str | None:
    """Return the design column given by the caller, else that of the run or of the test."""
    if given is not None:
        checks.check_key(adata, given)
        return given
    for step in (RUN, ABUNDANCE, STATE):
        value = (checks.recorded(adata, step) or {}).get("params", {}).get(name)
        if value is not None and str(value) in adata.obs.columns:
            return str(value)
    return None


def gather(
    adata: AnnData,
    *,
    treatment_key: str | None,
    compartment_key: str | None,
    donor_key: str | None,
) -> Study:
    """Collect everything that the report shows, and say what is missing."""
    groupby = next((k for k in (schema.PHENOTYPE, schema.LEIDEN) if k in adata.obs.columns), None)
    samples = get.sample_table(adata) if schema.SAMPLE in adata.obs.columns else None
    counts = None
    if groupby is not None and samples is not None:
        counts = get.counts(adata, groupby=groupby)
    tables = {
        "exclusions": step_table(adata, schema.FILTER_EVENTS, "counts"),
        "abundance": step_table(adata, ABUNDANCE),
        "levels": step_table(adata, LEVELS),
        "state": step_table(adata, STATE),
        "trajectories": step_table(adata, TRAJECTORIES),
        "clusters": step_table(adata, schema.ANNOTATE_PHENOTYPES, "clusters"),
        "lineages": step_table(adata, schema.SUBCLUSTER_LINEAGES, "clusters"),
        "files": step_table(adata, schema.READ_STUDY, "files"),
    }
    return Study(
        adata=adata,
        treatment_key=recorded_key(adata, "treatment_key", treatment_key),
        compartment_key=recorded_key(adata, "compartment_key", compartment_key),
        donor_key=recorded_key(adata, "donor_key", donor_key),
        groupby=groupby,
        samples=samples,
        counts=counts,
        run=checks.recorded(adata, RUN) or {},
        missing=missing_steps(adata, tables),
        **tables,
    )


def missing_steps(adata: AnnData, tables: dict[str, pd.DataFrame | None]) -> tuple[str, ...]:
    """Say in words what the report cannot show, and which verb would give it."""
    wanted = (
        (tables["exclusions"] is None, "excluded events (pp.filter_events was not run)"),
        (schema.UMAP not in adata.obsm, "maps of the events (tl.umap or tl.umap_sketched was not run)"),
        (schema.LEIDEN not in adata.obs, "clusters (tl.leiden or tl.leiden_sketched was not run)"),
        (tables["clusters"] is None, "names of populations (tl.annotate_phenotypes was not run)"),
        (tables["abundance"] is None, "tests of abundance (no comparison was asked for)"),
        (tables["state"] is None, "tests of marker expression (no comparison was asked for, or no state marker)"),
        (tables["trajectories"] is None, "courses over treatment (these need at least two visits on treatment)"),
        (tables["files"] is None, "input files (the events were not read by io.read_study)"),
    )  # fmt: skip
    return tuple(text for absent, text in wanted if absent)
