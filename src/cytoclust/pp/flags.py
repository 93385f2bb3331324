"""What the quality verbs share: the events they look at, and how a flag is written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cytoclust import checks, chunks, schema
from cytoclust.event_arrays import event_arrays, let_go, put_column
from cytoclust.pp import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

SCATTER_KIND: Final = re.compile(
    r"^\W*(?P<kind>fsc|fs|fals|forward|ssc|ss|side)(?:[\W_]*(?:\d+|pmt|scatter|b|v|lin))*"
    r"[\W_]*(?P<pulse>area|int(?:egral)?|a|height|peak|h|width|tof|w)?\W*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Verdict:
    """What one verb found in one sample.

    Attributes
    ----------
    flags
        (n_events,)
    reason
        Why nothing could be told, or a remark; else empty.
    thresholds
        Rows ``channel, kind, value, source``.
    """

    flags: NDArray[np.bool_]
    reason: str = ""
    thresholds: list[dict[str, Any]] = field(default_factory=list)


def nothing(n_events: int, reason: str) -> Verdict:
    """Return a verdict without flags."""
    return Verdict(np.zeros(n_events, dtype=np.bool_), reason)


def threshold(channel: object, kind: str, value: float, *, source: str) -> dict[str, Any]:
    """Return one row of a table of thresholds."""
    return {"channel": str(channel), "kind": kind, "value": float(value), "source": source}


def judge_samples(
    adata: AnnData,
    flag: str,
    *,
    judge: Callable[..., Verdict],
    params: dict[str, Any],
    values: Any = None,
    own: dict[str, tuple[Any, ...]] | None = None,
    events: Sequence[NDArray[Any]] = (),
) -> None:
    """Judge every sample, write the flag, and record counts, thresholds and reasons.

    Parameters
    ----------
    adata
        Events of a study.
    flag
        Column of ``obs`` to write.
    judge
        Called with the values of a sample, (n_events, n_channels), not to be changed; then what is
        `own` to the sample, and then the sample's part of each of `events`. It must not hold the
        AnnData, since workers elsewhere may call it.
    params
        To be recorded.
    values
        What to look at; by default the events as acquired.
    own
        Further arguments of each sample.
    events
        Further facts about every event, (n_events,) each.
    """
    rows_of = blocks.sample_blocks(adata)
    present = {sample: rows for sample, rows in rows_of.items() if blocks.n_rows(rows)}
    arguments = [
        (*(own[sample] if own else ()), *(column[rows] for column in events))
        for sample, rows in present.items()
    ]
    found = chunks.iterate_blocks(
        partial(_judge, judge), blocks.acquired_values(adata)[0] if values is None else values,
        arguments, blocks=list(present.values()),
    )  # fmt: skip
    flags = event_arrays(adata).zeros(np.bool_)
    samples = {name: {"events": 0, "flagged": 0, "reason": "no events"} for name in rows_of}
    thresholds: list[dict[str, Any]] = []
    for sample, (rows, verdict) in zip(present, found, strict=True):
        flags[rows] = verdict.flags
        let_go(flags)
        samples[sample] = {
            "events": blocks.n_rows(rows),
            "flagged": int(verdict.flags.sum()),
            "reason": verdict.reason,
        }
        thresholds += [{schema.SAMPLE: sample, **row} for row in verdict.thresholds]
    index = pd.Index(list(rows_of), name=schema.SAMPLE, dtype=str)
    table = pd.DataFrame(list(samples.values()), index=index)
    columns = [schema.SAMPLE, "channel", "kind", "value", "source"]
    limits = pd.DataFrame(thresholds, columns=columns)
    limits["value"] = limits["value"].astype(np.float64)
    for name in (schema.SAMPLE, "channel", "kind", "source"):
        limits[name] = limits[name].astype(str)
    limits.index = pd.Index([str(i) for i in range(len(limits))])
    write_flag(adata, flag, flags)
    checks.record(
        adata, schema.FLAG_STEPS[flag], {**params, "flagged": int(flags.sum())},
        samples=table, thresholds=limits,
    )  # fmt: skip


def _judge(judge: Callable[..., Verdict], events: Any, arguments: tuple[Any, ...]) -> Verdict:
    return judge(events, *arguments)


def write_flag(adata: AnnData, flag: str, flags: NDArray[np.bool_]) -> None:
    """Write a flag and bring ``qc_pass`` up to date."""
    if adata.is_view:
        adata._init_as_actual(adata.copy())
    put_column(adata, flag, flags)
    put_column(adata, schema.QC_PASS, unflagged(adata, *schema.QC_FLAGS))


def unflagged(adata: AnnData, *flags: str) -> NDArray[np.bool_]:
    """Tell which events carry none of these flags, as far as they were set."""
    columns = [adata.obs[name].to_numpy(dtype=np.bool_) for name in flags if name in adata.obs]
    arrays = event_arrays(adata)
    if not columns:
        return arrays.full(value=True, dtype=np.bool_)
    return arrays.mapped(lambda *parts: ~np.logical_or.reduce(parts), *columns, dtype=np.bool_)


def scatter_channels(adata: AnnData) -> dict[tuple[str, str], int]:
    """Find the scatter channels by their names.

    Returns
    -------
    dict
        Kind (``FSC``, ``SSC``) and pulse measure (``A``, ``H``, ``W``) to the place of the channel;
        a scatter channel that does not say its measure counts as area. The first of several wins.
    """
    found: dict[tuple[str, str], int] = {}
    unsaid: dict[tuple[str, str], int] = {}
    is_scatter = blocks.channel_types(adata) == "scatter"
    for place in np.flatnonzero(is_scatter):
        match = SCATTER_KIND.match(str(blocks.channel_names(adata)[place]).strip())
        if match is None:
            continue
        kind = "FSC" if match["kind"].lower().startswith("f") else "SSC"
        pulse = (match["pulse"] or "").lower()[:1]
        measure = {"a": "A", "i": "A", "h": "H", "p": "H", "w": "W", "t": "W"}.get(pulse, "")
        (found if measure else unsaid).setdefault((kind, measure or "A"), int(place))
    return {**unsaid, **found}


def even_rows(rows: blocks.Rows, keep: NDArray[np.bool_] | None, n_events: int) -> NDArray[np.intp]:
    """Return at most `n_events` of the rows to keep (None: of all), evenly over the sample."""
    places = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
    places = places if keep is None else places[keep[places]]
    chosen = np.linspace(0, places.size - 1, min(n_events, places.size)).astype(np.intp)
    return np.asarray(places[chosen])


def pooled_rows(adata: AnnData, keep: NDArray[np.bool_], n_events: int) -> NDArray[np.intp]:
    """Return rows taken evenly from all samples, the same number from each."""
    rows_of = [rows for rows in blocks.sample_blocks(adata).values() if blocks.n_rows(rows)]
    share = max(n_events // max(len(rows_of), 1), 1)
    parts = [even_rows(rows, keep, share) for rows in rows_of]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.intp)
