"""The row of the table on attributes: plain JSON where a reader expects it, exact under h5z where JSON loses it."""

from __future__ import annotations

import base64
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from .oddities.strings import LATIN
from .running import Convert

FORMATS = (3, 2)


def attributes(converted: Convert, name: str, zarr_format: int, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a reader sees of a node's attributes, and their exact record."""
    seen = dict(zarr.open_group(converted(name, zarr_format).target, mode="r")[path].attrs)
    return seen, seen.pop("h5z", {}).get("attributes", {})


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("path", ["group", "data"])
def test_numbers(converted: Convert, path: str, zarr_format: int) -> None:
    """As JSON's numbers and lists; types, and shapes that lists do not say, under h5z."""
    seen, exact = attributes(converted, "attributes_of_numbers", zarr_format, path)
    for dtype in ("<i1", "<u2", ">i4", "<i8", "<u8", "<f2", "<f4", ">f4", "<f8"):
        assert seen[f"scalar_{dtype}"] == 1
        if dtype not in ("<i8", "<f8"):
            assert exact[f"scalar_{dtype}"] == {"dtype": dtype, "shape": []}
    assert seen["scalar_<c8"] == [1.0, 0.0]
    assert seen["scalar_?"] is True
    assert seen["largest"] == 2**64 - 1
    assert seen["one"] == [7]
    assert exact["one"]["shape"] == [1]
    assert seen["one_by_one"] == [[7.0]]
    assert exact["one_by_one"]["shape"] == [1, 1]
    assert seen["several"] == np.array([0.1, 0.2], "<f4").astype(float).tolist()
    assert exact["several"]["dtype"] == "<f4"
    assert seen["table"] == [[0, 1, 2], [3, 4, 5]]
    assert seen["none"] == []
    assert exact["none"] == {"dtype": "<f8", "shape": [0]}
    assert exact["no_columns"] == {"dtype": "<i2", "shape": [2, 0]}


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_numbers_that_are_not_finite(converted: Convert, zarr_format: int) -> None:
    """The Zarr specification's words for them; a NaN of other bits in hexadecimal."""
    seen, exact = attributes(converted, "attributes_that_are_not_finite", zarr_format, "data")
    assert (seen["nan"], seen["inf"], seen["minus_inf_f4"]) == ("NaN", "Infinity", "-Infinity")
    assert seen["payload"] == "0x7fc00001"
    assert seen["row"] == [1.5, "NaN", "-Infinity"]
    assert str(seen["minus_zero"]) == "-0.0"
    for name, dtype in {"nan": "<f8", "inf": "<f8", "minus_inf_f4": "<f4", "valid_range": "<f4"}.items():
        assert exact[name]["dtype"] == dtype
    fill = exact["_FillValue"]
    assert fill.get("value", seen.get("_FillValue")) in ("NaN", ["NaN"])
    assert exact["missing_value"].get("value", seen.get("missing_value")) == ["NaN"]


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_text(converted: Convert, zarr_format: int) -> None:
    seen, exact = attributes(converted, "attributes_of_text", zarr_format, "data")
    assert (seen["plain"], seen["empty"], seen["ascii"]) == ("ünï ☃", "", "fixed")
    assert seen["words"] == ["a", "", "☃"]
    assert seen["one_word"] == ["alone"]
    assert seen["fixed_words"] == [["ab", "c"], ["", "de"]]
    assert seen["long"] == "x" * 60_000
    assert "plain" not in exact
    assert base64.b64decode(exact["latin"]["value"]["base64"]) == LATIN
    for padding in ("nullterm", "nullpad", "spacepad"):
        assert seen[padding].rstrip() == "abc"
        assert exact[padding]["dtype"] == {"class": "string", "size": 6, "charset": "ascii", "padding": padding}
        assert exact[padding]["shape"] == []


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_odd_types(converted: Convert, zarr_format: int) -> None:
    seen, exact = attributes(converted, "attributes_of_odd_types", zarr_format, "data")
    for name in ("null", "null_text", "null_words"):
        assert exact[name]["shape"] is None
    assert seen["enum"] == 2
    assert exact["enum"]["dtype"]["members"] == {"RED": 0, "BLUE": 2}
    assert seen["flags"] == [True, False]
    assert seen["compound"] == [1, 2.5, "xy"]
    assert seen["compounds"] == [[1, "NaN"], [2, 0.5]]
    assert seen["nested"] == [[[1, 2], 3]]
    assert seen["with_text"] == [1, "ünï"]
    assert seen["vectors"] == [[0, 1, 2], [3, 4, 5]]
    assert exact["vectors"]["shape"] == [2]
    assert seen["rows"] == [[1, 2], []]
    assert seen["rows_big_endian"] == [[1, 2], []]
    assert base64.b64decode(exact["bytes"]["value"]["base64"]) == b"\x00\x01\xff"
    assert exact["moment"]["dtype"]["tag"] == "NUMPY:<M8[s]"
    assert seen["moment"] == [1577836800]
    assert seen["where"] == "/there"
    assert seen["wheres"] == ["/there", "/"]
    assert seen["region"] == "/there[0:1,1:3]"
    assert exact["region"]["dtype"] == {"class": "reference", "kind": "region"}
    assert seen["bits"] == [0xA5, 1]
    assert seen["time"] == 1_700_000_000
    number = np.array(np.longdouble(1) / 3).tobytes()
    assert base64.b64decode(exact["long_double"]["value"]["base64"])[:10] == number[:10]


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("path", ["group", "data"])
def test_hard_names(converted: Convert, path: str, zarr_format: int) -> None:
    """Each keeps its name and its value; h5z's own key hides none."""
    done = converted("attributes_with_hard_names", zarr_format)
    seen, exact = attributes(converted, "attributes_with_hard_names", zarr_format, path)
    with h5py.File(done.source) as file:
        for name, value in file[path].attrs.items():
            assert exact[name].get("value", seen.get(name)) == value, name
            assert exact[name]["dtype"] == "<i4"
            if name not in ("h5z", "_ARRAY_DIMENSIONS"):
                assert seen[name] == value


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_many_and_large(converted: Convert, zarr_format: int) -> None:
    seen = dict(zarr.open_group(converted("many_and_large_attributes", zarr_format).target, mode="r").attrs)
    assert seen["large"] == np.arange(20_000.0).tolist()
    assert [seen[f"a{i:03d}"] for i in range(100)] == list(range(100))
