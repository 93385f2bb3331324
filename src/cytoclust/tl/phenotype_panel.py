"""The markers of a study as phenotyping sees them: canonical names, values, usual levels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cytoclust import chunks, markers, schema
from cytoclust.checks import listing
from cytoclust.errors import ArgumentError, StudyWarning
from cytoclust.event_arrays import event_arrays
from cytoclust.numerics.levels import split_panel
from cytoclust.numerics.mixtures import Baseline, Split, count_values, split_marker
from cytoclust.numerics.phenotypes import take_column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

MAX_COUNT = 400_000
SCATTER = ("FSC-A", "SSC-A")


@dataclass(frozen=True)
class Panel:
    """Canonical markers and where their values are.

    Attributes
    ----------
    values
        (n_pooled, n_channels) analysis values of the events that models are fitted on.
    columns
        Marker to column.
    scatter
        Scale of each linear scatter marker: values are arcsinh(value / scale).
    axes
        Sums (first) less sums (second) of markers, used like a marker.
    groups, shifts
        Compartment or batch of each of these events, and by marker what is taken off the values of each.
    source, rows
        Values of all events, and the rows of the pooled ones; None where the pool is all events.
    """

    values: np.ndarray
    columns: dict[str, int]
    channels: dict[str, str]
    scatter: dict[str, float]
    axes: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    groups: np.ndarray | None = None
    shifts: dict[str, np.ndarray] = field(default_factory=dict)
    source: Any = None
    rows: np.ndarray | None = None

    def pooled(self, per_event: np.ndarray) -> np.ndarray:
        """Return the pool's elements of an array with one per event."""
        return per_event if self.rows is None else per_event[self.rows]

    def emptied(self) -> Panel:
        """Leave out the values, so that little is sent to workers."""
        nothing = np.zeros((0, 0), np.float32)
        return replace(self, values=nothing, groups=None, source=None, rows=None)

    def of_block(self, block: np.ndarray, groups: np.ndarray | None = None) -> Panel:
        """Look at the events of a block."""
        values = np.ascontiguousarray(block, dtype=np.float32)
        return replace(self, values=values, groups=groups, source=None, rows=None)

    @property
    def features(self) -> list[str]:
        """Markers and axes."""
        return [*self.columns, *self.axes]

    def with_axes(self, axes: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]) -> Panel:
        """Add those axes of which every marker is measured."""
        whole = {
            name: parts
            for name, parts in axes.items()
            if all(marker in self.columns for side in parts for marker in side)
        }
        return replace(self, axes=whole)

    def part(self, rows: np.ndarray, columns: Mapping[str, int]) -> Panel:
        """Keep some events and some markers."""
        groups = None if self.groups is None else self.groups[rows]
        scatter = {marker: scale for marker, scale in self.scatter.items() if marker in columns}
        return replace(
            self, values=self.values[rows], columns=dict(columns), scatter=scatter, groups=groups,
            source=None, rows=None,
        )  # fmt: skip

    def take(self, marker: str, rows: np.ndarray) -> np.ndarray:
        """Values of a marker; scatter on a logarithm-like scale."""
        if marker in self.axes:
            plus, minus = self.axes[marker]
            total = sum(self.take(part, rows) for part in plus)
            return np.asarray(total - sum(self.take(part, rows) for part in minus))
        found = np.empty(len(rows), dtype=self.values.dtype)
        take_column(self.values, self.columns[marker], np.ascontiguousarray(rows), found)
        if marker in self.scatter:
            found = np.arcsinh(found / self.scatter[marker])
        if self.groups is not None and marker in self.shifts:
            found = found - self.shifts[marker][self.groups[rows]]
        return np.asarray(found)


