"""Linear values from stored ones: $PnE, $PnG and $TIMESTEP."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cytoclust.io.fcs_layout import Layout
    from cytoclust.io.fcs_text import Keywords

TIME_NAME = re.compile(r"(hdr-t|hdr-tm|time\d?)(\b.*)?", re.IGNORECASE)


def is_time(channel: str) -> bool:
    """Tell whether a channel holds the time of acquisition."""
    return TIME_NAME.fullmatch(channel.strip()) is not None


def number_or_nan(text: str) -> float:
    """Return a text as a number, NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def amplification(keywords: Keywords, number: int) -> tuple[float, float]:
    """Return decades and offset of $PnE; (0, 0) is linear. An offset of 0 is read as 1."""
    parts = [number_or_nan(part) for part in keywords.text(f"$P{number}E").split(",")]
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


@dataclass(frozen=True)
class Scaling:
    """What is done to the stored values of one channel."""

    column: int
    apply: Callable[[NDArray[Any]], NDArray[np.float64]]
    text: str


def unlogging(keywords: Keywords, column: int) -> Scaling:
    """Return the conversion of a logarithmic channel to linear values."""
    decades, offset = amplification(keywords, column + 1)
    key = f"$P{column + 1}"
    span = number_or_nan(keywords.text(f"{key}R"))
    if not 0 < span < float("inf"):
        text = f"left as stored, since {key}E needs {key}R, which is no number above 0"
        return Scaling(column, lambda values: values.astype(np.float64), text)

    def apply(values: NDArray[Any]) -> NDArray[np.float64]:
        with np.errstate(over="ignore"):  # absurd decades; the values count as not finite
            linear: NDArray[np.float64] = offset * 10.0 ** (
                decades * values.astype(np.float64) / span
            )
        return linear

    return Scaling(column, apply, f"{decades:g} decades from {offset:g} over {span:g} ({key}E)")


def scalings(
    channels: Sequence[str], keywords: Keywords, layout: Layout, *, scale: bool, time_step: bool
) -> list[Scaling]:
    """List what $PnE (integers), $PnG (linear channels) and, if asked for, $TIMESTEP ask for.

    Parameters
    ----------
    channels, keywords, layout
        Of the data set.
    scale
        Apply $PnE and $PnG.
    time_step
        Apply $TIMESTEP to the time channel, which has no gain by the standard.
    """
    found: list[Scaling] = []
    on_log_scale = set(logarithmic(keywords, layout)) if scale else set()
    step = number_or_nan(keywords.text("$TIMESTEP"))
    for column, channel in enumerate(channels):
        gain = number_or_nan(keywords.text(f"$P{column + 1}G"))
        if is_time(channel):
            if time_step and 0 < step < float("inf"):
                apply = partial(_multiplied, by=step)
                found.append(Scaling(column, apply, f"{channel}: times {step:g} ($TIMESTEP)"))
        elif column in on_log_scale:
            unlog = unlogging(keywords, column)
            found.append(replace(unlog, text=f"{channel}: {unlog.text}"))
        elif scale and 0 < gain < float("inf") and gain != 1:
            text = f"{channel}: divided by {gain:g} ($P{column + 1}G)"
            found.append(Scaling(column, partial(_divided, by=gain), text))
    return found


def _multiplied(values: NDArray[Any], by: float) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        product: NDArray[np.float64] = values.astype(np.float64) * by
    return product


def _divided(values: NDArray[Any], by: float) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        quotient: NDArray[np.float64] = values.astype(np.float64) / by
    return quotient
