"""Phenotypes from the events: names, fallbacks, evidence, and what must not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cytoclust import schema, tl
from cytoclust.errors import ArgumentError, MissingSlotError, StudyWarning

if TYPE_CHECKING:
    from pathlib import Path

MARKERS = [
    "CD3",
    "CD4",
    "CD8",
    "CD19",
    "CD14",
    "CD16",
    "CD56",
    "CD57",
    "HLA-DR",
    "CD11c",
    "CD123",
    "CCR7",
    "CD45RA",
    "CD27",
    "CD25",
    "CD127",
    "FoxP3",
    "CD10",
    "CD34",
    "CD45",
    "TCRgd",
]
# values are levels after arcsinh; what is not named is negative
PROFILES: dict[str, tuple[int, dict[str, float]]] = {
    "CD4 naive": (3000, {"CD3": 5, "CD4": 5, "CCR7": 3.2, "CD45RA": 4.6, "CD27": 4, "CD127": 3}),
    "CD4 CM": (2500, {"CD3": 5, "CD4": 5, "CCR7": 2.8, "CD45RA": 1.5, "CD27": 4, "CD127": 3}),
    "CD4 EM": (2000, {"CD3": 5, "CD4": 5, "CD45RA": 1.5, "CD27": 2, "CD127": 2.5, "CD25": 1}),
    "naive Treg": (60, {"CD3": 5, "CD4": 5, "CCR7": 3, "CD45RA": 4.6, "CD27": 4, "CD25": 3.2, "FoxP3": 2.6}),
    "effector Treg": (400, {"CD3": 5, "CD4": 5, "CD45RA": 1.5, "CD27": 4, "CD25": 3.6, "FoxP3": 3.2}),
    "CD8 naive": (1500, {"CD3": 5, "CD8": 6, "CCR7": 3.2, "CD45RA": 4.8, "CD27": 4, "CD127": 3}),
    "CD8 EM": (1500, {"CD3": 5, "CD8": 6, "CD45RA": 1.5, "CD27": 2, "CD127": 2}),
    "CD8 TEMRA": (1500, {"CD3": 5, "CD8": 6, "CD45RA": 4.6, "CD57": 4}),
    "gd T": (400, {"CD3": 5.5, "TCRgd": 4.5, "CD45RA": 3}),
    "CD56bright NK": (120, {"CD56": 6.4, "CD45RA": 3, "CD127": 2}),
    "CD56dim CD57- NK": (1200, {"CD56": 4.4, "CD16": 5, "CD45RA": 3.5}),
    "CD56dim CD57+ NK": (800, {"CD56": 4.4, "CD16": 5, "CD57": 4.8, "CD45RA": 3.5}),
    "naive B": (900, {"CD19": 4.8, "HLA-DR": 5, "CD45RA": 4.6, "CCR7": 2}),
    "memory B": (500, {"CD19": 5, "HLA-DR": 5, "CD45RA": 4.6, "CD27": 3.4}),
    "classical monocyte": (2500, {"CD14": 5.5, "HLA-DR": 4.8, "CD11c": 4.8, "CD4": 2.4, "CD123": 1.5}),
    "non-classical monocyte": (300, {"CD14": 2.2, "CD16": 5.4, "HLA-DR": 5, "CD11c": 5.2, "CD4": 2}),
    "mDC": (120, {"HLA-DR": 6, "CD11c": 5.2, "CD123": 1.5, "CD4": 2}),
    "pDC": (60, {"HLA-DR": 5.2, "CD123": 5.8, "CD4": 2.5, "CD45RA": 4}),
}  # fmt: skip
BLASTS = (2000, {"CD19": 4.8, "HLA-DR": 4.8, "CD10": 5.3, "CD34": 4.6, "CD45": 2.4})
LINEAGES = {
    "T": ("T cell",),
    "NK": ("NK cell",),
    "B": ("B cell",),
    "myeloid": ("monocyte", "dendritic cell"),
}


def draw(
    profiles: dict[str, tuple[int, dict[str, float]]], *, seed: int = 0, heavy: bool = False
) -> ad.AnnData:
    """Events of each profile, with tails heavier than normal if asked for."""
    rng = np.random.default_rng(seed)
    parts, truth = [], []
    for name, (n_events, levels) in profiles.items():
        center = np.array([levels.get(m, 5.2 if m == "CD45" else 0.4) for m in MARKERS])
        spread = np.where(center > 0.5, 0.42, 0.5)
        noise = (
            rng.standard_t(6, (n_events, len(MARKERS))) * 0.8
            if heavy
            else rng.normal(size=(n_events, len(MARKERS)))
        )
        parts.append(center + spread * noise)
        truth += [name] * n_events
    order = rng.permutation(len(truth))
    adata = ad.AnnData(np.concatenate(parts)[order].astype(np.float32))
    adata.obs["truth"] = pd.Categorical(np.array(truth)[order])
    adata.obs["sample"] = pd.Categorical(np.where(np.arange(len(order)) % 2, "s1", "s2"))
    adata.var_names = [f"ch{i}" for i in range(len(MARKERS))]
    adata.var[schema.MARKER] = MARKERS
    adata.var[schema.MARKER_CLASS] = "type"
    return adata


def f1_of(adata: ad.AnnData) -> dict[str, float]:
    truth = adata.obs["truth"].astype(str).to_numpy()
    found = adata.obs[schema.PHENOTYPE].astype(str).to_numpy()
    return {
        name: 2 * int(((truth == name) & (found == name)).sum())
        / (int((truth == name).sum()) + int((found == name).sum()))
        for name in np.unique(truth)
    }  # fmt: skip


@pytest.fixture(scope="module")
def named() -> ad.AnnData:
    adata = draw(PROFILES)
    adata.obs["leiden"] = adata.obs["truth"].cat.rename_categories(
        [str(i) for i in range(len(adata.obs["truth"].cat.categories))]
    )
    tl.annotate_phenotypes(adata)
    return adata


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy tails"])
@pytest.mark.parametrize("seed", [11, 12])
def test_populations_down_to_0_3_percent_are_named(seed: int, *, heavy: bool) -> None:
    adata = draw(PROFILES, seed=seed, heavy=heavy)
    tl.annotate_phenotypes(adata, cluster_key=None)
    found = f1_of(adata)
    assert sum(score >= 0.9 for score in found.values()) >= len(found) - 2, found
    assert min(found.values()) >= 0.75, found


def test_clusters_are_named_with_path_and_evidence(named: ad.AnnData) -> None:
    record = named.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]
    table = record["clusters"]
    expected = dict(
        zip(named.obs["leiden"].astype(str), named.obs["truth"].astype(str), strict=True)
    )
    assert dict(table["phenotype"]) == expected
    treg = table[table["phenotype"] == "effector Treg"].iloc[0]
    assert treg["path"] == "T cell/CD4 T/Treg/effector Treg"
    assert treg["runner_up"] in {"", "naive Treg"}
    assert treg["score"] > 0.9
    assert "CD3+ 1.00" in treg["evidence"]
    assert "CD45RA-" in treg["evidence"]
    assert (named.obs[schema.PHENOTYPE_CLUSTER].astype(str) == named.obs["truth"].astype(str)).all()
    assert record["hierarchy"].loc["naive Treg", "parent"] == "Treg"
    assert named.obs[schema.PHENOTYPE_FAR].dtype == bool
    assert named.obs[schema.PHENOTYPE_FAR].mean() < 0.02


def test_record_survives_h5ad(named: ad.AnnData, tmp_path: Path) -> None:
    named.write_h5ad(tmp_path / "named.h5ad")
    back = ad.read_h5ad(tmp_path / "named.h5ad")
    for key in ("clusters", "hierarchy", "rules", "cutoffs"):
        before = named.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES][key]
        after = back.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES][key]
        pd.testing.assert_frame_equal(before, after, check_dtype=False, check_index_type=False)
    assert (back.obs[schema.PHENOTYPE] == named.obs[schema.PHENOTYPE]).all()


def test_threads_and_repetition_do_not_matter(named: ad.AnnData) -> None:
    for n_jobs in (1, 2):
        again = tl.annotate_phenotypes(named, n_jobs=n_jobs, copy=True)
        assert again is not None
        assert (again.obs[schema.PHENOTYPE] == named.obs[schema.PHENOTYPE]).all()
        assert (again.obs[schema.PHENOTYPE_FAR] == named.obs[schema.PHENOTYPE_FAR]).all()


def test_missing_optional_and_needed_markers(named: ad.AnnData) -> None:
    no_ccr7 = named[:, named.var[schema.MARKER] != "CCR7"].copy()
    tl.annotate_phenotypes(no_ccr7)
    rules = no_ccr7.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["rules"]
    assert rules.loc["CD4 naive", "status"] == "fallback"
    assert "CD27 for CCR7" in rules.loc["CD4 naive", "reason"]
    assert "CCR7 not measured" in rules.loc["CD4 naive", "reason"]
    assert f1_of(no_ccr7)["CD4 naive"] > 0.9
    bare = named[:, ~named.var[schema.MARKER].isin(["CCR7", "CD27"])].copy()
    tl.annotate_phenotypes(bare)
    phenotype = bare.obs[schema.PHENOTYPE].astype(str)
    naive = phenotype[bare.obs["truth"] == "CD4 naive"]
    assert (naive == "CD4 T").mean() > 0.95
    table = bare.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["clusters"]
    assert (
        table.loc[table["phenotype"] == "CD4 T", "evidence"].str.contains("CCR7 not measured").all()
    )


def test_no_cd127_still_gives_treg(named: ad.AnnData) -> None:
    adata = named[:, named.var[schema.MARKER] != "CD127"].copy()
    tl.annotate_phenotypes(adata)
    assert f1_of(adata)["effector Treg"] > 0.9


@pytest.mark.parametrize("lost", [0.0, 0.5, 1.0])
def test_blasts_are_found_when_cd19_is_lost(lost: float) -> None:
    n_lost = int(lost * BLASTS[0])
    profiles = dict(PROFILES)
    profiles["with"] = (BLASTS[0] - n_lost, BLASTS[1])
    profiles["without"] = (n_lost, {k: v for k, v in BLASTS[1].items() if k != "CD19"})
    profiles = {name: profile for name, profile in profiles.items() if profile[0]}
    adata = draw(profiles)
    tl.annotate_phenotypes(adata, ["human_leukocyte", "b_all"], cluster_key=None)
    blasts = adata.obs["truth"].isin(["with", "without"]).to_numpy()
    called = adata.obs[schema.PHENOTYPE].isin(["B-ALL blast", "B-cell precursor"]).to_numpy()
    assert called[blasts].mean() > 0.95
    assert called[~blasts].mean() < 0.005


@pytest.mark.parametrize("with_cd123", [True, False])
def test_few_haematogones_near_the_blasts(*, with_cd123: bool) -> None:
    profiles = dict(PROFILES)
    profiles["B-ALL blast"] = (
        2000,
        {"CD19": 4.4, "HLA-DR": 4.1, "CD10": 4.9, "CD45": 2.4, "CD34": 3.2, "CD123": 2.4},
    )
    profiles["haematogone"] = (
        150,
        {"CD19": 4.4, "HLA-DR": 4.1, "CD10": 4.2, "CD45": 3.2, "CD45RA": 4.6},
    )
    adata = draw(profiles, seed=11)
    if not with_cd123:
        adata = adata[:, adata.var[schema.MARKER] != "CD123"].copy()
    tl.annotate_phenotypes(adata, ("human_leukocyte", "b_all"), cluster_key=None)
    truth, found = (adata.obs[k].astype(str) for k in ("truth", schema.PHENOTYPE))
    assert (found[truth == "B-ALL blast"] == "B-ALL blast").mean() > 0.9
    assert (found[truth == "B-ALL blast"] == "haematogone").mean() < 0.02
    if with_cd123:
        assert f1_of(adata)["haematogone"] > 0.9


def test_one_compartment_with_brighter_cd45_keeps_its_names() -> None:
    profiles = {**PROFILES, "B-ALL blast": BLASTS}
    plain, brighter = draw(profiles, seed=21), draw(profiles, seed=21)
    marrow = np.arange(brighter.n_obs) % 2 == 1
    # 1.5-fold on the linear scale, far above the background, is a shift of log 1.5 after arcsinh
    brighter.X[marrow, MARKERS.index("CD45")] += np.float32(np.log(1.5))
    brighter.obs["compartment"] = pd.Categorical(np.where(marrow, "BM", "PB"))
    sets = ["human_leukocyte", "b_all"]
    tl.annotate_phenotypes(plain, sets, cluster_key=None)
    tl.call_markers(brighter, compartment_key="compartment", definitions=sets)
    tl.annotate_phenotypes(brighter, sets, cluster_key=None)
    same = plain.obs[schema.PHENOTYPE].astype(str) == brighter.obs[schema.PHENOTYPE].astype(str)
    assert same.mean() > 0.99
    blasts = (brighter.obs["truth"] == "B-ALL blast").to_numpy()
    called = brighter.obs[schema.PHENOTYPE].isin(["B-ALL blast", "B-cell precursor"]).to_numpy()
    assert called[blasts & marrow].mean() > 0.95
    assert called[blasts & ~marrow].mean() > 0.95


def test_down_modulated_cd3_stays_t() -> None:
    profiles = dict(PROFILES)
    profiles["dim"] = (1000, {**PROFILES["CD8 EM"][1], "CD3": 3.4})
    adata = draw(profiles)
    tl.annotate_phenotypes(adata, cluster_key=None)
    found = adata.obs[schema.PHENOTYPE][adata.obs["truth"] == "dim"].astype(str)
    assert found.str.startswith(("CD8", "T cell")).mean() > 0.9


def test_pregated_t_cells_are_not_lost() -> None:
    profiles = {name: PROFILES[name] for name in PROFILES if name.startswith(("CD4", "CD8"))}
    adata = draw(profiles)[
        :, [MARKERS.index(m) for m in ("CD3", "CD4", "CD8", "CCR7", "CD45RA")]
    ].copy()
    tl.annotate_phenotypes(adata, cluster_key=None)
    found = f1_of(adata)
    assert min(score for name, score in found.items() if name != "CD4 TEMRA") > 0.9, found


def test_memory_t_cells_with_more_cd45ra_than_granulocytes_are_memory() -> None:
    profiles = {name: (n, dict(levels)) for name, (n, levels) in PROFILES.items()}
    for name in ("CD4 CM", "CD4 EM", "effector Treg", "CD8 EM"):
        profiles[name][1]["CD45RA"] = 2.6
    profiles["neutrophil"] = (12_000, {"CD16": 5.5, "CD45": 4, "CD10": 1.0})
    adata = draw(profiles, seed=3)
    tl.annotate_phenotypes(adata, cluster_key=None)
    scores = f1_of(adata)
    for name in ("CD4 naive", "CD4 CM", "CD4 EM", "CD8 naive", "CD8 EM", "CD8 TEMRA"):
        assert scores[name] > 0.85, (name, scores[name])


def test_dim_ccr7_of_cd8_memory_is_cut_among_cd45ra_negatives() -> None:
    profiles = {name: (n, dict(levels)) for name, (n, levels) in PROFILES.items()}
    profiles["CD8 naive"][1]["CCR7"] = 5.6
    profiles["CD8 TEMRA"][1]["CCR7"] = 1.4
    profiles["CD8 CM"] = (400, {"CD3": 5, "CD8": 6, "CCR7": 2.8, "CD45RA": 1.0, "CD127": 3})
    adata = draw(profiles, seed=5)
    tl.annotate_phenotypes(adata, cluster_key=None)
    scores = f1_of(adata)
    for name in ("CD8 naive", "CD8 CM", "CD8 EM", "CD8 TEMRA"):
        assert scores[name] > 0.85, (name, scores[name])
    record = adata.uns[schema.UNS][schema.ANNOTATE_PHENOTYPES]
    ccr7 = record["cutoffs"].query("marker == 'CCR7'").set_index("parent")["cut_positive"]
    assert ccr7["CD8 T, CD45RA-"] < ccr7["CD8 T, CD45RA+"] - 0.5
    again = draw(profiles, seed=5)
    tl.annotate_phenotypes(again, cluster_key=None, cutoffs=record["cutoffs"])
    assert f1_of(again)["CD8 CM"] > 0.85


@pytest.mark.parametrize(("cd14", "name"), [(2.2, "non-classical monocyte"), (0.45, "CD16+ mDC")])
def test_cd16_phagocytes_are_monocytes_if_they_have_some_cd14(cd14: float, name: str) -> None:
    profiles = {kind: (n, dict(levels)) for kind, (n, levels) in PROFILES.items()}
    profiles["non-classical monocyte"][1]["CD14"] = cd14
    adata = draw(profiles, seed=6)
    tl.annotate_phenotypes(adata, cluster_key=None)
    asked = adata.obs["truth"] == "non-classical monocyte"
    found = adata.obs.loc[asked, schema.PHENOTYPE].astype(str)
    assert (found == name).mean() > 0.9, found.value_counts().to_dict()
    others = adata.obs.loc[~asked, schema.PHENOTYPE].astype(str)
    assert (others == name).sum() < 30
    assert f1_of(adata)["classical monocyte"] > 0.95


def test_without_cd14_monocytes_are_not_called_dendritic_cells() -> None:
    adata = draw(PROFILES, seed=7)
    adata = adata[:, adata.var[schema.MARKER] != "CD14"].copy()
    tl.annotate_phenotypes(adata, cluster_key=None)
    found = adata.obs.groupby("truth", observed=True)[schema.PHENOTYPE].value_counts(normalize=True)
    assert found["classical monocyte", "mononuclear phagocyte"] > 0.9
    assert found["mDC", "mononuclear phagocyte"] > 0.9
    assert found["pDC", "pDC"] > 0.9


def test_few_cd56bright_cells_are_told_by_cd16_where_cd56_has_one_level() -> None:
    profiles = {name: (n, dict(levels)) for name, (n, levels) in PROFILES.items()}
    profiles["CD56bright NK"] = (30, {"CD56": 5.3, "CD45RA": 3, "CD127": 2})
    adata = draw(profiles, seed=2)
    tl.annotate_phenotypes(adata, cluster_key=None)
    rules = adata.uns[schema.UNS][schema.ANNOTATE_PHENOTYPES]["rules"]
    assert "CD56 over CD16" in rules.loc["CD56bright NK", "rule"]
    scores = f1_of(adata)
    for name in ("CD56bright NK", "CD56dim CD57- NK", "CD56dim CD57+ NK"):
        assert scores[name] > 0.9, (name, scores[name])


def test_doublets_are_not_forced() -> None:
    profiles = dict(PROFILES)
    profiles["doublet"] = (300, {**PROFILES["CD4 naive"][1], **PROFILES["naive B"][1]})
    adata = draw(profiles)
    tl.annotate_phenotypes(adata, cluster_key=None)
    found = adata.obs[schema.PHENOTYPE][adata.obs["truth"] == "doublet"]
    assert (found == schema.UNASSIGNED).mean() > 0.9


def test_noise_gets_no_name() -> None:
    rng = np.random.default_rng(3)
    adata = ad.AnnData(rng.normal(0, 0.5, (2_000, 6)).astype(np.float32))
    adata.var[schema.MARKER] = ["CD3", "CD4", "CD8", "CD19", "CD56", "CD14"]
    tl.annotate_phenotypes(adata, cluster_key=None)
    assert (adata.obs[schema.PHENOTYPE] == schema.UNASSIGNED).all()


@pytest.mark.parametrize("n_events", [0, 1, 30])
def test_few_events(n_events: int) -> None:
    adata = draw(PROFILES)[:n_events].copy()
    tl.annotate_phenotypes(adata, cluster_key=None)
    assert len(adata.obs[schema.PHENOTYPE]) == n_events


def test_invalid_events_stay_unassigned(named: ad.AnnData) -> None:
    adata = named.copy()
    adata.X[:5, 0] = np.nan
    tl.annotate_phenotypes(adata)
    assert (adata.obs[schema.PHENOTYPE].iloc[:5] == schema.UNASSIGNED).all()
    same = adata.obs[schema.PHENOTYPE].astype(str) == named.obs[schema.PHENOTYPE].astype(str)
    assert same.mean() > 0.99


def test_call_markers_table_and_given_cutoffs(named: ad.AnnData) -> None:
    adata = named.copy()
    tl.call_markers(adata, cutoffs={"CD19": 2.0})
    table = adata.uns["cytoclust"][schema.CALL_MARKERS]["cutoffs"].set_index("marker")
    assert table.loc["CD19", "method"] == "given"
    assert table.loc["CD19", "cut_positive"] == 2.0
    assert 1.5 < table.loc["CD3", "cut_positive"] < 4.5
    assert (
        table.loc["CD3", "band_low"]
        < table.loc["CD3", "cut_positive"]
        < table.loc["CD3", "band_high"]
    )
    assert not table.loc["CD10", "informative"]
    assert table.loc["CD10", "status"] == "all_negative"
    assert np.isnan(table.loc["CD10", "cut_positive"])
    tl.annotate_phenotypes(adata)
    used = adata.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["cutoffs"]
    row = used[(used["parent"] == "all events") & (used["marker"] == "CD19")].iloc[0]
    assert row["method"] == "given"


def test_call_markers_lists_groups_that_differ() -> None:
    adata = draw(PROFILES)
    shifted = (adata.obs["sample"] == "s2").to_numpy()
    adata.X[shifted, MARKERS.index("CD14")] += 3.0
    tl.call_markers(adata, compartment_key="sample")
    table = adata.uns["cytoclust"][schema.CALL_MARKERS]["cutoffs"]
    own = table[table["compartment"] != "all"]
    assert "CD14" in set(own["marker"])
    assert "CD3" not in set(own["marker"])


def test_errors(named: ad.AnnData) -> None:
    with pytest.raises(MissingSlotError, match=r"obs\['nothing'\] not found"):
        tl.annotate_phenotypes(named, cluster_key="nothing", copy=True)
    with pytest.raises(ArgumentError, match="must name markers of the panel"):
        tl.call_markers(named, cutoffs={"CD99": 1.0}, copy=True)
    twice = named.copy()
    twice.var[schema.MARKER] = ["CD3", "CD3e", *MARKERS[2:]]
    with pytest.raises(ArgumentError, match=r"CD3 is on \[ch0, ch1\]"):
        tl.annotate_phenotypes(twice)
    dump = named.copy()
    dump.var[schema.MARKER] = ["CD3", *MARKERS[1:-1], "CD15/CD66b dump"]
    with pytest.warns(StudyWarning, match="could be any of"):
        tl.annotate_phenotypes(dump)


def test_real_pregated_and_mass_data(shared: Path) -> None:
    path = shared / "data" / "pbmc_cytomem" / "events.parquet"
    if not path.is_file():
        pytest.skip("pbmc_cytomem not found")
    events = pd.read_parquet(path)
    channels = [c for c in events.columns if c not in {"label", "event_id", "sample"}]
    adata = ad.AnnData(np.arcsinh(events[channels].to_numpy(np.float32) / 15))
    adata.var[schema.MARKER] = channels
    tl.annotate_phenotypes(adata, cluster_key=None)
    hierarchy = adata.uns["cytoclust"][schema.ANNOTATE_PHENOTYPES]["hierarchy"]["parent"].to_dict()
    root = []
    for name in adata.obs[schema.PHENOTYPE].astype(str):
        while hierarchy.get(name):
            name = hierarchy[name]  # noqa: PLW2901
        root.append(name)
    found = np.array(root)
    truth = events["label"].astype(str).to_numpy()
    for label, name in [("T cells", "T cell"), ("B cells", "B cell"), ("NK cells", "NK cell")]:
        gate = np.char.find(truth.astype(str), label) >= 0
        hit = found == name
        assert 2 * (gate & hit).sum() / (gate.sum() + hit.sum()) > 0.93, label


def test_known_negatives_that_the_definitions_lack_are_left_out() -> None:
    """Monocytes are known to lack CD3; `human_lymphoid` has none."""
    rng = np.random.default_rng(0)
    profiles = np.repeat([[4.0, 4, 0, 0], [4, 0, 4, 0], [0, 0, 0, 4]], 200, axis=0)
    adata = ad.AnnData((profiles + rng.normal(0, 0.4, (600, 4))).astype(np.float32))
    adata.var["marker"] = ["CD3", "CD4", "CD8", "CD19"]
    tl.annotate_phenotypes(adata, "human_lymphoid", cluster_key=None)
    truth = np.repeat(["CD4 T", "CD8 T", "B cell"], 200)
    assert (adata.obs["phenotype"].astype(str).to_numpy() == truth).mean() > 0.95
