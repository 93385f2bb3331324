"""Clusters within one lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytoclust import checks, chunks, schema
from cytoclust.errors import ArgumentError
from cytoclust.event_arrays import used_categories
from cytoclust.tl.clustering import check_enough, check_neighbors, step_name
from cytoclust.tl.pooling import event_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["subcluster"]


def subcluster(
    adata: AnnData,
    resolution: float = 1.0,
    *,
    restrict_to: tuple[str, Sequence[str]] | None = None,
    mask: NDArray[np.bool_] | None = None,
    n_neighbors: int = 15,
    markers: Sequence[str] | None = None,
    key_added: str = schema.SUBCLUSTER,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Cluster the events of one lineage again, on markers that matter there.

    Parameters
    ----------
    adata
        Events; `X` transformed.
    resolution
        Of modularity, above 0.
    restrict_to
        Column of `obs` and the values whose events are clustered together.
    mask
        Instead of `restrict_to`: events to cluster, bool (n_events,).
    n_neighbors
        Neighbours per event, itself counted; fewer where there are fewer events.
    markers
        Markers or channels to compare; by default those with ``var["marker_class"] == "type"``.
    key_added
        Column of `obs` to write.
    rng
        Seed of every random choice.
    n_jobs
        Threads; None takes all processors. The result does not depend on it.
    copy
        Return a changed copy and leave `adata` as it is.

    Returns
    -------
    None, or a copy with these slots written:

    ``obs[key_added]``
        Categorical: "<values>,0", "<values>,1", ... by decreasing size for the events clustered;
        the others keep their value of the column (`restrict_to`) or have none (`mask`).
    ``uns["cytoclust"]["subcluster"]``
        Parameters and the way taken. (``subcluster_<key_added>`` for another `key_added`.)

    Raises
    ------
    ArgumentError
        Neither or both of `restrict_to` and `mask`, an unknown value, fewer than 3 events; where `X` is
        read by Dask, more than a million.
    MissingSlotError
        The column is not there.

    Notes
    -----
    Up to 50,000 events the graph holds every event, above that prototypes stand for them, as in
    `leiden_sketched`.

    Examples
    --------
    >>> import anndata as ad, cytoclust as cc, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(90, 3)) + 9 * (np.arange(90) % 3)[:, None]
    >>> adata = ad.AnnData(X.astype("float32"), var={"marker_class": ["type"] * 3})
    >>> cc.tl.subcluster(adata, 0.1, mask=np.arange(90) % 3 > 0)
    >>> adata.obs["subcluster"].cat.categories.tolist()
    ['0', '1']
    """
    from cytoclust.numerics.sketch import EXACT_EVENTS, cluster_events
    from cytoclust.numerics.threads import thread_limit

    checks.check_positive("resolution", resolution)
    check_neighbors(n_neighbors)
    chosen, before, prefix = _restriction(adata, restrict_to, mask)
    n_chosen = int(chosen.sum())
    check_enough(n_chosen)
    source = event_source(adata, markers)
    if chunks.is_lazy(source.values) and len(chunks.pool_rows(n_chosen)) < n_chosen:
        msg = (
            f"the {n_chosen:,} events chosen are more than are taken into memory at once. Choose "
            "fewer, or load them: adata[chosen].to_memory()."
        )
        raise ArgumentError(msg)
    X, names = source.take(np.flatnonzero(chosen)), source.names
    with thread_limit(n_jobs):
        labels = cluster_events(
            X, resolution, n_neighbors=n_neighbors, rng=np.random.default_rng(rng)
        )
    column = _relabelled(before, chosen, labels, prefix=prefix)
    adata = adata.copy() if copy else adata
    adata.obs[key_added] = column
    params: dict[str, Any] = {
        "resolution": float(resolution),
        "n_neighbors": n_neighbors,
        "markers": names,
        "n_events": n_chosen,
        "clustering": "exact" if n_chosen <= EXACT_EVENTS else "sketched",
        "rng": rng if isinstance(rng, int) else None,
    }
    if restrict_to is not None:
        params |= {"restrict_to_key": restrict_to[0], "restrict_to": [*map(str, restrict_to[1])]}
    checks.record(adata, step_name(schema.SUBCLUSTER, key_added), params)
    return adata if copy else None


def _relabelled(
    before: pd.Categorical[str] | None,
    chosen: NDArray[np.bool_],
    labels: NDArray[np.int32],
    *,
    prefix: str,
) -> pd.Categorical[str]:
    """Give the chosen events their new labels; the others keep theirs, in the order met."""
    inner = [f"{prefix}{label}" for label in range(int(labels.max()) + 1)]
    codes = np.full(len(chosen), -1, dtype=np.int32)
    outer: list[str] = []
    if before is not None:
        kept = before.codes[~chosen]
        held = [int(code) for code in pd.unique(kept) if code >= 0]
        outer = [str(before.categories[code]) for code in held]
        place = np.full(len(before.categories) + 1, -1, dtype=np.int32)  # the last: none, -1
        place[held] = np.arange(len(held))
        codes[~chosen] = place[kept]
    codes[chosen] = labels + len(outer)
    return pd.Categorical.from_codes(codes, categories=pd.Index([*outer, *inner]))


def _restriction(
    adata: AnnData,
    restrict_to: tuple[str, Sequence[str]] | None,
    mask: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.bool_], pd.Categorical[str] | None, str]:
    """Return the events to cluster, the labels that the others keep, and the new labels' prefix."""
    if (restrict_to is None) == (mask is None):
        msg = "give either restrict_to=(column, values) or mask=; got both or neither."
        raise ArgumentError(msg)
    if restrict_to is None:
        chosen = np.asarray(mask)
        if chosen.shape != (adata.n_obs,) or chosen.dtype != np.bool_:
            msg = (
                f"mask must be bool of shape ({adata.n_obs},); "
                f"got {chosen.dtype} of shape {chosen.shape}."
            )
            raise ArgumentError(msg)
        return chosen, None, ""
    key, values = restrict_to
    wanted = [str(value) for value in ([values] if isinstance(values, str) else values)]
    used, held = used_categories(adata, key)
    names, number = np.unique(held, return_inverse=True)
    codes = np.append(number, -1).astype(np.int32)[used]
    before = pd.Categorical.from_codes(codes, categories=pd.Index(names.astype(object)))
    unknown = [value for value in wanted if value not in names]
    if unknown:
        msg = (
            f"obs[{key!r}] has no events with {checks.listing(unknown)}; "
            f"it has {checks.listing(names)}. Check the values of restrict_to."
        )
        raise ArgumentError(msg)
    chosen = np.isin(before.codes, np.flatnonzero(np.isin(names, wanted)))
    return chosen, before, "-".join(wanted) + ","
