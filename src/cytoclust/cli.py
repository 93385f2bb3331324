"""The command line: ``cytoclust demo | run | inspect | design``."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from cytoclust.errors import CytoclustError, CytoclustWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cytoclust.demo import Score

app = typer.Typer(
    help="From the FCS files of a clinical study to named cell populations and tested answers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
errors = Console(stderr=True)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="One seed for every random step.")]
Jobs = Annotated[int | None, typer.Option("--n-jobs", help="Threads; all processors by default.")]
Samples = Annotated[
    Path,
    typer.Option(
        "--samples", help="CSV with columns file, sample and the design; files relative to it."
    ),
]
Treatment = Annotated[
    str | None, typer.Option("--treatment", help="Column of the treatment or visit.")
]
Baseline = Annotated[
    str | None, typer.Option("--baseline", help="Level to compare with; the first by default.")
]
Compartment = Annotated[
    str | None, typer.Option("--compartment", help="Column of the compartment.")
]
Donor = Annotated[str | None, typer.Option("--donor", help="Column of the patient or donor.")]
Covariates = Annotated[
    str, typer.Option("--covariates", help="Further columns to adjust for, A,B.")
]


@contextmanager
def plain_errors(*, debug: bool, quiet: bool = False) -> Iterator[None]:
    """Show what went wrong in one paragraph, and leave with exit code 1 (130 when interrupted)."""
    show = warnings.showwarning
    shown: set[str] = set()  # several steps say the same of one study

    def show_plainly(  # noqa: PLR0917, the signature of warnings.showwarning
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, CytoclustWarning):
            show(message, category, filename, lineno, file, line)
        elif not quiet and str(message) not in shown:
            shown.add(str(message))
            errors.print("Warning:", str(message), style="yellow", markup=False, highlight=False)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", CytoclustWarning)
            warnings.showwarning = show_plainly
            yield
    except (CytoclustError, OSError) as error:
        if debug:
            raise
        errors.print("Error:", str(error), style="bold red", markup=False, highlight=False)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        errors.print("Interrupted; nothing half written was left.", style="bold red")
        raise typer.Exit(130) from error


def names(text: str) -> tuple[str, ...]:
    """Split ``A,B`` into its names."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def log_to_stderr(*, quiet: bool) -> None:
    """Show the package's one line per step, unless asked to be quiet."""
    if quiet:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("cytoclust").addHandler(handler)


