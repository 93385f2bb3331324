"""Names given from the root of the hierarchy to its leaves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from cytoclust import schema
from cytoclust.numerics.mixtures import Group, Split
from cytoclust.tl.phenotype_nodes import fit_node, thinned
from cytoclust.tl.phenotype_panel import Panel, usual_levels
from cytoclust.tl.phenotype_scores import Node, assign_node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cytoclust.tl.definitions import Definitions

MIN_PARENT = 50  # events below which a population is not divided further
MIN_REFERENCE = 50
FAR = 1e-4


class Walk:
    """Names given from the root of the hierarchy to its leaves."""

    def __init__(
        self,
        definitions: Definitions,
        panel: Panel,
        *,
        rows: np.ndarray,
        given: Mapping[str, float],
        min_probability: float,
    ) -> None:
        self.definitions = definitions
        self.panel = panel
        self.given = given
        self.min_probability = min_probability
        self.baseline, self.splits = usual_levels(panel, rows)
        self.names = [schema.UNASSIGNED, *definitions.populations]
        self.codes = np.zeros(len(panel.values), dtype=np.int16)
        self.far = np.zeros(len(panel.values), dtype=bool)
        self.members: dict[str, np.ndarray] = {"": rows}
        self.nodes: dict[str, Node] = {}

    def run(self) -> None:
        """Divide every population that has children and enough events."""
        queue = [""]
        while queue:
            parent = queue.pop(0)
            index = self.members[parent]
            children = self.definitions.children(parent)
            if not children or len(index) < (MIN_PARENT if parent else 1):
                continue
            node = fit_node(
                parent,
                self.definitions,
                take=self.panel.take,
                index=index,
                features=self.panel.features,
                references=partial(self.reference, parent=parent),
                baseline=self.baseline,
                given=self.given,
            )
            self.nodes[parent] = node
            self.divide(node, index)
            queue += [child.name for child in children if child.name in self.members]

    def divide(self, node: Node, index: np.ndarray) -> None:
        """Give the children's names to the parent's events."""
        found = assign_node(node, self.panel.take, index)
        child = found[:, 0].astype(np.int64)
        limit = stats.chi2.ppf(1 - FAR, max(len(node.features), 1))
        far = found[:, 3] > limit
        # improbable, or far from every population and against its rule: stays with the parent
        child[(found[:, 1] < self.min_probability) | (far & (found[:, 4] < -2))] = -1
        self.far[index] |= far
        for c, name in enumerate(node.children):
            mine = index[child == c]
            if len(mine):
                self.members[name] = mine
                self.codes[mine] = self.names.index(name)

    def reference(self, marker: str, *, parent: str) -> tuple[Group | None, float, Split | None]:
        """Known negatives of a marker, usual level of its positives, and its split further up."""
        if not parent:
            return None, np.nan, None
        split = self.inherited(marker, parent)
        positive = split.high.mean if split is not None else np.nan
        lineage = set(self.definitions.path(parent))
        for name in self.definitions.negative.get(marker, ()):
            rows = self.members.get(name)
            if rows is None or len(rows) < MIN_REFERENCE or name in lineage:
                continue
            low, middle, high, top = np.quantile(
                self.panel.take(marker, thinned(rows, 50_000)), [0.25, 0.5, 0.75, 0.99]
            )
            spread = max(float(high - low) / 1.349, 0.09 * self.baseline.scale, 1e-6)
            return Group(float(middle), spread, 1.0, float(top)), positive, split
        return (split.low if split is not None else None), positive, split

    def inherited(self, marker: str, parent: str) -> Split | None:
        """Split of a marker by the nearest ancestor that has one, or among all events."""
        for ancestor in self.definitions.path(parent)[-2::-1]:
            split = self.nodes[ancestor].splits.get((marker, False))
            if split is not None and split.informative:
                return split
        split = self.splits.get(marker)
        return split if split is not None and split.informative else None
