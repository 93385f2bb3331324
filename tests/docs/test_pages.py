"""Pages and README: everything a reader could copy runs, and nothing that exists is left out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cytoclust as cc
from cytoclust import schema

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if not {"_build", "generated"} & set(path.relative_to(DOCS).parts)
)
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_every_code_block_of_a_page_runs_when_it_is_built(path: Path) -> None:
    text = path.read_text()
    for language in ("python", "bash", "sh", "console", "ipython"):
        assert not blocks(text, language), f"{path} shows {language} that nothing runs"
    if "{code-cell}" in text:
        head = text.split("---")[1]
        assert re.search(r"kernelspec:\n  name: python3", head), f"{path} would not be executed"


def test_every_page_is_reached() -> None:
    entries = [
        line.strip()
        for path in PAGES
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", path.read_text(), re.DOTALL)
        for line in tree.splitlines()
    ]
    names = {entry.rpartition("/")[2] for entry in entries}
    for path in PAGES:
        if path.name != "index.md":
            assert path.stem in names, f"{path} is in no toctree"


def test_the_generated_pages_name_everything() -> None:
    sys.path.insert(0, str(DOCS / "extensions"))
    try:
        import reference
    finally:
        sys.path.pop(0)
    assert set(reference.ROOMS) == set(cc.__all__)
    for room in reference.ROOMS:
        page = reference.room_page(room)
        for name in getattr(cc, room).__all__:
            assert re.search(rf"^   {room}\.{name}$", page, re.MULTILINE), name
    slots = reference.slots_page()
    for slot in schema.SLOTS:
        assert f'["{slot.key}"]' in slots
    commands = reference.command_line_page()
    for command in ("demo", "design", "inspect", "run"):
        assert f"## `cytoclust {command}`" in commands
    assert "`--treatment`" in commands
    assert "Treg" in reference.phenotypes_page()
    assert all(reference.measured()["accuracy"].values())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cc.simulate.study(
        tmp_path_factory.mktemp("study"), n_patients=4, events_per_sample=(200, 300), rng=11
    )


@pytest.mark.slow
def test_the_readmes_python_runs(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = blocks(README, "python")
    assert len(text.strip().splitlines()) <= 16, "a 15-line example"
    monkeypatch.chdir(study)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text], check=True, timeout=300, capture_output=True
    )
    assert (study / "results" / "report.html").is_file()


@pytest.mark.slow
def test_the_readmes_commands_run(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [
        text for text in blocks(README, "bash") if "cytoclust run" in text and "venv" not in text
    ]
    assert commands, "README.md shows how to run an own study"
    monkeypatch.chdir(study)
    here = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", f"{here}:/usr/bin:/bin")
    for text in commands:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text.replace("--out results", "--out by_command")],
            check=False,
            timeout=300,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert (study / "by_command" / "report.html").is_file()


def test_the_picture_is_light() -> None:
    picture = DOCS / "_static" / "overview.png"
    assert "docs/_static/overview.png" in README
    assert picture.stat().st_size < 300_000
