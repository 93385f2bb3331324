"""Marker levels and phenotypes of events and clusters, without manual gates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.checks import listing
from cytoclust.errors import ArgumentError
from cytoclust.numerics.mixtures import count_values, split_marker
from cytoclust.numerics.threads import thread_limit
from cytoclust.tl import phenotype_evidence as evidence
from cytoclust.tl.definitions import load_definitions
from cytoclust.tl.phenotype_nodes import move_cut, thinned
from cytoclust.tl.phenotype_panel import SCATTER, Panel, read_panel, usual_levels
from cytoclust.tl.phenotype_walk import MIN_PARENT, Walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from anndata import AnnData

    from cytoclust.numerics.mixtures import Baseline, Split

__all__ = ["annotate_phenotypes", "call_markers"]
MIN_DIFFERENCE = 0.01  # share of a group's events that its own cut calls differently


def call_markers(
    adata: AnnData,
    *,
    compartment_key: str | None = None,
    cutoffs: Mapping[str, float] | None = None,
    synonyms: Mapping[str, str] | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Find negative, low, positive and bright levels of every marker from the events.

    Parameters
    ----------
    adata
        Events with transformed values in ``X`` (after `pp.arcsinh`, or exported after transformation).
    compartment_key
        Column of ``obs`` (compartment or batch) to look for differences in: a group whose own cut
        calls more than 1 % of its events differently gets its own row, others are pooled.
    cutoffs
        Marker to cut-off, in units of ``X``, that replace those found; `annotate_phenotypes` keeps
        to them.
    synonyms
        Further marker names: own name to canonical name.
    copy
        Return a changed copy instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes ``uns["cytoclust"]["call_markers"]["cutoffs"]``: DataFrame with columns marker,
        channel, compartment, cut_low, cut_positive, cut_bright (units of ``X``; NaN where there is
        no such level), band_low, band_high (posterior 0.1 to 0.9), method, informative, status and
        reason. Low is between cut_low and cut_positive, bright above cut_bright.

    Raises
    ------
    ArgumentError
        A cut-off names a marker that the panel does not have, or a marker is on two channels.

    Notes
    -----
    A marker is cut where its smoothed log density is not concave: any usual single population is
    log-concave, and the dent between two populations of equal spread depends on their distance, not
    on their sizes. Markers with one population only are called all positive or all negative by
    their place among the panel's usual levels, or are left undetermined; they are never cut in the
    middle. Histograms of at most 400,000 evenly spaced events are used, so that the result is
    deterministic and its cost does not grow.

    Examples
    --------
    >>> import anndata as ad, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> values = np.r_[rng.normal(0, 0.5, 500), rng.normal(4, 0.5, 500)][:, None]
    >>> adata = ad.AnnData(values.astype(np.float32))
    >>> adata.var["marker"] = ["CD3"]
    >>> call_markers(adata)
    >>> table = adata.uns["cytoclust"]["call_markers"]["cutoffs"]
    >>> bool(1 < table["cut_positive"].iloc[0] < 3)
    True
    """
    adata = adata.copy() if copy else adata
    panel = read_panel(adata, synonyms=synonyms)
    given = dict(cutoffs or {})
    check_cutoffs(given, panel)
    rows = usable_rows(adata)
    baseline, splits = usual_levels(panel, rows)
    table = [
        {"channel": panel.channels[marker], "compartment": "all",
         **evidence.cutoff_row(marker, move_cut(split, given[marker]) if marker in given else split)}
        for marker, split in splits.items()
    ]  # fmt: skip
    if compartment_key is not None:
        checks.check_key(adata, compartment_key)
        table += own_rows(adata, compartment_key, panel=panel, baseline=baseline, pooled=splits)
    frame = pd.DataFrame(table)
    frame.index = frame.index.astype(str)
    checks.record(
        adata,
        schema.CALL_MARKERS,
        {"compartment_key": compartment_key, "given": sorted(given)},
        cutoffs=frame,
        baseline=np.array([baseline.negative, baseline.positive]),
    )
    return adata if copy else None


