"""Write events as an FCS 3.1 file: float32, little endian, list mode."""

from __future__ import annotations

import re
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from cytoclust.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

HEADER_LENGTH = 58
TEXT_START = 64
LARGEST_HEADER_OFFSET = 99_999_999
DEFAULT_RANGE = 262_144
ROWS_PER_WRITE = 1 << 16
DELIMITERS = "|/\\\f!~\x1e"
# keywords that describe this file's own layout; those of a source file would be wrong in it
LAYOUT_KEYWORD = re.compile(
    r"\$(?:(?:BEGIN|END)(?:DATA|STEXT|ANALYSIS)|BYTEORD|DATATYPE|MODE|NEXTDATA|PAR|TOT|UNICODE"
    r"|P\d+(?:B|E|N|R|S|DATATYPE))",
    re.IGNORECASE,
)
SPILLOVER_KEYWORD = re.compile(r"\$?SPILL(?:OVER)?|\$?COMP|\$DFC\d+TO\d+", re.IGNORECASE)


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` at the end, remove it on failure."""
    target = Path(path)
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_fcs_file(
    path: str | PathLike[str],
    events: ArrayLike,
    channels: Sequence[str],
    *,
    markers: Sequence[str] | None = None,
    keywords: Mapping[str, str] | None = None,
    spillover: tuple[Sequence[str], ArrayLike] | None = None,
    ranges: Sequence[float] | NDArray[Any] | None = None,
) -> None:
    """Write one data set as an FCS 3.1 file.

    The file is written beside `path` and renamed, so that an interrupted run leaves no half file.

    Parameters
    ----------
    path
        File to write; replaced if it exists.
    events
        Linear values (n_events, n_channels), stored as float32.
    channels
        Unique channel names ($PnN), one per column.
    markers
        Marker names ($PnS); an empty one is left out.
    keywords
        Further keywords. Those that describe the layout of a file ($TOT, $PnB, $BEGINDATA, ...)
        are left out, and so are spillover keywords if `spillover` is given.
    spillover
        Channel names and matrix (rows are fluorochromes), written as $SPILLOVER.
    ranges
        Upper bound of each channel ($PnR); 262,144 or the largest value where NaN or not given.

    Raises
    ------
    ArgumentError
        If shapes, names or keywords cannot be written as FCS.

    Notes
    -----
    Offsets above 99,999,999 bytes do not fit HEADER; it holds 0 then, and TEXT the offset. Without
    events, DATA ends a byte before it begins, which other readers take as empty.
    The TEXT delimiter is one that no value holds; where all occur, it is doubled inside values.

    References
    ----------
    Spidlen J et al. Data File Standard for Flow Cytometry, version FCS 3.1.
    Cytometry A 2010. doi:10.1002/cyto.a.20825

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from cytoclust.io.fcs_writing import write_fcs_file
    >>> folder = tempfile.mkdtemp()
    >>> write_fcs_file(f"{folder}/two_events.fcs", np.eye(2), ["FSC-A", "SSC-A"])
    """
    values = np.asarray(events)
    _check_arguments(values, channels, markers)
    n_events, n_channels = values.shape
    upper = _upper_bounds(values, ranges)
    pairs: dict[str, str] = {}
    for index, channel in enumerate(channels):
        number = index + 1
        pairs[f"$P{number}N"] = channel
        if markers is not None and markers[index].strip():
            pairs[f"$P{number}S"] = markers[index]
        pairs[f"$P{number}B"] = "32"
        pairs[f"$P{number}E"] = "0,0"
        pairs[f"$P{number}R"] = str(upper[index])
    if spillover is not None:
        pairs["$SPILLOVER"] = format_spillover(spillover[0], spillover[1], channels)
    for key, value in (keywords or {}).items():
        if LAYOUT_KEYWORD.fullmatch(key) or (spillover and SPILLOVER_KEYWORD.fullmatch(key)):
            continue
        pairs[_checked_keyword(key)] = value
    fixed = {
        "$BEGINANALYSIS": "0",
        "$ENDANALYSIS": "0",
        "$BEGINSTEXT": "0",
        "$ENDSTEXT": "0",
        "$BYTEORD": "1,2,3,4",
        "$DATATYPE": "F",
        "$MODE": "L",
        "$NEXTDATA": "0",
        "$PAR": str(n_channels),
        "$TOT": str(n_events),
    }
    head = _header_and_text(fixed | pairs, values.size * 4)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(head)
        _write_rows(file, values)
        file.write(b"00000000")  # no CRC


def format_spillover(
    names: Sequence[str], matrix: ArrayLike, channels: Sequence[str] | None = None
) -> str:
    """Return a spillover matrix as the text of $SPILLOVER."""
    values = np.asarray(matrix, dtype=np.float64)
    size = len(names)
    if values.shape != (size, size):
        msg = (
            f"spillover has {size} channel names and a matrix of shape {values.shape}; "
            "give one row and one column per name."
        )
        raise ArgumentError(msg)
    unknown = [name for name in names if channels is not None and name not in set(channels)]
    with_comma = [name for name in names if "," in name]
    if unknown or with_comma:
        msg = (
            f"spillover names {unknown + with_comma} are not channels, or hold a comma, which FCS "
            "does not allow there; use the names of `channels`, without commas."
        )
        raise ArgumentError(msg)
    numbers = [repr(float(value)) for value in values.ravel()]
    return ",".join([str(size), *names, *numbers])


def _check_arguments(
    values: NDArray[Any], channels: Sequence[str], markers: Sequence[str] | None
) -> None:
    if values.ndim != 2 or values.shape[1] != len(channels) or values.dtype.kind not in "fiub":
        msg = (
            f"events must be numbers of shape (n_events, {len(channels)}), one column per channel; "
            f"got {values.dtype} of shape {values.shape}."
        )
        raise ArgumentError(msg)
    if markers is not None and len(markers) != len(channels):
        msg = f"markers must have one entry per channel ({len(channels)}); got {len(markers)}."
        raise ArgumentError(msg)
    repeated = sorted({name for name in channels if list(channels).count(name) > 1})
    if repeated or not all(name.strip() for name in channels):
        msg = (
            f"channels must be unique and not empty; repeated: {repeated}. "
            "FCS 3.1 needs a different $PnN for each channel; rename them."
        )
        raise ArgumentError(msg)


def _upper_bounds(values: NDArray[Any], ranges: Sequence[float] | NDArray[Any] | None) -> list[int]:
    n_channels = values.shape[1]
    given = np.full(n_channels, np.nan) if ranges is None else np.asarray(ranges, dtype=np.float64)
    if given.shape != (n_channels,):
        msg = f"ranges must have one entry per channel ({n_channels}); got shape {given.shape}."
        raise ArgumentError(msg)
    bounds = []
    for index, bound in enumerate(given):
        if np.isfinite(bound) and bound >= 1:
            bounds.append(int(np.ceil(bound)))
            continue
        column = values[:, index]
        largest = float(np.max(column, initial=0, where=np.isfinite(column)))
        bounds.append(max(DEFAULT_RANGE, int(np.ceil(largest)) + 1))
    return bounds


def _checked_keyword(key: str) -> str:
    if not key or not key.isprintable():
        msg = f"keyword {key!r} cannot stand in an FCS file; use printable characters."
        raise ArgumentError(msg)
    return key


def _header_and_text(pairs: Mapping[str, str], data_length: int) -> bytes:
    """Return everything before DATA; the offsets in TEXT change its own length, so repeat."""
    begin, end = 0, 0
    while True:
        offsets = {"$BEGINDATA": str(begin), "$ENDDATA": str(end)}
        text = _text_segment(offsets | dict(pairs))
        text_end = TEXT_START + len(text) - 1
        if text_end > LARGEST_HEADER_OFFSET:
            msg = f"the keywords need {len(text)} bytes; TEXT must end before 99,999,999."
            raise ArgumentError(msg)
        new_begin = (text_end // 8 + 1) * 8  # aligned, so that the events can be memory-mapped
        new_end = new_begin + data_length - 1
        if (new_begin, new_end) == (begin, end):
            break
        begin, end = new_begin, new_end
    in_header = (begin, end) if end <= LARGEST_HEADER_OFFSET else (0, 0)
    numbers = (TEXT_START, text_end, *in_header, 0, 0)
    header = "FCS3.1    " + "".join(f"{number:>8}" for number in numbers)
    return header.encode("ascii").ljust(TEXT_START) + text + b" " * (begin - text_end - 1)


def _text_segment(pairs: Mapping[str, str]) -> bytes:
    # an empty value would read as an escaped delimiter
    items = [item or " " for pair in pairs.items() for item in pair]
    joined = "".join(items)
    unused = [candidate for candidate in DELIMITERS if candidate not in joined]
    delimiter = unused[0] if unused else DELIMITERS[0]
    if not unused:
        items = [_escaped(item, delimiter) for item in items]
    return (delimiter + delimiter.join(items) + delimiter).encode("utf-8")


def _escaped(item: str, delimiter: str) -> str:
    # at either end a doubled delimiter would merge with the one that separates
    padded = f" {item}" if item.startswith(delimiter) else item
    padded = f"{padded} " if padded.endswith(delimiter) else padded
    return padded.replace(delimiter, delimiter * 2)


def _write_rows(file: BinaryIO, values: NDArray[Any]) -> None:
    for start in range(0, len(values), ROWS_PER_WRITE):
        block = np.ascontiguousarray(values[start : start + ROWS_PER_WRITE], dtype="<f4")
        file.write(block.data)
