"""Tables and a figure of scaling, written from the JSON of a suite run.

python benchmarks/suite_report.py benchmarks/results/suite_regular.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SHOWN = ("seconds", "ratio", "cpu_seconds", "peak_mb", "added_mb", "recall", "modularity", "disconnected", "clusters",
         "adjusted_rand", "mean_f1", "rare_f1", "preservation")  # fmt: skip


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add how many times as long each piece takes as cytoclust's first of the same comparison."""
    out = []
    for row in rows:
        own = next(
            (r for r in rows if "cytoclust" in r["piece"] and "seconds" in r
             and (r["comparison"], r["events"]) == (row["comparison"], row["events"])),
            None,
        )  # fmt: skip
        ratio = None
        if own is not None and own is not row and "seconds" in row:
            ratio = round(row["seconds"] / own["seconds"], 2)
        out.append(row | {"ratio": ratio})
    return out


def table(rows: list[dict[str, Any]]) -> list[str]:
    columns = [name for name in SHOWN if any(row.get(name) is not None for row in rows)]
    lines = ["| piece | events x channels | " + " | ".join(columns) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for row in rows:
        stopped = ", stopped" if row.get("stopped") else ""
        cells = [row["piece"].replace("_", " ") + stopped, f"{row['events']:,} x {row['channels']}"]
        cells += ["" if row.get(name) is None else f"{row[name]:,}" for name in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def arcsinh_lines(row: dict[str, Any]) -> list[str]:
    speeds = row["million_values_per_second"]
    lines = [f"| {row['events']:,} x {row['channels']} | million values per second |", "|---|---|"]
    lines += [f"| {name} | {speed:,} |" for name, speed in speeds.items()]
    lines.append(f"\narcsinh to NumPy: {row['arcsinh_to_numpy']}; fused to two steps: "
                 f"{row['fused_to_two_steps']}; largest relative error "
                 f"{row['largest_relative_error']:.1e}.")  # fmt: skip
    return lines


def decode_lines(row: dict[str, Any]) -> list[str]:
    lines = [f"| {row['events']:,} x {row['channels']} | seconds |", "|---|---|"]
    return lines + [f"| {name} | {cost['seconds']:.3f} |" for name, cost in row["readers"].items()]


def gated_lines(gated: dict[str, Any]) -> list[str]:
    lines = ["", "## Gated real sets", "", "| set | exact | sketched |", "|---|---|---|"]
    return lines + [f"| {n} | {m.get('exact')} | {m.get('sketched')} |" for n, m in gated.items()]


def write_tables(result: dict[str, Any], path: Path) -> None:
    rows = with_ratios([row for row in result["rows"] if "failed" not in row])
    versions = {key: value for row in rows for key, value in row["versions"].items()}
    lines = [
        f"# Suite `{result['size']}`, {result['date']}",
        "",
        (
            f"{result['processors']} processors; {result['seconds']} s in all; "
            + ", ".join(f"{name} {version}" for name, version in versions.items())
            + ". Seconds are wall clock with compiled code warm; `ratio` is to cytoclust's first piece "
            "of the comparison; `peak_mb` is of the whole process, `added_mb` what the work added."
        ),
    ]
    busy = max((row["load_before"] for row in rows), default=0.0)
    if busy > 0.7 * result["processors"]:
        shared = "The machine was shared (load up to {}): read `cpu_seconds`, too; pieces run one after another."
        lines += ["", shared.format(busy)]
    for name in dict.fromkeys(row["comparison"] for row in rows):
        own = [row for row in rows if row["comparison"] == name]
        lines += ["", f"## {name}", ""]
        if name == "arcsinh":
            lines += [line for row in own for line in [*arcsinh_lines(row), ""]]
        elif name == "decode":
            lines += [line for row in own for line in [*decode_lines(row), ""]]
        else:
            lines += table(own)
    lines += gated_lines(result["gated"]) if "gated" in result else []
    path.write_text("\n".join(lines).rstrip() + "\n")


def draw(result: dict[str, Any], path: Path) -> None:
    """Seconds and peak memory over events, log axes, one panel a comparison."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in result["rows"] if "seconds" in row and "peak_mb" in row]
    rows = [row for row in rows if "run_events" not in row]  # a study of its own size
    names = list(dict.fromkeys(row["comparison"] for row in rows))
    if not names:
        return
    figure, axes = plt.subplots(2, len(names), figsize=(3.2 * len(names), 6), squeeze=False)
    for column, name in enumerate(names):
        own = [row for row in rows if row["comparison"] == name]
        for piece in dict.fromkeys(row["piece"] for row in own):
            points = sorted(
                (r["events"], r["seconds"], r["peak_mb"]) for r in own if r["piece"] == piece
            )
            n, seconds, memory = zip(*points, strict=True)
            style = {"marker": "o", "label": piece.split("_", 1)[1].replace("_", " ")}
            style["linewidth"] = 2.5 if "cytoclust" in piece else 1.2
            axes[0, column].plot(n, seconds, **style)
            axes[1, column].plot(n, memory, **style)
        axes[0, column].set_title(name)
        axes[0, column].legend(fontsize=7)
        for axis, label in zip(axes[:, column], ("seconds", "peak memory (MB)"), strict=True):
            axis.set(xscale="log", yscale="log", xlabel="events", ylabel=label)
            axis.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_report(path: Path) -> None:
    result = json.loads(path.read_text())
    write_tables(result, path.with_suffix(".md"))
    draw(result, path.with_suffix(".png"))


if __name__ == "__main__":
    write_report(Path(sys.argv[1]))
