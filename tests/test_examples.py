"""The example scripts and the benchmark of whole runs, as a user starts them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def start(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    assert start(str(path))


@pytest.mark.slow
def test_accuracy_benchmark_smoke(tmp_path: Path) -> None:
    result = tmp_path / "accuracy.json"
    shown = start("benchmarks/accuracy.py", "--seeds", "1", "--patients", "3", "--out", str(result))
    assert "adjusted_rand_mean" in shown
    assert result.is_file()
