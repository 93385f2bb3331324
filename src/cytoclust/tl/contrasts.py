"""Contrasts by name: "d7 - d0" and what it weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cytoclust.checks import listing
from cytoclust.errors import DesignError
from cytoclust.tl.sheet import suggestion

MINUS = " - "


@dataclass(frozen=True)
class Contrast:
    """A comparison of levels: its name and the weight of each level, summing to 0."""

    name: str
    weights: dict[str, float]

    def vector(self, levels: Sequence[str]) -> np.ndarray:
        """Weights in the order of `levels`."""
        return np.array([self.weights.get(level, 0.0) for level in levels])


def default_contrasts(levels: Sequence[str], baseline: str, *, last_first: bool) -> list[Contrast]:
    """Every level minus baseline, then last minus first on-treatment level."""
    on = [level for level in levels if level != baseline]
    pairs = [(level, baseline) for level in on]
    if last_first and len(on) > 1:
        pairs.append((on[-1], on[0]))
    return [difference(later, earlier) for later, earlier in pairs]


def factorial_contrasts(
    outer: Sequence[str], inner: Sequence[str], present: Sequence[str], *, baseline: str
) -> list[Contrast]:
    """Return changes over the inner levels within each outer one, and their differences.

    Levels are named "outer inner"; combinations that nobody has are left out.
    """
    on = [level for level in inner if level != baseline]
    pairs = [(level, baseline) for level in on]
    if len(on) > 1:
        pairs.append((on[-1], on[0]))
    within: dict[tuple[str, str, str], Contrast] = {}
    for arm in outer:
        for later, earlier in pairs:
            names = f"{arm} {later}", f"{arm} {earlier}"
            if names[0] in present and names[1] in present:
                within[arm, later, earlier] = difference(*names)
    found = list(within.values())
    for (arm, later, earlier), change in within.items():
        first = within.get((outer[0], later, earlier))
        if arm != outer[0] and first is not None:
            weights = change.weights | {level: -w for level, w in first.weights.items()}
            found.append(Contrast(f"({change.name}){MINUS}({first.name})", weights))
    return found


def difference(later: str, earlier: str) -> Contrast:
    """Return the contrast ``later - earlier``."""
    return Contrast(f"{later}{MINUS}{earlier}", {later: 1.0, earlier: -1.0})


def parse_contrasts(
    given: Sequence[str] | Mapping[str, Mapping[str, float]], levels: Sequence[str]
) -> list[Contrast]:
    """Read contrasts written as text ("d7 - d0") or as weights of levels under a name."""
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        return [_weighted(str(name), weights, levels) for name, weights in given.items()]
    found = [_from_text(str(text), levels) for text in given]
    if not found:
        msg = f"contrasts must name at least one comparison of {listing(levels)}; got none. Leave it out for the default."
        raise DesignError(msg)
    return found


def split_name(name: str, levels: Sequence[str]) -> tuple[str, str] | None:
    """Return (later, earlier) of a name "later - earlier", or None; levels may hold " - " too."""
    parts = name.split(MINUS)
    for cut in range(1, len(parts)):
        later, earlier = MINUS.join(parts[:cut]).strip(), MINUS.join(parts[cut:]).strip()
        if later in levels and earlier in levels and later != earlier:
            return later, earlier
    return None


def _from_text(text: str, levels: Sequence[str]) -> Contrast:
    pair = split_name(text, levels)
    if pair is None:
        wrong = [part.strip() for part in text.split(MINUS) if part.strip() not in levels]
        hint = suggestion(wrong[0], list(levels)) if wrong else ""
        msg = (
            f"contrast {text!r} must read 'later - earlier' (spaces around the minus) with levels "
            f"of {listing(levels)}.{hint} Correct the contrast."
        )
        raise DesignError(msg)
    return difference(*pair)


def _weighted(name: str, weights: Mapping[str, float], levels: Sequence[str]) -> Contrast:
    unknown = [str(level) for level in weights if str(level) not in levels]
    total = sum(float(weight) for weight in weights.values())
    if unknown or abs(total) > 1e-9 or not any(weights.values()):
        what = f"unknown levels {listing(unknown)}" if unknown else f"weights that sum to {total:g}"
        msg = (
            f"contrast {name!r} must weigh levels of {listing(levels)} with weights that are not "
            f"all 0 and sum to 0; got {what}. Correct the contrast."
        )
        raise DesignError(msg)
    return Contrast(name, {str(level): float(weight) for level, weight in weights.items()})
