"""Power of a study as it was: the smallest change that it could have found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import special, stats

from cytoclust.checks import listing
from cytoclust.errors import ArgumentError, MissingSlotError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["detectable_changes"]

NEEDED = ("compartment", "contrast", "std_error", "df")
FAMILY = ("level", "denominator", "compartment", "contrast")


def detectable_changes(
    result: pd.DataFrame, *, power: float = 0.8, alpha: float = 0.05
) -> pd.DataFrame:
    """Add the smallest change that each test detects with the given power.

    Parameters
    ----------
    result
        What `differential_abundance` or `differential_state` returned.
    power
        Probability with which the change is to be found.
    alpha
        Error rate of the two-sided test, and false discovery rate of its family.

    Returns
    -------
    DataFrame
        The table with two more columns, in units of its effect (log2 fold change, or difference):
        ``detectable_change``, if this population alone had been tested (p < alpha), and
        ``detectable_change_fdr``, if it is the only one that changes among all that were tested in
        its family (p < alpha / tests). NaN where nothing was tested.

    Raises
    ------
    ArgumentError
        A probability is none.
    MissingSlotError
        The table lacks a column.

    Notes
    -----
    Standard errors and degrees of freedom are those estimated from these patients and visits, with
    what is missing: where d = change / standard error, t follows a noncentral t distribution. It
    answers which changes a negative result excludes less well than the confidence interval does; it
    is for judging the design, and the next one. Where several populations change, the limit lies
    between the two columns.

    References
    ----------
    Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, chapter 2,
    doi:10.4324/9780203771587.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> table = pd.DataFrame({"compartment": ["PB"], "contrast": ["d7 - d0"]})
    >>> found = cc.tl.detectable_changes(table.assign(std_error=0.1, df=1e6))
    >>> round(found["detectable_change"].item(), 3)  # (1.960 + 0.842) standard errors
    0.28
    """
    missing = [name for name in NEEDED if name not in result.columns]
    if missing:
        msg = f"power needs the table of a differential test; missing columns: {listing(missing)}. Pass it unchanged."
        raise MissingSlotError(msg)
    for name, value in (("power", power), ("alpha", alpha)):
        if not 0 < value < 1:
            msg = f"{name} must lie between 0 and 1; got {value!r}. Give a probability."
            raise ArgumentError(msg)
    std_error = result["std_error"].to_numpy(np.float64)
    df = result["df"].to_numpy(np.float64)
    tested = np.isfinite(std_error) & np.isfinite(df)
    keys = [name for name in FAMILY if name in result.columns]
    size = pd.Series(tested, result.index).groupby([result[k] for k in keys]).transform("sum")
    each = np.where(tested, alpha, np.nan)
    family = np.where(tested, alpha / np.maximum(size.to_numpy(np.float64), 1), np.nan)
    return result.assign(
        detectable_change=std_error * noncentrality(df, each, power),
        detectable_change_fdr=std_error * noncentrality(df, family, power),
    )


def noncentrality(
    df: NDArray[np.float64], alpha: NDArray[np.float64], power: float
) -> NDArray[np.float64]:
    """Return how many standard errors a change must have to be found with the given power."""
    out = np.full(len(df), np.nan)
    given = np.isfinite(df) & np.isfinite(alpha)
    if not given.any():
        return out
    pairs, where = np.unique(np.column_stack([df, alpha])[given], axis=0, return_inverse=True)
    limit = stats.t.isf(pairs[:, 1] / 2, pairs[:, 0])
    low, high = np.zeros(len(pairs)), limit + 10 * (1 + limit / np.sqrt(pairs[:, 0]))
    for _ in range(50):
        middle = (low + high) / 2
        reached = 1 - special.nctdtr(pairs[:, 0], middle, limit)  # the other tail adds nothing here
        low, high = (
            np.where(reached < power, middle, low),
            np.where(reached < power, high, middle),
        )
    out[given] = ((low + high) / 2)[where.ravel()]
    return out
