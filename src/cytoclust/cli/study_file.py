"""``study.toml``: everything a run needs to know, in one file that can be kept with the data."""

from __future__ import annotations

import difflib
import json
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path  # noqa: TC003, dataclasses read the annotations
from typing import Any, Final

from cytoclust.checks import listing
from cytoclust.errors import StudyError

__all__ = ["STUDY_FILE", "Request", "compose", "read_request"]

STUDY_FILE: Final = "study.toml"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run is asked for; the fields are the keys of ``study.toml``."""

    samples: Path | None = field(
        default=None, metadata={"help": "sample sheet: file, sample and design columns"}
    )
    panel: Path | None = field(default=None, metadata={"help": "channel, marker, marker_class"})
    out: Path | None = field(default=None, metadata={"help": "folder for the results"})
    treatment: str | None = field(
        default=None, metadata={"help": "column of the visit, arm or dose to compare"}
    )
    baseline: str | None = field(
        default=None,
        metadata={
            "help": "level of treatment to compare with (of compartment if no treatment); the first by default"
        },
    )
    compartment: str | None = field(
        default=None,
        metadata={
            "help": "column of the tissue; each is tested for itself, or compared if no treatment"
        },
    )
    donor: str | None = field(
        default=None, metadata={"help": "column of the patient, whose samples belong together"}
    )
    covariates: tuple[str, ...] = field(
        default=(), metadata={"help": "further columns to adjust for"}
    )
    definitions: tuple[str, ...] = field(
        default=("human_leukocyte",),
        metadata={"help": "phenotype definitions: names of shipped sets or your own TOML files"},
    )
    resolution: float = field(
        default=1.0, metadata={"help": "of the clustering; more gives more clusters"}
    )
    embedding: bool = field(default=True, metadata={"help": "whether to compute the UMAP"})
    seed: int = field(default=0, metadata={"help": "one seed for every random step"})
    n_jobs: int | None = field(default=None, metadata={"help": "threads; all by default"})
    title: str | None = field(default=None, metadata={"help": "heading of the report"})
    store: Path | None = field(
        default=None,
        metadata={"help": "folder for a zarr store of the events, if they are larger than memory"},
    )
    fcs: bool = field(
        default=True, metadata={"help": "whether to write FCS files with the results"}
    )

    def changed(self, **options: Any) -> Request:
        """Return the request with the options that were given (not None)."""
        given = {name: value for name, value in options.items() if value is not None}
        return replace(self, **given)


EXAMPLES: Final = {"n_jobs": "4"}  # of keys without default that are no text
KEYS: Final = {item.name: item for item in fields(Request)}
PATHS: Final = ("samples", "panel", "out", "store")
LISTS: Final = ("covariates", "definitions")
KINDS: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "resolution": ((int, float), "a number"),
    "embedding": ((bool,), "true or false"),
    "fcs": ((bool,), "true or false"),
    "seed": ((int,), "a whole number"),
    "n_jobs": ((int,), "a whole number"),
}


def read_request(path: Path) -> Request:
    """Read ``study.toml``; paths in it count from its folder.

    Raises
    ------
    StudyError
        The file is missing or no TOML, a key is unknown, or a value has the wrong type.
    """
    file = path / STUDY_FILE if path.is_dir() else path
    if not file.is_file():
        msg = f"{file}: no such file. Write one with: cytoclust init FOLDER."
        raise StudyError(msg)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f'{file}: not a TOML file ({error}). A line reads: key = "value".'
        raise StudyError(msg) from None
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        near = difflib.get_close_matches(unknown[0], KEYS, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        msg = f"{file}: unknown keys {listing(unknown)}; known: {listing(KEYS, 20)}.{hint} Correct or remove them."
        raise StudyError(msg)
    base = file.absolute().parent
    read = {key: checked_value(key, value, file=file) for key, value in content.items()}
    values = {key: value for key, value in read.items() if value is not None}
    for key in PATHS:
        if key in values:
            values[key] = base / values[key]
    if "definitions" in values:
        own = (base / name for name in values["definitions"])
        values["definitions"] = tuple(
            str(place) if place.suffix == ".toml" else name
            for place, name in zip(own, values["definitions"], strict=True)
        )
    return Request(**values)


def checked_value(key: str, value: Any, *, file: Path) -> Any:
    """Return a key's value in its type; an empty text is as if the key were not there."""
    if key in LISTS:
        items = [value] if isinstance(value, str) else value
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            return tuple(item for item in items if item)
        expected = 'a list of texts, as ["A", "B"]'
    elif key in KINDS:
        kind, expected = KINDS[key]
        if isinstance(value, kind) and (kind == (bool,) or not isinstance(value, bool)):
            return value
    else:
        if isinstance(value, str):
            return value.strip() or None
        expected = "a text in quotes"
    msg = f"{file}: {key} must be {expected}; found {value!r}. Correct it."
    raise StudyError(msg)


def compose(values: dict[str, Any]) -> str:
    """Return the text of a ``study.toml`` with every key explained; unknown values as comments."""
    lines = ["# A study for cytoclust. Check every line, then: cytoclust run study.toml", ""]
    for key, item in KEYS.items():
        value = values.get(key)
        default = item.default
        shown = value if value is not None else default
        text = toml_value(shown) if shown is not None else EXAMPLES.get(key, '""')
        mark = "" if value is not None else "# "
        lines.append(f"{mark}{key} = {text}  # {item.metadata['help']}")
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """Write a value as TOML; JSON's texts, numbers and lists are valid TOML."""
    if isinstance(value, tuple | list):
        return json.dumps(list(value))
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value)).replace("\x7f", "\\u007f")
