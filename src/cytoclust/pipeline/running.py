"""The whole way from files to tested answers; the only place where the order of steps is written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cytoclust import checkpoints, checks, io, outputs, report, schema, tasks, tl
from cytoclust.errors import ArgumentError, StudyError
from cytoclust.pipeline.comparison import Comparison, report_design
from cytoclust.pipeline.steps import cluster, compare, embed, is_small, name, prepare
from cytoclust.pp.compensation import unmixing_plan
from cytoclust.tl.definitions import load_definitions

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import pandas as pd
    from anndata import AnnData

__all__ = ["open_run", "run"]


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
    store: str | os.PathLike[str] | None = None,
    client: Any = None,
    fcs: bool = True,
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
    store
        Folder for a zarr store of the events (`io.convert_study`), for studies larger than memory;
        the results are the same. ``study.h5`` then stands in `out` instead of ``study.h5ad``.
    client
        Dask client whose workers do what is done by sample and chunk; with `store` only. None takes
        the active one, or threads without one.
    fcs
        Write the events back to FCS files.

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
        "fcs": fcs,
    }
    marks = checkpoints.Checkpoints(folder)
    earlier = None if folder is None or overwrite else outputs.finished(folder)
    if earlier is not None or marks.waiting():
        marks.key = checkpoints.run_fingerprint(samples, panel, params)
    if folder is not None and earlier is not None and earlier["fingerprint"] == marks.key:
        checks.steps.info("Nothing to compute: %s holds the results of this very run", folder)
        return outputs.read_finished(folder)
    if folder is not None and not overwrite:
        outputs.refuse_earlier(folder, params)
    if comparison:
        report_design(tl.design(io.read_samples(samples), **asdict(comparison)))
    clock = outputs.Clock(progress=progress)
    adata = marks.load(clock)
    with tasks.client_active(client):
        if adata is None:
            with clock.step("read"):
                adata = (
                    io.read_study(samples, panel, n_jobs=n_jobs, progress=progress)
                    if store is None
                    else io.open_study(io.convert_study(samples, panel, store, progress=progress))
                )
            files = check_study(adata, folder)
            marks.key = checkpoints.run_fingerprint(
                samples, panel, params, digests=list(files["sha256"])
            )
        analyse(adata, comparison, params=params, marks=marks, clock=clock, n_jobs=n_jobs)
        if folder is not None:
            keep(adata, folder, clock)
            marks.remove()
    return adata


def open_run(folder: str | os.PathLike[str]) -> AnnData:
    """Open the results that `run` left in a folder.

    Parameters
    ----------
    folder
        Output folder of a finished run.

    Returns
    -------
    AnnData
        In memory, or lazy if the run had a store.

    Raises
    ------
    StudyError
        The folder holds no results, or its store is gone.

    Examples
    --------
    >>> import cytoclust as cc, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> _ = cc.simulate.study(folder, n_patients=2, events_per_sample=(200, 300), rng=0)
    >>> _ = cc.pipeline.run(f"{folder}/samples.csv", None, f"{folder}/run", embedding=False)
    >>> cc.pipeline.open_run(f"{folder}/run").obs["phenotype"].dtype.name
    'category'
    """
    place = Path(folder)
    if not any((place / name).is_file() for name in ("study.h5ad", "study.h5")):
        msg = f"{place}: no study.h5ad or study.h5 of a run in this folder. Give the output folder of a run."
        raise StudyError(msg)
    return outputs.read_finished(place)


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


def keep(adata: AnnData, folder: Path, clock: outputs.Clock) -> None:
    """Write tables, figures, FCS files, report, AnnData and run facts; all of them or none."""
    params = adata.uns[schema.UNS][schema.RUN]["params"]
    with outputs.staged(folder) as stage:
        with clock.step("tables"):
            outputs.write_tables(outputs.result_tables(adata), stage / "tables")
        if params.get("fcs", True):
            with clock.step("fcs"):
                io.write_fcs(adata, stage / "fcs")
        adata.uns[schema.UNS][schema.RUN]["seconds"] = clock.table()
        with clock.step("report"):
            title = params.get("title", report.TITLE)
            report.write(
                adata, stage / "report.html", title=title, figures_folder=stage / "figures"
            )
        with clock.step("h5ad"):
            outputs.write_study(adata, stage)
        outputs.write_run_facts(adata, clock, stage / "run.json")
