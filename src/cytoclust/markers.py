"""Marker names: what panels write, resolved to one canonical name each.

The table is data (``definitions/markers.toml``); `load_table` adds a user's own synonyms to it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from cytoclust.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MarkerTable", "load_table", "resolve", "resolve_panel"]

GREEK = {"α": "a", "β": "b", "γ": "g", "δ": "d", "ε": "e", "κ": "k", "λ": "l", "ζ": "z"}  # noqa: RUF001
SPLITTER = re.compile(r"[\s_:;,|/()\[\]{}\-.+]+")
METAL = re.compile(r"\((?:[A-Z][a-z]?\d{2,3}|\d{2,3}:\d{2,3})\)\s*(?:Di|Dd)?\s*$")
OTHER_SCATTER = re.compile(
    r"\b[FS]SC?[\s_-]?(?:(?:Lin|Log)?[\s_-]?(?:H|W|Height|Width)|Peak|Log)", re.IGNORECASE
)
PAIR = re.compile(r"\b(CD)(\d+[A-Za-z]*)\s*[/&]\s*(\d+[A-Za-z]*)\b", re.IGNORECASE)


@dataclass(frozen=True)
class MarkerTable:
    """Synonyms (letters and digits, lower case) to canonical names, and words that are no marker."""

    names: Mapping[str, str]
    ignored: frozenset[str]


def squeeze(text: str) -> str:
    """Letters and digits only, lower case, Greek letters spelled by their Latin initial."""
    spelled = "".join(GREEK.get(letter, letter) for letter in text.lower())
    return "".join(letter for letter in spelled if letter.isalnum())


@lru_cache(maxsize=1)
def shipped_table() -> MarkerTable:
    """Read ``definitions/markers.toml``."""
    source = resources.files("cytoclust") / "definitions" / "markers.toml"
    content = tomllib.loads(source.read_text(encoding="utf-8"))
    names: dict[str, str] = {}
    for canonical, synonyms in content["markers"].items():
        for word in (canonical, *synonyms):
            names[squeeze(word)] = canonical
    return MarkerTable(names, frozenset(squeeze(word) for word in content["words"]["ignored"]))


def load_table(synonyms: Mapping[str, str] | None = None) -> MarkerTable:
    """Return the shipped table with further synonyms.

    Parameters
    ----------
    synonyms
        Own name of a marker to its canonical name; canonical names that are new are added.

    Returns
    -------
    MarkerTable
        Table for `resolve`.

    Examples
    --------
    >>> table = load_table({"Bernd's antibody": "CD3"})
    >>> resolve("Bernd's antibody", table=table)
    'CD3'
    """
    table = shipped_table()
    if not synonyms:
        return table
    names = dict(table.names)
    for word, canonical in synonyms.items():
        known = names.get(squeeze(canonical), canonical)
        names[squeeze(canonical)] = known
        names[squeeze(word)] = known
    return MarkerTable(names, table.ignored)


def found_in(text: str, table: MarkerTable) -> list[str]:
    """Markers named in a text, longest match first, without overlaps, in order of appearance."""
    pieces = [squeeze(piece) for piece in SPLITTER.split(text)]
    pieces = [piece for piece in pieces if piece]
    taken = [False] * len(pieces)
    hits: list[tuple[int, str]] = []
    for length in range(min(len(pieces), 4), 0, -1):
        for start in range(len(pieces) - length + 1):
            span = range(start, start + length)
            if any(taken[i] for i in span):
                continue
            word = "".join(pieces[i] for i in span)
            ignored = length == 1 and word in table.ignored
            if word in table.names and not ignored:
                hits.append((start, table.names[word]))
                for i in span:
                    taken[i] = True
    return [name for _, name in sorted(hits)]


def resolve(name: str, *, table: MarkerTable | None = None) -> str | None:
    """Return the canonical name of a marker, whatever the panel calls it.

    Parameters
    ----------
    name
        Marker, channel label or both: ``CD8a``, ``CD8-APC-H7``, ``145Nd_CD4``, ``CD197 (CCR7)``,
        ``FITC-A :: CD45RA``, ``CD3(110:114)Dd``.
    table
        Synonyms from `load_table`; the shipped ones by default.

    Returns
    -------
    str or None
        Canonical name; None if no marker is recognised.

    Raises
    ------
    ArgumentError
        The text names two or more different markers.

    Examples
    --------
    >>> resolve("CD197 (CCR7)"), resolve("PD1"), resolve("145Nd_CD4"), resolve("empty")
    ('CCR7', 'PD-1', 'CD4', None)
    """
    table = table or shipped_table()
    whole = squeeze(name)
    if whole in table.names:
        return table.names[whole]
    if OTHER_SCATTER.search(name):
        return None
    text = METAL.sub("", name)
    text = PAIR.sub(r"\1\2 \1\3", text)
    hits = list(dict.fromkeys(found_in(text, table)))
    if len(hits) > 1:
        candidates = ", ".join(hits)
        msg = (
            f"A channel label must name one marker; {name!r} could be any of [{candidates}]. "
            "Write a single marker in the panel, or leave it empty for a dump channel."
        )
        raise ArgumentError(msg)
    return hits[0] if hits else None


def resolve_panel(
    names: Iterable[str], *, table: MarkerTable | None = None
) -> tuple[list[str | None], list[str]]:
    """Resolve every name; names of several markers become None and are listed as problems."""
    resolved: list[str | None] = []
    problems: list[str] = []
    for name in names:
        try:
            resolved.append(resolve(str(name), table=table))
        except ArgumentError as error:
            resolved.append(None)
            problems.append(str(error))
    return resolved, problems
