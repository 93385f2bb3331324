"""Commands before any computing: ``init`` and ``design``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003, typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from cytoclust.cli import options
from cytoclust.cli.shell import (
    NO_SHEET,
    NOTHING_TO_TEST,
    WRONG_COMMAND,
    console,
    leave,
    plain_errors,
    print_json,
    records,
    say,
)
from cytoclust.cli.study_file import STUDY_FILE, compose, read_request
from cytoclust.errors import ArgumentError, StudyError

if TYPE_CHECKING:
    from cytoclust.cli.drafts import Draft


def init(
    folder: Annotated[
        Path, typer.Argument(help="Folder with the event files, also in folders below.")
    ],
    *,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write samples.csv, panel.csv and study.toml for the event files in a folder.

    Markers and their roles are guessed from the files, design columns from the file names; what
    cannot be guessed is said and left to fill in. Nothing that is there already is replaced.

    Example:  cytoclust init data/
    """
    from cytoclust.cli.drafts import draft_study

    with plain_errors(debug=debug, quiet=quiet):
        places = [folder / name for name in ("samples.csv", "panel.csv", STUDY_FILE)]
        there = [place.name for place in places if place.exists()]
        if there and not overwrite:
            msg = (
                f"{folder} already holds {', '.join(there)}; nothing was written. Edit them, or write them anew "
                "with --overwrite."
            )
            raise ArgumentError(msg)
        draft = draft_study(folder)
        write_draft(draft, folder)
        if as_json:
            print_json(
                {
                    "written": [str(place) for place in places],
                    "n_samples": len(draft.samples),
                    "n_events": draft.n_events,
                    "design": list(draft.samples.columns[2:]),
                    "keys": draft.keys,
                    "notes": draft.notes,
                }
            )
        elif not quiet:
            show_draft(draft, folder)


def write_draft(draft: Draft, folder: Path) -> None:
    """Write the three files, each beside its place and then renamed."""
    from cytoclust.outputs import harmless_table

    texts = {
        "samples.csv": harmless_table(draft.samples).to_csv(index=False),
        "panel.csv": harmless_table(draft.panel).to_csv(index=False),
        STUDY_FILE: compose(
            {"samples": "samples.csv", "panel": "panel.csv", "out": "results", **draft.keys}
        ),
    }
    for name, text in texts.items():
        beside = folder / f".{name}.part"
        beside.write_text(text, encoding="utf-8")
        beside.replace(folder / name)


def show_draft(draft: Draft, folder: Path) -> None:
    """Print what was guessed and what to do next."""
    classes = draft.panel["marker_class"].value_counts()
    say(
        f"Found {len(draft.samples)} event files with {draft.n_events:,} events and {len(draft.panel)} channels: "
        + ", ".join(f"{classes.get(name, 0)} {name}" for name in ("type", "state", "none"))
        + "."
    )
    table = Table(box=None, pad_edge=False)
    for column in draft.panel.columns:
        table.add_column(str(column))
    for row in draft.panel.itertuples(index=False):
        table.add_row(*(str(cell) for cell in row))
    console.print(table, markup=False)
    say(f"Wrote samples.csv, panel.csv and {STUDY_FILE} into {folder}.")
    if draft.notes:
        say("\nPlease check:")
    for note in draft.notes:
        say(f"  - {note}")
    first = "" if draft.keys else "fill these in, then "
    say(f"\nNext: {first}cytoclust design {folder}   and   cytoclust run {folder}")


def design(
    study: options.StudyFile = None,
    *,
    samples: options.Samples = None,
    treatment: options.Treatment = None,
    baseline: options.Baseline = None,
    compartment: options.Compartment = None,
    donor: options.Donor = None,
    covariates: options.Covariates = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Check a sample sheet: who was seen when and where, and which contrasts can be tested.

    Leaves with 3 if no contrast can be tested.

    Examples:  cytoclust design data/   ·   cytoclust design --samples samples.csv --treatment visit --donor patient
    """
    from cytoclust import io, tl
    from cytoclust.cli.study_file import Request

    with plain_errors(debug=debug, quiet=quiet):
        given = Request() if study is None else read_request(study)
        asked = given.changed(
            samples=samples, treatment=treatment, baseline=baseline, compartment=compartment,
            donor=donor, covariates=options.names(covariates),
        )  # fmt: skip
        if asked.samples is None:
            leave(NO_SHEET, WRONG_COMMAND)
        sheet = io.read_samples(asked.samples)
        if asked.treatment is None and asked.compartment is None:
            msg = (
                f"{asked.samples}: nothing says what to compare; the sheet has the columns {list(sheet.columns)}. "
                "Name one as treatment or compartment, in study.toml or as --treatment or --compartment."
            )
            raise StudyError(msg)
        plan = tl.design(
            sheet, treatment_key=asked.treatment, baseline=asked.baseline, compartment_key=asked.compartment,
            donor_key=asked.donor, covariates=asked.covariates,
        )  # fmt: skip
        summary = plan.summary()
        if as_json:
            print_json(design_facts(plan, summary))
        elif not quiet:
            say(str(plan))
        if not summary["estimable"].any():
            leave("No contrast of this design can be tested.", NOTHING_TO_TEST)


def design_facts(plan: Any, summary: Any) -> dict[str, Any]:
    """Return a design for scripts."""
    return {
        "n_samples": len(plan.table),
        "levels": list(plan.levels),
        "baseline": plan.baseline,
        "compartments": list(plan.compartments),
        "contrasts": records(summary),
        "excluded": records(plan.excluded),
        "notes": list(plan.notes),
    }
