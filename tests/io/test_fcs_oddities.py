"""Files whose keywords contradict each other: the bytes decide, or an error does; never a guess."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytoclust.errors import FcsFormatError
from cytoclust.io import read_fcs_datasets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[..., Path]

# they are given as texts too, and that is what is looked at here
pytestmark = pytest.mark.filterwarnings("ignore::cytoclust.errors.FcsWarning")

RNG = np.random.default_rng(3)
FLOATS = RNG.normal(300, 100, size=(50, 4)).astype("<f4")
COUNTS = RNG.integers(0, 1024, size=(60, 4)).astype("<u2")
CHECKSUM = b"00000000"


def one(path: Path, **options: Any) -> Any:
    return read_fcs_datasets(path, **options)[0]


def check(path: Path, expected: Any, oddity: str = "", **options: Any) -> None:
    """Check the events of a file and that one of its oddities is the one expected, none by default."""
    dataset = one(path, **options)
    assert dataset.events.tolist() == np.asarray(expected).tolist()
    if oddity:
        assert any(re.search(oddity, text) for text in dataset.oddities), dataset.oddities
    else:
        assert dataset.oddities == ()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_packed_integers(build: Build, pack: Any, data: Any) -> None:
    bits = data.draw(st.lists(st.integers(1, 64), min_size=1, max_size=8))
    rows = data.draw(
        st.lists(st.tuples(*(st.integers(0, 2**width - 1) for width in bits)), max_size=20)
    )
    little = data.draw(st.booleans())
    if all(width % 8 == 0 for width in bits):
        order = "little" if little else "big"
        stored = b"".join(
            value.to_bytes(width // 8, order)
            for row in rows
            for value, width in zip(row, bits, strict=True)
        )
    else:
        stored = pack(rows, bits, little=little)
    path = build(
        stored,
        len(rows),
        bits,
        datatype="I",
        byteord="1,2,3,4" if little else "4,3,2,1",
        ranges=[str(2**width) for width in bits],
    )
    assert one(path).events.tolist() == [list(row) for row in rows]


@pytest.mark.parametrize("gap", [b"", b" " * 64, b"\0" * 64])
@pytest.mark.parametrize("shift", [1, -1, 2, -2, 8, -8, 16, -64, 300, -300, 1_000_000])
@pytest.mark.parametrize("wrong", ["header_shift", "text_shift"])
@pytest.mark.parametrize("also_end", [True, False])
def test_one_of_two_places_is_wrong(
    build: Build,
    gap: bytes,
    shift: int,
    wrong: str,
    also_end: bool,  # noqa: FBT001
) -> None:
    moved = {wrong: (shift, shift if also_end else 0)}
    path = build(FLOATS.tobytes(), 50, [32] * 4, gap=gap, tail=CHECKSUM, **moved)
    right = "TEXT" if wrong == "header_shift" else "HEADER"
    check(path, FLOATS, f"DATA offsets disagree: {right} says .*; {right} taken: ")
    options: dict[str, Any] = {"datatype": "I", "ranges": ["1024"] * 4}
    path = build(COUNTS.tobytes(), 60, [16] * 4, gap=gap, tail=CHECKSUM, **moved, **options)
    check(path, COUNTS, f"{right} taken")


@pytest.mark.parametrize("shift", [-1, 1, 2, 8])
@pytest.mark.parametrize("where", ["header_shift", "text_shift", "both"])
def test_ends_a_little_off(build: Build, shift: int, where: str) -> None:
    names = ("header_shift", "text_shift") if where == "both" else (where,)
    moved = dict.fromkeys(names, (0, shift))
    path = build(FLOATS.tobytes(), 50, [32] * 4, tail=CHECKSUM, **moved)
    reads_on = "" if abs(shift) == 1 and (where != "both" or shift == 1) else "ENDDATA|DATA"
    check(path, FLOATS, reads_on)


@pytest.mark.parametrize("total", [60, None])
@pytest.mark.parametrize("byteord", ["1,2", "2,1"])
@pytest.mark.parametrize("end", [True, False])
def test_narrow_values_in_wide_words(
    build: Build,
    total: int | None,
    byteord: str,
    end: bool,  # noqa: FBT001
) -> None:
    stored = COUNTS.astype("<u2" if byteord == "1,2" else ">u2").tobytes()
    options: dict[str, Any] = {"datatype": "I", "byteord": byteord, "version": "FCS2.0"}
    if not end:
        options |= {"replace": {"$ENDDATA": "0"}, "header_data": (0, 0), "tail": CHECKSUM}
    path = build(stored, total, [10] * 4, **options)
    if total is None and not end:
        with pytest.raises(FcsFormatError, match=r"\$TOT and \$ENDDATA are both missing"):
            one(path)
        return
    check(path, COUNTS, "widths of")


def test_packed_values_without_total_stay_packed(build: Build, pack: Any) -> None:
    stored = pack(COUNTS.tolist(), [10] * 4, little=True)
    path = build(stored, None, [10] * 4, datatype="I", version="FCS2.0")
    np.testing.assert_array_equal(one(path).events, COUNTS)


def test_events_in_whole_bytes(build: Build, pack: Any) -> None:
    rows = COUNTS[:, :3].tolist()
    stored = b"".join(pack([row], [10] * 3, little=False) for row in rows)
    path = build(stored, 60, [10] * 3, datatype="I", byteord="4,3,2,1")
    check(path, rows, "each event in whole bytes")


@pytest.mark.parametrize(("datatype", "bits", "stored"), [("F", 64, "<f8"), ("D", 32, "<f4")])
def test_width_against_data_type(build: Build, datatype: str, bits: int, stored: str) -> None:
    path = build(FLOATS.astype(stored).tobytes(), 50, [bits] * 4, datatype=datatype)
    check(path, FLOATS, r"\$PnB: widths of")
    path = build(FLOATS.astype(stored).tobytes(), None, [bits] * 4, datatype=datatype)
    with pytest.raises(FcsFormatError, match=r"TEXT: \$PnB and \$DATATYPE contradict"):
        one(path)


@pytest.mark.parametrize(
    "replace",
    [
        {"$PAR": "3", "$TOT": None},
        {"$PAR": "3", "$ENDDATA": "0"},
        {"$PAR": "3"},
        {"$PAR": "3", "$TOT": "66"},
    ],
)
def test_par_too_small(build: Build, replace: dict[str, str | None]) -> None:
    options: dict[str, Any] = {"header_data": (0, 0)} if "$ENDDATA" in replace else {}
    path = build(FLOATS.tobytes(), 50, [32] * 4, replace=replace, **options)
    with pytest.raises(FcsFormatError, match=r"TEXT: \$PAR is 3, but 4 channels are described"):
        one(path)


@pytest.mark.parametrize(
    ("written", "mask"),
    [
        ("1024", 1023), ("1024.0", 1023), ("1e3", 1023), ("1000", 1023), ("1025", 2047), (" 1024 ", 1023),
        ("1023.5", 1023), ("65536", 65535), ("4294967296", 65535), ("18446744073709551616", 65535),
        ("1.8446744073709552e19", 65535), ("2", 1),
    ],
)  # fmt: skip
def test_ranges(build: Build, written: str, mask: int) -> None:
    stored = RNG.integers(0, 65536, size=(20, 2)).astype("<u2")
    path = build(stored.tobytes(), 20, [16, 16], datatype="I", ranges=[written, written])
    dataset = one(path)
    np.testing.assert_array_equal(dataset.events, stored & mask)
    assert dataset.oddities == ()


@pytest.mark.parametrize("written", ["0", "-5", "abc", "", "nan", "inf"])
def test_ranges_that_are_none(build: Build, written: str) -> None:
    stored = RNG.integers(0, 65536, size=(20, 2)).astype("<u2")
    path = build(stored.tobytes(), 20, [16, 16], datatype="I", ranges=[written, "65536"])
    check(path, stored, r"\$P1R is .*, no range; all 16 bits are kept")


FREE = {"datatype": "A", "replace": {"$P1B": "*"}}
ROWS = [[1, 22, 333], [4, 5, 6], [70, 800, 99999]]
WRITTEN = b"1 22 333 4 5 6 70 800 99999"


def test_text_values_and_total(build: Build) -> None:
    path = build(WRITTEN, 2, [0] * 3, **FREE)
    check(path, ROWS, r"\$TOT is 2, but DATA from .*; all 3 whole events are read")
    with pytest.raises(FcsFormatError, match=r"DATA: .*3 whole events; \$TOT is 4"):
        one(build(WRITTEN, 4, [0] * 3, **FREE))
    path = build(WRITTEN, 4, [0] * 3, **FREE)
    check(path, ROWS, "1 of 4 declared events are missing", on_truncated="keep")
    with pytest.raises(FcsFormatError, match="9 numbers of 2 channels, which are no whole events"):
        one(build(WRITTEN, 4, [0] * 2, **FREE))


def test_text_values_cut_within_a_number(build: Build) -> None:
    path = build(WRITTEN, 3, [0] * 3, **FREE)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(FcsFormatError, match="DATA: "):
        one(path)
    check(path, ROWS[:2], "1 of 3 declared events are missing", on_truncated="keep")


def test_text_values_before_a_checksum(build: Build) -> None:
    options: dict[str, Any] = {"datatype": "A", "header_data": (0, 0), "tail": b" 00000000"}
    replace: dict[str, str | None] = {"$ENDDATA": "0", "$P1B": "*"}
    check(build(WRITTEN, 3, [0] * 3, replace=replace, **options), ROWS, r"\$ENDDATA is 0")
    with pytest.raises(FcsFormatError, match="both missing"):
        one(build(WRITTEN, None, [0] * 3, replace=replace, **options))


@pytest.mark.parametrize("text", [b"/$P2S/CD4/", b"|$P2S|CD4|", b"$P2S/CD4/", b" \r\n/$P2S/CD4/"])
def test_supplemental_text(build: Build, text: bytes) -> None:
    place = {"$BEGINSTEXT": "0000", "$ENDSTEXT": "0000"}
    plain = build(FLOATS.tobytes(), 50, [32] * 4, extra=place)
    begin = plain.stat().st_size
    place = {"$BEGINSTEXT": str(begin), "$ENDSTEXT": str(begin + len(text) - 1)}
    path = build(FLOATS.tobytes(), 50, [32] * 4, extra=place, tail=text)
    assert path.stat().st_size == begin + len(text)
    assert one(path).markers == ("", "CD4", "", "")
    np.testing.assert_array_equal(one(path).events, FLOATS)


def test_supplemental_text_that_is_none(build: Build) -> None:
    place = {"$BEGINSTEXT": "100", "$ENDSTEXT": "200"}
    path = build(FLOATS.tobytes(), 50, [32] * 4, extra=place)
    content = bytearray(path.read_bytes())
    content[100:201] = b"/" + b"x" * 100
    path.write_bytes(content)
    check(path, FLOATS, r"\$BEGINSTEXT 100 to \$ENDSTEXT 200: supplemental TEXT does not split")


def test_next_data_set_inside_this_one(build: Build, make: Callable[..., bytes]) -> None:
    inner = make(COUNTS.tobytes(), 60, [16] * 4, datatype="I")
    replace: dict[str, str | None] = {"$NEXTDATA": "0000"}
    begin = int(
        one(build(inner, len(inner) // 8, [32] * 2, replace=replace)).keywords["$BEGINDATA"]
    )
    padded = inner + b" " * (-len(inner) % 8)
    path = build(padded, len(padded) // 8, [32] * 2, replace={"$NEXTDATA": f"{begin:04}"})
    with pytest.raises(FcsFormatError, match=r"TEXT: \$NEXTDATA .* begins inside this one"):
        read_fcs_datasets(path)


def test_many_channels_and_pairs_cost_little(build: Build) -> None:
    n_channels = 3000
    pairs = {f"$DFC{number}TO{number + 1}": "1" for number in range(1, n_channels, 2)}
    stored = bytes(3 * n_channels // 2 * 3)
    began = time.perf_counter()
    path = build(stored, 3, [8, 16] * (n_channels // 2), datatype="I", extra=pairs)
    dataset = one(path)
    assert dataset.events.shape == (3, n_channels)
    assert "is for 3000 channels; a matrix of more than 1000" in dataset.spillover_problem
    assert time.perf_counter() - began < 5
