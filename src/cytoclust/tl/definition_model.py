"""What definition files say, once read: conditions, rules, populations, grades."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Condition", "Definitions", "Grade", "Population", "Rule"]


@dataclass(frozen=True)
class Condition:
    """A marker and the level asked of it.

    Attributes
    ----------
    level
        ``+``, ``-``, ``hi`` or ``lo`` (upper or lower group among the parent's events), or ``dim``
        (half of the cells lie above 97.7 % of the known negatives).
    if_measured
        Whether a panel without the marker passes.
    """

    marker: str
    level: str
    if_measured: bool = False

    @property
    def high(self) -> bool:
        """Whether the upper of two groups is asked for."""
        return self.level in {"+", "hi", "dim"}

    @property
    def upper(self) -> bool:
        """Whether high is told from low rather than positive from negative."""
        return self.level in {"hi", "lo"}

    @property
    def dim(self) -> bool:
        """Whether the population as a whole is asked, rather than each of its events."""
        return self.level == "dim"

    def __str__(self) -> str:
        return f"{self.marker}{' ' if self.upper or self.dim else ''}{self.level}"


@dataclass(frozen=True)
class Rule:
    """Conditions that all must hold, and sets of which one must hold."""

    needed: tuple[Condition, ...]
    any_of: tuple[tuple[Condition, ...], ...] = ()
    note: str = ""

    def conditions(self) -> list[Condition]:
        """Every condition named in the rule."""
        return [*self.needed, *(c for group in self.any_of for c in group)]


@dataclass(frozen=True)
class Population:
    """One phenotype: its place in the hierarchy and the rules that find it, best first.

    Attributes
    ----------
    residual
        Whether it is what its siblings leave: its states need a dent of their own.
    facet
        Empty in the tree of lineages; else the question that it answers about cells which have a
        lineage name already (``helper``, ``activation``).
    without
        Populations below `parent` whose events a facet leaves out.
    """

    name: str
    parent: str
    rules: tuple[Rule, ...]
    optional: tuple[Condition, ...] = ()
    cell_ontology: str = ""
    synonyms: tuple[str, ...] = ()
    source: str = ""
    precedence: int = 0
    residual: bool = False
    facet: str = ""
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grade:
    """How many of several markers an event has, among the events of one population."""

    name: str
    parent: str
    markers: tuple[str, ...]
    without: tuple[str, ...] = ()
    label: str = ""
    label_from: int = 2
    pair: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Definitions:
    """Populations by name, populations known to lack or carry a marker, and sums of markers."""

    names: tuple[str, ...]
    populations: dict[str, Population]
    negative: dict[str, tuple[str, ...]] = field(default_factory=dict)
    positive: dict[str, tuple[str, ...]] = field(default_factory=dict)
    axes: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    synonyms: dict[str, str] = field(default_factory=dict)
    grades: dict[str, Grade] = field(default_factory=dict)

    def children(self, parent: str, facet: str = "") -> list[Population]:
        """List populations directly below `parent` ("" for the root), highest precedence first."""
        found = [p for p in self.populations.values() if p.parent == parent and p.facet == facet]
        return sorted(found, key=lambda p: -p.precedence)

    def facets(self) -> list[tuple[str, str]]:
        """Facets and the populations that they are asked of, in order of appearance."""
        return list(
            dict.fromkeys((p.facet, p.parent) for p in self.populations.values() if p.facet)
        )

    def path(self, name: str) -> list[str]:
        """Names from the root down to `name`."""
        found: list[str] = []
        while name:
            found.append(name)
            name = self.populations[name].parent
        return found[::-1]

    def markers(self) -> list[str]:
        """Every marker that a rule asks for, in order of appearance."""
        found: dict[str, None] = {}
        for population in self.populations.values():
            for rule in population.rules:
                found.update(dict.fromkeys(c.marker for c in rule.conditions()))
            found.update(dict.fromkeys(c.marker for c in population.optional))
        return list(found)
