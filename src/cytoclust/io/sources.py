"""One event file of a study, whatever its format: what it holds, and its values on request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cytoclust.checks import listing
from cytoclust.errors import StudyError
from cytoclust.io.channels import unique_names
from cytoclust.io.fcs import FcsHeader, read_header
from cytoclust.io.fcs_loading import Loaded, count_not_finite, load_fcs
from cytoclust.io.fcs_scaling import amplification, logarithmic, unlogging
from cytoclust.io.tables import TABLE_SUFFIXES, read_event_table

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray


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


def open_source(path: Path, *, on_truncated: str = "error") -> Source:
    """Read what a file says about its events; tables are read as a whole."""
    if not path.is_file():
        msg = f"{path}: no such file. Correct the sample sheet, or put the file there."
        raise StudyError(msg)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return _open_table(path)
    header = read_header(path, on_truncated=on_truncated)
    keywords = header.segments.keywords
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
    if source.header is not None:
        keywords, layout = source.header.segments.keywords, source.header.layout
        logs = [unlogging(keywords, column) for column in logarithmic(keywords, layout)]
        return load_fcs(source.path, source.header, out, columns=columns, scalings=logs)
    with source.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if source.table is not None:
        out[:] = source.table[:, columns]
    return Loaded(digest, count_not_finite(out), [])
