"""Two parts of a marker: the fraction of positive cells, and the intensity among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.checks import listing
from cytoclust.errors import ArgumentError, MissingSlotError
from cytoclust.event_arrays import category_codes
from cytoclust.get import intensities
from cytoclust.get.composition import POPULATION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["PARTS", "add_positives", "part_values"]

PARTS = ("positive", "median_positive")
NEEDED = ("n_positive", "median_positive")
KEYS = [schema.SAMPLE, POPULATION, schema.MARKER]
FEW = 3  # positive, and other, cells without which a fraction says nothing


def add_positives(
    medians: pd.DataFrame,
    data: AnnData,
    *,
    groupby: str,
    sample_key: str,
    layer: str | None,
    cutoffs: Mapping[str, float] | None,
) -> pd.DataFrame:
    """Add columns n_positive and median_positive to tidy medians."""
    chosen = intensities.state_channels(data, list(dict.fromkeys(medians[schema.MARKER])))
    codes, above = _limits(data, list(chosen), cutoffs)
    found = intensities.population_medians(
        data, groupby, list(chosen.values()), layer=layer, min_events=1, sample_key=sample_key,
        above=above, level_codes=codes,
    )  # fmt: skip
    index = pd.MultiIndex.from_product(
        [found.populations, list(chosen), found.samples],
        names=[POPULATION, schema.MARKER, schema.SAMPLE],
    )
    columns = {"n_positive": found.n_events.ravel(), "median_positive": found.medians.ravel()}
    parts = pd.DataFrame(columns, index=index).reset_index()
    both = medians.merge(parts[[*KEYS, *NEEDED]], how="left", on=KEYS)
    return both.assign(n_positive=both["n_positive"].fillna(0).astype(np.float64))


def _limits(
    data: AnnData, markers: list[str], cutoffs: Mapping[str, float] | None
) -> tuple[NDArray[np.signedinteger] | None, NDArray[np.float64]]:
    """Level of each event (None: one level), and where positive begins by level and marker."""
    key = (
        (checks.recorded(data, schema.CALL_MARKERS) or {}).get("params", {}).get("compartment_key")
    )
    levels = [""]
    codes = None
    if key and key in data.obs.columns:
        codes, names = category_codes(data, key)
        levels = [*names.astype(str), "nan"]  # the last, -1, is no compartment
    limits = [_marker_limits(data, marker, cutoffs) for marker in markers]
    table = [[own.get(level, own.get("all", np.nan)) for own in limits] for level in levels]
    return codes, np.array(table, dtype=np.float64).reshape(len(levels), len(markers))


def _marker_limits(
    data: AnnData, marker: str, cutoffs: Mapping[str, float] | None
) -> dict[str, float]:
    """Where positive begins by compartment, and "all": as given, else as `tl.call_markers` recorded it."""
    if cutoffs is not None and marker in cutoffs:
        return {"all": float(cutoffs[marker])}
    called = checks.recorded(data, schema.CALL_MARKERS) or {}
    table = called.get("cutoffs")
    known: dict[str, float] = {}
    if isinstance(table, pd.DataFrame):
        rows = table[(table[schema.MARKER].astype(str) == marker) & table["cut_positive"].notna()]
        cuts = rows["cut_positive"].astype(float)
        known = dict(zip(rows["compartment"].astype(str), cuts, strict=True))
    if not known:
        msg = (
            f"no cut-off is known for marker {marker!r}: tl.call_markers recorded none. Give it in "
            "cutoffs=, or test medians."
        )
        raise MissingSlotError(msg)
    key = called.get("params", {}).get("compartment_key")
    if not key or key not in data.obs.columns or list(known) == ["all"]:
        return {"all": known.get("all", next(iter(known.values())))}
    return known  # without "all", what is no compartment of the table counts nowhere


def part_values(
    data: pd.DataFrame, part: str, min_events: int
) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Tidy values of one part in place of medians, and which entries can tell something.

    The fraction is taken as log2 odds; the cells behind it are those that determine its precision,
    n p (1 - p).
    """
    missing = [name for name in NEEDED if name not in data.columns]
    if missing:
        msg = f"two parts need the columns {listing(NEEDED)} beside the medians; missing: {listing(missing)}. Add them, or test medians."
        raise ArgumentError(msg)
    positive = data["n_positive"].to_numpy(np.float64)
    n_events = data["n_events"].to_numpy(np.float64)
    if part == "median_positive":
        told = positive >= min_events
        return data.assign(median=data["median_positive"], n_events=positive), told
    other = n_events - positive
    odds = np.log2((positive + 0.5) / (other + 0.5))
    weight = (positive + 0.5) * (other + 0.5) / (n_events + 1)
    counted = n_events >= min_events
    values = data.assign(median=np.where(counted, odds, np.nan), n_events=weight)
    return values, counted & (positive >= FEW) & (other >= FEW)
