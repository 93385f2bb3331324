"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_folder() -> Path | None:
    """Return the folder of shared corpora, if it is there."""
    folder = Path(os.environ.get("CYTOCLUST_SHARED", ROOT.parent / "shared"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of shared corpora; the test is skipped where it is absent."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("shared corpora not found; set CYTOCLUST_SHARED to their folder")
    return folder
