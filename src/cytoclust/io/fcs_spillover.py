"""Spillover matrices in FCS keywords, matched to channels by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust.checks import matrix_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cytoclust.io.fcs_text import Keywords

MATRIX_KEYWORDS = ("$SPILLOVER", "SPILLOVER", "SPILL", "$SPILL", "$COMP", "COMP")
PAIR_KEYWORD = re.compile(r"\$DFC(\d{1,6})TO(\d{1,6})", re.IGNORECASE)
SMALLEST_RECIPROCAL_CONDITION = 1e-10


class SpilloverError(ValueError):
    """A spillover keyword that cannot be right; the text says what is wrong with it."""


def parse_spillover(
    keywords: Keywords, channels: Sequence[str], markers: Sequence[str]
) -> tuple[pd.DataFrame | None, str, str]:
    """Find and check the spillover matrix.

    Parameters
    ----------
    keywords
        All keywords of the data set.
    channels, markers
        Names of the channels, in file order.

    Returns
    -------
    The matrix labelled in channel order or None, the keyword it stands in or an empty text, and
    what is wrong with it or an empty text.
    """
    pairs = [match for key in keywords if (match := PAIR_KEYWORD.fullmatch(key.strip()))]
    for key in MATRIX_KEYWORDS:
        if keywords.text(key):
            try:
                return _matrix(keywords.text(key), channels, markers), key, ""
            except SpilloverError as problem:
                return None, key, f"{key}: {problem}"
    if not pairs:
        return None, "", ""
    try:
        return _from_pairs(keywords, pairs, channels), "$DFCmTOn", ""
    except SpilloverError as problem:
        return None, "$DFCmTOn", f"$DFCmTOn: {problem}"


def _matrix(text: str, channels: Sequence[str], markers: Sequence[str]) -> pd.DataFrame:
    tokens = [token.strip() for token in text.rstrip(", \t\r\n").split(",")]
    try:
        size = int(tokens[0])
    except ValueError:
        msg = f"starts with {tokens[0]!r}, expected the number of channels"
        raise SpilloverError(msg) from None
    if not 1 <= size <= len(channels):
        msg = f"is for {size} channels, the file has {len(channels)}"
        raise SpilloverError(msg)
    if len(tokens) == 1 + size * size and size == len(channels):
        columns, numbers = list(range(size)), tokens[1:]  # $COMP of FCS 3.0: all, by position
    else:
        if len(tokens) < 1 + size + size * size:
            msg = (
                f"says {size} channels and needs {size} names and {size * size} values, found "
                f"{len(tokens) - 1} entries"
            )
            raise SpilloverError(msg)
        names = tokens[1 : len(tokens) - size * size]
        numbers = tokens[len(tokens) - size * size :]
        names = names if len(names) == size else _rejoined(names, size, channels)
        columns = _columns(names, channels, markers)
    values = np.empty(size * size)
    for index, number in enumerate(numbers):
        try:
            values[index] = float(number)
        except ValueError:
            row, column = divmod(index, size)
            msg = f"row {row + 1}, column {column + 1} holds {number[:40]!r}, which is no number"
            raise SpilloverError(msg) from None
    return _checked(values.reshape(size, size), columns, channels)


def _from_pairs(
    keywords: Keywords, pairs: list[re.Match[str]], channels: Sequence[str]
) -> pd.DataFrame:
    size = len(channels)
    values = np.eye(size)
    involved: set[int] = set()
    for match in pairs:
        source, target = int(match[1]), int(match[2])
        try:
            percent = float(keywords.text(match[0]) or "0")
        except ValueError:
            msg = f"{match[0]} holds {keywords.text(match[0])[:40]!r}, which is no number"
            raise SpilloverError(msg) from None
        if not (1 <= source <= size and 1 <= target <= size):
            if percent == 0:  # instruments write all pairs that they could have
                continue
            msg = f"{match[0]} is {percent:g} %, but the file has only {size} channels"
            raise SpilloverError(msg)
        involved |= {source - 1, target - 1}
        if source != target:
            values[source - 1, target - 1] = percent / 100.0
    columns = sorted(involved)
    return _checked(values[np.ix_(columns, columns)], columns, channels)


def _rejoined(pieces: list[str], size: int, channels: Sequence[str]) -> list[str]:
    """Put names together that hold a comma, if that gives known channels."""
    names, index = [], 0
    known = {name.strip() for name in channels}
    while index < len(pieces):
        for length in range(1, min(8, len(pieces) - index) + 1):
            joined = ",".join(pieces[index : index + length])
            if joined in known:
                names.append(joined)
                index += length
                break
        else:
            break
    if len(names) != size or index != len(pieces):
        msg = f"says {size} channels, found {len(pieces)} names before {size * size} values"
        raise SpilloverError(msg)
    return names


def _plain(name: str) -> str:
    """Return a name without case, quotes, blanks and the marks of compensated channels."""
    text = name.split("::", maxsplit=1)[0].strip().strip("'\"<>").strip().casefold()
    text = re.sub(r"^comp[- ]", "", text)
    return re.sub(r"\s+", "", text)


def _columns(names: list[str], channels: Sequence[str], markers: Sequence[str]) -> list[int]:
    """Find the channel of each name: exact, without decoration, by marker, by number."""
    attempts: list[tuple[Callable[[str], str], Sequence[str]]] = [
        (str.strip, channels),
        (_plain, channels),
        (_plain, markers),
        (_number, [str(number + 1) for number in range(len(channels))]),
    ]
    missing = list(names)
    for clean, candidates in attempts:
        positions: dict[str, list[int]] = {}
        for index, candidate in enumerate(candidates):
            positions.setdefault(clean(candidate), []).append(index)
        found = [positions.get(clean(name), []) if name else [] for name in names]
        if all(len(places) == 1 for places in found):
            columns = [places[0] for places in found]
            if len(set(columns)) == len(columns):
                return columns
        if clean is str.strip:
            missing = [name for name, places in zip(names, found, strict=True) if not places]
    wrong = missing or names
    msg = (
        f"names {wrong[:6]} are not channels of the file, or not only one of them "
        f"({', '.join(channels[:40])})"
    )
    raise SpilloverError(msg)


def _number(name: str) -> str:
    match = re.fullmatch(r"\$?P?0*(\d+)N?", name.strip(), re.IGNORECASE)
    return match[1] if match else name


def _checked(
    values: NDArray[np.float64], columns: list[int], channels: Sequence[str]
) -> pd.DataFrame:
    order = np.argsort(columns)
    values = values[np.ix_(order, order)]
    names = [channels[columns[index]] for index in order]
    if not np.isfinite(values).all():
        msg = f"holds values that are not finite: {matrix_fault(values, names)}"
        raise SpilloverError(msg)
    singular = np.linalg.svd(values, compute_uv=False)
    if singular[-1] <= singular[0] * SMALLEST_RECIPROCAL_CONDITION:
        msg = f"is singular and cannot be inverted: {matrix_fault(values, names)}"
        raise SpilloverError(msg)
    return pd.DataFrame(values, index=names, columns=names)
