"""What ``cytoclust inspect`` shows of good, odd and broken files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from cytoclust.cli import app
from cytoclust.io.fcs_writing import write_fcs_file

if TYPE_CHECKING:
    from pathlib import Path

runner = CliRunner()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two events, an infinite one, a spillover matrix, a time channel."""
    write_fcs_file(
        tmp_path / "tube[1].fcs",
        np.array([[1.5, 12345.678, 0.0], [np.inf, -7.0, 250.0]]),
        ["FSC-A", "FITC-A", "Time"],
        markers=["", "CD3 [RPA]", ""],
        keywords={"$CYT": "Aurora", "$TIMESTEP": "0.1", "$DATE": "01-JAN-2024"},
        spillover=(["FITC-A"], [[1.0]]),
    )
    return tmp_path / "tube[1].fcs"


def test_shown(file: Path) -> None:
    shown = runner.invoke(app, ["inspect", str(file)])
    assert shown.exit_code == 0, shown.output
    for text in (
        str(file),
        "version     FCS3.1",
        "instrument  Aurora",
        "events      2\n",
        "time span   25 s (Time and $TIMESTEP)",
        "spillover   $SPILLOVER, 1 channels: FITC-A",
        "CD3 [RPA]",
        "12,345.7",
        "! DATA: 1 values are NaN or infinite; they are kept",
    ):
        assert text in shown.output
    assert "Summary" not in shown.output


def test_json(file: Path) -> None:
    (facts,) = json.loads(runner.invoke(app, ["inspect", "--json", str(file)]).stdout)
    assert facts["version"] == "FCS3.1"
    assert facts["events"] == 2
    assert facts["channels"][1]["marker"] == "CD3 [RPA]"
    assert facts["channels"][1]["minimum"] == -7
    assert facts["time_span_seconds"] == pytest.approx(25)
    assert len(facts["oddities"]) == 1


def test_a_broken_file_does_not_hide_the_others(file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.fcs").write_text("not an FCS file")
    files = [str(tmp_path / "text.fcs"), str(file), str(tmp_path / "absent.fcs")]
    shown = runner.invoke(app, ["inspect", *files])
    assert shown.exit_code == 1
    assert "text.fcs: HEADER" in shown.stderr
    assert "2 of 3 files cannot be read" in shown.stderr
    assert "Aurora" in shown.stdout
    assert "Summary" in shown.stdout
    facts = json.loads(runner.invoke(app, ["inspect", "--json", *files]).stdout)
    assert ["error" in fact for fact in facts] == [True, False, True]
