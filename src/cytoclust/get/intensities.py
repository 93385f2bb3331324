"""Medians of markers per population and sample."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, chunks, schema
from cytoclust.errors import ArgumentError
from cytoclust.get.composition import POPULATION, population_codes, sample_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["PopulationMedians", "medians", "population_medians", "state_channels"]


def state_channels(data: AnnData, markers: Sequence[str] | None) -> dict[str, int]:
    """Marker -> position in ``var``: those asked for, or all of class state."""
    key = schema.MARKER if schema.MARKER in data.var.columns else None
    names = [str(m) for m in (data.var[key] if key else data.var_names)]
    if markers is None:
        checks.check_key(data, schema.MARKER_CLASS, place="var", remedy="Name the markers.")
        chosen = (data.var[schema.MARKER_CLASS].astype(str) == "state").to_numpy()
        return {names[i]: int(i) for i in np.flatnonzero(chosen)}
    channels = [str(name) for name in data.var_names]
    found = {}
    for marker in markers:
        if marker not in names and marker not in channels:
            msg = f"marker {marker!r} not found; available: {checks.listing(names)}. Check the spelling."
            raise ArgumentError(msg)
        found[marker] = names.index(marker) if marker in names else channels.index(marker)
    return found


def medians(
    data: AnnData,
    groupby: str = schema.PHENOTYPE,
    *,
    markers: Sequence[str] | None = None,
    layer: str | None = None,
    min_events: int = 10,
    sample_key: str = schema.SAMPLE,
) -> pd.DataFrame:
    """Return the median of each marker in each population and sample, tidy.

    Parameters
    ----------
    data
        Events of a study.
    groupby
        Column of ``obs`` with the populations.
    markers
        Markers or channels; None takes those with ``var["marker_class"] == "state"``.
    layer
        Layer to read; None reads ``X``.
    min_events
        Events that a median needs; below it is NaN.
    sample_key
        Column of ``obs`` that names the sample.

    Returns
    -------
    DataFrame
        Columns sample, population, marker, median (units of the layer), n_events; one row per
        combination, always.

    Raises
    ------
    MissingSlotError
        A column or layer is not there.
    ArgumentError
        A marker is not there.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> obs = pd.DataFrame({"sample": list("aab"), "phenotype": list("TTT")}, index=list("123"))
    >>> var = pd.DataFrame({"marker": ["PD-1"], "marker_class": ["state"]}, index=["BV421-A"])
    >>> adata = anndata.AnnData(np.array([[1.0], [2], [5]]), obs=obs, var=var)
    >>> cc.get.medians(adata, min_events=1)["median"].tolist()
    [1.5, 5.0]
    """
    chosen = state_channels(data, markers)
    if layer is not None:
        checks.check_key(data, layer, place="layers")
    found = population_medians(
        data,
        groupby,
        list(chosen.values()),
        layer=layer,
        min_events=min_events,
        sample_key=sample_key,
    )
    return tidy_medians(found, list(chosen))


@dataclass(frozen=True)
class PopulationMedians:
    """Medians (n_populations, n_columns, n_samples), NaN where too few, and the events behind each."""

    populations: list[str]
    samples: list[str]
    medians: NDArray[np.float64]
    n_events: NDArray[np.int64]


def population_medians(
    data: AnnData,
    groupby: str,
    columns: Sequence[int],
    *,
    layer: str | None = None,
    min_events: int = 10,
    sample_key: str = schema.SAMPLE,
    above: NDArray[np.float64] | None = None,
    level_codes: NDArray[np.signedinteger] | None = None,
) -> PopulationMedians:
    """Work out medians of some columns, sample by sample, each read once.

    Parameters
    ----------
    data, groupby, layer, min_events, sample_key
        As for `medians`.
    columns
        Places of the channels.
    above
        (n_levels, n_columns): only events above count, by their level.
    level_codes
        (n_events,) level of each event, a row of `above`; all of the first by default.
    """
    groups, populations = population_codes(data, groupby)
    codes, samples = sample_codes(data, sample_key)
    rows_of = [(i, rows) for i, rows in enumerate(chunks.group_rows(codes, len(samples)))]
    present = [
        (i, rows) for i, rows in rows_of if not isinstance(rows, slice) or rows.stop > rows.start
    ]
    blocks = [rows for _, rows in present]
    X = data.X if layer is None else data.layers[layer]
    found = chunks.map_blocks(
        partial(block_medians, n_groups=len(populations), min_events=min_events, above=above),
        X,
        [groups[rows] for rows in blocks],
        [None if level_codes is None else level_codes[rows] for rows in blocks],
        blocks=blocks,
        columns=columns,
    )
    shape = (len(populations), len(columns), len(samples))
    values, counts = np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)
    for (i, _), (own_values, own_counts) in zip(present, found, strict=True):
        values[:, :, i], counts[:, :, i] = own_values, own_counts
    return PopulationMedians(populations, samples, values, counts)


def block_medians(
    block: NDArray[Any],
    groups: NDArray[np.signedinteger],
    levels: NDArray[np.signedinteger] | None,
    *,
    n_groups: int,
    min_events: int,
    above: NDArray[np.float64] | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Medians and counts (n_groups, n_columns) of the events of one sample."""
    values = np.full((n_groups, block.shape[1]), np.nan)
    counts = np.zeros((n_groups, block.shape[1]), dtype=np.int64)
    order = np.argsort(groups, kind="stable")
    for column in range(block.shape[1]):
        kept, own = order, block[:, column]
        if above is not None:
            limit = above[0 if levels is None else levels, column]
            kept = order[(own > limit)[order]]
        ends = np.cumsum(np.bincount(groups[kept], minlength=n_groups))
        counts[:, column] = np.diff(ends, prepend=0)
        for i in np.flatnonzero(counts[:, column] >= max(min_events, 1)):
            values[i, column] = np.median(own[kept[ends[i] - counts[i, column] : ends[i]]])
    return values, counts


def tidy_medians(found: PopulationMedians, markers: list[str]) -> pd.DataFrame:
    """One row per population, marker and sample."""
    index = pd.MultiIndex.from_product(
        [found.populations, markers, found.samples],
        names=[POPULATION, schema.MARKER, schema.SAMPLE],
    )
    tidy = pd.DataFrame(
        {"median": found.medians.ravel(), "n_events": found.n_events.ravel()}, index=index
    ).reset_index()
    return tidy[[schema.SAMPLE, POPULATION, schema.MARKER, "median", "n_events"]]
