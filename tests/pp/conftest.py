"""A small study built by hand, as io.read_study would give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import anndata as ad
import numpy as np
import pandas as pd
import pytest

if TYPE_CHECKING:
    from anndata import AnnData

CHANNELS = {
    "FSC-A": ("", "scatter", "none"),
    "FSC-H": ("", "scatter", "none"),
    "SSC-A": ("", "scatter", "none"),
    "FITC-A": ("CD3", "fluorescence", "type"),
    "PE-A": ("CD19", "fluorescence", "type"),
    "V500-A": ("Zombie", "viability", "none"),
    "Time": ("", "time", "none"),
}
SPILLOVER = np.array([[1.0, 0.15, 0.02], [0.05, 1.0, 0.0], [0.01, 0.03, 1.0]])
MEASURED = ["FITC-A", "PE-A", "V500-A"]


class Build(Protocol):
    """How the tests ask for a study."""

    def __call__(self, sizes: dict[str, int] | None = None, *, seed: int = 0) -> AnnData: ...


def sample_events(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Events as acquired, and what each is: 0 T cell, 1 B cell, 2 dead, 3 debris, 4 doublet."""
    kind = rng.choice(5, n, p=[0.5, 0.3, 0.08, 0.07, 0.05])
    height = rng.normal(6e4, 5e3, n)
    area = height * 1.1 * rng.normal(1, 0.03, n)
    small, double = kind == 3, kind == 4
    shrink = rng.lognormal(-1.7, 0.25, n)
    area[small] *= shrink[small]
    height[small] *= shrink[small]
    area[double] *= 1.9
    stains = np.zeros((n, 3))
    bright = 8000 * rng.lognormal(0, 0.3, n)
    stains[:, 0] = np.where(np.isin(kind, (0, 4)), bright, 0)
    stains[:, 1] = np.where(kind == 1, bright, 0)
    stains[:, 2] = np.where(kind == 2, 3 * bright, 0)
    measured = stains @ SPILLOVER + rng.normal(0, 60, (n, 3))
    scatter = [area, height, 0.5 * height * rng.lognormal(0, 0.1, n)]
    time = np.cumsum(rng.exponential(0.1, n))
    return np.column_stack([*scatter, measured, time]).astype(np.float32), kind


def assemble(parts: dict[str, np.ndarray]) -> AnnData:
    """Put blocks of events together as io.read_study does."""
    counts = [len(part) for part in parts.values()]
    names = list(parts)
    codes = np.repeat(np.arange(len(names)), counts)
    obs = pd.DataFrame(
        {
            "sample": pd.Categorical.from_codes(codes, names),
            "visit": pd.Categorical.from_codes(codes % 2, ["d0", "d7"]),
            "event": np.concatenate([np.arange(n) for n in counts]).astype(np.int32),
        },
        index=[str(i) for i in range(sum(counts))],
    )
    var = pd.DataFrame(
        [
            {"channel": name, "marker": marker, "channel_type": kind, "marker_class": group}
            for name, (marker, kind, group) in CHANNELS.items()
        ],
        index=list(CHANNELS),
    )
    var["scale"] = "linear"
    var["cofactor"] = np.nan
    adata = ad.AnnData(np.concatenate(list(parts.values())), obs=obs, var=var)
    adata.layers["raw"] = adata.X.copy()
    files = pd.DataFrame(
        {
            "sample": names,
            "file": [f"/data/{name}.fcs" for name in names],
            "n_events": counts,
            "spillover_id": "spillover_1",
            "spillover_problem": "",
        },
        index=[str(i) for i in range(len(names))],
    )
    spillover: dict[str, Any] = {
        "spillover_1": {"channels": np.array(MEASURED, dtype=object), "values": SPILLOVER.copy()}
    }
    ranges = np.array([262144.0] * 6 + [np.nan])
    record = {"params": {}, "version": "0", "files": files, "spillover": spillover}
    adata.uns["cytoclust"] = {"read_study": {**record, "ranges": ranges}}
    return adata


@pytest.fixture
def study() -> Build:
    """Return the builder; each call gives a study of its own."""

    def build(sizes: dict[str, int] | None = None, *, seed: int = 0) -> AnnData:
        rng = np.random.default_rng(seed)
        parts, kinds = {}, []
        for name, n in (sizes or {"P1/d0": 3000, "P1/d7": 2000}).items():
            parts[name], kind = sample_events(rng, n)
            kinds.append(kind)
        adata = assemble(parts)
        adata.obs["truth"] = np.concatenate(kinds)
        return adata

    return build
