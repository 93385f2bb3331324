"""The whole way from files to tested answers; the only place where the order of steps is written."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checkpoints, checks, io, outputs, pp, report, schema, tl
from cytoclust.errors import (
    ArgumentError,
    CytoclustWarning,
    StatisticsWarning,
    StudyError,
    StudyWarning,
)
from cytoclust.pp.compensation import unmixing_plan
from cytoclust.tl.definitions import load_definitions

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData

__all__ = ["run"]

N_NEIGHBORS = 15
EXACT_EVENTS = 50_000  # up to here the graph holds every event; above, prototypes stand for them


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Which columns of the sample sheet are compared, and against what."""

    treatment_key: str | None
    baseline: str | None
    compartment_key: str | None
    donor_key: str | None
    covariates: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.treatment_key is not None or self.compartment_key is not None


def run(  # noqa: PLR0913, one place where a user says everything
    samples: str | os.PathLike[str] | pd.DataFrame,
    panel: str | os.PathLike[str] | pd.DataFrame | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    treatment_key: str | None = None,
    compartment_key: str | None = None,
    donor_key: str | None = None,
    baseline: str | None = None,
    covariates: tuple[str, ...] = (),
    definitions: tuple[str, ...] = ("human_leukocyte",),
    resolution: float | None = 1.0,
    embedding: bool = True,
    rng: int = 0,
    n_jobs: int | None = None,
    title: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> AnnData:
    """Analyse a study from its files to tested changes of abundance and marker state.

    Parameters
    ----------
    samples
        Sample sheet (CSV path or table): columns ``file``, ``sample`` and the design.
    panel
        Panel (CSV path or table): columns ``channel``, ``marker``, ``marker_class``; None takes the
        markers from the files.
    out
        Folder for report, tables, figures, FCS files and AnnData; None writes nothing.
    treatment_key, compartment_key, donor_key
        Columns of the sheet; each may be None. Without treatment and compartment nothing is tested.
    baseline
        Treatment level to compare with; the first level by default.
    covariates
        Further columns to adjust for.
    definitions
        Phenotype definition sets, by name or as TOML files.
    resolution
        Of the Leiden clustering; more gives more clusters. None: the one `tl.scan_resolutions` takes.
    embedding
        Whether to compute UMAP coordinates.
    rng
        One seed for every random step.
    n_jobs
        Threads; None takes all processors. The result does not depend on it.
    title
        Heading of the report.
    overwrite
        Replace the results of an earlier run in `out`, also of the same run.
    progress
        Show progress bars on standard error.

    Returns
    -------
    AnnData
        Every event that passed quality control, with all slots of `cytoclust.schema` and the result
        tables in ``uns["cytoclust"]``: ``differential_abundance``, ``abundance_levels``,
        ``differential_state``, ``trajectories`` (each with ``table``) and ``run``.

    Raises
    ------
    StudyError, DesignError, ArgumentError, DefinitionError, FcsFormatError
        `out` holds results of another run and `overwrite` is False, or input that cannot be analysed; sheet, design, definitions and output folder are checked
        before any event is read.

    Notes
    -----
    Up to 50,000 events the graph holds every event; above that, events are clustered and embedded
    through prototypes, and every event gets its label and coordinates
    (``uns["cytoclust"]["run"]["params"]["clustering"]`` says which was taken).

    With `out`, each finished step is kept in ``out/.resume`` until the results are written: a run
    that was interrupted goes on after its last finished step when it is started again with the same
    inputs (by content) and parameters. If the results of just this run are in `out` already, they
    are read and nothing is computed.

    Examples
    --------
    >>> import cytoclust as cc, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> _ = cc.simulate.study(folder, n_patients=3, events_per_sample=(200, 300), rng=0)
    >>> adata = cc.pipeline.run(
    ...     f"{folder}/samples.csv",
    ...     f"{folder}/panel.csv",
    ...     treatment_key="visit",
    ...     compartment_key="compartment",
    ...     donor_key="patient",
    ...     embedding=False,
    ... )
    """
    comparison = Comparison(
        treatment_key=treatment_key,
        baseline=baseline,
        compartment_key=compartment_key,
        donor_key=donor_key,
        covariates=tuple(covariates),
    )
    folder = None if out is None else outputs.prepare_folder(out)
    if resolution is not None:
        checks.check_positive("resolution", resolution)
    check_seed(rng)
    load_definitions(definitions)
    params = {
        **asdict(comparison),
        "covariates": list(comparison.covariates),
        "definitions": [str(name) for name in definitions],
        "resolution": resolution,
        "embedding": embedding,
        "seed": int(rng),
        "title": title,
    }
    marks = checkpoints.Checkpoints(folder)
    earlier = None if folder is None or overwrite else outputs.finished(folder)
    if earlier is not None or marks.waiting():
        marks.key = checkpoints.run_fingerprint(samples, panel, params)
    if folder is not None and earlier is not None and earlier["fingerprint"] == marks.key:
        return outputs.read_finished(folder)
    if folder is not None and not overwrite:
        outputs.refuse_earlier(folder, params)
    if comparison:
        report_design(tl.design(io.read_samples(samples), **asdict(comparison)))
    clock = outputs.Clock(progress=progress)
    adata = marks.load(clock)
    if adata is None:
        with clock.step("read"):
            adata = io.read_study(samples, panel, n_jobs=n_jobs, progress=progress)
        files = check_study(adata, folder)
        marks.key = checkpoints.run_fingerprint(
            samples, panel, params, digests=list(files["sha256"])
        )
    analyse(adata, comparison, params=params, marks=marks, clock=clock, n_jobs=n_jobs)
    if folder is not None:
        keep(adata, folder, clock)
        marks.remove()
    return adata


def check_study(adata: AnnData, folder: Path | None) -> pd.DataFrame:
    """Refuse right after reading what a later step would refuse; return the table of files."""
    checks.select_markers(adata)
    unmixing_plan(adata)  # refuses a matrix that does not fit before quality control starts
    files: pd.DataFrame = adata.uns[schema.UNS][schema.READ_STUDY]["files"]
    if folder is not None:
        outputs.refuse_inputs_inside(folder, files)
    return files


def analyse(
    adata: AnnData,
    comparison: Comparison,
    *,
    params: dict[str, Any],
    marks: checkpoints.Checkpoints,
    clock: outputs.Clock,
    n_jobs: int | None,
) -> None:
    """Do every step that no interrupted run finished, in order, and keep each when it is done."""
    spawned = np.random.default_rng(params["seed"]).spawn(3)
    seeds = dict(zip(("cluster", "embed", "stability"), spawned, strict=True))

    def once(step: str, work: Callable[[], object]) -> None:
        if not marks.done(step):
            with clock.step(step):
                work()
            marks.keep(step, adata, clock)

    once("prepare", lambda: prepare(adata, n_jobs=n_jobs))
    once(
        "cluster",
        lambda: cluster(
            adata, resolution=params["resolution"], rng=seeds["cluster"], n_jobs=n_jobs
        ),
    )
    if params["embedding"]:
        once("embed", lambda: embed(adata, rng=seeds["embed"], n_jobs=n_jobs))
    once(
        "name",
        lambda: name(
            adata, comparison, params["definitions"], rng=seeds["stability"], n_jobs=n_jobs
        ),
    )
    recorded = params | {"clustering": "exact" if is_small(adata) else "sketched"}
    versions = outputs.versions()
    checks.record(adata, schema.RUN, recorded, versions=versions, fingerprint=marks.key)
    if comparison:
        once("test", lambda: compare(adata, comparison))


def check_seed(rng: int) -> None:
    """Refuse a seed that is not a whole number from 0."""
    if not isinstance(rng, int | np.integer) or rng < 0:
        msg = f"rng must be a whole number of 0 or more; got {rng!r}. Give another seed."
        raise ArgumentError(msg)


def report_design(plan: tl.Design) -> None:
    """Say before any event is read which samples and which contrasts cannot be tested."""
    summary = plan.summary()
    missed = [
        f"{row['contrast']} in {row['compartment']} ({row['reason']})"
        for row in summary[~summary["estimable"]].to_dict("records")
    ]
    left_out = [f"{row['sample']} ({row['reason']})" for row in plan.excluded.to_dict("records")]
    for found, what in (
        (left_out, "samples will be counted but not tested"),
        (missed, "contrasts cannot be estimated; their rows say so"),
    ):
        if found:
            warnings.warn(
                f"{len(found)} {what}: {checks.listing(found)}", StudyWarning, stacklevel=3
            )
    for row in summary[summary["estimable"]].to_dict("records"):
        checks.steps.info(
            "To be tested: %s in %s: %d samples, %d donors with all of them",
            *(row["contrast"], row["compartment"], row["n_samples"], row["n_paired"]),
        )


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
    several = donors is not None and len(adata.obs[donors].dropna().unique()) > 1
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


def keep(adata: AnnData, folder: Path, clock: outputs.Clock) -> None:
    """Write tables, figures, FCS files, report, AnnData and run facts; all of them or none."""
    with outputs.staged(folder) as stage:
        with clock.step("tables"):
            outputs.write_tables(outputs.result_tables(adata), stage / "tables")
        with clock.step("fcs"):
            io.write_fcs(adata, stage / "fcs")
        adata.uns[schema.UNS][schema.RUN]["seconds"] = clock.table()
        with clock.step("report"):
            title = adata.uns[schema.UNS][schema.RUN]["params"].get("title", report.TITLE)
            report.write(
                adata, stage / "report.html", title=title, figures_folder=stage / "figures"
            )
        with clock.step("h5ad"):
            outputs.write_h5ad(adata, stage / "study.h5ad")
        outputs.write_run_facts(adata, clock, stage / "run.json")