def read_panel(adata: AnnData, *, synonyms: Mapping[str, str] | None = None) -> Panel:
    """Resolve the panel of a study to canonical markers; warn of labels that name several."""
    table = markers.load_table(synonyms)
    names = adata.var_names.astype(str)
    labels = adata.var[schema.MARKER].astype(str) if schema.MARKER in adata.var else names
    channel = adata.var[schema.CHANNEL].astype(str) if schema.CHANNEL in adata.var else names
    kinds = (
        adata.var[schema.CHANNEL_TYPE].astype(str).tolist()
        if schema.CHANNEL_TYPE in adata.var
        else [""] * adata.n_vars
    )
    texts = [
        name if kind == "scatter" or not label or label == "nan" else label
        for name, label, kind in zip(channel, labels, kinds, strict=True)
    ]
    found, problems = markers.resolve_panel(texts, table=table)
    if problems:
        warnings.warn(
            f"{len(problems)} channels are not used to name cells: {' '.join(problems)}",
            StudyWarning, stacklevel=4,
        )  # fmt: skip
    columns: dict[str, int] = {}
    for j, (marker, kind) in enumerate(zip(found, kinds, strict=True)):
        if marker is None or marker == "Viability" or kind in {"time", "viability"}:
            continue
        if marker in columns:
            both = listing([names[columns[marker]], names[j]])
            msg = (
                f"Each marker must be on one channel; {marker} is on {both}. "
                "Rename one of them in the panel, or leave its marker empty."
            )
            raise ArgumentError(msg)
        columns[marker] = j
    values, rows = pool_values(adata)
    return Panel(
        values,
        columns,
        {marker: str(names[j]) for marker, j in columns.items()},
        scatter_scales(adata, values, columns),
        source=adata.X,
        rows=rows,
    )


def pool_values(adata: AnnData) -> tuple[np.ndarray, np.ndarray | None]:
    """Values of the events that models are fitted on, and their rows; None for all events."""
    rows = chunks.pool_rows(adata.n_obs)
    if len(rows) < adata.n_obs:
        return chunks.take_rows(adata.X, rows), rows
    lazy = chunks.is_lazy(adata.X)
    return chunks.take_rows(adata.X, rows) if lazy else np.asarray(adata.X), None


def scatter_scales(
    adata: AnnData, values: np.ndarray, columns: Mapping[str, int]
) -> dict[str, float]:
    """Take a twentieth of the median of each scatter marker that is on a linear scale."""
    scales = {}
    for marker in SCATTER:
        if marker not in columns:
            continue
        scale = "linear"
        if schema.SCALE in adata.var:
            scale = str(adata.var[schema.SCALE].iloc[columns[marker]])
        data = values[:: max(1, len(values) // MAX_COUNT), columns[marker]]
        data = data[np.isfinite(data)]
        middle = float(np.median(np.abs(data))) if data.size else 0.0
        if scale == "linear" and middle > 0:
            scales[marker] = middle / 20
    return scales


def usual_levels(panel: Panel, rows: np.ndarray) -> tuple[Baseline, dict[str, Split]]:
    """Where negatives and positives usually lie, from the markers that split clearly; all splits.

    Scatter is split by itself: its levels are not those of antibodies.
    """
    step = max(1, len(rows) // MAX_COUNT)
    histograms = {m: count_values(panel.take(m, rows[::step])) for m in panel.columns}
    stained = [m for m in histograms if m not in SCATTER]
    baseline, found = split_panel([histograms[m] for m in stained])
    splits = dict(zip(stained, found, strict=True))
    return baseline, {
        m: splits[m] if m in splits else split_marker(histogram)
        for m, histogram in histograms.items()
    }


def usable_rows(adata: AnnData, panel: Panel) -> np.ndarray:
    """Pooled events that passed quality control (all if it was not run) and are finite."""
    return np.flatnonzero(usable_events(panel.values, panel.pooled(passed_events(adata))))


def passed_events(adata: AnnData) -> np.ndarray:
    """Tell which events passed quality control."""
    if schema.QC_PASS in adata.obs:
        return adata.obs[schema.QC_PASS].to_numpy(dtype=bool)
    return event_arrays(adata).full(value=True, dtype=np.bool_)


def usable_events(values: np.ndarray, passed: np.ndarray) -> np.ndarray:
    """Tell which events passed quality control and are finite."""
    keep = passed.copy()
    for start in range(0, len(values), 262_144):
        keep[start : start + 262_144] &= np.isfinite(values[start : start + 262_144]).all(axis=1)
    return keep
