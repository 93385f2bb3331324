"""Quality flags on an AnnData, and the one verb that drops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata
import numpy as np
import pandas as pd
import pytest

import cytoclust as cc
from cytoclust import schema
from cytoclust.errors import ArgumentError, MissingSlotError, StudyWarning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData

FLAGS = ("invalid", "margins", "time_drift", "doublets", "debris", "dead")


def flag_all(adata: AnnData) -> None:
    for name in FLAGS:
        getattr(cc.pp, f"flag_{name}")(adata)


def reasons(adata: AnnData, flag: str) -> list[str]:
    return adata.uns["cytoclust"][schema.FLAG_STEPS[flag]]["samples"]["reason"].tolist()


def test_every_kind_is_caught_and_cells_are_kept(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 6000, "b/c": 4000})
    flag_all(adata)
    truth = adata.obs["truth"].to_numpy()
    for kind, flag in ((2, "qc_dead"), (3, "qc_debris"), (4, "qc_doublet")):
        assert adata.obs[flag].to_numpy()[truth == kind].mean() > 0.9
    good = truth < 2
    assert adata.obs["qc_pass"].to_numpy()[good].mean() > 0.98
    assert all(adata.obs[flag].dtype == bool for flag in (*schema.QC_FLAGS, "qc_pass"))
    np.testing.assert_array_equal(adata.X, adata.layers["raw"])
    for flag, step in schema.FLAG_STEPS.items():
        record = adata.uns["cytoclust"][step]
        counts = adata.obs.groupby("sample", observed=False)[flag].sum()
        assert record["samples"]["flagged"].to_dict() == counts.to_dict()


def test_pass_means_no_flag(study: Callable[..., AnnData]) -> None:
    adata = study()
    cc.pp.flag_doublets(adata)
    np.testing.assert_array_equal(adata.obs["qc_pass"], ~adata.obs["qc_doublet"])
    cc.pp.flag_dead(adata)
    np.testing.assert_array_equal(
        adata.obs["qc_pass"], ~(adata.obs["qc_doublet"] | adata.obs["qc_dead"])
    )


def test_order_of_events_does_not_matter(study: Callable[..., AnnData]) -> None:
    adata = study()
    mixed = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    flag_all(adata)
    flag_all(mixed)
    flags = [*schema.QC_FLAGS, "qc_pass"]
    back = mixed.obs[flags].loc[adata.obs_names]
    # which events stand for the others in pooled estimates depends on their order
    assert (back.to_numpy() != adata.obs[flags].to_numpy()).mean() < 0.002


def test_same_result_again_and_with_copy(study: Callable[..., AnnData]) -> None:
    adata = study()
    flag_all(adata)
    first = adata.obs.copy()
    flag_all(adata)
    pd.testing.assert_frame_equal(adata.obs, first)
    fresh = study()
    for name in FLAGS:
        fresh = getattr(cc.pp, f"flag_{name}")(fresh, copy=True)
    pd.testing.assert_frame_equal(fresh.obs[first.columns], first)


def test_flags_after_compensation_and_transformation(study: Callable[..., AnnData]) -> None:
    before, after = study(), study()
    flag_all(before)
    cc.pp.compensate(after)
    cc.pp.arcsinh(after)
    flag_all(after)
    for flag in schema.QC_FLAGS:
        same = before.obs[flag].to_numpy() == after.obs[flag].to_numpy()
        assert same.mean() > 0.99, flag
    bare = study()
    cc.pp.compensate(bare)
    cc.pp.arcsinh(bare)
    del bare.layers["raw"]
    flag_all(bare)
    assert (bare.obs["qc_dead"].to_numpy() == after.obs["qc_dead"].to_numpy()).all()


def test_invalid_values(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 500})
    adata.layers["raw"][3, 4] = np.nan
    adata.layers["raw"][7, 5] = np.inf
    cc.pp.flag_invalid(adata)
    assert np.flatnonzero(adata.obs["qc_invalid"]).tolist() == [3, 7]
    table = adata.uns["cytoclust"]["flag_invalid"]["thresholds"]
    assert table["channel"].tolist() == ["PE-A", "V500-A"]
    adata.X = adata.layers["raw"].copy()
    flag_all(adata)
    assert not adata.obs["qc_pass"].iloc[[3, 7]].any()


def test_margins(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 2000})
    raw = adata.layers["raw"]
    raw[0, 0], raw[1, 2], raw[2, 1], raw[3, 4] = 262143, 262144, -5.4e6, 262143
    raw[4, 4], raw[5, 6] = -500, 1e9
    cc.pp.flag_margins(adata)
    assert np.flatnonzero(adata.obs["qc_margin"]).tolist() == [0, 1, 2, 3]


def test_population_at_the_limit_is_kept_with_a_reason(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 2000})
    adata.layers["raw"][:500, 3] = 262143
    cc.pp.flag_margins(adata)
    assert adata.obs["qc_margin"].sum() == 0
    assert "25% at the upper limit of FITC-A" in reasons(adata, "qc_margin")[0]


def test_margins_without_ranges(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 2000})
    adata.uns["cytoclust"]["read_study"]["ranges"] = np.full(7, np.nan)
    adata.layers["raw"][:20, 2] = 1e5
    cc.pp.flag_margins(adata)
    assert np.flatnonzero(adata.obs["qc_margin"]).tolist() == list(range(20))


def test_margins_of_transformed_scatter(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 2000})
    adata.var["scale"] = "transformed"
    raw = adata.layers["raw"]
    raw[:] = np.random.default_rng(0).normal(500, 80, raw.shape)
    raw[:30, 0], raw[30:60, 0], raw[60:90, 3] = 1023, 0, 1023
    cc.pp.flag_margins(adata)
    assert np.flatnonzero(adata.obs["qc_margin"]).tolist() == list(range(60))


def as_mass(adata: AnnData) -> AnnData:
    """The same AnnData as a mass cytometer would have filled it."""
    rng = np.random.default_rng(0)
    names = ["Event_length", "Ir191Di", "Ir193Di", "Er168Di", "Yb171Di", "Pt195Di", "Time"]
    adata.var["channel"] = names
    adata.var["marker"] = ["", "DNA1", "DNA2", "CD3", "CD19", "cisplatin", ""]
    kinds = ["scatter", "mass", "mass", "mass", "mass", "viability", "time"]
    adata.var["channel_type"] = kinds
    n = adata.n_obs
    raw = adata.layers["raw"]
    raw[:, 0] = rng.normal(30, 3, n)
    raw[:, 1] = rng.lognormal(6, 0.12, n)
    raw[:, 2] = 1.8 * raw[:, 1]
    raw[:, 3:6] = rng.poisson(rng.choice([0.3, 200], (n, 3), p=[0.8, 0.2]))
    double = adata.obs["truth"].to_numpy() == 4
    raw[double, :3] *= 2
    adata.X = raw.copy()
    return adata


def test_mass_cytometry(study: Callable[..., AnnData]) -> None:
    adata = as_mass(study({"a": 4000}))
    flag_all(adata)
    double = adata.obs["truth"].to_numpy() == 4
    assert adata.obs["qc_doublet"].to_numpy()[double].mean() > 0.9
    assert adata.obs["qc_doublet"].to_numpy()[~double].mean() < 0.01
    assert adata.obs["qc_margin"].sum() == 0
    assert reasons(adata, "qc_margin") == ["ion counts have no margin"]
    assert reasons(adata, "qc_debris") == ["no forward scatter channel"]
    assert 0.15 < adata.obs["qc_dead"].mean() < 0.25


def test_missing_channels_give_reasons_not_errors(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 2000})[:, ["FITC-A", "PE-A"]].copy()
    flag_all(adata)
    assert adata.obs["qc_pass"].all()
    assert "area and height or width" in reasons(adata, "qc_doublet")[0]
    assert "no forward scatter" in reasons(adata, "qc_debris")[0]
    assert "no viability channel" in reasons(adata, "qc_dead")[0]
    assert "no time channel" in reasons(adata, "qc_time")[0]


def test_doublets_from_width(study: Callable[..., AnnData]) -> None:
    adata, plain = study(), study()
    adata.var["channel"] = ["FSC-A", "FSC-W", "SSC-A", *adata.var["channel"][3:]]
    raw = adata.layers["raw"]
    raw[:, 1] = 65536 * raw[:, 0] / raw[:, 1]
    cc.pp.flag_doublets(adata)
    cc.pp.flag_doublets(plain)
    differ = adata.obs["qc_doublet"].to_numpy() != plain.obs["qc_doublet"].to_numpy()
    assert differ.mean() < 0.005
    with pytest.raises(ArgumentError, match="n_spreads"):
        cc.pp.flag_doublets(adata, n_spreads=0)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["FSC-A", "FSC-H", "SSC-A"], {("FSC", "A"): 0, ("FSC", "H"): 1, ("SSC", "A"): 2}),
        (["FS INT", "FS PEAK", "SS TOF"], {("FSC", "A"): 0, ("FSC", "H"): 1, ("SSC", "W"): 2}),
        (["FSC", "SSC-B-A", "SSC-Height"], {("FSC", "A"): 0, ("SSC", "A"): 1, ("SSC", "H"): 2}),
        (["FSC_Area", "VSSC-A", "Width"], {("FSC", "A"): 0}),
    ],
)
def test_scatter_names(
    study: Callable[..., AnnData], names: list[str], expected: dict[tuple[str, str], int]
) -> None:
    from cytoclust.pp.flags import scatter_channels

    adata = study({"a": 10})
    adata.var["channel"] = [*names, *adata.var["channel"][3:]]
    assert scatter_channels(adata) == expected


def test_drift_in_one_sample_stays_there(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 6000, "b": 6000})
    adata.layers["raw"][7000:8000, 0:3] *= 0.6
    cc.pp.flag_time_drift(adata)
    flags = adata.obs["qc_time"].to_numpy()
    assert flags[:6000].sum() == 0
    assert flags[7250:7750].all()
    assert flags[6000:].sum() < 1600
    table = adata.uns["cytoclust"]["flag_time_drift"]["thresholds"]
    assert set(table.loc[table["kind"] == "shift", "sample"]) == {"b"}


def test_small_samples_are_not_judged_for_drift(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 300, "none": 0})
    flag_all(adata)
    assert reasons(adata, "qc_time") == ["fewer than 1000 events", "no events"]
    assert adata.obs["qc_time"].sum() == 0


def test_dead_uses_compensated_values(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 6000})
    matrix = np.array([[1.0, 0, 0.9], [0, 1, 0], [0, 0, 1]])
    stains = adata.layers["raw"][:, 3:6] @ np.linalg.inv(
        adata.uns["cytoclust"]["read_study"]["spillover"]["spillover_1"]["values"]
    )
    adata.layers["raw"][:, 3:6] = stains @ matrix
    adata.X = adata.layers["raw"].copy()
    adata.uns["cytoclust"]["read_study"]["spillover"]["spillover_1"]["values"] = matrix
    cc.pp.flag_dead(adata)
    dead = adata.obs["truth"].to_numpy() == 2
    flagged = adata.obs["qc_dead"].to_numpy()
    assert flagged[dead].mean() > 0.95
    assert flagged[~dead].mean() < 0.02


def test_dead_without_a_usable_matrix_says_so(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 3000})
    adata.uns["cytoclust"]["read_study"]["spillover"]["spillover_1"]["values"] = np.ones((3, 3))
    cc.pp.flag_dead(adata)
    assert "not compensated" in reasons(adata, "qc_dead")[0]


def test_two_viability_channels_either_is_enough(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 4000})
    adata.var.loc["PE-A", "channel_type"] = "viability"
    cc.pp.flag_dead(adata)
    truth = adata.obs["truth"].to_numpy()
    assert adata.obs["qc_dead"].to_numpy()[(truth == 1) | (truth == 2)].mean() > 0.95
    assert adata.obs["qc_dead"].to_numpy()[truth == 0].mean() < 0.02


def test_nobody_dead(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 4000})
    alive = adata[adata.obs["truth"] != 2].copy()
    cc.pp.flag_dead(alive)
    assert alive.obs["qc_dead"].sum() == 0
    assert "one population" in reasons(alive, "qc_dead")[0]


def test_filter_keeps_account(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 3000, "none": 0, "b/c": 2000})
    flag_all(adata)
    before = adata.obs.copy()
    cc.pp.filter_events(adata)
    record = adata.uns["cytoclust"]["filter_events"]
    counts, excluded = record["counts"], record["excluded"]
    assert counts.index.tolist() == ["a", "none", "b/c"]
    assert counts["events"].tolist() == [3000, 0, 2000]
    assert counts["kept"].sum() == adata.n_obs == before["qc_pass"].sum()
    assert excluded["sample"].dtype == np.int32
    assert excluded["event"].dtype == np.int32
    assert excluded["flags"].dtype == np.uint8
    assert len(excluded["flags"]) == len(before) - adata.n_obs
    out = before[~before["qc_pass"]]
    np.testing.assert_array_equal(excluded["event"], out["event"])
    for i, flag in enumerate(schema.QC_FLAGS):
        np.testing.assert_array_equal((excluded["flags"] >> i & 1).astype(bool), out[flag])
        assert counts[flag].sum() == before[flag].sum()
    assert adata.obs["sample"].cat.categories.tolist() == ["a", "none", "b/c"]
    kept = before[before["qc_pass"]]
    np.testing.assert_array_equal(adata.obs["event"], kept["event"])
    assert adata.layers["raw"].shape == adata.X.shape


def test_filter_again_adds_up(study: Callable[..., AnnData]) -> None:
    at_once, twice = study(), study()
    for name in ("margins", "doublets"):
        getattr(cc.pp, f"flag_{name}")(at_once)
        getattr(cc.pp, f"flag_{name}")(twice)
    cc.pp.filter_events(twice)
    dead = study().obs["truth"].to_numpy() == 2
    at_once.obs["qc_dead"] = dead
    twice.obs["qc_dead"] = twice.obs["truth"].to_numpy() == 2
    cc.pp.filter_events(twice)
    cc.pp.filter_events(at_once)
    assert twice.obs_names.tolist() == at_once.obs_names.tolist()
    one = at_once.uns["cytoclust"]["filter_events"]["counts"]
    two = twice.uns["cytoclust"]["filter_events"]["counts"]
    assert one[["events", "kept"]].equals(two[["events", "kept"]])
    excluded = twice.uns["cytoclust"]["filter_events"]["excluded"]
    assert len(excluded["flags"]) == (one["events"] - one["kept"]).sum()


def test_filter_warns_of_heavy_losses(study: Callable[..., AnnData]) -> None:
    adata = study({"a": 500, "b": 500})
    adata.obs["qc_dead"] = (adata.obs["sample"] == "b").to_numpy()
    with pytest.warns(StudyWarning, match=r"1 samples lose more than half.*b \(100%\)"):
        cc.pp.filter_events(adata)
    assert adata.n_obs == 500
    assert adata.obs["sample"].cat.categories.tolist() == ["a", "b"]
    assert adata.obs["visit"].cat.categories.tolist() == ["d0", "d7"]
    assert adata.uns["cytoclust"]["filter_events"]["counts"].loc["b", "kept"] == 0


def test_filter_needs_flags(study: Callable[..., AnnData]) -> None:
    with pytest.raises(MissingSlotError, match=r"Run pp\.flag_margins"):
        cc.pp.filter_events(study({"a": 10}))


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
def test_whole_preparation_survives_a_round_trip(
    study: Callable[..., AnnData], tmp_path: Path
) -> None:
    adata = study({"a": 2000, "none": 0, "b/c": 1500})
    flag_all(adata)
    cc.pp.filter_events(adata)
    cc.pp.compensate(adata)
    cc.pp.arcsinh(adata)
    adata.write_h5ad(tmp_path / "study.h5ad")
    adata.write_zarr(tmp_path / "study.zarr")
    for back in (
        anndata.read_h5ad(tmp_path / "study.h5ad"),
        anndata.read_zarr(tmp_path / "study.zarr"),
    ):
        np.testing.assert_array_equal(back.X, adata.X)
        for step in (*schema.FLAG_STEPS.values(), "filter_events", "arcsinh"):
            for key, table in adata.uns["cytoclust"][step].items():
                if isinstance(table, pd.DataFrame):
                    again = back.uns["cytoclust"][step][key]
                    pd.testing.assert_frame_equal(
                        again, table, check_dtype=False, check_index_type=False,
                        check_column_type=False, check_names=False,
                    )  # fmt: skip
        flags = back.uns["cytoclust"]["filter_events"]["excluded"]["flags"]
        np.testing.assert_array_equal(
            flags, adata.uns["cytoclust"]["filter_events"]["excluded"]["flags"]
        )


def test_real_files(shared: Path) -> None:
    folder = shared / "data" / "mouse_activation"
    sheet = pd.read_csv(folder / "samples.csv", dtype=str).iloc[[4, 32]]
    sheet["file"] = [str(folder / name) for name in sheet["file"]]
    adata = cc.io.read_study(sheet, folder / "panel.csv")
    flag_all(adata)
    assert adata.obs["qc_margin"].to_numpy()[(adata.layers["raw"][:, 0] < 0)].all()
    unstained = (adata.obs["sample"] == "Activation_33").to_numpy()
    dead = adata.obs["qc_dead"].to_numpy()
    assert dead[unstained].mean() < 0.05 < dead[~unstained].mean()
