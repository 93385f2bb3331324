"""Read FCS files: every event of every data set, exactly, or a clear error."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from cytoclust.checks import check_one_of
from cytoclust.errors import FcsWarning
from cytoclust.io.fcs_data import AsciiError, decode_events, decoded_dtype
from cytoclust.io.fcs_layout import Layout, channel_count, channel_range, read_layout
from cytoclust.io.fcs_loading import count_not_finite, mapped
from cytoclust.io.fcs_locate import Located, locate_data
from cytoclust.io.fcs_scaling import Scaling, scalings
from cytoclust.io.fcs_spillover import parse_spillover
from cytoclust.io.fcs_text import Keywords, Segments, read_segments

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator
    from os import PathLike

    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class FcsDataset:
    """One data set of an FCS file.

    Attributes
    ----------
    events
        Values (n_events, n_channels) as stored, or scaled if that was asked for. Memory-mapped and
        read-only where the layout in the file allows it.
    channels, markers
        $PnN and $PnS as written, without blanks at their ends; empty where missing.
    keywords
        All keywords as written; look-up ignores case.
    spillover
        Spillover matrix labelled in channel order (rows are fluorochromes), or None.
    spillover_keyword
        The keyword it stands in, ``"$DFCmTOn"`` for that family, empty if there is none.
    spillover_problem
        Why the matrix in the file cannot be used, naming the keyword; empty if nothing is wrong.
    ranges
        $PnR (n_channels,), NaN where missing.
    version
        Version in HEADER, such as ``"FCS3.1"``.
    path
        The file, as given.
    oddities
        What was odd about the file, one text each; each was also given as `FcsWarning`.
    scaling
        What scaling was applied, one text per channel; empty if none.
    n_missing
        Events that the file declares but does not hold (``on_truncated="keep"``).
    """

    events: NDArray[Any]
    channels: tuple[str, ...]
    markers: tuple[str, ...]
    keywords: Keywords
    spillover: pd.DataFrame | None
    spillover_keyword: str
    spillover_problem: str
    ranges: NDArray[np.float64]
    version: str
    path: str
    oddities: tuple[str, ...] = ()
    scaling: tuple[str, ...] = ()
    n_missing: int = 0

    @property
    def n_events(self) -> int:
        """Number of events."""
        return len(self.events)

    @property
    def timestep(self) -> float:
        """Seconds per unit of the time channel ($TIMESTEP), NaN where not given."""
        try:
            return float(self.keywords.text("$TIMESTEP"))
        except ValueError:
            return float("nan")


@dataclass
class FcsHeader:
    """Everything of a data set but its events: cheap to read, and enough to check a study."""

    segments: Segments
    layout: Layout
    located: Located
    channels: tuple[str, ...]
    markers: tuple[str, ...]
    ranges: NDArray[np.float64]
    spillover: pd.DataFrame | None = None
    spillover_keyword: str = ""
    spillover_problem: str = ""
    oddities: list[str] = field(default_factory=list)
    has_next: bool = False


def read_fcs_datasets(
    path: str | PathLike[str],
    *,
    scale: bool = False,
    time_step: bool = False,
    on_truncated: Literal["error", "keep"] = "error",
) -> list[FcsDataset]:
    """Read every data set of an FCS file (2.0, 3.0, 3.1 or 3.2).

    Parameters
    ----------
    path
        The file.
    scale
        Apply the amplification of $PnE (integer data only) and the gain of $PnG, as the standard
        says; the events are float64 then. Without it, values are given as stored.
    time_step
        Multiply the time channel by $TIMESTEP, which gives seconds; implies nothing else.
    on_truncated
        ``"keep"`` reads the whole events of a file that ends too early, with a warning.

    Returns
    -------
    One `FcsDataset` per data set, in file order.

    Raises
    ------
    FcsFormatError
        If the file cannot be decoded; the text names file, segment and keyword.

    Warns
    -----
    FcsWarning
        If something in the file was odd, such as offsets that disagree or values that are NaN.

    Notes
    -----
    Integers are masked to the bits that $PnR needs. Where HEADER and TEXT disagree on where DATA
    lies, the place is taken that lies outside TEXT, in the file, fits $TOT and keeps to $PnR.
    Memory is bounded by the bytes present, whatever $TOT and $PAR say.

    References
    ----------
    Spidlen J et al. Data File Standard for Flow Cytometry, version FCS 3.2.
    Cytometry A 2021. doi:10.1002/cyto.a.24225

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import cytoclust as cc
    >>> from cytoclust.io.fcs_writing import write_fcs_file
    >>> folder = tempfile.mkdtemp()
    >>> write_fcs_file(f"{folder}/two_events.fcs", np.eye(2), ["FSC-A", "SSC-A"])
    >>> cc.io.read_fcs_datasets(f"{folder}/two_events.fcs")[0].channels
    ('FSC-A', 'SSC-A')
    """
    check_one_of("on_truncated", on_truncated, ("error", "keep"))
    name = str(path)
    datasets: list[FcsDataset] = []
    with Path(path).open("rb") as file:
        content = mapped(file)
        for header in _headers(file, name, keep=on_truncated == "keep"):
            dataset = _dataset(content, header, name, scale=scale, time_step=time_step)
            datasets.append(dataset)
            for oddity in dataset.oddities:
                warnings.warn(f"{name}: {oddity}", FcsWarning, stacklevel=2)
    return datasets


def read_header(path: str | PathLike[str], *, on_truncated: str = "error") -> FcsHeader:
    """Read all but the events of the first data set; oddities are kept, not warned of."""
    with Path(path).open("rb") as file:
        return next(_headers(file, str(path), keep=on_truncated == "keep"))


def read_headers(path: str | PathLike[str], *, on_truncated: str = "error") -> list[FcsHeader]:
    """Read all but the events of each data set; oddities are kept, not warned of."""
    with Path(path).open("rb") as file:
        return list(_headers(file, str(path), keep=on_truncated == "keep"))


def _headers(file: BinaryIO, name: str, *, keep: bool) -> Iterator[FcsHeader]:
    """Read the headers of the data sets, one after the other."""
    file_size = file.seek(0, 2)
    start: int | None = 0
    while start is not None:
        segments = read_segments(file, name, start=start, file_size=file_size)
        n_channels = channel_count(segments)
        layout = read_layout(segments, n_channels)
        located = locate_data(file, segments, layout, keep=keep)
        start = _next_start(file, segments, located, file_size=file_size)
        header = _header(segments, located)
        header.has_next = start is not None
        yield header


def _header(segments: Segments, located: Located) -> FcsHeader:
    keywords = segments.keywords
    numbers = range(1, located.layout.n_channels + 1)
    channels = tuple(keywords.text(f"$P{number}N") for number in numbers)
    markers = tuple(keywords.text(f"$P{number}S") for number in numbers)
    oddities = list(segments.oddities)
    unnamed = [number for number, channel in zip(numbers, channels, strict=True) if not channel]
    if unnamed:
        oddities.append(f"$P{unnamed[0]}N is missing ({len(unnamed)} channels have no name)")
    repeated = sorted(name for name, count in Counter(channels).items() if name and count > 1)
    if repeated:
        oddities.append(f"$PnN: channel names come more than once: {repeated}")
    unranged = [
        number
        for number, kind in zip(numbers, located.layout.kinds, strict=True)
        if kind != "I" and not keywords.text(f"$P{number}R")
    ]
    if unranged:
        oddities.append(f"$P{unranged[0]}R is missing ({len(unranged)} channels have no range)")
    if located.missing:
        oddities.append(
            f"DATA is cut short: {located.missing} of {located.missing + located.n_events} "
            "declared events are missing; the whole ones are read"
        )
    matrix, keyword, problem, conflict = parse_spillover(keywords, channels, markers)
    if conflict:
        oddities.append(conflict)
    if problem:
        oddities.append(f"{problem}; the events are read, compensation with it is refused")
    ranges = np.array([channel_range(segments, number) for number in numbers])
    return FcsHeader(
        segments,
        located.layout,
        located,
        channels,
        markers,
        ranges,
        matrix,
        keyword,
        problem,
        oddities,
    )


def _next_start(
    file: BinaryIO, segments: Segments, located: Located, *, file_size: int
) -> int | None:
    """Return where the next data set begins, None if this is the last."""
    written = segments.keywords.text("$NEXTDATA")
    offset = segments.keywords.integer("$NEXTDATA")
    if offset == 0 or not written:
        return None
    used = max([stop + 1 for _, stop in segments.text_spans] + [located.begin + located.length])
    if offset is not None and offset > 0:
        # relative by the standard, from the start of the file in some
        for start in (segments.start + offset, offset):
            if not segments.start < start < file_size:
                continue
            file.seek(start)
            if not re.fullmatch(rb"FCS\d\.\d", file.read(6)):
                continue
            if start < segments.start + used - 1:
                detail = (
                    f"$NEXTDATA {written} points to a data set that begins inside this one, which "
                    f"reaches to byte {used - 1}. $TOT, $ENDDATA or $NEXTDATA is wrong."
                )
                raise segments.fail(detail, segment="TEXT")
            return start
    segments.oddities.append(
        f"$NEXTDATA is {written!r}, but no data set begins there; {segments.start} is taken as "
        "the last one"
    )
    return None


def _dataset(
    buffer: mmap.mmap | bytes, header: FcsHeader, name: str, *, scale: bool, time_step: bool
) -> FcsDataset:
    segments, located = header.segments, header.located
    begin = segments.start + located.begin
    raw = memoryview(buffer)[begin : begin + located.length]
    try:
        events = stored = decode_events(raw, located.n_events, header.layout)
    except AsciiError as problem:
        detail = f"$DATATYPE A from $BEGINDATA {located.begin}: {problem}."
        raise segments.fail(detail, segment="DATA") from None
    oddities = [*header.oddities, *_value_oddities(events, header)]
    applied: list[Scaling] = []
    if scale or time_step:
        applied = scalings(
            header.channels, segments.keywords, header.layout, scale=scale, time_step=time_step
        )
        with np.errstate(invalid="ignore"):  # signalling NaN
            events = stored.astype(np.float64)
        for scaling in applied:
            events[:, scaling.column] = scaling.apply(stored[:, scaling.column])
    return FcsDataset(
        events=events,
        channels=header.channels,
        markers=header.markers,
        keywords=segments.keywords,
        spillover=header.spillover,
        spillover_keyword=header.spillover_keyword,
        spillover_problem=header.spillover_problem,
        ranges=header.ranges,
        version=segments.version,
        path=name,
        oddities=tuple(oddities),
        scaling=tuple(scaling.text for scaling in applied),
        n_missing=located.missing,
    )


def not_finite(count: int) -> str:
    """Say how many values are NaN or infinite."""
    return f"DATA: {count} values are NaN or infinite; they are kept"


def _value_oddities(events: NDArray[Any], header: FcsHeader) -> list[str]:
    found = []
    counted = count_not_finite(events)
    if counted:
        found.append(not_finite(counted))
    wide = max(header.layout.significant) > 53 and "I" in header.layout.kinds
    if wide and decoded_dtype(header.layout).kind == "f" and (np.abs(events) > 2.0**53).any():
        found.append("DATA: integers above 2^53 beside floating-point channels are rounded")
    return found
