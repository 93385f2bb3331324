"""The course of every population over treatment, as it was called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from cytoclust import checks
from cytoclust.errors import MissingSlotError
from cytoclust.pl.palette import INK
from cytoclust.pl.style import SMALL, TEXT, axes_or_new, dress, name_ticks, note, plain
from cytoclust.pl.tables import in_order, is_interaction, labelled, place_column, text_column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["trajectories"]

CALLS: Final = {
    "persistent": "#F2B48C",
    "partial": "#F7D3B8",
    "transient": "#9CCBE8",
    "transient?": "#CFE5F3",
    "late": "#C9A9D6",
    "biphasic": "#E3B7CE",
    "stable": "#CDE8C9",
    "changed": "#F3E6A6",
    "changed, unresolved": "#F3E6A6",
    "single contrast": "#FBF6DC",
    "no change detected": "#F1F1F1",
    "not tested": "#FFFFFF",
}
UNTESTED: Final = "#FFFFFF"
ALPHA: Final = 0.05


def trajectories(
    calls: pd.DataFrame, *, table: pd.DataFrame | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the called course of every population in every compartment, with its effects.

    Parameters
    ----------
    calls
        Result of ``tl.classify_trajectories``: columns population, compartment, call.
    table
        Result of ``tl.differential_abundance``; its changes from baseline are drawn as a line
        in each field (all on one scale, dashes are no change).
    ax
        Axes to draw on; None makes a new figure.

    Returns
    -------
    Axes
        Populations x compartments, coloured and named by call. "single contrast" stands where no
        course was called but `table` has a false discovery rate below 0.05. Bold: shown to be the
        compartment's own (column ``only_here``).

    Raises
    ------
    MissingSlotError
        A column is not there.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> calls = pd.DataFrame({"population": ["Treg"], "compartment": ["PB"], "call": ["transient"]})
    >>> [text.get_text() for text in cc.pl.trajectories(calls).texts]
    ['transient']
    """
    missing = [name for name in ("population", "call") if name not in calls.columns]
    if missing:
        msg = (
            f"trajectories need the columns population and call; missing: {checks.listing(missing)}. "
            "Give the table that tl.classify_trajectories returned."
        )
        raise MissingSlotError(msg)
    population, compartment = text_column(calls, "population"), place_column(calls)
    names, places = in_order(population), in_order(compartment)
    ax = axes_or_new(ax, 2.0 + 1.9 * max(len(places), 1), 0.6 + 0.22 * max(len(names), 3))
    if calls.empty:
        return note(ax, "nothing could be tested")
    courses, single = baseline_courses(table), changed_somewhere(table)
    reach = max((np.nanmax(np.abs(c), initial=0) for c in courses.values()), default=0) or 1.0
    own = text_column(calls, "only_here") == "shown"
    rows = zip(population, compartment, text_column(calls, "call"), own, strict=True)
    for who, where, call, only_here in rows:
        i, j = names.index(who), places.index(where)
        shown = call
        if call == "no change detected" and (who, where) in single:
            shown = "single contrast"
        color = CALLS.get(shown, "#DDDDDD") if shown else UNTESTED
        ax.broken_barh([(j + 0.02, 0.96)], (i - 0.46, 0.92), facecolors=color, lw=0)
        ax.text(
            j + 0.06, i, plain(shown or "not tested", 22), va="center", fontsize=SMALL, color=INK,
            fontweight="bold" if only_here else "normal",
        )  # fmt: skip
        course = courses.get((who, where))
        if course is not None:
            at = j + np.linspace(0.66, 0.95, len(course))
            ax.plot(at, np.full(len(course), i), color="#777777", lw=0.5, ls=(0, (2, 2)))
            ax.plot(at, i - 0.4 * course / reach, color=INK, lw=1.1, marker="o", ms=1.6)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(0, len(places))
    dress(ax)
    name_ticks(ax, names)
    ax.set_xticks(np.arange(len(places)) + 0.5, [plain(name, 24) for name in places], fontsize=TEXT)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def changed_somewhere(table: pd.DataFrame | None) -> set[tuple[str, str]]:
    """Return (population, compartment) with a false discovery rate below 0.05 in any contrast."""
    if table is None or "fdr" not in table.columns:
        return set()
    rows = labelled(table)
    rows = rows[pd.to_numeric(rows["fdr"], errors="coerce") < ALPHA]
    return set(zip(rows["population"], rows["compartment"], strict=True))


def baseline_courses(table: pd.DataFrame | None) -> dict[tuple[str, str], np.ndarray]:
    """Return (population, compartment) -> effects against baseline, beginning with 0 at baseline."""
    if table is None or not len(table):
        return {}
    rows = labelled(table)
    rows = rows[~is_interaction(rows) & rows["contrast"].str.contains(" - ", regex=False)]
    if rows.empty:
        return {}
    baseline = rows["contrast"].str.rsplit(" - ", n=1).str[-1]
    first = baseline.value_counts().index[0]
    rows = rows[baseline == first]
    return {
        (str(who), str(where)): np.r_[0.0, group["effect"].to_numpy(float)]
        for (who, where), group in rows.groupby(["population", "compartment"], sort=False)
    }
