"""What file names tell of a study's design: patient, visit, compartment and the like."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BASELINES", "BLOOD", "guess_design", "natural"]

BASELINES: Final = (
    "baseline|base|screening|screen|scr|pre|before|diagnosis|dx|untreated|unstim|unstimulated|"
    "control|ctrl|vehicle|placebo|ref|reference|d0|day0|w0|week0|t0|0"
)
BLOOD: Final = "peripheralblood|wholeblood|blood|pb|pbmc|pbmcs"
ROLES: Final = {
    "visit": (
        r"(?:cycle|c) ?\d+ ?(?:day|d) ?-?\d+|(?:day|week|wk|month|visit|time|timepoint|tp|cycle|[dwvmtc]) ?\d+"
        r"|baseline|screening|screen|pre|post|before|after|follow ?up|fu|relapse|diagnosis|dx|remission|eot"
    ),
    "compartment": (
        r"pbmcs?|pb|bmmcs?|bm|(?:peripheral |cord |whole )?blood|(?:bone )?marrow|csf|ln|lymph ?node|spleen|tumou?r|tils?"
        r"|lungs?|liver|gut|skin|tonsils?|ascites|bal|thymus"
    ),
    "patient": (
        r"(?:patient|pat|pt|p|donor|subject|subj|sub|participant|mouse|animal|healthy|hd|case|id) ?-?\d+[a-z]?"
    ),
    "treatment": (
        r"stim|unstim|stimulated|unstimulated|treated|untreated|control|ctrl|vehicle|placebo|drug|ref|reference"
        r"|stim ?[a-z]"
    ),
    "batch": r"(?:batch|plate|run|lot|experiment|exp) ?\d+",
    "replicate": r"(?:replicate|rep) ?\d+",
}
PATTERNS: Final = {
    role: re.compile(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", re.IGNORECASE)
    for role, pattern in ROLES.items()
}
MOST: Final = 0.6  # of the files must tell a role, else it is chance
SPLITTER: Final = re.compile(r"[\s_,;+()\[\]]+|(?<!\d)[-.]|[-.](?!\d)|(?<=[0-9a-z])[-.](?=[a-z])")


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts P2 before P10."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def words(name: str) -> str:
    """Return a file's name without ending, its separators as blanks."""
    stem = re.sub(r"\.(fcs|lmd|csv|tsv|txt|parquet|pq)$", "", name, flags=re.IGNORECASE)
    return " ".join(part for part in SPLITTER.split(stem.replace("/", " ")) if part)


def guess_design(names: Sequence[str]) -> pd.DataFrame:
    """Guess design columns from file names.

    Parameters
    ----------
    names
        Path of each file relative to the study's folder, ``/`` between folders.

    Returns
    -------
    One row per file in the order given; columns visit, compartment, patient, treatment, batch,
    replicate where most names tell them and not all tell the same, and ``group`` for other parts
    of the names that a few files share. An empty text where a name does not tell.
    """
    texts = [words(name) for name in names]
    columns: dict[str, list[str]] = {}
    for role, pattern in PATTERNS.items():
        found = [pattern.search(text) for text in texts]
        values = [match.group(0) if match else "" for match in found]
        told = [value for value in values if value]
        if len(told) < MOST * len(texts) or len({value.casefold() for value in told}) < 2:
            continue
        columns[role] = one_spelling(values)
        texts = [
            f"{text[: match.start()]} {text[match.end() :]}" if match else text
            for text, match in zip(texts, found, strict=True)
        ]
    add_other_parts(columns, texts)
    order = [name for name in ("patient", "visit", "compartment") if name in columns]
    rest = [name for name in columns if name not in order]
    return pd.DataFrame({name: columns[name] for name in (*order, *rest)}, index=range(len(names)))


def one_spelling(values: list[str]) -> list[str]:
    """Write each value as it was first written, whatever its case and blanks."""
    first: dict[str, str] = {}
    return [first.setdefault(value.casefold().replace(" ", ""), value) for value in values]


def add_other_parts(columns: dict[str, list[str]], texts: list[str]) -> None:
    """Take parts that stand at one place in every name and that several files share."""
    parts = [text.split() for text in texts]
    if len({len(some) for some in parts}) != 1:
        return
    for place in zip(*parts, strict=True):
        levels = {value.casefold() for value in place}
        if not 1 < len(levels) < len(texts):
            continue
        tells = pd.DataFrame({**columns, "part": list(place)})
        crossed = bool(columns) and not tells.duplicated().any()
        numbers = all(re.search(r"\d", value) for value in place)
        if numbers and crossed and "patient" not in columns:
            columns["patient"] = list(place)
        elif len(levels) <= len(texts) // 2:
            name = "group" if "group" not in columns else f"group_{len(columns)}"
            columns[name] = one_spelling(list(place))
