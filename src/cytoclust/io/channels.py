"""What a channel measures, told from its name and its marker."""

from __future__ import annotations

import re

from cytoclust.errors import ArgumentError
from cytoclust.io.fcs_scaling import is_time
from cytoclust.markers import resolve

SCATTER = re.compile(
    r"(fsc|ssc|bsc|fs|ss|fals|forward|side)([\s\-_0-9.(].*)?"
    r"|(fsc|ssc)[ahw0-9].*|(event|cell)_?length|center|offset|width|residual|eventcount",
    re.IGNORECASE,
)
MASS = re.compile(
    r".*\((?:[A-Z][a-z]?\d{2,3}|\d{2,3}(?::\d{2,3})?[A-Z]?[a-z]?)\)\s*D[id]?"
    r"|[A-Z][a-z]?\d{2,3}D[id].*|\d{2,3}[A-Z][a-z]?(?:D[id])?(?:_.*)?"
)
# dyes that are nothing but a sign of dead cells
VIABILITY = re.compile(
    r"viab|zombie|live[\s/_\-]*(?:and|or)?[\s/_\-]*dead|\bl[/_\-]d\b|^l\s?d$|\bdead\b|^live$"
    r"|fixable|\bfvs\s?\d|\bfvd|ghost\s?(?:dye|red|violet|uv)|amine.?reactive",
    re.IGNORECASE,
)
# dyes that also name detectors, so only a marker of that name counts
VIABILITY_MARKER = re.compile(
    r"^(?:7[\s\-]?aad|dapi|pi|propidium.*|hoechst.*|aqua|(?:near[\s\-]?ir|yellow|blue|violet|red)"
    r"\s?dead.*|sytox.*|cis-?platin|.*_cisplatin|draq7|to-?pro.*|efluor\s?\d+|ef\d{3})(?:[\s\-_]?[ahw\d]+)?$",
    re.IGNORECASE,
)
NO_ANTIGEN = re.compile(
    r"(?:bc|barcode|dna|beads?|bead.*|intercalator|ir-?\d*|background|bckg.*|autofluorescence|af|"
    r"empty|blank|unstained|\d+ba|ce140.*|dump)[\s\-_]?\d*",
    re.IGNORECASE,
)
NOT_ANTIGENS = re.compile(r"viability|fsc.*|ssc.*|time|dna.*|beads?", re.IGNORECASE)


def antigen(name: str) -> str | None:
    """Return the canonical antigen that a name tells; None for dyes, scatter and unknown names."""
    try:
        found = resolve(name)
    except ArgumentError:  # several antigens in one channel
        return name
    return None if found is None or NOT_ANTIGENS.fullmatch(found) else found


def is_dye(marker: str) -> bool:
    """Tell whether the table of markers knows a name as a viability dye."""
    try:
        return resolve(marker) == "Viability"
    except ArgumentError:
        return False


def channel_type(channel: str, marker: str) -> str:
    """Return scatter, fluorescence, mass, time or viability.

    Parameters
    ----------
    channel
        Channel name ($PnN).
    marker
        Marker ($PnS or from the panel), may be empty.
    """
    if is_time(channel) or (is_time(marker) and antigen(channel) is None):
        return "time"
    if SCATTER.fullmatch(channel.strip()):
        return "scatter"
    dye = VIABILITY.search(marker) or VIABILITY_MARKER.match(marker.strip()) or is_dye(marker)
    if antigen(marker) is None and (dye or (not marker.strip() and VIABILITY.search(channel))):
        return "viability"
    return "mass" if MASS.fullmatch(channel.strip()) else "fluorescence"


def guessed_class(kind: str, marker: str) -> str:
    """Guess the marker class of a channel for which no panel says it."""
    if kind not in {"fluorescence", "mass"} or not marker.strip():
        return "none"
    if antigen(marker) is None and NO_ANTIGEN.fullmatch(marker.strip()):
        return "none"
    return "type"


def guessed_marker(channel: str, written: str) -> str:
    """Return the marker as written, or the antigen that the channel's own name tells."""
    if written.strip() and written.strip() != channel.strip():
        return written
    return antigen(channel) or (written if antigen(written) else "")


def unique_names(names: tuple[str, ...]) -> list[str]:
    """Make channel names unique: unnamed ones P3, repeated ones A, A-1, A-2."""
    taken = set(names)
    seen: set[str] = set()
    counts: dict[str, int] = {}  # where to go on counting, for many channels of one name
    unique = []
    for number, name in enumerate(names, start=1):
        base = name or f"P{number}"
        candidate = base
        while candidate in seen or (candidate != base and candidate in taken):
            counts[base] = counts.get(base, 0) + 1
            candidate = f"{base}-{counts[base]}"
        seen.add(candidate)
        unique.append(candidate)
    return unique
