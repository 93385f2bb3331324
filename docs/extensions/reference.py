"""Pages that are written from the code itself, so that the two cannot disagree.

`write_pages` fills ``docs/generated``: one page per room of the API, the slots of the AnnData, the
command line, the phenotype definitions, and the measured results of ``benchmarks/results``.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer.main

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import click
    from sphinx.application import Sphinx
    from sphinx.config import Config

HERE = Path(__file__).resolve().parents[1]
GENERATED = HERE / "generated"
RESULTS = HERE.parent / "benchmarks" / "results"
ROOMS = ("io", "pp", "tl", "pl", "get", "report", "pipeline", "simulate", "errors")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx: pages are written before it looks for them."""
    app.connect("config-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(app: Sphinx, config: Config) -> None:
    """Write every generated page; a page that did not change is left alone."""
    pages = {f"{room}.md": room_page(room) for room in ROOMS}
    pages |= {
        "slots.md": slots_page(),
        "command_line.md": command_line_page(),
        "phenotypes.md": phenotypes_page(),
        "results.md": results_page(),
    }
    GENERATED.mkdir(exist_ok=True)
    for old in GENERATED.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = GENERATED / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a Markdown table."""
    lines = [[cell(name) for name in header], ["---"] * len(header)]
    lines += [[cell(value) for value in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value: object) -> str:
    """Write one cell: on one line, its bars escaped."""
    return " ".join(str(value).split()).replace("|", "\\|")


def room_page(room: str) -> str:
    """List what a room offers; autosummary makes a page for each name."""
    module = importlib.import_module(f"cytoclust.{room}")
    names = "\n".join(f"   {room}.{name}" for name in module.__all__)
    return (
        f"# `cc.{room}`\n\n{inspect.getdoc(module)}\n\n"
        f"```{{eval-rst}}\n.. currentmodule:: cytoclust\n\n.. autosummary::\n"
        f"   :toctree: ../api/generated\n   :nosignatures:\n\n{names}\n```\n"
    )


def slots_page() -> str:
    """List every slot that `cytoclust.schema` declares."""
    from cytoclust import schema

    def address(slot: schema.Slot) -> str:
        return slot.place if slot.place == "X" else f'{slot.place}["{slot.key}"]'

    rows = [
        (f"`{address(slot)}`", slot.dtype, slot.meaning, writers(slot.writer))
        for slot in schema.SLOTS
    ]
    return (
        "# Slots of the AnnData\n\n"
        "Everything meets in the AnnData and nowhere else. Names are those of scanpy where scanpy has"
        " one, so that its functions and squidpy's work on the same object. `X` holds the analysis"
        " values: float32, C order, as acquired after `io.read_study`, changed in place by"
        " `pp.compensate` and `pp.arcsinh`.\n\n"
        + table(("slot", "dtype", "meaning", "written by"), rows)
        + '\n\nEach step keeps its account under `uns["cytoclust"][step]`: `params`, `version` and the'
        " tables that its *Returns* section lists. All of it survives h5ad and zarr.\n"
    )


def writers(text: str) -> str:
    """Link the verbs that write a slot."""
    names = [name.strip() for name in text.split(",")]
    return ", ".join(
        f"{{py:obj}}`~cytoclust.{name}`" if "*" not in name and "." in name else f"`{name}`"
        for name in names
    )


def command_line_page() -> str:
    """Describe every command and option of the command line."""
    from cytoclust.cli import app

    group: Any = typer.main.get_command(app)
    head = (
        f"# Command line\n\n{group.help}\n\n{group.epilog or ''}\n\n"
        "An error is one paragraph on standard error: what was expected, what was found and what to do;"
        " `--debug` shows the traceback.\n"
    )
    return "\n".join(
        [head, *(command_text(name, command) for name, command in group.commands.items())]
    )


def command_text(name: str, command: click.Command) -> str:
    """Describe one command: its arguments and options as a table."""
    usage, rows = [f"cytoclust {name}"], []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            usage.append((parameter.name or "").upper() + ("..." if parameter.nargs != 1 else ""))
            shown = f"`{(parameter.name or '').upper()}`"
        else:
            shown = ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))
            if parameter.required:
                usage.append(f"{parameter.opts[0]} {(parameter.name or '').upper()}")
        if getattr(parameter, "hidden", False):
            continue
        rows.append((shown, default_text(parameter), getattr(parameter, "help", "") or ""))
    # a console block, not a code cell: usage with placeholders cannot run
    return (
        f"## `cytoclust {name}`\n\n{inspect.cleandoc(command.help or '')}\n\n"
        f"```text\n{' '.join(usage)} [OPTIONS]\n```\n\n"
        + table(("option", "default", "meaning"), rows)
        + "\n"
    )


def default_text(parameter: click.Parameter) -> str:
    """Say what is taken where nothing is given."""
    if parameter.required:
        return "required"
    default = parameter.default
    if default in (None, "", ()) or callable(default):
        return ""
    return {True: "on", False: "off"}[default] if isinstance(default, bool) else f"`{default}`"


def phenotypes_page() -> str:
    """List the populations that the shipped definition files know."""
    folder = resources.files("cytoclust") / "definitions"
    head = (
        "# Phenotypes that are known\n\n"
        "Levels: `+` positive, `-` negative, `dim` above the negatives as a group, `hi` and `lo` the"
        " upper and lower group among the events of the parent; `?` binds only where the panel measures the marker. What is asked"
        " for instead where a needed marker is missing stands in the file as `fallback`.\n"
    )
    parts = [head]
    for file in sorted(folder.iterdir(), key=lambda path: path.name):
        content = tomllib.loads(file.read_text()) if file.name.endswith(".toml") else {}
        if "population" not in content:
            continue
        parts.append(definitions_text(content))
    return "\n".join(parts)


def definitions_text(content: dict[str, Any]) -> str:
    """Describe one definition file."""
    rows = []
    for population in content["population"]:
        rule = levels_text(population.get("needed", {}))
        any_of = [levels_text(group) for group in population.get("any", [])]
        rule += f"{', ' if rule and any_of else ''}{' *or* '.join(any_of)}"
        identifier = population.get("cell_ontology", "")
        rows.append((population["name"], population.get("parent", ""), rule, identifier))
    includes = ", ".join(f"`{name}`" for name in content.get("include", []))
    return (
        f"## `{content['name']}`\n\n{content['description']} ({content['species']})."
        + (f" Includes {includes}." if includes else "")
        + "\n\n"
        + table(("population", "parent", "rule", "Cell Ontology"), rows)
        + "\n"
    )


def levels_text(levels: dict[str, str]) -> str:
    """Write marker levels as immunologists do."""
    return " ".join(f"`{marker}{level}`" for marker, level in levels.items())


def results_page() -> str:
    """Gather the dated results that the scripts under benchmarks/ left."""
    head = (
        "# Measured results\n\n"
        "Every figure that these pages quote comes from a script in `benchmarks/` and a dated file in"
        " `benchmarks/results/`. Those files, as they are:\n"
    )
    parts = [head]
    parts += [
        f"## `{path.stem}`\n\n{demoted(path.read_text())}\n"
        for path in sorted(RESULTS.glob("*.md"))
    ]
    names = [path.name for path in sorted(RESULTS.iterdir()) if path.suffix != ".md"]
    if names:
        parts.append("Further files there: " + ", ".join(f"`{name}`" for name in names) + ".\n")
    return "\n".join(parts)


def demoted(text: str) -> str:
    """Make headings bold lines, outside of code; pictures and links to other files stay behind."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", text)
    lines, code = [], False
    for line in text.splitlines():
        code ^= line.startswith("```")
        level = len(line) - len(line.lstrip("#"))
        is_heading = not code and 0 < level < 7 and line[level : level + 1] == " "
        lines.append(f"**{line[level + 1 :]}**" if is_heading else line)
    return "\n".join(lines)


