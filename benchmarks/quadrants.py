"""Where two markers divide siblings into four each: one cut for all, or one for each side; simulated.

    python benchmarks/quadrants.py [--seeds 40] [--scan] [--figure PATH] [--out PATH]

Two sibling populations (as CD4 and CD8 T cells) are divided by two markers (as CCR7 and CD45RA) into
naive, central memory, effector memory and TEMRA cells. Drawn at random for each panel: shares (the
second sibling has few central memory and many TEMRA cells), how bright the first marker is on central
memory cells (0.3 to 1 of naive cells, linear), how far one sibling's background lies above the other's,
a part of the memory cells between the second marker's levels, distances, spread, number of events and
shape of the groups. Scored: mean F1 of the eight populations,
called by cuts alone, with cuts of

- each sibling by itself,
- each sibling, informed by both together (`Reference.wider`),
- each sibling on each side of the other marker, where it has a clear dent (`numerics.quadrants`).

The scan varies how deep that dent must be, and how strongly the wider population's cut binds.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np

from cytoclust.numerics import mixtures, quadrants
from cytoclust.numerics.mixtures import Baseline, Split, count_values
from cytoclust.numerics.quadrants import split_sides
from cytoclust.numerics.references import Reference, split_with_reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = ("naive", "CM", "EM", "TEMRA")
FIRST, SECOND = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 1])  # CCR7 and CD45RA by population
SHARES = ((8, 7, 4, 1), (8, 2, 5, 5))  # concentration of the Dirichlet distribution, by sibling
RESULTS = Path(__file__).parent / "results" / "quadrants.json"


def draw_panel(seed: int) -> list[dict[str, NDArray[np.float64]]]:
    """Values of both markers and the population of each event, for two siblings."""
    rng = np.random.default_rng([seed, 7])
    noise = rng.choice(["normal", "skewed", "heavy"])
    bright = rng.uniform(4.0, 12.0, 2)  # distance of naive cells from the background, in its spread
    dimmer = np.log(rng.uniform(0.2, 1.0)) / 0.4  # of CM; one spread is 0.4 natural log units
    wider = rng.uniform(1.0, 2.5)  # CM and EM are gradients
    panel = []
    for alpha in SHARES:
        n_events = int(np.exp(rng.uniform(np.log(1_000), np.log(60_000))))
        shares = rng.dirichlet(np.array(alpha) * 2.0)
        which = rng.choice(4, n_events, p=shares)
        offset = rng.normal(0, 0.08, 2) * bright
        first = FIRST[which] * bright[0] + (which == 1) * max(dimmer, 2.0 - bright[0])
        second = SECOND[which] * bright[1] - (which == 3) * rng.uniform(0, 0.6)
        # memory cells on their way: CD45RA of some, CCR7 of some TEMRA, is between the levels
        between = rng.random(n_events) < rng.uniform(0, 0.4)
        second += (SECOND[which] == 0) * between * rng.uniform(0.3, 0.6) * bright[1]
        first += (which == 3) * between * rng.uniform(0.2, 0.5) * bright[0]
        spread = np.where((which == 1) | (which == 2), wider, 1.0)
        panel.append(
            {
                "first": first + offset[0] + draw_noise(rng, n_events, noise) * spread,
                "second": second + offset[1] + draw_noise(rng, n_events, noise) * spread,
                "truth": which,
                "bright": bright,
            }
        )
    return panel


def draw_noise(rng: np.random.Generator, n_events: int, kind: str) -> NDArray[np.float64]:
    values = rng.normal(size=n_events)
    if kind == "skewed":
        return (np.exp(0.3 * values) - np.exp(0.045)) / 0.32
    if kind == "heavy":
        return rng.standard_t(6, n_events) / np.sqrt(1.5)
    return values


def cut_of(split: Split) -> float:
    """Cut of a split; a marker without two groups has all events on one side."""
    if split.informative:
        return split.cut
    return -np.inf if split.status == "all_positive" else np.inf


def calls(sibling: dict[str, NDArray[np.float64]], splits: dict[str, Split], *, sided: bool,
          baselines: dict[str, Baseline]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:  # fmt: skip
    """Positive calls of both markers."""
    pooled = {m: sibling[m] > cut_of(splits[m]) for m in splits}
    if not sided:
        return pooled["first"], pooled["second"]
    found = {}
    for marker, other in (("first", "second"), ("second", "first")):
        found[marker] = pooled[marker]
        if splits[marker].informative and splits[other].informative:
            sides = split_sides(
                sibling[marker], pooled[other], pooled=splits[marker], reference=Reference(),
                baseline=baselines[marker],
            )  # fmt: skip
            cuts = np.where(pooled[other], cut_of(sides[1]), cut_of(sides[0]))
            found[marker] = sibling[marker] > cuts
    return found["first"], found["second"]


def f1_scores(truth: NDArray[np.int64], first: NDArray[np.bool_], second: NDArray[np.bool_]) -> list[float]:  # fmt: skip
    scores = []
    for k in range(4):
        mine, hit = truth == k, (first == FIRST[k]) & (second == SECOND[k])
        if mine.sum() >= 20:
            scores.append(2 * float((mine & hit).sum()) / float(mine.sum() + hit.sum()))
        else:
            scores.append(np.nan)
    return scores


def score_panel(seed: int) -> dict[str, list[list[float]]]:
    """F1 of each population of each sibling under each way to cut, and for the best single cuts."""
    panel = draw_panel(seed)
    # two clear markers would tell the panel's levels: here the levels that the panel was drawn with
    baselines = {m: Baseline(0.0, float(panel[0]["bright"][j])) for j, m in enumerate(("first", "second"))}  # fmt: skip
    both = {
        m: mixtures.split_marker(count_values(np.concatenate([s[m] for s in panel])), baseline=b)
        for m, b in baselines.items()
    }
    found: dict[str, list[list[float]]] = {}
    for sibling in panel:
        alone, informed = {}, {}
        for marker, baseline in baselines.items():
            histogram = count_values(sibling[marker])
            alone[marker] = split_with_reference(histogram, Reference(), baseline=baseline)
            wider = both[marker] if both[marker].informative else None
            reference = Reference(
                negative=wider.low if wider else None,
                positive=wider.high.mean if wider else np.nan,
                wider=wider,
            )
            informed[marker] = split_with_reference(histogram, reference, baseline=baseline)
        shared = {m: s if s.informative else alone[m] for m, s in both.items()}
        truth = sibling["truth"].astype(int)
        for way, splits, sided in (
            ("one cut for both siblings", shared, False),
            ("each sibling alone", alone, False),
            ("informed by both", informed, False),
            ("informed, each side", informed, True),
        ):
            first, second = calls(sibling, splits, sided=sided, baselines=baselines)
            found.setdefault(way, []).append(f1_scores(truth, first, second))
    return found


def rates(seeds: range) -> dict[str, dict[str, float]]:
    """Mean F1 of each way: all populations, and by population of the second sibling."""
    parts: dict[str, list[list[list[float]]]] = {}
    for seed in seeds:
        for way, scores in score_panel(seed).items():
            parts.setdefault(way, []).append(scores)
    result = {}
    for way, scores in parts.items():
        values = np.array(scores)
        row = {
            "mean_f1": float(np.nanmean(values)),
            "lowest_tenth": float(np.nanquantile(values, 0.1)),
        }
        for s, sibling in enumerate(("first", "second")):
            for k, name in enumerate(NAMES):
                row[f"{name}, {sibling} sibling"] = float(np.nanmean(values[:, s, k]))
        result[way] = {key: round(value, 4) for key, value in row.items()}
    return result


SETTINGS: dict[str, tuple[object, str, tuple[float, ...]]] = {
    "quadrants.CLEAR_GAP": (quadrants, "CLEAR_GAP", (0.1, 0.25, 0.5, 1.0, 2.0, 99.0)),
    "quadrants.CLEAR_SHARE": (quadrants, "CLEAR_SHARE", (0.01, 0.02, 0.05, 0.1)),
    "mixtures.PRIOR_WIDTH": (mixtures, "PRIOR_WIDTH", (0.1, 0.15, 0.25, 0.4, 1.0)),
    "mixtures.WIDE_STEP": (mixtures, "WIDE_STEP", (0.3, 0.4, 0.5, 0.6, 0.8, 99.0)),
}


def scan(seeds: range) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for setting, (module, name, values) in SETTINGS.items():
        for value in values:
            with mock.patch.object(module, name, value):
                found = rates(seeds)
            rows.append(
                {
                    "setting": setting,
                    "value": value,
                    **{way: r["mean_f1"] for way, r in found.items()},
                }
            )
            print(rows[-1], flush=True)
    return rows


def draw_scan(rows: list[dict[str, object]], path: Path) -> None:
    """Mean F1 of each way to cut over the values of each setting."""
    import matplotlib.pyplot as plt
    import pandas as pd

    table = pd.DataFrame(rows)
    figure, axes = plt.subplots(1, table["setting"].nunique(), figsize=(13, 3.4), sharey=True)
    for ax, (setting, part) in zip(axes, table.groupby("setting", sort=False), strict=True):
        labels = [f"{value:g}" for value in part["value"]]
        for way in part.columns[2:]:
            ax.plot(labels, part[way], marker="o", markersize=3, label=way)
        ax.set_xlabel(str(setting))
    axes[0].set_ylabel("mean F1, 8 populations")
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--scan", action="store_true")
    parser.add_argument("--figure", type=Path, help="draw the scan here")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result: dict[str, object] = {
        "date": datetime.now(UTC).date().isoformat(),
        "rates": rates(range(options.seeds)),
    }
    print(json.dumps(result["rates"], indent=2))
    if options.scan:
        result["scan"] = scan(range(1000, 1000 + options.seeds))
        if options.figure:
            draw_scan(result["scan"], options.figure)
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
