"""The house rules that tools do not check: layers, API conventions, sizes, declared slots."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cytoclust as cc
from cytoclust import schema

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(cc.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
ROOMS = ("io", "pp", "tl", "pl", "get", "simulate", "report", "pipeline")
FIRST = {  # what a verb works on comes first: events, a path, or a table of results
    "io": {"adata", "path", "samples", "store"}, "pp": {"adata"}, "get": {"data"}, "report": {"adata"},
    "tl": {"adata", "data", "result", "samples"}, "pl": {"adata", "calls", "data", "plot", "result", "table"},
    "simulate": {"folder"}, "pipeline": {"adata", "folder", "samples"},
}  # fmt: skip
LAYER = {
    "errors": 0, "schema": 0, "progress": 0, "checks": 1, "numerics": 1, "markers": 1, "tasks": 2, "chunks": 3,
    "event_arrays": 4, "get": 5, "io": 6, "pp": 6, "tl": 6, "pl": 6, "definitions": 6, "slots": 7, "simulate": 8,
    "report": 8, "checkpoints": 8, "outputs": 8, "pipeline": 9, "demo": 10, "cli": 11,
}  # fmt: skip


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "cytoclust" else None


def imports_of(path: Path) -> set[str]:
    """Modules named in the import statements of a file, those for type checkers left out."""
    tree = ast.parse(path.read_text())
    guarded = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for module in imports_of(path):
        other = room_of(module)
        if other in LAYER and other != room:
            assert LAYER[other] < LAYER[room], f"{path} imports {module}"
        if module.split(".")[0] == "numba":
            assert room == "numerics", f"{path} imports numba"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400, f"{path} is longer than 400 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.body:
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1
            assert length <= 80, f"{path}: {node.name} has {length} lines"


def public_callables() -> list[tuple[str, object]]:
    found = []
    for room in ROOMS:
        module = importlib.import_module(f"cytoclust.{room}")
        assert list(module.__all__) == sorted(module.__all__), f"{room}.__all__ is not sorted"
        found += [(f"{room}.{name}", getattr(module, name)) for name in module.__all__]
    return [(name, thing) for name, thing in found if inspect.isfunction(thing)]


@pytest.mark.parametrize(
    ("name", "function"), public_callables(), ids=lambda value: str(value)[:60]
)
def test_api_conventions(name: str, function: object) -> None:
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert len(positional) <= 3, f"{name} takes {len(positional)} positional parameters"
    assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters), name
    assert parameters[0].name in FIRST[name.split(".", maxsplit=1)[0]], (
        f"{name} starts with {parameters[0].name}"
    )
    unannotated = [p.name for p in parameters if p.annotation is inspect.Parameter.empty]
    assert not unannotated, f"{name} does not say what {unannotated} are"
    for parameter in parameters:
        if parameter.name == "copy":
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, name
            assert parameter.default is False, name
    assert inspect.getdoc(function), f"{name} has no docstring"


def test_face() -> None:
    assert cc.__all__ == sorted(cc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cc.nothing
    assert set(cc.__all__) <= set(dir(cc))


def test_import_is_light() -> None:
    heavy = "umap pynndescent matplotlib igraph leidenalg scanpy numba"
    code = (
        "import sys, time; start = time.perf_counter(); import cytoclust; "
        "seconds = time.perf_counter() - start; "
        f"found = [m for m in '{heavy}'.split() if m in sys.modules]; "
        "assert not found, found; assert seconds < 1, seconds"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_rooms_do_not_load_heavy_packages() -> None:
    heavy = "umap pynndescent matplotlib igraph leidenalg scanpy"
    code = (
        "import sys, cytoclust as cc; "
        f"[getattr(cc, room) for room in {ROOMS!r}]; "
        f"found = [m for m in '{heavy}'.split() if m in sys.modules]; assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_slots_are_declared_once() -> None:
    places = [(slot.place, slot.key) for slot in schema.SLOTS]
    assert len(places) == len(set(places))
    assert {key for place, key in places if place == "obs"} >= set(schema.QC_FLAGS)


def writers(slot: schema.Slot) -> list[tuple[str, Callable[..., object]]]:
    """The public verbs that a slot's declaration names; ``pp.flag_*`` stands for all of them."""
    found = []
    for pattern in slot.writer.split(","):
        room, _, name = pattern.strip().partition(".")
        module = importlib.import_module(f"cytoclust.{room}")
        verbs = fnmatch.filter(module.__all__, name)
        assert verbs, f"{pattern.strip()} writes {slot.key}, but there is no such verb"
        found += [(f"{room}.{verb}", getattr(module, verb)) for verb in verbs]
    return found


@pytest.mark.parametrize(
    "slot",
    [slot for slot in schema.SLOTS if slot.writer != "every verb"],
    ids=lambda slot: f"{slot.place}-{slot.key}",
)
def test_the_writer_of_a_slot_names_it_in_returns(slot: schema.Slot) -> None:
    fixed = re.sub(r"<\w+>", "", slot.key)  # phenotype_<facet>: one slot for each facet
    for name, verb in writers(slot):
        returns = (inspect.getdoc(verb) or "").partition("\nReturns\n")[2]
        returns = returns.partition("\nRaises\n")[0]
        keys = [
            p.name for p in inspect.signature(verb).parameters.values() if p.default == slot.key
        ]
        assert any(key in returns for key in (fixed, *keys)), (
            f"{name} does not say it writes {slot.key}"
        )


def test_slots_are_used_through_the_schema() -> None:
    """No literal key of a slot of our own in an index; scanpy's names stand in the schema as well."""
    keys = {
        slot.key for slot in schema.SLOTS if slot.key.startswith(("qc_", "phenotype", "X_umap"))
    }
    for path in FILES:
        if path.name == "schema.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                holder = getattr(node.value, "attr", "")
                if holder in {"obs", "var", "obsm", "obsp", "uns", "layers"}:
                    assert node.slice.value not in keys, f"{path}:{node.lineno} {node.slice.value}"


def test_no_print_and_no_bare_exception() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = getattr(node.exc.func, "id", "")
                assert name not in {"Exception", "BaseException"}, path
            if isinstance(node, ast.Call):
                assert getattr(node.func, "id", "") != "print", path
