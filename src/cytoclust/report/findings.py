"""What changed, in plain words: one entry per population, the surest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.pl.tables import in_order, is_interaction, labelled, place_column, text_column
from cytoclust.report.numbers import change, first_of, interval, plural, probability, signed
from cytoclust.report.study import ALPHA

if TYPE_CHECKING:
    from collections.abc import Hashable

MARKERS: Final = 4  # told with numbers per population and compartment
COURSES: Final = {
    "transient?": "transient?: a return to baseline is not proven",
    "changed, unresolved": "changed, course unclear",
    "no change detected": "single contrasts significant, course not established",
    "stable": "single contrasts significant, course not established",
    "not tested": "",
}


@dataclass(frozen=True)
class Change:
    """What changed in one compartment, and the course that was called there."""

    place: str
    course: str
    text: str


@dataclass(frozen=True)
class Finding:
    """One population with its changes in every compartment."""

    head: str
    evidence: str
    changes: list[Change]


def supported(fdr: float) -> str:
    """Say how well a finding is supported."""
    kind = "strong" if fdr < 0.001 else "good" if fdr < 0.01 else "moderate"
    return f"{kind} evidence, FDR {probability(fdr)}"


def findings(table: pd.DataFrame, calls: pd.DataFrame | None) -> list[Finding]:
    """Tell the changes below the false discovery rate; events without a name are left out."""
    rows = labelled(table)
    rows["fdr"] = pd.to_numeric(rows["fdr"], errors="coerce")
    rows["sure"] = rows["fdr"] < ALPHA
    rows["crossing"] = is_interaction(rows)
    told = rows[rows["sure"] & ~rows["crossing"] & (rows["population"] != schema.UNASSIGNED)]
    courses = called(calls)
    best = told.groupby("population")["fdr"].min().sort_values(kind="stable")
    whole = {str(name): part for name, part in rows.groupby("population")}
    found = []
    for head, fdr in best.items():
        changes = [
            Change(str(place), courses.get((head, place), ""), told_change(own, whole[str(head)]))
            for place, own in told[told["population"] == head].groupby("compartment", sort=False)
        ]
        found.append(Finding(str(head), supported(float(fdr)), changes))
    return found


def called(calls: pd.DataFrame | None) -> dict[tuple[Hashable, Hashable], str]:
    """Return (population, compartment) -> course in words."""
    if calls is None:
        return {}
    keys = zip(text_column(calls, "population"), place_column(calls), strict=True)
    return {
        key: COURSES.get(call, call)
        for key, call in zip(keys, text_column(calls, "call"), strict=True)
    }


def told_change(own: pd.DataFrame, here: pd.DataFrame) -> str:
    """Write the changes of one population in one compartment."""
    if any(own["marker"]):
        return marker_changes(own, here)
    return "; ".join([*(sentence(row) for _, row in own.iterrows()), *elsewhere(here, own)])


def sentence(row: pd.Series) -> str:
    """Write one change with its interval and number of pairs."""
    effect, low, high = (float(row.get(key, np.nan)) for key in ("effect", "ci_low", "ci_high"))
    if "log2_fold_change" in row.index:
        what, span = change(effect), interval(low, high, falling=effect < 0)
    else:
        what, span = signed(effect), f"{signed(low)} to {signed(high)}"
    pairs = float(row.get("n_paired", np.nan))
    base = f", {plural(int(pairs), 'pair')}" if np.isfinite(pairs) and pairs > 0 else ""
    where = unbroken(str(row["contrast"]))
    if row["marker"]:
        return f"{row['marker']} {what} in {where} ({span}{base})"
    return f"{where}: {what} ({span}{base})"


def unbroken(contrast: str) -> str:
    """Keep a contrast on one line."""
    return contrast.replace(" - ", "\N{NO-BREAK SPACE}-\N{NO-BREAK SPACE}")


def marker_changes(own: pd.DataFrame, here: pd.DataFrame) -> str:
    """Write the surest change of each marker, naming the other contrasts and the differences."""
    words: list[str] = []
    differ: dict[str, list[str]] = {}
    groups = list(own.sort_values("fdr", kind="stable").groupby("marker", sort=False))
    for marker, rows in groups:
        text = sentence(rows.iloc[0])
        others = in_order(own["contrast"][rows.index[1:].sort_values()])
        if others:
            text += f", also in {', '.join(map(unbroken, others))}"
        words.append(text)
        for other, shown in compared(here[here["marker"] == marker], rows):
            if shown:
                differ.setdefault(other, []).append(str(marker))
    if len(words) > MARKERS:
        rest = [str(marker) for marker, _ in groups[MARKERS:]]
        words = [*words[:MARKERS], f"and {first_of(rest, 10)}"]
    notes = [f"shown to differ from {other}: {', '.join(who)}" for other, who in differ.items()]
    return "; ".join([*words, *notes])


def compared(here: pd.DataFrame, own: pd.DataFrame) -> dict[tuple[str, bool], list[str]]:
    """Return (other compartment, whether a difference is shown) -> contrasts not significant there."""
    place = own["compartment"].iloc[0]
    kinds: dict[tuple[str, bool], list[str]] = {}
    for contrast in in_order(own["contrast"]):
        same = here[here["contrast"] == contrast]
        silent = same[~same["crossing"] & (same["compartment"] != place) & ~same["sure"]]
        sides = same["compartment"].str.split(" - ")
        for other in in_order(silent["compartment"]):
            pair = same["crossing"] & sides.map(lambda both, o=other: {place, o} == set(both))
            if pair.any():
                kinds.setdefault((other, bool(same["sure"][pair].any())), []).append(contrast)
    return kinds


def elsewhere(here: pd.DataFrame, own: pd.DataFrame) -> list[str]:
    """Say whether the change is shown to differ between compartments, or merely not seen in both."""
    words = []
    for (other, shown), contrasts in compared(here, own).items():
        when = ", ".join(map(unbroken, contrasts))
        words.append(
            f"shown to differ from {other} ({when})"
            if shown
            else f"not found in {other} ({when}), but a difference is not shown either"
        )
    return words
