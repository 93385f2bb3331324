"""From fits to tidy rows: one per population, compartment and contrast, always."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from cytoclust import schema
from cytoclust.errors import StudyWarning
from cytoclust.numerics.voom import ContrastFit, welch_difference
from cytoclust.tl.multiplicity import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cytoclust.tl.contrasts import Contrast
    from cytoclust.tl.design import Design, Unit

OK, TOO_FEW, NOT_ESTIMABLE = "ok", "too few", "not estimable"
SINGULAR, SEPARATED = "singular", "separated"
TESTED = schema.TESTED
EFFECT = {"abundance": "log2_fold_change", "state": "difference"}
LEADING = ("population", "level", "parent", "denominator", "compartment", "contrast")
TRAILING = (
    "ci_low", "ci_high", "std_error", "df", "statistic", "p_value", "fdr",
    "n_samples", "n_paired", "method", "status", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """What a model says of the rows that it saw; arrays (K, J).

    `status` and `reason` count where there are numbers, `reason` also where there are none;
    `p_value` is given where it does not follow from t.
    """

    estimate: NDArray[np.float64]
    std_error: NDArray[np.float64]
    df: NDArray[np.float64]
    status: NDArray[Any] = None  # type: ignore[assignment]
    reason: NDArray[Any] = None  # type: ignore[assignment]
    p_value: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for name, value in (("status", OK), ("reason", "")):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.full(self.estimate.shape, value, dtype=object))


@dataclass(frozen=True)
class Outcome:
    """Estimates of K populations and J contrasts, and what became of each; arrays (K, J)."""

    estimate: NDArray[np.float64]
    std_error: NDArray[np.float64]
    df: NDArray[np.float64]
    status: NDArray[Any]
    reason: NDArray[Any]
    p_value: NDArray[np.float64]

    @classmethod
    def collect(
        cls,
        fit: Fitted | None,
        kept: NDArray[np.bool_],
        unit: Unit,
        *,
        reasons: tuple[NDArray[Any], str],
        fitted: NDArray[np.bool_] | None = None,
    ) -> Outcome:
        """Spread the fit of the `kept` rows (or of those of them that were `fitted`) over all rows.

        `reasons` = why each row was not kept, and why a kept row gave no estimate.
        """
        shape = (len(kept), len(unit.reasons))
        values = [np.full(shape, np.nan) for _ in range(4)]
        flag, note = np.full(shape, OK, dtype=object), np.full(shape, "", dtype=object)
        if fit is not None:
            rows = kept if fitted is None else fitted
            p_value = t_test(fit) if fit.p_value is None else fit.p_value
            given = (fit.estimate, fit.std_error, fit.df, p_value, fit.status, fit.reason)
            for target, source in zip((*values, flag, note), given, strict=True):
                target[rows] = source
        estimable = np.array([not reason for reason in unit.reasons])
        found = np.isfinite(values[3]) & np.isfinite(values[1]) & (values[1] > 0)
        found &= np.isfinite(values[2]) & (values[2] > 0) & estimable
        status = np.where(found, flag, NOT_ESTIMABLE)
        reason = np.where(found | (note != ""), note, reasons[1]).astype(object)
        status = np.where(kept[:, None], status, TOO_FEW)
        reason = np.where(kept[:, None], reason, reasons[0][:, None])
        status = np.where(estimable, status, NOT_ESTIMABLE)
        reason = np.where(estimable, reason, np.array(unit.reasons, dtype=object))
        for target in values:
            target[~found] = np.nan
        return cls(values[0], values[1], values[2], status=status, reason=reason, p_value=values[3])

    def minus(self, earlier: Outcome) -> Outcome:
        """Difference of two compartments; tested only where both are."""
        fit = welch_difference(
            ContrastFit(self.estimate, self.std_error, self.df),
            ContrastFit(earlier.estimate, earlier.std_error, earlier.df),
        )
        rank = {name: i for i, name in enumerate((OK, SINGULAR, SEPARATED, TOO_FEW, NOT_ESTIMABLE))}
        worse = np.vectorize(rank.get)(self.status) > np.vectorize(rank.get)(earlier.status)
        status = np.where(worse, self.status, earlier.status)
        reason = np.where(worse, self.reason, earlier.reason)
        both = np.isin(status.astype(str), TESTED)
        values = [np.where(both, v, np.nan) for v in (fit.estimate, fit.std_error, fit.df)]
        p_value = t_test(Fitted(values[0], values[1], values[2]))
        return Outcome(
            values[0], values[1], values[2], status=status, reason=reason, p_value=p_value
        )

    def columns(self, which: slice) -> Outcome:
        """Return some of the contrasts."""
        return Outcome(
            self.estimate[:, which], self.std_error[:, which], self.df[:, which],
            status=self.status[:, which], reason=self.reason[:, which], p_value=self.p_value[:, which],
        )  # fmt: skip


def t_test(fit: Fitted) -> NDArray[np.float64]:
    """Two-sided p-values of t statistics."""
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = np.abs(fit.estimate / fit.std_error)
    return np.asarray(2 * stats.t.sf(statistic, fit.df), dtype=np.float64)


def fit_everywhere(plan: Design, fit_unit: Callable[[Unit], Outcome]) -> dict[str, Outcome]:
    """Fit each compartment, then the differences from the first one."""
    fitted = {place: fit_unit(plan.unit(place)) for place in plan.compartments}
    with np.errstate(invalid="ignore", divide="ignore"):
        for label, earlier, later in plan.interactions():
            fitted[label] = fitted[later].minus(fitted[earlier])
    return fitted


def tidy(
    plan: Design,
    tested: dict[str, Outcome],
    labels: pd.DataFrame,
    *,
    kind: Literal["abundance", "state"],
    method: str,
    present: NDArray[np.bool_] | None = None,
    more: Callable[[str, Contrast], dict[str, NDArray[Any]]] | None = None,
) -> pd.DataFrame:
    """Return the result rows; the false discovery rate is per compartment and contrast.

    `labels` has one row per population with the columns that name it; `present` (K, n_samples) says
    which samples stand behind each row (all by default); `more` gives further columns of a
    compartment and contrast.
    """
    places = {label: [earlier, later] for label, earlier, later in plan.interactions()}
    blocks = []
    for place, result in tested.items():
        for j, contrast in enumerate(plan.contrasts):
            behind = _behind(plan, contrast, places.get(place, [place]), present=present)
            block = labels.assign(compartment=place, contrast=contrast.name)
            block = block.assign(**_columns(result, j, EFFECT[kind]))
            block = block.assign(n_samples=behind[0], n_paired=behind[1], method=method)
            blocks.append(block.assign(**(more(place, contrast) if more else {})))
    table = pd.concat(blocks, ignore_index=True)
    leading = [name for name in (*LEADING[:3], "marker", *LEADING[3:]) if name in table.columns]
    known = [*leading, EFFECT[kind], *TRAILING]
    return table[[*known, *(name for name in table.columns if name not in known)]]


def _behind(
    plan: Design,
    contrast: Contrast,
    places: list[str],
    *,
    present: NDArray[np.bool_] | None,
) -> tuple[int, int] | tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count samples and paired donors behind a contrast, for all rows or for each."""
    if present is None:
        return plan.paired(contrast, places)
    patterns, where = np.unique(present, axis=0, return_inverse=True)
    tally = np.array(
        [plan.paired(contrast, places, present=pattern) for pattern in patterns], dtype=np.int64
    )[where.ravel()]
    return tally[:, 0], tally[:, 1]


