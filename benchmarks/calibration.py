"""Calibration of the tests on data with known truth: type I error, false discovery rate, power.

    python benchmarks/calibration.py [--sets 20] [--out benchmarks/results/calibration.json]

Abundance: logistic-normal counts of 29 patients x {PB, BM} x {d0, d7, d15, d28} with 15 % of PB and
45 % of BM visits missing (less at d0), patient, patient:compartment and sample effects, 5,000 to
200,000 cells per sample. Scenarios: null; hetero_null (BM noise doubled); permuted (visit labels of
one null data set permuted within patient and compartment); bystander (the largest population
tripled in PB); mixed (8 of 30 populations changed 2-fold). State: medians of the same samples with
measurement noise 1 / cells; null, hetero_null, shift (0.1 in a quarter of the rows).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from cytoclust import tl
from cytoclust.checks import package_version

VISITS = ("d0", "d7", "d15", "d28")
PLACES = ("PB", "BM")
KEYS = {"treatment_key": "time", "compartment_key": "compartment", "donor_key": "patient"}
LOG2 = np.log(2.0)
# population by rank -> (compartment, course over the visits, sign); each changes 2-fold at its peak
COURSES = (
    ((0,), (0, 1, 0.3, 0), +1),
    ((0,), (0, 1, 0.3, 0), -1),
    ((0, 1), (0, 1, 1, 1), +1),
    ((0,), (0, 1, 1, 1), -1),
    ((1,), (0, 1, 1, 1), +1),
    ((1,), (0, 1, 0.3, 0), +1),
    ((0,), (0, 0, 0.3, 1), +1),
    ((0,), (0, 1, 0.75, 0.5), +1),
)


@dataclass(frozen=True)
class Setting:
    """What a data set looks like."""

    n_populations: int = 30
    n_patients: int = 29
    noise_bm: float = 1.0
    change: str = "none"  # none, bystander, mixed


@dataclass(frozen=True)
class Study:
    """One simulated study: cells, sample sheet, change on the log scale (K, 2, 4)."""

    counts: pd.DataFrame
    sheet: pd.DataFrame
    change: np.ndarray


def planted(setting: Setting, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change of each population by compartment and visit."""
    change = np.zeros((setting.n_populations, 2, 4))
    if setting.change == "bystander":
        change[order[0], 0, 1:] = np.log(3.0)
    if setting.change == "mixed":
        chosen = rng.choice(order[2:], len(COURSES), replace=False)
        for k, (places, course, sign) in zip(chosen, COURSES, strict=True):
            for place in places:
                change[k, place] = sign * LOG2 * np.array(course)
    return change


def simulate(setting: Setting, rng: np.random.Generator) -> Study:
    """Draw one study."""
    K = setting.n_populations
    base = np.sort(rng.uniform(np.log(5e-4), np.log(0.2), K))[::-1]
    base[-2:] = np.log(5e-4)
    order = rng.permutation(K)
    base = base[np.argsort(order)]
    deviation = rng.uniform(0.3, 0.6, K)
    patient = rng.normal(size=(setting.n_patients, 1, K)) * 0.6 * rng.uniform(0.6, 1.4, K)
    place = rng.normal(size=(setting.n_patients, 2, K)) * 0.4 * rng.uniform(0.6, 1.4, K)
    level = base + patient + place + np.array([[0.0], [1.0]]) * rng.normal(0, 0.7, K)
    change = planted(setting, order, rng)
    rows, columns = [], []
    for p in range(setting.n_patients):
        for c, t in np.ndindex(2, 4):
            missing = (0.15, 0.45)[c] * (0.4 if t == 0 else 1.0)
            if rng.uniform() < missing:
                continue
            noise = rng.normal(size=K) * deviation * (setting.noise_bm if c else 1.0)
            share = np.exp(level[p, c] + change[:, c, t] + noise)
            n_cells = int(np.exp(rng.uniform(np.log(5e3), np.log(2e5))))
            columns.append(rng.multinomial(n_cells, share / share.sum()))
            rows.append((f"P{p:02d} {PLACES[c]} {VISITS[t]}", f"P{p:02d}", PLACES[c], VISITS[t]))
    sheet = pd.DataFrame(rows, columns=["sample", "patient", "compartment", "time"])
    sheet["time"] = pd.Categorical(sheet["time"], categories=VISITS)
    sheet["compartment"] = pd.Categorical(sheet["compartment"], categories=PLACES)
    names = [f"c{k + 1:03d}" for k in range(K)]
    counts = pd.DataFrame(np.array(columns).T, index=names, columns=sheet["sample"])
    return Study(counts, sheet, change)


