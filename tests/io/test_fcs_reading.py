"""FCS files made in the test: layouts, byte orders, keywords, offsets, spillover."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cytoclust.errors import FcsFormatError, FcsWarning
from cytoclust.io import read_fcs, read_fcs_datasets

if TYPE_CHECKING:
    from pathlib import Path

Build = "Callable[..., Path]"
VALUES = np.arange(12, dtype="<f4").reshape(4, 3) * 1.5


def first_events(path: Path) -> Any:
    return read_fcs_datasets(path)[0].events


@pytest.mark.parametrize("byteord", ["1,2,3,4", "4,3,2,1"])
@pytest.mark.parametrize(
    "bits",
    [[8], [16, 16], [24, 24, 24], [32, 16, 8], [10, 10, 10], [12, 7, 1, 64], [3, 61, 33], [64, 40]],
)
def test_integers_of_any_width(build: Any, pack: Any, bits: list[int], byteord: str) -> None:
    rng = np.random.default_rng(0)
    rows = [
        [int.from_bytes(rng.bytes(8), "little") & ((1 << width) - 1) for width in bits]
        for _ in range(21)
    ]
    little = byteord.startswith("1")
    if all(width % 8 == 0 for width in bits):
        order = "little" if little else "big"
        data = b"".join(
            value.to_bytes(width // 8, order)
            for row in rows
            for value, width in zip(row, bits, strict=True)
        )
    else:
        data = pack(rows, bits, little=little)
    ranges = [str(1 << width) for width in bits]
    path = build(data, len(rows), bits, datatype="I", byteord=byteord, ranges=ranges)
    assert first_events(path).tolist() == rows


def test_range_masks_high_bits(build: Any) -> None:
    data = np.array([[0xFC01, 0xFFFF], [1023, 1000]], dtype="<u2").tobytes()
    path = build(data, 2, [16, 16], datatype="I", byteord="1,2", ranges=["1024", "1000.0"])
    assert first_events(path).tolist() == [[1, 1023], [1023, 1000]]


@pytest.mark.parametrize(
    ("byteord", "order"), [("2,1,4,3", [1, 0, 3, 2]), ("3,4,1,2", [2, 3, 0, 1])]
)
@pytest.mark.parametrize("datatype", ["F", "I"])
def test_mixed_byte_orders(build: Any, byteord: str, order: list[int], datatype: str) -> None:
    stored = VALUES if datatype == "F" else (VALUES * 1e8).astype("<u4")
    plain = np.frombuffer(stored.tobytes(), dtype=np.uint8).reshape(-1, 4)
    path = build(plain[:, order].tobytes(), 4, [32] * 3, datatype=datatype, byteord=byteord)
    np.testing.assert_array_equal(first_events(path), stored)


def test_datatype_of_single_channels(build: Any) -> None:
    rows = np.zeros(5, dtype=[("a", "<u2"), ("b", "<f4"), ("c", "<f8")])
    rows["a"], rows["b"], rows["c"] = np.arange(5), np.arange(5) / 3, np.arange(5) / 7
    extra = {"$P1DATATYPE": "I", "$P3DATATYPE": "D"}
    path = build(rows.tobytes(), 5, [16, 32, 64], extra=extra, version="FCS3.2")
    events = first_events(path)
    assert events.dtype == np.float64
    np.testing.assert_array_equal(events[:, 2], rows["c"])
    np.testing.assert_array_equal(events[:, 1], rows["b"])


def test_float_data_are_memory_mapped(build: Any) -> None:
    events = first_events(build(VALUES.tobytes(), 4, [32] * 3))
    assert not events.flags.owndata
    assert not events.flags.writeable


@pytest.mark.parametrize("free", [True, False])
def test_text_data(build: Any, free: bool) -> None:  # noqa: FBT001
    if free:
        path = build(b"1,22\t333\r\n4 5,  6 ", 2, [0, 0, 0], datatype="A", replace={"$P1B": "*"})
    else:
        path = build(b"  1 22333  4  5  6", 2, [3, 3, 3], datatype="A")
    assert first_events(path).tolist() == [[1, 22, 333], [4, 5, 6]]


def test_text_data_without_total(build: Any) -> None:
    data = b"1 2 3 4 5 6 7 8 9"
    path = build(data, None, [0, 0, 0], datatype="A", replace={"$P1B": "*"}, version="FCS2.0")
    assert first_events(path).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    path = build(b"1 " + b"2" * 100, 1, [0, 0], datatype="A")
    with pytest.raises(FcsFormatError, match="a number of 100 characters"):
        read_fcs_datasets(path)


def test_text_data_that_is_no_number(build: Any) -> None:
    path = build(b"  1 x2333  4  5  6", 2, [3, 3, 3], datatype="A")
    with pytest.raises(FcsFormatError, match=r"made\.fcs: DATA: \$DATATYPE A"):
        read_fcs_datasets(path)


@pytest.mark.parametrize("delimiter", ["/", "\\", "|", ".", "+", "*", "\f", "^", "!", "#"])
def test_delimiters(build: Any, delimiter: str) -> None:
    extra = {"$P1S": f"CD3{delimiter}x", "comment": f"a{delimiter}{delimiter}b", "$P2S": "CD4$y"}
    path = build(VALUES.tobytes(), 4, [32] * 3, extra=extra, delimiter=delimiter)
    dataset = read_fcs_datasets(path)[0]
    assert dataset.markers == (f"CD3{delimiter}x", "CD4$y", "")
    assert dataset.keywords["COMMENT"] == f"a{delimiter}{delimiter}b"
    np.testing.assert_array_equal(dataset.events, VALUES)


def test_empty_values_are_not_escapes(build: Any) -> None:
    extra = {"$P1S": "", "$P2S": "", "$SYS": "", "$P3S": "CD8"}
    dataset = read_fcs_datasets(build(VALUES.tobytes(), 4, [32] * 3, extra=extra))[0]
    assert dataset.markers == ("", "", "CD8")
    assert dataset.keywords["$sys"] == ""


@pytest.mark.parametrize(
    ("encoding", "marker"), [("utf-8", "TCR\u03b3\u03b4"), ("latin-1", "µ-opioid")]
)
def test_encodings(build: Any, encoding: str, marker: str) -> None:
    path = build(VALUES.tobytes(), 4, [32] * 3, extra={"$P1S": marker}, encoding=encoding)
    assert read_fcs_datasets(path)[0].markers[0] == marker


def test_supplemental_text(make: Any, tmp_path: Path) -> None:
    supplement = b"/$P1S/CD19/$P2S/CD20/"
    extra = {"$BEGINSTEXT": "0000000000", "$ENDSTEXT": "0000000000"}
    content = make(VALUES.tobytes(), 4, [32] * 3, extra=extra)
    start = len(content)
    content = content.replace(b"$BEGINSTEXT/0000000000", f"$BEGINSTEXT/{start:010d}".encode())
    end = start + len(supplement) - 1
    content = content.replace(b"$ENDSTEXT/0000000000", f"$ENDSTEXT/{end:010d}".encode())
    path = tmp_path / "supplement.fcs"
    path.write_bytes(content + supplement)
    assert read_fcs_datasets(path)[0].markers == ("CD19", "CD20", "")


def test_two_data_sets(make: Any, tmp_path: Path) -> None:
    last = make(VALUES[:2].tobytes(), 2, [32] * 3)
    first = make(VALUES.tobytes(), 4, [32] * 3, replace={"$NEXTDATA": "0000001000"})
    path = tmp_path / "two.fcs"
    path.write_bytes(first.ljust(1000, b" ") + last)
    datasets = read_fcs_datasets(path)
    assert [dataset.n_events for dataset in datasets] == [4, 2]
    np.testing.assert_array_equal(datasets[1].events, VALUES[:2])


def test_text_offsets_that_lie_in_text(build: Any) -> None:
    replace = {"$BEGINDATA": "000000000300", "$ENDDATA": "000000000347"}
    path = build(VALUES.tobytes(), 4, [32] * 3, replace=replace)
    with pytest.warns(FcsWarning, match="HEADER taken: it lies outside TEXT"):
        events = first_events(path)
    np.testing.assert_array_equal(events, VALUES)


def test_offsets_by_range(build: Any) -> None:
    data = np.arange(100, dtype="<u2").reshape(50, 2)
    filler = np.full(100, 60000, dtype="<u2")
    options: dict[str, Any] = {"datatype": "I", "ranges": ["1024", "1024"], "byteord": "1,2"}
    path = build(data.tobytes() + filler.tobytes(), 50, [16, 16], **options)
    begin = len(path.read_bytes()) - 400
    wrong = {"$BEGINDATA": f"{begin + 200:012d}", "$ENDDATA": f"{begin + 399:012d}"}
    right = (begin, begin + 199)
    build(
        data.tobytes() + filler.tobytes(), 50, [16, 16], replace=wrong, header_data=right, **options
    )
    with pytest.warns(FcsWarning, match=r"HEADER taken: its values keep to \$PnR"):
        events = first_events(path)
    np.testing.assert_array_equal(events, data)


def test_total_too_small_keeps_all_events(build: Any) -> None:
    path = build(VALUES.tobytes(), 3, [32] * 3)
    with pytest.warns(FcsWarning, match=r"\$TOT is 3, but DATA holds 4 whole events"):
        assert first_events(path).shape == (4, 3)


def test_total_missing(build: Any) -> None:
    with pytest.warns(FcsWarning, match=r"\$TOT is missing"):
        assert first_events(build(VALUES.tobytes(), None, [32] * 3)).shape == (4, 3)


def test_total_and_end_missing(build: Any) -> None:
    path = build(VALUES.tobytes(), None, [32] * 3, replace={"$ENDDATA": "0"}, header_data=(0, 0))
    with pytest.raises(FcsFormatError, match=r"\$TOT and \$ENDDATA are both missing"):
        read_fcs_datasets(path)


def test_more_channels_described_than_counted(build: Any) -> None:
    extra = {"$P4B": "32", "$P4N": "C4"}
    with pytest.warns(FcsWarning, match=r"\$PAR is 3, but 4 channels are described"):
        events = first_events(build(VALUES.tobytes(), 4, [32] * 3, extra=extra))
    np.testing.assert_array_equal(events, VALUES)


def test_truncated_data(build: Any) -> None:
    path = build(VALUES.tobytes(), 4, [32] * 3)
    path.write_bytes(path.read_bytes()[:-13])
    with pytest.raises(FcsFormatError, match=r"made\.fcs: DATA: \$TOT 4 needs more"):
        read_fcs_datasets(path)
    with pytest.warns(FcsWarning, match="2 of 4 declared events are missing"):
        dataset = read_fcs_datasets(path, on_truncated="keep")[0]
    np.testing.assert_array_equal(dataset.events, VALUES[:2])
    assert dataset.n_missing == 2


@pytest.mark.parametrize(
    ("replace", "match"),
    [
        ({"$TOT": "99999999999999"}, r"\$TOT 99999999999999"),
        ({"$PAR": "99999999"}, r"\$PAR is 99999999"),
        ({"$PAR": "4"}, r"\$P4B"),
        ({"$PAR": "2"}, r"\$PAR is 2, but 3 channels are described"),
        ({"$MODE": "C"}, r"\$MODE is 'C'"),
        ({"$DATATYPE": "Z"}, r"\$DATATYPE must be"),
        ({"$BYTEORD": "1,2,3"}, None),
        ({"$BYTEORD": "big"}, r"\$BYTEORD must order"),
        ({"$PAR": None}, r"\$PAR must be"),
    ],
)
def test_broken_keywords(build: Any, replace: dict[str, str | None], match: str | None) -> None:
    path = build(VALUES.tobytes(), 4, [32] * 3, replace=replace)
    if match is None:  # the order is clear, whatever the number of bytes
        np.testing.assert_array_equal(first_events(path), VALUES)
        return
    with pytest.raises(FcsFormatError, match=rf"made\.fcs: \w+: .*{match}"):
        read_fcs_datasets(path)


def test_width_10_stored_as_16(build: Any) -> None:
    data = np.arange(20, dtype="<u2").reshape(10, 2)
    path = build(data.tobytes(), 10, [10, 10], datatype="I", ranges=["1024", "1024"])
    with pytest.warns(FcsWarning, match="widths of"):
        np.testing.assert_array_equal(first_events(path), data)


def test_scaling_is_explicit(build: Any) -> None:
    data = np.array([[0, 100, 7], [512, 200, 8]], dtype="<u2")
    extra = {"$P2G": "4", "$TIMESTEP": "0.5"}
    replace = {"$P1E": "4,0", "$P3N": "Time"}
    ranges = ["1024", "1024", "65536"]
    options: dict[str, Any] = {
        "datatype": "I",
        "ranges": ranges,
        "extra": extra,
        "replace": replace,
    }
    path = build(data.tobytes(), 2, [16] * 3, **options)
    assert read_fcs_datasets(path)[0].events.tolist() == data.tolist()
    scaled = read_fcs_datasets(path, scale=True, time_step=True)[0]
    np.testing.assert_allclose(scaled.events, [[1, 25, 3.5], [100, 50, 4]])
    assert len(scaled.scaling) == 3


def test_log_amplification_is_not_applied_to_floats(build: Any) -> None:
    path = build(VALUES.tobytes(), 4, [32] * 3, replace={"$P1E": "4,1"})
    np.testing.assert_array_equal(read_fcs_datasets(path, scale=True)[0].events, VALUES)


MATRIX = "2,C3,C1,1,0.2,0.1,1"


@pytest.mark.parametrize(
    "extra",
    [
        {"$SPILLOVER": MATRIX},
        {"SPILL": MATRIX},
        {"$COMP": MATRIX},
        {"SPILL": " 2 , C3 , c1 , 1 , 0.2 , 0.1 , 1 ,"},
        {"SPILL": "2,3,1,1,0.2,0.1,1"},
        {"$DFC3TO1": "20", "$DFC1TO3": "10"},
    ],
)
def test_spillover_by_name(build: Any, extra: dict[str, str]) -> None:
    matrix = read_fcs_datasets(build(VALUES.tobytes(), 4, [32] * 3, extra=extra))[0].spillover
    assert matrix is not None
    assert list(matrix.columns) == list(matrix.index) == ["C1", "C3"]
    np.testing.assert_allclose(matrix, [[1, 0.1], [0.2, 1]])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2,C3,C1,1,0.2,0.1", "needs 2 names and 4 values"),
        ("2,C3,X9,1,0.2,0.1,1", "X9"),
        ("2,C3,C1,1,a,0.1,1", "row 1, column 2"),
        ("2,C3,C1,1,1,1,1", "singular"),
        ("2,C3,C3,1,0.2,0.1,1", "C3"),
        ("x", "number of channels"),
        ("2,C3,C1,1,nan,0.1,1", "not finite"),
        ("2,C3,C1,100,20,10,100", "1 on its diagonal"),
        ("2,C3,C1,0,1,1,0", "the entry of C1 is 0"),
        ("2,C3,C1,1,0_2,0.1,1", "row 1, column 2"),
    ],
)
def test_wrong_spillover_does_not_stop_reading(build: Any, text: str, why: str) -> None:
    path = build(VALUES.tobytes(), 4, [32] * 3, extra={"$SPILLOVER": text})
    with pytest.warns(FcsWarning, match=r"\$SPILLOVER"):
        dataset = read_fcs_datasets(path)[0]
    assert dataset.spillover is None
    assert why in dataset.spillover_problem
    np.testing.assert_array_equal(dataset.events, VALUES)


@pytest.mark.parametrize("names", ["03,01", "P3,P1", "$P3N,$P1N", "C3 :: CD4,C1 :: CD8", "CD4,CD8"])
def test_spillover_by_other_names(build: Any, names: str) -> None:
    extra = {"SPILL": f"2,{names},1,0.2,0.1,1", "$P1S": "CD8", "$P3S": "CD4"}
    matrix = read_fcs_datasets(build(VALUES.tobytes(), 4, [32] * 3, extra=extra))[0].spillover
    assert matrix is not None
    np.testing.assert_allclose(matrix.loc[["C1", "C3"], ["C1", "C3"]], [[1, 0.1], [0.2, 1]])


def test_two_spillover_matrices(build: Any) -> None:
    extra = {"$SPILLOVER": MATRIX, "SPILL": MATRIX}
    same = read_fcs_datasets(build(VALUES.tobytes(), 4, [32] * 3, extra=extra))[0]
    assert same.oddities == ()
    extra["SPILL"] = MATRIX.replace("0.2", "0.3")
    with pytest.warns(FcsWarning, match=r"\$SPILLOVER and SPILL hold different"):
        other = read_fcs_datasets(build(VALUES.tobytes(), 4, [32] * 3, extra=extra))[0]
    assert other.spillover_keyword == "$SPILLOVER"
    assert other.spillover is not None
    assert other.spillover.loc["C3", "C1"] == 0.2


@pytest.mark.parametrize("extra", [{"$SPILLOVER": "0"}, {"$DFC2TO9": "0"}])
def test_placeholder_is_no_spillover(build: Any, extra: dict[str, str]) -> None:
    dataset = read_fcs_datasets(build(VALUES.tobytes(), 4, [32] * 3, extra=extra))[0]
    assert (dataset.spillover, dataset.spillover_keyword, dataset.oddities) == (None, "", ())


def test_duplicate_and_missing_names(build: Any) -> None:
    replace: dict[str, str | None] = {"$P2N": "C1", "$P3N": None}
    path = build(VALUES.tobytes(), 4, [32] * 3, replace=replace)
    with pytest.warns(FcsWarning) as caught:
        adata = read_fcs(path)
    assert any("more than once" in str(warning.message) for warning in caught)
    assert list(adata.var_names) == ["C1", "C1-1", "P3"]
    assert list(adata.var["channel"]) == ["C1", "C1", ""]
    np.testing.assert_array_equal(adata.X, VALUES)


def test_values_that_are_not_finite_are_reported(build: Any) -> None:
    values = VALUES.copy()
    values[1, 1], values[2, 0] = np.nan, -np.inf
    with pytest.warns(FcsWarning, match="2 values are NaN or infinite"):
        np.testing.assert_array_equal(first_events(build(values.tobytes(), 4, [32] * 3)), values)


@pytest.mark.parametrize(
    "content", [b"", b"FCS3.1", b"a,b\n1,2\n" * 20, b"FCS3.1    " + b"\xff" * 90]
)
def test_not_fcs(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.fcs"
    path.write_bytes(content)
    with pytest.raises(FcsFormatError, match=r"no\.fcs: HEADER"):
        read_fcs_datasets(path)


def test_no_warning_for_a_plain_file(build: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first_events(build(VALUES.tobytes(), 4, [32] * 3))
