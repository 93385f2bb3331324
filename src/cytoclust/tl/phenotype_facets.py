"""Further names of cells that have a lineage name already: helper type, activation, exhaustion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.numerics.tallies import cross_tally

if TYPE_CHECKING:
    from cytoclust.numerics.mixtures import Split
    from cytoclust.tl.definition_model import Grade
    from cytoclust.tl.phenotype_walk import Division

__all__ = ["Facet", "GradeCount", "count_grades", "find_facets"]


@dataclass
class Facet:
    """One question asked of named cells.

    Attributes
    ----------
    names
        Populations, "unassigned" first.
    codes
        (n_events,) position in `names`.
    """

    names: list[str]
    codes: np.ndarray
    members: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class GradeCount:
    """Markers positive per event; -1 where the question is not asked.

    Attributes
    ----------
    used
        Markers that are measured and have a cut-off, with it.
    lacking
        The others, with the reason.
    """

    grade: Grade
    counts: np.ndarray
    used: dict[str, float]
    lacking: dict[str, str]
    pairs: np.ndarray | None


def events_of(walk: Division, parent: str, without: tuple[str, ...]) -> np.ndarray:
    """Rows of a population less those of some populations below it."""
    rows = walk.members.get(parent, np.zeros(0, dtype=np.int64))
    kept = np.ones(len(walk.codes), dtype=bool)
    for name in without:
        kept[walk.members.get(name, rows[:0])] = False
    return rows[kept[rows]]


def find_facets(walk: Division) -> dict[str, Facet]:
    """Ask every facet of the events that were named."""
    found: dict[str, Facet] = {}
    definitions = walk.definitions
    for name, parent in definitions.facets():
        facet = found.setdefault(
            name, Facet([schema.UNASSIGNED], np.zeros(len(walk.codes), dtype=np.int8))
        )
        children = definitions.children(parent, name)
        rows = events_of(walk, parent, children[0].without)
        facet.names += [child.name for child in children]
        node = walk.node(parent, rows, name)
        if node is None:
            continue
        codes, _ = walk.children_of(node, rows)
        for number, child in enumerate(node.children):
            mine = rows[codes == number]
            facet.codes[mine] = facet.names.index(child)
            facet.members[child] = len(mine)
    return found


def count_grades(walk: Division) -> dict[str, GradeCount]:
    """Count, for every grade, how many of its markers each event has."""
    found = {}
    for name, grade in walk.definitions.grades.items():
        rows = events_of(walk, grade.parent, grade.without)
        counts = np.full(len(walk.codes), -1, dtype=np.int8)
        used: dict[str, float] = {}
        lacking: dict[str, str] = {}
        positive: dict[str, np.ndarray] = {}
        splits = walk.grade_splits(name, rows)
        if splits:
            counts[rows] = 0
        for marker, split in splits.items():
            if isinstance(split, str):
                lacking[marker] = split
                continue
            used[marker] = split.cut if split.informative else np.nan
            positive[marker] = is_positive(walk, marker, split=split, rows=rows)
            counts[rows] += positive[marker]
        if not used:
            counts[:] = -1
        pairs = None
        if grade.pair and all(marker in positive for marker in grade.pair):
            pairs = np.zeros(len(walk.codes), dtype=bool)
            pairs[rows] = np.logical_and.reduce([positive[marker] for marker in grade.pair])
        found[name] = GradeCount(grade, counts, used, lacking, pairs)
    return found


def is_positive(walk: Division, marker: str, *, split: Split, rows: np.ndarray) -> np.ndarray:
    """Whether each event is in the upper group."""
    if not split.informative:
        return np.full(len(rows), split.status == "all_positive")
    return np.asarray(walk.panel.take(marker, rows) > split.cut)


def grade_table(counts: GradeCount, phenotypes: pd.Categorical[str]) -> pd.DataFrame:
    """Events of each phenotype by grade, and the share that has both markers of the pair."""
    n_names, n_grades = len(phenotypes.categories), len(counts.used) + 1
    numbers = cross_tally(phenotypes.codes, counts.counts, (n_names, n_grades))
    table = pd.DataFrame(
        numbers,
        index=phenotypes.categories.astype(str),
        columns=[f"grade_{number}" for number in range(n_grades)],
    )
    sizes = table.sum(axis=1)
    at_least = [
        c for c in table.columns if int(c.removeprefix("grade_")) >= counts.grade.label_from
    ]
    table[f"share_{counts.grade.label or 'graded'}"] = table[at_least].sum(axis=1) / sizes
    if counts.pairs is not None:
        pair = "_".join(counts.grade.pair)
        with_both = cross_tally(phenotypes.codes, counts.pairs.view(np.int8), (n_names, 2))[:, 1]
        table[f"share_{pair}"] = with_both / sizes
    return table[sizes > 0].sort_index()
