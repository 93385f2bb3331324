"""Commands that compute: ``run``, ``report`` and ``demo``."""

from __future__ import annotations

from contextlib import contextmanager
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
    from collections.abc import Iterator

    from anndata import AnnData

    from cytoclust.report.findings import Finding

ABUNDANCE = "differential_abundance"
STATE = "differential_state"
RESUME = "Finished steps are kept: the same command goes on after the last one."
SEED = "seed.txt"  # of the demo: written once its study is whole
USUAL_EVENTS = 620_000  # of the demo
IN_MEMORY = 5_000_000  # events of a demo that need no store
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
    store: options.Store = None,
    scheduler: options.Scheduler = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the report.")] = None,
    fcs: options.WriteFcs = None,
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
            store=store, fcs=fcs,
        )  # fmt: skip
        if asked.samples is None:
            leave(NO_SHEET, WRONG_COMMAND)
        if asked.out is None:
            leave("Error: say where the results go: --out FOLDER.", WRONG_COMMAND)
        if scheduler is not None and asked.store is None:
            leave("Error: workers need a store to read from: --store FOLDER.", WRONG_COMMAND)
        with connected(scheduler) as client:
            adata, fresh = compute(asked, overwrite=overwrite, progress=not quiet, client=client)
        if as_json:
            print_json(run_facts(adata, asked.out, fresh=fresh))
        elif not quiet:
            show_run(adata, asked.out, fresh=fresh)


@contextmanager
def connected(scheduler: str | None) -> Iterator[Any]:
    """Connect to a Dask scheduler; None is given for none."""
    if scheduler is None:
        yield None
        return
    from distributed import Client

    try:
        client = Client(scheduler, timeout="10s")
    except (OSError, ValueError) as error:
        msg = (
            f"no Dask scheduler answers at {scheduler} ({type(error).__name__}). Start one with: dask "
            "scheduler, and workers with: dask worker ADDRESS; or leave out --scheduler."
        )
        raise ArgumentError(msg) from error
    with client:
        yield client


def compute(
    asked: Request, *, overwrite: bool, progress: bool, client: Any = None
) -> tuple[AnnData, bool]:
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
        store=asked.store,
        client=client,
        fcs=asked.fcs,
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
        target = out or (study if study.is_dir() else study.parent) / "report.html"
        if target.exists() and not overwrite:
            msg = f"{target} is there already. Give another --out, or --overwrite."
            raise ArgumentError(msg)
        from cytoclust import pipeline
        from cytoclust import report as reporting

        adata = pipeline.open_run(study) if study.is_dir() else read_h5ad(study)

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
    events: Annotated[
        int | None,
        typer.Option(
            "--events",
            min=50_000,
            help="About how many events to simulate, 620,000 by default; above 5 million they go through a store.",
        ),
    ] = None,
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
        study, note = out / "study", seed_text(seed=seed, null=null, events=events)
        if not is_simulated(out, note) or overwrite:
            simulate.study(
                study, null=null, rng=seed, n_jobs=n_jobs, overwrite=overwrite, progress=not quiet,
                events_per_sample=sample_sizes(events),
            )  # fmt: skip
            (out / SEED).write_text(note)
        large = events is not None and events > IN_MEMORY
        asked = Request(
            samples=study / "samples.csv", panel=study / "panel.csv", out=out / "run", treatment="visit",
            compartment="compartment", donor="patient", definitions=("human_leukocyte", "b_all"), seed=seed,
            n_jobs=n_jobs, store=out / "store" if large else None,
        )  # fmt: skip
        adata, fresh = compute(asked, overwrite=overwrite, progress=not quiet)
        found = score(adata, result_table(adata), study)
        if as_json:
            print_json({**run_facts(adata, out / "run", fresh=fresh), "score": score_facts(found)})
        elif not quiet:
            show_score(found)
            say(f"Report: {out / 'run' / 'report.html'}")


def sample_sizes(events: int | None) -> tuple[int, int]:
    """Return the smallest and largest number of events of a file, for about so many in all."""
    factor = 1.0 if events is None else events / USUAL_EVENTS
    return round(2_000 * factor), round(6_000 * factor)


def seed_text(*, seed: int, null: bool, events: int | None) -> str:
    """Return what tells one simulated study from another."""
    size = "" if events is None else f", {events} events"
    return f"{'null ' if null else ''}seed {seed}{size}\n"


def is_simulated(out: Path, text: str) -> bool:
    """Tell whether the very study that is asked for was simulated whole."""
    note = out / SEED
    return note.is_file() and note.read_text() == text
