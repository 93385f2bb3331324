"""Two parts of a marker: the fraction of positive cells, and the intensity among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import checks, get, schema
from cytoclust.checks import listing
from cytoclust.errors import ArgumentError, MissingSlotError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["PARTS", "add_positives", "part_values"]

PARTS = ("positive", "median_positive")
NEEDED = ("n_positive", "median_positive")
KEYS = [schema.SAMPLE, get.POPULATION, schema.MARKER]
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
    chosen = get._state_channels(data, list(dict.fromkeys(medians[schema.MARKER])))
    tables = []
    for marker, channel in chosen.items():
        limit = _limits(data, marker, cutoffs)
        X = data.X if layer is None else data.layers[layer]
        positive = np.asarray(X[:, channel]).ravel() > limit
        if not positive.any():
            continue
        part = get.medians(
            data[positive, [channel]], groupby, markers=[data.var_names[channel]], layer=layer,
            min_events=1, sample_key=sample_key,
        )  # fmt: skip
        tables.append(part.assign(**{schema.MARKER: marker}))
    columns = {"median": "median_positive", "n_events": "n_positive"}
    found = pd.concat(tables) if tables else medians.iloc[:0]
    both = medians.merge(found.rename(columns=columns)[[*KEYS, *NEEDED]], how="left", on=KEYS)
    return both.assign(n_positive=both["n_positive"].fillna(0))


def _limits(
    data: AnnData, marker: str, cutoffs: Mapping[str, float] | None
) -> float | NDArray[np.float64]:
    """Where positive begins for each event: as given, else as `tl.call_markers` recorded it."""
    if cutoffs is not None and marker in cutoffs:
        return float(cutoffs[marker])
    called = checks.recorded(data, schema.CALL_MARKERS) or {}
    table = called.get("cutoffs")
    known = None
    if isinstance(table, pd.DataFrame):
        rows = table[(table[schema.MARKER].astype(str) == marker) & table["cut_positive"].notna()]
        known = dict(zip(rows["compartment"].astype(str), rows["cut_positive"], strict=True))
    if not known:
        msg = (
            f"no cut-off is known for marker {marker!r}: tl.call_markers recorded none. Give it in "
            "cutoffs=, or test medians."
        )
        raise MissingSlotError(msg)
    own = {place: cut for place, cut in known.items() if place != "all"}
    key = called.get("params", {}).get("compartment_key")
    if not own or not key or key not in data.obs.columns:
        return float(known.get("all", next(iter(known.values()))))
    return data.obs[key].astype(str).map(own).astype(float).fillna(known.get("all")).to_numpy()


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
