"""One step down the hierarchy: the children of a population told apart among its events."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from cytoclust.numerics.mixtures import Baseline, Group, Split, count_values, split_marker
from cytoclust.numerics.phenotypes import (
    MIN_STATE_EVENTS,
    fit_components,
    fit_states,
    state_posteriors,
)
from cytoclust.numerics.references import Reference, split_with_reference
from cytoclust.numerics.valleys import EXPECTED, find_cuts
from cytoclust.tl.phenotype_panel import MAX_COUNT, SCATTER
from cytoclust.tl.phenotype_quadrants import split_quadrants
from cytoclust.tl.phenotype_rules import (
    choose_rules,
    contrasted_markers,
    dim_key,
    matches,
    split_keys,
)
from cytoclust.tl.phenotype_scores import Key, Node, guards, ratios

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cytoclust.tl.definition_model import Definitions, Population

MAX_FIT = 40_000
MAX_STATES_PER_NAME = 8
TAIL_RATIO = 4  # times as many events has a population whose tail a state may be
DIM = 2.0  # standard deviations of the known negatives, which 2.3 % of them exceed
NEAR_CUT = 0.1  # part of the distance between groups
MIN_EXPLAINED = 0.02  # share of a marker's variance between states, to tell them apart


def thinned(index: np.ndarray, limit: int) -> np.ndarray:
    """Return at most `limit` of the events, evenly spaced, so that every sample is represented."""
    if len(index) <= limit:
        return index
    return index[(np.arange(limit, dtype=np.int64) * len(index)) // limit]


def fit_node(
    parent: str,
    definitions: Definitions,
    *,
    take: Callable[[str, np.ndarray], np.ndarray],
    index: np.ndarray,
    features: Sequence[str],
    references: Callable[[str], Reference],
    baseline: Baseline,
    given: Mapping[str | tuple[str, str, bool], float],
    facet: str = "",
    n_iter: int = 2,
) -> Node:
    """Learn how the children of a population differ, from its own events.

    Parameters
    ----------
    parent
        Population whose events are split; "" for all events.
    take
        ``take(marker, rows)`` returns values.
    index
        Rows of the parent's events.
    features
        Markers that may tell populations apart besides those of the rules.
    references
        ``references(marker)`` returns what is known of a marker from other events.
    baseline
        Where negatives and positives usually lie in this panel.
    given
        Cut-offs that the user sets, by marker or by parent, marker and whether it is of hi and lo.
    facet
        Facet whose populations are told apart; the tree of lineages by default.

    Returns
    -------
    Node
        Splits, rules and components.
    """
    children = definitions.children(parent, facet)
    measured = set(features)
    node = Node(parent, [child.name for child in children], {}, {}, {}, {})
    counted = thinned(index, MAX_COUNT)
    node_label = f"{parent} ({facet})" if facet else parent
    contrasted = contrasted_markers(children)
    for key in split_keys(children):
        marker, upper = key
        if marker not in measured:
            continue
        histogram = count_values(take(marker, counted))
        node.splits[key] = split_with_reference(
            histogram,
            references(marker),
            baseline=Baseline() if marker in SCATTER else baseline,
            upper=upper,
            both=marker in contrasted,
        )
        cut = given_cut(given, node_label, key)
        if cut is not None:
            node.splits[key] = move_cut(node.splits[key], cut)
    node.shared = shared_splits(
        definitions, children, take=take, rows=counted, baseline=baseline, measured=measured
    )
    choose_rules(node, children, measured)
    node.dims = dim_limits(node, references, measured)
    split_quadrants(
        node,
        children,
        label=node_label,
        take=take,
        rows=counted,
        references=references,
        baseline=baseline,
        given=given,
    )
    if node.rules:
        fit_events(
            node,
            children,
            take=take,
            rows=thinned(index, MAX_FIT),
            features=features,
            n_iter=n_iter,
        )
    return node


def dim_limits(
    node: Node, references: Callable[[str], Reference], measured: set[str]
) -> dict[str, float]:
    """Two standard deviations above the known negatives, of each marker that a rule asks to be dim."""
    found = {}
    for condition in (c for rule in node.rules.values() for c in rule.conditions()):
        if condition.dim and condition.marker in measured:
            known = references(condition.marker)
            if known.negative is not None and known.tail is not None:
                found[condition.marker] = known.negative.mean + DIM * known.negative.sd
    return found


def shared_splits(
    definitions: Definitions,
    children: Sequence[Population],
    *,
    take: Callable[[str, np.ndarray], np.ndarray],
    rows: np.ndarray,
    baseline: Baseline,
    measured: set[str],
) -> dict[str, Split]:
    """Split the markers that two or more children will be divided by, among all their events."""
    below = {
        child.name: [p for p in definitions.populations.values() if p.parent == child.name]
        for child in children
    }
    asked = Counter(key[0] for part in below.values() for key in split_keys(part) if not key[1])
    contrasted = {marker for part in below.values() for marker in contrasted_markers(part)}
    return {
        marker: split_marker(
            count_values(take(marker, rows)), baseline=baseline, both=marker in contrasted
        )
        for marker, times in asked.items()
        if times > 1 and marker in measured and marker not in SCATTER
    }


def given_cut(
    given: Mapping[str | tuple[str, str, bool], float], parent: str, key: Key
) -> float | None:
    """Cut-off that the user sets for a marker below this parent, or everywhere."""
    marker, upper = key
    return given.get((parent, marker, upper), None if upper else given.get(marker))


def move_cut(split: Split, cut: float) -> Split:
    """Replace the cut of a split by a given one, the groups' spread kept where it is known."""
    spread = split.low.sd if np.isfinite(split.low.sd) else 0.5
    low = Group(min(split.low.mean, cut - 2 * spread) if np.isfinite(split.low.mean) else cut - 2 * spread, spread, 0.5)  # fmt: skip
    high = Group(2 * cut - low.mean, spread, 0.5)
    return Split("split", low, high, cut, (cut, cut), 0.0, "given", "set by the user")


