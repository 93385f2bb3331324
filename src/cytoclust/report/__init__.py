"""One self-contained HTML file from an analysed AnnData."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from cytoclust import checks
from cytoclust.errors import ArgumentError

if TYPE_CHECKING:
    from anndata import AnnData

    from cytoclust.report.study import Study
    from cytoclust.report.tables import Table

__all__ = ["TITLE", "write", "write_figures"]

TITLE: Final = "Cytometry report"


def write(
    adata: AnnData,
    path: str | os.PathLike[str],
    *,
    title: str = TITLE,
    treatment_key: str | None = None,
    compartment_key: str | None = None,
    donor_key: str | None = None,
    figures_folder: str | os.PathLike[str] | None = None,
) -> None:
    """Write a report that needs no network: summary, design, quality, populations, tests, methods.

    Parameters
    ----------
    adata
        Analysed events. Every step is optional; the report says which ones are missing.
    path
        HTML file to write; it is written beside its place and then renamed.
    title
        Heading of the report.
    treatment_key, compartment_key, donor_key
        Design columns of ``obs``; None takes those recorded by the pipeline or the tests.
    figures_folder
        Folder for every figure as a PNG file too, as `write_figures` writes them by default; this
        is faster than both calls, since each figure is made once. None writes no files.

    Returns
    -------
    None
        Reads ``obs``, ``var``, ``obsm["X_umap"]`` and the tables under ``uns["cytoclust"]``
        (``differential_abundance``, ``abundance_levels``, ``differential_state``,
        ``trajectories``, ``annotate_phenotypes``, ``subcluster_lineages``, ``filter_events``, ``read_study``, ``run``).
        Writes only colours: ``uns["phenotype_colors"]`` and the like, if they are not there.

    Raises
    ------
    MissingSlotError
        A design column named by the caller is not there.
    ArgumentError
        `path` or `figures_folder` cannot be written.

    Notes
    -----
    All text of the data is escaped, and a content security policy lets the browser run no script
    but the report's own. Tables are complete and readable without scripts; scripts add sorting and
    filtering. Cost: one pass over the events per figure.

    Examples
    --------
    >>> import pathlib, tempfile, anndata as ad, numpy as np, cytoclust as cc
    >>> adata = ad.AnnData(np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cc.report.write(adata, pathlib.Path(folder) / "report.html")
    """
    from cytoclust.report.study import gather

    target = Path(path)
    check_target(target)
    folder = None if figures_folder is None else Path(figures_folder)
    if folder is not None:
        check_target(folder / "figure.png")
    study = gather(
        adata, treatment_key=treatment_key, compartment_key=compartment_key, donor_key=donor_key
    )
    page = render(study, title=title, folder=folder)
    beside = target.with_name(f".{target.name}.part")
    try:
        # lone surrogates, as in file names that are not UTF-8, become question marks
        beside.write_bytes(page.encode("utf-8", errors="replace"))
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    checks.logger.info("report: %s, %.1f MB", target, target.stat().st_size / 1e6)


def write_figures(
    adata: AnnData,
    folder: str | os.PathLike[str],
    *,
    treatment_key: str | None = None,
    compartment_key: str | None = None,
    donor_key: str | None = None,
    format: Literal["png", "svg", "pdf"] = "png",
    dpi: float = 200,
) -> list[Path]:
    """Write every figure of the report as a file of its own.

    Parameters
    ----------
    adata
        Analysed events; figures whose slots are missing are left out.
    folder
        Folder for the files, made if it is not there; other files in it are left alone.
    treatment_key, compartment_key, donor_key
        Design columns of ``obs``; None takes those recorded by the pipeline or the tests.
    format
        ``png`` for slides, ``svg`` or ``pdf`` for print (vector text, maps as pixels).
    dpi
        Dots per inch of pixels.

    Returns
    -------
    list of Path
        The files, in the order of the report.

    Raises
    ------
    MissingSlotError
        A design column named by the caller is not there.
    ArgumentError
        `folder` cannot be written, or `format` is unknown.

    Examples
    --------
    >>> import tempfile, anndata as ad, numpy as np, cytoclust as cc
    >>> adata = ad.AnnData(np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in cc.report.write_figures(adata, folder)]
    ['densities.png']
    """
    from cytoclust import pl
    from cytoclust.report.figures import drawings
    from cytoclust.report.study import gather

    checks.check_one_of("format", format, ("png", "svg", "pdf"))
    place = Path(folder)
    check_target(place / f"figure.{format}")
    study = gather(
        adata, treatment_key=treatment_key, compartment_key=compartment_key, donor_key=donor_key
    )
    paths = []
    for id, _, _, _, plot in drawings(study):
        paths.append(place / f"{id}.{format}")
        pl.save(plot, paths[-1], dpi=dpi)
    return paths


def check_target(target: Path) -> None:
    """Raise before the work if the file could not be written."""
    if target.is_dir():
        msg = f"path must be a file; {target} is a folder. Add a name such as report.html."
        raise ArgumentError(msg)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"The folder {target.parent} cannot be made ({error.strerror}). Choose another path."
        raise ArgumentError(msg) from error
    if not os.access(target.parent, os.W_OK):
        msg = f"The folder {target.parent} cannot be written to. Choose another path or change its rights."
        raise ArgumentError(msg)


def render(study: Study, *, title: str, folder: Path | None = None) -> str:
    """Fill the template; everything that comes from the data is escaped by it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from cytoclust.report.figures import pictures
    from cytoclust.report.methods import write_methods
    from cytoclust.report.words import summarise

    templates = files("cytoclust.report") / "templates"
    style, script = (
        (templates / name).read_text(encoding="utf-8") for name in ("style.css", "script.js")
    )
    environment = Environment(
        loader=FileSystemLoader(str(templates)), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["unbroken"] = unbroken
    drawn: dict[str, list[Any]] = {}
    for picture in pictures(study, folder):
        drawn.setdefault(picture.section, []).append(picture)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        title=title,
        study=study,
        summary=summarise(study),
        methods=write_methods(study),
        pictures=drawn,
        tables=report_tables(study),
        written=dt.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        version=checks.package_version("cytoclust"),
        style=Markup(style),
        script=Markup(script),
        digest=digest,
    )


def unbroken(text: str) -> str:
    """Keep contrasts, percentages and powers of ten on one line of the page."""
    kept = re.sub(r"[ \xa0]-[ \xa0]", "\xa0-\u2060\xa0", text).replace(" %", "\xa0%")
    return re.sub(r"(\de-)(\d)", "\\1\u2060\\2", kept)


def report_tables(study: Study) -> dict[str, list[Table]]:
    """Build the tables of each section."""
    from cytoclust.report import tables
    from cytoclust.report.study import ALPHA

    found: dict[str, list[Table | None]] = {
        "overview": [],
        "quality": [tables.sample_rows(study)],
        "clusters": [tables.population_table(study)],
        "abundance": [],
        "state": [],
        "provenance": [],
    }
    if study.clusters is not None:
        found["clusters"].append(tables.cluster_table(study.clusters))
    if study.lineages is not None and len(study.lineages):
        found["clusters"].append(tables.lineage_table(study.lineages))
    if study.abundance is not None:
        found["overview"].append(tables.overview(study.abundance, ALPHA))
        found["abundance"].append(
            tables.results(study.abundance, id="abundance-table", title="All tests of abundance", caption="Leaf populations; sorted by p-value.")
        )  # fmt: skip
    if study.trajectories is not None:
        found["abundance"].append(tables.trajectory_table(study.trajectories))
    if study.levels is not None:
        found["abundance"].append(
            tables.results(study.levels, id="levels-table", title="Clusters, parents and other denominators", caption="The same tests for clusters and parent populations, and as shares.")
        )  # fmt: skip
    if study.state is not None:
        found["state"].append(
            tables.results(study.state, id="state-table", title="All tests of marker expression", caption="Difference of medians in transformed units; sorted by p-value.")
        )  # fmt: skip
    found["provenance"] = provenance(study)
    return {name: [table for table in some if table is not None] for name, some in found.items()}


def provenance(study: Study) -> list[Table | None]:
    """Build the tables of parameters, versions, files, time and memory."""
    from cytoclust.report import tables
    from cytoclust.report.study import RUN

    some: list[Table | None] = []
    run = study.run
    params = dict(run.get("params", {})) | ({"seed": run["seed"]} if "seed" in run else {})
    if params:
        some.append(tables.settings(params, id="parameters", title="Parameters of the run"))
    steps = study.adata.uns.get("cytoclust", {})
    each = {
        f"{step}: {name}": value
        for step, record in steps.items()
        if step != RUN and isinstance(record, dict)
        for name, value in dict(record.get("params", {})).items()
    }
    if each:
        some.append(tables.settings(each, id="step-parameters", title="Parameters of each step"))
    if run.get("versions"):
        some.append(tables.settings(dict(run["versions"]), id="versions", title="Versions"))
    if run.get("seconds") is not None:
        some.append(tables.step_times(run["seconds"]))
    if study.files is not None:
        some.append(tables.file_table(study.files))
    return some
