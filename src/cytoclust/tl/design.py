"""Who was sampled when and where, what is compared with what, and whether that can be estimated."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import schema
from cytoclust.checks import listing
from cytoclust.errors import DesignError, StudyWarning
from cytoclust.tl.contrasts import (
    Contrast,
    default_contrasts,
    factorial_contrasts,
    parse_contrasts,
)
from cytoclust.tl.design_checks import (
    COMPARTMENT,
    DONOR,
    TREATMENT,
    combined_treatment,
    excluded_samples,
    refuse_duplicates,
)
from cytoclust.tl.sheet import (
    as_text,
    covariate_columns,
    covariate_matrix,
    levels_of,
    levels_to_compare,
    likely_typos,
    refuse_unknown_column,
    sheet_by_sample,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Design", "Unit", "design"]

ALL = "all"  # the compartment of a study without compartments


@dataclass(frozen=True)
class Unit:
    """One fit: the samples of a compartment and the model for them.

    Attributes
    ----------
    compartment
        Its name, or "all".
    samples
        (n,) positions in ``design.table``.
    matrix
        (n, p) one column per level present, then covariates (centred).
    contrasts
        (p, J) one column per contrast of the design; 0 where not estimable.
    reasons
        (J,) why a contrast cannot be estimated; "" where it can.
    blocks
        (n,) donor codes, or None where no donor has two samples here.
    smallest_cell
        Samples at the rarest level present.
    """

    compartment: str
    samples: NDArray[np.int64]
    matrix: NDArray[np.float64]
    contrasts: NDArray[np.float64]
    reasons: tuple[str, ...]
    blocks: NDArray[np.int64] | None
    smallest_cell: int


@dataclass(frozen=True)
class Design:
    """A checked design; made by `design`, printed with ``str``.

    Attributes
    ----------
    table
        One row per sample in use: treatment, compartment, donor as text ("" where not asked for).
    covariates
        (n_samples, n_columns) numbers.
    factor
        Which column the contrasts compare: "treatment", or "compartment" without treatment.
    baseline
        Level that the others are compared with.
    levels, compartments
        Levels compared, and compartments that are fitted separately, in order.
    contrasts
        What is estimated in each compartment.
    excluded
        Columns sample, reason: samples of the sheet that take no part.
    notes
        What a reader should know: likely typos, how covariates are taken.
    """

    table: pd.DataFrame
    covariates: pd.DataFrame
    factor: str
    baseline: str
    levels: tuple[str, ...]
    compartments: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    excluded: pd.DataFrame
    notes: tuple[str, ...]

    def without(self, samples: Sequence[str], reason: str) -> Design:
        """Leave samples out, with a reason."""
        gone = [name for name in self.table.index if name in set(samples)]
        if not gone:
            return self
        more = pd.DataFrame({"sample": gone, "reason": reason})
        return replace(
            self,
            table=self.table.drop(index=gone),
            covariates=self.covariates.drop(index=gone),
            excluded=pd.concat([self.excluded, more], ignore_index=True),
        )

    @property
    def has_donors(self) -> bool:
        """Whether donors are known."""
        return bool((self.table[DONOR] != "").any())

    def members(self, compartment: str) -> NDArray[np.int64]:
        """Positions of a compartment's samples in ``table``."""
        if compartment == ALL and self.compartments == (ALL,):
            return np.arange(len(self.table))
        return np.flatnonzero((self.table[COMPARTMENT] == compartment).to_numpy())

    def unit(self, compartment: str) -> Unit:
        """Build the model of one compartment."""
        samples = self.members(compartment)
        here = self.table.iloc[samples]
        counts = here[self.factor].value_counts()
        present = [level for level in self.levels if counts.get(level, 0)]
        cells = (here[self.factor].to_numpy()[:, None] == np.array(present)[None]).astype(float)
        extra = self.covariates.iloc[samples].to_numpy(dtype=np.float64)
        extra = extra - extra.mean(axis=0) if len(extra) else extra
        spread = np.sqrt((extra**2).mean(axis=0)) if len(extra) else np.zeros(extra.shape[1])
        extra = extra[:, spread > 1e-12] / spread[spread > 1e-12]
        matrix = np.column_stack([cells.reshape(len(here), len(present)), extra])
        columns = [c.vector([*present, *[""] * extra.shape[1]]) for c in self.contrasts]
        vectors = np.array(columns).T.reshape(matrix.shape[1], len(self.contrasts))
        reasons = tuple(
            _why_not(c, (compartment, present), matrix=matrix, vector=vector)
            for c, vector in zip(self.contrasts, vectors.T, strict=True)
        )
        vectors = vectors * np.array([not reason for reason in reasons])
        smallest = min((int(counts[level]) for level in present), default=0)
        return Unit(compartment, samples, matrix, vectors, reasons, self._blocks(here), smallest)

    @staticmethod
    def _blocks(here: pd.DataFrame) -> NDArray[np.int64] | None:
        donors = here[DONOR]
        if (donors == "").all() or not donors.duplicated().any():
            return None
        return np.asarray(pd.factorize(donors)[0], dtype=np.int64)

    def paired(
        self,
        contrast: Contrast,
        compartments: Sequence[str],
        *,
        present: NDArray[np.bool_] | None = None,
    ) -> tuple[int, int]:
        """Count samples at the levels of a contrast, and donors that have them all, everywhere.

        `present` (n_samples,) restricts both to samples that have a value.
        """
        wanted = [level for level, weight in contrast.weights.items() if weight]
        n_samples, donors = 0, None
        for compartment in compartments:
            at = self.members(compartment)
            here = self.table.iloc[at if present is None else at[present[at]]]
            n_samples += int(here[self.factor].isin(wanted).sum())
            for level in wanted:
                found = set(here.loc[here[self.factor] == level, DONOR]) - {""}
                donors = found if donors is None else donors & found
        return n_samples, len(donors or ())

    def grid(self) -> pd.DataFrame:
        """Count samples: donors (or one row) x compartment and level, 0 where a visit is missing."""
        row = self.table[DONOR].where(self.table[DONOR] != "", "all samples")
        places = self.compartments if self.factor == TREATMENT else (ALL,)
        place = self.table[COMPARTMENT] if self.compartments != (ALL,) else ALL
        keys = pd.DataFrame({"row": row, "place": place, "level": self.table[self.factor]})
        tally = pd.crosstab(keys["row"], [keys["place"], keys["level"]])
        columns = pd.MultiIndex.from_product(
            [places, self.levels], names=[COMPARTMENT, self.factor]
        )
        table = tally.reindex(columns=columns, fill_value=0).reindex(list(dict.fromkeys(row)))
        return table.rename_axis(DONOR).astype(int)

    def summary(self) -> pd.DataFrame:
        """List every contrast: compartment, contrast, n_samples, n_paired, estimable, reason."""
        rows = []
        reasons: dict[tuple[str, str], str] = {}
        for place in self.compartments:
            for contrast, reason in zip(self.contrasts, self.unit(place).reasons, strict=True):
                reasons[place, contrast.name] = reason
                rows.append((place, contrast.name, *self.paired(contrast, [place]), reason))
        for label, earlier, later in self.interactions():
            for contrast in self.contrasts:
                both = (reasons[earlier, contrast.name], reasons[later, contrast.name])
                reason = "; ".join(dict.fromkeys(text for text in both if text))
                rows.append(
                    (label, contrast.name, *self.paired(contrast, [earlier, later]), reason)
                )
        columns = [COMPARTMENT, "contrast", "n_samples", "n_paired", "reason"]
        table = pd.DataFrame(rows, columns=columns)
        table.insert(4, "estimable", table["reason"] == "")
        return table

    def interactions(self) -> list[tuple[str, str, str]]:
        """(label, reference compartment, other) of each pair with the first compartment."""
        first, *others = self.compartments
        return [(f"{other} - {first}", first, other) for other in others]

    def __str__(self) -> str:
        from cytoclust.tl.design_text import describe

        return describe(self)


