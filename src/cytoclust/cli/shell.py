"""How commands speak: plain errors and warnings, log lines, JSON, exit codes."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

import typer
from rich.console import Console

from cytoclust.errors import CytoclustError, CytoclustWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

WRONG_INPUT: Final = 1
WRONG_COMMAND: Final = 2
NOTHING_TO_TEST: Final = 3
DEFECT: Final = 4
INTERRUPTED: Final = 130

NO_SHEET: Final = "Error: give a study.toml (or its folder), or --samples SHEET."

console = Console()
errors = Console(stderr=True)


def say(text: str, *, quiet: bool = False) -> None:
    """Print a line as it is, unless asked to be quiet."""
    if not quiet:
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_json(facts: object) -> None:
    """Print facts for scripts: NaN becomes null, what JSON does not know becomes text."""
    sys.stdout.write(json.dumps(without_nan(facts), indent=2, default=str) + "\n")


def without_nan(value: Any) -> Any:
    """Replace NaN and infinite numbers, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows as plain Python values."""
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return rows


class StderrHandler(logging.Handler):
    """Write log lines to whatever standard error is now, so that progress bars stay whole."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stderr.write(self.format(record) + "\n")


@contextmanager
def log_lines(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Show each step of a run when it is done; when verbose, all that the package logs."""
    logger = logging.getLogger("cytoclust" if verbose else "cytoclust.steps")
    handler, level = StderrHandler(), logger.level
    if not quiet:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def terminable() -> Iterator[None]:
    """Let a polite kill (SIGTERM) end a run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def plain_warnings(*, quiet: bool) -> Iterator[None]:
    """Show each of our warnings once, in one paragraph."""
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
            errors.print(
                "Warning:",
                str(message),
                style="yellow",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    with warnings.catch_warnings():
        warnings.simplefilter("always", CytoclustWarning)
        warnings.showwarning = show_plainly
        yield


def leave(text: str, code: int) -> NoReturn:
    """Print an error in one paragraph and end the command with an exit code."""
    errors.print(text, style="bold red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def plain_errors(
    *, debug: bool, quiet: bool = False, verbose: bool = False, on_interrupt: str = ""
) -> Iterator[None]:
    """Turn what goes wrong into one paragraph and an exit code; with `debug`, a traceback."""
    try:
        with plain_warnings(quiet=quiet), log_lines(quiet=quiet, verbose=verbose), terminable():
            yield
    except (CytoclustError, OSError) as error:
        if debug:
            raise
        leave(f"Error: {error}", WRONG_INPUT)
    except KeyboardInterrupt:
        told = f"Interrupted; nothing half written was left. {on_interrupt}".rstrip()
        leave(told, INTERRUPTED)
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:
        if debug:
            raise
        told = (
            f"Unexpected {type(error).__name__}: {error}. This should not happen and is worth a bug "
            "report: run the command again with --debug and send the traceback."
        )
        leave(told, DEFECT)
