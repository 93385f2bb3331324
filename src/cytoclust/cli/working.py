"""Commands that compute: ``run``, ``report`` and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytoclust import checks
from cytoclust.cli import options
from cytoclust.cli.shell import (
    NO_SHEET,
    WRONG_COMMAND,
    leave,
    plain_errors,
    print_json,
    records,
    say,
)
from cytoclust.cli.study_file import Request, read_request
from cytoclust.errors import ArgumentError, StudyError

if TYPE_CHECKING:
    from anndata import AnnData

    from cytoclust.report.findings import Finding

ABUNDANCE = "differential_abundance"
STATE = "differential_state"
RESUME = "Finished steps are kept: the same command goes on after the last one."
SEED = "seed.txt"  # of the demo: written once its study is whole
SHOWN = 10  # findings printed at the end of a run


def run(  # noqa: PLR0913, the command line is flat
    study: options.StudyFile = None,
    *,
    samples: options.Samples = None,
    panel: options.Panel = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the results; made if absent.")
    ] = None,
    treatment: options.Treatment = None,
    baseline: options.Baseline = None,
    compartment: options.Compartment = None,
    donor: options.Donor = None,
    covariates: options.Covariates = None,
    definitions: Annotated[
        str | None,
        typer.Option(
            "--definitions",
            help="Phenotype definitions, names or TOML files, A,B; human_leukocyte by default.",
        ),
    ] = None,
    resolution: Annotated[
        float | None, typer.Option("--resolution", help="Of the clustering; 1 by default.")
    ] = None,
    embedding: Annotated[
        bool | None,
        typer.Option("--embedding/--no-embedding", help="Whether to compute the UMAP."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="One seed for every random step.")
    ] = None,
    n_jobs: options.Jobs = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the report.")] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Analyse a study: files to populations to abundance over treatment by compartment.

    Takes a study.toml (as init writes it) or options. A run that was interrupted goes on after its
    last finished step; the same run again says so and computes nothing.

    Examples:  cytoclust run data/   ·   cytoclust run --samples samples.csv --panel panel.csv --out results
    --treatment visit --baseline d0 --compartment compartment --donor patient
    """
    with plain_errors(debug=debug, quiet=quiet, verbose=verbose, on_interrupt=RESUME):
        given = Request() if study is None else read_request(study)
        asked = given.changed(
            samples=samples, panel=panel, out=out, treatment=treatment, baseline=baseline, compartment=compartment,
            donor=donor, covariates=options.names(covariates), definitions=options.names(definitions),
            resolution=resolution, embedding=embedding, seed=seed, n_jobs=n_jobs, title=title,
        )  # fmt: skip
        if asked.samples is None:
            leave(NO_SHEET, WRONG_COMMAND)
        if asked.out is None:
            leave("Error: say where the results go: --out FOLDER.", WRONG_COMMAND)
        adata, fresh = compute(asked, overwrite=overwrite, progress=not quiet)
        if as_json:
            print_json(run_facts(adata, asked.out, fresh=fresh))
        elif not quiet:
            show_run(adata, asked.out, fresh=fresh)


def compute(asked: Request, *, overwrite: bool, progress: bool) -> tuple[AnnData, bool]:
    """Run the pipeline; return its events, and whether anything was computed."""
    from cytoclust import pipeline

    assert asked.samples is not None
    assert asked.out is not None
    facts = asked.out / "run.json"
    before = facts.stat().st_mtime_ns if facts.is_file() else 0
    adata = pipeline.run(
        asked.samples,
        asked.panel,
        asked.out,
        treatment_key=asked.treatment,
        baseline=asked.baseline,
        compartment_key=asked.compartment,
        donor_key=asked.donor,
        covariates=asked.covariates,
        definitions=asked.definitions,
        resolution=asked.resolution,
        embedding=asked.embedding,
        rng=asked.seed,
        n_jobs=asked.n_jobs,
        title=asked.title,
        overwrite=overwrite,
        progress=progress,
    )
    return adata, facts.stat().st_mtime_ns != before


def run_facts(adata: AnnData, out: Path, *, fresh: bool) -> dict[str, Any]:
    """Return a finished run for scripts."""
    from cytoclust import schema

    table = result_table(adata)
    found = [] if table is None else records(table[table["fdr"] < 0.05])
    return {
        "status": "finished" if fresh else "unchanged",
        "out": str(out),
        "report": str(out / "report.html"),
        "n_events": int(adata.n_obs),
        "n_samples": len(adata.obs[schema.SAMPLE].cat.categories),
        "n_clusters": len(adata.obs[schema.LEIDEN].cat.categories),
        "changed": found,
    }


def result_table(adata: AnnData, step: str = ABUNDANCE) -> Any:
    """Return the results of a test, or None if it was not made."""
    return (checks.recorded(adata, step) or {}).get("table")


