"""Where phenotypes are written: events' names, clusters' names, facets, grades, tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, schema
from cytoclust.event_arrays import category_column, event_arrays, put_column
from cytoclust.tl import phenotype_evidence as evidence
from cytoclust.tl.phenotype_facets import grade_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from cytoclust.tl.phenotype_facets import GradeCount
    from cytoclust.tl.phenotype_naming import Names
    from cytoclust.tl.phenotype_walk import Walk

__all__ = ["write_names"]


def write_names(
    adata: AnnData,
    walk: Walk,
    *,
    names: Names,
    cluster_key: str | None,
) -> None:
    """Write names, flags and tables."""
    arrays = event_arrays(adata)
    phenotypes = arrays.categorical(names.codes, walk.names, always=1)  # "unassigned" is the first
    put_column(adata, schema.PHENOTYPE, phenotypes)
    put_column(adata, schema.PHENOTYPE_FAR, names.far)
    counts = dict(names.members)
    for name, facet in names.facets.items():
        key = schema.PHENOTYPE_FACET + name
        counts |= facet.members
        if facet.members:
            put_column(adata, key, arrays.categorical(facet.codes, facet.names, always=1))
        elif key in adata.obs:
            del adata.obs[key]
    tables: dict[str, pd.DataFrame] = {
        "hierarchy": evidence.hierarchy_table(walk.definitions),
        "rules": evidence.rule_table(walk.definitions, walk.nodes, counts),
        "cutoffs": evidence.node_cutoffs(walk.nodes),
    }
    tables |= write_grades(adata, names.grades, phenotypes)
    if cluster_key is not None:
        tables |= write_clusters(adata, walk, cluster_key)
    params: dict[str, Any] = {
        "definitions": list(walk.definitions.names),
        "cluster_key": cluster_key or "",
        "min_probability": walk.min_probability,
        "markers": list(walk.panel.columns),
        "facets": [name for name, facet in names.facets.items() if facet.members],
        "aligned": sorted(walk.panel.shifts),
    }
    checks.record(adata, schema.ANNOTATE_PHENOTYPES, params, **tables)


def write_grades(
    adata: AnnData, grades: Mapping[str, GradeCount], phenotypes: pd.Categorical[str]
) -> dict[str, pd.DataFrame]:
    """Write ``obs["<grade>_grade"]`` and say of which markers it counts."""
    tables = {}
    for name, counted in grades.items():
        key = name + schema.GRADE
        if not counted.used:
            if key in adata.obs:
                del adata.obs[key]
            continue
        put_column(adata, key, counted.counts)
        tables[f"{name}_grades"] = grade_table(counted, phenotypes)
        markers = pd.DataFrame(
            [
                {"marker": marker, "cut": counted.used.get(marker, np.nan), "reason": counted.lacking.get(marker, "")}
                for marker in counted.grade.markers
            ]
        )  # fmt: skip
        tables[f"{name}_markers"] = markers.set_index("marker")
    return tables


def write_clusters(adata: AnnData, walk: Walk, cluster_key: str) -> dict[str, pd.DataFrame]:
    """Name the clusters by their events."""
    clusters = category_column(adata, cluster_key)
    table, details = evidence.cluster_table(
        walk.definitions,
        walk.nodes,
        panel=walk.panel,
        clusters=clusters,
        phenotypes=adata.obs[schema.PHENOTYPE],
    )
    names = {str(cluster): name for cluster, name in table["phenotype"].items()}
    of_cluster = [names.get(str(c), schema.UNASSIGNED) for c in clusters.cat.categories]
    used = set(of_cluster)
    categories = [n for n in walk.names if n in used or n == schema.UNASSIGNED]
    smallest = np.min_scalar_type(-len(categories))
    codes = np.array([categories.index(n) for n in of_cluster] + [0], dtype=smallest)  # none: -1
    named = event_arrays(adata).mapped(
        lambda part: codes[part], clusters.cat.codes.to_numpy(), dtype=smallest
    )
    put_column(
        adata,
        schema.PHENOTYPE_CLUSTER,
        pd.Categorical.from_codes(named, categories=pd.Index(categories)),
    )
    return {"clusters": table, "evidence": details}
