"""Names given from the root of the hierarchy to its leaves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from cytoclust import schema
from cytoclust.numerics.mixtures import count_values
from cytoclust.numerics.references import Reference, known_negatives, split_with_reference
from cytoclust.tl.phenotype_nodes import fit_node, move_cut, thinned
from cytoclust.tl.phenotype_panel import MAX_COUNT, Panel, usual_levels
from cytoclust.tl.phenotype_scores import Node, assign_node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cytoclust.numerics.mixtures import Split
    from cytoclust.tl.definition_model import Definitions

MIN_PARENT = 50  # events below which a population is not divided further
MIN_REFERENCE = 50
MAX_REFERENCE = 100_000
SURE = 0.9  # probability of a name that makes an event serve as a reference
FAR = 1e-4


def node_name(parent: str, facet: str = "") -> str:
    """Name under which a node is kept; that of a facet stands beside those of the tree."""
    return f"{parent} ({facet})" if facet else parent


class Division:
    """Names given from the root of the hierarchy to its leaves, by nodes that were fitted."""

    def __init__(
        self,
        definitions: Definitions,
        panel: Panel,
        *,
        rows: np.ndarray,
        min_probability: float,
        nodes: Mapping[str, Node] | None = None,
    ) -> None:
        self.definitions = definitions
        self.panel = panel
        self.min_probability = min_probability
        self.names = [schema.UNASSIGNED, *definitions.populations]
        smallest = np.min_scalar_type(-len(self.names))
        self.codes = np.zeros(len(panel.values), dtype=smallest)
        self.far = np.zeros(len(panel.values), dtype=bool)
        self.members: dict[str, np.ndarray] = {"": rows}
        self.nodes: dict[str, Node] = dict(nodes or {})
        self.grades: dict[str, dict[str, Split | str]] = {}

    def run(self) -> None:
        """Divide every population that there is a node for."""
        queue = [""]
        while queue:
            parent = queue.pop(0)
            node = self.node(parent, self.members[parent])
            if node is not None:
                self.divide(node, self.members[parent])
                children = self.definitions.children(parent)
                queue += [child.name for child in children if child.name in self.members]

    def node(self, parent: str, index: np.ndarray, facet: str = "") -> Node | None:
        """How the children of a population differ; None if it is not divided."""
        del index
        return self.nodes.get(node_name(parent, facet))

    def grade_splits(self, name: str, rows: np.ndarray) -> dict[str, Split | str]:
        """Split of each marker of a grade, or why it tells nothing; empty if it is not asked."""
        del rows
        return self.grades.get(name, {})

    def children_of(self, node: Node, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Child of each event, -1 for none, and whether it is far from every population."""
        found = assign_node(node, self.panel.take, index)
        child = found[:, 0].astype(np.int64)
        limit = stats.chi2.ppf(1 - FAR, max(len(node.features), 1))
        far = found[:, 3] > limit
        # improbable, or far from every population and against its rule: stays with the parent
        child[(found[:, 1] < self.min_probability) | (far & (found[:, 4] < -2))] = -1
        return child, far

    def divide(self, node: Node, index: np.ndarray) -> None:
        """Give the children's names to the parent's events."""
        child, far = self.children_of(node, index)
        self.far[index] |= far
        for c, name in enumerate(node.children):
            mine = index[child == c]
            self.members.pop(name, None)
            if len(mine):
                self.members[name] = mine
                self.codes[mine] = self.names.index(name)


