"""Sample sheet and panel: read, clean and check them before any event is read."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.checks import listing
from cytoclust.errors import StudyError

if TYPE_CHECKING:
    from os import PathLike

FILE = "file"
MARKER_CLASSES = ("type", "state", "none")
SCALES = ("linear", "transformed")
MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "<NA>", "None"})
RESERVED = frozenset(
    {schema.EVENT, schema.LEIDEN, schema.PHENOTYPE, schema.PHENOTYPE_CLUSTER}
    | {schema.PHENOTYPE_FAR, schema.QC_PASS}
    | set(schema.QC_FLAGS)
)


@dataclass
class SampleSheet:
    """Checked sample sheet: `files` in sheet order, `table` indexed by sample name."""

    files: list[Path]
    table: pd.DataFrame


def read_samples(samples: str | PathLike[str] | pd.DataFrame) -> pd.DataFrame:
    """Read and check a sample sheet, without touching the event files.

    Parameters
    ----------
    samples
        CSV file or table with the columns ``file`` and ``sample`` and any design columns.

    Returns
    -------
    One row per sample, indexed by sample name (str); the design columns are categorical, their
    levels in order of first appearance (or in the order of a categorical column given). Empty
    cells are missing values.

    Raises
    ------
    StudyError
        If a column is missing, or a sample or file is listed twice.

    Examples
    --------
    >>> import pandas as pd
    >>> import cytoclust as cc
    >>> sheet = pd.DataFrame({"file": ["a.fcs"], "sample": ["a"], "visit": ["d0"]})
    >>> cc.io.read_samples(sheet)["visit"].tolist()
    ['d0']
    """
    return read_sheet(samples).table


def read_sheet(
    samples: str | PathLike[str] | pd.DataFrame, *, sample_key: str = schema.SAMPLE
) -> SampleSheet:
    """Read the sheet; `file` counts from the sheet's folder (a table: from the working folder)."""
    if isinstance(samples, pd.DataFrame):
        where, base, cells = "the sample sheet", Path.cwd(), _text_table(samples)
    else:
        where, base, cells = str(samples), Path(samples).absolute().parent, _read_csv(samples)
    if sample_key != schema.SAMPLE and sample_key in cells:
        cells = cells.drop(columns=schema.SAMPLE, errors="ignore")
        cells = cells.rename(columns={sample_key: schema.SAMPLE})
    for column in (FILE, schema.SAMPLE):
        if column not in cells:
            msg = (
                f"{where}: column {column!r} not found; columns: {listing(cells.columns)}. "
                "Give one row per event file with the columns 'file' and 'sample'."
            )
            raise StudyError(msg)
    if cells.empty:
        msg = f"{where}: expected one row per sample, found none. Add the samples."
        raise StudyError(msg)
    _check_design_names(cells, where)
    for column in (FILE, schema.SAMPLE):
        empty = [str(row + 1) for row in np.flatnonzero(cells[column].isin(MISSING))]
        if empty:
            msg = f"{where}: {column!r} is empty in rows {listing(empty)}. Fill it in."
            raise StudyError(msg)
    _refuse_repeated(cells[schema.SAMPLE], f"{where}: sample listed more than once")
    files = [(base / name).resolve() for name in cells[FILE]]
    _refuse_repeated(
        pd.Series([str(file) for file in files]), f"{where}: file listed more than once"
    )
    table = cells.drop(columns=FILE).set_index(schema.SAMPLE)
    table.index = pd.Index([str(name) for name in table.index], name=schema.SAMPLE)
    for column in table.columns:
        given = samples[column] if isinstance(samples, pd.DataFrame) else None
        table[column] = _categories(table[column], given)
    return SampleSheet(files, table)


def _check_design_names(cells: pd.DataFrame, where: str) -> None:
    wrong = [name for name in cells.columns if name in RESERVED or "/" in name or not name]
    if wrong:
        msg = (
            f"{where}: design columns {listing(wrong)} have names that cytoclust writes itself, or "
            "that hold '/' or are empty. Rename them."
        )
        raise StudyError(msg)


def _refuse_repeated(values: pd.Series[str], message: str) -> None:
    repeated = sorted(set(values[values.duplicated()]))
    if repeated:
        msg = f"{message}: {listing(repeated)}. Give each once."
        raise StudyError(msg)


