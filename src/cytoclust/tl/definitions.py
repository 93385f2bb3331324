"""Phenotype definitions: TOML files read, checked and merged."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytoclust import markers
from cytoclust.checks import listing
from cytoclust.errors import DefinitionError
from cytoclust.schema import UNASSIGNED
from cytoclust.tl.definition_model import Condition, Definitions, Grade, Population, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["load_definitions"]

LEVELS = ("+", "-", "hi", "lo", "dim")
FILE_KEYS = {
    "schema",
    "name",
    "species",
    "description",
    "include",
    "population",
    "marker",
    "axis",
    "grade",
}
POPULATION_KEYS = {
    "name", "parent", "cell_ontology", "synonyms", "source", "needed", "any", "optional", "fallback", "precedence", "residual",
    "facet", "without",
}  # fmt: skip
FALLBACK_KEYS = {"needed", "any", "note"}
MARKER_KEYS = {"name", "negative", "positive", "synonyms"}
AXIS_KEYS = {"name", "plus", "minus"}
GRADE_KEYS = {"name", "parent", "without", "markers", "label", "label_from", "pair", "source"}


@dataclass
class Source:
    """The text of a file, to say where something is wrong."""

    label: str
    text: str

    def line_of(self, population: str, key: str) -> int:
        """Line of `key` within the table of `population` (of the table if it is not found)."""
        lines = self.text.splitlines()
        start = 0
        pattern = re.compile(r"""^\s*name\s*=\s*["']""" + re.escape(population) + r"""["']""")
        for number, line in enumerate(lines):
            if population and pattern.match(line):
                start = number
                break
        # the table may have keys above its name
        while start > 0 and not lines[start].lstrip().startswith("[["):
            start -= 1
        for number in range(start, len(lines)):
            if number > start and lines[number].lstrip().startswith("[["):
                break
            if key and re.search(r"(?:^|[\s{,\"'])" + re.escape(key) + r"[\"']?(?:\s*=|[\"'])", lines[number]):  # fmt: skip
                return number + 1
        return start + 1

    def error(self, population: str, key: str, problem: str) -> DefinitionError:
        """Error that names file, line and key."""
        place = f"[{population}] {key}" if population else key
        line = self.line_of(population, key)
        return DefinitionError(f"{self.label}, line {line}, {place}: {problem}")


def shipped() -> dict[str, Any]:
    """Definition files of the package by name."""
    folder = resources.files("cytoclust") / "definitions"
    return {
        Path(item.name).stem: item
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".toml") and item.name != "markers.toml"
    }


def read_source(name: str | Path) -> Source:
    """Text of a shipped set or of a user's file."""
    available = shipped()
    if str(name) in available:
        item = available[str(name)]
        return Source(item.name, item.read_text(encoding="utf-8"))
    path = Path(name)
    if not path.is_file():
        msg = (
            f"definitions must name a shipped set {listing(available)} or an existing TOML file; "
            f"got {str(name)!r}. Check the spelling or the path."
        )
        raise DefinitionError(msg)
    return Source(str(path), path.read_text(encoding="utf-8"))


def parse(source: Source) -> dict[str, Any]:
    """Read TOML and check the keys of the file."""
    try:
        content = tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{source.label}: not valid TOML: {error}. Correct the line named."
        raise DefinitionError(msg) from error
    if content.get("schema") != 1:
        msg_0 = ""
        raise source.error(msg_0, "schema", f"must be 1; got {content.get('schema')!r}.")
    for key in content:
        if key not in FILE_KEYS:
            msg_0 = ""
            raise source.error(msg_0, key, f"unknown key; allowed: {listing(sorted(FILE_KEYS))}.")
    return content


def read_conditions(
    source: Source, population: str, *, key: str, table: Any
) -> tuple[Condition, ...]:
    """Conditions of an inline table ``{ CD3 = "+", CD19 = "-?" }``."""
    if not isinstance(table, dict):
        raise source.error(
            population, key, f'must be a table such as {{ CD3 = "+" }}; got {table!r}.'
        )
    found: list[Condition] = []
    for marker, level in table.items():
        canonical = canonical_marker(marker)
        if not isinstance(level, str) or level.removesuffix("?") not in LEVELS:
            problem = (
                f"level of {marker} must be one of {listing(LEVELS)}, with ? where the marker may "
                f"be missing; got {level!r}."
            )
            raise source.error(population, marker, problem)
        if any(condition.marker == canonical for condition in found):
            raise source.error(population, marker, f"{canonical} is asked for twice in {key}.")
        found.append(Condition(canonical, level.removesuffix("?"), level.endswith("?")))
    return tuple(found)