def fit_events(
    node: Node,
    children: Sequence[Population],
    *,
    take: Callable[[str, np.ndarray], np.ndarray],
    rows: np.ndarray,
    features: Sequence[str],
    n_iter: int,
) -> None:
    """Fit states, name them by the rules, and refine them as components in every marker."""
    asked = {(c.marker, c.upper): None for rule in node.rules.values() for c in rule.conditions()}
    node.keys = [key for key in asked if key in node.splits and node.splits[key].informative]
    log_ratios = ratios(node, take, rows)
    node.states = fit_states(log_ratios)
    owner = np.full(len(node.states.bits), -1)
    dims = dim_states(node, take=take, rows=rows, log_ratios=log_ratios)
    for s, bits in enumerate(node.states.bits):
        calls = dict(zip(node.keys, bits.tolist(), strict=True)) | dims[s]
        for c, child in enumerate(node.children):
            if child in node.rules and matches(node.rules[child], node.splits, calls):
                owner[s] = c
                break
    absorb_tails(node, children, owner, take=take, rows=rows, log_ratios=log_ratios)
    shares = state_posteriors(log_ratios, node.states)
    keep = kept_states(shares, owner)
    node.owners = owner[keep].astype(np.int64)
    node.bits = node.states.bits[keep]
    shares = shares[:, keep]
    total = shares.sum(axis=1, keepdims=True)
    shares = np.where(total > 0.05, shares / np.maximum(total, 1e-300), 0.0)
    values = np.column_stack([take(marker, rows) for marker in features]).astype(np.float64)
    telling = {key[0] for key in node.keys} | {
        condition.marker
        for child in children
        if child.name in node.rules
        for condition in child.optional
    }
    chosen = [
        j for j, marker in enumerate(features)
        if marker in {key[0] for key in node.keys}
        or (marker in telling and explained(values[:, j], shares) >= MIN_EXPLAINED)
    ]  # fmt: skip
    node.features = [features[j] for j in chosen]
    if chosen:
        node.components = fit_components(
            values[:, chosen], shares, n_iter=n_iter, guard=guards(node, log_ratios)
        )