def _columns(result: Outcome, j: int, effect: str) -> dict[str, NDArray[Any]]:
    """Numbers of one contrast: effect, interval, test, false discovery rate."""
    estimate, std_error, df = result.estimate[:, j], result.std_error[:, j], result.df[:, j]
    p_value = result.p_value[:, j]
    reach = stats.t.ppf(0.975, df) * std_error
    return {
        effect: estimate,
        "ci_low": estimate - reach,
        "ci_high": estimate + reach,
        "std_error": std_error,
        "df": df,
        "statistic": estimate / std_error,
        "p_value": p_value,
        "fdr": benjamini_hochberg(p_value),
        "status": result.status[:, j].astype(str),
        "reason": result.reason[:, j].astype(str),
    }


def warn_of_exclusions(plan: Design) -> None:
    """Report the samples that take no part in the tests."""
    if len(plan.excluded):
        shown = [f"{s} ({r})" for s, r in plan.excluded.head(5).itertuples(index=False)]
        more = f", and {len(plan.excluded) - 5} more" if len(plan.excluded) > 5 else ""
        text = (
            f"{len(plan.excluded)} samples are counted but take no part in the tests: "
            f"{', '.join(shown)}{more}."
        )
        warnings.warn(text, StudyWarning, stacklevel=3)
