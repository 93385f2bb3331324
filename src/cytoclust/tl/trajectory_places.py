"""Whether a course is one compartment's own: differences between compartments, and equivalence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust.tl.contrasts import split_name

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CHANGED", "add_places", "is_between"]

CHANGED = (
    "persistent", "partial", "transient", "transient?", "late", "biphasic", "changed",
    "changed, unresolved",
)  # fmt: skip
SHOWN, NOT_SHOWN = "shown", "not shown"


def is_between(compartments: pd.Series) -> pd.Series:
    """Rows that compare two compartments."""
    names = list(dict.fromkeys(compartments.astype(str)))
    pairs = {name for name in names if split_name(name, names) is not None}
    return compartments.astype(str).isin(pairs)


def add_places(
    calls: pd.DataFrame,
    between: pd.DataFrame,
    *,
    keys: list[str],
    contrasts: Sequence[str],
    alpha: float,
) -> pd.DataFrame:
    """Return calls with ``compartment_fdr`` and ``only_here``.

    `between` holds the rows that compare compartments, `contrasts` the early and the late change.
    """
    places = list(dict.fromkeys(calls["compartment"].astype(str)))
    rows = between[between["contrast"].isin(list(contrasts))]
    halves = [split_name(name, places) or ("", "") for name in rows["compartment"].astype(str)]
    later = pd.Series([pair[0] for pair in halves], index=rows.index, dtype="str")
    first = pd.Series([pair[1] for pair in halves], index=rows.index, dtype="str")
    sides = [
        rows.assign(compartment=later, other=first, excess=rows["effect"]),
        rows.assign(compartment=first, other=later, excess=-rows["effect"]),
    ]
    both = pd.concat(sides)
    best = both.groupby(keys, sort=False, observed=True)["fdr"].min().rename("compartment_fdr")
    calls = calls.merge(best.reset_index(), how="left", on=keys)
    return calls.assign(only_here=_only_here(calls, both, keys=keys, alpha=alpha))


def _only_here(
    calls: pd.DataFrame, both: pd.DataFrame, *, keys: list[str], alpha: float
) -> pd.Series:
    """Say for each changed course whether every other compartment is shown to differ.

    The other one must change significantly less in the same direction at the early or late level, or
    be equivalent to no change at all levels. "Significant here, not there" shows nothing.
    """
    outer = [key for key in keys if key != "compartment"]
    found_here: dict[object, str] = {}
    further = both[both["fdr"] < alpha]
    greater: dict[tuple[object, ...], set[tuple[str, float]]] = {}
    for row in further.to_dict("records"):
        key = (*(row[k] for k in outer), row["compartment"])
        greater.setdefault(key, set()).add((str(row["other"]), float(np.sign(row["excess"]))))
    units = [u for _, u in calls.groupby(outer, sort=False, observed=True)] if outer else [calls]
    for unit in units:
        call: dict[str, str] = dict(zip(unit["compartment"].astype(str), unit["call"], strict=True))
        if len(call) < 2:
            continue
        for at, row in zip(unit.index, unit.to_dict("records"), strict=True):
            if row["call"] not in CHANGED:
                continue
            place = str(row["compartment"])
            signs = {float(np.sign(row[name])) for name in ("early_change", "late_change")}
            beside = greater.get((*(row[k] for k in outer), place), set())
            less = {other for other, sign in beside if sign in signs}
            shown = all(o in less or call[o] == "stable" for o in call if o != place)
            found_here[at] = SHOWN if shown else NOT_SHOWN
    texts = [found_here.get(at, "") for at in calls.index]
    return pd.Series(texts, index=calls.index, dtype="str")
