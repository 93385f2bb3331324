"""Test a table of counts against its library sizes, by compartment, jointly or within donors."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cytoclust.errors import StatisticsWarning
from cytoclust.numerics.signflip import signflip_p_values
from cytoclust.numerics.threads import thread_limit
from cytoclust.tl.counts_methods import METHODS, Input, Method
from cytoclust.tl.joint import inner_blocks, joint_unit, paired_samples, places_of
from cytoclust.tl.results import (
    NOT_ESTIMABLE,
    OK,
    TESTED,
    TOO_FEW,
    Outcome,
    fit_everywhere,
    tidy,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from cytoclust.tl.contrasts import Contrast
    from cytoclust.tl.design import Design, Unit

__all__ = [
    "Denominator",
    "Method",
    "Normalization",
    "Options",
    "Rows",
    "counts_result",
    "fit_counts",
    "warn_of_few_donors",
]

Normalization = Literal["trimmed", "tmm"]
Denominator = Literal["log_ratio", "total", "parent", "absolute"]
SAME_SHARE = 1e-9  # relative
MIN_PAIRS = 6  # 2 / 2**5 is above 0.05
FEW_DONORS = 15  # below which a mixed binomial model is too sure of itself


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the rows are counted, filtered and tested."""

    method: Method
    denominators: tuple[Denominator, ...]
    min_cells: float
    absolute_key: str | None = None
    beads_key: str | None = None
    joint: bool = False
    normalization: Normalization = "trimmed"
    percent: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Rows:
    """Counts of K rows over the samples of a design, and what they are relative to; (K, n).

    Attributes
    ----------
    cells
        Counts (or percentages).
    library
        Library sizes; NaN leaves a sample out of the row.
    trials
        Cells among which the row's were counted.
    """

    cells: NDArray[np.float64]
    library: NDArray[np.float64]
    trials: NDArray[np.float64]

    @classmethod
    def make(
        cls,
        cells: NDArray[np.float64],
        library: NDArray[np.float64],
        trials: NDArray[np.float64],
    ) -> Rows:
        """Spread library and trials over the rows."""
        shape = cells.shape
        return cls(cells, np.broadcast_to(library, shape), np.broadcast_to(trials, shape))

    def at(
        self, rows: NDArray[np.bool_], unit: Unit
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Cells, library and trials of some rows in a unit."""
        block = np.ix_(rows, unit.samples)
        return self.cells[block], self.library[block], self.trials[block]


def counts_result(
    rows: Rows,
    plan: Design,
    *,
    options: Options,
    labels: pd.DataFrame,
    tested: dict[str, Outcome] | None = None,
) -> pd.DataFrame:
    """Test rows whose columns are the design's samples; `tested` is taken where it is known."""
    present = None if np.isfinite(rows.library).all() else np.isfinite(rows.library)
    if tested is None:
        tested = fit_counts(rows, plan, method=options.method, options=options)
    method = options.method + ("_joint" if options.joint else "")
    if options.percent and options.method == "voom":
        method = "limma_trend"
    places = places_of(plan)

    def behind(place: str, contrast: Contrast) -> dict[str, NDArray[Any]]:
        return _behind(rows, plan, (places[place], contrast), options=options)

    return tidy(plan, tested, labels, kind="abundance", method=method, present=present, more=behind)


def _behind(
    rows: Rows, plan: Design, which: tuple[dict[str, float], Contrast], *, options: Options
) -> dict[str, NDArray[Any]]:
    """Cells behind each row, and the ratio of size factors that was taken out of its change."""
    weights, contrast = which
    n_events = np.zeros(len(rows.cells))
    shift = np.zeros(len(rows.cells))
    with np.errstate(invalid="ignore", divide="ignore"):
        factors = np.log2(rows.library / rows.trials)
    for place, share in weights.items():
        members = plan.members(place)
        level = plan.table[plan.factor].to_numpy()[members]
        for name, weight in contrast.weights.items():
            here = members[level == name]
            if not weight or not len(here):
                continue
            seen = np.isfinite(rows.library[:, here])
            n_events += np.where(seen, rows.cells[:, here], 0).sum(axis=1)
            total = np.where(seen, factors[:, here], 0.0).sum(axis=1)
            shift += share * weight * total / np.maximum(seen.sum(axis=1), 1)
    if options.percent:
        n_events[:] = np.nan
    return {"n_events": n_events, "size_factor": 2.0**shift}


def fit_counts(rows: Rows, plan: Design, *, method: Method, options: Options) -> dict[str, Outcome]:
    """Fit every compartment and their differences; by result compartment."""
    if method == "signflip":
        return _fit_paired(rows, plan, options)
    if options.joint and method == options.method:
        return _fit_joint(rows, plan, options)
    return fit_everywhere(plan, lambda unit: _fit_unit(rows, unit, method, options=options))


def _kept(
    rows: Rows, unit: Unit, options: Options
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[Any]]:
    """Rows with enough cells, those of them that vary, and why others are left out."""
    cells, library, _ = rows.at(np.ones(len(rows.cells), dtype=bool), unit)
    least = np.nextafter(0.0, 1.0) if options.percent else options.min_cells
    enough = (cells >= least) & np.isfinite(library)
    need = max(unit.smallest_cell, 1) if options.min_cells else 0
    kept = enough.sum(axis=1) >= need
    what = "a value above 0" if options.percent else f"{options.min_cells:g} cells"
    why = [
        f"{what} in {n} of {len(unit.samples)} samples; needs {need}" for n in enough.sum(axis=1)
    ]
    varies = kept & ~tracks_library(cells, library)
    return kept, varies, np.array(why, dtype=object)


LOST = "too few samples with enough cells, or no variation between them"


def _fit_unit(
    rows: Rows,
    unit: Unit,
    method: str,
    *,
    options: Options,
    inner: NDArray[np.int64] | None = None,
) -> Outcome:
    """Fit the rows of one unit that have enough cells and vary."""
    kept, varies, why = _kept(rows, unit, options)
    fit = None
    if varies.any() and not all(unit.reasons):
        given = Input(*rows.at(varies, unit), unit=unit, inner=inner, percent=options.percent)
        with thread_limit(1 if method in {"voom", "edger"} else None):
            fit = METHODS[method](given)
    return Outcome.collect(fit, kept, unit, reasons=(why, LOST), fitted=varies)


def _fit_joint(rows: Rows, plan: Design, options: Options) -> dict[str, Outcome]:
    """Fit one model over all compartments and cut it into those of the result."""
    unit = joint_unit(plan)
    whole = _fit_unit(rows, unit, options.method, options=options, inner=inner_blocks(plan))
    J = len(plan.contrasts)
    places = places_of(plan)
    return {place: whole.columns(slice(i * J, (i + 1) * J)) for i, place in enumerate(places)}


def _fit_paired(rows: Rows, plan: Design, options: Options) -> dict[str, Outcome]:
    """Sign-flip tests of the changes of donors that have all samples of a contrast."""
    values = Input(rows.cells, rows.library, rows.trials, joint_unit(plan), percent=options.percent)
    log_values = np.where(np.isfinite(rows.library), values.values, np.nan)
    found = {}
    for place, weights in places_of(plan).items():
        units = [plan.unit(name) for name in weights]
        kept = np.all([_kept(rows, unit, options)[0] for unit in units], axis=0)
        why = _kept(rows, units[0], options)[2]
        for unit in units[1:]:
            own, _, other = _kept(rows, unit, options)
            why = np.where(own, why, other)
        parts = [
            _flip(log_values, paired_samples(plan, contrast, weights), options)
            for contrast in plan.contrasts
        ]
        blank = [tuple(unit.reasons[j] for unit in units) for j in range(len(plan.contrasts))]
        found[place] = _paired_outcome(parts, kept, why, blank=blank)
    return found


def _flip(
    values: NDArray[np.float64],
    paired: tuple[NDArray[np.int64], NDArray[np.float64]],
    options: Options,
) -> tuple[NDArray[np.float64], ...]:
    """Mean change, standard error, d.f., p and pairs of each row, for one contrast."""
    samples, weights = paired
    differences = (values[:, samples] * weights).sum(axis=2)  # (K, donors)
    known = np.isfinite(differences)
    n = known.sum(axis=1)
    mean = np.where(known, differences, 0).sum(axis=1) / np.maximum(n, 1)
    square = np.where(known, differences - mean[:, None], 0) ** 2
    std_error = np.sqrt(square.sum(axis=1) / np.maximum(n - 1, 1) / np.maximum(n, 1))
    p_value = np.full(len(values), np.nan)
    enough = n >= MIN_PAIRS
    if enough.any():
        rng = np.random.default_rng(options.seed)
        p_value[enough] = signflip_p_values(differences[enough], rng)
    return mean, std_error, (n - 1).astype(np.float64), p_value, n


def _paired_outcome(
    parts: list[tuple[NDArray[np.float64], ...]],
    kept: NDArray[np.bool_],
    why: NDArray[Any],
    *,
    blank: list[tuple[str, ...]],
) -> Outcome:
    """Collect sign-flip tests; rows with fewer than six pairs say so."""
    mean, std_error, df, p_value, n = (
        np.column_stack(columns) for columns in zip(*parts, strict=True)
    )
    status = np.full(mean.shape, OK, dtype=object)
    reason = np.full(mean.shape, "", dtype=object)
    no_replicates = "no replicates"
    for j, texts in enumerate(blank):
        lacking = "; ".join(
            dict.fromkeys(t for t in texts if t and not t.startswith((no_replicates, "confounded")))
        )
        if lacking:
            status[:, j], reason[:, j] = NOT_ESTIMABLE, lacking
    few = (n < MIN_PAIRS) & (status == OK)
    status[few] = TOO_FEW
    reason[few] = [f"{int(k)} donors paired; a sign-flip test needs {MIN_PAIRS}" for k in n[few]]
    flat = (std_error <= 0) & (status == OK)
    status[flat], reason[flat] = NOT_ESTIMABLE, LOST
    short = ~kept[:, None] & (status == OK)
    status[short], reason[short] = TOO_FEW, np.broadcast_to(why[:, None], mean.shape)[short]
    lost = ~np.isin(status.astype(str), TESTED)
    values = [np.where(lost, np.nan, v) for v in (mean, std_error, df, p_value)]
    return Outcome(values[0], values[1], values[2], status=status, reason=reason, p_value=values[3])


def warn_of_few_donors(plan: Design, method: str) -> None:
    """Warn where a mixed binomial model has too few donors to estimate their variance well."""
    donors = plan.table["donor"]
    n_donors = donors[donors != ""].nunique() if plan.has_donors else len(plan.table)
    if method == "glmm" and n_donors < FEW_DONORS:
        text = (
            f"method 'glmm' estimates the variance between donors from {n_donors}; below "
            f"{FEW_DONORS} its p-values are somewhat too small. Prefer method='voom'."
        )
        warnings.warn(text, StatisticsWarning, stacklevel=3)


def tracks_library(cells: NDArray[np.float64], library: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows that are one share of the library in every sample: all of it, or its only reference.

    Such a row says nothing but the pseudocount of the log ratio, yet without any scatter.
    """
    tracks = np.zeros(len(cells), dtype=bool)
    if not cells.size:
        return tracks
    for pseudocount in (0.0, 0.5):  # size factors rest on cells + 0.5
        share = np.where(np.isfinite(library), (cells + pseudocount) / library, np.nan)
        lowest, highest = np.fmin.reduce(share, axis=1), np.fmax.reduce(share, axis=1)
        tracks |= highest - lowest <= SAME_SHARE * highest
    return np.asarray(tracks & (cells > 0).any(axis=1))
