"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DESIGN = "Design"
OUTPUT = "Output"
SCALE = "Large studies"

Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel=OUTPUT)
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Say what every step did.", rich_help_panel=OUTPUT),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON for scripts.", rich_help_panel=OUTPUT)
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="One seed for every random step.")]
Jobs = Annotated[
    int | None,
    typer.Option("--n-jobs", help="Threads; all processors by default. Results do not change."),
]
StudyFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="[STUDY]", help="study.toml as init writes it, or its folder; options win over it."
    ),
]
Samples = Annotated[
    Path | None,
    typer.Option(
        "--samples", help="CSV with columns file, sample and the design; files relative to it."
    ),
]
Panel = Annotated[
    Path | None,
    typer.Option(
        "--panel", help="CSV with channel, marker, marker_class; else markers of the files."
    ),
]
Treatment = Annotated[
    str | None,
    typer.Option(
        "--treatment", help="Column of the visit, arm or dose to compare.", rich_help_panel=DESIGN
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        help="Level to compare with, of treatment (of compartment if no treatment); the first in the sheet by default.",
        rich_help_panel=DESIGN,
    ),
]
Compartment = Annotated[
    str | None,
    typer.Option(
        "--compartment",
        help="Column of the tissue; each is tested for itself, or compared if no treatment.",
        rich_help_panel=DESIGN,
    ),
]
Donor = Annotated[
    str | None,
    typer.Option(
        "--donor",
        help="Column of the patient, whose samples belong together.",
        rich_help_panel=DESIGN,
    ),
]
Covariates = Annotated[
    str | None,
    typer.Option(
        "--covariates", help="Further columns to adjust for, A,B.", rich_help_panel=DESIGN
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", "--force", help="Replace what is there.", rich_help_panel=OUTPUT),
]

Store = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Folder for a zarr store of the events: for studies larger than memory. Results do not change.",
        rich_help_panel=SCALE,
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        help="Address of a Dask scheduler whose workers do the work, as tcp://host:8786; with --store.",
        rich_help_panel=SCALE,
    ),
]
WriteFcs = Annotated[
    bool | None,
    typer.Option(
        "--fcs/--no-fcs",
        help="Whether to write FCS files with the results.",
        rich_help_panel=OUTPUT,
    ),
]


def names(text: str | None) -> tuple[str, ...] | None:
    """Split ``A,B`` into its names; None stays None."""
    if text is None:
        return None
    return tuple(part.strip() for part in text.split(",") if part.strip())
