"""Docstrings of everything public: complete, in numpydoc's form, and with an example."""

from __future__ import annotations

import dataclasses
import importlib
import inspect

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

ROOMS = ("errors", "get", "io", "pipeline", "pl", "pp", "report", "simulate", "tl")
NEEDS_MORE = {  # examples that cannot run here, and why
    "cytoclust.io.read_flowjo_gates": "a workspace of FlowJo, and the optional FlowKit",
}
CHECKS = {"GL08", "PR01", "PR02", "PR03", "RT01", "SS03", "SS05"}


def public_names() -> list[str]:
    rooms = [importlib.import_module(f"cytoclust.{room}") for room in ROOMS]
    return [f"{room.__name__}.{name}" for room in rooms for name in room.__all__]


def public(name: str) -> object:
    room, _, thing = name.rpartition(".")
    return getattr(importlib.import_module(room), thing)


@pytest.mark.parametrize("name", public_names())
def test_docstring_is_complete(name: str) -> None:
    thing = public(name)
    checks = CHECKS
    if dataclasses.is_dataclass(thing):  # results: their fields are read, not passed
        checks = CHECKS - {"PR01"}
        documented = {
            word.strip()
            for entry in NumpyDocString(inspect.getdoc(thing) or "")["Attributes"]
            for word in (entry.name or entry.type).split(",")
        }
        assert documented == {field.name for field in dataclasses.fields(thing)}
    found = [text for code, text in validate(name)["errors"] if code in checks]
    assert not found, found


@pytest.mark.parametrize("name", public_names())
def test_functions_show_a_runnable_example(name: str) -> None:
    thing = public(name)
    if inspect.isfunction(thing):
        text = inspect.getdoc(thing) or ""
        assert ">>> " in text, f"{name} has no example"
        skips = "+SKIP" in text
        assert skips == (name in NEEDS_MORE), f"{name} shows an example that does not run"


@pytest.mark.parametrize("name", public_names())
def test_methods_taken_from_elsewhere_can_be_looked_up(name: str) -> None:
    sections = NumpyDocString(inspect.getdoc(public(name)) or "")
    if sections["References"]:
        text = " ".join(sections["References"])
        assert "doi" in text.lower(), f"{name} cites something that cannot be looked up"
