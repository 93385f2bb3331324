"""Fixtures of the figures' tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

    from anndata import AnnData

spec = importlib.util.spec_from_file_location("synthetic", Path(__file__).with_name("synthetic.py"))
assert spec is not None
assert spec.loader is not None
synthetic: ModuleType = importlib.util.module_from_spec(spec)
spec.loader.exec_module(synthetic)


@pytest.fixture(scope="session")
def finished_study() -> AnnData:
    return synthetic.analysed_study()


@pytest.fixture
def study(finished_study: AnnData) -> AnnData:
    """Return an analysed study of its own for each test."""
    return finished_study.copy()
