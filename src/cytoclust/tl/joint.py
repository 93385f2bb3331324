"""One model over all compartments, and the paired changes of donors: designs that cross compartments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust.tl.design import Unit
from cytoclust.tl.design_checks import COMPARTMENT, DONOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cytoclust.tl.contrasts import Contrast
    from cytoclust.tl.design import Design

__all__ = ["inner_blocks", "joint_unit", "paired_samples", "places_of"]

JOINT = "joint"


def places_of(design: Design) -> dict[str, dict[str, float]]:
    """Weight of each compartment in the rows of the result: itself, or later minus first."""
    single = {place: {place: 1.0} for place in design.compartments}
    pairs = {label: {later: 1.0, first: -1.0} for label, first, later in design.interactions()}
    return single | pairs


def joint_unit(design: Design) -> Unit:
    """Build one model with a mean per compartment and level; contrasts by place, then by name."""
    units = {place: design.unit(place) for place in design.compartments}
    cells, columns = [], []
    for place in design.compartments:
        at = design.members(place)
        here = design.table.iloc[at][design.factor].to_numpy()
        for level in design.levels:
            if (here == level).any():
                column = np.zeros(len(design.table))
                column[at[here == level]] = 1.0
                cells.append((place, level))
                columns.append(column)
    extra = design.covariates.to_numpy(dtype=np.float64)
    extra = extra - extra.mean(axis=0)
    spread = np.sqrt((extra**2).mean(axis=0))
    extra = extra[:, spread > 1e-12] / spread[spread > 1e-12]
    matrix = np.column_stack([*columns, extra])
    vectors, reasons = [], []
    for weights in places_of(design).values():
        for j, contrast in enumerate(design.contrasts):
            vector = np.zeros(matrix.shape[1])
            for k, (place, level) in enumerate(cells):
                vector[k] = weights.get(place, 0.0) * contrast.weights.get(level, 0.0)
            why = dict.fromkeys(units[place].reasons[j] for place in weights)
            reasons.append("; ".join(reason for reason in why if reason))
            vectors.append(np.zeros(matrix.shape[1]) if reasons[-1] else vector)
    donors = design.table[DONOR]
    blocks = None
    if donors.duplicated().any() and (donors != "").any():
        blocks = np.asarray(pd.factorize(donors)[0], dtype=np.int64)
    smallest = min(unit.smallest_cell for unit in units.values())
    return Unit(
        JOINT, np.arange(len(design.table)), matrix, np.array(vectors).T, tuple(reasons), blocks, smallest
    )  # fmt: skip


def inner_blocks(design: Design) -> NDArray[np.int64] | None:
    """Codes of donor and compartment of each sample, None without donors or compartments."""
    if len(design.compartments) < 2 or not design.has_donors:
        return None
    keys = design.table[DONOR] + "\n" + design.table[COMPARTMENT]
    return np.asarray(pd.factorize(keys)[0], dtype=np.int64)


def paired_samples(
    design: Design, contrast: Contrast, weights: dict[str, float]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return samples (n_donors, m) of the donors that have all of a contrast, and weights (m,).

    Donors come in the order of their names, so that random signs do not depend on the sheet.
    """
    wanted = [
        (place, level, share * weight)
        for place, share in weights.items()
        for level, weight in contrast.weights.items()
        if weight
    ]
    at = []
    for place, level, _ in wanted:
        members = design.members(place)
        here = design.table.iloc[members]
        chosen = ((here[design.factor] == level) & (here[DONOR] != "")).to_numpy()
        at.append(pd.Series(members[chosen], index=here[DONOR].to_numpy()[chosen]))
    donors = sorted(set.intersection(*(set(series.index) for series in at)))
    samples = np.array([series.loc[donors].to_numpy() for series in at], dtype=np.int64)
    return samples.T.reshape(len(donors), len(wanted)), np.array([w for _, _, w in wanted])
