"""Linear values from stored ones: $PnE, $PnG and $TIMESTEP."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cytoclust.io.fcs_layout import Layout
    from cytoclust.io.fcs_text import Keywords

TIME_NAME = re.compile(r"(hdr-t|hdr-tm|time\d?)(\b.*)?", re.IGNORECASE)


def is_time(channel: str) -> bool:
    """Tell whether a channel holds the time of acquisition."""
    return TIME_NAME.fullmatch(channel.strip()) is not None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def amplification(keywords: Keywords, number: int) -> tuple[float, float]:
    """Return decades and offset of $PnE; (0, 0) is linear. An offset of 0 is read as 1."""
    parts = [_number(part) for part in keywords.text(f"$P{number}E").split(",")]
    if len(parts) != 2 or not all(np.isfinite(parts)) or parts[0] <= 0:
        return 0.0, 0.0
    return parts[0], parts[1] if parts[1] > 0 else 1.0


def logarithmic(keywords: Keywords, layout: Layout) -> list[int]:
    """Return the columns that hold logarithms by $PnE (integers only)."""
    return [
        column
        for column, kind in enumerate(layout.kinds)
        if kind in {"I", "A"} and amplification(keywords, column + 1)[0] > 0
    ]


def unlogged(
    values: NDArray[Any], keywords: Keywords, column: int
) -> tuple[NDArray[np.float64], str]:
    """Return linear values of a logarithmic channel, and what was applied."""
    decades, offset = amplification(keywords, column + 1)
    span = _number(keywords.text(f"$P{column + 1}R"))
    if not span > 0:
        return values.astype(np.float64), ""
    linear = offset * 10.0 ** (decades * values.astype(np.float64) / span)
    return linear, f"{decades:g} decades from {offset:g} over {span:g} ($P{column + 1}E)"


def scaled_events(
    events: NDArray[Any],
    channels: Sequence[str],
    keywords: Keywords,
    *,
    layout: Layout,
    scale: bool,
    time_step: bool,
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Apply $PnE to integers, $PnG to linear channels, and $TIMESTEP to time if asked for."""
    out = events.astype(np.float64)
    applied: list[str] = []
    on_log_scale = set(logarithmic(keywords, layout))
    step = _number(keywords.text("$TIMESTEP"))
    for column, channel in enumerate(channels):
        gain = _number(keywords.text(f"$P{column + 1}G"))
        if is_time(channel):  # the standard allows no gain for time
            if time_step and np.isfinite(step) and step > 0:
                out[:, column] *= step
                applied.append(f"{channel}: times {step:g} ($TIMESTEP)")
        elif scale and column in on_log_scale:
            out[:, column], text = unlogged(events[:, column], keywords, column)
            applied.append(f"{channel}: {text}")
        elif scale and np.isfinite(gain) and gain > 0 and gain != 1:
            out[:, column] /= gain
            applied.append(f"{channel}: divided by {gain:g} ($P{column + 1}G)")
    return out, tuple(applied)
