"""Odd event sets: a clear error or a right answer, and never a changed AnnData on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score, homogeneity_score

import cytoclust as cc
from cytoclust.errors import ArgumentError
from cytoclust.numerics.threads import thread_limit

if TYPE_CHECKING:
    from collections.abc import Callable

    Verb = Callable[[ad.AnnData], None]


def exact(adata: ad.AnnData) -> None:
    cc.pp.neighbors(adata, min(15, adata.n_obs))
    cc.tl.leiden(adata, 0.1)


def sketched(adata: ad.AnnData) -> None:
    cc.tl.leiden_sketched(adata, 0.1)


def chosen(adata: ad.AnnData) -> None:
    cc.tl.scan_resolutions(adata, [0.1, 0.3, 1.0], n_replicates=4)
    cc.tl.leiden_sketched(adata, resolution=None)


def mapped(adata: ad.AnnData) -> None:
    cc.tl.umap_sketched(adata, n_landmarks=200)


CLUSTERINGS = pytest.mark.parametrize("verb", [exact, sketched, chosen])
ALL = pytest.mark.parametrize("verb", [exact, sketched, chosen, mapped])


def wrap(X: np.ndarray) -> ad.AnnData:
    var = pd.DataFrame({"marker_class": "type"}, index=[f"CD{i}" for i in range(X.shape[1])])
    obs = pd.DataFrame(index=[str(i) for i in range(len(X))])
    return ad.AnnData(np.ascontiguousarray(X, dtype=np.float32), obs=obs, var=var)


def populations(n: int = 600, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.integers(3, size=n)
    centers = rng.normal(scale=4.0, size=(3, d))
    return centers[labels] + rng.normal(scale=0.4, size=(n, d)), labels


@ALL
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named(verb: Verb, value: float) -> None:
    adata = wrap(populations()[0])
    adata.X[7, 2] = value
    with pytest.raises(ArgumentError, match=r"NaN or infinite values: \[CD2\]"):
        verb(adata)
    assert not adata.uns
    assert not list(adata.obs)


@CLUSTERINGS
@pytest.mark.parametrize("value", [0.0, 7.5])
def test_a_constant_channel_changes_nothing(verb: Verb, value: float) -> None:
    X, labels = populations()
    adata = wrap(np.column_stack([X, np.full(len(X), value)]))
    verb(adata)
    assert adjusted_rand_score(labels, adata.obs["leiden"]) > 0.99


@CLUSTERINGS
def test_duplicated_events_stay_together(verb: Verb) -> None:
    X, labels = populations(300)
    adata = wrap(np.repeat(X, 3, axis=0))
    verb(adata)
    assert homogeneity_score(np.repeat(labels, 3), adata.obs["leiden"]) > 0.99
    together = adata.obs["leiden"].cat.codes.to_numpy().reshape(-1, 3)
    assert (together == together[:, :1]).all()


@CLUSTERINGS
def test_fewer_events_than_neighbours(verb: Verb) -> None:
    adata = wrap(populations(9)[0])
    verb(adata)
    assert adata.obs["leiden"].notna().all()
    with pytest.raises(ArgumentError, match="between 2 and the number of events, 9; got 15"):
        cc.pp.neighbors(adata)


@CLUSTERINGS
def test_one_population_is_one_cluster(verb: Verb) -> None:
    adata = wrap(np.random.default_rng(0).normal(size=(800, 5)))
    verb(adata)
    assert adata.obs["leiden"].cat.categories.tolist() == ["0"]


@ALL
def test_events_that_are_all_zero_do_not_fail(verb: Verb) -> None:
    adata = wrap(np.zeros((500, 4)))
    verb(adata)
    written = adata.obs["leiden"] if "leiden" in adata.obs else adata.obsm["X_umap"][:, 0]
    assert pd.Series(np.asarray(written)).notna().all()


@pytest.mark.parametrize("resolution", [0.0, -1.0, np.nan, np.inf])
def test_a_resolution_that_is_not_above_zero(resolution: float) -> None:
    adata = wrap(populations(50)[0])
    cc.pp.neighbors(adata)
    for verb in (cc.tl.leiden, cc.tl.leiden_sketched):
        with pytest.raises(ArgumentError, match="resolution must be a finite number above 0"):
            verb(adata, resolution)
    assert "leiden" not in adata.obs


@pytest.mark.parametrize(
    ("verb", "place"),
    [
        (exact, "cytoclust.numerics.leiden.modularity"),
        (sketched, "cytoclust.numerics.mapping.measure_reach"),
        (chosen, "cytoclust.numerics.stability.recover"),
        (mapped, "cytoclust.numerics.layout.Placement.__call__"),
    ],
)
def test_an_interrupt_leaves_the_data_as_they_were(
    verb: Verb, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    adata = wrap(populations()[0])
    with thread_limit() as threads:
        pass
    cc.pp.neighbors(adata)
    before = set(adata.uns), list(adata.obs), list(adata.obsm)
    monkeypatch.setattr(place, interrupt)
    with pytest.raises(KeyboardInterrupt):
        verb(adata)
    assert (set(adata.uns), list(adata.obs), list(adata.obsm)) == before
    assert "cytoclust" not in adata.uns
    with thread_limit() as left:
        assert left == threads
