"""Flags for events that are not single cells in good order; nothing is dropped here."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cytoclust import checks, chunks, schema
from cytoclust.errors import ArgumentError
from cytoclust.numerics.detectors import (
    End,
    Limit,
    join_ends,
    observe_end,
    pile_up,
    upper_end,
    upper_limit,
)
from cytoclust.numerics.drift import find_drift
from cytoclust.numerics.quality import FEWEST_OF_PILE, LARGEST_PILE, doublet_gate, ion_doublets
from cytoclust.pp import blocks
from cytoclust.pp.flags import Verdict, judge_samples, nothing, scatter_channels, threshold

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["flag_doublets", "flag_invalid", "flag_margins", "flag_time_drift"]


def flag_invalid(adata: AnnData, *, copy: bool = False) -> AnnData | None:
    """Flag events with a value that is NaN or infinite in any channel.

    Parameters
    ----------
    adata
        Events of a study.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    AnnData or None
        Writes ``obs["qc_invalid"]`` (bool), updates ``obs["qc_pass"]`` and records
        ``uns["cytoclust"]["flag_invalid"]``: ``samples`` (events, flagged, reason) and
        ``thresholds`` (which channel held how many such values).

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> var = pd.DataFrame({"channel_type": ["fluorescence"]}, index=["PE-A"])
    >>> adata = anndata.AnnData(np.array([[1.0], [np.nan]], np.float32), var=var)
    >>> cc.pp.flag_invalid(adata)
    >>> adata.obs["qc_invalid"].tolist()
    [False, True]
    """
    adata = adata.copy() if copy else adata
    names = adata.var_names.astype(str)

    def judge(events: NDArray[np.float32]) -> Verdict:
        bad = ~np.isfinite(events)
        counts = bad.sum(axis=0)
        found = [
            threshold(names[j], "not finite", counts[j], source="events")
            for j in np.flatnonzero(counts)
        ]
        return Verdict(np.asarray(bad.any(axis=1)), thresholds=found)

    judge_samples(adata, schema.QC_INVALID, judge=judge, params={})
    return adata if copy else None


def flag_margins(adata: AnnData, *, copy: bool = False) -> AnnData | None:
    """Flag events at or beyond the end of a detector's range.

    Parameters
    ----------
    adata
        Events of a study; ``layers["raw"]`` is looked at, or ``X`` before transformation.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    AnnData or None
        Writes ``obs["qc_margin"]`` (bool), updates ``obs["qc_pass"]`` and records
        ``uns["cytoclust"]["flag_margins"]``: ``samples`` (events, flagged, reason) and
        ``thresholds`` (sample, channel, ``upper`` or ``lower`` limit, how it was found).

    Notes
    -----
    Upper limit of scatter, fluorescence and viability channels: the declared range ($PnR), or where
    a range is missing or not respected the highest value if events pile up on it. Lower limit:
    scatter at or below zero. Of channels exported after transformation only pile-ups at both ends
    of scatter count. Ion counts (mass cytometry) have no margin. Where more than 10 % of a sample,
    and 100 events, lie at a limit, a population does, and dropping it would change the composition: they are kept,
    and the reason says so.

    References
    ----------
    Emmaneel et al. 2022 (PeacoQC), doi 10.1002/cyto.a.24501.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> var = pd.DataFrame({"channel_type": ["scatter"]}, index=["FSC-A"])
    >>> adata = anndata.AnnData(np.array([[5e4], [6e4], [-3.0]], np.float32), var=var)
    >>> cc.pp.flag_margins(adata)
    >>> adata.obs["qc_margin"].tolist()
    [False, False, True]
    """
    adata = adata.copy() if copy else adata
    events, after_transformation = blocks.acquired_values(adata)
    limits = _study_limits(adata, events, after_transformation=after_transformation)
    names = adata.var_names.astype(str)
    is_mass = blocks.is_mass(adata)

    def judge(events: NDArray[np.float32]) -> Verdict:
        if is_mass:
            return nothing(len(events), "ion counts have no margin")
        flags = np.zeros(len(events), dtype=np.bool_)
        found, kept = [], []
        for place, lower, upper in limits:
            values = events[:, place]
            for kind, limit in (("lower", lower), ("upper", upper or upper_limit(values, np.nan))):
                if not np.isfinite(limit.value):
                    continue
                beyond = values <= limit.value if kind == "lower" else values >= limit.value
                if beyond.mean() > LARGEST_PILE and beyond.sum() >= FEWEST_OF_PILE:
                    kept.append(f"{beyond.mean():.0%} at the {kind} limit of {names[place]}")
                    continue
                flags |= beyond
                found.append(threshold(names[place], kind, limit.value, source=limit.reason))
        reason = f"not flagged: {'; '.join(kept)}" if kept else ""
        return Verdict(flags, reason, found)

    judge_samples(adata, schema.QC_MARGIN, judge=judge, params={})
    return adata if copy else None


def _study_limits(
    adata: AnnData, events: Any, *, after_transformation: bool
) -> list[tuple[int, Limit, Limit | None]]:
    """Lower and upper limit of each channel that has some; an upper of None is sought per file."""
    kinds = blocks.channel_types(adata)
    linear = blocks.linear_channels(adata)
    recorded = checks.recorded(adata, schema.READ_STUDY) or {}
    ranges = np.asarray(recorded.get("ranges", []), dtype=np.float64)
    if ranges.shape != (adata.n_vars,):
        ranges = np.full(adata.n_vars, np.nan)
    places = [
        int(place)
        for place in np.flatnonzero(np.isin(kinds, ("scatter", "fluorescence", "viability")))
        if kinds[place] == "scatter" or (linear[place] and not after_transformation)
    ]
    if blocks.is_mass(adata) or not places:
        return []
    seen = chunks.map_blocks(partial(_observe_ends, ranges=ranges[places]), events, columns=places)
    limits: list[tuple[int, Limit, Limit | None]] = []
    for number, place in enumerate(places):
        low, high = (join_ends([part[number][side] for part in seen]) for side in (0, 1))
        if not linear[place]:
            limits.append((place, pile_up(low, lower=True), pile_up(high)))
            continue
        is_scatter = kinds[place] == "scatter"
        lower = Limit(0.0 if is_scatter else np.nan, "scatter is positive")
        upper = upper_end(high, float(ranges[place]))
        limits.append((place, lower, upper if np.isfinite(upper.value) else None))
    return limits


def _observe_ends(
    events: NDArray[np.float32], *, ranges: NDArray[np.float64]
) -> list[tuple[End, End]]:
    """Look at both ends of each channel."""
    return [
        (observe_end(events[:, i], lower=True), observe_end(events[:, i], float(declared)))
        for i, declared in enumerate(ranges)
    ]


def flag_doublets(adata: AnnData, *, n_spreads: float = 4.0, copy: bool = False) -> AnnData | None:
    """Flag events that are more than one cell.

    Parameters
    ----------
    adata
        Events of a study.
    n_spreads
        How many robust standard deviations the pulse of a doublet is longer than that of single
        cells of the same height.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    AnnData or None
        Writes ``obs["qc_doublet"]`` (bool), updates ``obs["qc_pass"]`` and records
        ``uns["cytoclust"]["flag_doublets"]``: ``samples`` (events, flagged, reason) and
        ``thresholds`` (per sample the usual area to height ratio and its spread).

    Raises
    ------
    ArgumentError
        `n_spreads` is not above zero.

    Notes
    -----
    Flow cytometry: area against height of forward scatter, else of side scatter; with area and
    width alone the height is area / width. Single cells of the same height are the reference, so
    that large cells are not taken for doublets (``cytoclust.numerics.quality.doublet_gate``). Mass
    cytometry: DNA content and event length. Where neither is recorded nothing is flagged, with the
    reason.

    References
    ----------
    Emmaneel et al. 2022 (PeacoQC), doi 10.1002/cyto.a.24501. Bagwell et al. 2020,
    doi 10.1002/cyto.a.23889.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> height = np.random.default_rng(0).normal(5e4, 5e3, 1000)
    >>> area = height * 1.1
    >>> area[0] *= 2
    >>> var = pd.DataFrame({"channel_type": "scatter"}, index=["FSC-A", "FSC-H"])
    >>> adata = anndata.AnnData(np.stack([area, height], axis=1).astype(np.float32), var=var)
    >>> cc.pp.flag_doublets(adata)
    >>> np.flatnonzero(adata.obs["qc_doublet"]).tolist()
    [0]
    """
    checks.check_positive("n_spreads", n_spreads)
    adata = adata.copy() if copy else adata
    pair, measure, reason = _pulse_pair(adata)
    dna, length = _ion_channels(adata)
    names = adata.var_names.astype(str)
    is_mass = blocks.is_mass(adata)

    def judge(events: NDArray[np.float32]) -> Verdict:
        if is_mass:
            if not dna:
                return nothing(len(events), "no DNA channel")
            total = events[:, dna].sum(axis=1)
            gate = ion_doublets(total, None if length is None else events[:, length])
            label = " + ".join(names[dna])
        elif pair is None:
            return nothing(len(events), reason)
        else:
            area, other = events[:, pair[0]], events[:, pair[1]]
            if measure == "W":
                with np.errstate(divide="ignore", invalid="ignore"):
                    other = area / other
            gate = doublet_gate(area, other, n_spreads=n_spreads)
            label = f"{names[pair[0]]} to {names[pair[1]]}"
        if np.isnan(gate.ratio):
            return nothing(len(events), "fewer than 100 usable events")
        found = [
            threshold(label, "usual", gate.ratio, source="median"),
            threshold(label, "spread", gate.spread, source="log scale"),
        ]
        return Verdict(gate.flags, "", found)

    judge_samples(adata, schema.QC_DOUBLET, judge=judge, params={"n_spreads": n_spreads})
    return adata if copy else None


def _pulse_pair(adata: AnnData) -> tuple[tuple[int, int] | None, str, str]:
    """Channels whose ratio tells doublets: area with height, or with width."""
    linear = blocks.linear_channels(adata)
    places = {key: place for key, place in scatter_channels(adata).items() if linear[place]}
    for measure in ("H", "W"):
        for kind in ("FSC", "SSC"):
            if (kind, "A") in places and (kind, measure) in places:
                return (places[kind, "A"], places[kind, measure]), measure, ""
    if len(places) < len(scatter_channels(adata)):
        return (
            None,
            "",
            "scatter was exported after transformation; areas and heights do not compare",
        )
    return None, "", "no scatter channel with both area and height or width"


def _ion_channels(adata: AnnData) -> tuple[list[int], int | None]:
    """DNA channels and the event length of a mass cytometer."""
    labels = [
        f"{channel} {marker}".lower()
        for channel, marker in zip(
            blocks.channel_names(adata), blocks.marker_names(adata), strict=True
        )
    ]
    mass = blocks.channel_types(adata) == "mass"
    dna = [j for j, text in enumerate(labels) if mass[j] and ("dna" in text or "ir19" in text)]
    dna = dna or [
        j for j, text in enumerate(labels) if mass[j] and "191ir" in text.replace(" ", "")
    ]
    squeezed = [text.replace("_", "").replace(" ", "").replace("-", "") for text in labels]
    length = [j for j, text in enumerate(squeezed) if "eventlength" in text or "celllength" in text]
    return dna, length[0] if length else None


def flag_time_drift(adata: AnnData, *, copy: bool = False) -> AnnData | None:
    """Flag stretches of an acquisition whose signal is not that of the rest of the file.

    Parameters
    ----------
    adata
        Events of a study.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    AnnData or None
        Writes ``obs["qc_time"]`` (bool), updates ``obs["qc_pass"]`` and records
        ``uns["cytoclust"]["flag_time_drift"]``: ``samples`` (events, flagged, reason) and
        ``thresholds`` (per sample bins, bad bins, the largest shift and trend as differences of the
        mean rank, bursts, longest gap).

    Raises
    ------
    ArgumentError
        The study has no channel besides time.

    Notes
    -----
    Each sample alone, along the time channel, or in the order of the file where that does not run
    forward (``cytoclust.numerics.drift.find_drift``). Based on ranks, so transformed values do as
    well. A slow trend over a whole file is recorded and not flagged. Samples of fewer than 1,000
    events are not judged.

    References
    ----------
    Emmaneel et al. 2022 (PeacoQC), doi 10.1002/cyto.a.24501. Monaco et al. 2016 (flowAI),
    doi 10.1093/bioinformatics/btw191.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, cytoclust as cc
    >>> values = np.random.default_rng(0).normal(0, 1, (10000, 1)).astype(np.float32)
    >>> values[4000:6000] += 2
    >>> var = pd.DataFrame({"channel_type": ["fluorescence"]}, index=["PE-A"])
    >>> adata = anndata.AnnData(values, var=var)
    >>> cc.pp.flag_time_drift(adata)
    >>> int(adata.obs["qc_time"].sum())
    2000
    """
    adata = adata.copy() if copy else adata
    kinds = blocks.channel_types(adata)
    places = np.flatnonzero(kinds != "time")
    if not places.size:
        msg = "drift needs a channel besides time; the study has none. Check the panel."
        raise ArgumentError(msg)
    clocks = np.flatnonzero(kinds == "time")
    names = adata.var_names.astype(str)

    def judge(block: NDArray[np.float32], in_file: NDArray[np.integer] | None = None) -> Verdict:
        order = None
        if in_file is not None and (np.diff(in_file) < 0).any():
            order = np.argsort(in_file, kind="stable")
            block = block[order]
        found = find_drift(block[:, places], block[:, clocks[0]] if clocks.size else None)
        flags = found.flags
        if order is not None:
            flags = np.empty_like(found.flags)
            flags[order] = found.flags
        rows_found = [threshold("", "bins", found.n_bins, source=f"{found.n_bad_bins} bad")]
        if found.channel >= 0:
            channel = names[places[found.channel]]
            rows_found.append(threshold(channel, "shift", found.shift, source="mean rank"))
        if found.trend_channel >= 0:
            channel = names[places[found.trend_channel]]
            rows_found.append(threshold(channel, "trend", found.trend, source="mean rank"))
        if np.isfinite(found.longest_gap):
            rows_found.append(threshold("", "longest gap", found.longest_gap, source="of the time"))
        if found.n_bursts:
            rows_found.append(threshold("", "bursts", found.n_bursts, source="bins"))
        return Verdict(flags, found.reason, rows_found if found.n_bins else [])

    places_in_file = [adata.obs[schema.EVENT].to_numpy()] if schema.EVENT in adata.obs else []
    judge_samples(adata, schema.QC_TIME, judge=judge, params={}, events=places_in_file)
    return adata if copy else None
