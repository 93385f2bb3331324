"""The report as a file: complete, self-contained, escaped, honest about what is missing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pytest
from PIL import Image

import cytoclust as cc
from cytoclust.errors import ArgumentError, MissingSlotError

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Elements, links, ids and text of a page; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.text: list[str] = []
        self.scripts = 0
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in {"src", "href", "action", "data"}:
                self.links.append(str(value))
            if name.startswith("on"):
                self.handlers.append(name)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in {"script", "style"}:
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_every_section_is_there(page: Path) -> None:
    found = read(page)
    assert len(found.ids) == len(set(found.ids))
    sections = {
        "summary",
        "design",
        "quality",
        "clusters",
        "maps",
        "abundance",
        "state",
        "methods",
        "provenance",
    }
    assert sections <= set(found.ids)
    figures = {
        "design-grid",
        "exclusions",
        "heatmap-phenotype",
        "umap-phenotype",
        "umap-groups",
        "changed",
        "effects",
        "state-changes",
        "trajectories",
    }
    assert figures <= set(found.ids)
    for text in (
        "effector Treg",
        "transient",
        "fewer than 3 cells in 5 of 12 samples",
        "log-ratio",
        "10.1186/gb-2014-15-2-r29",
        "abab",
        "900.0",
    ):
        assert text in found.words, text


def test_file_stands_alone(page: Path) -> None:
    found = read(page)
    assert page.stat().st_size < 15e6
    allowed = ("data:", "#", "https://doi.org/")
    assert [link for link in found.links if not link.startswith(allowed)] == []
    assert found.scripts == 1
    assert not found.handlers
    assert "@import" not in page.read_text(encoding="utf-8")


def test_tables_hold_every_result(page: Path, finished_study: ad.AnnData) -> None:
    text = page.read_text(encoding="utf-8")
    for step, anchor in (
        ("differential_abundance", "abundance-table"),
        ("abundance_levels", "levels-table"),
        ("differential_state", "state-table"),
    ):
        section = text.split(f'id="{anchor}"')[1].split("</section>")[0]
        assert section.count("<tr>") - 1 == len(finished_study.uns["cytoclust"][step]["table"])


def test_a_bare_anndata_gets_a_report_that_says_what_is_missing(tmp_path: Path) -> None:
    adata = ad.AnnData(np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32))
    cc.report.write(adata, tmp_path / "new" / "report.html")
    words = read(tmp_path / "new" / "report.html").words
    for verb in (
        "pp.filter_events",
        "tl.umap",
        "tl.leiden",
        "tl.annotate_phenotypes",
        "no comparison was asked for",
    ):
        assert verb in words


@pytest.mark.parametrize(
    "step",
    [
        "filter_events",
        "annotate_phenotypes",
        "differential_abundance",
        "differential_state",
        "trajectories",
        "abundance_levels",
        "run",
        "read_study",
        "samples",
    ],
)
def test_any_step_may_be_missing(small: ad.AnnData, tmp_path: Path, step: str) -> None:
    del small.uns["cytoclust"][step]
    cc.report.write(small, tmp_path / "report.html")
    assert "Summary" in read(tmp_path / "report.html").words


@pytest.mark.parametrize("slot", ["phenotype", "leiden", "sample"])
def test_any_column_may_be_missing(small: ad.AnnData, tmp_path: Path, slot: str) -> None:
    del small.obs[slot]
    cc.report.write(small, tmp_path / "report.html")
    assert "Summary" in read(tmp_path / "report.html").words


@pytest.mark.parametrize(
    "absent", [("compartment",), ("patient",), ("visit",), ("compartment", "patient")]
)
def test_designs_without_compartment_donor_or_treatment(
    small: ad.AnnData, tmp_path: Path, absent: tuple[str, ...]
) -> None:
    params = small.uns["cytoclust"]["run"]["params"]
    for key in [key for key, value in params.items() if value in absent]:
        del params[key]
    for step in ("differential_abundance", "differential_state", "abundance_levels"):
        small.uns["cytoclust"][step]["params"] = {}
    for column in absent:
        del small.obs[column]
        del small.uns["cytoclust"]["samples"][column]
    cc.report.write(small, tmp_path / "report.html")
    assert "design-grid" in read(tmp_path / "report.html").ids


def test_report_of_a_file_read_back(small: ad.AnnData, tmp_path: Path) -> None:
    cc.report.write(small, tmp_path / "before.html", title="t")
    small.write_h5ad(tmp_path / "study.h5ad")
    cc.report.write(ad.read_h5ad(tmp_path / "study.h5ad"), tmp_path / "after.html", title="t")

    def body(name: str) -> str:
        return re.sub(r"Written [^<]*", "", (tmp_path / name).read_text(encoding="utf-8"))

    before, after = body("before.html"), body("after.html")
    assert len(before) == len(after)
    assert before.split('id="provenance"')[0] == after.split('id="provenance"')[0]


def test_hostile_names_stay_text(hostile_page: Path) -> None:
    found = read(hostile_page)
    assert found.scripts == 1
    assert not found.handlers
    assert "img src=x" in found.words
    assert "{{ 7 * 7 }}" in found.words
    text = hostile_page.read_text(encoding="utf-8")
    assert "<script>document.title" not in text
    assert "script-src 'sha256-" in text
    assert "unsafe-inline'; script" in text  # inline styles only


def test_old_report_survives_a_failure(small: ad.AnnData, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    small.uns["cytoclust"]["differential_abundance"]["table"] = small.uns["cytoclust"]["samples"]
    with pytest.raises(MissingSlotError, match="result table needs one of the columns"):
        cc.report.write(small, path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_unwritable_targets(study: ad.AnnData, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"is a folder. Add a name such as report\.html"):
        cc.report.write(study, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="cannot be made"):
        cc.report.write(study, tmp_path / "file" / "report.html")
    with pytest.raises(MissingSlotError, match="'nothing'"):
        cc.report.write(study, tmp_path / "report.html", treatment_key="nothing")


def test_figures_as_files(small: ad.AnnData, tmp_path: Path) -> None:
    paths = cc.report.write_figures(small, tmp_path / "figures", dpi=40)
    assert len(paths) > 12
    assert all(path.stat().st_size > 1000 and path.parent == tmp_path / "figures" for path in paths)
    with pytest.raises(ArgumentError, match="format must be one of"):
        cc.report.write_figures(small, tmp_path, format="gif")  # type: ignore[arg-type]


def test_report_writes_the_same_figures(small: ad.AnnData, tmp_path: Path) -> None:
    cc.report.write(small, tmp_path / "report.html", figures_folder=tmp_path / "with")
    paths = cc.report.write_figures(small, tmp_path / "apart")
    assert [path.name for path in paths]
    assert {path.name for path in (tmp_path / "with").iterdir()} == {path.name for path in paths}
    for path in paths:
        with Image.open(path) as apart, Image.open(tmp_path / "with" / path.name) as drawn:
            assert apart.size == drawn.size