def read_rule(source: Source, population: str, *, key: str, table: dict[str, Any]) -> Rule:
    """Rule from a population or from one of its fallbacks."""
    groups = table.get("any", [])
    if not isinstance(groups, list):
        raise source.error(population, "any", f"must be a list of tables; got {groups!r}.")
    rule = Rule(
        read_conditions(source, population, key="needed", table=table.get("needed", {})),
        tuple(read_conditions(source, population, key="any", table=group) for group in groups),
        str(table.get("note", "")),
    )
    if not rule.conditions():
        raise source.error(
            population, key, "a rule needs at least one condition; add needed or any."
        )
    return rule


def read_population(source: Source, table: dict[str, Any]) -> Population:
    """Check and read one ``[[population]]`` table."""
    name = table.get("name")
    if not isinstance(name, str) or not name or name == UNASSIGNED or "/" in name:
        problem = f"must be a text without '/' and not {UNASSIGNED!r}; got {name!r}."
        raise source.error(str(name or ""), "name", problem)
    check_population(source, name, table)
    rules = [read_rule(source, name, key="needed", table=table)]
    for fallback in table.get("fallback", []):
        if not isinstance(fallback, dict) or set(fallback) - FALLBACK_KEYS:
            problem = (
                f"must be tables with keys {listing(sorted(FALLBACK_KEYS))}; got {fallback!r}."
            )
            raise source.error(name, "fallback", problem)
        rules.append(read_rule(source, name, key="fallback", table=fallback))
    return Population(
        name=name,
        parent=table.get("parent", ""),
        rules=tuple(rules),
        optional=read_conditions(source, name, key="optional", table=table.get("optional", {})),
        cell_ontology=table.get("cell_ontology", ""),
        synonyms=tuple(table.get("synonyms", [])),
        source=table.get("source", ""),
        precedence=table.get("precedence", 0),
        residual=table.get("residual", False),
        facet=table.get("facet", ""),
        without=tuple(table.get("without", [])),
    )


def check_population(source: Source, name: str, table: dict[str, Any]) -> None:
    """Refuse unknown keys and values of the wrong type."""
    for key in table:
        if key not in POPULATION_KEYS:
            problem = f"unknown key; allowed: {listing(sorted(POPULATION_KEYS))}."
            raise source.error(name, key, problem)
    for key in ("parent", "cell_ontology", "source", "facet"):
        if not isinstance(table.get(key, ""), str):
            raise source.error(name, key, f"must be a text; got {table[key]!r}.")
    for key in ("synonyms", "without"):
        check_texts(source, name, key=key, value=table.get(key, []))
    if not isinstance(table.get("residual", False), bool):
        raise source.error(name, "residual", f"must be true or false; got {table['residual']!r}.")
    if not isinstance(table.get("fallback", []), list):
        raise source.error(
            name, "fallback", f"must be a list of tables; got {table['fallback']!r}."
        )
    if table.get("facet") and not table.get("parent"):
        raise source.error(name, "facet", "a facet is asked of the events of a parent; name it.")
    ontology = table.get("cell_ontology", "")
    if ontology and not re.fullmatch(r"CL:\d{7}", ontology):
        problem = f"must look like CL:0000084; got {ontology!r}."
        raise source.error(name, "cell_ontology", problem)
    if type(table.get("precedence", 0)) is not int:
        problem = f"must be a whole number; got {table['precedence']!r}."
        raise source.error(name, "precedence", problem)


def check_texts(source: Source, place: str, *, key: str, value: Any) -> None:
    """Refuse what is not a list of texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise source.error(place, key, f"must be a list of texts; got {value!r}.")


def read_markers(source: Source, content: dict[str, Any], into: Definitions) -> None:
    """Read the ``[[marker]]`` tables: own names, populations known to lack or to carry a marker."""
    for table in content.get("marker", []):
        name = table.get("name", "")
        if not isinstance(name, str) or not name:
            raise source.error(str(name), "name", f"a marker needs a name; got {name!r}.")
        for key in table:
            if key not in MARKER_KEYS:
                problem = f"unknown key; allowed: {listing(sorted(MARKER_KEYS))}."
                raise source.error(name, key, problem)
            if key != "name":
                check_texts(source, name, key=key, value=table[key])
        canonical = canonical_marker(name)
        for key, target in (("negative", into.negative), ("positive", into.positive)):
            if table.get(key):
                target[canonical] = tuple(table[key])
        into.synonyms[name] = canonical
        into.synonyms.update(dict.fromkeys(table.get("synonyms", ()), canonical))


def canonical_marker(name: str) -> str:
    """Return the canonical name of a marker; the name itself if the table does not have it."""
    return markers.shipped_table().names.get(markers.squeeze(name), name)


def read_grades(source: Source, content: dict[str, Any], into: Definitions) -> None:
    """Read the ``[[grade]]`` tables: counts of positive markers among a population's events."""
    for table in content.get("grade", []):
        name = str(table.get("name", ""))
        for key in table:
            if key not in GRADE_KEYS:
                problem = f"unknown key; allowed: {listing(sorted(GRADE_KEYS))}."
                raise source.error(name, key, problem)
        for key in ("markers", "without", "pair"):
            check_texts(source, name, key=key, value=table.get(key, []))
        if not name or not table.get("parent") or not table.get("markers"):
            raise source.error(name, "markers", "a grade needs a name, a parent and markers.")
        asked, pair = (
            tuple(canonical_marker(m) for m in table.get(key, ())) for key in ("markers", "pair")
        )
        into.grades[name] = Grade(
            name, str(table["parent"]), asked, tuple(table.get("without", ())),
            str(table.get("label", "")), int(table.get("label_from", 2)), pair, str(table.get("source", "")),
        )  # fmt: skip


