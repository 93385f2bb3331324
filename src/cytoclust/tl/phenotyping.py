"""Phenotypes of events and clusters, without manual gates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from cytoclust import checks
from cytoclust.numerics.threads import thread_limit
from cytoclust.tl.definitions import load_definitions
from cytoclust.tl.marker_levels import alignment, check_cutoffs, given_cutoffs
from cytoclust.tl.phenotype_naming import name_events
from cytoclust.tl.phenotype_panel import read_panel, usable_rows
from cytoclust.tl.phenotype_slots import write_names
from cytoclust.tl.phenotype_walk import Walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from anndata import AnnData

__all__ = ["annotate_phenotypes"]


def annotate_phenotypes(
    adata: AnnData,
    definitions: str | Path | Iterable[str | Path] = ("human_leukocyte",),
    *,
    cluster_key: str | None = "leiden",
    cutoffs: Mapping[str, float] | pd.DataFrame | None = None,
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
        Marker to cut-off in units of ``X`` (canonical names), which replaces the ones found; or the
        table of cut-offs that an earlier annotation recorded, to name later samples alike. Cut-offs
        given to `call_markers` are kept to as well, and differences between compartments or batches
        that it found are taken off before names are given.
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
        - ``obs["phenotype_helper"]``, ``obs["phenotype_activation"]``, ...: further names of cells
          with a lineage name, one column for each facet of the definitions that the panel can answer
        - ``obs["exhaustion_grade"]``, int8: how many of PD-1, TIM-3, LAG-3, TIGIT and CD39 a T cell
          that is not naive has; -1 for other events
        - ``uns["cytoclust"]["annotate_phenotypes"]``: DataFrames ``clusters`` (cluster; phenotype,
          path, score = share of the cluster's events under that name, runner_up, evidence, mixed =
          populations of which neither contains the other, enrichment, n_events), ``evidence``
          (cluster, marker; level, share of events that have it, margin to the cut in units of the
          groups' distance), ``hierarchy`` (phenotype; parent, depth, cell_ontology), ``rules``
          (phenotype; rule used, status, reason, n_events), ``cutoffs`` (parent, marker; cut and
          band), ``exhaustion_grades`` (phenotype; events by grade) and ``exhaustion_markers``

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
    rule's fallback or to the parent's name, with the reason. Cost is linear in events: fits see a
    million evenly spaced events (all, if they are no more) and at most 40,000 of a parent; every
    event then gets its name, block by block. Deterministic.

    What no definition covers is described by marker enrichment (Diggins et al. 2017).

    References
    ----------
    Diggins et al. 2017, doi 10.1038/nmeth.4149.

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
    panel = read_panel(adata, synonyms={**loaded.synonyms, **(synonyms or {})})
    panel = panel.with_axes(loaded.axes)
    given = given_cutoffs(adata, cutoffs)
    check_cutoffs({} if isinstance(cutoffs, pd.DataFrame) else cutoffs or {}, panel)
    aligned = alignment(adata, panel)
    groups = aligned.get("groups")
    if groups is not None:
        panel = replace(panel, groups=panel.pooled(groups), shifts=aligned["shifts"])
    with thread_limit(n_jobs):
        walk = Walk(
            loaded,
            panel,
            rows=usable_rows(adata, panel),
            given=given,
            min_probability=min_probability,
        )
        walk.run()
        names = name_events(adata, walk, groups)
    write_names(adata, walk, names=names, cluster_key=cluster_key)
    return adata if copy else None
