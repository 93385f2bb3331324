"""The simulated study: files, truth, composition, effects, determinism, bad arguments."""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING

import flowio
import numpy as np
import pandas as pd
import pytest

from cytoclust import io
from cytoclust.errors import ArgumentError
from cytoclust.simulate import composition, effects, study
from cytoclust.simulate.events import KINDS, Setting, detect, draw_cells, simulate_sample
from cytoclust.simulate.panel import (
    CHANNELS,
    COLUMN,
    DYES,
    FLUORESCENCE,
    RANGE,
    STATE_MARKERS,
    base_spillover,
)
from cytoclust.simulate.populations import CODE, NAMES, POPULATIONS, expression

if TYPE_CHECKING:
    from pathlib import Path

VISITS = ("d0", "d7", "d15", "d28")


def small(folder: Path, **options: object) -> Path:
    chosen = {"n_patients": 3, "events_per_sample": (300, 400), "rng": 4} | options
    return study(folder, **chosen)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("simulated") / "new" / "study", drift_share=0.5)


def read(path: Path) -> tuple[np.ndarray, flowio.FlowData]:
    data = flowio.FlowData(path)
    return np.reshape(data.events, (-1, data.channel_count)).astype(float), data


def spillover_of(data: flowio.FlowData) -> tuple[list[str], np.ndarray]:
    fields = data.text["spillover"].split(",")
    size = int(fields[0])
    return fields[1 : size + 1], np.array(fields[size + 1 :], dtype=float).reshape(size, size)


