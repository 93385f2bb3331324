"""What speaks for each name: clusters named from their events, and the tables that say why."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.numerics.enrichment import enrichment_labels, enrichment_scores
from cytoclust.numerics.tallies import cross_tally
from cytoclust.tl.phenotype_quadrants import side_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cytoclust.numerics.mixtures import Split
    from cytoclust.tl.definition_model import Definitions, Rule
    from cytoclust.tl.phenotype_panel import Panel
    from cytoclust.tl.phenotype_scores import Key, Node

MAX_ROWS = 2_000
MIXED = 0.2  # share of a cluster's events that a second population must have
USUAL_RANGE = 5.0  # units of arcsinh that a marker usually spans
ROOT = "all events"


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
        "low_mean": split.low.mean,
        "high_mean": split.high.mean,
    }


def node_cutoffs(nodes: Mapping[str, Node]) -> pd.DataFrame:
    """Cut-offs that were used below each parent."""
    rows = [
        {"parent": parent or ROOT, "level": "hi/lo" if upper else "+/-", **cutoff_row(marker, split)}
        for parent, node in nodes.items()
        for (marker, upper), split in node.splits.items()
    ]  # fmt: skip
    rows += [
        {"parent": side_name(parent or ROOT, sides.beside, upper=above), "level": "+/-", **cutoff_row(key[0], split)}
        for parent, node in nodes.items()
        for key, sides in node.sides.items()
        for above, split in ((False, sides.low), (True, sides.high))
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
        facet = population.facet
        node = nodes.get(f"{population.parent} ({facet})" if facet else population.parent)
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
            "facet": facet,
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
        if not population.facet
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
) -> list[dict[str, object]]:
    """Markers that decided for a name, root to leaf: level, share that has it, margin to the cut.

    Nothing is known of a cluster without pooled events (`rows`).

    The margin is the distance of the median from the cut towards the level asked for, in units of
    the distance between both groups.
    """
    found: list[dict[str, object]] = []
    seen: set[tuple[Key, bool]] = set()
    for step in definitions.path(name) if name in definitions.populations and len(rows) else []:
        node = nodes[definitions.populations[step].parent]
        rule = node.rules.get(step)
        for condition in rule.conditions() if rule is not None else []:
            split = node.splits.get((condition.marker, condition.upper))
            mark = ((condition.marker, condition.upper), condition.high)
            if rule is None or split is None or not split.informative or mark in seen:
                continue
            values = panel.take(condition.marker, rows)
            cut = node.dims.get(condition.marker, np.nan) if condition.dim else split.cut
            if not np.isfinite(cut):
                continue
            share = float(np.mean((values >= cut) == condition.high))
            if share < 0.5 and condition not in rule.needed:
                continue
            seen.add(mark)
            margin = (float(np.median(values)) - cut) / (split.high.mean - split.low.mean)
            found.append(
                {
                    "step": step,
                    "condition": str(condition),
                    "marker": condition.marker,
                    "level": condition.level,
                    "share": share,
                    "margin": margin if condition.high else -margin,
                    "cut": cut,
                }
            )
    return found


def evidence_text(
    definitions: Definitions,
    nodes: Mapping[str, Node],
    *,
    name: str,
    found: Sequence[Mapping[str, object]],
) -> str:
    """Write the deciding markers in one line, with the fallbacks that were taken."""
    texts = []
    for step in definitions.path(name) if name in definitions.populations else []:
        texts += [
            f"{row['condition']} {row['share']:.2f} (margin {row['margin']:+.2f})"
            for row in found
            if row["step"] == step
        ]
        note = nodes[definitions.populations[step].parent].notes.get(step)
        if note:
            texts.append(f"[{step}: {note}]")
    return ", ".join(texts)


def cluster_table(
    definitions: Definitions,
    nodes: Mapping[str, Node],
    *,
    panel: Panel,
    clusters: pd.Series[str],
    phenotypes: pd.Series[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Name every cluster, with path, score, runner-up and evidence; and the evidence by marker."""
    names = phenotypes.cat.categories.astype(str).tolist()
    order = [str(cluster) for cluster in clusters.cat.categories]
    crossed = cross_codes(clusters, phenotypes)
    members = cluster_rows(panel.pooled(clusters.cat.codes.to_numpy()), len(order))
    labels = enrichment(panel, members)
    rows, details = {}, []
    for number, cluster in enumerate(order):
        total = int(crossed[number].sum())
        if not total:
            continue
        shares = {
            name: float(count) / total
            for name, count in zip(names, crossed[number], strict=True)
            if count
        }
        name, score, runner_up = descend(definitions, shares)
        found = deciding(definitions, nodes, panel=panel, name=name, rows=members[number])
        details += [{"cluster": cluster, "phenotype": name, **row} for row in found]
        text = evidence_text(definitions, nodes, name=name, found=found)
        mixed = mixture(definitions, shares)
        lacking = missing_below(nodes, name)
        rows[cluster] = {
            "phenotype": name,
            "path": "/".join(definitions.path(name)) if name in definitions.populations else name,
            "score": score,
            "runner_up": runner_up,
            "evidence": "; ".join(part for part in (text, mixed, lacking) if part),
            "mixed": mixed.removeprefix("mixed: "),
            "enrichment": labels[number],
            "n_events": total,
        }
    columns = [
        "phenotype",
        "path",
        "score",
        "runner_up",
        "evidence",
        "mixed",
        "enrichment",
        "n_events",
    ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table, evidence_rows(details)


def cross_codes(first: pd.Series[str], second: pd.Series[str]) -> np.ndarray:
    """Count the events by the categories of two columns, (n_first, n_second); those with both."""
    shape = len(first.cat.categories), len(second.cat.categories)
    return cross_tally(first.cat.codes.to_numpy(), second.cat.codes.to_numpy(), shape)


def evidence_rows(details: list[dict[str, object]]) -> pd.DataFrame:
    """Evidence by cluster and marker, as a table that can be written."""
    columns = ["cluster", "phenotype", "step", "marker", "level", "share", "margin", "cut"]
    table = pd.DataFrame(details, columns=columns)
    table.index = table.index.astype(str)
    return table


def cluster_rows(codes: np.ndarray, n_clusters: int) -> list[np.ndarray]:
    """At most `MAX_ROWS` evenly spaced events of every cluster."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(n_clusters + 1))
    found = []
    for start, stop in pairwise(starts):
        rows = order[start:stop]
        found.append(rows[:: max(1, -(-len(rows) // MAX_ROWS))])
    return found


def enrichment(panel: Panel, members: Sequence[np.ndarray]) -> list[str]:
    """Label every cluster by the markers that set it off from the others."""
    markers = [marker for marker in panel.columns if marker not in panel.scatter]
    filled = [number for number, rows in enumerate(members) if len(rows)]
    if len(filled) < 2 or not markers:
        return ["" for _ in members]
    values = {
        n: np.column_stack([panel.take(marker, members[n]) for marker in markers]) for n in filled
    }
    others = [np.concatenate([values[m][:500] for m in filled if m != n]) for n in filled]
    pooled = np.concatenate([values[n][:500] for n in filled])
    spread = np.median(np.subtract(*np.nanquantile(pooled, [0.95, 0.05], axis=0)))
    scores = enrichment_scores(
        [values[n] for n in filled], others, unit=max(float(spread) / USUAL_RANGE, 1e-9)
    )
    labels = dict(zip(filled, enrichment_labels(scores, markers), strict=True))
    return [labels.get(n, "") for n in range(len(members))]


def mixture(definitions: Definitions, shares: Mapping[str, float]) -> str:
    """Say what is in a cluster that holds two populations of which neither contains the other."""
    named = {name: share for name, share in shares.items() if name in definitions.populations}
    parts = sorted(((share, name) for name, share in named.items()), reverse=True)[:3]
    large = [name for share, name in parts if share >= MIXED]
    apart = any(
        a not in definitions.path(b) and b not in definitions.path(a)
        for i, a in enumerate(large)
        for b in large[:i]
    )
    return "mixed: " + ", ".join(f"{name} {share:.2f}" for share, name in parts) if apart else ""


def missing_below(nodes: Mapping[str, Node], name: str) -> str:
    """Say which narrower names could not be given, and why."""
    node = nodes.get("" if name == schema.UNASSIGNED else name)
    if node is None or not node.missing or name == schema.UNASSIGNED:
        return ""
    reasons: Sequence[str] = [f"{child} ({reason})" for child, reason in node.missing.items()]
    return "no narrower name for lack of markers: " + "; ".join(reasons)
