"""Event tables: CSV and Parquet files with one column per channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust.checks import listing
from cytoclust.errors import StudyError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".pq")


def read_event_table(path: Path) -> tuple[list[str], NDArray[np.float32], list[str]]:
    """Read an event table.

    Parameters
    ----------
    path
        CSV (cells separated by commas, semicolons or tabs) or Parquet file.

    Returns
    -------
    Channel names, values (n_events, n_channels), and the columns left out because they hold text.
    """
    frame = _read_parquet(path) if path.suffix.lower() in {".parquet", ".pq"} else _read_csv(path)
    names = [str(name).strip() for name in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        msg = f"{path}: columns come more than once: {listing(repeated)}. Rename them."
        raise StudyError(msg)
    numeric = [
        position
        for position, dtype in enumerate(frame.dtypes)
        if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
    ]
    if not numeric:
        msg = f"{path}: no column holds numbers; columns: {listing(names)}. Give an event table."
        raise StudyError(msg)
    values = np.empty((len(frame), len(numeric)), dtype=np.float32)
    for column, position in enumerate(numeric):
        values[:, column] = frame.iloc[:, position].to_numpy(dtype=np.float64, na_value=np.nan)
    left_out = [name for position, name in enumerate(names) if position not in set(numeric)]
    return [names[position] for position in numeric], values, left_out


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa

    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        msg = f"{path}: not a readable Parquet file ({error}). Write the event table again."
        raise StudyError(msg) from None


def _read_csv(path: Path) -> pd.DataFrame:
    with path.open("rb") as file:
        start = file.read(1 << 16)
    first_line = start.decode("utf-8-sig", errors="replace").splitlines()[:1]
    if not first_line or not first_line[0].strip():
        msg = f"{path}: expected a header line with channel names, found none. Export it again."
        raise StudyError(msg)
    separator = max(",;\t", key=first_line[0].count)
    options: dict[str, Any] = {"sep": separator, "encoding": "utf-8-sig", "skipinitialspace": True}
    try:
        return pd.read_csv(path, **options)
    except (pd.errors.ParserError, UnicodeDecodeError, ValueError) as error:
        msg = f"{path}: not a readable event table ({error}). Export it again."
        raise StudyError(msg) from None
