"""Spillover matrices in FCS keywords, matched to channels by name."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust.checks import matrix_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cytoclust.io.fcs_text import Keywords

MATRIX_KEYWORDS = ("$SPILLOVER", "SPILLOVER", "SPILL", "$SPILL", "$COMP", "COMP")
PAIRS = "$DFCmTOn"
PAIR_KEYWORD = re.compile(r"\$DFC(\d{1,6})TO(\d{1,6})", re.IGNORECASE)
SMALLEST_RECIPROCAL_CONDITION = 1e-10
LARGEST_MATRIX = 1000  # channels; a matrix of channels that are named only once each could be huge
LARGEST_DIAGONAL_ERROR = 0.05


class SpilloverError(ValueError):
    """A spillover keyword that cannot be right; the text says what is wrong with it."""


def parse_spillover(
    keywords: Keywords, channels: Sequence[str], markers: Sequence[str]
) -> tuple[pd.DataFrame | None, str, str, str]:
    """Find and check the spillover matrix.

    Parameters
    ----------
    keywords
        All keywords of the data set.
    channels, markers
        Names of the channels, in file order.

    Returns
    -------
    The matrix labelled in channel order or None, the keyword it stands in, what is wrong with it,
    and what is odd about it; texts are empty where there is nothing to say.
    """
    pairs = [match for key in keywords if (match := PAIR_KEYWORD.fullmatch(key.strip()))]
    readers: dict[str, Callable[[], pd.DataFrame | None]] = {
        key: partial(_matrix, keywords.text(key), channels, markers)
        for key in MATRIX_KEYWORDS
        if keywords.text(key) not in {"", "0"}
    }
    if pairs:
        readers[PAIRS] = partial(_from_pairs, keywords, pairs, channels)
    found: list[tuple[str, pd.DataFrame | None, str]] = []
    for key, read in readers.items():
        try:
            matrix = read()
            if matrix is not None:
                found.append((key, matrix, ""))
        except SpilloverError as problem:
            found.append((key, None, f"{key}: {problem}"))
    if not found:
        return None, "", "", ""
    key, matrix, problem_text = found[0]
    others = [name for name, other, _ in found[1:] if not _same(matrix, other)]
    oddity = (
        f"{key} and {others[0]} hold different spillover matrices; {key} is taken" if others else ""
    )
    return matrix, key, problem_text, oddity


def _same(one: pd.DataFrame | None, other: pd.DataFrame | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.equals(other)


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
    _check_size(size)
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
            values[index] = _value(number)
        except ValueError:
            row, column = divmod(index, size)
            msg = f"row {row + 1}, column {column + 1} holds {number[:40]!r}, which is no number"
            raise SpilloverError(msg) from None
    return _checked(values.reshape(size, size), columns, channels)


def _from_pairs(
    keywords: Keywords, pairs: list[re.Match[str]], channels: Sequence[str]
) -> pd.DataFrame | None:
    size = len(channels)
    shares: dict[tuple[int, int], float] = {}
    for match in pairs:
        source, target = int(match[1]), int(match[2])
        try:
            percent = _value(keywords.text(match[0]) or "0")
        except ValueError:
            msg = f"{match[0]} holds {keywords.text(match[0])[:40]!r}, which is no number"
            raise SpilloverError(msg) from None
        if not (1 <= source <= size and 1 <= target <= size):
            if percent == 0:  # instruments write all pairs that they could have
                continue
            msg = f"{match[0]} is {percent:g} %, but the file has only {size} channels"
            raise SpilloverError(msg)
        shares[source - 1, target - 1] = percent / 100.0
    if not shares:
        return None
    columns = sorted({column for pair in shares for column in pair})
    _check_size(len(columns))
    places = {column: place for place, column in enumerate(columns)}
    values = np.eye(len(columns))
    for (source, target), share in shares.items():
        if source != target:
            values[places[source], places[target]] = share
    return _checked(values, columns, channels)


def _check_size(size: int) -> None:
    if size > LARGEST_MATRIX:
        msg = f"is for {size} channels; a matrix of more than {LARGEST_MATRIX} is not read"
        raise SpilloverError(msg)


def _value(text: str) -> float:
    if "_" in text:  # Python's own digit separator
        raise ValueError(text)
    return float(text)


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
    off = np.flatnonzero(np.abs(np.diag(values) - 1) > LARGEST_DIAGONAL_ERROR)
    if len(off):
        msg = (
            f"must have 1 on its diagonal (each fluorochrome relative to its own channel); the entry "
            f"of {names[off[0]]} is {values[off[0], off[0]]:g}"
        )
        raise SpilloverError(msg)
    singular = np.linalg.svd(values, compute_uv=False)
    if singular[-1] <= singular[0] * SMALLEST_RECIPROCAL_CONDITION:
        msg = f"is singular and cannot be inverted: {matrix_fault(values, names)}"
        raise SpilloverError(msg)
    return pd.DataFrame(values, index=names, columns=names)
