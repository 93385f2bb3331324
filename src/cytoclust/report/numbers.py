"""Numbers as the report writes them."""

from __future__ import annotations

import math
from typing import Final

MINUS: Final = "\N{MINUS SIGN}"


def significant(value: float, digits: int = 2) -> str:
    """Write a number with `digits` significant digits, never in exponents between 0.001 and 10**6."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def probability(value: float) -> str:
    """Write a p-value or false discovery rate."""
    if not math.isfinite(value):
        return "–"
    if value < 1e-4:
        return f"{value:.0e}" if value > 1e-300 else "< 1e-300"
    return f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def percent(part: float, whole: float) -> str:
    """Write a share as percent."""
    return f"{significant(100 * part / whole)} %" if whole else "–"


def change(log2: float) -> str:
    """Write a log2 fold change as what happened: a rise in folds, a fall to a share."""
    if not math.isfinite(log2):
        return "changed by an unknown amount"
    fold = 2.0**log2
    return f"rose {significant(fold)}-fold" if log2 >= 0 else f"fell to {significant(100 * fold)} %"


def interval(low: float, high: float, *, falling: bool) -> str:
    """Write a log2 interval in the unit that `change` used."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "no interval"
    if falling:
        return f"{significant(100 * 2.0**low)} to {significant(100 * 2.0**high)} %"
    return f"{significant(2.0**low)}- to {significant(2.0**high)}-fold"


def signed(value: float) -> str:
    """Write a difference with its sign."""
    return f"+{significant(value)}" if value > 0 else significant(value).replace("-", MINUS)


def plural(number: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_of(names: list[str], limit: int = 6) -> str:
    """Join the first names and say how many follow."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
