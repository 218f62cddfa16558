"""Which value is taken for which type, which is missing, and which is wrong; whole columns and one by one agree."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5z.events.identifiers import Identifiers
from h5z.events.schema import DTYPES, FLOATS, INTEGERS
from h5z.events.values import TEXT, is_missing, one_dimensional, typed

WRONG = object()
MOMENT = np.datetime64("2026-11-21T10:00:00.000000001", "ns")


def one(value: Any, dtype: str) -> Any:
    """What becomes of one Python object: its value, None, or WRONG."""
    column = np.empty(1, object)
    column[0] = value
    found = typed(column, dtype)
    if len(found.wrong):
        assert found.missing[0]
        return WRONG
    return None if found.missing[0] else found.values[0]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("string", "None", "None"),
        ("string", "", ""),
        ("string", b"gr\xc3\xb6\xc3\x9fe", "größe"),
        ("string", "a\0b\0", "a\0b\0"),
        ("string", "\U0001f600", "\U0001f600"),
        ("string", b"\xff", WRONG),
        ("string", "\ud800", WRONG),
        ("string", 5, WRONG),
        ("string", True, WRONG),
        ("string", 1.5, WRONG),
        ("string", ["a"], WRONG),
        ("string", np.array(["a", "b"]), WRONG),
        ("string", None, None),
        ("string", math.nan, None),
        ("bool", True, True),
        ("bool", np.False_, False),
        ("bool", 1, True),
        ("bool", 0.0, False),
        ("bool", 2, WRONG),
        ("bool", "True", WRONG),
        ("bool", b"1", WRONG),
        ("bool", pd.NA, None),
        ("int32", 3, 3),
        ("int32", np.uint64(3), 3),
        ("int32", 3.0, 3),
        ("int32", 3.5, WRONG),
        ("int32", math.inf, WRONG),
        ("int32", math.nan, None),
        ("int32", 2**31, WRONG),
        ("int32", -(2**31), -(2**31)),
        ("int32", 10**30, WRONG),
        ("int32", True, WRONG),
        ("int32", "3", WRONG),
        ("int32", b"3", WRONG),
        ("uint64", 2**64 - 1, 2**64 - 1),
        ("uint64", -1, WRONG),
        ("uint8", 256, WRONG),
        ("int64", 2.0**63, WRONG),
        ("float64", 2, 2.0),
        ("float64", 2**53 + 1, WRONG),
        ("float64", math.inf, math.inf),
        ("float64", "2", WRONG),
        ("float64", False, WRONG),
        ("float64", 1j, WRONG),
        ("float32", 0.1, np.float32(0.1)),
        ("float32", 1e300, WRONG),
        ("float32", 2**24 + 1, WRONG),
        ("datetime64[ns]", MOMENT, MOMENT),
        ("datetime64[ns]", "2026-11-21T10:00:00.000000001", MOMENT),
        ("datetime64[ns]", "2026-11-21T11:00:00+01:00", np.datetime64("2026-11-21T10", "ns")),
        ("datetime64[ns]", b"2026-11-21T10:00:00Z", np.datetime64("2026-11-21T10", "ns")),
        ("datetime64[ns]", dt.datetime(2026, 11, 21, 10), np.datetime64("2026-11-21T10", "ns")),
        ("datetime64[ns]", dt.date(2026, 11, 21), np.datetime64("2026-11-21", "ns")),
        ("datetime64[ns]", np.datetime64("NaT"), None),
        ("datetime64[ns]", pd.NaT, None),
        ("datetime64[ns]", "now", WRONG),
        ("datetime64[ns]", "2026-13-01", WRONG),
        ("datetime64[ns]", "9999-01-01", WRONG),
        ("datetime64[ns]", 1.0, WRONG),
    ],
)
def test_a_value_is_taken_exactly_or_named(dtype: str, value: Any, expected: Any) -> None:
    found = one(value, dtype)
    assert found is expected if expected is WRONG or expected is None else (found == expected and found is not WRONG)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-300, 300),
    st.floats(),
    st.text(st.characters(), max_size=4),
    st.binary(max_size=4),
    st.datetimes(),
    st.just(math.nan),
)


@given(st.lists(ANYTHING, max_size=6), st.sampled_from(DTYPES))
def test_a_column_of_anything_is_its_values_one_by_one(values: list[Any], dtype: str) -> None:
    column = one_dimensional(values)
    assert column is not None
    found = typed(column, dtype)
    alone = [one(value, dtype) for value in values]
    assert found.missing.tolist() == [item is None or item is WRONG for item in alone]
    assert found.wrong.tolist() == [i for i, item in enumerate(alone) if item is WRONG]
    assert all(a == b for a, b, gone in zip(found.values, alone, found.missing, strict=True) if not gone)


NUMBERS = st.sampled_from([*INTEGERS, *FLOATS, "float16", "bool"])


@given(st.data(), NUMBERS, st.sampled_from(["bool", *INTEGERS, *FLOATS]))
def test_an_array_is_its_elements_one_by_one(data: st.DataObject, kind: str, dtype: str) -> None:
    """The fast way and the slow one agree, also on what is at the edge of a type."""
    edges = [0, 1, 2, 127, 128, 255, 2**24, 2**24 + 1, 2**31, 2**32, 2**53, 2**53 + 2, 2**63, 2**64 - 1]
    pool = [*edges, *(-edge for edge in edges), 0.5, 1e300, math.inf, -math.inf, math.nan]
    if kind == "bool":
        pool = [False, True]
    elif kind not in (*FLOATS, "float16"):
        limits = np.iinfo(kind)
        pool = [item for item in edges + [-edge for edge in edges] if limits.min <= item <= limits.max]
    with np.errstate(over="ignore"):
        column = np.array(data.draw(st.lists(st.sampled_from(pool), max_size=5)), kind)
    if kind == dtype == "float32" or (kind, dtype) == ("float16", "float16"):
        return
    found = typed(column, dtype)
    alone = [one(value, dtype) for value in column.tolist()]
    assert found.missing.tolist() == [item is None or item is WRONG for item in alone]
    assert all(a == b for a, b, gone in zip(found.values, alone, found.missing, strict=True) if not gone)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "column",
    [
        np.array(["a", "b"], "U3"),
        np.array([b"a", b"\xff"], "S3"),
        np.array(["a", ""], TEXT),
        np.array(["a", None], np.dtypes.StringDType(na_object=None)),
        np.array([1 + 2j, np.nan]),
        np.array([(1,), (2,)], [("x", "i4")]),
        np.array([1, 2], "m8[s]"),
        np.array(["2020-01-01", "NaT"], "M8[D]"),
        np.array(["12020-01-01", "NaT"], "M8[D]"),
        np.array([1, 2], ">i4"),
        np.array([1, 2], np.longdouble),
        np.ma.MaskedArray([1, 2], [True, False]),
        np.ma.MaskedArray(["x", "y"], [True, False]),
        pd.Series([1, None], dtype="Int32"),
        pd.Series(["a", None], dtype="string"),
        pd.Series([True, None], dtype="boolean"),
        np.zeros(0),
        [],
    ],
    ids=repr,
)
def test_no_column_is_too_strange(column: Any, dtype: str) -> None:
    array = one_dimensional(column)
    assert array is not None
    found = typed(array, dtype)
    assert found.values.dtype == (TEXT if dtype == "string" else np.dtype(dtype))
    assert len(found.values) == len(found.missing) == len(column)
    assert set(found.wrong) <= set(np.flatnonzero(found.missing))
    mask = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else np.zeros(len(column), bool)
    assert found.missing[mask].all()
    assert not set(found.wrong) & set(np.flatnonzero(mask))


def test_columns_have_one_dimension() -> None:
    assert one_dimensional(np.zeros((2, 2))) is None
    assert one_dimensional([[1], [2]]) is None
    assert one_dimensional(np.array(3)) is None


@given(st.lists(st.one_of(st.none(), st.integers(0, 8)), max_size=20), st.lists(st.integers(0, 9), max_size=10), st.booleans())
def test_ids_are_found_as_a_dictionary_finds_them(ids: list[int | None], wanted: list[int], as_text: bool) -> None:
    values = np.array([0 if item is None else item for item in ids], np.int64)
    keys = np.array(wanted, np.int64)
    if as_text:
        values, keys = values.astype(TEXT), keys.astype(TEXT)
    known = Identifiers(values, np.array([item is None for item in ids], bool))
    first: dict[int, int] = {}
    again = [row for row, item in enumerate(ids) if item is not None and first.setdefault(item, row) != row]
    assert known.duplicates().tolist() == again
    assert known.rows(keys).tolist() == [first.get(item, -1) for item in wanted]


def test_what_is_missing_is_not_what_is_empty() -> None:
    assert not any(map(is_missing, ("", b"", 0, False, "nan", "None", "NaT", [], np.array([np.nan]))))