def check_cutoffs(given: Mapping[str, float], panel: Panel) -> None:
    """Raise `ArgumentError` for a cut-off of a marker that is not in the panel."""
    unknown = [marker for marker in given if marker not in panel.columns]
    if unknown:
        msg = (
            f"cutoffs must name markers of the panel {listing(panel.columns)}; got {listing(unknown)}. "
            "Use canonical names, see cytoclust.markers.resolve."
        )
        raise ArgumentError(msg)


def usable_rows(adata: AnnData) -> np.ndarray:
    """Rows that passed quality control (all if it was not run) and are finite."""
    keep = np.ones(adata.n_obs, dtype=bool)
    if schema.QC_PASS in adata.obs:
        keep = adata.obs[schema.QC_PASS].to_numpy(dtype=bool).copy()
    values = np.asarray(adata.X)
    for start in range(0, len(values), 262_144):
        keep[start : start + 262_144] &= np.isfinite(values[start : start + 262_144]).all(axis=1)
    return np.flatnonzero(keep)


def own_rows(
    adata: AnnData, key: str, *, panel: Panel, baseline: Baseline, pooled: Mapping[str, Split]
) -> list[dict[str, object]]:
    """Cut-offs of groups whose own cut calls more than 1 % of their events differently."""
    groups = adata.obs[key].astype("category")
    found = []
    for number, group in enumerate(groups.cat.categories):
        rows = thinned(np.flatnonzero(groups.cat.codes.to_numpy() == number), 400_000)
        for marker, whole in pooled.items():
            if not whole.informative or marker in SCATTER or len(rows) < MIN_PARENT:
                continue
            values = panel.take(marker, rows)
            split = split_marker(count_values(values), baseline=baseline)
            between = np.mean((values > split.cut) != (values > whole.cut))
            if split.informative and between > MIN_DIFFERENCE:
                row = evidence.cutoff_row(marker, split)
                found.append({"channel": panel.channels[marker], "compartment": str(group), **row})
    return found


