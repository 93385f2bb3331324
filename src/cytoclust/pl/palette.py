"""One colour per category for the whole study, kept where scanpy keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.errors import ArgumentError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["set_colors"]

# Okabe and Ito's six mid-tones first; each next colour is the one farthest from all before it in
# CIELAB, seen normally and with protanopia and deuteranopia (Machado 2009).
COLORS: Final = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#87001E", "#780F69",
    "#B4D278", "#4BE1F0", "#A55A2D", "#693C4B", "#003C96", "#96E1B4", "#0F7878", "#B4964B",
    "#5AA5FF", "#C35A5A", "#C3B487", "#696996", "#F0C35A", "#D29696", "#00E1D2", "#005A2D",
    "#A587C3", "#1E69C3", "#872D00", "#1E4B78", "#B42D69", "#4B784B", "#69B4C3", "#7887D2",
    "#D2963C", "#875A00", "#3CC3A5", "#4BB469", "#873C96", "#A5E196", "#691E4B", "#96871E",
)  # fmt: skip
GREY: Final = "#BDBDBD"  # unassigned events, and whatever is not emphasised
INK: Final = "#222222"
UP: Final = "#D55E00"
DOWN: Final = "#0072B2"


def colors_for(categories: pd.Index) -> list[str]:
    """Return one colour per category; `unassigned` is grey, from the 41st on colours return."""
    chosen = []
    taken = 0
    for category in categories:
        if str(category) == schema.UNASSIGNED:
            chosen.append(GREY)
            continue
        chosen.append(COLORS[taken % len(COLORS)])
        taken += 1
    return chosen


def color_map(names: pd.Index | list[str]) -> dict[str, str]:
    """Return name -> colour for a table without an AnnData behind it."""
    index = pd.Index(names).astype(str)
    return dict(zip(index, colors_for(index), strict=True))


def study_colors(adata: AnnData, key: str) -> dict[str, str]:
    """Return category -> colour of a categorical obs column.

    Colours kept in ``uns[f"{key}_colors"]`` are used if there is one for each category; otherwise
    new ones are made and kept there, unless `adata` is a view, which must not be written to.
    """
    column = adata.obs[key]
    categories = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else None
    if categories is None:
        categories = pd.Index(sorted(column.dropna().astype(str).unique()))
    slot = f"{key}_colors"
    kept = adata.uns.get(slot)
    if kept is not None and len(kept) >= len(categories):
        colors = [str(color) for color in kept][: len(categories)]
    else:
        colors = colors_for(categories)
        if not adata.is_view and "/" not in slot:
            adata.uns[slot] = colors
    return {str(name): color for name, color in zip(categories, colors, strict=True)}


def categories_of(adata: AnnData, key: str) -> tuple[np.ndarray, list[str], list[str]]:
    """Return codes, names and colours of an obs column read as categories."""
    colors = study_colors(adata, key)
    column = adata.obs[key]
    names = list(colors)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), names, list(colors.values())
    codes = pd.Categorical(column.astype(str), categories=names).codes
    return np.asarray(codes), names, list(colors.values())


def set_colors(adata: AnnData, key: str, colors: dict[str, str] | None = None) -> None:
    """Fix the colours of a categorical column for every figure of the study.

    Parameters
    ----------
    adata
        Annotated events.
    key
        Categorical column of ``obs``.
    colors
        Category -> colour for some or all categories; the others keep or get a colour of the
        colour-blind-safe palette.

    Returns
    -------
    None
        Writes ``uns[f"{key}_colors"]``, list of str in category order, as scanpy does.

    Raises
    ------
    MissingSlotError
        ``obs[key]`` is not there.
    ArgumentError
        `colors` names a category that does not exist.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, cytoclust as cc
    >>> adata = ad.AnnData(
    ...     np.zeros((2, 1), np.float32),
    ...     obs=pd.DataFrame({"visit": pd.Categorical(["d0", "d7"])}, index=["0", "1"]),
    ... )
    >>> cc.pl.set_colors(adata, "visit", {"d7": "#000000"})
    >>> adata.uns["visit_colors"]
    ['#0072B2', '#000000']
    """
    checks.check_key(adata, key)
    known = study_colors(adata, key)
    wrong = sorted(set(colors or {}) - set(known))
    if wrong:
        msg = (
            f"colors must name categories of obs[{key!r}], {checks.listing(known)}; "
            f"got {checks.listing(wrong)}. Check the spelling."
        )
        raise ArgumentError(msg)
    adata.uns[f"{key}_colors"] = list((known | (colors or {})).values())