class Walk(Division):
    """A division whose nodes are fitted on the way, each among the events that get there."""

    def __init__(
        self,
        definitions: Definitions,
        panel: Panel,
        *,
        rows: np.ndarray,
        given: Mapping[str | tuple[str, str, bool], float],
        min_probability: float,
    ) -> None:
        super().__init__(definitions, panel, rows=rows, min_probability=min_probability)
        self.given = given
        self.baseline, self.splits = usual_levels(panel, rows)

    def node(self, parent: str, index: np.ndarray, facet: str = "") -> Node | None:
        """Fit the node of a population that has children and enough events."""
        if not self.definitions.children(parent, facet):
            return None
        if len(index) < (MIN_PARENT if parent else 1):
            return None
        node = self.fit(parent, index, facet)
        if not parent and not facet and self.find_references(node, index):
            node = self.fit(parent, index, facet)
        self.nodes[node_name(parent, facet)] = node
        return node

    def grade_splits(self, name: str, rows: np.ndarray) -> dict[str, Split | str]:
        """Split the markers of a grade among these events, if they are enough."""
        grade = self.definitions.grades[name]
        if len(rows) >= MIN_PARENT:
            self.grades[name] = {
                marker: self.grade_split(marker, parent=grade.parent, rows=rows)
                for marker in grade.markers
            }
        return self.grades.get(name, {})

    def grade_split(self, marker: str, *, parent: str, rows: np.ndarray) -> Split | str:
        """Split a marker among these events; the reason where it tells nothing."""
        if marker not in self.panel.columns:
            return "not measured"
        split = self.split(marker, parent, rows)
        return (split.reason or split.status) if split.status == "undetermined" else split

    def fit(self, parent: str, index: np.ndarray, facet: str = "") -> Node:
        """Learn how the children of a population differ."""
        return fit_node(
            parent,
            self.definitions,
            take=self.panel.take,
            index=index,
            features=self.panel.features,
            references=partial(self.reference, parent=parent),
            baseline=self.baseline,
            given=self.given,
            facet=facet,
        )

    def split(self, marker: str, parent: str, rows: np.ndarray) -> Split:
        """Split one marker among events of a population, by all that is known of it."""
        found = split_with_reference(
            count_values(self.panel.take(marker, thinned(rows, MAX_COUNT))),
            self.reference(marker, parent=parent),
            baseline=self.baseline,
        )
        return move_cut(found, self.given[marker]) if marker in self.given else found

    def find_references(self, node: Node, index: np.ndarray) -> bool:
        """Take part of the events as members for now, so that lineages inform each other's cuts."""
        rows = thinned(index, MAX_REFERENCE)
        found = assign_node(node, self.panel.take, rows)
        sure = found[:, 1] > SURE
        for c, name in enumerate(node.children):
            mine = rows[sure & (found[:, 0] == c)]
            if len(mine) >= MIN_REFERENCE:
                self.members[name] = mine
        return len(self.members) > 1

    def reference(self, marker: str, *, parent: str) -> Reference:
        """Collect what is known of a marker from events outside `parent` and from those above it."""
        wider = self.wider(marker, parent) if parent else None
        positive = wider.high.mean if wider is not None else np.nan
        lineage = set(self.definitions.path(parent)) if parent else set()
        known = self.definitions.populations
        names = [name for name in self.definitions.negative.get(marker, ()) if name in known]
        kin = {n for n in names if parent and parent in self.definitions.path(n) and n != parent}
        # cells of the same lineage first: their background is that of the events to be split
        for name in sorted(names, key=lambda n: n not in kin):
            rows = self.members.get(name)
            if rows is None or len(rows) < MIN_REFERENCE or name in lineage:
                continue
            negative, tail = known_negatives(
                self.panel.take(marker, thinned(rows, 50_000)),
                least_spread=0.09 * self.baseline.scale,
            )
            return Reference(negative, tail, positive, wider, kin=name in kin)
        return Reference(wider.low if wider is not None else None, None, positive, wider)

    def wider(self, marker: str, parent: str) -> Split | None:
        """Split of a marker by the nearest ancestor that has one, or among all events."""
        for ancestor in [*self.definitions.path(parent)[-2::-1], ""]:
            node = self.nodes[ancestor]
            for split in (node.splits.get((marker, False)), node.shared.get(marker)):
                if split is not None and split.informative:
                    return split
        split = self.splits.get(marker)
        return split if split is not None and split.informative else None
