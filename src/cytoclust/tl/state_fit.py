"""Fit marker values of populations: fixed donor means within donors, a mixed model between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.numerics.blocks import estimable, fit_medians
from cytoclust.numerics.mixed import fit_linear
from cytoclust.numerics.threads import thread_limit
from cytoclust.tl.joint import places_of
from cytoclust.tl.results import OK, SINGULAR, Fitted, Outcome, fit_everywhere, tidy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cytoclust.tl.contrasts import Contrast
    from cytoclust.tl.design import Design, Unit

__all__ = ["FIXED", "MIXED", "Medians", "StateMethod", "state_result"]

StateMethod = Literal["limma", "lmm"]
FIXED, MIXED = "limma_fixed", "lmm"


@dataclass(frozen=True)
class Medians:
    """Medians of K population-marker rows over the samples of a sheet.

    Attributes
    ----------
    medians, cells
        (K, n_samples) medians (NaN: too few cells) and cells behind them.
    labels
        (K rows) population, marker, level, parent, denominator.
    sheet
        Sample sheet by sample name.
    told
        (K, n_samples) samples that count for whether a row is tested; None: those with a value.
    """

    medians: NDArray[np.float64]
    cells: NDArray[np.float64]
    labels: pd.DataFrame
    sheet: pd.DataFrame
    told: NDArray[np.bool_] | None = None


def state_result(
    table: Medians, plan: Design, min_events: int, *, method: StateMethod
) -> pd.DataFrame:
    """Fit every compartment and put the rows together."""
    at = table.sheet.index.get_indexer(plan.table.index)
    values, cells = table.medians[:, at], table.cells[:, at]
    told = np.isfinite(values) if table.told is None else table.told[:, at]
    groups = np.asarray(pd.factorize(table.labels[schema.MARKER])[0], dtype=np.int64)
    mixed: dict[str, NDArray[np.bool_]] = {}

    def fit_unit(unit: Unit) -> Outcome:
        between = np.zeros(len(unit.reasons), dtype=bool)
        if method == "lmm":
            between[:] = [not reason for reason in unit.reasons]
        else:
            unit, between = _between_donors(unit)
        mixed[unit.compartment] = between
        here = np.ix_(np.ones(len(values), dtype=bool), unit.samples)
        enough = told[here].sum(axis=1)
        kept = (2 * enough >= len(unit.samples)) & (enough > 0)
        why = [f"{min_events} cells in {n} of {len(unit.samples)} samples" for n in enough]
        fit = None
        if kept.any() and not all(unit.reasons):
            fit = _fit_rows(
                (values[here][kept], cells[here][kept]), unit, groups[kept], between=between
            )
        lost = "too few samples with enough cells at these levels, or no variation between them"
        return Outcome.collect(fit, kept, unit, reasons=(np.array(why, dtype=object), lost))

    tested = fit_everywhere(plan, fit_unit)
    places = places_of(plan)

    def used(place: str, contrast: Contrast) -> dict[str, Any]:
        j = plan.contrasts.index(contrast)
        return {"method": MIXED if any(mixed[one][j] for one in places[place]) else FIXED}

    present = np.isfinite(values)
    return tidy(plan, tested, table.labels, kind="state", method=FIXED, present=present, more=used)


def _fit_rows(
    data: tuple[NDArray[np.float64], NDArray[np.float64]],
    unit: Unit,
    groups: NDArray[np.int64],
    *,
    between: NDArray[np.bool_],
) -> Fitted:
    """Fit fixed donor means, and a mixed model for the contrasts `between` donors."""
    medians, cells = data
    shape = (len(medians), len(unit.reasons))
    result = Fitted(*(np.full(shape, np.nan) for _ in range(3)))
    if not between.all():
        with thread_limit(1):
            fixed = fit_medians(
                medians, cells, unit.matrix,
                contrasts=unit.contrasts * ~between, blocks=unit.blocks, groups=groups,
            )  # fmt: skip
        for name in ("estimate", "std_error", "df"):
            getattr(result, name)[:, ~between] = getattr(fixed, name)[:, ~between]
    if between.any():
        linear = fit_linear(
            medians, unit.matrix, contrasts=unit.contrasts[:, between], blocks=unit.blocks
        )
        for name in ("estimate", "std_error", "df"):
            getattr(result, name)[:, between] = getattr(linear, name)
        flat = np.ix_(linear.singular, between)
        result.status[flat] = SINGULAR
        result.reason[flat] = "no variance between donors (a standard deviation is estimated as 0)"
    assert set(np.unique(result.status)) <= {OK, SINGULAR}
    return result


def _between_donors(unit: Unit) -> tuple[Unit, NDArray[np.bool_]]:
    """Find contrasts that donor means take away: a mixed model has them, if donors are enough."""
    between = np.zeros(len(unit.reasons), dtype=bool)
    if all(unit.reasons):  # perhaps without any sample
        return unit, between
    allowed, df = estimable(unit.matrix, unit.contrasts, unit.blocks)
    n_donors = len(unit.matrix) if unit.blocks is None else len(np.unique(unit.blocks))
    spare = n_donors - np.linalg.matrix_rank(unit.matrix)
    where = "" if unit.compartment == "all" else f" in {unit.compartment}"
    reasons = []
    for j, (reason, possible) in enumerate(zip(unit.reasons, allowed, strict=True)):
        if reason or (possible and df > 0):
            reasons.append(reason)
        elif possible:
            reasons.append(f"no degrees of freedom left{where} after donors and levels")
        elif spare > 0:
            between[j] = True
            reasons.append("")
        else:
            reasons.append(
                f"compares donors with donors{where}, and there are {n_donors} for "
                f"{np.linalg.matrix_rank(unit.matrix)} levels: no donor links the levels"
            )
    kept = np.array([not reason for reason in reasons])
    return replace(unit, reasons=tuple(reasons), contrasts=unit.contrasts * kept), between
