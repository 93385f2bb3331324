"""What speaks for each name: clusters named from their events, and the tables that say why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cytoclust.numerics.mixtures import Split
    from cytoclust.tl.definitions import Definitions, Rule
    from cytoclust.tl.phenotype_panel import Panel
    from cytoclust.tl.phenotype_scores import Key, Node

MAX_ROWS = 2_000


def cutoff_row(marker: str, split: Split) -> dict[str, object]:
    """One row of a cut-off table."""
    above = [cut for cut in split.cuts if cut > split.cut] if split.informative else []
    return {
        "marker": marker,
        "cut_low": split.band[0],
        "cut_positive": split.cut,
        "cut_bright": above[0] if above else np.nan,
        "band_low": split.band[0],
        "band_high": split.band[1],
        "method": split.method,
        "informative": split.informative,
        "status": split.status,
        "reason": split.reason,
    }


def node_cutoffs(nodes: Mapping[str, Node]) -> pd.DataFrame:
    """Cut-offs that were used below each parent."""
    rows = [
        {"parent": parent or "all events", "level": "hi/lo" if upper else "+/-", **cutoff_row(marker, split)}
        for parent, node in nodes.items()
        for (marker, upper), split in node.splits.items()
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.index = table.index.astype(str)
    return table


def rule_table(
    definitions: Definitions, nodes: Mapping[str, Node], counts: Mapping[str, int]
) -> pd.DataFrame:
    """How each population was looked for: rule, what was missing, events found."""
    rows = {}
    for name, population in definitions.populations.items():
        node = nodes.get(population.parent)
        rule = node.rules.get(name) if node else None
        if node is None:
            status, reason = "not looked for", f"no or too few events of {population.parent}"
        elif rule is None:
            status, reason = "fell back to parent", node.missing.get(name, "")
        else:
            note = node.notes.get(name, "")
            status, reason = ("fallback" if note else "found by rule"), note
        rows[name] = {
            "parent": population.parent,
            "rule": rule_text(rule) if rule else "",
            "status": status,
            "reason": reason,
            "source": population.source,
            "n_events": int(counts.get(name, 0)),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def rule_text(rule: Rule) -> str:
    """Write a rule in one line."""
    needed = " ".join(str(c) + ("?" if c.if_measured else "") for c in rule.needed)
    groups = " or ".join("(" + " ".join(str(c) for c in group) + ")" for group in rule.any_of)
    return " ".join(text for text in (needed, groups) if text)


def hierarchy_table(definitions: Definitions) -> pd.DataFrame:
    """Parent, depth and Cell Ontology identifier of every phenotype."""
    rows = {
        name: {
            "parent": population.parent,
            "depth": len(definitions.path(name)),
            "cell_ontology": population.cell_ontology,
        }
        for name, population in definitions.populations.items()
    }
    rows[schema.UNASSIGNED] = {"parent": "", "depth": 1, "cell_ontology": ""}
    return pd.DataFrame.from_dict(rows, orient="index")


def descend(definitions: Definitions, shares: Mapping[str, float]) -> tuple[str, float, str]:
    """Name of a cluster from its events' names: the deepest that holds more than half of them.

    Returns name, share and the strongest competitor at the level where the walk ended.
    """
    held: dict[str, float] = {}
    for name, share in shares.items():
        for ancestor in definitions.path(name) if name in definitions.populations else []:
            held[ancestor] = held.get(ancestor, 0.0) + share
    name, score = "", shares.get(schema.UNASSIGNED, 0.0)
    runner_up = ""
    while True:
        level = sorted(
            ((held.get(c.name, 0.0), c.name) for c in definitions.children(name)),
            key=lambda item: (-item[0], item[1]),
        )
        level = [item for item in level if item[0] > 0]
        if not level:
            break
        if level[0][0] <= 0.5:
            if not name or not runner_up:
                runner_up = level[0][1]
            break
        score, name = level[0]
        if len(level) > 1:
            runner_up = level[1][1]
    return name or schema.UNASSIGNED, float(score), runner_up


def deciding(
    definitions: Definitions,
    nodes: Mapping[str, Node],
    *,
    panel: Panel,
    name: str,
    rows: np.ndarray,
) -> str:
    """Markers that decided for a name, root to leaf: level and share of the events that have it."""
    texts: list[str] = []
    seen: set[tuple[Key, bool]] = set()
    for step in definitions.path(name) if name in definitions.populations else []:
        node = nodes[definitions.populations[step].parent]
        rule = node.rules.get(step)
        if rule is None:
            continue
        for condition in rule.conditions():
            split = node.splits.get((condition.marker, condition.upper))
            mark = ((condition.marker, condition.upper), condition.high)
            if split is None or not split.informative or mark in seen:
                continue
            values = panel.take(condition.marker, rows)
            share = float(np.mean((values >= split.cut) == condition.high))
            alternative = condition not in rule.needed
            if share >= 0.5 or not alternative:
                seen.add(mark)
                texts.append(f"{condition} {share:.2f}")
        if node.notes.get(step):
            texts.append(f"[{step}: {node.notes[step]}]")
    return ", ".join(texts)


def cluster_table(
    definitions: Definitions,
    nodes: Mapping[str, Node],
    *,
    panel: Panel,
    clusters: pd.Series[str],
    phenotypes: pd.Series[str],
) -> pd.DataFrame:
    """Name every cluster, with path, score, runner-up and evidence."""
    order = list(clusters.cat.categories)
    crossed = pd.crosstab(clusters.astype(str), phenotypes.astype(str))
    codes = clusters.cat.codes.to_numpy()
    rows = {}
    for number, cluster in enumerate(order):
        if str(cluster) not in crossed.index:
            continue
        counts = crossed.loc[str(cluster)].to_numpy()
        total = int(counts.sum())
        shares = {
            str(name): float(count) / total
            for name, count in zip(crossed.columns, counts, strict=True)
            if count > 0
        }
        name, score, runner_up = descend(definitions, shares)
        events = np.flatnonzero(codes == number)
        events = events[:: max(1, len(events) // MAX_ROWS)]
        evidence = deciding(definitions, nodes, panel=panel, name=name, rows=events)
        lacking = missing_below(nodes, name)
        rows[str(cluster)] = {
            "phenotype": name,
            "path": "/".join(definitions.path(name)) if name in definitions.populations else name,
            "score": score,
            "runner_up": runner_up,
            "evidence": "; ".join(text for text in (evidence, mixture(shares, score), lacking) if text),
            "n_events": total,
        }  # fmt: skip
    columns = ["phenotype", "path", "score", "runner_up", "evidence", "n_events"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def mixture(shares: Mapping[str, float], score: float) -> str:
    """Say what else is in a cluster that holds several populations."""
    if score >= 0.8:
        return ""
    parts = sorted(((share, name) for name, share in shares.items()), reverse=True)[:3]
    return "mixed: " + ", ".join(f"{name} {share:.2f}" for share, name in parts)


def missing_below(nodes: Mapping[str, Node], name: str) -> str:
    """Say which narrower names could not be given, and why."""
    node = nodes.get("" if name == schema.UNASSIGNED else name)
    if node is None or not node.missing or name == schema.UNASSIGNED:
        return ""
    reasons: Sequence[str] = [f"{child} ({reason})" for child, reason in node.missing.items()]
    return "no narrower name for lack of markers: " + "; ".join(reasons)
