"""The further channels of every event that are written to FCS files, made for the rows asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.numerics.tallies import tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["Extra", "excluded", "extra_channels"]

DEFAULT_KEYS = (schema.LEIDEN, schema.PHENOTYPE, schema.PHENOTYPE_CLUSTER)


class Nothing:
    """A flag that no event carries."""

    def __init__(self, n_events: int) -> None:
        self.n_events = n_events

    def __getitem__(self, rows: Any) -> NDArray[np.bool_]:
        whole = np.broadcast_to(np.zeros(1, dtype=np.bool_), self.n_events)
        return np.array(whole[rows])


@dataclass
class Extra:
    """Further channels of every event of the AnnData; excluded events get 0.

    `columns` (n_events,) each, in their own types; `flags` the quality flags among them, of which
    qc_pass is made, or None if it is not wanted.
    """

    names: list[str]
    columns: list[Any]
    books: dict[str, pd.DataFrame]
    flags: list[Any] | None
    nothing: Nothing

    def of_rows(self, rows: Any) -> NDArray[np.float32]:
        """Return the channels of some events, (n_rows, n_names)."""
        parts = [np.asarray(column[rows], dtype=np.float32) for column in self.columns]
        if self.flags is not None:
            raised = [np.asarray(flag[rows], dtype=bool) for flag in (*self.flags, self.nothing)]
            passed = (~np.logical_or.reduce(raised)).astype(np.float32)
            del raised[-1]
            parts += [flag.astype(np.float32) for flag in raised]
            parts.append(passed)
        return np.stack(parts, axis=1) if parts else np.zeros((0, 0), np.float32)


def extra_channels(
    adata: AnnData, obs_keys: Sequence[str] | None, *, umap: bool, quality: bool
) -> Extra:
    """Collect columns of ``obs``, coordinates and flags, and the books of codes; nothing is copied."""
    keys = [key for key in DEFAULT_KEYS if key in adata.obs] if obs_keys is None else list(obs_keys)
    names: list[str] = []
    columns: list[Any] = []
    books: dict[str, pd.DataFrame] = {}
    for key in keys:
        checks.check_key(adata, key)
        column = adata.obs[key]
        names.append(key)
        if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype):
            columns.append(column.to_numpy(dtype=np.float32, na_value=np.nan))
            continue
        coded = pd.Categorical(column)
        columns.append(Codes(coded.codes))
        counts = tally(coded.codes, len(coded.categories))
        labels = [str(label) for label in coded.categories]
        books[key] = pd.DataFrame(
            {
                "code": np.arange(len(labels) + 1),
                key: ["(excluded or missing)", *labels],
                "n_events": [int(n_read(adata) - counts.sum()), *counts.tolist()],
            }
        )
    if umap and schema.UMAP in adata.obsm:
        names += ["UMAP_1", "UMAP_2"]
        layout = np.asarray(adata.obsm[schema.UMAP])
        columns += [layout[:, 0], layout[:, 1]]
    nothing = Nothing(adata.n_obs)
    if not quality:
        return Extra(names, columns, books, None, nothing)
    flags = [flag for flag in schema.QC_FLAGS if flag in adata.obs or excluded(adata)]
    raised = [
        adata.obs[flag].to_numpy(dtype=bool) if flag in adata.obs else nothing for flag in flags
    ]
    return Extra([*names, *flags, schema.QC_PASS], columns, books, raised, nothing)


class Codes:
    """Codes of categories from 1; 0 for none."""

    def __init__(self, codes: NDArray[np.signedinteger]) -> None:
        self.codes = codes

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        return self.codes[rows].astype(np.float32) + 1


def n_read(adata: AnnData) -> int:
    """Count the events of all files."""
    return int(
        checks.require_step(adata, schema.READ_STUDY, "io.read_study")["files"]["n_events"].sum()
    )


def excluded(adata: AnnData) -> dict[str, Any] | None:
    """Return what `pp.filter_events` kept of the events that it dropped."""
    return (checks.recorded(adata, schema.FILTER_EVENTS) or {}).get("excluded")
