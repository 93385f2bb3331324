"""Levels of every marker, from the events: negative, low, positive, bright."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.checks import listing
from cytoclust.errors import ArgumentError
from cytoclust.event_arrays import category_codes, event_arrays
from cytoclust.numerics.mixtures import count_values
from cytoclust.numerics.references import split_with_reference
from cytoclust.numerics.tallies import tally
from cytoclust.tl import phenotype_evidence as evidence
from cytoclust.tl.definitions import load_definitions
from cytoclust.tl.phenotype_nodes import move_cut, thinned
from cytoclust.tl.phenotype_panel import MAX_COUNT, SCATTER, Panel, read_panel, usable_rows
from cytoclust.tl.phenotype_walk import MIN_PARENT, Walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData

    from cytoclust.numerics.mixtures import Split

__all__ = ["alignment", "call_markers", "given_cutoffs", "recorded_cutoffs"]

MIN_DIFFERENCE = 0.01  # share of a group's events that its own cut calls differently
SAME_SHIFT = 0.05  # of the usual distance: by so much may the shifts of cut and positives differ
POOLED = "all"


def call_markers(
    adata: AnnData,
    *,
    compartment_key: str | None = None,
    batch_key: str | None = None,
    definitions: str | Path | Iterable[str | Path] | None = ("human_leukocyte",),
    cutoffs: Mapping[str, float] | pd.DataFrame | None = None,
    synonyms: Mapping[str, str] | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Find negative, low, positive and bright levels of every marker from the events.

    Parameters
    ----------
    adata
        Events with transformed values in ``X`` (after `pp.arcsinh`, or exported after transformation).
    compartment_key, batch_key
        Columns of ``obs`` to look for differences in: a group (or combination of groups) whose own
        cut calls more than 1 % of its events differently gets its own row, others are pooled.
    definitions
        Sets that say which populations lack a marker; None takes the distributions alone.
    cutoffs
        Marker to cut-off in units of ``X`` that replace those found, or the table that an earlier
        call recorded, to be used again on later samples; `annotate_phenotypes` keeps to them.
    synonyms
        Further marker names: own name to canonical name.
    copy
        Return a changed copy instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes ``uns["cytoclust"]["call_markers"]["cutoffs"]``: DataFrame with columns marker,
        channel, compartment ("all", or the group with a row of its own), cut_low, cut_positive,
        cut_bright (units of ``X``; NaN where there is no such level), band_low, band_high
        (posterior 0.1 to 0.9), method, informative, status and reason; low_mean and high_mean are
        the levels of both groups. Low is between cut_low and cut_positive, bright above cut_bright.

    Raises
    ------
    ArgumentError
        A cut-off names a marker that the panel does not have, or a marker is on two channels.
    MissingSlotError
        A column does not exist.

    Notes
    -----
    A marker is cut where its smoothed log density is not concave: any usual single population is
    log-concave, and the dent between two populations of equal spread depends on their distance, not
    on their sizes. Where a population that is known to lack the marker is found among the events,
    the cut is raised until its tail makes up at most a fifth of the positives. Markers with one
    population only are called all positive or all negative by their place among the panel's usual
    levels, or are left undetermined; they are never cut in the middle. Settings were chosen on
    simulated markers of known truth (``benchmarks/marker_levels.py``). Histograms of at most 400,000
    evenly spaced events of a million are used, so that the result is deterministic and its cost does
    not grow.

    Examples
    --------
    >>> import anndata as ad, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> values = np.r_[rng.normal(0, 0.5, 500), rng.normal(4, 0.5, 500)][:, None]
    >>> adata = ad.AnnData(values.astype(np.float32))
    >>> adata.var["marker"] = ["CD3"]
    >>> call_markers(adata)
    >>> table = adata.uns["cytoclust"]["call_markers"]["cutoffs"]
    >>> bool(1 < table["cut_positive"].iloc[0] < 3)
    True
    """
    adata = adata.copy() if copy else adata
    keys = [key for key in (compartment_key, batch_key) if key is not None]
    for key in keys:
        checks.check_key(adata, key)
    panel = read_panel(adata, synonyms=synonyms)
    earlier = cutoffs if isinstance(cutoffs, pd.DataFrame) else None
    given = {} if isinstance(cutoffs, pd.DataFrame) else dict(cutoffs or {})
    check_cutoffs(given, panel)
    walk = referenced_walk(panel, usable_rows(adata, panel), definitions)
    splits = {
        marker: move_cut(split, given[marker]) if marker in given else split
        for marker, split in marker_splits(walk).items()
    }
    rows = [group_row(panel, marker, POOLED, split=split) for marker, split in splits.items()]
    if keys:
        rows += own_rows(adata, keys, walk=walk, pooled=splits)
    table = pd.DataFrame(rows)
    if earlier is not None:
        table = recorded_rows(earlier, table, panel)
    table.index = table.index.astype(str)
    checks.record(
        adata,
        schema.CALL_MARKERS,
        {"compartment_key": compartment_key, "batch_key": batch_key, "given": sorted(given)},
        cutoffs=table,
        baseline=np.array([walk.baseline.negative, walk.baseline.positive]),
    )
    return adata if copy else None


