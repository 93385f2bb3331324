"""The application: every command, in the order a study needs them."""

from __future__ import annotations

from typing import Annotated

import typer

from cytoclust.cli import inspecting, looking, mapping, working

app = typer.Typer(
    help="From the FCS files of a clinical study to named cell populations and tested answers.",
    epilog=(
        "A study in three commands:  cytoclust init FOLDER  ·  cytoclust design FOLDER  ·  cytoclust run FOLDER. "
        "Exit codes: 0 done, 1 input or output not as it must be, 2 wrong command line, 3 nothing to test, "
        "4 a defect, 130 interrupted."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def show_version(value: bool) -> None:  # noqa: FBT001, a callback of typer
    """Print the version and leave."""
    if value:
        from cytoclust import __version__

        typer.echo(f"cytoclust {__version__}")
        raise typer.Exit


@app.callback()
def face(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Take what belongs to no command."""


app.command()(looking.init)
app.command()(looking.design)
app.command()(inspecting.inspect)
app.command()(working.run)
app.command()(working.report)
app.command("map")(mapping.map_samples)
app.command()(working.demo)


def main() -> None:
    """Run the command line."""
    app()
