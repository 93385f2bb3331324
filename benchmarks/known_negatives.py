"""Positives without a valley, cut by what a known negative population shows; simulated, with truth.

    python benchmarks/known_negatives.py [--seeds 300] [--scan] [--out PATH]

Activation markers (HLA-DR, CD69, PD-1 on T cells) are a tail on one peak. Each marker is drawn with a
shape (normal, skewed, heavy-tailed, mass cytometry), 2,000 to 60,000 events, 1 to 30 % positives (a
fifth of the markers has none) 2 to 7 spreads above the negatives, themselves 0.8 to 2 spreads wide. A part
of the events is known to be negative (but for the 3 % of the positives that are among them by
mistake). `lineage`: those known lie 0 to 0.4 spreads below the other negatives, as naive below memory T
cells. `elsewhere`: -0.7 to 1.2 spreads, as another lineage with another background. Scored: F1 of the
positive calls, beside the best that any cut can reach, over markers where that is 0.6 or more; and the
share called positive where there are none.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np

from cytoclust.numerics import references
from cytoclust.numerics.mixtures import Baseline, Split, count_values, split_marker
from cytoclust.numerics.references import Reference, known_negatives, split_with_reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPES = ("normal", "skewed", "heavy", "mass")
LEVELS = Baseline(0.0, 7.0)
MISTAKEN = 0.03
OFFSETS = {"lineage": (0.0, 0.4), "elsewhere": (-0.7, 1.2)}
SETTINGS: dict[str, tuple[object, ...]] = {
    "MAX_FALSE": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5),
    "OWN_PEAK": (0.3, 0.45, 0.6, 0.75, 0.9),
    "TAIL": ((0.7, 0.9), (0.8, 0.95), (0.9, 0.97), (0.95, 0.99)),
}


def negatives(rng: np.random.Generator, n_events: int, shape: str) -> NDArray[np.float64]:
    """Draw unstained values, in units of their own spread."""
    values = rng.normal(size=n_events)
    if shape == "skewed":
        return (np.exp(0.4 * values) - np.exp(0.08)) / 0.45
    if shape == "heavy":
        return rng.standard_t(5, n_events) / np.sqrt(5 / 3)
    if shape == "mass":  # counts with zeros, arcsinh of cofactor 5
        counts = rng.poisson(rng.exponential(3.0, n_events) * (rng.random(n_events) > 0.45)).astype(
            float
        )
        counts -= rng.random(n_events) * (counts >= 0)
        return (np.arcsinh(counts / 5) - 0.3) / 0.5
    return values


def draw(seed: int, offsets: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:  # fmt: skip
    """Values, truth, and which events are known to be negative."""
    rng = np.random.default_rng([seed, 3])
    n_events = int(np.exp(rng.uniform(np.log(2_000), np.log(60_000))))
    share = np.exp(rng.uniform(np.log(0.01), np.log(0.3))) * (rng.random() > 0.2)
    known = rng.random(n_events) < rng.uniform(0.2, 0.6)
    truth = (rng.random(n_events) < share) & ~known
    values = negatives(rng, n_events, str(rng.choice(SHAPES))) + rng.uniform(*offsets) * ~known
    positive = rng.uniform(2, 7) + rng.uniform(0.8, 2) * rng.normal(size=n_events)
    mistaken = truth & (rng.random(n_events) < MISTAKEN)
    return np.where(truth, positive, values), truth, known | mistaken


def f1(called: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return 2 * float((called & truth).sum()) / max(float(called.sum() + truth.sum()), 1.0)


def called(values: NDArray[np.float64], split: Split) -> NDArray[np.bool_]:
    if split.informative:
        return values > split.cut
    return np.full(len(values), split.status == "all_positive")


def rates(seeds: range, kind: str) -> dict[str, float]:
    """Mean F1 with and without the reference, and what is called positive where nothing is."""
    rows, none = [], []
    for seed in seeds:
        values, truth, known = draw(seed, OFFSETS[kind])
        histogram = count_values(values)
        reference = Reference(
            *known_negatives(values[known], least_spread=0.09 * LEVELS.scale), kin=kind == "lineage"
        )
        found = called(values, split_with_reference(histogram, reference, baseline=LEVELS))
        if not truth.any():
            none.append(float(found.mean()))
            continue
        alone = called(values, split_marker(histogram, baseline=LEVELS, expected=True))
        best = max(f1(values > cut, truth) for cut in np.quantile(values, np.linspace(0.5, 1, 200)))
        if truth.sum() >= 30 and best >= 0.6:
            top = values > np.quantile(values[known], 0.99)
            rows.append((f1(found, truth), f1(alone, truth), f1(top, truth), best))
    names = ("f1", "f1_valley_alone", "f1_99_percent_of_negatives", "f1_best_possible")
    result = {
        name: round(float(mean), 4) for name, mean in zip(names, np.mean(rows, axis=0), strict=True)
    }
    return {**result, "called_where_none": round(float(np.mean(none)), 4), "markers": len(rows)}


def scan(seeds: range) -> list[dict[str, object]]:
    """Rates with one setting of `numerics.references` changed at a time."""
    rows: list[dict[str, object]] = []
    for setting, values in SETTINGS.items():
        for value in values:
            with mock.patch.object(references, setting, value):
                found = {kind: rates(seeds, kind) for kind in OFFSETS}
            rows.append({"setting": setting, "value": value} | {
                f"{kind}, {name}": found[kind][name] for kind in OFFSETS for name in ("f1", "called_where_none")
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--scan", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result: dict[str, object] = {"date": datetime.now(UTC).date().isoformat()}
    result |= {kind: rates(range(options.seeds), kind) for kind in OFFSETS}
    print(json.dumps(result, indent=2), flush=True)
    if options.scan:
        result["scan"] = scan(range(5000, 5000 + options.seeds))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
