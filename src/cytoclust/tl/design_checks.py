"""What a design is made of: joined treatment columns, samples left out, samples listed twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from cytoclust.checks import listing
from cytoclust.errors import DesignError
from cytoclust.tl.sheet import combined_levels, refuse_unknown_column

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["combined_treatment", "excluded_samples", "refuse_duplicates"]

TREATMENT, COMPARTMENT, DONOR = "treatment", "compartment", "donor"


def combined_treatment(sheet: pd.DataFrame, keys: list[str]) -> tuple[pd.DataFrame, str, list[str]]:
    """Join treatment columns into one; returns the sheet with it, its name, and the columns."""
    for key in keys:
        if key not in sheet.columns:
            refuse_unknown_column("treatment_key", key, sheet.columns)
    if len(keys) == 1:
        return sheet, keys[0], []
    if len(keys) != 2:
        msg = f"treatment_key must be one column or two; got {listing(keys)}. Join the others, or adjust for them as covariates."
        raise DesignError(msg)
    name = " x ".join(keys)
    return sheet.assign(**{name: combined_levels(sheet, keys)}), name, keys


def excluded_samples(
    table: pd.DataFrame, used: Mapping[str, str], lacking: pd.DataFrame
) -> pd.DataFrame:
    """List samples with an empty design value, and which."""
    rows = []
    for name in table.index:
        empty = [key for role, key in used.items() if table.loc[name, role] == ""]
        empty += [key for key in lacking.columns if lacking.loc[name, key] and key not in empty]
        if empty:
            rows.append((name, f"empty in the sample sheet: {', '.join(empty)}"))
    return pd.DataFrame(rows, columns=["sample", "reason"]).astype("str")


def refuse_duplicates(table: pd.DataFrame, covariates: pd.DataFrame) -> None:
    """Refuse a donor with two samples under one condition and the same covariates."""
    same = pd.concat(
        [table[[DONOR, TREATMENT, COMPARTMENT]], covariates.astype(str).add_prefix("covariate ")],
        axis=1,
    )
    twice = table[same.duplicated(keep=False)]
    if len(twice):
        conditions = twice[DONOR] + " " + twice[TREATMENT] + " " + twice[COMPARTMENT]
        shown = [
            f"{str(condition).strip()}: {' and '.join(names)}"
            for condition, names in twice.groupby(conditions, sort=False).groups.items()
        ]
        msg = (
            f"a donor must have one sample per treatment and compartment; found more: {listing(shown, 5)}. "
            "Correct the sheet, merge the files, or drop one; without donor_key they count as replicates."
        )
        raise DesignError(msg)
