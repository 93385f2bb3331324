"""Marker names as panels write them."""

from __future__ import annotations

import pytest

from cytoclust import markers
from cytoclust.errors import ArgumentError


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("CD8", "CD8"),
        ("CD8a", "CD8"),
        ("CD8-APC-H7", "CD8"),
        ("145Nd_CD4", "CD4"),
        ("CD197 (CCR7)", "CCR7"),
        ("HLADR", "HLA-DR"),
        ("HLA DR PE-Cy7", "HLA-DR"),
        ("PD1", "PD-1"),
        ("CD279", "PD-1"),
        ("CD279 (PD-1) BV711", "PD-1"),
        ("FITC-A :: CD45RA", "CD45RA"),
        ("Comp-BV421-A :: CCR7", "CCR7"),
        ("TCRgd", "TCRgd"),
        ("TCRyd", "TCRgd"),
        ("TCR γδ", "TCRgd"),
        ("CD3(110:114)Dd", "CD3"),
        ("HLA-DR(Yb174)Dd", "HLA-DR"),
        ("FoxP3", "FoxP3"),
        ("FOXP3 PE", "FoxP3"),
        ("CD45RO", "CD45RO"),
        ("CD45R0", "CD45RO"),
        ("NK1/1", "NK1.1"),
        ("TIM3", "TIM-3"),
        ("CD8 PerCP-Cy5.5", "CD8"),
        ("l/d", "Viability"),
        ("FSC-A", "FSC-A"),
        ("FSC-H", None),
        ("FSC LinH", None),
        ("FS-Peak-Lin", None),
        ("KIR2DL1", "CD158a"),
        ("hMR1-5-OP-RU", "MR1 tetramer"),
        ("hCD1d-PBS-57", "CD1d tetramer"),
        ("IL-17A PE", "IL-17A"),
        ("TNF-α", "TNF"),
        ("TCR Vα7.2 BV605", "TCR Va7.2"),
        ("CD45 (Y89Di)", "CD45"),
        ("GITR PE", "GITR"),
        ("CD235ab", "CD235a"),
        ("ViaKrome 808", "Viability"),
        ("RB780 CD5", "CD5"),
        ("SSC-W", None),
        ("PE-A", None),
        ("APC-Cy7-A", None),
        ("BV421-A", None),
        ("191Ir_DNA1", None),
        ("empty", None),
        ("", None),
    ],
)
def test_names(written: str, canonical: str | None) -> None:
    assert markers.resolve(written) == canonical


def test_a_longer_name_is_not_its_beginning() -> None:
    found = [markers.resolve(name) for name in ("CD45", "CD45RA", "CD4", "CD45RA-PE")]
    assert found == ["CD45", "CD45RA", "CD4", "CD45RA"]


@pytest.mark.parametrize("written", ["CD14/CD19 dump", "CD16/56", "CD3 CD19 APC", "CD235ab_CD61"])
def test_several_markers_are_an_error_that_lists_them(written: str) -> None:
    with pytest.raises(ArgumentError, match=r"could be any of \[CD\w+, CD\w+\]"):
        markers.resolve(written)


def test_every_name_of_the_table_resolves_to_itself() -> None:
    table = markers.load_table()
    for canonical in set(table.names.values()):
        assert markers.resolve(canonical) == canonical


def test_users_extend_the_table_without_changing_the_shipped_one() -> None:
    table = markers.load_table({"clone SK1": "CD8", "mine": "New antigen"})
    assert markers.resolve("Clone-SK1", table=table) == "CD8"
    assert markers.resolve("mine", table=table) == "New antigen"
    assert markers.resolve("mine") is None


def test_panel_reports_what_it_cannot_use() -> None:
    found, problems = markers.resolve_panel(["CD3", "CD14/CD19", "Time"])
    assert found == ["CD3", None, None]
    assert len(problems) == 1
    assert "CD14/CD19" in problems[0]
