"""Pairs of markers that divide one population into four, each cut on either side of the other."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

from cytoclust.numerics.quadrants import split_sides
from cytoclust.tl.phenotype_scores import Sides

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from cytoclust.numerics.mixtures import Baseline
    from cytoclust.numerics.references import Reference
    from cytoclust.tl.definition_model import Population
    from cytoclust.tl.phenotype_scores import Key, Node


def side_name(parent: str, beside: Key, *, upper: bool) -> str:
    """Name of the events of a population on one side of a marker, as in "CD8 T, CD45RA-"."""
    return f"{parent}, {beside[0]}{'+' if upper else '-'}"


def quadrant_pairs(node: Node, children: Sequence[Population]) -> list[tuple[Key, Key]]:
    """Ordered pairs of markers of which the children's rules ask for all four combinations.

    What siblings merely leave (residual populations) makes no quadrant.
    """
    asked: dict[tuple[Key, Key], set[tuple[bool, bool]]] = {}
    for child in children:
        if child.name not in node.rules or child.residual:
            continue
        needed = [c for c in node.rules[child.name].needed if not c.upper]
        for first, second in permutations(needed, 2):
            pair = ((first.marker, False), (second.marker, False))
            asked.setdefault(pair, set()).add((first.high, second.high))
    return [pair for pair, combinations in asked.items() if len(combinations) == 4]


def split_quadrants(
    node: Node,
    children: Sequence[Population],
    *,
    label: str,
    take: Callable[[str, np.ndarray], np.ndarray],
    rows: np.ndarray,
    references: Callable[[str], Reference],
    baseline: Baseline,
    given: Mapping[str | tuple[str, str, bool], float],
) -> None:
    """Cut each marker of a quadrant on both sides of the other; fills ``node.sides``."""
    from cytoclust.tl.phenotype_nodes import move_cut

    for key, beside in quadrant_pairs(node, children):
        pooled, other = node.splits.get(key), node.splits.get(beside)
        if key in node.sides or pooled is None or other is None:
            continue
        if not (pooled.informative and other.informative):
            continue
        names = [side_name(label, beside, upper=upper) for upper in (False, True)]
        recorded = [given.get((name, *key)) for name in names]
        if any(cut is not None for cut in recorded) or pooled.method == "given":
            low, high = (pooled if cut is None else move_cut(pooled, cut) for cut in recorded)
        else:
            low, high = split_sides(
                take(key[0], rows),
                take(beside[0], rows) > other.cut,
                pooled=pooled,
                reference=references(key[0]),
                baseline=baseline,
            )
        if low is not pooled or high is not pooled:
            node.sides[key] = Sides(beside, low, high)
