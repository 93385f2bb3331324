"""Reading design columns out of a sample sheet: text, levels, likely typos, covariates."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.checks import listing
from cytoclust.errors import DesignError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

MANY_VALUES = 10  # above this a text column of whole numbers is taken as a quantity, not as labels


def sheet_by_sample(
    samples: pd.DataFrame | str | os.PathLike[str], sample_key: str = schema.SAMPLE
) -> pd.DataFrame:
    """Return the sample sheet indexed by sample name; refuse names that are listed twice."""
    sheet = samples if isinstance(samples, pd.DataFrame) else pd.read_csv(samples, dtype=str)
    if sample_key in sheet.columns:
        sheet = sheet.set_index(sample_key)
    elif sheet.index.name != sample_key and isinstance(sheet.index, pd.RangeIndex):
        refuse_unknown_column("sample_key", sample_key, sheet.columns)
    names = as_text(pd.Series(sheet.index))
    if names.duplicated().any():
        twice = listing(names[names.duplicated()].unique())
        msg = f"every sample must have one row in the sample sheet; listed twice: {twice}. Remove the copies."
        raise DesignError(msg)
    sheet = sheet.copy()
    sheet.index = pd.Index(names.tolist(), name=schema.SAMPLE)
    return sheet


def refuse_unknown_column(argument: str, key: str, available: Iterable[object]) -> NoReturn:
    """Raise the error for a column that the sample sheet does not have."""
    names = [str(name) for name in available]
    msg = (
        f"{argument} {key!r} is not a column of the sample sheet; available: {listing(names)}."
        f"{suggestion(key, names)} Correct the name or add the column."
    )
    raise DesignError(msg)


def suggestion(name: str, options: Sequence[str]) -> str:
    """Return " Did you mean ...?", or nothing if no option is near."""
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def as_text(column: pd.Series) -> pd.Series:
    """Return the values as stripped text, "" where empty; whole numbers without a decimal point."""

    def text(value: object) -> str:
        if value is None or value is pd.NA or value is pd.NaT or value != value:  # noqa: PLR0124
            return ""
        if isinstance(value, (float, np.floating)) and float(value).is_integer():
            return str(int(value))
        return str(value).strip()

    return pd.Series([text(value) for value in column], index=column.index, dtype="str")


def levels_of(column: pd.Series) -> list[str]:
    """Levels in use: categorical order if there is one, else order of first appearance."""
    used = [value for value in dict.fromkeys(as_text(column)) if value]
    if isinstance(column.dtype, pd.CategoricalDtype):
        order = list(as_text(pd.Series(list(column.cat.categories))))
        return [value for value in order if value in used]
    return used


def combined_levels(sheet: pd.DataFrame, keys: Sequence[str]) -> pd.Series:
    """Return one treatment out of several columns: "arm visit", in the order of their levels."""
    parts = [as_text(sheet[key]) for key in keys]
    text = parts[0]
    lacking = parts[0] == ""
    for part in parts[1:]:
        text = text + " " + part
        lacking |= part == ""
    order = [""]
    for key in keys:
        order = [f"{left} {level}".strip() for left in order for level in levels_of(sheet[key])]
    text = text.where(~lacking, "")
    used = set(text)
    return pd.Series(
        pd.Categorical(
            text.where(~lacking), categories=[level for level in order if level in used]
        ),
        index=sheet.index,
    )


def levels_to_compare(sheet: pd.DataFrame, key: str, asked: tuple[str, str | None]) -> list[str]:
    """Return the levels to compare; refuse fewer than two and an unknown baseline."""
    role, baseline = asked
    levels = levels_of(sheet[key])
    if len(levels) < 2:
        msg = f"{role}_key {key!r} must have at least two levels; found {listing(levels)}. Choose another column."
        raise DesignError(msg)
    if baseline is not None and str(baseline) not in levels:
        msg = (
            f"baseline {baseline!r} is not a level of {key!r}; levels: {listing(levels)}."
            f"{suggestion(str(baseline), levels)} Name one of them."
        )
        raise DesignError(msg)
    return levels


def likely_typos(key: str, column: pd.Series, *, spelling: bool = True) -> list[str]:
    """Describe pairs of levels that are probably meant to be one.

    Levels that differ only in case, spaces, signs or leading zeros always count; with `spelling`,
    so does a level that stands once and is spelt nearly like a commoner one with the same numbers.
    """
    tally = as_text(column)[lambda text: text != ""].value_counts()
    levels = [str(level) for level in tally.index]
    plain = {level: _plain(level) for level in levels}
    notes = []
    for i, common in enumerate(levels):
        for rare in levels[i + 1 :]:
            same = plain[common] == plain[rare]
            near = (
                spelling
                and tally[rare] == 1 < tally[common]
                and plain[common][1] == plain[rare][1]
                and difflib.SequenceMatcher(None, common, rare).ratio() >= 0.8
            )
            if same or near:
                notes.append(
                    f"{key} has {rare!r} ({tally[rare]} x) and {common!r} ({tally[common]} x), "
                    "which look like one level spelt in two ways"
                )
    return notes


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def _plain(text: str) -> tuple[str, list[float], bool]:
    """Letters without case, the numbers, and whether the text starts below zero."""
    letters = re.sub(r"\d+(?:\.\d+)?|[\s_\-.]", "", text.casefold())
    return letters, _numbers(text), text.startswith("-") or "+" in text


def covariate_columns(
    sheet: pd.DataFrame, terms: Sequence[str]
) -> tuple[list[str], pd.DataFrame, list[str]]:
    """Return the columns that the formula terms use, where (sample x column) is no value, and notes."""
    from formulaic import Formula
    from formulaic.errors import FormulaSyntaxError

    if not terms:
        return [], pd.DataFrame(index=sheet.index), []
    try:
        needed = sorted(str(v) for v in Formula(_formula(sheet, terms)).required_variables)
    except FormulaSyntaxError as error:
        msg = f"covariates must be columns or formula terms; got {listing(terms)} ({error}). Correct the term."
        raise DesignError(msg) from error
    lacking = pd.DataFrame(index=sheet.index)
    notes = []
    for name in needed:
        if name not in sheet.columns:
            refuse_unknown_column("covariate", name, sheet.columns)
        lacking[name] = as_text(sheet[name]) == ""
        kind = "a quantity" if _is_quantity(sheet[name]) else "categories"
        notes.append(f"covariate {name} is taken as {kind}")
    return needed, lacking, notes


def _formula(sheet: pd.DataFrame, terms: Sequence[str]) -> str:
    """Right-hand side; a bare column name that is no identifier gets backticks."""
    quoted = [
        f"`{term}`" if term in sheet.columns and not str(term).isidentifier() else str(term)
        for term in terms
    ]
    return " + ".join(["1", *quoted])


def _is_quantity(column: pd.Series) -> bool:
    """Decide whether a covariate is a number rather than a label."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return True
    text = as_text(column)
    numbers = pd.to_numeric(text[text != ""], errors="coerce")
    if len(numbers) == 0 or numbers.isna().any():
        return False
    return bool((numbers % 1 != 0).any() or numbers.nunique() > MANY_VALUES)


def covariate_matrix(sheet: pd.DataFrame, terms: Sequence[str], needed: list[str]) -> pd.DataFrame:
    """Return the columns of the terms, without intercept; (n_samples, n_columns)."""
    from formulaic import model_matrix
    from formulaic.errors import FormulaicError

    if not terms:
        return pd.DataFrame(index=sheet.index)
    values = {
        name: pd.to_numeric(as_text(sheet[name]))
        if _is_quantity(sheet[name])
        else pd.Categorical(as_text(sheet[name]), categories=levels_of(sheet[name]))
        for name in needed
    }
    frame = pd.DataFrame(values, index=sheet.index)
    try:
        matrix = model_matrix(_formula(sheet, terms), frame)
    except (FormulaicError, ValueError) as error:
        msg = f"covariates {listing(terms)} cannot be evaluated on the sample sheet: {error}. Correct the term."
        raise DesignError(msg) from error
    table = pd.DataFrame(matrix).drop(columns="Intercept", errors="ignore")
    return table.astype(np.float64)
