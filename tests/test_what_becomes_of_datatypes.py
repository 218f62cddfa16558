"""The rows of the table on datatypes: what plain zarr-python reads where HDF5 had this or that."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from h5py import h5o, h5r

from h5z.hdf5.references import lone_paths

from .oddities.numbers import COMPLEX, FLOATS, INTEGERS, NAN_PAYLOADS
from .oddities.strings import LATIN
from .running import Convert

FORMATS = (3, 2)


def array(target: Path, path: str) -> zarr.Array[Any]:
    """Open one array of a target."""
    found = zarr.open_group(target, mode="r")[path]
    assert isinstance(found, zarr.Array)
    return found


def values(target: Path, path: str) -> np.ndarray[Any, Any]:
    """Read one array of a target."""
    return np.asarray(array(target, path)[...])


def stored_order(target: Path, path: str) -> str:
    """The byte order in which an array's numbers are stored, by its document alone."""
    v3 = target / path / "zarr.json"
    if v3.exists():
        serializer = json.loads(v3.read_bytes())["codecs"][0]
        endian = serializer.get("configuration", {}).get("endian", "none")
        return {"big": ">", "little": "<", "none": "|"}[endian]
    return str(json.loads((target / path / ".zarray").read_bytes())["dtype"][0])


def assert_bits(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    """The same numbers bit for bit, in whatever byte order."""
    native = expected.dtype.newbyteorder("=")
    assert found.dtype.newbyteorder("=") == native
    assert found.shape == expected.shape
    assert found.astype(native).tobytes() == expected.astype(native).tobytes()


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize(
    ("name", "dtypes"),
    [
        ("integers_of_every_size_and_order", INTEGERS),
        ("floats_of_every_size_and_order", FLOATS),
        ("complex_numbers", COMPLEX),
    ],
)
def test_numbers_keep_their_type_and_byte_order(converted: Convert, name: str, dtypes: list[str], zarr_format: int) -> None:
    done = converted(name, zarr_format)
    with h5py.File(done.source) as file:
        for dtype in dtypes:
            path = f"{dtype[1:]}_{'big' if dtype[0] == '>' else 'little'}"
            assert_bits(values(done.target, path), file[path][...])
            assert values(done.target, path).dtype.str[1:] == dtype[1:]
            assert stored_order(done.target, path) == ("|" if np.dtype(dtype).itemsize == 1 else dtype[0])


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_nan_payloads_survive(converted: Convert, zarr_format: int) -> None:
    target = converted("nan_payloads", zarr_format).target
    assert values(target, "f4").astype("<f4").view("<u4").tolist() == NAN_PAYLOADS
    assert values(target, "f4_big").astype("<f4").view("<u4").tolist() == NAN_PAYLOADS
    expected = [0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000001]
    assert values(target, "f8").view("<u8").tolist() == expected
    assert values(target, "f2").view("<u2").tolist() == [0x7E01, 0xFE00, 0x7C01]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_minus_zero_is_not_zero(converted: Convert, zarr_format: int) -> None:
    """Chunks of -0.0 are no chunks of the fill value 0.0, though they compare equal."""
    target = converted("negative_zero_over_zero_fill", zarr_format, chunks="source").target
    assert np.signbit(values(target, "minus")).all()
    assert not np.signbit(values(target, "plus_over_minus")).any()


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_complex_of_hdf5_two_is_complex(converted: Convert, zarr_format: int) -> None:
    target = converted("complex_of_hdf5_two", zarr_format).target
    assert_bits(values(target, "c8"), np.array([1 + 2j, -3.5 - 0.25j], "<c8"))
    assert_bits(values(target, "c16_big"), np.array([1 + 2j, -3.5 - 0.25j], "<c16"))
    assert array(target, "c8").attrs["h5z"]["dtype"]["class"] == "complex"


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_booleans_are_booleans(converted: Convert, zarr_format: int) -> None:
    target = converted("booleans", zarr_format).target
    assert values(target, "flags").dtype == bool
    assert values(target, "flags").tolist() == [[True, False], [False, True]]
    assert values(target, "scalar").tolist() is True


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_enumerations_are_their_integers_with_names(converted: Convert, zarr_format: int) -> None:
    """Names and values exactly under h5z, and as CF's flags for readers."""
    target = converted("enumerations", zarr_format).target
    colours = array(target, "colours")
    assert colours.dtype == np.uint8
    assert values(target, "colours").tolist() == [0, 42, 1, 7]
    assert colours.attrs["h5z"]["dtype"]["members"] == {"RED": 0, "GREEN": 1, "BLUE": 42}
    flags = dict(zip(str(colours.attrs["flag_meanings"]).split(), colours.attrs["flag_values"], strict=True))
    assert flags == {"RED": 0, "GREEN": 1, "BLUE": 42}
    assert array(target, "signs").attrs["h5z"]["dtype"]["members"] == {"minus one": -1, "nought": 0, "ünïcode": 1}
    assert str(array(target, "signs").attrs["flag_meanings"]).count(" ") == 2
    assert values(target, "wide").tolist() == [2**63 - 1, -(2**63)]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_variable_strings_are_strings(converted: Convert, zarr_format: int) -> None:
    target = converted("variable_strings", zarr_format).target
    words = ["", "a", "plain words", "x" * 5000, "ünï ☃ 𝄞", "line\nbreak\ttab"]
    assert values(target, "words_utf-8").tolist() == words
    assert values(target, "words_ascii").tolist() == words[:4]
    assert values(target, "table_utf-8").tolist() == [["a", "b"], ["c", ""]]
    assert values(target, "scalar_ascii").tolist() == "alone"
    assert values(target, "never_written_utf-8").tolist() == ["", "", ""]
    assert array(target, "words_ascii").attrs["h5z"]["dtype"]["charset"] == "ascii"
    if zarr_format == 3:
        assert json.loads((target / "words_ascii" / "zarr.json").read_bytes())["data_type"] == "string"


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_text_that_is_not_utf8_is_bytes(converted: Convert, zarr_format: int) -> None:
    target = converted("variable_strings_that_are_not_utf8", zarr_format).target
    for name in ("ascii", "utf8"):
        assert [bytes(item) for item in values(target, name)] == [LATIN, b"plain", b"\xff\xfe"]
    target = converted("fixed_strings_that_are_not_utf8", zarr_format).target
    assert values(target, "latin").tolist() == [LATIN, b"plain"]
    assert values(target, "cut").tolist() == ["☃☃".encode()[:5]]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_fixed_strings_keep_length_padding_and_charset(converted: Convert, zarr_format: int) -> None:
    target = converted("fixed_strings", zarr_format).target
    for padding in ("nullterm", "nullpad", "spacepad"):
        for charset, recorded in (("ascii", "ascii"), ("utf8", "utf-8")):
            found = array(target, f"{padding}_{charset}")
            assert found.dtype == np.dtype("S8")
            dtype = found.attrs["h5z"]["dtype"]
            assert dtype == {"class": "string", "size": 8, "charset": recorded, "padding": padding}
            assert values(target, f"{padding}_{charset}")[0] == b"abc"
    assert values(target, "nullpad_ascii").tolist() == [b"abc", b"12345678", b"a\0b"]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_array_datatypes_are_further_dimensions(converted: Convert, zarr_format: int) -> None:
    target = converted("array_datatypes", zarr_format).target
    assert_bits(values(target, "numbers"), np.arange(24, dtype="<i4").reshape(4, 3, 2))
    assert values(target, "words").tolist() == [[b"abc", b"def"], [b"x", b"yz"]]
    assert_bits(values(target, "scalar"), np.array([1.5, -0.0, np.nan]))
    assert array(target, "numbers").attrs["h5z"]["dtype"]["shape"] == [3, 2]


def test_compounds_of_fixed_size_are_structured(converted: Convert) -> None:
    done = converted("compounds_of_numbers")
    with h5py.File(done.source) as file:
        expected = file["rows"][...]
    found = values(done.target, "rows")
    assert found.dtype.names == ("a", "b", "flag", "colour", "z", "ünï code")
    for name in found.dtype.names:
        assert_bits(found[name], expected[name])
    assert array(done.target, "rows").shape == (5,)
    document = json.loads((done.target / "rows" / "zarr.json").read_bytes())
    assert document["data_type"]["name"] in ("struct", "structured")
    members = array(done.target, "rows").attrs["h5z"]["dtype"]["members"]
    assert [member[0] for member in members] == list(found.dtype.names)
    assert members[1][2] == ">f8"


def test_padded_compounds_are_packed_and_their_offsets_recorded(converted: Convert) -> None:
    target = converted("padded_compounds").target
    rows = values(target, "rows")
    assert rows["a"].tolist() == [1, -2, 3]
    assert rows.dtype.itemsize == 9
    recorded = array(target, "rows").attrs["h5z"]["dtype"]
    assert [(name, offset) for name, offset, _ in recorded["members"]] == [("a", 3), ("b", 16)]
    assert recorded["size"] == 32
    reordered = values(target, "reordered")
    assert reordered["first"].tolist() == [1.5, -2]
    assert reordered["second"].tolist() == [7, -8]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_nested_compounds(converted: Convert, zarr_format: int) -> None:
    """Structured in structured in format 3; format 2 has no word for that: a group with an array a member."""
    target = converted("nested_compounds", zarr_format).target
    root = zarr.open_group(target, mode="r")
    if zarr_format == 3:
        rows = values(target, "rows")
        assert rows["middle"]["inner"]["tag"].tolist() == [[b"abc", b""], [b"z", b"yy"]]
        assert rows["middle"]["n"].tolist() == [[1, 2], [3, -4]]
    else:
        assert isinstance(root["rows"], zarr.Group)
        assert values(target, "rows/middle/inner")["tag"].tolist() == [[b"abc", b""], [b"z", b"yy"]]
        assert values(target, "rows/middle/n").tolist() == [[1, 2], [3, -4]]
        assert values(target, "rows/last").tolist() == [[9, 8], [7, 65535]]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_compounds_with_members_that_have_no_word_are_groups(converted: Convert, zarr_format: int) -> None:
    target = converted("compounds_with_strings_arrays_and_references", zarr_format).target
    assert isinstance(zarr.open_group(target, mode="r")["rows"], zarr.Group)
    assert values(target, "rows/id").tolist() == [1, 2, 3]
    assert values(target, "rows/name").tolist() == ["eins", "", "drei ☃"]
    assert_bits(values(target, "rows/vector"), np.arange(9.0).reshape(3, 3) / 8)
    assert values(target, "rows/where").tolist() == ["/there", "/", "/there"]
    assert values(target, "rows/ragged/lengths").tolist() == [2, 0, 1]
    assert values(target, "rows/ragged/values").tolist() == [1, 2, 3]
    assert values(target, "rows/ragged_big/values").tolist() == [1, 2, 3]
    assert values(target, "rows/inner/label").tolist() == ["a", "b", ""]
    assert values(target, "rows/inner/w").tolist() == [0.5, 1.5, -2.5]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_sequences_are_values_and_lengths(converted: Convert, zarr_format: int) -> None:
    target = converted("sequences", zarr_format).target
    assert values(target, "rows/values").tolist() == [1, 2, 3, 4, -5, 6]
    assert values(target, "rows/lengths").tolist() == [3, 0, 1, 2]
    assert values(target, "table/lengths").tolist() == [[2, 0], [0, 1]]
    assert values(target, "table/values").tolist() == [1, 2, 3]
    assert values(target, "scalar/values").tolist() == [7, 8, 9]
    assert values(target, "scalar/lengths").tolist() == 3
    assert_bits(values(target, "big_endian/values"), np.array([0.5, np.nan, -0.0]))
    assert values(target, "empty_rows/lengths").tolist() == [0, 0, 0]
    assert values(target, "empty_rows/values").shape == (0,)
    assert values(target, "no_rows/lengths").shape == (0,)
    target = converted("sequences_of_compounds", zarr_format).target
    assert values(target, "rows/lengths").tolist() == [2, 0, 1]
    assert values(target, "rows/values")["n"].tolist() == [2, 3, -1]
    assert_bits(values(target, "rows/values")["x"], np.array([1.5, -0.5, np.nan], "<f4"))
    target = converted("sequences_of_strings", zarr_format).target
    assert values(target, "rows/values").tolist() == ["a", "bc", "☃"]
    assert values(target, "rows/lengths").tolist() == [2, 0, 1]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_bytes_without_a_type_are_raw(converted: Convert, zarr_format: int) -> None:
    target = converted("opaque_bytes", zarr_format).target
    for name, size, tag in (("tagged", 5, "image/x-odd"), ("untagged", 3, ""), ("long", 300, "blob")):
        assert values(target, name).dtype == np.dtype(f"V{size}")
        assert [bytes(item) for item in values(target, name)] == [bytes([i]) * size for i in (0, 1, 255)]
        assert array(target, name).attrs["h5z"]["dtype"] == {"class": "opaque", "size": size, "tag": tag}


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_bitfields_are_unsigned_integers(converted: Convert, zarr_format: int) -> None:
    target = converted("bitfields", zarr_format).target
    for size in (8, 16, 32, 64):
        for order in ("LE", "BE"):
            assert_bits(values(target, f"b{size}_{order}"), np.array([1, 0xA5, 0], f"<u{size // 8}"))
            assert array(target, f"b{size}_{order}").attrs["h5z"]["dtype"]["class"] == "bitfield"


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_times_are_integers(converted: Convert, zarr_format: int) -> None:
    target = converted("times", zarr_format).target
    for name, dtype in {"D32LE": "<i4", "D32BE": "<i4", "D64LE": "<i8", "D64BE": "<i8"}.items():
        assert_bits(values(target, name), np.array([0, 1_700_000_000, -1], dtype))
        assert array(target, name).attrs["h5z"]["dtype"]["class"] == "time"


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_numpy_times_are_times(converted: Convert, zarr_format: int) -> None:
    target = converted("numpy_times", zarr_format).target
    moments = np.array(["2020-02-29T12:34:56", "NaT", "1969-12-31T23:59:59"], "<M8[s]")
    assert_bits(values(target, "seconds"), moments)
    assert_bits(values(target, "nanoseconds"), moments.astype("<M8[ns]"))
    assert_bits(values(target, "spans"), np.array([1, -5, "NaT"], "<m8[ms]"))


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_numbers_that_numpy_has_not(converted: Convert, zarr_format: int) -> None:
    """Widened where a numpy type holds them all, else raw bytes; the exact type under h5z."""
    target = converted("integers_of_odd_sizes", zarr_format).target
    assert values(target, "three").tolist() == [0x030201, -1, -(2**23)]
    assert values(target, "twelve").tolist() == [1, 4095, 0x303]
    assert values(target, "twelve_big_endian").tolist() == [1, 4095, 0x303]
    assert values(target, "wide").tolist() == values(target, "wide_big_endian").tolist() == [1, 2**23 - 1, -(2**23), -1]
    assert values(target, "five").tolist() == [0x0102030405, 2**40 - 1]
    assert [bytes(item) for item in values(target, "sixteen")] == [bytes(range(16)), b"\xff" * 16]
    assert array(target, "three").attrs["h5z"]["dtype"]["precision"] == 24
    target = converted("bfloat16", zarr_format).target
    half = np.array([0x3F80, 0xC000, 0x7F80, 0x0001], "<u4") << 16
    found = values(target, "values").astype("<f4")
    assert found[[0, 1, 2, 4]].view("<u4").tolist() == half.tolist()
    assert np.isnan(found[3])
    assert values(target, "short").tolist() == [1.0, -3.0, 4 + 2**-11]
    done = converted("long_doubles", zarr_format)
    with h5py.File(done.source) as file:
        raw = np.zeros(3, "V16")
        file["values"].id.read(h5py.h5s.ALL, h5py.h5s.ALL, raw, file["values"].id.get_type())
    assert values(done.target, "values").tobytes() == raw.tobytes()


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_references_are_paths(converted: Convert, zarr_format: int) -> None:
    target = converted("object_references", zarr_format).target
    assert values(target, "refs").tolist() == [["/a/data", "/a", "/"], ["/refs", "", ""]]
    assert values(target, "scalar").tolist() == "/a/data"
    assert array(target, "refs").attrs["h5z"]["dtype"] == {"class": "reference", "kind": "object"}
    target = converted("region_references", zarr_format).target
    regions = ["/data[1:3,0:4]", "/data[0:1,3:4;2:3,3:4]", "/data", ""]
    assert values(target, "refs").tolist() == regions
    assert array(target, "refs").attrs["h5z"]["dtype"]["kind"] == "region"


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_sequences_of_region_references_are_paths(converted: Convert, zarr_format: int) -> None:
    target = converted("sequences_of_region_references", zarr_format).target
    assert values(target, "rows/values").tolist() == ["/data[0:2,0:3]", "/data[1:4,0:3]", "/data[1:4,0:3]"]
    assert values(target, "rows/lengths").tolist() == [2, 0, 1]
    found = zarr.open_group(target, mode="r").attrs["regions"]
    assert found == [["/data[0:2,0:3]", "/data[1:4,0:3]"], [], ["/data[1:4,0:3]"]]


@pytest.mark.parametrize("name", ["object_references", "region_references", "hard_links", "cyclic_hard_links"])
def test_paths_of_references_are_those_that_libhdf5_finds(oddity: Callable[[str], Path], name: str) -> None:
    """Of what one path alone leads to, nothing else."""
    with h5py.File(oddity(name)) as file:
        found = lone_paths(file.id)
        for path in found.values():
            assert h5r.get_name(file[path].ref, file.id).decode() == path
        several = {path for path in ("/a", "/b", "/z", "/a/data", "/a/b") if path in file and h5o.get_info(file[path].id).rc > 1}
        assert not several & set(found.values())
        assert bool(found) == (name != "cyclic_hard_links")
