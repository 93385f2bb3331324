"""Alarms of an abundance table: a reference in doubt, denominators that disagree."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from cytoclust.checks import listing
from cytoclust.errors import StatisticsWarning
from cytoclust.tl.results import TESTED

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_alarms", "warn_of_alarms"]

ONE_SIDED = 0.4  # share of populations significant the same way that raises the alarm
ENOUGH = 5  # tested populations below which a share says nothing
ALPHA = 0.05
SIDES = (("up", 1), ("down", -1))
FAMILY = ["level", "denominator", "compartment", "contrast"]
ROW = ["level", "population", "compartment", "contrast"]


def add_alarms(table: pd.DataFrame, leaves: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the table with a column ``alarm``, "" where there is none.

    `leaves` marks the rows whose populations do not contain each other; only of these is it counted
    how many move the same way.
    """
    effect = table["log2_fold_change"].to_numpy(np.float64)
    found = (table["fdr"] < ALPHA).to_numpy() & table["status"].isin(TESTED).to_numpy()
    side = np.where(found, np.sign(effect), 0.0)
    texts: list[list[str]] = [[] for _ in range(len(table))]
    for key, text in _one_sided(table[leaves], side[leaves]).items():
        for row in np.flatnonzero((table[FAMILY].to_numpy(str) == np.array(key)).all(axis=1)):
            texts[int(row)].append(text)
    for at, text in _disagreements(table, side, effect).items():
        texts[at].append(text)
    return table.assign(alarm=pd.Series(["; ".join(t) for t in texts], table.index, dtype="str"))


def _one_sided(leaves: pd.DataFrame, side: NDArray[np.float64]) -> dict[tuple[str, ...], str]:
    """Families in which more than 40 % of the tested populations move the same way."""
    found: dict[tuple[str, ...], str] = {}
    tested = leaves["status"].isin(TESTED).to_numpy()
    for family, where in leaves[tested].groupby(FAMILY, sort=False).indices.items():
        key = tuple(str(part) for part in cast("tuple[str, ...]", family))
        for word, sign in SIDES:
            share = float((side[tested][where] == sign).mean())
            if share > ONE_SIDED and len(where) >= ENOUGH:
                text = f"{share:.0%} of {len(where)} {key[0]}s {word}"
                found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _disagreements(
    table: pd.DataFrame, side: NDArray[np.float64], effect: NDArray[np.float64]
) -> dict[int, str]:
    """Rows that change against one denominator and against another do not, or the other way.

    A change that is merely short of significance elsewhere is no disagreement; one that is less than
    half as large there is. Shares of the parent answer another question and are left out.
    """
    found: dict[int, str] = {}
    denominator = table["denominator"].to_numpy(str)
    chosen = np.flatnonzero((denominator != "parent") & np.isfinite(effect))
    for where in table.iloc[chosen].groupby(ROW, sort=False).indices.values():
        rows = chosen[where]
        if len(rows) < 2 or not side[rows].any():
            continue
        first = rows[np.argmax(np.abs(effect[rows]) * (side[rows] != 0))]
        against = np.sign(effect[first]) * effect[rows] < 0.5 * np.abs(effect[first])
        against &= side[rows] != side[first]
        if against.any():
            words = {1.0: "up", -1.0: "down", 0.0: "no change shown"}
            said = [f"{denominator[row]} {words[float(side[row])]}" for row in rows]
            found |= dict.fromkeys(rows.tolist(), f"denominators disagree: {', '.join(said)}")
    return found


def warn_of_alarms(table: pd.DataFrame) -> None:
    """Warn where the reference of log ratios, or the choice of the denominator, is in doubt."""
    alarm = table["alarm"]
    first = alarm.str.split("; ").str[0]
    shares = table[first.str.contains("% of") & (table["denominator"] == "log_ratio")]
    if len(shares):
        families = shares.assign(first=first).drop_duplicates(FAMILY)
        said = [
            f"{'' if row['compartment'] == 'all' else row['compartment'] + ': '}{row['contrast']} {row['first']}"
            for row in families.to_dict("records")
        ]
        text = (
            f"so many populations are significant the same way that the log ratio's reference is in "
            f"doubt ({'; '.join(said)}). Log ratios assume that most populations do not change; "
            "compare with denominator='total' or absolute counts before believing them."
        )
        warnings.warn(text, StatisticsWarning, stacklevel=3)
    rows = table[alarm.str.contains("disagree")].drop_duplicates(ROW)
    if len(rows):
        names = [f"{r['population']} ({r['contrast']})" for r in rows.to_dict("records")]
        text = (
            f"denominators disagree on {len(rows)} changes: {listing(names, 5)}. The column 'alarm' "
            "names them; absolute counts, where there are any, decide."
        )
        warnings.warn(text, StatisticsWarning, stacklevel=3)
