"""Cut-offs of single markers on simulated events with known truth; where each setting comes from.

    python benchmarks/marker_levels.py [--seeds 20] [--scan]

Every marker is drawn from a shape (fluorescence after arcsinh at any cofactor, channel values on a
biexponential-like scale, mass cytometry with its zeros, compensation spread below zero), a share of
positives from 0.1 % to 90 %, a distance between negatives and positives in units of their spread, and
500 to 100,000 events; a third of the markers have no positives at all. Reported: how often a marker
without a second group is cut all the same, how often two groups that can be told apart are, and the
F1 of the positive calls against the best that any single threshold can do. `--scan` repeats this over
the settings of `numerics.valleys` and `numerics.mixtures`, which is how their defaults were chosen.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pandas as pd

from cytoclust import numerics
from cytoclust.numerics import mixtures, valleys  # noqa: F401, settings are patched by name
from cytoclust.numerics.levels import split_panel

if TYPE_CHECKING:
    from collections.abc import Iterator

N_MARKERS = 9
SHAPES = ("normal", "skewed", "heavy", "arcsinh", "spread", "channel", "mass")


@dataclass(frozen=True)
class Case:
    """One marker: how it is drawn."""

    shape: str
    share: float
    distance: float
    n_events: int
    seed: int


def draw(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Values and truth (True for positives)."""
    rng = np.random.default_rng(case.seed)
    truth = rng.random(case.n_events) < case.share
    noise = rng.normal(size=case.n_events)
    if case.shape == "skewed":  # lognormal within groups, tail towards the bright side
        noise = (np.exp(0.4 * noise) - np.exp(0.08)) / 0.45
    if case.shape == "heavy":
        noise = rng.standard_t(5, case.n_events) / np.sqrt(5 / 3)
    values = noise + truth * case.distance
    if case.shape == "arcsinh":  # linear intensities, cofactor off by up to four-fold
        cofactor = 150 * 4 ** np.random.default_rng(case.seed // 1000).uniform(-1, 1)
        bright = np.exp(rng.uniform(1.0, 2.0) * np.log(10))  # of positives over background
        linear = np.where(truth, 60 * bright * np.exp(0.45 * noise), 60 * np.exp(0.5 * noise))
        values = np.arcsinh((linear + rng.normal(0, 60, case.n_events)) / cofactor)
    if case.shape == "spread":  # compensation makes negatives wide and symmetric about zero
        wide = rng.uniform(100, 400)
        linear = np.where(truth, wide * 3 * case.distance * np.exp(0.35 * noise), 0.0)
        linear += rng.normal(0, wide, case.n_events)
        values = np.arcsinh(linear / 150)
    if case.shape == "channel":
        values = 250 + 180 * noise + truth * case.distance * 180
        values = np.clip(values, 0, 1023).round()
    if case.shape == "mass":  # counts: zeros, a decaying background, lognormal positives
        background = rng.exponential(3.0, case.n_events) * (rng.random(case.n_events) > 0.45)
        bright = 8 * case.distance * np.exp(0.5 * noise)
        counts = rng.poisson(np.where(truth, bright, background)).astype(float)
        counts -= rng.random(case.n_events) * (counts >= 0)
        values = np.arcsinh(counts / 5)
    return values, truth


def best_f1(values: np.ndarray, truth: np.ndarray) -> float:
    """Best F1 of the positives that a single threshold reaches."""
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(truth[order])
    return float((2 * hits / (np.arange(1, len(values) + 1) + truth.sum())).max())


def panels(n_seeds: int, *, first: int) -> Iterator[list[Case]]:
    """Panels of `N_MARKERS` markers of one shape; shares, distances and sizes drawn at random."""
    for shape, seed in itertools.product(SHAPES, range(first, first + n_seeds)):
        rng = np.random.default_rng([seed, len(shape)])
        n_events = int(np.exp(rng.uniform(np.log(500), np.log(100_000))))
        yield [
            Case(
                shape,
                0.0 if k % 3 == 0 else float(np.exp(rng.uniform(np.log(1e-3), np.log(0.9)))),
                float(rng.uniform(3, 9)),
                n_events,
                1000 * seed + k,
            )
            for k in range(N_MARKERS)
        ]


def score(
    case: Case,
    values: np.ndarray,
    truth: np.ndarray,
    *,
    baseline: mixtures.Baseline,
    expected: bool,
) -> dict[str, object]:
    """What the split of one marker is worth."""
    found = mixtures.split_marker(
        mixtures.count_values(values), baseline=baseline, expected=expected
    )
    possible = best_f1(values, truth) if truth.any() else np.nan
    calls = values > found.cut if found.informative else np.zeros(len(values), dtype=bool)
    f1 = 2 * (calls & truth).sum() / max(calls.sum() + truth.sum(), 1)
    return {
        "shape": case.shape,
        "n_events": case.n_events,
        "share": case.share,
        "n_positive": int(truth.sum()),
        "possible": possible,
        "status": found.status,
        "cut": found.informative,
        "called": float(calls.mean()),
        "f1": float(f1),
    }


def summary(table: pd.DataFrame) -> dict[str, float]:
    """Rates over all cases."""
    none = table[table["n_positive"] == 0]
    wrong = none["cut"] & (none["called"] > 0.01)
    clear = table[(table["n_positive"] >= 30) & (table["possible"] >= 0.95)]
    hard = table[(table["n_positive"] >= 30) & table["possible"].between(0.8, 0.95)]
    return {
        "false_cuts": round(float(none["cut"].mean()), 3),
        "false_cuts_above_1_percent": round(float(wrong.mean()), 3),
        "clear_found": round(float(clear["cut"].mean()), 3),
        "clear_f1": round(float(clear["f1"].mean()), 3),
        "clear_possible": round(float(clear["possible"].mean()), 3),
        "overlapping_found": round(float(hard["cut"].mean()), 3),
        "overlapping_f1": round(float(hard["f1"].mean()), 3),
        "cases": len(table),
    }


def run(n_seeds: int, *, first: int, expected: bool) -> pd.DataFrame:
    """Score panels of markers; as in a study, the panel's clear markers tell its usual levels."""
    rows: list[dict[str, object]] = []
    for panel in panels(n_seeds, first=first):
        drawn = [draw(case) for case in panel]
        baseline, _ = split_panel([mixtures.count_values(values) for values, _ in drawn])
        rows += [
            score(case, *pair, baseline=baseline, expected=expected)
            for case, pair in zip(panel, drawn, strict=True)
        ]
    return pd.DataFrame(rows)


SETTINGS = {
    "valleys.MIN_GAP": (0.05, 0.1, 0.2),
    "valleys.MIN_SHOULDER": (0.0, 0.01, 0.02, 0.05),
    "valleys.VALLEY_NOISE": (0.5, 1.0, 2.0),
    "mixtures.STRICT": ((2.5, 3.0), (3.5, 5.0), (5.0, 8.0)),
    "mixtures.EXPECTED": ((1.5, 2.0), (2.5, 3.0), (3.5, 5.0)),
    "mixtures.WIDE_STEP": (0.3, 0.5, 0.8, 99.0),
    "mixtures.SEPARATION": (0.0, 1.5, 1.75, 2.0, 2.5),
    "mixtures.ABOVE_NEGATIVES": (-0.25, 0.0, 0.12, 0.2),
    "mixtures.MIN_STEP": (0.15, 0.25, 0.35),
}


def scan(n_seeds: int) -> list[dict[str, object]]:
    """Rates with one setting changed at a time; the seeds differ from those of the report."""
    rows = []
    for setting, values in SETTINGS.items():
        module, name = setting.split(".")
        for value in values:
            with mock.patch.object(vars(numerics)[module], name, value):
                expected = name == "EXPECTED"
                rates = summary(run(n_seeds, first=5000, expected=expected))
            rows.append({"setting": setting, "value": str(value), **rates})
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--scan", action="store_true")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    options = parser.parse_args()
    results: dict[str, object] = {"date": datetime.now(UTC).date().isoformat()}
    for expected in (False, True):
        table = run(options.seeds, first=0, expected=expected)
        name = "definition expects two groups" if expected else "any marker"
        results[name] = summary(table)
        results[f"{name}, by shape"] = {k: summary(g) for k, g in table.groupby("shape")}
    if options.scan:
        results["scan"] = scan(options.seeds)
    print(json.dumps(results, indent=2))
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