def read_axes(source: Source, content: dict[str, Any], into: Definitions) -> None:
    """Read the ``[[axis]]`` tables: sums and differences of markers used as one."""
    for table in content.get("axis", []):
        name = str(table.get("name", ""))
        for key in table:
            if key not in AXIS_KEYS:
                problem = f"unknown key; allowed: {listing(sorted(AXIS_KEYS))}."
                raise source.error(name, key, problem)
        plus, minus = (tuple(map(str, table.get(key, ()))) for key in ("plus", "minus"))
        if not name or not plus or len(plus + minus) < 2:
            raise source.error(name, "plus", "an axis needs a name and two markers or more.")
        into.axes[name] = (plus, minus)


def check_hierarchy(sources: dict[str, Source], found: Definitions) -> None:
    """Every parent exists and no population is its own ancestor."""
    for name, population in found.populations.items():
        seen = {name}
        parent = population.parent
        while parent:
            if parent not in found.populations:
                problem = f"{parent!r} is not defined; known: {listing(found.populations)}."
                raise sources[name].error(name, "parent", problem)
            if parent in seen:
                raise sources[name].error(name, "parent", f"{name!r} is its own ancestor.")
            seen.add(parent)
            parent = found.populations[parent].parent
        for key, names in (("without", population.without),):
            for other in names:
                if other not in found.populations:
                    problem = f"{other!r} is not defined; known: {listing(found.populations)}."
                    raise sources[name].error(name, key, problem)


def check_marker_names(sources: dict[str, Source], found: Definitions) -> None:
    """Refuse markers that neither the table of markers nor a ``[[marker]]`` table has."""
    known = {*markers.shipped_table().names.values(), *found.synonyms.values(), *found.axes}
    for name, population in found.populations.items():
        conditions = [c for rule in population.rules for c in rule.conditions()]
        for condition in [*conditions, *population.optional]:
            if condition.marker not in known:
                problem = (
                    f"unknown marker {condition.marker!r}. Correct it, or declare it by a table "
                    f'[[marker]] with name = "{condition.marker}" and its synonyms.'
                )
                raise sources[name].error(name, condition.marker, problem)


def load_definitions(definitions: str | Path | Iterable[str | Path]) -> Definitions:
    """Read phenotype definitions, check them and merge them.

    Parameters
    ----------
    definitions
        Names of shipped sets (``human_lymphoid``, ``human_leukocyte``, ``b_all``, ``mouse_basic``)
        or paths of TOML files, one or several. What they include is read first; a population
        defined again replaces the earlier one.

    Returns
    -------
    Definitions
        Populations with their rules, and reference populations of markers.

    Raises
    ------
    DefinitionError
        A file is missing or wrong; the text names file, line and key.

    Examples
    --------
    >>> load_definitions("human_leukocyte").path("naive Treg")
    ['T cell', 'CD4 T', 'Treg', 'naive Treg']
    """
    wanted: Sequence[str | Path]
    wanted = [definitions] if isinstance(definitions, (str, Path)) else list(definitions)
    if not wanted:
        msg = f"definitions must name at least one set {listing(shipped())}; got none."
        raise DefinitionError(msg)
    found = Definitions(tuple(str(name) for name in wanted), {})
    sources: dict[str, Source] = {}
    done: set[str] = set()
    for name in wanted:
        add_file(name, found, sources=sources, done=done)
    check_hierarchy(sources, found)
    check_marker_names(sources, found)
    return found


def add_file(
    name: str | Path, found: Definitions, *, sources: dict[str, Source], done: set[str]
) -> None:
    """Read one file and, before it, the files that it includes."""
    if str(name) in done:
        return
    done.add(str(name))
    source = read_source(name)
    content = parse(source)
    for other in content.get("include", []):
        add_file(other, found, sources=sources, done=done)
    own: set[str] = set()
    for table in content.get("population", []):
        population = read_population(source, table)
        if population.name in own:
            raise source.error(population.name, "name", "is defined twice in this file.")
        own.add(population.name)
        found.populations[population.name] = population
        sources[population.name] = source
    read_markers(source, content, found)
    read_axes(source, content, found)
    read_grades(source, content, found)