def annotate_phenotypes(
    adata: AnnData,
    definitions: str | Path | Iterable[str | Path] = ("human_leukocyte",),
    *,
    cluster_key: str | None = "leiden",
    cutoffs: Mapping[str, float] | None = None,
    synonyms: Mapping[str, str] | None = None,
    min_probability: float = 0.5,
    n_jobs: int | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Name events and clusters by hierarchical definitions, with the evidence for each name.

    Parameters
    ----------
    adata
        Events with transformed values in ``X``.
    definitions
        Names of shipped sets (``human_leukocyte``, ``human_lymphoid``, ``b_all``, ``mouse_basic``)
        or paths of TOML files.
    cluster_key
        Column of ``obs`` with clusters to be named too; None names events only.
    cutoffs
        Marker to cut-off in units of ``X`` (canonical names), which replaces the ones found;
        cut-offs given to `call_markers` are kept to as well.
    synonyms
        Further marker names: own name to canonical name.
    min_probability
        An event whose best name is less probable stays with the parent.
    n_jobs
        Threads; None for all. The result does not depend on it.
    copy
        Return a changed copy instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes

        - ``obs["phenotype"]``, category: name of each event, ``unassigned`` where none fits
        - ``obs["phenotype_cluster"]``, category: name of the event's cluster
        - ``obs["phenotype_far"]``, bool: the event is unlike the others of its name
        - ``uns["cytoclust"]["annotate_phenotypes"]``: DataFrames ``clusters`` (cluster; phenotype,
          path, score = share of the cluster's events under that name, runner_up, evidence,
          n_events), ``hierarchy`` (phenotype; parent, depth, cell_ontology), ``rules`` (phenotype;
          rule used, status, reason, n_events) and ``cutoffs`` (parent, marker; cut and band)

    Raises
    ------
    DefinitionError
        A definition file is missing or wrong.
    MissingSlotError
        ``obs[cluster_key]`` does not exist.
    ArgumentError
        A marker is on two channels, or a cut-off names an unknown marker.

    Notes
    -----
    Down the hierarchy, the events of each parent are divided anew: cut-offs are found among them
    (so that the CD25 cut is that of CD4 T cells), combinations of marker calls get their share of
    the events by expectation maximisation, rules turn combinations into names, and each becomes a
    normal component in the markers of the rules, which resolves overlap in one marker by the others
    but cannot overrule clear calls. Needed markers that are missing or tell nothing lead to the
    rule's fallback or to the parent's name, with the reason. Cost is linear in events; fits use at
    most 40,000 evenly spaced events of a parent. Deterministic.

    Examples
    --------
    >>> import anndata as ad, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> lymphocytes = np.repeat([[4.0, 0, 0], [0, 4, 0], [0, 0, 4]], 300, axis=0)
    >>> adata = ad.AnnData((lymphocytes + rng.normal(0, 0.5, (900, 3))).astype(np.float32))
    >>> adata.var["marker"] = ["CD3", "CD19", "CD56"]
    >>> annotate_phenotypes(adata, "human_lymphoid", cluster_key=None)
    >>> sorted(adata.obs["phenotype"].unique())
    ['B cell', 'NK cell', 'T cell']
    """
    adata = adata.copy() if copy else adata
    loaded = load_definitions(definitions)
    if cluster_key is not None:
        checks.check_key(
            adata, cluster_key, remedy="Run tl.leiden first, or pass cluster_key=None."
        )
    panel = read_panel(adata, synonyms=synonyms).with_axes(loaded.axes)
    given = {**recorded_cutoffs(adata), **(cutoffs or {})}
    check_cutoffs(given, panel)
    with thread_limit(n_jobs):
        walk = Walk(
            loaded, panel, rows=usable_rows(adata), given=given, min_probability=min_probability
        )
        walk.run()
    write_slots(adata, walk, cluster_key)
    return adata if copy else None


def recorded_cutoffs(adata: AnnData) -> dict[str, float]:
    """Cut-offs that the user gave to `call_markers`."""
    called = checks.recorded(adata, schema.CALL_MARKERS)
    if called is None:
        return {}
    table = called["cutoffs"]
    table = table[table["method"] == "given"]
    return {str(m): float(c) for m, c in zip(table["marker"], table["cut_positive"], strict=True)}


def write_slots(adata: AnnData, walk: Walk, cluster_key: str | None) -> None:
    """Write names, flags and tables."""
    counts = np.bincount(walk.codes, minlength=len(walk.names))
    present = [i for i in range(len(walk.names)) if counts[i] or i == 0]
    position = np.zeros(len(walk.names), dtype=np.int64)
    position[present] = np.arange(len(present))
    phenotypes = pd.Categorical.from_codes(
        position[walk.codes], categories=pd.Index([walk.names[i] for i in present])
    )
    adata.obs[schema.PHENOTYPE] = phenotypes
    adata.obs[schema.PHENOTYPE_FAR] = walk.far
    tables: dict[str, pd.DataFrame] = {
        "hierarchy": evidence.hierarchy_table(walk.definitions),
        "rules": evidence.rule_table(
            walk.definitions,
            walk.nodes,
            {name: len(rows) for name, rows in walk.members.items()},
        ),
        "cutoffs": evidence.node_cutoffs(walk.nodes),
    }
    if cluster_key is not None:
        clusters = adata.obs[cluster_key].astype("category")
        table = evidence.cluster_table(
            walk.definitions, walk.nodes, panel=walk.panel, clusters=clusters,
            phenotypes=adata.obs[schema.PHENOTYPE],
        )  # fmt: skip
        tables["clusters"] = table
        named = clusters.astype(str).map(table["phenotype"])
        used = set(table["phenotype"])
        adata.obs[schema.PHENOTYPE_CLUSTER] = pd.Categorical(
            named.fillna(schema.UNASSIGNED),
            categories=[name for name in walk.names if name in used or name == schema.UNASSIGNED],
        )
    params = {
        "definitions": list(walk.definitions.names),
        "cluster_key": cluster_key or "",
        "min_probability": walk.min_probability,
        "markers": list(walk.panel.columns),
    }
    checks.record(adata, schema.ANNOTATE_PHENOTYPES, params, **tables)
