from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import cytoclust as cc
from cytoclust.errors import ArgumentError, MissingSlotError
from cytoclust.pl import palette
from cytoclust.pl.style import figure_of, plain

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData


def test_forty_colors_differ_and_unassigned_is_grey() -> None:
    names = pd.Index([f"population {i}" for i in range(40)] + ["unassigned"])
    colors = palette.colors_for(names)
    assert len(set(colors)) == 41
    assert colors[-1] == palette.GREY


def test_neighbouring_colors_differ_for_deuteranopes() -> None:
    from matplotlib.colors import to_rgb

    # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    matrix = np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.01182, 0.04294, 0.968881],
        ]
    )
    rgb = np.array([to_rgb(color) for color in palette.COLORS[:24]])
    seen = np.clip(rgb**2.2 @ matrix.T, 0, 1) ** (1 / 2.2)
    apart = np.sqrt(((seen[:, None] - seen[None]) ** 2).sum(axis=2)) + np.eye(24)
    assert apart.min() > 0.05


def test_colors_are_kept_where_scanpy_keeps_them(study: AnnData) -> None:
    first = palette.study_colors(study, "phenotype")
    assert study.uns["phenotype_colors"] == list(first.values())
    study.uns["phenotype_colors"] = ["#000000"] * len(first)
    assert set(palette.study_colors(study, "phenotype").values()) == {"#000000"}


def test_too_few_colors_are_replaced(study: AnnData) -> None:
    study.uns["phenotype_colors"] = ["#000000"]
    assert len(set(palette.study_colors(study, "phenotype").values())) == 16


def test_a_view_is_not_written_to(study: AnnData) -> None:
    view = study[:100]
    assert len(palette.study_colors(view, "phenotype")) > 1
    assert view.is_view
    assert "phenotype_colors" not in view.uns


def test_set_colors(study: AnnData) -> None:
    cc.pl.set_colors(study, "visit", {"d7": "#123456"})
    assert study.uns["visit_colors"][1] == "#123456"
    with pytest.raises(ArgumentError, match="got \\[d8\\]"):
        cc.pl.set_colors(study, "visit", {"d8": "#123456"})
    with pytest.raises(MissingSlotError, match="not found"):
        cc.pl.set_colors(study, "nothing")


def test_plain_text() -> None:
    assert plain("a\nb\t c\x00d\u202e") == "a b c d"
    assert plain("$PnS$") == r"\$PnS\$"
    short = plain("a very long name of a population that nobody can read", 20)
    assert len(short) == 20
    assert "…" in short


def test_same_figure_is_same_file(study: AnnData, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        cc.pl.save(cc.pl.umap(study, color="phenotype"), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "b.svg"]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_letters_without_a_glyph_do_not_warn(tmp_path: Path, ending: str) -> None:
    table = pd.DataFrame(
        {
            "population": ["调节性T细胞 $\\frac"],
            "log2_fold_change": [1.0],
            "p_value": [0.1],
            "contrast": ["a - b"],
        }
    )
    cc.pl.save(cc.pl.forest(table), tmp_path / f"x.{ending}")
    assert (tmp_path / f"x.{ending}").stat().st_size > 1000


def test_axes_given_are_drawn_on() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    table = pd.DataFrame({"p_value": [0.1, 0.2]})
    assert cc.pl.p_values(table, ax=right) is right
    assert not left.patches
    assert figure_of(right) is figure


def test_pyplot_is_never_touched(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, anndata as ad, cytoclust as cc; "
        "x = np.random.default_rng(0).normal(size=(99, 2)).astype('float32'); "
        f"cc.pl.save(cc.pl.umap(ad.AnnData(x, obsm={{'X_umap': x}})), {str(tmp_path / 'a.png')!r}); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