def check_cutoffs(given: Mapping[str, float], panel: Panel) -> None:
    """Raise `ArgumentError` for a cut-off of a marker that is not in the panel."""
    unknown = [marker for marker in given if marker not in panel.columns]
    if unknown:
        msg = (
            f"cutoffs must name markers of the panel {listing(panel.columns)}; got {listing(unknown)}. "
            "Use canonical names, see cytoclust.markers.resolve."
        )
        raise ArgumentError(msg)


def referenced_walk(
    panel: Panel, rows: np.ndarray, definitions: str | Path | Iterable[str | Path] | None
) -> Walk:
    """Find the lineages among part of the events, as references for the markers that they lack."""
    loaded = load_definitions("human_lymphoid" if definitions is None else definitions)
    walk = Walk(loaded, panel.with_axes(loaded.axes), rows=rows, given={}, min_probability=0.5)
    if definitions is not None and len(rows) >= MIN_PARENT:
        walk.find_references(walk.fit("", rows), rows)
    return walk


def marker_splits(walk: Walk) -> dict[str, Split]:
    """Split of every marker among all events."""
    rows = thinned(walk.members[""], MAX_COUNT)
    found = {}
    for marker, alone in walk.splits.items():
        reference = walk.reference(marker, parent="")
        found[marker] = alone
        if reference.tail is not None and alone.informative and marker not in SCATTER:
            histogram = count_values(walk.panel.take(marker, rows))
            found[marker] = split_with_reference(
                histogram, reference, baseline=walk.baseline, expected=False
            )
    return found


def group_row(panel: Panel, marker: str, group: str, *, split: Split) -> dict[str, object]:
    """One row of the table of cut-offs."""
    return {
        "channel": panel.channels[marker],
        "compartment": group,
        **evidence.cutoff_row(marker, split),
    }


def own_rows(
    adata: AnnData, keys: Sequence[str], *, walk: Walk, pooled: Mapping[str, Split]
) -> list[dict[str, object]]:
    """Cut-offs of groups whose own cut calls more than 1 % of their events differently."""
    groups = group_labels(adata, keys)
    codes = walk.panel.pooled(groups.codes)
    usable = np.zeros(len(codes), dtype=bool)
    usable[walk.members[""]] = True
    found = []
    for number, group in enumerate(groups.categories):
        rows = thinned(np.flatnonzero((codes == number) & usable), MAX_COUNT)
        for marker, whole in pooled.items():
            if not whole.informative or marker in SCATTER or len(rows) < MIN_PARENT:
                continue
            if whole.method == "given":
                continue
            values = walk.panel.take(marker, rows)
            split = split_with_reference(
                count_values(values), walk.reference(marker, parent=""), baseline=walk.baseline,
                expected=False,
            )  # fmt: skip
            between = np.mean((values > split.cut) != (values > whole.cut))
            if split.informative and between > MIN_DIFFERENCE:
                found.append(group_row(walk.panel, marker, str(group), split=split))
    return found


def group_labels(adata: AnnData, keys: Sequence[str]) -> pd.Categorical[str]:
    """Join the levels of some columns by " / "; by codes, since a text per event takes long."""
    arrays = event_arrays(adata)
    columns = [category_codes(adata, key) for key in keys]
    sizes = [len(names) + 1 for _, names in columns]  # the last: of none
    labels = [""]
    for _, own in columns:
        names = [*own.astype(str), "nan"]
        labels = [f"{label} / {name}" if label else name for label in labels for name in names]

    def count(*parts: np.ndarray) -> np.ndarray:
        number = np.zeros(len(parts[0]), dtype=np.int64)
        for codes, size in zip(parts, sizes, strict=True):
            number = number * size + np.where(codes < 0, size - 1, codes)
        return number

    smallest = np.min_scalar_type(-len(labels))
    number = arrays.mapped(count, *(codes for codes, _ in columns), dtype=smallest)
    present = tally(number, len(labels)) > 0
    levels = sorted({label for label, there in zip(labels, present, strict=True) if there})
    place = np.array(
        [
            levels.index(label) if there else -1
            for label, there in zip(labels, present, strict=True)
        ],
        dtype=np.min_scalar_type(-max(len(levels), 1)),
    )
    codes = arrays.mapped(lambda part: place[part], number, dtype=place.dtype)
    return pd.Categorical.from_codes(codes, categories=pd.Index(levels))


