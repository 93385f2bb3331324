"""Fuzz the FCS reader: broken files are read or refused, without crash, hang or memory bomb.

Files are built with random layouts and keywords, then bytes are changed; real files are changed too
where the shared folder is there. ``--engine atheris`` lets code coverage guide the changes instead
(``pip install atheris``, not part of the extras). A finding is: an exception other than `FcsFormatError`,
an error text without the file's name, more than 5 s of
processor time, or memory beyond 10 times the file plus 64 MB.

Usage: python benchmarks/fuzz_fcs.py [--minutes 30] [--seed 0] [--engine mutation|atheris] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import cytoclust.io
from cytoclust.errors import FcsFormatError, FcsWarning

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
SECONDS, EXTRA_BYTES, LARGEST_SEED = 5.0, 64 * 1024**2, 100_000
VALUES = [
    "", "0", "1", "-1", "2", "3", "9", "16", "63", "64", "65", "1024", "1000", "1024.0", "1e9", "nan", "inf", "*",
    "99999999", "99999999999999999999", "18446744073709551616", "4,1", "4,0", "0,0", "1e308,1", "F", "D", "I", "A",
    "1,2,3,4", "4,3,2,1", "3,4,1,2", "2,1", "1,2", "2,C1,C2,1,0.1,0,1", "3,1,2,3,1,0,0,0,1,0,0,0,1", "999,C1",
    "2,C1,C2,1,1,1,1", "Time", "C1", "a//b", "$TOT", "\x00", "é", " 7 ",
]  # fmt: skip
KEYS = [
    "$TOT", "$PAR", "$BYTEORD", "$DATATYPE", "$MODE", "$NEXTDATA", "$BEGINDATA", "$ENDDATA", "$BEGINSTEXT",
    "$ENDSTEXT", "$P1B", "$P2B", "$P1R", "$P2R", "$P1N", "$P2N", "$P1S", "$P1E", "$P2E", "$P1G", "$P1DATATYPE",
    "$P3B", "$P3N", "$P3R", "$SPILLOVER", "SPILL", "$COMP", "$DFC1TO2", "$DFC9TO1", "$TIMESTEP", "note",
]  # fmt: skip
ORDERS = ["1,2,3,4", "4,3,2,1", "1,2", "2,1", "3,4,1,2", "2,1,4,3", "8,7,6,5,4,3,2,1"]
DELIMITERS = ["/", "|", "\\", "\f", "*", "\x1e", " "]
TOKENS = [value.encode() for value in [*VALUES, *KEYS]] + [
    b"FCS3.1",
    b"FCS2.0",
    b"\xff\xfe",
    b"//",
    b"/",
]


def assembled(
    pairs: dict[str, str],
    data: bytes,
    *,
    delimiter: str = "/",
    version: str = "FCS3.1",
    tail: bytes = b"",
) -> bytes:
    """Return an FCS file whose offsets are right, unless `pairs` say otherwise."""

    def text(begin: int, end: int) -> bytes:
        offsets = {"$BEGINDATA": f"{begin:08}", "$ENDDATA": f"{end:08}"}
        items = [item for pair in (offsets | pairs).items() for item in pair]
        return (delimiter + delimiter.join(items) + delimiter).encode("utf-8", "replace")

    begin = 58 + len(text(0, 0))
    end = begin + len(data) - 1
    offsets = "".join(f"{value:>8}"[:8] for value in (58, begin - 1, begin, end, 0, 0))
    return f"{version:<10}{offsets}".encode() + text(begin, end) + data + tail


def built(rng: random.Random) -> bytes:
    """Build a file of a random layout, with a few keywords set to odd values."""
    kind = rng.choice("IIFDA")
    n_channels, n_events = rng.randint(1, 6), rng.choice([0, 1, 2, 7, 40])
    widths = {"F": [32], "D": [64], "A": [1, 3, 5], "I": [8, 16, 16, 24, 32, 10, 12, 64, 63, 1]}[
        kind
    ]
    bits = [rng.choice(widths)] * n_channels
    if rng.random() < 0.4:
        bits = [rng.choice(widths) for _ in bits]
    pairs = {
        "$PAR": str(n_channels),
        "$TOT": str(n_events),
        "$DATATYPE": kind,
        "$MODE": "L",
        "$NEXTDATA": "0",
    }
    pairs["$BYTEORD"] = rng.choice(ORDERS)
    for number, width in enumerate(bits, start=1):
        pairs[f"$P{number}B"] = str(width)
        pairs[f"$P{number}N"] = rng.choice(["C", "Time", "FSC-"]) + str(number)
        pairs[f"$P{number}R"] = rng.choice([str(1 << width), "1024", "1000"])
        pairs[f"$P{number}E"] = rng.choice(["0,0", "4,1", "4,0"])
    if kind == "A":
        free = rng.random() < 0.5
        pairs |= {f"$P{number}B": "*" for number in range(1, n_channels + 1)} if free else {}
        data = b"".join(
            (b"%d " % rng.randint(0, 99999))
            if free
            else str(rng.randint(0, 9)).encode().rjust(width)
            for _ in range(n_events)
            for width in bits
        )
    else:
        data = rng.randbytes((n_events * sum(bits) + 7) // 8)
    for _ in range(rng.choice([0, 0, 1, 1, 2, 4])):
        pairs[rng.choice(KEYS)] = rng.choice(VALUES)
    if rng.random() < 0.1:
        pairs.pop(rng.choice(list(pairs)))
    tail = rng.choice([b"", b"00000000", b"\0" * 30])
    made = assembled(
        pairs,
        data,
        delimiter=rng.choice(DELIMITERS),
        version=rng.choice(["FCS2.0", "FCS3.0", "FCS3.2"]),
        tail=tail,
    )
    if rng.random() < 0.1:
        pairs["$NEXTDATA"] = str(len(made) + rng.choice([0, 0, 0, -1, 14]))
        made = assembled(pairs, data, tail=tail) + made
    return made


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Change bytes: most of them in HEADER and TEXT."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        limit = min(len(out), 1500) if rng.random() < 0.8 else len(out)
        place = rng.randrange(max(1, limit))
        token = rng.choice(TOKENS)
        match rng.randrange(6):
            case 0:
                out[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                out[place : place + len(token)] = token
            case 2:
                out[place:place] = token
            case 3:
                del out[place : place + rng.randint(1, 60)]
            case 4:
                del out[place + rng.randrange(2000) :]
            case _:
                other = rng.randrange(max(1, len(out)))
                out[place:place] = out[other : other + rng.randint(1, 200)]
    return bytes(out)


def finding(
    path: Path, content: bytes, *, every_reader: bool, io: ModuleType = cytoclust.io
) -> tuple[bool, str]:
    """Read one input in every way; return whether it could be read, and what is wrong."""
    path.write_bytes(content)
    tracemalloc.reset_peak()
    before, began = tracemalloc.get_traced_memory()[0], time.process_time()
    readable, wrong = True, ""
    readers: list[Any] = [lambda: shape_checked(io, path, keep=True)]
    if every_reader:
        readers += [
            lambda: shape_checked(io, path, keep=False),
            lambda: io.read_fcs(path),
            lambda: io.describe_fcs(path),
        ]
    for read in readers:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.simplefilter("ignore", FcsWarning)
                read()
        except FcsFormatError as error:
            readable = False
            if str(path) not in str(error):
                wrong = f"the error does not name the file: {error}"
        except Exception as error:  # noqa: BLE001, any other exception is what is looked for
            wrong = f"{type(error).__name__}: {error}"
    seconds = time.process_time() - began  # a busy machine is no hang; an alarm ends real ones
    peak = tracemalloc.get_traced_memory()[1] - before
    if seconds > SECONDS:
        wrong = f"{seconds:.1f} s"
    if peak > 10 * len(content) + EXTRA_BYTES:
        wrong = f"{peak / 1e6:.0f} MB for a file of {len(content)} bytes"
    return readable, wrong


def shape_checked(io: ModuleType, path: Path, *, keep: bool) -> None:
    """Read a file and check that shapes agree."""
    for dataset in io.read_fcs_datasets(path, on_truncated="keep" if keep else "error", scale=keep):
        if dataset.events.shape != (dataset.n_events, len(dataset.channels)):
            msg = f"shape {dataset.events.shape}"
            raise AssertionError(msg)


class Run:
    """What was tried, and what was found; written to `target` now and then."""

    def __init__(self, engine: str, target: Path | None) -> None:
        self.engine, self.target, self.io = engine, target, cytoclust.io
        self.outcomes: Counter[str] = Counter()
        self.findings: dict[str, str] = {}
        self.began = self.saved = time.monotonic()
        self.folder = Path(
            tempfile.mkdtemp(
                prefix="fuzz_fcs_", dir="/dev/shm" if Path("/dev/shm").is_dir() else None
            )
        )
        signal.signal(signal.SIGALRM, self._hangs)
        tracemalloc.start()

    def _hangs(self, *_: object) -> None:
        msg = "hangs for 60 s"
        raise TimeoutError(msg)

    def try_input(self, content: bytes) -> None:
        """Read one input and note how that went."""
        number = sum(self.outcomes.values())
        signal.alarm(60)
        readable, wrong = finding(
            self.folder / "input.fcs", content, every_reader=number % 4 == 0, io=self.io
        )
        signal.alarm(0)
        self.outcomes["read" if readable else "refused"] += 1
        if wrong and len(self.findings) < 50 and wrong not in self.findings:
            kept = self.folder / f"finding_{len(self.findings)}.fcs"
            kept.write_bytes(content)
            self.findings[wrong] = str(kept)
            print(f"FOUND {wrong}\n  {kept}", flush=True)
        if time.monotonic() - self.saved > 10:
            self.save()

    def save(self) -> None:
        """Write the result so far."""
        self.saved = time.monotonic()
        result = {
            "date": datetime.now(UTC).date().isoformat(),
            "engine": self.engine,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "minutes": round((self.saved - self.began) / 60, 1),
            "inputs": sum(self.outcomes.values()),
            **self.outcomes,
            "findings": list(self.findings),
        }
        if self.target:
            self.target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(result, flush=True)


def real_files() -> list[bytes]:
    """Return small files of the shared corpora, if they are there."""
    folder = Path(os.environ.get("CYTOCLUST_SHARED", ROOT.parent / "shared")) / "fcs"
    files = sorted(folder.glob("*/*")) if folder.is_dir() else []
    return [
        file.read_bytes() for file in files if file.is_file() and file.stat().st_size < LARGEST_SEED
    ]


def next_input(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Build a file, or take a real one, and change it in two of three cases."""
    content = rng.choice(seeds) if seeds and rng.random() < 0.3 else built(rng)
    return mutated(content, rng) if rng.random() < 0.67 else content