def digest(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def pure(
    population: str, n: int, *, seed: int = 0, shift: float = 0.0, column: int = 0
) -> np.ndarray:
    """Return compensated values of one population without noise between samples."""
    rng = np.random.default_rng(seed)
    counts = np.zeros(len(NAMES), dtype=np.int64)
    counts[CODE[population]] = n
    shifts = np.zeros((len(NAMES), len(DYES)), dtype=np.float32)
    shifts[CODE[population], column] = shift
    spillover = base_spillover()
    setting = Setting(
        n,
        counts / n,
        shifts,
        np.ones(len(DYES), dtype=np.float32),
        spillover.astype(np.float32),
        drift=False,
    )
    detected = detect(rng, draw_cells(rng, counts, setting), setting.spillover)
    return detected @ np.linalg.inv(spillover)


def planned(
    n_patients: int, *, null: bool = False, seed: int = 0
) -> tuple[composition.Layout, np.ndarray]:
    rng = np.random.default_rng(seed)
    layout = composition.plan(
        rng, n_patients=n_patients, visits=VISITS, missing=(0.15, 0.45), n_batches=3
    )
    marrow = composition.is_marrow(("PB", "BM"))
    changes = effects.abundance_changes(marrow, len(VISITS), 0.0 if null else 1.0)
    return layout, composition.draw_shares(rng, layout, marrow=marrow, changes=changes)


# files


def test_all_files_are_there_and_nothing_else(written: Path) -> None:
    sheet = pd.read_csv(written / "samples.csv")
    assert list(sheet.columns) == ["file", "sample", "patient", "compartment", "visit", "batch"]
    truth = {
        f"truth/{name}"
        for name in ("drift.csv", "effects.csv", "events.parquet", "state_effects.csv")
    }
    assert set(digest(written)) == set(sheet["file"]) | truth | {"samples.csv", "panel.csv"}
    assert sheet["sample"].is_unique
    assert set(sheet["compartment"]) == {"PB", "BM"}
    assert not sheet.isna().any(axis=None)


def test_panel_names_every_channel_and_its_class(written: Path) -> None:
    panel = pd.read_csv(written / "panel.csv").set_index("marker")
    assert len(panel) == len(CHANNELS) == 34
    assert set(panel.index[panel["marker_class"] == "state"]) == {
        "CD39",
        "PD-1",
        "TIM-3",
        "LAG-3",
        "TIGIT",
    }
    assert (panel["marker_class"] == "type").sum() == 21
    assert set(panel.index[panel["marker_class"] == "none"]) == {
        "FSC-A", "FSC-H", "FSC-W", "SSC-A", "SSC-H", "SSC-W", "Viability", "Time",
    }  # fmt: skip


def test_an_independent_reader_finds_the_events_the_truth_lists(written: Path) -> None:
    sheet = pd.read_csv(written / "samples.csv")
    truth = pd.read_parquet(written / "truth" / "events.parquet")
    assert list(truth.columns) == ["sample", "event", "population", "kind"]
    sizes = truth.groupby("sample", sort=False)["event"].agg(["size", "min", "max"])
    assert list(sizes.index) == list(sheet["sample"])
    for file, (size, first, last) in zip(sheet["file"], sizes.to_numpy(), strict=True):
        values, data = read(written / file)
        assert len(values) == data.event_count == size == last - first + 1
        assert 300 <= size <= 400
        assert np.isfinite(values).all()
        assert data.pnn_labels == list(CHANNELS)


def test_the_package_reads_its_own_study(written: Path) -> None:
    sheet = pd.read_csv(written / "samples.csv")
    (dataset,) = io.read_fcs_datasets(written / sheet["file"][0])
    values, data = read(written / sheet["file"][0])
    np.testing.assert_array_equal(np.asarray(dataset.events, dtype=float), values)
    assert list(dataset.channels) == data.pnn_labels


def test_keywords_say_how_the_file_was_acquired(written: Path) -> None:
    sheet = pd.read_csv(written / "samples.csv")
    values, data = read(written / sheet["file"][0])
    assert data.version == "3.1"
    assert float(data.text["timestep"]) == 0.01
    assert data.text["cyt"] == "cytoclust simulator"
    assert len(data.text["date"]) == len("01-MAR-2021")
    assert data.text["p1r"] == str(RANGE)
    names, matrix = spillover_of(data)
    assert names == list(FLUORESCENCE)
    assert (np.diag(matrix) == 1).all()
    assert 0.1 < np.max(matrix - np.eye(len(names))) < 0.4
    assert (np.diff(values[:, -1]) >= 0).all()
    assert dict(zip(data.pnn_labels, data.pns_labels, strict=True))["BV711-A"] == "PD-1"


def test_truth_names_populations_and_kinds(written: Path) -> None:
    truth = pd.read_parquet(written / "truth" / "events.parquet")
    assert set(truth["kind"]) == set(KINDS)
    debris = truth["kind"] == "debris"
    assert (truth.loc[debris, "population"] == "").all()
    assert set(truth.loc[~debris, "population"]) <= set(NAMES)
    share = truth["kind"].value_counts(normalize=True)
    assert share["cell"] > 0.8
    bounds = {"doublet": (0.015, 0.045), "dead": (0.025, 0.065), "debris": (0.025, 0.055)}
    for kind, (low, high) in bounds.items():
        assert low < share[kind] < high


def test_drifting_stretches_are_weaker(tmp_path: Path) -> None:
    folder = study(tmp_path, n_patients=1, events_per_sample=(4000, 4000), drift_share=1.0)
    stretches = pd.read_csv(folder / "truth" / "drift.csv").set_index("sample")
    sheet = pd.read_csv(folder / "samples.csv")
    assert list(stretches.index) == list(sheet["sample"])
    for file, row in zip(sheet["file"], stretches.to_numpy(), strict=True):
        values, _ = read(folder / file)
        inside = np.zeros(len(values), dtype=bool)
        inside[row[0] : row[1] + 1] = True
        assert 0.09 < inside.mean() < 0.21
        assert np.median(values[inside, 0]) < 0.75 * np.median(values[~inside, 0])


# populations


def test_populations_and_their_range() -> None:
    assert len(NAMES) == len(set(NAMES)) == 24
    for marrow in (False, True):
        shares = np.exp(composition.baseline(marrow=marrow))
        assert shares.sum() == pytest.approx(1)
    blood = np.exp(composition.baseline(marrow=False))
    assert blood.max() == pytest.approx(0.32, abs=0.03)
    assert blood.min() == pytest.approx(0.0005, abs=0.0001)
    for population in POPULATIONS:
        assert population.profile


def test_compensation_brings_negative_populations_near_zero() -> None:
    values = pure("CD8 naive", 4000)
    for marker in ("CD4", "CD19", "CD14", "CD16", "CD34", "TCRgd", "FoxP3"):
        column = values[:, COLUMN[marker]]
        assert abs(np.median(column)) < 160
        assert (column < 0).mean() > 0.02
    assert np.median(values[:, COLUMN["CD8"]]) == pytest.approx(22_000, rel=0.05)


def test_dim_markers_overlap_with_the_negative_and_bright_ones_do_not() -> None:
    def balanced(marker: str, above: str, below: str) -> float:
        high, low = (pure(name, 3000)[:, COLUMN[marker]] for name in (above, below))
        cuts = np.quantile(np.concatenate([high, low]), np.linspace(0.01, 0.99, 99))
        return max(((high > cut).mean() + (low <= cut).mean()) / 2 for cut in cuts)

    for marker, above, below in [
        ("CCR7", "CD4 CM", "CD4 EM"),
        ("CD25", "effector Treg", "CD4 CM"),
        ("CD127", "CD4 CM", "effector Treg"),
        ("PD-1", "CD4 EM", "CD4 naive"),
    ]:
        assert 0.85 < balanced(marker, above, below) < 0.985
    assert balanced("CD4", "CD4 naive", "CD8 naive") > 0.99
    assert balanced("CD14", "classical monocyte", "mDC") > 0.99


def test_unwanted_events_look_as_they_should() -> None:
    setting = Setting(
        20_000,
        np.exp(composition.baseline(marrow=False)),
        np.zeros((len(NAMES), len(DYES)), dtype=np.float32),
        np.ones(len(DYES), dtype=np.float32),
        base_spillover().astype(np.float32),
        drift=False,
    )
    drawn = simulate_sample(np.random.default_rng(3), setting)
    is_kind = {kind: drawn.kind == code for code, kind in enumerate(KINDS)}
    events = drawn.events.astype(float)
    viability = events[:, CHANNELS.index("V510-A")]
    assert np.median(viability[is_kind["dead"]]) > 5 * np.median(viability[is_kind["cell"]])
    forward, height = events[:, 0], events[:, 1]
    assert np.quantile(forward[is_kind["debris"]], 0.9) < np.quantile(
        forward[is_kind["cell"]], 0.01
    )
    ratio = forward / height
    assert np.median(ratio[is_kind["doublet"]]) > np.quantile(ratio[is_kind["cell"]], 0.999)
    at_end = (events[:, :-1] >= RANGE - 1).any(axis=1)
    assert at_end[is_kind["margin"]].all()
    assert not at_end[is_kind["cell"]].any()
    assert events[:, :-1].max() == RANGE - 1


@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_tiny_samples_hold_exactly_their_events(size: int) -> None:
    shares = np.exp(composition.baseline(marrow=True))
    zeros = np.zeros((len(NAMES), len(DYES)), dtype=np.float32)
    spillover = base_spillover().astype(np.float32)
    setting = Setting(
        size, shares, zeros, np.ones(len(DYES), dtype=np.float32), spillover, drift=True
    )
    for seed in range(30):
        drawn = simulate_sample(np.random.default_rng(seed), setting)
        assert drawn.events.shape == (size, len(CHANNELS))
        assert len(drawn.kind) == len(drawn.population) == size


# composition and effects


def test_log_abundance_varies_as_planned() -> None:
    layout, shares = planned(3000, null=True)
    values = np.log(shares)
    values -= values.mean(axis=1, keepdims=True)
    cube = values.reshape(3000, 2, 4, len(NAMES))
    n = len(NAMES)
    # centring takes 1/n of the variance of each population away on average, and gives as much
    within = cube.var(axis=2, ddof=1).mean(axis=(0, 1))
    between_visits = cube.mean(axis=2)
    difference = between_visits[:, 0] - between_visits[:, 1]
    compartment = difference.var(axis=0, ddof=1) / 2 - within / 4
    total = between_visits.var(axis=0, ddof=1).mean(axis=0)
    patient = total - compartment - within / 4
    factor = 1 + 0.4**2 * 4 / 12  # E[u^2] of u uniform on 0.6..1.4
    shrink = 1 - 1 / n
    # within one draw the 24 standard deviations themselves are random: compare with 4 se
    assert within.mean() == pytest.approx((0.45**2 + 0.3**2 / 12) * shrink, rel=0.25)
    assert compartment.mean() == pytest.approx(0.4**2 * factor * shrink, rel=0.35)
    assert patient.mean() == pytest.approx(0.6**2 * factor * shrink, rel=0.35)
    assert (np.sqrt(within) > 0.27).all()
    assert (np.sqrt(within) < 0.62).all()
    assert len(layout.patient) == 3000 * 8


def test_planted_changes_are_in_the_ratio_to_unchanged_populations() -> None:
    layout, shares = planned(4000)
    table = effects.effects_table(
        effects.abundance_changes([False, True], 4, 1.0), ("PB", "BM"), VISITS
    )
    assert (table["log2_fold_change"].abs() > 0).all()
    expected = table.set_index(["population", "compartment", "contrast"])["log2_fold_change"]
    for index, compartment in enumerate(("PB", "BM")):
        changed = set(table.loc[table["compartment"] == compartment, "population"])
        still = [CODE[name] for name in NAMES if name not in changed]
        assert len(still) > len(NAMES) / 2
        ratio = np.log2(shares) - np.log2(shares[:, still]).mean(axis=1, keepdims=True)
        for contrast, later, earlier in effects.contrasts(VISITS):
            rows = [
                ratio[(layout.compartment == index) & (layout.visit == visit)]
                for visit in (later, earlier)
            ]
            found = rows[0].mean(axis=0) - rows[1].mean(axis=0)
            for code, name in enumerate(NAMES):
                assert found[code] == pytest.approx(
                    expected.get((name, compartment, contrast), 0.0), abs=0.09
                )


def test_effects_follow_the_paper(written: Path) -> None:
    table = pd.read_csv(written / "truth" / "effects.csv")
    assert list(table.columns) == ["population", "compartment", "contrast", "log2_fold_change"]
    assert set(table["population"]) <= set(NAMES)
    assert set(table["contrast"]) == {"d7 - d0", "d15 - d0", "d28 - d0", "d28 - d7"}
    size = table.set_index(["population", "compartment", "contrast"])["log2_fold_change"]
    assert size["effector Treg", "PB", "d7 - d0"] >= 1
    assert ("effector Treg", "PB", "d28 - d0") not in size.index
    assert size["CD56dim CD57+ NK", "PB", "d28 - d0"] >= 1
    assert size["B-ALL blast", "BM", "d28 - d0"] <= -4


def test_effect_scale_multiplies_every_change(tmp_path: Path) -> None:
    one = pd.read_csv(small(tmp_path / "1") / "truth" / "effects.csv")
    half = pd.read_csv(small(tmp_path / "2", effect_scale=0.5) / "truth" / "effects.csv")
    np.testing.assert_allclose(half["log2_fold_change"], one["log2_fold_change"] / 2, atol=1e-5)


def test_state_effects_are_what_staining_shows(written: Path) -> None:
    table = pd.read_csv(written / "truth" / "state_effects.csv")
    assert list(table.columns) == ["population", "marker", "compartment", "contrast", "difference"]
    assert set(table["marker"]) <= set(STATE_MARKERS)
    peak = table[(table["contrast"] == "d7 - d0") & (table["compartment"] == "PB")]
    assert {"CD4 CM", "CD8 EM", "effector Treg"} <= set(peak["population"])
    for row in peak.itertuples():
        column = COLUMN[row.marker]
        size = 1.5 if row.marker == "CD39" else 1.4
        shifted = pure(row.population, 20_000, seed=8, shift=size * np.log(2), column=column)
        plain = pure(row.population, 20_000, seed=9)
        medians = [np.median(np.arcsinh(values[:, column] / 150)) for values in (shifted, plain)]
        assert row.difference == pytest.approx(medians[0] - medians[1], abs=0.06)
        assert row.difference > 0.5


def test_null_plants_nothing(tmp_path: Path) -> None:
    folder = small(tmp_path, null=True)
    for name, columns in (("effects", 4), ("state_effects", 5)):
        table = pd.read_csv(folder / "truth" / f"{name}.csv")
        assert table.shape == (0, columns)
    assert not effects.abundance_changes([False, True], 4, 0.0).any()
    assert not effects.state_changes([False, True], 4, 0.0).any()


def test_state_shifts_touch_only_stained_populations() -> None:
    model = expression()
    changed = np.any(effects.state_changes([False, True], 4, 1.0) != 0, axis=(0, 1))
    assert changed.any()
    assert not (changed & ~model.specific).any()


@pytest.mark.parametrize(
    ("kind", "n_visits", "expected"),
    [
        ("transient", 4, [0, 1, 0.3, 0]),
        ("transient", 2, [0, 1]),
        ("persistent", 3, [0, 1, 1]),
        ("late", 4, [0, 0, 0.3, 1]),
        ("late", 2, [0, 1]),
        ("vanishing", 3, [0, 0.8, 1]),
        ("vanishing", 2, [0, 1]),
        ("late", 1, [0]),
        ("transient", 1, [0]),
    ],
)
def test_courses_fit_any_number_of_visits(
    kind: effects.Course, n_visits: int, expected: list[float]
) -> None:
    np.testing.assert_allclose(effects.course(kind, n_visits), expected)


def test_visits_are_missing_as_often_as_planned() -> None:
    layout, _ = planned(5000)
    for index, share in enumerate((0.15, 0.45)):
        for first, factor in ((True, 0.4), (False, 1.0)):
            rows = (layout.compartment == index) & ((layout.visit == 0) == first)
            assert (~layout.present[rows]).mean() == pytest.approx(share * factor, abs=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_each_visit_is_kept_at_least_once(seed: int) -> None:
    layout = composition.plan(
        np.random.default_rng(seed), n_patients=1, visits=VISITS, missing=(0.9, 0.9), n_batches=2
    )
    kept = set(zip(layout.compartment[layout.present], layout.visit[layout.present], strict=True))
    assert kept == set(itertools.product(range(2), range(4)))


def test_default_design_is_large_enough() -> None:
    layout, _ = planned(29, seed=1)
    low, high = 2000, 6000
    mean = (high - low) / np.log(high / low)
    assert 145 <= layout.present.sum() <= 200
    assert layout.present.sum() * mean > 500_000


# determinism


def test_same_files_on_any_thread_count_and_on_a_second_run(tmp_path: Path) -> None:
    one = digest(small(tmp_path / "1", n_jobs=1))
    assert one == digest(small(tmp_path / "2", n_jobs=2))
    assert one == digest(small(tmp_path / "3", n_jobs=None, progress=True))
    assert one == digest(small(tmp_path / "4", rng=np.random.default_rng(4)))


def test_other_seeds_give_other_studies(tmp_path: Path) -> None:
    one, two = (digest(small(tmp_path / str(seed), rng=seed)) for seed in (1, 2))
    same = {name for name in one if name.endswith(".fcs") and one[name] == two.get(name)}
    assert not same


def test_any_visits_and_compartments(tmp_path: Path) -> None:
    folder = small(
        tmp_path, visits=("screening", "day 8"), compartments=("blood/1",), missing=(0.0,)
    )
    sheet = pd.read_csv(folder / "samples.csv")
    assert len(sheet) == 6
    assert "P01_blood/1_day 8" in set(sheet["sample"])
    assert list(sheet["visit"].unique()) == ["screening", "day 8"]
    assert (folder / "P01_blood-1_day-8.fcs").is_file()
    table = pd.read_csv(folder / "truth" / "effects.csv")
    assert set(table["contrast"]) == {"day 8 - screening"}


# bad input


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_patients": 0}, "n_patients must be at least 1"),
        ({"visits": "d0"}, "visits must be a sequence of names"),
        ({"visits": ()}, "visits must be a sequence of names"),
        ({"visits": ("d0", "d0")}, "visits must differ"),
        ({"visits": ("d/0", "d 0")}, "different file names"),
        ({"compartments": ("PB", "")}, "compartments must be a sequence of names"),
        ({"missing": (0.1,)}, "one share from 0 to below 1 per compartment"),
        ({"missing": (0.1, 1.0)}, "one share from 0 to below 1 per compartment"),
        ({"events_per_sample": (0, 10)}, "events_per_sample must be"),
        ({"events_per_sample": (20, 10)}, "events_per_sample must be"),
        ({"effect_scale": np.nan}, "effect_scale must be finite"),
        ({"n_batches": 0}, "n_batches must be at least 1"),
        ({"batch_sd": -0.1}, "batch_sd"),
        ({"spillover_scale": 2.0}, "spillover_scale must be between"),
        ({"drift_share": -0.1}, "drift_share must be between"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, object], match: str
) -> None:
    with pytest.raises(ArgumentError, match=match):
        small(tmp_path / "study", **options)
    assert not (tmp_path / "study").exists()


def test_a_study_is_replaced_only_when_asked(tmp_path: Path) -> None:
    small(tmp_path)
    (tmp_path / "notes.txt").write_text("keep me")
    (tmp_path / "own.fcs").write_bytes(b"not ours")
    with pytest.raises(ArgumentError, match="overwrite=True"):
        small(tmp_path)
    small(tmp_path, rng=9, n_patients=2, overwrite=True)

    sheet = pd.read_csv(tmp_path / "samples.csv")
    assert {path.name for path in tmp_path.glob("*.fcs")} == set(sheet["file"]) | {"own.fcs"}
    assert (tmp_path / "notes.txt").read_text() == "keep me"


def test_folders_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="is a file"):
        small(tmp_path / "file")
    with pytest.raises(ArgumentError, match="cannot be written"):
        small(tmp_path / "file" / "below")


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cytoclust.simulate.clinical_study.write_tables", fail)
    with pytest.raises(OSError, match="No space left"):
        small(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(OSError, match="No space left"):
        small(tmp_path / "old")
    assert list((tmp_path / "old").iterdir()) == []
