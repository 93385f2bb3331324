"""Calibration of the tests on data with known truth: type I error, false discovery rate, power.

    python benchmarks/calibration.py [--sets 20] [--out benchmarks/results/calibration.json]
    python benchmarks/calibration.py --speed

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
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from cytoclust import tl
from cytoclust.checks import package_version
from cytoclust.errors import StatisticsWarning

VISITS = ("d0", "d7", "d15", "d28")
PLACES = ("PB", "BM")
SECONDS = "seconds, about 160 samples, kernels compiled"
KEYS = {"treatment_key": "time", "compartment_key": "compartment", "donor_key": "patient"}
LOG2 = np.log(2.0)
METHODS: dict[str, dict[str, object]] = {
    "voom (default)": {},
    "voom, tmm": {"normalization": "tmm"},
    "voom, total": {"denominator": "total"},
    "voom, joint": {"joint": True},
    "lmm": {"method": "lmm"},
    "glmm": {"method": "glmm"},
    "signflip": {"method": "signflip"},
}
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
    """Power (2-fold changes) and false discovery rate of the six changes from baseline.

    Standard errors are over data sets; the false discovery rate is pooled, so is its jackknife.
    """
    power, marrow, between, parts, bias = [], [], [], [], []
    for r in results:
        base = r[r["contrast"].str.endswith("- d0")]
        inner = base[base["compartment"] != "BM - PB"]
        full = inner["planted"].abs() > 0.99 * LOG2
        hit = inner["fdr"] < 0.05
        power.append(hit[full].mean())
        marrow.append(hit[full & (inner["compartment"] == "BM")].mean())
        crossing = base[base["compartment"] == "BM - PB"]
        between.append((crossing["fdr"] < 0.05)[crossing["planted"].abs() > 0.99 * LOG2].mean())
        parts.append(((hit & (inner["planted"] == 0)).sum(), hit.sum()))
        signed = inner["log2_fold_change"] * LOG2 * np.sign(inner["planted"])
        bias.append((signed[full] - LOG2).mean())
    false, found = np.array(parts, dtype=float).T
    left = (false.sum() - false) / (found.sum() - found)
    n = len(results)
    table = {}
    for name, values in (
        ("power", power), ("power BM", marrow), ("power BM - PB", between), ("bias of ln FC", bias),
    ):  # fmt: skip
        table[name] = float(np.nanmean(values))
        table[f"{name} s.e."] = float(np.nanstd(values, ddof=1) / np.sqrt(n))
    table["FDR"] = float(false.sum() / max(found.sum(), 1))
    table["FDR s.e."] = float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))
    return table


def study_of(scenario: str, i: int, fixed: Study) -> Study:
    """Draw data set i of a scenario; every method sees the same ones."""
    rng = np.random.default_rng([1, i])
    if scenario == "permuted":
        return permuted(fixed, rng)
    setting = Setting(
        noise_bm=2.0 if scenario == "hetero_null" else 1.0,
        change=scenario if scenario in {"bystander", "mixed"} else "none",
    )
    return simulate(setting, rng)


def abundance(scenario: str, n_sets: int) -> dict[str, dict[str, float]]:
    """Run one scenario with every method; results by method."""
    fixed = simulate(Setting(), np.random.default_rng([7, 0]))
    results: dict[str, list[pd.DataFrame]] = {name: [] for name in METHODS}
    seconds = dict.fromkeys(METHODS, 0.0)
    for i in range(n_sets):
        study = study_of(scenario, i, fixed)
        for name, options in METHODS.items():
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", StatisticsWarning)
                result = tl.differential_abundance(
                    study.counts, samples=study.sheet, **KEYS, **options
                )
            seconds[name] += time.perf_counter() - start
            keys = ["population", "compartment", "contrast"]
            results[name].append(result.merge(truth(study), on=keys))
    score = {"mixed": discoveries, "bystander": bystanders}.get(scenario, rates)
    return {
        name: {**score(found), "s per set": seconds[name] / n_sets}
        for name, found in results.items()
    }


def courses(n_sets: int) -> dict[str, dict[str, float]]:
    """Share of wrong names per call, and of transient courses found: staged calls and naive ones.

    Naive: significant at d7 and not at d28 is transient, the other way late, both persistent.
    """
    names = {(0, 1, 0.3, 0): "transient", (0, 1, 1, 1): "persistent", (0, 0, 0.3, 1): "late"}
    names[0, 1, 0.75, 0.5] = "partial"
    rows = []
    for i in range(n_sets):
        study = simulate(Setting(change="mixed"), np.random.default_rng([1, i]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StatisticsWarning)
            result = tl.differential_abundance(study.counts, samples=study.sheet, **KEYS)
        hit = result.assign(hit=result["fdr"] < 0.05).pivot_table(
            index=["population", "compartment"], columns="contrast", values="hit"
        )
        for call in tl.classify_trajectories(result).to_dict("records"):
            k = study.counts.index.get_loc(call["population"])
            shape = np.abs(study.change[k, PLACES.index(call["compartment"])]) / LOG2
            true = names.get(tuple(np.round(shape, 2).tolist()), "none")
            early, late = hit.loc[
                (call["population"], call["compartment"]), ["d7 - d0", "d28 - d0"]
            ]
            naive = {(1, 0): "transient", (0, 1): "late", (1, 1): "persistent"}
            rows.append((true, call["call"], naive.get((int(early), int(late)), "none")))
    table = pd.DataFrame(rows, columns=["true", "staged", "naive"])
    found = {}
    for how in ("staged", "naive"):
        found[how] = {}
        for name in ("transient", "late", "persistent"):
            called = table[table[how] == name]
            found[how][f"{name} wrong"] = float((called["true"] != name).mean())
            found[how][f"{name} calls"] = float(len(called))
        transient = table["true"] == "transient"
        found[how]["transient found"] = float((table.loc[transient, how] == "transient").mean())
    return found


def bystanders(results: list[pd.DataFrame]) -> dict[str, float]:
    """What happens to unchanged populations when the largest one triples."""
    inner = [r[(r["compartment"] == "PB") & r["contrast"].str.endswith("- d0")] for r in results]
    others = [r[r["planted"] == 0] for r in inner]
    each = [(r["p_value"] < 0.05).mean() for r in others]
    grown = pd.concat([r[r["planted"] != 0] for r in inner])
    together = pd.concat(others)
    return {
        "bystander p < .05": float(np.mean(each)),
        "s.e.": float(np.std(each, ddof=1) / np.sqrt(len(each))),
        "bystander FDR < .05": float((together["fdr"] < 0.05).mean()),
        "mean log2 fold change of bystanders": float(together["log2_fold_change"].mean()),
        "expansion found": float((grown["fdr"] < 0.05).mean()),
    }


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


def speed() -> dict[str, dict[str, float]]:
    """Seconds by method with the kernels compiled, the best of the runs.

    Processor seconds of all threads hold on a busy machine, too; wall seconds do not.
    """
    found: dict[str, dict[str, float]] = {}
    for method, repeats in (("voom", 3), ("lmm", 2), ("glmm", 2)):
        found[method] = {}
        for K in (40, 2000):
            study = simulate(Setting(n_populations=K), np.random.default_rng(3))
            runs = []
            for _ in range(repeats + 1):  # the first compiles
                start = time.perf_counter(), time.process_time()
                tl.differential_abundance(study.counts, samples=study.sheet, **KEYS, method=method)
                runs.append((time.perf_counter() - start[0], time.process_time() - start[1]))
            wall, processor = np.min(runs[1:], axis=0)
            found[method][f"{K} populations, wall"] = round(float(wall), 3)
            found[method][f"{K} populations, processor"] = round(float(processor), 3)
    return found


def as_tables(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: one table per scenario, a row per method, standard errors in brackets."""
    lines = []
    for scenario, methods in found.items():
        names = [n for n in next(iter(methods.values())) if "s.e." not in n]
        lines += [
            f"## {scenario}",
            "",
            f"| method | {' | '.join(names)} |",
            "|---" * (len(names) + 1) + "|",
        ]
        for method, values in methods.items():
            cells = []
            for name in names:
                error = values.get(f"{name} s.e.", values.get("s.e.") if name == names[0] else None)
                shown = f"{values[name]:.4f}" if abs(values[name]) < 10 else f"{values[name]:.1f}"
                cells.append(shown + (f" ({error:.4f})" if error is not None else ""))
            lines.append(f"| {method} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def judged(found: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Name every figure of the default methods that leaves its band by more than two standard errors."""
    misses = []

    def judge(scenario: str, method: str, *, name: str, low: float, high: float) -> None:
        values = found[scenario][method]
        error = 2 * values.get(f"{name} s.e.", values.get("s.e.", 0.0))
        if not low - error <= values[name] <= high + error:
            misses.append(
                f"{scenario}, {method}, {name}: {values[name]:.4f} not in [{low}, {high}]"
            )

    for scenario, methods in found.items():
        kind = scenario.rsplit(" ", maxsplit=1)[-1]
        for method in methods:
            if method in {"voom, tmm", "voom, total", "voom, joint"} or kind not in BANDS:
                continue
            for name, (low, high) in BANDS[kind].items():
                judge(scenario, method, name=name, low=low, high=high)
    return misses


TYPE_ONE = {"PB": (0.035, 0.065), "BM": (0.035, 0.065), "BM - PB": (0.035, 0.065)}
BANDS = {
    "null": TYPE_ONE,
    "permuted": TYPE_ONE,
    "hetero_null": {**TYPE_ONE, "BM": (0.035, 0.075)},
    "bystander": {"bystander p < .05": (0.0, 0.08)},
}


def main() -> None:
    """Run every scenario, print the table and keep both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument(
        "--speed", action="store_true", help="only measure times, on an idle machine"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "calibration.json"
    )
    options = parser.parse_args()
    if options.speed:  # beside the calibration that is there
        facts = json.loads(options.out.read_text())
        facts["results"][SECONDS] = speed()
        write(facts, options.out)
        return
    start = time.perf_counter()
    found = {
        f"abundance, {name}": abundance(name, options.sets)
        for name in ("null", "hetero_null", "permuted", "bystander", "mixed")
    }
    found["courses, 2-fold changes"] = courses(options.sets)
    found |= {
        f"state, {name}": {"limma, fixed donors (default)": state(name, options.sets)}
        for name in ("null", "hetero_null", "shift")
    }
    facts = {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "sets": options.sets,
        "seconds": round(time.perf_counter() - start, 1),
        "versions": {name: package_version(name) for name in ("cytoclust", "numpy", "scipy")},
        "outside the bands": judged(found),
        "results": found,
    }
    write(facts, options.out)


def write(facts: dict[str, object], out: Path) -> None:
    """Write figures as JSON and as tables."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(facts, indent=2) + "\n")
    verdict = "; ".join(facts["outside the bands"]) or "none"
    text = (
        f"# Calibration, {facts['date']}, {facts['sets']} data sets per scenario\n\n"
        "Standard errors over data sets in brackets. Null: share of p < .05 by compartment. "
        f"Outside the bands by more than two standard errors: {verdict}.\n\n"
        f"{as_tables(facts['results'])}"
    )
    out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