def _why_not(
    contrast: Contrast,
    place: tuple[str, list[str]],
    *,
    matrix: NDArray[np.float64],
    vector: NDArray[np.float64],
) -> str:
    """Say why a contrast cannot be estimated in a compartment, "" if it can."""
    compartment, present = place
    where = "" if compartment == ALL else f" in {compartment}"
    lacking = [level for level, w in contrast.weights.items() if w and level not in present]
    if lacking:
        return f"no sample at {' and '.join(lacking)}{where}"
    _, values, right = np.linalg.svd(matrix, full_matrices=False)
    kept = values > 1e-9 * values[0]
    if len(matrix) - kept.sum() <= 0:
        return f"no replicates{where}: {len(matrix)} samples for {kept.sum()} parameters"
    space = right[kept]
    if np.abs(space.T @ (space @ vector) - vector).max() > 1e-6:
        return f"confounded with the covariates{where}"
    return ""


def design(
    samples: pd.DataFrame | str | os.PathLike[str],
    *,
    treatment_key: str | Sequence[str] | None = None,
    baseline: str | None = None,
    compartment_key: str | None = None,
    donor_key: str | None = None,
    covariates: Sequence[str] = (),
    contrasts: Sequence[str] | Mapping[str, Mapping[str, float]] | None = None,
    sample_key: str = schema.SAMPLE,
) -> Design:
    """Check a study design: who was sampled when and where, and what can be compared.

    Parameters
    ----------
    samples
        Sample sheet, table or CSV path, one row per sample.
    treatment_key
        Column with visits, arms or doses; None if only compartments are compared. Two columns, such
        as ``("arm", "visit")``, make levels "arm visit": contrasts are then the changes over the
        second within each level of the first, and their differences from the first one's.
    baseline
        Level that the others are compared with; by default the first (categorical order, else order
        of appearance in the sheet). Of the last column, where there are several.
    compartment_key
        Column with compartments; each is fitted separately.
    donor_key
        Column with donors, whose samples are not independent.
    covariates
        Columns or formula terms (formulaic) to adjust for, such as ``"batch"`` or ``"age"``. A text
        column of numbers is a quantity if it has decimals or more than 10 values, else labels;
        ``str(design)`` says which. Write ``"C(batch)"`` for labels.
    contrasts
        ``"d7 - d0"`` texts, or name -> {level: weight}; by default every level minus baseline and
        the last minus the first on-treatment level.
    sample_key
        Column of sample names, unless they are the index.

    Returns
    -------
    Design
        Prints as the grid of donors by visits with what is missing; ``summary()`` and ``grid()``
        give tables.

    Raises
    ------
    DesignError
        Unknown column or level, nothing to compare, or a donor sampled twice under one condition.

    Warns
    -----
    StudyWarning
        Levels that look like one level spelt in two ways.

    Notes
    -----
    Samples with an empty value in a column that is used are left out and listed in ``excluded``.

    Examples
    --------
    >>> import pandas as pd, cytoclust as cc
    >>> sheet = pd.DataFrame(
    ...     {"sample": list("abcd"), "patient": list("xxyy"), "visit": ["d0", "d7"] * 2}
    ... )
    >>> plan = cc.tl.design(sheet, treatment_key="visit", donor_key="patient")
    >>> plan.summary()[["contrast", "n_paired"]].values.tolist()
    [['d7 - d0', 2]]
    """
    sheet = sheet_by_sample(samples, sample_key)
    terms = [covariates] if isinstance(covariates, str) else list(covariates)
    several: list[str] = []
    if treatment_key is not None and not isinstance(treatment_key, str):
        sheet, treatment_key, several = combined_treatment(sheet, list(treatment_key))
    keys = {TREATMENT: treatment_key, COMPARTMENT: compartment_key, DONOR: donor_key}
    used = {role: key for role, key in keys.items() if key is not None}
    for role, key in used.items():
        if key not in sheet.columns:
            refuse_unknown_column(f"{role}_key", key, sheet.columns)
    if treatment_key is None and compartment_key is None:
        msg = f"a comparison needs treatment_key or compartment_key; columns of the sheet: {listing(sheet.columns)}. Name one."
        raise DesignError(msg)
    needed, lacking, notes = covariate_columns(sheet, terms)
    table = pd.DataFrame(
        {role: as_text(sheet[keys[role]]) if role in used else "" for role in keys},
        index=sheet.index,
    )
    excluded = excluded_samples(table, used, lacking)
    kept = ~table.index.isin(excluded["sample"])
    sheet, table = sheet[kept], table[kept]
    notes += [
        note
        for role, key in used.items()
        for part in (several if several and role == TREATMENT else [key])
        for note in likely_typos(part, sheet[part], spelling=role != DONOR)
    ]
    if typos := [note for note in notes if "look like one level" in note]:
        warnings.warn(
            f"{'; '.join(typos)}. Correct the sample sheet if so.", StudyWarning, stacklevel=2
        )
    factor = TREATMENT if treatment_key is not None else COMPARTMENT
    column = several[-1] if several else used[factor]
    options = levels_to_compare(sheet, column, (factor, baseline))
    levels = levels_of(sheet[used[factor]])
    first = str(baseline) if baseline is not None else options[0]
    if donor_key is not None:
        refuse_duplicates(table, sheet[needed])
    places = levels_of(sheet[compartment_key]) if compartment_key and treatment_key else [ALL]
    if contrasts is not None:
        given = parse_contrasts(contrasts, levels)
    elif several:
        given = factorial_contrasts(levels_of(sheet[several[0]]), options, levels, baseline=first)
    else:
        given = default_contrasts(levels, first, last_first=factor == TREATMENT)
    extra = covariate_matrix(sheet, terms, needed)
    return Design(
        table,
        extra,
        factor,
        first,
        tuple(levels),
        tuple(places),
        tuple(given),
        excluded,
        tuple(notes),
    )
