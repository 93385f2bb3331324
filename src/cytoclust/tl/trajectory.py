"""The course of each population over treatment, called stage-wise with error control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from cytoclust.checks import check_positive, listing
from cytoclust.errors import ArgumentError, MissingSlotError
from cytoclust.tl.contrasts import MINUS
from cytoclust.tl.multiplicity import benjamini_hochberg, holm, simes
from cytoclust.tl.sheet import suggestion
from cytoclust.tl.trajectory_places import add_places, is_between

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["classify_trajectories"]

UNIT = ("level", "denominator", "marker", "population", "compartment")
NEEDED = ("population", "compartment", "contrast", "std_error", "df", "p_value", "fdr", "status")
EFFECTS = ("log2_fold_change", "difference")


@dataclass(frozen=True)
class Times:
    """Names of the levels and of the contrasts that a course is judged by."""

    baseline: str
    on: tuple[str, ...]
    early: str
    late: str

    @property
    def screening(self) -> list[str]:
        """Every on-treatment level against baseline."""
        return [f"{level}{MINUS}{self.baseline}" for level in self.on]

    @property
    def shape(self) -> tuple[str, str, str]:
        """Early and late change, and the change from early to late."""
        early, late = (f"{level}{MINUS}{self.baseline}" for level in (self.early, self.late))
        return early, late, f"{self.late}{MINUS}{self.early}"


@dataclass(frozen=True)
class Limits:
    """Error rate and the band around no change, on the scale of the effect."""

    alpha: float
    margin: float


def classify_trajectories(
    result: pd.DataFrame,
    *,
    early: str | None = None,
    late: str | None = None,
    alpha: float = 0.05,
    margin: float | None = None,
) -> pd.DataFrame:
    """Call the course of every population in every compartment.

    Parameters
    ----------
    result
        What `differential_abundance` or `differential_state` returned, with every on-treatment
        level minus baseline, and `late` minus `early`.
    early, late
        On-treatment levels; by default the first and the last.
    alpha
        Overall false discovery rate of the calls.
    margin
        Change that still counts as none: log2(1.5) for abundance by default; must be given for
        marker state, in units of the difference.

    Returns
    -------
    DataFrame
        One row per population and compartment (and level, denominator, marker): ``call``,
        ``early_change``, ``late_change``, ``peak`` (level with the largest absolute t, descriptive),
        ``screening_p``, ``screening_fdr``, ``call_p`` (largest p of the parts that the call needs,
        NaN if it needs none), ``compartment_fdr`` (smallest FDR of the difference from the first
        compartment at the early and late level; for the first compartment the smallest over all
        others), ``only_here`` (of a changed course: "shown" where every other compartment changes
        significantly less at the early or late level or is stable, else "not shown"; "" where there
        is no other, or no change), ``reason``.

    Raises
    ------
    ArgumentError
        A level or contrast is not in the table, or `margin` is missing.
    MissingSlotError
        The table lacks a column.

    Notes
    -----
    Screening: Simes' test over the on-treatment levels, Benjamini-Hochberg over all units; R of m
    pass. Confirmation in a unit that passed: Holm over all contrasts at alpha R / m. Calls hold
    only if each of their parts does:

    - persistent: early and late change, same sign, no significant way back;
      partial: the same with a significant way back
    - transient: early change, significant way back, late equivalent to baseline (two one-sided
      tests within the margin); "transient?" where equivalence is not shown
    - late: late change and change from early to late, same sign, no early change
    - biphasic: early and late change of opposite sign
    - "changed, unresolved": screened, but none of these shown
    - stable: every level equivalent to baseline; "no change detected": neither shown.

    With one on-treatment level the calls are changed, stable or no change detected.

    References
    ----------
    Van den Berge et al. 2017, doi:10.1186/s13059-017-1277-0 (stage-wise control); Schuirmann 1987,
    doi:10.1007/BF01068419 (equivalence).

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> table = pd.DataFrame({"population": ["NK"], "compartment": ["PB"], "contrast": ["d7 - d0"]})
    >>> table = table.assign(
    ...     log2_fold_change=1.2, std_error=0.1, df=20.0, p_value=1e-9, fdr=1e-9, status="ok"
    ... )
    >>> cc.tl.classify_trajectories(table)["call"].tolist()
    ['changed']
    """
    check_positive("alpha", alpha)
    effect = _effect_column(result)
    if margin is None:
        if effect == "difference":
            msg = "margin= must be given for marker state, in units of the difference; got None. Give the change that counts as none."
            raise ArgumentError(msg)
        margin = float(np.log2(1.5))
    check_positive("margin", margin)
    limits = Limits(alpha, margin)
    keys = [name for name in UNIT if name in result.columns]
    table = result.assign(effect=result[effect])
    between = is_between(table["compartment"])
    times = _times(table[~between], early=early, late=late)
    outer = [name for name in UNIT[:2] if name in keys]
    families = [part for _, part in table[~between].groupby(outer, sort=False)] if outer else []
    frames = [
        _call_family(list(part.groupby(keys, sort=False, observed=True)), times, limits)
        for part in (families or [table[~between]])
    ]
    calls = pd.concat(frames, ignore_index=True)
    calls = add_places(calls, table[between], keys=keys, contrasts=times.shape[:2], alpha=alpha)
    more = ["compartment_fdr", "only_here", "reason"]
    return calls[[*keys, *(c for c in COLUMNS if c != "reason"), *more]]


COLUMNS = (
    "call", "early_change", "late_change", "peak", "screening_p", "screening_fdr", "call_p", "reason",
)  # fmt: skip


def _effect_column(result: pd.DataFrame) -> str:
    """Find the effect column and check the others."""
    missing = [name for name in NEEDED if name not in result.columns]
    found = [name for name in EFFECTS if name in result.columns]
    if missing or not found:
        lacking = listing([*missing, *([] if found else [" or ".join(EFFECTS)])])
        msg = f"trajectories need the table of a differential test; missing columns: {lacking}. Pass it unchanged."
        raise MissingSlotError(msg)
    return found[0]


def _times(table: pd.DataFrame, *, early: str | None, late: str | None) -> Times:
    """Read baseline and on-treatment levels off the contrasts, in their order."""
    names = list(dict.fromkeys(table["contrast"].astype(str)))
    baseline = _baseline(names)
    if not baseline:
        msg = f"contrasts must read 'later - earlier'; got {listing(names)}. Use the default contrasts."
        raise ArgumentError(msg)
    end = f"{MINUS}{baseline}"
    on = tuple(name.removesuffix(end) for name in names if name.endswith(end))
    for role, level in (("early", early), ("late", late)):
        if level is not None and level not in on:
            msg = (
                f"{role} {level!r} is not an on-treatment level; levels: {listing(on)} against "
                f"baseline {baseline}.{suggestion(level, on)} Name one of them."
            )
            raise ArgumentError(msg)
    times = Times(baseline, on, early or on[0], late or on[-1])
    if len(on) > 1 and on.index(times.early) >= on.index(times.late):
        msg = f"early must come before late in {listing(on)}; got {times.early!r} and {times.late!r}. Swap them."
        raise ArgumentError(msg)
    if len(on) > 1 and times.shape[2] not in names:
        msg = (
            f"the contrast {times.shape[2]!r} is needed to tell courses apart; the table has "
            f"{listing(names)}. Add it to contrasts= of the test."
        )
        raise ArgumentError(msg)
    return times


def _baseline(names: list[str]) -> str:
    """Find the level that the first contrast and most others end with; "" if there is none.

    Levels may hold the minus themselves, so the longest of equally common ends is taken.
    """
    parts = names[0].split(MINUS) if names else []
    ends = [MINUS.join(parts[cut:]) for cut in range(1, len(parts))]
    return max(ends, key=lambda end: sum(n.endswith(MINUS + end) for n in names), default="")


def _call_family(
    units: list[tuple[Hashable, pd.DataFrame]], times: Times, limits: Limits
) -> pd.DataFrame:
    """Screen all units together, then call each."""
    screened = [
        simes(unit.loc[unit["contrast"].isin(times.screening), "p_value"].to_numpy(np.float64))
        for _, unit in units
    ]
    fdr = benjamini_hochberg(np.array(screened))
    n_tested = int(np.isfinite(fdr).sum())
    level = limits.alpha * float((fdr <= limits.alpha).sum()) / max(n_tested, 1)
    rows = []
    for (key, unit), p_value, adjusted in zip(units, screened, fdr, strict=True):
        lines = unit.drop_duplicates("contrast").set_index("contrast")
        row = _call(lines, times, passed=adjusted <= limits.alpha, level=level, limits=limits)
        names = [name for name in UNIT if name in unit.columns]
        labels = dict(zip(names, key if isinstance(key, tuple) else (key,), strict=True))
        rows.append({**labels, **row, "screening_p": p_value, "screening_fdr": adjusted})
    return pd.DataFrame(rows)


def _call(
    lines: pd.DataFrame, times: Times, *, passed: bool, level: float, limits: Limits
) -> dict[str, object]:
    """Call one unit; `level` is the error rate left for its confirmation."""
    effect = lines["effect"].astype(np.float64)
    change = {name: float(effect.get(name, np.nan)) for name in times.shape}
    screening = [name for name in times.screening if name in lines.index]
    strength = (effect / lines["std_error"].astype(np.float64)).loc[screening].abs()
    row: dict[str, object] = {
        "early_change": change[times.shape[0]],
        "late_change": change[times.shape[1]],
        "peak": str(strength.idxmax()).removesuffix(f"{MINUS}{times.baseline}")
        if strength.notna().any()
        else "",
        "call_p": np.nan,
    }
    lacking = [
        name for name in (*screening, *times.shape) if not np.isfinite(effect.get(name, np.nan))
    ]
    lacking = [name for name in dict.fromkeys(lacking) if len(times.on) > 1 or name in screening]
    if strength.isna().all():
        why = listing(dict.fromkeys(lines["reason"])) if "reason" in lines.columns else ""
        return {**row, "call": "not tested", "reason": why}
    if not passed:
        p_same = float(np.max([_equivalence(lines, name, limits.margin) for name in screening]))
        stable = bool(p_same < limits.alpha)  # NaN, where a level was not tested, is not below
        return {
            **row,
            "call": "stable" if stable else "no change detected",
            "call_p": p_same if stable else np.nan,
            "reason": "",
        }
    if len(times.on) == 1:
        return {**row, "call": "changed", "call_p": float(lines["p_value"].min()), "reason": ""}
    if lacking:
        why = f"not tested: {listing(lacking)}"
        return {**row, "call": "changed, unresolved", "reason": why}
    family = list(dict.fromkeys([*screening, times.shape[2]]))
    adjusted = pd.Series(holm(lines.loc[family, "p_value"].to_numpy(np.float64)), index=family)
    call, p_value, why = _shape(lines, times, adjusted=adjusted, level=level, limits=limits)
    return {**row, "call": call, "call_p": p_value, "reason": why}


def _shape(
    lines: pd.DataFrame, times: Times, *, adjusted: pd.Series, level: float, limits: Limits
) -> tuple[str, float, str]:
    """Name the course of a unit that passed screening: (call, p, reason)."""
    early, late, way = times.shape
    found = {name: bool(adjusted[name] <= level) for name in times.shape}
    change = {name: float(value) for name, value in lines["effect"].astype(np.float64).items()}
    sign = {name: np.sign(change[name]) for name in times.shape}
    p_values = lines["p_value"].astype(np.float64)

    def largest(*names: str) -> float:
        return float(p_values[list(names)].max())

    back = found[way] and sign[way] == -sign[early]
    if found[early] and found[late]:
        if sign[early] != sign[late]:
            return "biphasic", largest(early, late), ""
        return (
            ("partial", largest(early, late, way), "")
            if back
            else ("persistent", largest(early, late), "")
        )
    if found[early] and back:
        p_same = _equivalence(lines, late, limits.margin)
        if p_same < limits.alpha:
            return "transient", max(largest(early, way), p_same), ""
        why = f"return to baseline is not shown (equivalence p = {p_same:.2g})"
        return "transient?", largest(early, way), why
    if found[late] and found[way] and sign[late] == sign[way] and not found[early]:
        return "late", largest(late, way), ""
    shown = [name for name in adjusted.index if adjusted[name] <= level]
    return (
        "changed, unresolved",
        np.nan,
        f"confirmed: {listing(shown) if shown else 'no single contrast'}",
    )


def _equivalence(lines: pd.DataFrame, name: str, margin: float) -> float:
    """P-value of two one-sided tests that a change lies inside the margin; NaN if not tested."""
    line = lines.loc[name, ["effect", "std_error", "df"]].to_numpy(dtype=np.float64)
    effect, std_error, df = line
    reach = (margin - abs(effect)) / std_error
    return float(stats.t.sf(reach, df))
