"""What file names tell of a design."""

from __future__ import annotations

import pytest

from cytoclust.cli.file_names import guess_design, natural


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["P01_PB_d0.fcs", "P01_BM_d7.fcs", "P02_PB_d28.fcs"],
            {"patient": ["P01", "P01", "P02"], "visit": ["d0", "d7", "d28"], "compartment": ["PB", "BM", "PB"]},
        ),
        (
            ["export_PBMCs_29.csv", "export_BM_29.csv", "export_PBMCs_32.csv", "export_BM_32.csv"],
            {"patient": ["29", "29", "32", "32"], "compartment": ["PBMCs", "BM", "PBMCs", "BM"]},
        ),
        (
            ["Specimen_001_Pt 12 BM Day 0_003.fcs", "Specimen_001_Pt 3 PB day 0_004.fcs", "Specimen_001_Pt 3 PB Day 7_005.fcs"],
            {"patient": ["Pt 12", "Pt 3", "Pt 3"], "visit": ["Day 0", "Day 0", "Day 7"], "compartment": ["BM", "PB", "PB"]},
        ),
        (
            ["patient1_ref.fcs", "patient1_BCRXL.fcs", "patient2_ref.fcs", "patient2_BCRXL.fcs"],
            {"patient": ["patient1", "patient1", "patient2", "patient2"], "group": ["ref", "BCRXL", "ref", "BCRXL"]},
        ),
        (
            ["d0/blood/001-A.fcs", "d0/marrow/001-A.fcs", "d7/blood/002-A.fcs", "d7/marrow/002-A.fcs"],
            {"patient": ["001", "001", "002", "002"], "visit": ["d0", "d0", "d7", "d7"], "compartment": ["blood", "marrow", "blood", "marrow"]},
        ),
        (
            ["C1D1_UPN101.fcs", "C1D15_UPN101.fcs", "C1D1_UPN102.fcs", "C1D15_UPN102.fcs"],
            {"patient": ["UPN101", "UPN101", "UPN102", "UPN102"], "visit": ["C1D1", "C1D15", "C1D1", "C1D15"]},
        ),
        (["Activation_1.fcs", "Activation_2.fcs", "Activation_10.fcs"], {}),
        (["a.fcs"], {}),
        (["PB_d0.fcs", "x.fcs", "y.fcs", "z.fcs"], {}),  # chance, not a pattern
    ],
)  # fmt: skip
def test_design_columns(names: list[str], expected: dict[str, list[str]]) -> None:
    assert guess_design(names).to_dict("list") == expected


def test_a_name_that_does_not_tell_stays_empty() -> None:
    table = guess_design(["P1_d0.fcs", "P1_d7.fcs", "P2_d0.fcs", "unstained.fcs"])
    assert list(table["visit"]) == ["d0", "d7", "d0", ""]
    assert list(table["patient"]) == ["P1", "P1", "P2", ""]


def test_natural_order() -> None:
    assert sorted(["d28", "d7", "D15", "d0"], key=natural) == ["d0", "d7", "D15", "d28"]