def dim_states(
    node: Node,
    *,
    take: Callable[[str, np.ndarray], np.ndarray],
    rows: np.ndarray,
    log_ratios: np.ndarray,
) -> list[dict[Key, bool]]:
    """Whether each state as a whole lies above the negatives, of the markers that may be dim."""
    assert node.states is not None
    powers = np.int64(1) << np.arange(len(node.keys), dtype=np.int64)
    codes = (log_ratios > 0) @ powers
    found: list[dict[Key, bool]] = []
    for code in node.states.bits @ powers:
        mine = rows[codes == code]
        found.append({
            dim_key(marker): bool(np.median(take(marker, mine)) > limit)
            for marker, limit in node.dims.items()
            if len(mine)
        })  # fmt: skip
    return found


def absorb_tails(
    node: Node,
    children: Sequence[Population],
    owner: np.ndarray,
    *,
    take: Callable[[str, np.ndarray], np.ndarray],
    rows: np.ndarray,
    log_ratios: np.ndarray,
) -> None:
    """Give states of a residual population that form no group of their own to their neighbour.

    Changes `owner`. A state goes with another that differs in one marker and is four times as large,
    if the two together show no dent in that marker: it is the tail of the other.
    """
    assert node.states is not None
    residual = {c for c, child in enumerate(children) if child.residual}
    if not residual.intersection(owner.tolist()):
        return
    powers = np.int64(1) << np.arange(len(node.keys), dtype=np.int64)
    codes = (log_ratios > 0) @ powers
    numbers = {int(code): s for s, code in enumerate(node.states.bits @ powers)}
    given = owner.copy()
    for code, s in numbers.items():
        if given[s] not in residual:
            continue
        for k, key in enumerate(node.keys):
            t = numbers.get(code ^ int(powers[k]))
            if t is None or node.states.weights[t] < TAIL_RATIO * node.states.weights[s]:
                continue
            both = rows[(codes == code) | (codes == code ^ int(powers[k]))]
            if not own_dent(
                take(key[0], both), node.splits[key], above=bool(node.states.bits[s, k])
            ):
                owner[s] = given[t]
                break


def own_dent(values: np.ndarray, split: Split, *, above: bool) -> bool:
    """Whether a dent sets off the events on one side of a split, there or at the split itself."""
    margin = NEAR_CUT * (split.high.mean - split.low.mean)
    found = find_cuts(count_values(values), strictness=EXPECTED)
    return any(cut > split.cut - margin if above else cut < split.cut + margin for cut, _ in found)


def kept_states(shares: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """States that become components: of each name the largest that hold 98 % of its events.

    At most 8 of a name and 15 events or more each; without a name, 0.1 % of the events.
    """
    sizes = shares.sum(axis=0)
    keep = np.zeros(len(sizes), dtype=bool)
    for name in np.unique(owner):
        same = np.flatnonzero(owner == name)
        same = same[np.argsort(-sizes[same], kind="stable")]
        before = np.cumsum(sizes[same]) - sizes[same]
        least = MIN_STATE_EVENTS if name >= 0 else max(30.0, 1e-3 * len(shares))
        chosen = same[(before <= 0.98 * sizes[same].sum()) & (sizes[same] >= least)]
        keep[chosen[:MAX_STATES_PER_NAME]] = True
    if not keep.any():
        keep[np.argmax(sizes)] = True
    return keep


def explained(values: np.ndarray, shares: np.ndarray) -> float:
    """Share of a marker's variance that lies between the states."""
    sizes = np.maximum(shares.sum(axis=0), 1e-9)
    means = (shares * values[:, None]).sum(axis=0) / sizes
    total = float(values.var())
    if total <= 0:
        return 0.0
    between = float((sizes / sizes.sum()) @ (means - values.mean()) ** 2)
    return between / total
