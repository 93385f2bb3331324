"""One event file of a study, whatever its format: what it holds, and its values on request."""

from __future__ import annotations

import hashlib
import mmap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cytoclust.checks import listing
from cytoclust.errors import FcsFormatError, StudyError
from cytoclust.io.channels import unique_names
from cytoclust.io.fcs import FcsHeader, count_not_finite, dataset_from_bytes, read_header
from cytoclust.io.fcs_scaling import amplification, logarithmic, unlogged
from cytoclust.io.tables import TABLE_SUFFIXES, read_event_table

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

ROWS_AT_ONCE = 1 << 15


@dataclass
class Source:
    """An event file: what its header says. Values are linear, as acquired."""

    path: Path
    channels: list[str]
    written: list[str]
    markers: list[str]
    n_events: int
    ranges: NDArray[np.float64]
    timestep: float = float("nan")
    spillover: pd.DataFrame | None = None
    spillover_problem: str = ""
    oddities: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    header: FcsHeader | None = None
    table: NDArray[np.float32] | None = None


@dataclass
class Loaded:
    """What was learned while the events of a file were read."""

    sha256: str
    n_not_finite: int


def open_source(path: Path, *, on_truncated: str = "error") -> Source:
    """Read what a file says about its events; tables are read as a whole."""
    if not path.is_file():
        msg = f"{path}: no such file. Correct the sample sheet, or put the file there."
        raise StudyError(msg)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return _open_table(path)
    header = read_header(path, on_truncated=on_truncated)
    keywords = header.segments.keywords
    if header.located.n_events < 0:
        msg = (
            f"{path}: TEXT: $TOT is missing, and values of free width cannot be counted without it."
        )
        raise FcsFormatError(msg)
    channels = unique_names(header.channels)
    ranges = header.ranges.copy()
    notes = []
    logs = logarithmic(keywords, header.layout)
    for column in logs:
        decades, offset = amplification(keywords, column + 1)
        ranges[column] = offset * 10.0**decades
    if logs:
        named = listing(channels[column] for column in logs)
        notes.append(f"channels {named} are stored as logarithms ($PnE); read as linear values")
    if header.has_next:
        notes.append("the file holds further data sets ($NEXTDATA); only the first is read")
    try:
        timestep = float(keywords.text("$TIMESTEP"))
    except ValueError:
        timestep = float("nan")
    return Source(
        path,
        channels,
        list(header.channels),
        list(header.markers),
        header.located.n_events,
        ranges,
        timestep=timestep,
        spillover=_renamed(header.spillover, header.channels, channels),
        spillover_problem=header.spillover_problem,
        oddities=list(header.oddities),
        notes=notes,
        header=header,
    )


def _renamed(
    matrix: pd.DataFrame | None, written: tuple[str, ...], unique: list[str]
) -> pd.DataFrame | None:
    """Label a matrix with unique names; names that come twice never get into one."""
    if matrix is None:
        return None
    names = dict(zip(written, unique, strict=True))
    return matrix.rename(index=names, columns=names)


def _open_table(path: Path) -> Source:
    channels, values, left_out = read_event_table(path)
    notes = [f"columns {listing(left_out)} hold text and are no channels"] if left_out else []
    return Source(
        path,
        channels,
        channels,
        list(channels),
        len(values),
        np.full(len(channels), np.nan),
        notes=notes,
        table=values,
    )


def load_source(source: Source, out: NDArray[np.float32], channels: list[str]) -> Loaded:
    """Write the values of `channels` to `out` (n_events, n_channels), and take the SHA-256."""
    columns = [source.channels.index(name) for name in channels]
    with source.path.open("rb") as file:
        if source.header is None:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if source.table is not None:
                out[:] = source.table[:, columns]
        else:
            content = _content(file)
            digest = hashlib.sha256(content).hexdigest()
            _decode_into(source, source.header, content, out=out, columns=columns)
    return Loaded(digest, count_not_finite(out))


def _content(file: Any) -> mmap.mmap | bytes:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (ValueError, OSError):
        return bytes(file.read())


def _decode_into(
    source: Source,
    header: FcsHeader,
    content: mmap.mmap | bytes,
    *,
    out: NDArray[np.float32],
    columns: list[int],
) -> None:
    needed = header.segments.start + header.located.begin + header.located.length
    if len(content) < needed:
        msg = f"{source.path}: DATA: the file became shorter while it was read; read it again."
        raise FcsFormatError(msg)
    dataset = dataset_from_bytes(content, header, str(source.path))
    events = dataset.events
    if len(events) != len(out):
        msg = (
            f"{source.path}: DATA: {len(events)} events, {len(out)} declared by $TOT; "
            "give $TOT, or a file of fixed-width values."
        )
        raise FcsFormatError(msg)
    in_order = columns == list(range(events.shape[1]))
    keywords = header.segments.keywords
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite and is counted
        for start in range(0, len(out), ROWS_AT_ONCE):
            block = events[start : start + ROWS_AT_ONCE]
            out[start : start + ROWS_AT_ONCE] = block if in_order else block[:, columns]
    for column in logarithmic(keywords, header.layout):
        if column in columns:
            linear, _ = unlogged(events[:, column], keywords, column)
            out[:, columns.index(column)] = linear