def show_run(adata: AnnData, out: Path, *, fresh: bool) -> None:
    """Print what changed and where the report is."""
    from cytoclust.report.findings import findings

    if not fresh:
        say(
            f"Nothing to compute: {out} holds the results of the same inputs and parameters (--overwrite computes "
            "them again)."
        )
    abundance, state = (result_table(adata, step) for step in (ABUNDANCE, STATE))
    if abundance is None:
        say("Nothing was compared: name a treatment or compartment to test what changed.")
    else:
        calls = result_table(adata, "trajectories")
        show_findings("in abundance", findings(abundance, calls))
    if state is not None:
        show_findings("in marker expression", findings(state, None))
    say(f"Report: {out / 'report.html'}")


def show_findings(what: str, found: list[Finding]) -> None:
    """Print the surest changes, a line for each compartment."""
    from cytoclust.report.numbers import plural

    count = plural(len(found), "population")
    say(f"{count} changed {what} (false discovery rate 5 %){', surest first:' if found else '.'}")
    for finding in found[:SHOWN]:
        for change in finding.changes:
            place = " ".join(part for part in (change.place, change.course) if part)
            say(f"  {finding.head}{', ' if place else ''}{place}: {change.text}")
    if len(found) > SHOWN:
        say(f"  … and {len(found) - SHOWN} more in the report.")


def report(  # noqa: PLR0913, the command line is flat
    study: Annotated[Path, typer.Argument(help="study.h5ad of a run, or the run's folder.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file; beside the study by default.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Folder for every figure as a file too.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the report.")] = None,
    treatment: options.Treatment = None,
    compartment: options.Compartment = None,
    donor: options.Donor = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write the HTML report of an analysed study again, from its study.h5ad.

    Example:  cytoclust report results/study.h5ad --out monday.html --title "Blinatumomab, cycle 1"
    """
    with plain_errors(debug=debug, quiet=quiet):
        file = study / "study.h5ad" if study.is_dir() else study
        target = out or file.with_name("report.html")
        if target.exists() and not overwrite:
            msg = f"{target} is there already. Give another --out, or --overwrite."
            raise ArgumentError(msg)
        adata = read_h5ad(file)
        from cytoclust import report as reporting

        reporting.write(
            adata, target, treatment_key=treatment, compartment_key=compartment, donor_key=donor, figures_folder=figures,
            **({} if title is None else {"title": title}),
        )  # fmt: skip
        if as_json:
            print_json({"report": str(target), "n_events": int(adata.n_obs)})
        else:
            say(f"Report: {target}", quiet=quiet)


def read_h5ad(file: Path) -> AnnData:
    """Read an analysed study; say what is wrong with a file that is none."""
    import anndata as ad

    if not file.is_file():
        msg = f"{file}: no such file. Give the study.h5ad of a run."
        raise StudyError(msg)
    try:
        return ad.read_h5ad(file)
    except (OSError, KeyError, ValueError) as error:
        msg = f"{file}: not a readable h5ad file ({error}). Give the study.h5ad of a run."
        raise StudyError(msg) from error


def demo(
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for study and results.")] = Path(
        "cytoclust_demo"
    ),
    seed: options.Seed = 0,
    null: Annotated[bool, typer.Option("--null", help="Plant no effect.")] = False,
    n_jobs: options.Jobs = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Simulate a study with known truth, analyse it, and say what was found of what was planted.

    Example:  cytoclust demo --out cytoclust_demo
    """
    from cytoclust import simulate
    from cytoclust.cli.scores import score_facts, show_score
    from cytoclust.demo import score

    with plain_errors(debug=debug, quiet=quiet, verbose=verbose, on_interrupt=RESUME):
        study = out / "study"
        if not is_simulated(out, seed=seed, null=null) or overwrite:
            simulate.study(
                study, null=null, rng=seed, n_jobs=n_jobs, overwrite=overwrite, progress=not quiet
            )
            (out / SEED).write_text(seed_text(seed=seed, null=null))
        asked = Request(
            samples=study / "samples.csv", panel=study / "panel.csv", out=out / "run", treatment="visit",
            compartment="compartment", donor="patient", definitions=("human_leukocyte", "b_all"), seed=seed,
            n_jobs=n_jobs,
        )  # fmt: skip
        adata, fresh = compute(asked, overwrite=overwrite, progress=not quiet)
        found = score(adata, result_table(adata), study)
        if as_json:
            print_json({**run_facts(adata, out / "run", fresh=fresh), "score": score_facts(found)})
        elif not quiet:
            show_score(found)
            say(f"Report: {out / 'run' / 'report.html'}")


def seed_text(*, seed: int, null: bool) -> str:
    """Return what tells one simulated study from another."""
    return f"{'null ' if null else ''}seed {seed}\n"


def is_simulated(out: Path, *, seed: int, null: bool) -> bool:
    """Tell whether the very study that is asked for was simulated whole."""
    note = out / SEED
    return note.is_file() and note.read_text() == seed_text(seed=seed, null=null)
