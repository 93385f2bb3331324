"""What the figures of tables share: counts, samples, levels and contrasts in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.errors import MissingSlotError, StudyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

EFFECTS: Final = ("log2_fold_change", "difference")
WHOLE: Final = "all"  # what the tests call the compartment of a study without compartments


def sample_index(samples: pd.DataFrame, sample_key: str = schema.SAMPLE) -> pd.DataFrame:
    """Return the sample sheet indexed by sample name (str)."""
    table = samples.set_index(sample_key) if sample_key in samples.columns else samples.copy()
    table.index = table.index.astype(str)
    return table


def counts_and_samples(
    data: AnnData | pd.DataFrame, samples: pd.DataFrame | None, groupby: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return counts (populations x samples) and the sample sheet in the same sample order."""
    if isinstance(data, pd.DataFrame):
        counts = data.copy()
        counts.columns = counts.columns.astype(str)
        sheet = pd.DataFrame(index=counts.columns) if samples is None else sample_index(samples)
    else:
        from cytoclust import get

        counts = get.counts(data, groupby=groupby)
        counts.columns = counts.columns.astype(str)
        sheet = sample_index(get.sample_table(data) if samples is None else samples)
    counts.index = counts.index.astype(str)
    missing = counts.columns.difference(sheet.index)
    if len(missing):
        msg = (
            f"samples must have one row for every column of counts; missing: "
            f"{checks.listing(missing)}. Add them to the sample sheet or drop their counts."
        )
        raise StudyError(msg)
    return counts, sheet.loc[counts.columns]


def levels_of(column: pd.Series) -> list[str]:
    """Return the levels in categorical order if there is one, else in order of appearance."""
    present = column.dropna().astype(str)
    present = present[present != ""]
    found = list(dict.fromkeys(present))
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [str(c) for c in column.cat.categories if str(c) in set(found)]
    return found


def design_column(sheet: pd.DataFrame, key: str | None) -> pd.Series:
    """Return a design column as text with NaN for empty cells, or "" everywhere without a key."""
    if key is None:
        return pd.Series("", index=sheet.index)
    if key not in sheet.columns:
        msg = (
            f"design column {key!r} not found in the sample sheet; available: "
            f"{checks.listing(sheet.columns)}. Check the spelling."
        )
        raise MissingSlotError(msg)
    column = sheet[key].astype(object)
    return column.where(column.notna() & (column.astype(str) != ""), np.nan).map(
        lambda value: str(value) if isinstance(value, str) or pd.notna(value) else np.nan
    )


def levels_in(sheet: pd.DataFrame, key: str | None) -> list[str]:
    """Return the levels of a design column in order, or [""] without a key."""
    if key is None:
        return [""]
    design_column(sheet, key)  # raises when the column is not there
    return levels_of(sheet[key])


@dataclass(frozen=True)
class Cells:
    """Where each sample stands on the x axis of a time course."""

    names: list[tuple[str, str]]  # compartment, treatment level
    x: np.ndarray  # position of each cell; compartments stand apart
    of_sample: np.ndarray  # cell of each sample, -1 without one
    donor: np.ndarray  # donor of each sample, "" without one


def arrange(
    sheet: pd.DataFrame,
    *,
    treatment_key: str | None,
    compartment_key: str | None,
    donor_key: str | None,
) -> Cells:
    """Give every combination of compartment and treatment level that has samples a place."""
    compartments, levels = levels_in(sheet, compartment_key), levels_in(sheet, treatment_key)
    where, when = design_column(sheet, compartment_key), design_column(sheet, treatment_key)
    pairs = list(zip(where, when, strict=True))
    present = set(pairs)
    names = [(c, t) for c in compartments for t in levels if (c, t) in present]
    gap = 0.8 if treatment_key is not None else 0.0
    block = {c: i for i, c in enumerate(compartments)}
    x = np.array([i + gap * block[c] for i, (c, _) in enumerate(names)], float)
    lookup = {name: i for i, name in enumerate(names)}
    cell = np.array([lookup.get(pair, -1) for pair in pairs], int)
    who = (
        design_column(sheet, donor_key).fillna("").to_numpy(str)
        if donor_key
        else np.full(len(sheet), "")
    )
    return Cells(names, x, cell, who)


def effect_column(table: pd.DataFrame) -> str:
    """Return the name of the column that holds the effect."""
    for name in EFFECTS:
        if name in table.columns:
            return name
    msg = (
        f"a result table needs one of the columns {checks.listing(EFFECTS)}; found "
        f"{checks.listing(table.columns)}. Give the table that a test of cc.tl returned."
    )
    raise MissingSlotError(msg)


def text_column(table: pd.DataFrame, name: str) -> pd.Series:
    """Return a column as text, "" where it is missing or empty."""
    if name not in table.columns:
        return pd.Series("", index=table.index, dtype=object)
    column = table[name].astype(object)
    return column.where(column.notna(), "").astype(str).replace({"nan": "", "None": ""})


def place_column(table: pd.DataFrame) -> pd.Series:
    """Return the compartment of each row, "" in a study without compartments."""
    place = text_column(table, "compartment")
    return place.replace({WHOLE: ""}) if set(place) == {WHOLE} else place


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """Return tested rows with text columns population, marker, compartment, contrast and `name`."""
    effect = effect_column(table)
    rows = table.copy()
    for name in ("population", "marker", "compartment", "contrast"):
        rows[name] = text_column(table, name)
    rows["compartment"] = place_column(table)
    rows["effect"] = pd.to_numeric(rows[effect], errors="coerce")
    if "status" in rows.columns:
        rows = rows[text_column(rows, "status").isin([*schema.TESTED, ""])]
    rows = rows[np.isfinite(rows["effect"])]
    rows["name"] = [
        f"{population} · {marker}" if marker else population
        for population, marker in zip(rows["population"], rows["marker"], strict=True)
    ]
    return rows.reset_index(drop=True)


def is_interaction(rows: pd.DataFrame) -> pd.Series:
    """Tell rows that compare two compartments' changes ("BM - PB") from changes within one."""
    compartment = text_column(rows, "compartment")
    within = set(compartment[~compartment.str.contains(" - ", regex=False)]) - {""}

    def crosses(name: str) -> bool:
        parts = name.split(" - ")
        return len(parts) == 2 and set(parts) <= within

    return compartment.map(crosses).astype(bool)


def in_order(values: Sequence[Any] | pd.Series) -> list[str]:
    """Return the different values in order of first appearance."""
    return list(dict.fromkeys(str(value) for value in values))