@app.command()
def run(  # noqa: PLR0913, the command line is flat
    samples: Samples,
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; made if absent.")],
    *,
    panel: Annotated[
        Path | None, typer.Option("--panel", help="CSV with channel, marker, marker_class.")
    ] = None,
    treatment: Treatment = None,
    baseline: Baseline = None,
    compartment: Compartment = None,
    donor: Donor = None,
    covariates: Covariates = "",
    definitions: Annotated[
        str, typer.Option(help="Phenotype definitions, names or TOML files, A,B.")
    ] = "human_leukocyte",
    seed: Seed = 0,
    n_jobs: Jobs = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Analyse a study: files to populations to abundance over treatment by compartment."""
    from cytoclust import pipeline

    with plain_errors(debug=debug, quiet=quiet):
        pipeline.run(
            samples,
            panel,
            out,
            treatment_key=treatment,
            baseline=baseline,
            compartment_key=compartment,
            donor_key=donor,
            covariates=names(covariates),
            definitions=names(definitions),
            rng=seed,
            n_jobs=n_jobs,
            overwrite=overwrite,
            progress=not quiet,
        )
        if not quiet:
            console.print(f"Report: {out / 'report.html'}", markup=False, highlight=False)


@app.command()
def demo(
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for study and results.")] = Path(
        "cytoclust_demo"
    ),
    seed: Seed = 0,
    null: Annotated[bool, typer.Option("--null", help="Plant no effect.")] = False,
    n_jobs: Jobs = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier demo.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Simulate a study with known truth, analyse it, and say what was found of what was planted."""
    from cytoclust import pipeline, schema, simulate
    from cytoclust.demo import score

    with plain_errors(debug=debug, quiet=quiet):
        study, results = out / "study", out / "run"
        simulate.study(
            study, null=null, rng=seed, n_jobs=n_jobs, overwrite=overwrite, progress=not quiet
        )
        adata = pipeline.run(
            study / "samples.csv",
            study / "panel.csv",
            results,
            treatment_key="visit",
            compartment_key="compartment",
            donor_key="patient",
            definitions=("human_leukocyte", "b_all"),
            rng=seed,
            n_jobs=n_jobs,
            overwrite=overwrite,
            progress=not quiet,
        )
        table = adata.uns[schema.UNS]["differential_abundance"]["table"]
        if not quiet:
            show_score(score(adata, table, study))
            console.print(f"Report: {results / 'report.html'}", markup=False, highlight=False)


def show_score(found: Score) -> None:
    """Print what was found against what was planted."""
    effects = found.effects[found.effects["planted"].abs() >= 1]
    title = "Planted changes of two-fold or more (log2), and what was found"
    table = Table(title=title, box=box.SIMPLE, pad_edge=False)
    for column in ("population", "where", "contrast", "planted", "found (95 %)", "FDR", "verdict"):
        table.add_column(column, no_wrap=column == "population")
    for row in effects.to_dict("records"):
        interval = f"{row['log2_fold_change']:+.2f} ({row['ci_low']:+.2f} to {row['ci_high']:+.2f})"
        missed = "missed" if row["power"] >= 0.9 else "missed (weak)"
        table.add_row(
            str(row["population"]),
            str(row["compartment"]),
            str(row["contrast"]),
            f"{row['planted']:+.2f}",
            interval,
            f"{row['fdr']:.2g}",
            "found" if row["found"] else missed,
        )
    if len(effects):
        console.print(table)
        console.print(
            "weak: with these samples such a change is detected in less than 90 % of studies"
        )
    false = int((~found.findings["true"]).sum())
    console.print(
        f"Planted changes of 2-fold or more found: {int(effects['found'].sum())} of {len(effects)}"
    )
    console.print(f"Findings at FDR 5 %: {len(found.findings)}, of which not planted: {false}")
    console.print(f"Adjusted Rand index of phenotypes: {found.adjusted_rand:.3f}")
    good = int((found.populations["f1"] >= 0.8).sum())
    console.print(
        f"Populations with F1 of 0.8 or more, by name: {good} of {len(found.populations)}"
    )
    for name, f1 in found.lineages["f1"].items():
        console.print(f"  lineage {name}: F1 {f1:.3f}")
    console.print(
        f"Good cells excluded by quality control: {100 * found.good_cells_excluded:.1f} %"
    )


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(help="FCS files.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    debug: Debug = False,
) -> None:
    """Show version, instrument, events, channels, spillover and every oddity of FCS files."""
    from cytoclust import io

    with plain_errors(debug=debug):
        facts = [io.describe_fcs(path) for path in files]
        if as_json:
            sys.stdout.write(json.dumps(facts, indent=2) + "\n")
            return
        for fact in facts:
            show_file(fact)


def show_file(fact: dict[str, object]) -> None:
    """Print one file's facts: a line each, the channels as a table."""
    for key, value in fact.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            table = Table(title=key)
            for column in value[0]:
                table.add_column(str(column))
            for row in value:
                table.add_row(*("" if cell is None else str(cell) for cell in row.values()))
            console.print(table, markup=False)
        else:
            console.print(f"{key}: {value}", markup=False, highlight=False)


@app.command()
def design(
    samples: Samples,
    *,
    treatment: Treatment = None,
    baseline: Baseline = None,
    compartment: Compartment = None,
    donor: Donor = None,
    covariates: Covariates = "",
    debug: Debug = False,
) -> None:
    """Check a sample sheet: who was seen when and where, and which contrasts can be tested."""
    from cytoclust import io, tl

    with plain_errors(debug=debug):
        plan = tl.design(
            io.read_samples(samples),
            treatment_key=treatment,
            baseline=baseline,
            compartment_key=compartment,
            donor_key=donor,
            covariates=names(covariates),
        )
        console.print(str(plan), markup=False, highlight=False)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
