"""What clusters and layouts leave behind so that later samples can be placed among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.checks import listing
from cytoclust.errors import ArgumentError
from cytoclust.tl.pooling import Source, event_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

COFACTOR_TOLERANCE = 1e-6  # relative; less is a rounded table
COMPARED = "a map only holds for values made the same way"


def panel_of(adata: AnnData, names: Sequence[str], use_rep: str | None) -> pd.DataFrame:
    """Return marker, cofactor and scale of the columns that were compared, by channel.

    Columns of an ``obsm`` slot have neither; their names still say which they are.
    """
    table = pd.DataFrame({"marker": "", "cofactor": np.nan, "scale": ""}, index=list(names))
    if use_rep is not None and use_rep != "X":
        return table
    var = adata.var.loc[list(names)]
    for column, key in (("marker", schema.MARKER), ("scale", schema.SCALE)):
        if key in var:
            table[column] = var[key].astype(str).to_numpy()
    if schema.COFACTOR in var:
        table["cofactor"] = var[schema.COFACTOR].to_numpy(dtype=np.float64)
    return table


def reference_facts(
    adata: AnnData, names: Sequence[str], use_rep: str | None
) -> dict[str, pd.DataFrame | bool]:
    """Return what later events must share with these: the panel and the steps applied."""
    return {
        "panel": panel_of(adata, names, use_rep),
        "compensated": checks.recorded(adata, schema.COMPENSATE) is not None,
        "transformed": checks.recorded(adata, schema.ARCSINH) is not None,
    }


def matching_source(adata: AnnData, kept: Mapping[str, Any], step: str) -> Source:
    """Find the reference's channels in new events, in its order; refuse what does not match."""
    params, panel = kept["params"], kept["panel"]
    use_rep = params.get("use_rep")
    if use_rep is not None and use_rep != "X":
        source = event_source(adata, use_rep=use_rep)
        if len(source.names) != len(panel):
            msg = (
                f"obsm[{use_rep!r}] must have the reference's {len(panel)} columns ({step}); it has "
                f"{len(source.names)}. Project the new events onto the reference's own axes."
            )
            raise ArgumentError(msg)
        return source
    channels = [str(name) for name in panel.index]
    missing = [name for name in channels if name not in adata.var_names]
    if missing:
        msg = (
            f"the reference's {step} compares channels that the new events do not have: "
            f"{listing(missing)}; they have {listing(adata.var_names)}. Rename the channels to the "
            "reference's, or map samples of the same panel."
        )
        raise ArgumentError(msg)
    _check_steps(adata, kept)
    _check_panel(panel_of(adata, channels, None), panel)
    return event_source(adata, channels)


def _check_steps(adata: AnnData, kept: Mapping[str, Any]) -> None:
    """Refuse new events that lack a step of the reference's, or have one more."""
    for field, step, verb in (
        ("compensated", schema.COMPENSATE, "pp.compensate"),
        ("transformed", schema.ARCSINH, "pp.arcsinh"),
    ):
        here, there = checks.recorded(adata, step) is not None, bool(kept[field])
        if here != there:
            msg = (
                f"the reference was {'' if there else 'not '}{field}, the new events were "
                f"{'' if here else 'not '}; {COMPARED}. Run {verb} on the one that lacks it"
                + (", with cofactor=reference.var['cofactor']." if step == schema.ARCSINH else ".")
            )
            raise ArgumentError(msg)


def _check_panel(here: pd.DataFrame, there: pd.DataFrame) -> None:
    """Refuse another antigen, scale or cofactor on a channel of the same name."""
    for column, what in (("marker", "the marker"), ("scale", "the scale")):
        differ = (here[column] != there[column].astype(str)) & (here[column] != "")
        differ &= there[column].astype(str) != ""
        if differ.any():
            channel = str(differ.idxmax())
            msg = (
                f"channel {channel!r}: {what} is {there.loc[channel, column]!r} in the reference, "
                f"{here.loc[channel, column]!r} in the new events; {COMPARED}. Check the panels."
            )
            raise ArgumentError(msg)
    new, old = here["cofactor"].to_numpy(float), there["cofactor"].to_numpy(float)
    same = np.isclose(new, old, rtol=COFACTOR_TOLERANCE, atol=0.0, equal_nan=True)
    if not same.all():
        i = int(np.argmin(same))
        msg = (
            f"channel {here.index[i]!r}: arcsinh cofactor is {old[i]:g} in the reference, {new[i]:g} "
            f"in the new events; {COMPARED}. Transform the new events with "
            "cofactor=reference.var['cofactor']."
        )
        raise ArgumentError(msg)


def forget(adata: AnnData, *steps: str) -> None:
    """Drop the records of another way to the same slot, which no longer describe it."""
    for step in steps:
        adata.uns.get(schema.UNS, {}).pop(step, None)
