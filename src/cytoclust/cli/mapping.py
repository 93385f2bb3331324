"""``map``: later samples get the clusters and names of a finished study."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003, typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from cytoclust import schema
from cytoclust.cli import options  # noqa: TC001, typer reads the annotations
from cytoclust.cli.shell import plain_errors, print_json, records, say
from cytoclust.cli.working import read_h5ad

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cytoclust import outputs


def map_samples(
    study: Annotated[Path, typer.Argument(help="study.h5ad of a finished run, or its folder.")],
    *,
    samples: Annotated[
        Path,
        typer.Option("--samples", help="Sheet of the later samples: file, sample and any columns."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; made if absent.")],
    title: Annotated[str, typer.Option("--title", help="Heading of the report.")] = "Later samples",
    n_jobs: options.Jobs = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Give later samples the clusters, phenotypes and map coordinates of a finished study.

    Nothing of the study changes. The files must have its channels; panel, cofactors and names come
    from it. Events that are far from every population of the study are counted and stay unassigned.

    Example:  cytoclust map results/ --samples later.csv --out later
    """
    from cytoclust import outputs

    with plain_errors(debug=debug, quiet=quiet, verbose=verbose):
        file = study / "study.h5ad" if study.is_dir() else study
        folder = outputs.prepare_folder(out)
        if not overwrite:
            outputs.refuse_earlier(folder, {})
        clock = outputs.Clock(progress=not quiet)
        reference = read_h5ad(file)
        adata = mapped(reference, samples, clock=clock, n_jobs=n_jobs, folder=folder)
        record = {
            "study": str(file.absolute()),
            "study_fingerprint": fingerprint_of(reference),
            "title": title,
        }
        write_mapped(adata, folder, clock=clock, params=record)
        far = adata.uns[schema.UNS][schema.MAP_EVENTS]["samples"].rename_axis("sample")
        if as_json:
            print_json(
                {
                    "out": str(folder),
                    "report": str(folder / "report.html"),
                    "n_events": int(adata.n_obs),
                    "samples": records(far.reset_index()),
                }
            )
        elif not quiet:
            say(f"{adata.n_obs:,} events of {len(far)} samples were placed in the study.")
            for name, row in far.iterrows():
                share = 100 * row["n_far"] / max(row["n_events"], 1)
                say(
                    f"  {name}: {row['n_events']:,} events, {share:.2f} % far from every population"
                )
            say(f"Counts: {folder / 'tables' / 'counts.csv'}")
            say(f"Report: {folder / 'report.html'}")


def fingerprint_of(reference: AnnData) -> str:
    """Return what told the reference's run from others, "" if no pipeline made it."""
    run = reference.uns.get(schema.UNS, {}).get(schema.RUN, {})
    return str(run.get("fingerprint", ""))


def mapped(
    reference: AnnData, samples: Path, *, clock: outputs.Clock, n_jobs: int | None, folder: Path
) -> AnnData:
    """Read the later samples with the reference's panel, prepare them alike, and map them."""
    from cytoclust import io, outputs, tl
    from cytoclust.pipeline.steps import prepare

    with clock.step("read"):
        adata = io.read_study(samples, panel_of(reference), n_jobs=n_jobs)
    outputs.refuse_inputs_inside(folder, adata.uns[schema.UNS][schema.READ_STUDY]["files"])
    with clock.step("prepare"):
        known = reference.var[schema.COFACTOR].dropna()
        prepare(adata, cofactor=known if len(known) else None, n_jobs=n_jobs)
    with clock.step("map"):
        tl.map_events(adata, reference, n_jobs=n_jobs)
    return adata


def panel_of(reference: AnnData) -> pd.DataFrame:
    """Return the panel that the reference was read with."""
    columns = [schema.MARKER, schema.MARKER_CLASS, schema.SCALE]
    return reference.var[columns].astype(str).rename_axis(schema.CHANNEL).reset_index()


def write_mapped(
    adata: AnnData, folder: Path, *, clock: outputs.Clock, params: dict[str, str]
) -> None:
    """Write tables, FCS files, report, AnnData and facts of the mapped samples; all or none."""
    from cytoclust import checks, io, outputs, report

    checks.record(adata, schema.RUN, params, versions=outputs.versions(), fingerprint="")
    with outputs.staged(folder) as stage:
        with clock.step("tables"):
            outputs.write_tables(outputs.result_tables(adata), stage / "tables")
        with clock.step("fcs"):
            io.write_fcs(adata, stage / "fcs")
        with clock.step("report"):
            report.write(
                adata,
                stage / "report.html",
                title=params["title"],
                figures_folder=stage / "figures",
            )
        with clock.step("h5ad"):
            outputs.write_study(adata, stage)
        outputs.write_run_facts(adata, clock, stage / "run.json")