def truth(study: Study) -> pd.DataFrame:
    """Planted change of every population, compartment and contrast."""
    at = {visit: t for t, visit in enumerate(VISITS)}
    rows = []
    for k, name in enumerate(study.counts.index):
        for later, earlier in (("d7", "d0"), ("d15", "d0"), ("d28", "d0"), ("d28", "d7")):
            by_place = study.change[k, :, at[later]] - study.change[k, :, at[earlier]]
            for place, value in zip(
                (*PLACES, "BM - PB"), (*by_place, by_place[1] - by_place[0]), strict=True
            ):
                rows.append((name, place, f"{later} - {earlier}", value))
    return pd.DataFrame(rows, columns=["population", "compartment", "contrast", "planted"])


def permuted(study: Study, rng: np.random.Generator) -> Study:
    """Permute the visits within patient and compartment."""
    sheet = study.sheet.copy()
    groups = sheet.astype({"time": str}).groupby(["patient", "compartment"], observed=True)["time"]
    shuffled = groups.transform(lambda visits: rng.permutation(visits.to_numpy()))
    sheet["time"] = pd.Categorical(shuffled, categories=VISITS)
    return replace(study, sheet=sheet)


def medians(
    study: Study, rng: np.random.Generator, *, noise_bm: float, shift: float
) -> tuple[pd.DataFrame, set[tuple[str, str]]]:
    """Draw marker medians for a study; returns them and the (population, marker) shifted in PB at d7."""
    sheet = study.sheet
    patient = pd.factorize(sheet["patient"])[0]
    marrow = (sheet["compartment"] == "BM").to_numpy()
    later = ((sheet["time"] == "d7") & ~marrow).to_numpy()
    tables, moved = [], set()
    for name in study.counts.index:
        cells = study.counts.loc[name].to_numpy()
        for marker in ("M1", "M2", "M3", "M4"):
            donor = rng.normal(0, 0.15, (patient.max() + 1, 2)) + rng.normal(
                0, 0.15, (patient.max() + 1, 1)
            )
            spread = np.sqrt(0.016 * np.where(marrow, noise_bm**2, 1.0) + 1 / np.maximum(cells, 1))
            values = 2 + donor[patient, marrow.astype(int)] + rng.normal(size=len(sheet)) * spread
            if shift and rng.uniform() < 0.25:
                values[later] += shift
                moved.add((name, marker))
            table = sheet[["sample"]].assign(
                population=name, marker=marker, median=values, n_events=cells
            )
            tables.append(table)
    return pd.concat(tables, ignore_index=True), moved


def rates(results: list[pd.DataFrame]) -> dict[str, float]:
    """Share of p < 0.05 by compartment and of p < 0.001, standard errors over data sets."""
    found: dict[str, float] = {}
    for place in (*PLACES, "BM - PB"):
        each = [
            (r.loc[r["compartment"] == place, "p_value"].dropna() < 0.05).mean() for r in results
        ]
        found[place] = float(np.mean(each))
        found[f"{place} s.e."] = float(np.std(each, ddof=1) / np.sqrt(len(each)))
    together = pd.concat(results)
    found[".001"] = float((together["p_value"].dropna() < 0.001).mean())
    families = [
        (part["fdr"] < 0.05).any()
        for r in results
        for _, part in r.groupby(["compartment", "contrast"])
    ]
    found["any FDR < .05 in a family"] = float(np.mean(families))
    return found


def discoveries(results: list[pd.DataFrame]) -> dict[str, float]:
    """Power and false discovery rate of the within-compartment contrasts against baseline."""
    together = pd.concat(results)
    inner = together[
        together["contrast"].str.endswith("- d0") & (together["compartment"] != "BM - PB")
    ]
    strong = inner["planted"].abs() > 0.6 * LOG2
    hit = inner["fdr"] < 0.05
    between = together[
        together["contrast"].str.endswith("- d0") & (together["compartment"] == "BM - PB")
    ]
    far = between["planted"].abs() > 0.6 * LOG2
    return {
        "power": float(hit[strong].mean()),
        "power BM": float(hit[strong & (inner["compartment"] == "BM")].mean()),
        "power BM - PB": float((between["fdr"] < 0.05)[far].mean()),
        "FDR": float((hit & (inner["planted"] == 0)).sum() / max(hit.sum(), 1)),
    }