def fuzz_with_atheris(run: Run, seeds: list[bytes], *, minutes: float, seed: int) -> None:
    """Let coverage of the reader guide the changes; ends the process."""
    import atheris

    for name in [name for name in sys.modules if name.startswith("cytoclust.io")]:
        del sys.modules[name]
    with atheris.instrument_imports(include=["cytoclust.io"]):
        run.io = importlib.import_module("cytoclust.io")
    corpus = run.folder / "corpus"
    corpus.mkdir()
    rng = random.Random(seed)
    for number, content in enumerate([*seeds, *(built(rng) for _ in range(300))]):
        (corpus / str(number)).write_bytes(content)

    def mutator(content: bytes, max_size: int, mutation_seed: int) -> bytes:
        local = random.Random(mutation_seed)
        choice = local.random()
        if choice < 0.5:
            return atheris.Mutate(content, max_size)
        return (mutated(content, local) if choice < 0.9 else next_input(local, []))[:max_size]

    options = [
        f"-max_total_time={int(minutes * 60)}",
        f"-seed={seed + 1}",
        f"-max_len={LARGEST_SEED}",
    ]
    arguments = [
        sys.argv[0],
        *options,
        "-timeout=120",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup(arguments, run.try_input, custom_mutator=mutator)
    atheris.Fuzz()


def main() -> None:
    """Fuzz for the time asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=["mutation", "atheris"], default="mutation")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    run, seeds = Run(options.engine, options.json), real_files()
    if options.engine == "atheris":
        fuzz_with_atheris(run, seeds, minutes=options.minutes, seed=options.seed)
        return
    rng = random.Random(options.seed)
    while time.monotonic() - run.began < options.minutes * 60:
        run.try_input(next_input(rng, seeds))
    run.save()
    sys.exit(1 if run.findings else 0)


if __name__ == "__main__":
    main()
