"""Rules of definitions against what a panel and its events can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cytoclust.tl.phenotype_scores import holds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cytoclust.numerics.mixtures import Split
    from cytoclust.tl.definition_model import Condition, Population, Rule
    from cytoclust.tl.phenotype_scores import Key, Node


def usable(rule: Rule, splits: Mapping[Key, Split]) -> tuple[bool, list[str]]:
    """Whether every needed marker of a rule tells something; else the markers that do not."""
    lacking: list[str] = []

    def decided(condition: Condition) -> bool:
        split = splits.get((condition.marker, condition.upper))
        return holds(condition, split, condition.high) is not None

    lacking += [c.marker for c in rule.needed if not c.if_measured and not decided(c)]
    if rule.any_of:
        groups = [
            [c.marker for c in group if not c.if_measured and not decided(c)]
            for group in rule.any_of
        ]
        if all(groups):
            lacking += min(groups, key=lambda group: len(list(group)))
    return not lacking, lacking


def matches(rule: Rule, splits: Mapping[Key, Split], bits: Mapping[Key, bool]) -> bool:
    """Whether a state of marker calls meets a rule."""

    def met(condition: Condition) -> bool:
        key = (condition.marker, condition.upper)
        bit = bits.get(dim_key(condition.marker) if condition.dim else key)
        found = holds(condition, splits.get(key), bit)
        return condition.if_measured if found is None else found

    if not all(met(condition) for condition in rule.needed):
        return False
    return not rule.any_of or any(all(met(c) for c in group) for group in rule.any_of)


def dim_key(marker: str) -> Key:
    """Where the calls of a state say whether it is dim."""
    return f"{marker} dim", False


def split_keys(children: Sequence[Population]) -> list[Key]:
    """Every split that the children's rules ask for."""
    keys = {
        (condition.marker, condition.upper): None
        for child in children
        for rule in child.rules
        for condition in rule.conditions()
    }
    return list(keys)


def contrasted_markers(children: Sequence[Population]) -> set[str]:
    """Markers that divide these siblings: some must have them and others must not.

    Not those with a bright level besides, whose dim level is positive (CD56 of NK cells).
    """
    asked: dict[str, set[str]] = {}
    for child in children:
        for condition in child.rules[0].needed if not child.residual else ():
            asked.setdefault(condition.marker, set()).add(condition.level)
    return {marker for marker, levels in asked.items() if levels == {"+", "-"}}


def choose_rules(node: Node, children: Sequence[Population], measured: set[str]) -> None:
    """Take the first rule of each child whose markers are there and tell something."""
    for child in children:
        first: list[str] = []
        for number, rule in enumerate(child.rules):
            works, lacking = usable(rule, node.splits)
            if works:
                node.rules[child.name] = rule
                if number:
                    node.notes[child.name] = f"{rule.note} ({why(first, measured, node.splits)})"
                break
            first = first or lacking
        else:
            node.missing[child.name] = why(first, measured, node.splits)


def why(lacking: Sequence[str], measured: set[str], splits: Mapping[Key, Split]) -> str:
    """Say why markers cannot be used."""
    texts = []
    for marker in dict.fromkeys(lacking):
        split = splits.get((marker, False)) or splits.get((marker, True))
        reason = split.reason or split.status if split is not None else "no groups"
        texts.append(f"{marker} {reason if marker in measured else 'not measured'}")
    return "; ".join(texts)
