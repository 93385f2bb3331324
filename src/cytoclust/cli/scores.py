"""What a demo prints: planted and found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from cytoclust.cli.shell import console

if TYPE_CHECKING:
    from cytoclust.demo import Score


def show_score(found: Score) -> None:
    """Print what was found against what was planted."""
    effects = found.effects[found.effects["planted"].abs() >= 1]
    title = "Planted changes of two-fold or more (log2), and what was found"
    table = Table(title=title, box=box.SIMPLE, pad_edge=False)
    for column in ("population", "where", "contrast", "planted", "found (95 %)", "FDR", "verdict"):
        table.add_column(column, no_wrap=column == "population")
    for row in effects.to_dict("records"):
        interval = f"{row['log2_fold_change']:+.2f} ({row['ci_low']:+.2f} to {row['ci_high']:+.2f})"
        missed = "missed" if row["power"] >= 0.9 else "missed (weak)"
        table.add_row(
            str(row["population"]),
            str(row["compartment"]),
            str(row["contrast"]),
            f"{row['planted']:+.2f}",
            interval,
            f"{row['fdr']:.2g}",
            "found" if row["found"] else missed,
        )
    if len(effects):
        console.print(table)
        console.print(
            "weak: with these samples such a change is detected in less than 90 % of studies"
        )
    false = int((~found.findings["true"]).sum())
    console.print(
        f"Planted changes of 2-fold or more found: {int(effects['found'].sum())} of {len(effects)}"
    )
    console.print(f"Findings at FDR 5 %: {len(found.findings)}, of which not planted: {false}")
    console.print(f"Adjusted Rand index of phenotypes: {found.adjusted_rand:.3f}")
    good = int((found.populations["f1"] >= 0.8).sum())
    console.print(
        f"Populations with F1 of 0.8 or more, by name: {good} of {len(found.populations)}"
    )
    for name, f1 in found.lineages["f1"].items():
        console.print(f"  lineage {name}: F1 {f1:.3f}")
    console.print(
        f"Good cells excluded by quality control: {100 * found.good_cells_excluded:.1f} %"
    )


def score_facts(found: Score) -> dict[str, object]:
    """Return the score for scripts."""
    effects = found.effects[found.effects["planted"].abs() >= 1]
    return {
        "planted_two_fold": len(effects),
        "planted_two_fold_found": int(effects["found"].sum()),
        "findings": len(found.findings),
        "findings_not_planted": int((~found.findings["true"]).sum()),
        "adjusted_rand": found.adjusted_rand,
        "populations": len(found.populations),
        "populations_f1_0.8": int((found.populations["f1"] >= 0.8).sum()),
        "lineage_f1": {str(name): float(f1) for name, f1 in found.lineages["f1"].items()},
        "good_cells_excluded": found.good_cells_excluded,
    }