def abundance(scenario: str, n_sets: int) -> dict[str, float]:
    """Run one scenario of the abundance test."""
    setting = Setting(
        noise_bm=2.0 if scenario == "hetero_null" else 1.0,
        change=scenario if scenario in {"bystander", "mixed"} else "none",
    )
    results = []
    fixed = simulate(setting, np.random.default_rng([7, 0]))
    for i in range(n_sets):
        rng = np.random.default_rng([1, i])
        study = permuted(fixed, rng) if scenario == "permuted" else simulate(setting, rng)
        result = tl.differential_abundance(study.counts, samples=study.sheet, **KEYS)
        results.append(result.merge(truth(study), on=["population", "compartment", "contrast"]))
    if scenario == "mixed":
        return discoveries(results)
    if scenario == "bystander":
        inner = [
            r[(r["compartment"] == "PB") & r["contrast"].str.endswith("- d0")] for r in results
        ]
        others = pd.concat([r[r["planted"] == 0] for r in inner])
        grown = pd.concat([r[r["planted"] != 0] for r in inner])
        return {
            "bystander p < .05": float((others["p_value"] < 0.05).mean()),
            "bystander FDR < .05": float((others["fdr"] < 0.05).mean()),
            "mean log2 fold change of bystanders": float(others["log2_fold_change"].mean()),
            "expansion found": float((grown["fdr"] < 0.05).mean()),
        }
    return rates(results)


def state(scenario: str, n_sets: int) -> dict[str, float]:
    """Run one scenario of the state test."""
    results = []
    noise_bm = 2.0 if scenario == "hetero_null" else 1.0
    for i in range(n_sets):
        rng = np.random.default_rng([2, i])
        study = simulate(Setting(n_populations=24), rng)
        shift = 0.1 if scenario == "shift" else 0.0
        table, moved = medians(study, rng, noise_bm=noise_bm, shift=shift)
        result = tl.differential_state(table, samples=study.sheet, **KEYS)
        pairs = zip(result["population"], result["marker"], strict=True)
        results.append(result.assign(moved=[pair in moved for pair in pairs]))
    if scenario != "shift":
        return rates(results)
    rows = pd.concat(results)
    rows = rows[
        (rows["compartment"] == "PB") & (rows["contrast"] == "d7 - d0") & (rows["status"] == "ok")
    ]
    hit = rows["fdr"] < 0.05
    return {
        "power": float(hit[rows["moved"]].mean()),
        "FDR": float((hit & ~rows["moved"]).sum() / max(hit.sum(), 1)),
    }


def speed() -> dict[str, float]:
    """Seconds of the abundance test with the kernels compiled; the best of three runs."""
    found = {}
    for K in (40, 2000):
        study = simulate(Setting(n_populations=K), np.random.default_rng(3))
        times = []
        for _ in range(3):
            start = time.perf_counter()
            tl.differential_abundance(study.counts, samples=study.sheet, **KEYS)
            times.append(time.perf_counter() - start)
        found[f"{K} populations x {study.counts.shape[1]} samples, s"] = round(min(times), 3)
    return found


def as_table(found: dict[str, dict[str, float]]) -> str:
    """Markdown lines of all scenarios."""
    lines = ["| scenario | result |", "|---|---|"]
    for name, values in found.items():
        shown = "; ".join(
            f"{key} {value:.4g}" for key, value in values.items() if "s.e." not in key
        )
        lines.append(f"| {name} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    """Run every scenario, print the table and keep both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "calibration.json"
    )
    options = parser.parse_args()
    start = time.perf_counter()
    found = {
        f"abundance, {name}": abundance(name, options.sets)
        for name in ("null", "hetero_null", "permuted", "bystander", "mixed")
    }
    found |= {
        f"state, {name}": state(name, options.sets) for name in ("null", "hetero_null", "shift")
    }
    found["seconds"] = speed()
    facts = {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "sets": options.sets,
        "seconds": round(time.perf_counter() - start, 1),
        "versions": {name: package_version(name) for name in ("cytoclust", "numpy", "scipy")},
        "results": found,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(facts, indent=2) + "\n")
    text = f"# Calibration, {facts['date']}, {options.sets} data sets per scenario\n\n{as_table(found)}\n"
    options.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
