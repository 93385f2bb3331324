"""Fit the channels of the files to each other and to the panel."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.checks import listing
from cytoclust.errors import StudyError, StudyWarning
from cytoclust.io.channels import channel_type, guessed_class, guessed_marker

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cytoclust.io.sources import Source

LARGEST_CHANNEL_VALUE = 1023.0
LARGEST_LOGICLE_VALUE = 15.0
DETECTOR = re.compile(r"-[AHW]$")
REMEDY = (
    "Export the files with the same channels, leave the file out of the sample sheet, or give the "
    "channel the marker_class none in the panel."
)


def study_channels(
    sources: list[Source], names: list[str], panel: pd.DataFrame | None
) -> pd.DataFrame:
    """Return the table of the study's channels, in the order of the first file.

    Parameters
    ----------
    sources
        The opened files.
    names
        Sample name of each.
    panel
        Checked panel, or None.

    Returns
    -------
    ``adata.var``: channel, marker, channel_type, marker_class, scale and cofactor.
    """
    everywhere = list(dict.fromkeys(name for source in sources for name in source.channels))
    if panel is not None:
        panel = _fitted_panel(panel, everywhere)
    rows = {name: _describe(name, sources, panel) for name in everywhere}
    _refuse_repeated_markers(rows)
    left_out: dict[str, list[str]] = {}
    for name in everywhere:
        absent = [
            f"{sample} ({source.path.name})"
            for sample, source in zip(names, sources, strict=True)
            if name not in source.channels
        ]
        if not absent:
            continue
        if rows[name][schema.MARKER_CLASS] != "none":
            msg = (
                f"channel {name!r} ({rows[name][schema.MARKER]}) is missing in the files of "
                f"{listing(absent)}, and in the others it is there. {REMEDY}"
            )
            raise StudyError(msg)
        left_out[name] = absent
    if left_out:
        named = [f"{name} (not in {listing(absent, 3)})" for name, absent in left_out.items()]
        warnings.warn(
            f"channels that are not in every file are left out: {listing(named)}",
            StudyWarning,
            stacklevel=3,
        )
    kept = [name for name in sources[0].channels if name not in left_out]
    if not kept:
        msg = f"the files have no channel in common; channels: {listing(everywhere)}. {REMEDY}"
        raise StudyError(msg)
    unlisted = [name for name in kept if panel is not None and name not in panel.index]
    if unlisted:
        warnings.warn(
            f"channels that the panel does not list have marker_class none: {listing(unlisted)}",
            StudyWarning,
            stacklevel=3,
        )
    table = pd.DataFrame([rows[name] for name in kept], index=pd.Index(kept))
    table[schema.COFACTOR] = table[schema.COFACTOR].astype(np.float64)
    if (table[schema.MARKER_CLASS] == "none").all():
        warnings.warn(
            "no channel has a marker of class type or state; give a panel "
            f"(channel, marker, marker_class) for the channels {listing(kept)}",
            StudyWarning,
            stacklevel=3,
        )
    return table


def _fitted_panel(panel: pd.DataFrame, everywhere: list[str]) -> pd.DataFrame:
    """Give the panel the spelling of the files, and check that its channels are there."""
    spelled = {name.casefold(): name for name in reversed(everywhere)}
    exact = set(everywhere)
    found = [
        name if name in exact else spelled.get(str(name).casefold(), "") for name in panel.index
    ]
    if not any(found):
        msg = (
            f"the panel names no channel of the files. Panel: {listing(panel.index)}; files: "
            f"{listing(everywhere, 60)}. Write $PnN (or the CSV header) into column 'channel'."
        )
        raise StudyError(msg)
    absent = [str(name) for name, match in zip(panel.index, found, strict=True) if not match]
    needed = [name for name in absent if panel.loc[name, schema.MARKER_CLASS] != "none"]
    if needed:
        msg = (
            f"channels of the panel are in no file: {listing(needed)}; the files have "
            f"{listing(everywhere, 60)}. Correct the names, or take the rows out of the panel."
        )
        raise StudyError(msg)
    if absent:
        warnings.warn(
            f"channels of the panel (marker_class none) are in no file: {listing(absent)}",
            StudyWarning,
            stacklevel=4,
        )
    fitted = panel[[bool(match) for match in found]].copy()
    fitted.index = pd.Index([match for match in found if match], name=panel.index.name)
    if fitted.index.has_duplicates:
        repeated = sorted(set(fitted.index[fitted.index.duplicated()]))
        msg = f"panel: channel listed more than once: {listing(repeated)}. Give each once."
        raise StudyError(msg)
    return fitted


def _describe(
    name: str, sources: list[Source], panel: pd.DataFrame | None
) -> dict[str, str | float]:
    """Return the row of ``adata.var`` of one channel."""
    written, in_files = name, []
    for source in sources:
        if name in source.channels:
            column = source.channels.index(name)
            written = source.written[column] or name
            in_files.append(source.markers[column])
    named = next((marker for marker in in_files if marker), "")
    marker_class, scale, cofactor = "none", "", float("nan")
    if panel is not None and name in panel.index:
        position = panel.index.get_loc(name)
        marker = str(panel[schema.MARKER].to_numpy()[position])
        marker_class = str(panel[schema.MARKER_CLASS].to_numpy()[position])
        scale = str(panel[schema.SCALE].to_numpy()[position])
        cofactor = float(panel[schema.COFACTOR].to_numpy()[position])
        if marker_class != "none" and not marker:
            marker = named or name
        kind = channel_type(name, marker or named)
    else:
        kind = channel_type(name, named)
        marker = guessed_marker(name, named) if kind in {"fluorescence", "mass"} else named
        if not marker and named and all(source.header is None for source in sources):
            marker = "" if DETECTOR.search(name) else name  # tables are headed by markers
        different = sorted({text for text in in_files if text} - {named})
        if different:
            warnings.warn(
                f"channel {name!r} has different markers in the files: "
                f"{listing([named, *different])}; the first is taken",
                StudyWarning,
                stacklevel=4,
            )
        if panel is None:
            marker_class = guessed_class(kind, marker)
    return {
        schema.CHANNEL: written,
        schema.MARKER: marker,
        schema.CHANNEL_TYPE: kind,
        schema.MARKER_CLASS: marker_class,
        schema.SCALE: scale,
        schema.COFACTOR: cofactor,
    }


def _refuse_repeated_markers(rows: dict[str, dict[str, str | float]]) -> None:
    """Refuse two channels of class type or state with one marker: it would count twice."""
    seen: dict[str, str] = {}
    for name, row in rows.items():
        marker = str(row[schema.MARKER])
        if row[schema.MARKER_CLASS] == "none" or not marker:
            continue
        if marker in seen:
            msg = (
                f"channels {seen[marker]!r} and {name!r} both have the marker {marker!r}; expected "
                "one channel per marker. Give one of them another marker, or marker_class none."
            )
            raise StudyError(msg)
        seen[marker] = name


def unsaid_scales(var: pd.DataFrame) -> NDArray[np.intp]:
    """Return the measured channels whose scale the panel does not say."""
    measured = var[schema.CHANNEL_TYPE].isin(["fluorescence", "mass", "viability"]).to_numpy()
    return np.flatnonzero(measured & (var[schema.SCALE] == "").to_numpy())


def refuse_transformed(var: pd.DataFrame, lowest: float, highest: float) -> None:
    """Refuse data that look transformed where the panel does not say; then fill in the scale.

    `lowest` and `highest` are those of all values of the `unsaid_scales`.
    """
    if lowest < highest:  # one value only, or none that is finite, says nothing about the scale
        whole = lowest >= 0.0 and highest <= LARGEST_CHANNEL_VALUE
        if whole or max(-lowest, highest) <= LARGEST_LOGICLE_VALUE:
            msg = (
                f"all values of the measured channels lie in {lowest:g} to {highest:g}, as after a "
                "transformation, and the panel does not say which scale they have. Add a column "
                "'scale' to the panel: 'transformed' (never compensated or transformed again) or "
                "'linear'."
            )
            raise StudyError(msg)
    var[schema.SCALE] = [str(scale) or "linear" for scale in var[schema.SCALE]]


def value_limits(values: NDArray[np.float32], columns: NDArray[np.intp]) -> tuple[float, float]:
    """Return the smallest and largest finite value of the columns; inf and -inf without any."""
    lowest, highest = np.inf, -np.inf
    for start in range(0, len(values) if len(columns) else 0, 1 << 16):
        block = values[start : start + (1 << 16)][:, columns]
        finite = np.isfinite(block)
        lowest = min(lowest, float(np.min(block, where=finite, initial=np.inf)))
        highest = max(highest, float(np.max(block, where=finite, initial=-np.inf)))
    return lowest, highest
