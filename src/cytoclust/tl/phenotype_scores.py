"""How well events fit the populations below one parent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cytoclust.numerics.mixtures import Split, log_ratio
from cytoclust.numerics.phenotypes import Components, States, assign_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from cytoclust.tl.definition_model import Condition, Rule

CHUNK = 32_768
MAX_VIOLATION = 12.0  # log units: no single marker overrules all the others

Key = tuple[str, bool]  # marker, and whether high is told from low


@dataclass(frozen=True)
class Sides:
    """Splits of a marker among the events below and above the cut of another."""

    beside: Key
    low: Split
    high: Split


@dataclass
class Node:
    """What was found below one population.

    Attributes
    ----------
    splits
        Groups of each marker that a rule asks for, among the parent's events.
    rules
        The rule that each child was found with; children without one are in `missing`.
    missing
        Child to the reason why it cannot be told apart here.
    keys
        Informative splits, in the order of the states' bits.
    features
        Markers of the components.
    owners
        Child number of each component, -1 for a state that no child's rule covers.
    shared
        Splits among the parent's events of markers that several children are divided by.
    sides
        Markers whose cut differs between the two sides of another marker.
    dims
        Value that the median of a dim population exceeds, by marker.
    """

    parent: str
    children: list[str]
    splits: dict[Key, Split]
    rules: dict[str, Rule]
    missing: dict[str, str]
    notes: dict[str, str]
    keys: list[Key] = field(default_factory=list)
    states: States | None = None
    bits: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    features: list[str] = field(default_factory=list)
    components: Components | None = None
    owners: np.ndarray | None = None
    shared: dict[str, Split] = field(default_factory=dict)
    sides: dict[Key, Sides] = field(default_factory=dict)
    dims: dict[str, float] = field(default_factory=dict)


def holds(condition: Condition, split: Split | None, bit: bool | None) -> bool | None:  # noqa: FBT001
    """Whether a condition is met; None if the marker is missing or tells nothing."""
    if split is None or split.status == "undetermined":
        return None
    if condition.dim:
        return bit
    if split.status == "split":
        return None if bit is None else bit == condition.high
    if condition.upper:
        return None
    return (split.status == "all_positive") == condition.high


def ratios(
    node: Node, take: Callable[[str, np.ndarray], np.ndarray], rows: np.ndarray
) -> np.ndarray:
    """(n_rows, n_keys) log density of the upper over the lower group of each informative split."""
    found = np.empty((len(rows), len(node.keys)))
    for column, key in enumerate(node.keys):
        values = take(key[0], rows).astype(np.float64)
        sides = node.sides.get(key)
        if sides is None:
            found[:, column] = split_ratio(values, node.splits[key])
            continue
        upper = take(sides.beside[0], rows) > node.splits[sides.beside].cut
        found[:, column] = np.where(
            upper, split_ratio(values, sides.high), split_ratio(values, sides.low)
        )
    return found


def split_ratio(values: np.ndarray, split: Split) -> np.ndarray:
    """Log density of the upper over the lower group, 0 at the cut."""
    return log_ratio(values, split.low, split.high) + split.offset


def violation(node: Node, condition: Condition, log_ratios: np.ndarray) -> np.ndarray | float:
    """How far each event's value speaks against a condition, in log units."""
    key = (condition.marker, condition.upper)
    if key not in node.keys or condition.dim:
        return 0.0
    towards = log_ratios[:, node.keys.index(key)] * (1.0 if condition.high else -1.0)
    return np.asarray(np.clip(-towards, 0.0, MAX_VIOLATION))


def guards(node: Node, log_ratios: np.ndarray) -> np.ndarray:
    """(n_events, n_components), at most 0: how far rules and calls speak against each component.

    A population's components are held to its rule alone, so that a marker no rule asks for does
    not count; a component without a name is held to the calls that it stands for.
    """
    assert node.owners is not None
    n_events = len(log_ratios)
    found = np.zeros((n_events, len(node.owners)), dtype=np.float32)
    for c, child in enumerate(node.children):
        mine = np.flatnonzero(node.owners == c)
        if not len(mine):
            continue
        rule = node.rules[child]
        against = np.zeros(n_events)
        for condition in rule.needed:
            against += violation(node, condition, log_ratios)
        if rule.any_of:
            groups = [
                np.zeros(n_events) + sum(violation(node, part, log_ratios) for part in group)
                for group in rule.any_of
                if all(holds_somewhere(node, part) for part in group)
            ]
            against += np.min(groups, axis=0)
        found[:, mine] = -against[:, None]
    for k in np.flatnonzero(node.owners < 0):
        signs = np.where(node.bits[k], -1.0, 1.0)
        found[:, k] = -np.clip(log_ratios * signs, 0.0, MAX_VIOLATION).sum(axis=1)
    return found


def holds_somewhere(node: Node, condition: Condition) -> bool:
    """Whether a condition can be met by any event of this parent."""
    found = holds(condition, node.splits.get((condition.marker, condition.upper)), condition.high)
    return condition.if_measured if found is None else found


def assign_node(
    node: Node, take: Callable[[str, np.ndarray], np.ndarray], index: np.ndarray
) -> np.ndarray:
    """(n_events, 5) float32: child (-1 none), probability, runner-up, distance, guard; in chunks."""
    out = np.zeros((len(index), 5), dtype=np.float32)
    out[:, 0] = out[:, 2] = -1
    if node.owners is None:
        return out
    if node.components is None:
        # nothing is split: one state, which is one child's or nobody's
        out[:, 0], out[:, 1] = node.owners[0], 1.0
        return out
    model = node.components
    for start in range(0, len(index), CHUNK):
        rows = index[start : start + CHUNK]
        values = np.column_stack([take(marker, rows) for marker in node.features])
        assign_events(
            np.ascontiguousarray(values, dtype=np.float32),
            guards(node, ratios(node, take, rows)),
            model.means,
            model.whitening,
            model.offsets,
            node.owners,
            len(node.children),
            out[start : start + CHUNK],
        )
    return out
