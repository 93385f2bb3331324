"""What is compared, and what of it the samples allow."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cytoclust import checks
from cytoclust.errors import StudyWarning

if TYPE_CHECKING:
    from cytoclust import tl

__all__ = ["Comparison", "report_design"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Which columns of the sample sheet are compared, and against what."""

    treatment_key: str | None
    baseline: str | None
    compartment_key: str | None
    donor_key: str | None
    covariates: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.treatment_key is not None or self.compartment_key is not None


def report_design(plan: tl.Design) -> None:
    """Say before any event is read which samples and which contrasts cannot be tested."""
    summary = plan.summary()
    missed = [
        f"{row['contrast']} in {row['compartment']} ({row['reason']})"
        for row in summary[~summary["estimable"]].to_dict("records")
    ]
    left_out = [f"{row['sample']} ({row['reason']})" for row in plan.excluded.to_dict("records")]
    for found, what in (
        (left_out, "samples will be counted but not tested"),
        (missed, "contrasts cannot be estimated; their rows say so"),
    ):
        if found:
            warnings.warn(
                f"{len(found)} {what}: {checks.listing(found)}", StudyWarning, stacklevel=3
            )
    for row in summary[summary["estimable"]].to_dict("records"):
        checks.steps.info(
            "To be tested: %s in %s: %d samples, %d donors with all of them",
            *(row["contrast"], row["compartment"], row["n_samples"], row["n_paired"]),
        )
