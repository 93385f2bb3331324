"""Definition files: the shipped ones are whole, wrong ones are refused with line and key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cytoclust import markers
from cytoclust.errors import DefinitionError
from cytoclust.tl.definitions import load_definitions

if TYPE_CHECKING:
    from pathlib import Path

FIXED = [
    "T cell",
    "CD4 T",
    "CD4 naive",
    "CD4 CM",
    "CD4 EM",
    "CD4 TEMRA",
    "CD8 T",
    "CD8 naive",
    "CD8 CM",
    "CD8 EM",
    "CD8 TEMRA",
    "DN T",
    "DP T",
    "Treg",
    "naive Treg",
    "effector Treg",
    "gd T",
    "MAIT",
    "NKT-like",
    "NK cell",
    "CD56bright NK",
    "CD56dim NK",
    "CD56dim CD57- NK",
    "CD56dim CD57+ NK",
    "B cell",
    "naive B",
    "memory B",
    "plasmablast",
    "classical monocyte",
    "intermediate monocyte",
    "non-classical monocyte",
    "mDC",
    "pDC",
    "basophil",
    "neutrophil",
    "B-ALL blast",
    "haematogone",
]
SETS = ["human_lymphoid", "human_leukocyte", "b_all", "mouse_basic"]


@pytest.mark.parametrize("name", SETS)
def test_shipped_sets_are_valid_and_use_canonical_markers(name: str) -> None:
    found = load_definitions(name)
    assert found.populations
    for marker in found.markers():
        assert marker in found.axes or markers.resolve(marker) == marker
    for references in (*found.negative.values(), *found.positive.values()):
        assert references
    for population in found.populations.values():
        assert population.source, f"{population.name} has no source"


def test_all_fixed_names_are_defined() -> None:
    found = load_definitions(["human_leukocyte", "b_all"])
    assert set(FIXED) <= set(found.populations)
    assert found.path("effector Treg") == ["T cell", "CD4 T", "Treg", "effector Treg"]
    assert found.populations["Treg"].cell_ontology == "CL:0000792"


def test_include_and_override(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'schema = 1\nname = "own"\ninclude = ["human_lymphoid"]\n'
        '[[population]]\nname = "B cell"\nsource = "here"\nneeded = { CD20 = "+", HLADR = "+?" }\n'
    )
    found = load_definitions(own)
    assert "CD4 naive" in found.populations
    rule = found.populations["B cell"].rules[0]
    assert [str(c) for c in rule.needed] == ["CD20+", "HLA-DR+"]
    assert rule.needed[1].if_measured


@pytest.mark.parametrize(
    ("body", "line", "key", "problem"),
    [
        ('[[population]]\nname = "X"\nneeded = { CD3 = "?" }', 4, "CD3", "level of CD3"),
        ('[[population]]\nname = "X"\nneded = { CD3 = "+" }', 4, "neded", "unknown key"),
        ('[[population]]\nname = "X"', 2, "needed", "at least one condition"),
        ('[[population]]\nname = "X"\nparent = "Y"\nneeded = { CD3 = "+" }', 4, "parent", "not defined"),
        ('[[population]]\nname = "X"\nparent = "X"\nneeded = { CD3 = "+" }', 4, "parent", "own ancestor"),
        ('[[population]]\nname = "X"\ncell_ontology = "84"\nneeded = { CD3 = "+" }', 4, "cell_ontology", "CL:"),
        ('[[population]]\nname = "X"\nany = { CD3 = "+" }', 4, "any", "list of tables"),
        ('[[population]]\nname = "A/B"\nneeded = { CD3 = "+" }', 3, "name", "without '/'"),
        ('[[population]]\nname = "unassigned"\nneeded = { CD3 = "+" }', 3, "name", "unassigned"),
        ('[[marker]]\nname = "CD3"\nnegativ = ["B cell"]', 4, "negativ", "unknown key"),
        ('[[axis]]\nname = "a"\nplus = ["CD3"]', 4, "plus", "two markers"),
        ("colour = 1", 2, "colour", "unknown key"),
        ('[[population]]\nname = "X"\nneeded = { CD3x = "+" }', 4, "CD3x", "unknown marker"),
        ('[[population]]\nname = "X"\nneeded = { CD8 = "+", CD8a = "-" }', 4, "CD8a", "asked for twice"),
        ('[[population]]\nname = "X"\nwithout = ["Y"]\nneeded = { CD3 = "+" }', 4, "without", "not defined"),
        ('[[population]]\nname = "X"\nresidual = 1\nneeded = { CD3 = "+" }', 4, "residual", "true or false"),
        ('[[population]]\nname = "X"\nfacet = "f"\nneeded = { CD3 = "+" }', 4, "facet", "name it"),
        ('[[population]]\nname = "X"\nfallback = "no"\nneeded = { CD3 = "+" }', 4, "fallback", "list of tables"),
        ('[[population]]\nname = "X"\nprecedence = true\nneeded = { CD3 = "+" }', 4, "precedence", "whole number"),
        ('[[grade]]\nname = "g"\nmarker = ["CD3"]', 4, "marker", "unknown key"),
    ],
)  # fmt: skip
def test_errors_name_file_line_and_key(
    tmp_path: Path, body: str, line: int, key: str, problem: str
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(f"schema = 1\n{body}\n")
    with pytest.raises(DefinitionError) as caught:
        load_definitions(path)
    text = str(caught.value)
    assert f"wrong.toml, line {line}, " in text
    assert key in text
    assert problem in text


def test_toml_syntax_error_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("schema = 1\n[[population]\n")
    with pytest.raises(DefinitionError, match=r"broken\.toml: not valid TOML: .*line 2"):
        load_definitions(path)


def test_unknown_set_lists_the_shipped_ones() -> None:
    with pytest.raises(DefinitionError, match="human_leukocyte"):
        load_definitions("human")
    with pytest.raises(DefinitionError, match="at least one set"):
        load_definitions([])


def test_section_of_facets_and_grades_is_shipped() -> None:
    found = load_definitions(["human_leukocyte", "b_all"])
    asked = {
        "CD4 TSCM", "Th1", "Th2", "Th17", "Th1-17", "Tfh", "CD4 activated", "CD8 activated", "suppressive Treg",
        "activated Treg", "MAIT-like", "iNKT", "adaptive NK", "NKG2A+ KIR- NK", "CD56- CD16+ NK", "cytotoxic NK",
        "unswitched memory B", "switched memory B", "DN B", "transitional B", "haematogone I", "haematogone II",
        "eosinophil", "cDC1", "cDC2", "CD8 senescent",
    }  # fmt: skip
    assert asked <= set(found.populations)
    assert found.grades["exhaustion"].markers == ("PD-1", "TIM-3", "LAG-3", "TIGIT", "CD39")
    tree = {name for name, population in found.populations.items() if not population.facet}
    assert {found.populations[name].parent for name in tree} <= tree | {""}


def test_users_declare_new_markers(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'schema = 1\n[[population]]\nname = "X"\nneeded = { NewAntigen = "+" }\n'
        '[[marker]]\nname = "NewAntigen"\nsynonyms = ["clone 12"]\nnegative = ["X"]\n'
    )
    found = load_definitions(path)
    assert found.synonyms["clone 12"] == "NewAntigen"
    assert found.negative["NewAntigen"] == ("X",)