def _categories(values: pd.Series[str], given: pd.Series[str] | None) -> pd.Categorical:
    """Make levels of the sheet's text; an empty cell is a missing value."""
    text = [None if value in MISSING else value for value in values]
    present = list(dict.fromkeys(value for value in text if value is not None))
    if given is not None and isinstance(given.dtype, pd.CategoricalDtype):
        ordered = [_text(level) for level in given.cat.categories]
        present = [level for level in ordered if level in set(present)]
    return pd.Categorical(text, categories=present)


def read_panel(panel: str | PathLike[str] | pd.DataFrame) -> pd.DataFrame:
    """Read and check a panel.

    Parameters
    ----------
    panel
        CSV file or table with the columns ``channel, marker, marker_class`` and optionally
        ``scale`` and ``cofactor``.

    Returns
    -------
    Table indexed by channel: marker (str), marker_class (str), scale (str, empty where not said)
    and cofactor (float, NaN where not said).
    """
    if isinstance(panel, pd.DataFrame):
        where, cells = "the panel", _text_table(panel)
    else:
        where, cells = str(panel), _read_csv(panel)
    for column in (schema.CHANNEL, schema.MARKER, schema.MARKER_CLASS):
        if column not in cells:
            msg = (
                f"{where}: column {column!r} not found; columns: {listing(cells.columns)}. "
                "Give one row per channel with channel, marker and marker_class."
            )
            raise StudyError(msg)
    _refuse_repeated(cells[schema.CHANNEL], f"{where}: channel listed more than once")
    classes = (
        cells[schema.MARKER_CLASS]
        .str.lower()
        .where(~cells[schema.MARKER_CLASS].isin(MISSING), "none")
    )
    _refuse_unknown(classes, MARKER_CLASSES, f"{where}: unknown marker_class")
    empty = pd.Series([""] * len(cells), index=cells.index)
    scales = cells.get(schema.SCALE, empty).str.lower().where(lambda text: ~text.isin(MISSING), "")
    _refuse_unknown(scales, ("", *SCALES), f"{where}: unknown scale")
    cofactors = [
        _cofactor(text, channel, where)
        for text, channel in zip(
            cells.get(schema.COFACTOR, empty), cells[schema.CHANNEL], strict=True
        )
    ]
    return pd.DataFrame(
        {
            schema.MARKER: [str(name) for name in cells[schema.MARKER]],
            schema.MARKER_CLASS: [str(name) for name in classes],
            schema.SCALE: [str(name) for name in scales],
            schema.COFACTOR: np.array(cofactors, dtype=np.float64),
        },
        index=pd.Index([str(name) for name in cells[schema.CHANNEL]], name=schema.CHANNEL),
    )


def _refuse_unknown(values: pd.Series[str], known: tuple[str, ...], message: str) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        named = [name for name in known if name]
        msg = f"{message}: {listing(unknown)}; expected one of {listing(named)}. Correct the panel."
        raise StudyError(msg)


def _cofactor(text: str, channel: str, where: str) -> float:
    if text in MISSING:
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        msg = f"{where}: cofactor of {channel!r} must be a number above 0; found {text!r}. Correct it."
        raise StudyError(msg)
    return value


def _text_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as text without blanks around it; missing values are empty."""
    columns = {str(name).strip(): [_text(v) for v in table[name]] for name in table.columns}
    return pd.DataFrame(columns, dtype="object" if not columns else None)


def _text(value: object) -> str:
    """Return a cell as text; 7.0 is 7, as pandas makes numbers with an empty cell between them."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:  # noqa: PLR0124
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _read_csv(path: str | PathLike[str]) -> pd.DataFrame:
    """Read a small CSV as text: any of , ; and tab between cells, blanks and byte order mark off."""
    source = Path(path)
    if not source.is_file():
        msg = f"{source}: no such file. Give the path of a CSV file, or a DataFrame."
        raise StudyError(msg)
    raw = source.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    first_line = text.lstrip().splitlines()[0] if text.strip() else ""
    separator = max(",;\t", key=first_line.count)
    rows = [
        [cell.strip() for cell in row]
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    ]
    rows = [row for row in rows if any(row)]
    if not rows:
        msg = f"{source}: expected a header line and rows, found nothing. Give a CSV file."
        raise StudyError(msg)
    header, body = rows[0], rows[1:]
    if len(set(header)) < len(header):
        repeated = sorted({name for name in header if header.count(name) > 1})
        msg = f"{source}: column names come more than once: {listing(repeated)}. Rename them."
        raise StudyError(msg)
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            msg = (
                f"{source}: row {number} has {len(row)} cells, the header has {len(header)}. "
                "Quote values that hold the separator."
            )
            raise StudyError(msg)
    return pd.DataFrame(body, columns=header)
