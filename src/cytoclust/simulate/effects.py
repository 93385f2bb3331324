"""What treatment does in a simulated study: planted changes as data, and their truth tables.

The changes follow the study of blinatumomab in B-cell acute lymphoblastic leukaemia that the
package was made for (doi:10.1111/bjh.19104) in kind; their sizes are our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np
import pandas as pd

from cytoclust.simulate.panel import COLUMN, DYES
from cytoclust.simulate.populations import CODE, NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Tissue = Literal["blood", "marrow"]
Course = Literal["transient", "persistent", "late", "vanishing"]


class Change(NamedTuple):
    """A planted change of abundance: its peak is `size` (log2)."""

    population: str
    tissue: Tissue
    course: Course
    size: float


class StateChange(NamedTuple):
    """A planted change of a marker's staining on one population: its peak is `size` (log2)."""

    population: str
    marker: str
    tissue: Tissue
    course: Course
    size: float


CHANGES: Final = (
    Change("effector Treg", "blood", "transient", 1.5),
    Change("naive Treg", "blood", "transient", -1.2),
    Change("CD8 EM", "blood", "transient", 1.3),
    Change("CD8 TEMRA", "blood", "transient", -1.3),
    Change("CD56dim CD57- NK", "blood", "persistent", 1.2),
    Change("CD56dim CD57+ NK", "blood", "persistent", 1.4),
    Change("naive B", "blood", "vanishing", -4.5),
    Change("memory B", "blood", "vanishing", -4.0),
    Change("B-ALL blast", "blood", "vanishing", -5.0),
    Change("haematogone", "blood", "vanishing", -4.0),
    Change("CD8 EM", "marrow", "persistent", 1.2),
    Change("CD8 naive", "marrow", "persistent", -1.2),
    Change("CD4 EM", "marrow", "late", 1.2),
    Change("naive B", "marrow", "vanishing", -4.0),
    Change("memory B", "marrow", "vanishing", -4.0),
    Change("B-ALL blast", "marrow", "vanishing", -5.0),
    Change("haematogone", "marrow", "vanishing", -4.5),
)
_EFFECTORS = ("CD4 CM", "CD4 EM", "CD8 CM", "CD8 EM")
_RECEPTORS = ("PD-1", "TIM-3", "LAG-3", "TIGIT")
STATE_CHANGES: Final = (
    *(
        StateChange(cell, receptor, "blood", "transient", 1.4)
        for cell in _EFFECTORS
        for receptor in _RECEPTORS
    ),
    StateChange("effector Treg", "CD39", "blood", "transient", 1.5),
    StateChange("naive Treg", "CD39", "blood", "transient", 1.5),
    *(
        StateChange(cell, receptor, "marrow", "persistent", 1.3)
        for cell in ("CD4 EM", "CD8 EM", "CD8 TEMRA")
        for receptor in ("PD-1", "TIM-3", "TIGIT")
    ),
)


def course(kind: Course, n_visits: int) -> NDArray[np.float64]:
    """Return the share of the peak that is reached at each visit; the first visit is baseline."""
    values = np.zeros(n_visits)
    on_treatment = values[1:]
    if kind == "persistent":
        on_treatment[:] = 1.0
    elif kind == "transient":
        on_treatment[: min(2, n_visits - 1)] = (1.0, 0.3)[: n_visits - 1]
    elif kind == "vanishing":
        on_treatment[:] = 1.0
        if n_visits > 2:
            on_treatment[0] = 0.8
    else:
        tail = (0.3, 1.0)[-(n_visits - 1) :] if n_visits > 1 else ()
        on_treatment[len(on_treatment) - len(tail) :] = tail
    return values


def abundance_changes(marrow: Sequence[bool], n_visits: int, scale: float) -> NDArray[np.float64]:
    """Return planted changes, natural logarithm (n_compartments, n_visits, n_populations)."""
    values = np.zeros((len(marrow), n_visits, len(NAMES)))
    for change in CHANGES:
        for index, is_marrow in enumerate(marrow):
            if is_marrow == (change.tissue == "marrow"):
                profile = course(change.course, n_visits) * change.size * scale * np.log(2)
                values[index, :, CODE[change.population]] = profile
    return values


def state_changes(marrow: Sequence[bool], n_visits: int, scale: float) -> NDArray[np.float32]:
    """Return planted shifts of log staining (n_compartments, n_visits, n_populations, n_dyes)."""
    values = np.zeros((len(marrow), n_visits, len(NAMES), len(DYES)), dtype=np.float32)
    for change in STATE_CHANGES:
        for index, is_marrow in enumerate(marrow):
            if is_marrow == (change.tissue == "marrow"):
                profile = course(change.course, n_visits) * change.size * scale * np.log(2)
                values[index, :, CODE[change.population], COLUMN[change.marker]] = profile
    return values


def contrasts(visits: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return name, later and earlier visit of every contrast over treatment."""
    pairs = [(later, 0) for later in range(1, len(visits))]
    if len(visits) > 2:
        pairs.append((len(visits) - 1, 1))
    return [(f"{visits[later]} - {visits[earlier]}", later, earlier) for later, earlier in pairs]


def effects_table(
    changes: NDArray[np.float64], compartments: Sequence[str], visits: Sequence[str]
) -> pd.DataFrame:
    """Return truth/effects.csv: one row per contrast whose expected change is not zero."""
    rows = []
    for code, population in enumerate(NAMES):
        for index, compartment in enumerate(compartments):
            for name, later, earlier in contrasts(visits):
                size = (changes[index, later, code] - changes[index, earlier, code]) / np.log(2)
                if abs(size) > 1e-9:
                    rows.append((population, compartment, name, round(float(size), 6)))
    return pd.DataFrame(rows, columns=["population", "compartment", "contrast", "log2_fold_change"])