def recorded_rows(earlier: pd.DataFrame, found: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    """Rows of an earlier table for the markers that it has, new ones for the others."""
    lacking = {"marker", "compartment", "cut_positive", "status"} - set(earlier.columns)
    if lacking:
        msg = (
            f"cutoffs as a table must be one that call_markers recorded; it lacks {listing(sorted(lacking))}. "
            "Take uns['cytoclust']['call_markers']['cutoffs'] of the earlier study."
        )
        raise ArgumentError(msg)
    kept = earlier[earlier["marker"].isin(list(panel.columns))].copy()
    kept["channel"] = [panel.channels[str(marker)] for marker in kept["marker"]]
    kept["method"] = "recorded"
    new = found[~found["marker"].isin(kept["marker"])]
    return pd.concat([kept, new], ignore_index=True)


def recorded_cutoffs(adata: AnnData) -> dict[str, float]:
    """Cut-offs that the user gave to `call_markers`, or took over from an earlier study."""
    called = checks.recorded(adata, schema.CALL_MARKERS)
    if called is None:
        return {}
    table = called["cutoffs"]
    table = table[(table["method"].isin(["given", "recorded"])) & (table["compartment"] == POOLED)]
    table = table[np.isfinite(table["cut_positive"].astype(float))]
    return {str(m): float(c) for m, c in zip(table["marker"], table["cut_positive"], strict=True)}


def given_cutoffs(
    adata: AnnData, cutoffs: Mapping[str, float] | pd.DataFrame | None
) -> dict[str | tuple[str, str, bool], float]:
    """Cut-offs to keep to, by marker, or by parent, marker and whether high is told from low."""
    found: dict[str | tuple[str, str, bool], float] = dict(recorded_cutoffs(adata).items())
    if not isinstance(cutoffs, pd.DataFrame):
        found.update((cutoffs or {}).items())
        return found
    lacking = {"parent", "marker", "level", "cut_positive"} - set(cutoffs.columns)
    if lacking:
        msg = (
            "cutoffs as a table must be one that annotate_phenotypes recorded; it lacks "
            f"{listing(sorted(lacking))}. Take uns['cytoclust']['annotate_phenotypes']['cutoffs']."
        )
        raise ArgumentError(msg)
    for row in cutoffs.to_dict("records"):
        if np.isfinite(row["cut_positive"]):
            parent = "" if row["parent"] == evidence.ROOT else str(row["parent"])
            key = (parent, str(row["marker"]), row["level"] == "hi/lo")
            found[key] = float(row["cut_positive"])
    return found


def alignment(adata: AnnData, panel: Panel) -> dict[str, Any]:
    """How far each group's staining lies from the others', for markers whose groups all moved.

    Returns codes (n_events,) of the groups and, by marker, what to take off each group's values.
    Only a shift of negatives-to-positives as a whole counts: cut and positives moved alike.
    """
    called = checks.recorded(adata, schema.CALL_MARKERS)
    if called is None:
        return {}
    params, table = called["params"], called["cutoffs"]
    keys = [params[k] for k in ("compartment_key", "batch_key") if params.get(k)]
    if not keys or any(key not in adata.obs for key in keys) or "high_mean" not in table:
        return {}
    groups = group_labels(adata, keys)
    numbers = {str(name): number for number, name in enumerate(groups.categories)}
    negative, positive = (float(v) for v in called["baseline"])
    scale = positive - negative
    shifts: dict[str, np.ndarray] = {}
    pooled = table[table["compartment"] == POOLED].set_index("marker")
    for row in table[table["compartment"] != POOLED].to_dict("records"):
        marker, whole = str(row["marker"]), pooled.loc[row["marker"]]
        moved = float(row["cut_positive"] - whole["cut_positive"])
        along = float(row["high_mean"] - whole["high_mean"])
        alike = np.isfinite(scale) and abs(moved - along) <= SAME_SHIFT * scale
        # a move by more than half the groups' distance is to another dent, not of the staining
        alike &= abs(moved) <= 0.5 * float(whole["high_mean"] - whole["low_mean"])
        if marker in panel.columns and row["compartment"] in numbers and alike:
            shift = shifts.setdefault(marker, np.zeros(len(numbers), dtype=np.float32))
            shift[numbers[row["compartment"]]] = moved
    return {"groups": groups.codes, "shifts": shifts} if shifts else {}
