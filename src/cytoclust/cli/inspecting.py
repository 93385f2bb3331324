"""The command ``inspect``: what FCS files say, and what is odd about them."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003, typer reads the annotations
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cytoclust.cli import options  # noqa: TC001, typer reads the annotations
from cytoclust.cli.shell import (
    WRONG_INPUT,
    console,
    errors,
    leave,
    plain_errors,
    print_json,
    say,
)
from cytoclust.errors import FcsFormatError

COLUMNS = ("number", "channel", "marker", "type", "bits", "range", "scale", "minimum", "maximum")
NUMBERS = frozenset({"number", "bits", "range", "minimum", "maximum"})
NARROWEST = 100


def inspect(
    files: Annotated[list[Path], typer.Argument(help="FCS files.")],
    *,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Show version, instrument, events, channels, spillover and every oddity of FCS files.

    A file that cannot be read is named with what is wrong about it, the others are shown, and the
    command leaves with 1.

    Example:  cytoclust inspect data/*.fcs --json
    """
    from cytoclust import io

    found: list[dict[str, Any]] = []
    with plain_errors(debug=debug):
        for path in files:
            try:
                facts = io.describe_fcs(path)
            except (FcsFormatError, OSError) as error:
                if debug:
                    raise
                facts = {"file": str(path), "error": str(error)}
            found.append(facts)
            if not as_json:
                show_file(facts)
        if as_json:
            print_json(found)
        elif len(files) > 1:
            show_summary(found)
        wrong = sum("error" in facts for facts in found)
        if wrong:
            leave(f"{wrong} of {len(found)} files cannot be read.", WRONG_INPUT)


def show_file(facts: dict[str, Any]) -> None:
    """Print one file: a few lines, the channels as a table, the oddities."""
    if "error" in facts:
        errors.print(
            "Error:",
            facts["error"],
            style="bold red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return
    console.print(facts["file"], style="bold", markup=False, highlight=False, soft_wrap=True)
    data_sets = [facts, *facts["further_data_sets"]]
    for number, data_set in enumerate(data_sets, start=1):
        if len(data_sets) > 1:
            say(f"\nData set {number} of {len(data_sets)}")
        show_data_set(data_set)
    for oddity in facts["oddities"]:
        console.print(
            f"  ! {oddity}", style="yellow", markup=False, highlight=False, soft_wrap=True
        )
    say("" if facts["oddities"] else "  nothing odd\n")


def show_data_set(facts: dict[str, Any]) -> None:
    """Print the facts of one data set."""
    events = f"{facts['events']:,}"
    if facts["missing_events"]:
        events += f" ({facts['missing_events']:,} declared events are missing)"
    span = facts["time_span_seconds"]
    lines = {
        "version": facts["version"],
        "instrument": facts["instrument"],
        "sample": facts["sample"],
        "date": facts["date"],
        "data type": facts["data_type"],
        "events": events,
        "time span": "" if span is None else f"{span:,.6g} s ({facts['time_span_source']})",
        "spillover": spillover_line(facts["spillover"]),
    }
    for label, text in lines.items():
        say(f"  {label:<11} {text or 'not given'}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in COLUMNS:
        table.add_column(
            "#" if column == "number" else column,
            justify="right" if column in NUMBERS else "left",
            overflow="fold",
            no_wrap=column in {"number", "type", "bits"},
        )
    for channel in facts["channels"]:
        table.add_row(*(cell(channel[column]) for column in COLUMNS))
    print_table(table)


def print_table(table: Table) -> None:
    """Print a table; a pipe or a narrow window must not cut numbers off."""
    Console(width=max(console.width, NARROWEST)).print(table, highlight=False)


def spillover_line(spillover: dict[str, Any] | None) -> str:
    """Say which matrix a file holds, or why it cannot be used."""
    if spillover is None:
        return "none"
    if spillover["problem"]:
        return f"cannot be used: {spillover['problem']}"
    names = spillover["channels"]
    return f"{spillover['keyword']}, {len(names)} channels: {', '.join(names)}"


def cell(value: object) -> str:
    """Return a fact as text; numbers with as many digits as one can take in."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return escape(str(value))
    if value.is_integer() and abs(value) < 1e12:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if 1e4 <= abs(value) < 1e12 else f"{value:.6g}"


def show_summary(found: list[dict[str, Any]]) -> None:
    """Print one line per file: how many events and channels, how much is odd."""
    table = Table(title="Summary", box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for column in ("file", "version", "events", "channels", "spillover", "oddities"):
        right = column in {"events", "channels", "oddities"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for facts in found:
        if "error" in facts:
            table.add_row(escape(facts["file"]), "cannot be read", "", "", "", "")
            continue
        spillover = facts["spillover"]
        state = "none" if spillover is None else "unusable" if spillover["problem"] else "yes"
        table.add_row(
            escape(facts["file"]),
            facts["version"],
            f"{facts['events']:,}",
            str(len(facts["channels"])),
            state,
            str(len(facts["oddities"])),
        )
    print_table(table)