def measured() -> dict[str, dict[str, str]]:
    """Take the figures that the pages quote from the result files."""
    accuracy, null, calibration = (
        json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("accuracy", "accuracy_null", "calibration")
    )
    return {
        "accuracy": accuracy_figures(accuracy, null),
        "calibration": calibration_figures(calibration),
    }


def accuracy_figures(found: dict[str, Any], null: dict[str, Any]) -> dict[str, str]:
    """Write the figures of whole runs as text."""
    pooled = found["pooled"]
    weakest = sorted(pooled["population_f1"].items(), key=lambda item: item[1])[:3]
    return {
        "date": found["date"],
        "n_seeds": str(len(found["per_seed"])),
        "n_patients": str(found["n_patients"]),
        "rand": f"{pooled['adjusted_rand_mean']:.3f}",
        "rand_min": f"{pooled['adjusted_rand_min']:.3f}",
        "populations": str(len(pooled["population_f1"])),
        "populations_good": str(pooled["populations_at_least_0.8"]),
        "weakest": ", ".join(f"{name} {f1:.2f}" for name, f1 in weakest),
        "excluded": percent(pooled["good_cells_excluded"]),
        "found": percent(pooled["detectable_found_share"]),
        "detectable": str(pooled["detectable_planted"]),
        "false": percent(pooled["findings_false_share"]),
        "findings": str(pooled["findings"]),
        "null_p": percent(null["pooled"]["p_below_0.05"]),
        "null_tests": f"{null['pooled']['tests']:,}",
    }


def calibration_figures(found: dict[str, Any]) -> dict[str, str]:
    """Write the figures of the tests' calibration as text."""
    figures = {"date": found["date"], "sets": str(found["sets"])}
    columns = (("PB", "pb"), ("BM", "bm"), ("BM - PB", "int"))
    for prefix, scenario in (
        ("null", "abundance, null"),
        ("hetero", "abundance, hetero_null"),
        ("permuted", "abundance, permuted"),
        ("state", "state, null"),
    ):
        by_place = by_default(found, scenario)
        figures |= {f"{prefix}_{key}": percent(by_place[column]) for column, key in columns}
    bystander, mixed = (by_default(found, f"abundance, {name}") for name in ("bystander", "mixed"))
    uncorrected = found["results"]["abundance, bystander"]["voom, total"]
    shift = by_default(found, "state, shift")
    return figures | {
        "bystander_p": percent(bystander["bystander p < .05"]),
        "bystander_fdr": percent(bystander["bystander FDR < .05"]),
        "uncorrected_p": percent(uncorrected["bystander p < .05"]),
        "uncorrected_fdr": percent(uncorrected["bystander FDR < .05"]),
        "power": percent(mixed["power"]),
        "false_discoveries": percent(mixed["FDR"]),
        "state_power": percent(shift["power"]),
        "state_false": percent(shift["FDR"]),
    }


def by_default(found: dict[str, Any], scenario: str) -> dict[str, float]:
    """Take what the default method reached in a scenario."""
    (name,) = [name for name in found["results"][scenario] if name.endswith("(default)")]
    return found["results"][scenario][name]


def percent(share: float) -> str:
    """Write a share in per cent."""
    return f"{100 * share:.1f} %"
