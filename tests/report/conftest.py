"""Fixtures of the report's tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cytoclust as cc

if TYPE_CHECKING:
    from types import ModuleType

    from anndata import AnnData

spec = importlib.util.spec_from_file_location(
    "synthetic_report", Path(__file__).parents[1] / "pl" / "synthetic.py"
)
assert spec is not None
assert spec.loader is not None
made: ModuleType = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)


@pytest.fixture(scope="session")
def finished_study() -> AnnData:
    return made.analysed_study(6_000, n_donors=5)


@pytest.fixture
def study(finished_study: AnnData) -> AnnData:
    """Return an analysed study of its own for each test."""
    return finished_study.copy()


@pytest.fixture
def small() -> AnnData:
    """Return a study with few populations and markers, quick to draw."""
    return made.analysed_study(
        500, n_donors=3, populations=("effector Treg", "CD56dim CD57- NK", "naive B", "mDC"), markers=made.MARKERS[:4], state=("PD-1",)
    )  # fmt: skip


@pytest.fixture(scope="session")
def hostile_study() -> AnnData:
    """Return a study whose every name is an attack or nonsense."""
    attack = "<script>document.title='owned'</script>"
    adata = made.analysed_study(
        4_000,
        n_donors=3,
        populations=(attack, "<img src=x onerror=\"document.title='owned'\">", "$\\frac{", "a" * 300, "=cmd()|' /C calc'!A0", "\u202egnp.exe", "{{ 7 * 7 }}", "</td></table>"),
        markers=(f"CD3{attack}", "$$", "'\"><b>", "CD4\n\x07", "]]>", "&amp;"),
        state=("javascript:alert(1)", "\ud800lone"[1:]),
    )  # fmt: skip
    sheet = adata.uns["cytoclust"]["samples"]
    renamed = {name: f"../{name}/{attack}" for name in sheet.index}
    sheet.index = [renamed[name] for name in sheet.index]
    adata.obs["sample"] = adata.obs["sample"].cat.rename_categories(renamed)
    counts = adata.uns["cytoclust"]["filter_events"]["counts"]
    counts.index = [renamed[name] for name in counts.index]
    files = adata.uns["cytoclust"]["read_study"]["files"]
    files["sample"] = [renamed[name] for name in files["sample"]]
    files["file"] = f"C:\\data\\{attack}.fcs"
    return adata


@pytest.fixture(scope="session")
def page(finished_study: AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    cc.report.write(finished_study.copy(), path, title="Treatment by compartment")
    return path


@pytest.fixture(scope="session")
def hostile_page(hostile_study: AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    cc.report.write(hostile_study.copy(), path, title="<script>document.title='owned'</script>")
    return path
