"""Names for every event: those of the walk where it saw all of them, else block by block by its nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cytoclust import chunks
from cytoclust.event_arrays import event_arrays, let_go
from cytoclust.tl.phenotype_facets import Facet, GradeCount, count_grades, find_facets
from cytoclust.tl.phenotype_panel import passed_events, usable_events
from cytoclust.tl.phenotype_walk import Division

if TYPE_CHECKING:
    from anndata import AnnData

    from cytoclust.event_arrays import EventArrays
    from cytoclust.numerics.mixtures import Split
    from cytoclust.tl.definition_model import Definitions
    from cytoclust.tl.phenotype_panel import Panel
    from cytoclust.tl.phenotype_scores import Node
    from cytoclust.tl.phenotype_walk import Walk

__all__ = ["NameModel", "Names", "name_events"]


@dataclass(frozen=True)
class Names:
    """What some events are called.

    Attributes
    ----------
    codes
        (n_events,) integers, position among "unassigned" and the populations.
    far
        (n_events,) bool.
    members
        Events of each population, those below it counted.
    facets, grades
        As `find_facets` and `count_grades` find them.
    """

    codes: np.ndarray
    far: np.ndarray
    members: dict[str, int]
    facets: dict[str, Facet]
    grades: dict[str, GradeCount]


@dataclass(frozen=True)
class NameModel:
    """Nodes that a walk fitted, and all else that names events of a block; small, without events."""

    definitions: Definitions
    panel: Panel
    nodes: dict[str, Node]
    splits: dict[str, dict[str, Split | str]]
    min_probability: float

    def __call__(
        self, block: np.ndarray, passed: np.ndarray, groups: np.ndarray | None = None
    ) -> Names:
        """Name the events of a block, (n_events, n_channels); `passed` and `groups` (n_events,)."""
        panel = self.panel.of_block(block, groups)
        rows = np.flatnonzero(usable_events(panel.values, passed))
        division = Division(
            self.definitions,
            panel,
            rows=rows,
            min_probability=self.min_probability,
            nodes=self.nodes,
        )
        division.grades = self.splits
        division.run()
        return names_of(division)


def names_of(division: Division) -> Names:
    """Ask the facets and grades of events that were named, and put all together."""
    facets, grades = find_facets(division), count_grades(division)
    members = {name: len(rows) for name, rows in division.members.items()}
    return Names(division.codes, division.far, members, facets, grades)


def name_events(adata: AnnData, walk: Walk, groups: np.ndarray | None = None) -> Names:
    """Name every event of a study; `groups` as of the panel, but of all events."""
    of_pool = names_of(walk)
    panel = walk.panel
    if panel.rows is None:
        return of_pool
    model = NameModel(
        walk.definitions, panel.emptied(), walk.nodes, walk.grades, walk.min_probability
    )
    blocks = chunks.row_blocks(panel.source)
    passed = passed_events(adata)
    parts = [passed[block] for block in blocks]
    own = [None if groups is None else groups[block] for block in blocks]
    names = without_events(of_pool, event_arrays(adata))
    for rows, part in chunks.iterate_blocks(model, panel.source, parts, own):
        add_block(names, rows, part)
    return names


def without_events(like: Names, arrays: EventArrays) -> Names:
    """Return names to be filled, with the facets and grades of others in their order."""

    def empty(array: np.ndarray) -> np.ndarray:
        return arrays.zeros(array.dtype)

    facets = {name: Facet(facet.names, empty(facet.codes)) for name, facet in like.facets.items()}
    grades = {
        name: replace(
            grade,
            counts=empty(grade.counts),
            pairs=None if grade.pairs is None else empty(grade.pairs),
        )
        for name, grade in like.grades.items()
    }
    return Names(empty(like.codes), empty(like.far), {}, facets, grades)


def add_block(names: Names, rows: chunks.Rows, part: Names) -> None:
    """Put the names of a block among those of all events, and add its counts."""
    names.codes[rows] = part.codes
    names.far[rows] = part.far
    add_counts(names.members, part.members)
    for name, facet in names.facets.items():
        facet.codes[rows] = part.facets[name].codes
        add_counts(facet.members, part.facets[name].members)
    for name, grade in names.grades.items():
        own = part.grades[name]
        grade.counts[rows] = own.counts
        if grade.pairs is not None and own.pairs is not None:
            grade.pairs[rows] = own.pairs
    let_go(names.codes, names.far, *(facet.codes for facet in names.facets.values()))
    let_go(*(array for g in names.grades.values() for array in (g.counts, g.pairs)))


def add_counts(total: dict[str, int], part: dict[str, int]) -> None:
    """Add counts by name to a total, in place."""
    for name, number in part.items():
        total[name] = total.get(name, 0) + number
