"""A design in plain text: grid of donors by visits, contrasts, what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from cytoclust.tl.design import Design

SHOWN = 60  # donors printed at most


def describe(design: Design) -> str:
    """Return the text of a design."""
    n_donors = design.table["donor"].nunique() if design.has_donors else 0
    who = f"{n_donors} donors" if n_donors else "no donors named"
    lines = [
        (
            f"{len(design.table)} samples, {who}; {design.factor} levels: "
            f"{', '.join(design.levels)} (baseline {design.baseline})"
        ),
        "",
        *_grid(design),
        "",
        "Contrasts",
        *_contrasts(design),
    ]
    if len(design.excluded):
        lines += ["", "Left out of the tests"]
        lines += [f"  {s}: {r}" for s, r in design.excluded.itertuples(index=False)]
    if design.notes:
        lines += ["", "Notes", *(f"  {note}" for note in design.notes)]
    return "\n".join(lines)


def _grid(design: Design) -> list[str]:
    grid = design.grid()
    totals = grid.sum()
    several = len(grid.columns.get_level_values(0).unique()) > 1
    places, levels = (grid.columns.get_level_values(i) for i in (0, 1))
    names = [f"{p} {level}" if several else level for p, level in zip(places, levels, strict=True)]
    body = grid.head(SHOWN).set_axis(names, axis=1)
    if design.has_donors:
        shown = body.map(lambda count: "x" if count == 1 else str(count) if count else "-")
    else:
        shown = body.astype(str)
    rows = [shown]
    if design.has_donors:
        rows.append(pd.DataFrame([totals.astype(str).tolist()], index=["samples"], columns=names))
    text = pd.concat(rows).to_string().splitlines()
    if len(grid) > SHOWN:
        text.append(f"  ... and {len(grid) - SHOWN} more donors")
    missing = int((grid == 0).to_numpy().sum())
    if design.has_donors and missing:
        text.append(f"{missing} of {grid.size} visits missing (-)")
    return text


def _contrasts(design: Design) -> list[str]:
    lines = []
    for row in design.summary().to_dict("records"):
        place = "" if row["compartment"] == "all" else f"{row['compartment']}: "
        pairs = f", {row['n_paired']} donors paired" if design.has_donors else ""
        state = "" if row["estimable"] else f"  NOT ESTIMABLE: {row['reason']}"
        lines.append(f"  {place}{row['contrast']}  ({row['n_samples']} samples{pairs}){state}")
    return lines
