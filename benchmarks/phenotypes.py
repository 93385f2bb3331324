"""Names without manual gates, scored: gated sets of a shared folder, and time for a million events.

    python benchmarks/phenotypes.py --gated FOLDER [--peers] [--seeds 6]
    python benchmarks/phenotypes.py --time [--peers]

`--gated` annotates each gated set by the shipped definitions alone, on panel and values as they come
(mass cytometry with arcsinh of the cofactor its source names), and scores events and samples against
the gates. The yardstick is the best unsupervised clustering of the same values: our Leiden at two
resolutions and, with `--peers`, FlowSOM_Python; its clusters are matched with the gates after the fact,
which no name can be. No setting may be chosen here: these sets are for judging.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003, options are parsed with it
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterator

LINEAGES = {"T cell", "CD4 T", "CD8 T", "NK cell", "B cell", "monocyte"}


def event_table(values: np.ndarray, markers: list[str]) -> ad.AnnData:
    adata = ad.AnnData(np.ascontiguousarray(values, dtype=np.float32))
    adata.var_names = markers
    adata.var["marker"] = markers
    adata.var["marker_class"] = "type"
    return adata


def cytomem(folder: Path) -> tuple[ad.AnnData, str, dict[str, str]]:
    """PBMC, mass cytometry, 7 gates."""
    table = pd.read_parquet(folder / "pbmc_cytomem" / "events.parquet")
    markers = [name for name in table if table[name].dtype == "float32"]
    adata = event_table(np.arcsinh(table[markers].to_numpy() / 15), markers)
    adata.obs["gate"] = table["label"].astype(str).to_numpy()
    names = {
        "CD4+ T cells": "CD4 T",
        "CD8+ T cells": "CD8 T",
        "NK cells": "NK cell",
        "Monocytes": "monocyte",
        "Dendritic cells": "dendritic cell",
        "IgM+ B cells": "IgM+ B",
        "IgM- B cells": "IgM- B",
    }
    return adata, "human_leukocyte", names


def hipc(folder: Path) -> tuple[ad.AnnData, str, dict[str, str]]:
    """Pre-gated T cells of nine samples, fluorescence, 10 gates."""
    table = pd.read_parquet(folder / "hipc_tcell_yale" / "events.parquet")
    markers = ["CCR7", "CD4", "CD45RA", "CD3", "HLADR", "CD38", "CD8"]
    adata = event_table(table[markers].to_numpy(), markers)
    adata.obs["gate"] = table["label"].astype(str).to_numpy()
    adata.obs["sample"] = pd.Categorical(table["sample"].astype(str))
    ends = {
        "Naive": "naive",
        "Central Memory": "CM",
        "Effector Memory": "EM",
        "Effector": "TEMRA",
        "Activated": "activated",
    }
    names = {}
    for label in sorted(set(adata.obs["gate"])):
        lineage = "CD4" if "4" in label else "CD8"
        end = next(ends[e] for e in sorted(ends, key=len, reverse=True) if label.endswith(e))
        names[label] = f"{lineage} {end}"
    return adata, "human_leukocyte", names


def spleen(folder: Path) -> tuple[ad.AnnData, str, dict[str, str]]:
    """One mouse sample, fluorescence, 6 gates and ungated events."""
    import flowio

    data = flowio.FlowData(str(folder / "mouse_spleen" / "ff.fcs"))
    values = np.reshape(data.events, (-1, data.channel_count)).astype(np.float32)
    labels = [data.channels[i].get("pns", "").strip() for i in sorted(data.channels)]
    kept = [i for i, label in enumerate(labels) if label and label not in {"l/d", "GFP"}]
    adata = event_table(values[:, kept], [labels[i] for i in kept])
    gates = pd.read_csv(folder / "mouse_spleen" / "labels.csv")["label"]
    adata.obs["gate"] = gates.replace("ungated", "").fillna("").to_numpy()
    names = {
        "CD4 T cells": "CD4 T",
        "CD8 T cells": "CD8 T",
        "B cells": "B cell",
        "NK cells": "NK cell",
        "NK T cells": "NKT-like",
        "gd T cells": "gd T",
    }
    return adata, "mouse_basic", names


def gated_sets(folder: Path) -> Iterator[tuple[str, ad.AnnData, str, dict[str, str]]]:
    for name, read in {
        "pbmc_cytomem": cytomem,
        "hipc_tcell_yale": hipc,
        "mouse_spleen": spleen,
    }.items():
        yield name, *read(folder)
