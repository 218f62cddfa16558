"""load(save(x)) is x: the same values, of the same types, in the same order."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

import h5z
from h5z.errors import PlanError

from .same import assert_same
from .strategies import ARRAYS, KEYS, TREES, UNIFORM

EASY = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def back(value: Any) -> Any:
    """What comes back of a value."""
    with tempfile.TemporaryDirectory() as folder:
        h5z.save(value, f"{folder}/x.zarr")
        return h5z.load(f"{folder}/x.zarr")


@EASY
@given(TREES)
def test_trees(value: Any) -> None:
    assert_same(value, back(value))


@EASY
@given(ARRAYS)
def test_arrays(value: Any) -> None:
    assert_same(value, back(value))


@EASY
@given(UNIFORM)
def test_even_lists(value: Any) -> None:
    assert_same(value, back(value))


@settings(parent=EASY, max_examples=60)
@given(st.dictionaries(KEYS, st.integers(), max_size=6))
def test_keys_one_by_one(value: dict[Any, int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = f"{folder}/x.zarr"
        h5z.save({}, store)
        for key, item in value.items():
            h5z.save(item, store, key=("outer", key))
        assert h5z.load(store) == ({"outer": value} if value else {})
        assert all(h5z.load(store, ("outer", key)) == item for key, item in value.items())


@settings(parent=EASY, max_examples=40)
@given(TREES)
def test_stores_that_rename_nothing(value: Any) -> None:
    store = MemoryStore()
    h5z.save({"a": 1}, store)
    h5z.save(value, store)
    assert_same(value, h5z.load(store))
    h5z.save(value, store, key="again") if isinstance(value, dict) else None


NAMED = {
    "big int": 10**5000,
    "uint64": 2**64 - 1,
    "least int": -(2**63),
    "negative zero": [-0.0, {"x": -0.0}],
    "nan with bits": np.array([0x7FF8000000000123], "u8").view("f8"),
    "ordered": OrderedDict([("b", 1), ("a", 2)]),
    "order": {"b": 1, "a": 2, "c": {"z": 1, "y": 2}},
    "deep list": [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]],
    "uneven": [[1], [1, 2], []],
    "bools are no ints": [True, 1, 1.0],
    "long text": "ß" * 100_000,
    "nul": "a\0b\0",
    "aligned": np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "offsets": np.zeros(2, np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [4, 0], "itemsize": 12})),
    "titles": np.zeros(2, np.dtype([(("Title", "a"), "i4"), ("b", ">f4")])),
    "members in members": np.zeros(2, [("a", [("b", "f4", (2, 3)), ("c", "U2")]), ("d", "O")]),
    "recarray": np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "record": np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])[0],
    "void": np.zeros(1, [("a", "i4")])[0],
    "matrix": np.asmatrix(np.arange(4).reshape(2, 2)),
    "masked constant": np.ma.masked,
    "masked structure": np.ma.array([(1, 2.0)], mask=[(True, False)], dtype=[("a", int), ("b", float)]),
    "masked fill": np.ma.array([1, 2], mask=[0, 1], fill_value=7),
    "missing strings": np.array(["a", None], dtype=np.dtypes.StringDType(na_object=None)),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "strided": np.arange(24)[::-2].reshape(3, 4).T,
    "objects": np.array([[1, "a"], [None, {"x": (1,)}]], dtype=object),
    "objects without dimension": np.array(None, dtype=object),
    "no members": np.zeros(3, np.dtype([])),
    "generic time": np.array([1, 2], "m8"),
    "not a time": np.datetime64("NaT"),
    "largest timedelta": dt.timedelta.max,
    "fold": dt.datetime(2020, 10, 25, 2, 30, fold=1),
    "large": np.arange(3_000_000, dtype="<i4").reshape(3000, 1000) % 7,
    "zeros": np.zeros((1000, 1000)),
}


@pytest.mark.parametrize("name", NAMED)
def test_named(name: str) -> None:
    assert_same(NAMED[name], back(NAMED[name]))


def test_read_only_buffers_come_back_writeable(tmp_path: Path) -> None:
    h5z.save({"a": np.arange(3), "b": np.arange(3, dtype=">i4"), "s": np.array(["x"])}, tmp_path / "x.zarr")
    assert all(array.flags.writeable for array in h5z.load(tmp_path / "x.zarr").values())


def test_depth_costs_nothing(tmp_path: Path) -> None:
    value: Any = [1]
    for i in range(400):
        value = {"a": value} if i % 2 else [value, None]
    h5z.save(value, tmp_path / "x.zarr")
    found = h5z.load(tmp_path / "x.zarr")
    for i in reversed(range(400)):
        value, found = (value["a"], found["a"]) if i % 2 else (value[0], found[0])
    assert found == value == [1]


class Custom:
    """Something that has no place in a store."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Custom)

    __hash__ = None  # type: ignore[assignment]


REFUSED = {
    "custom": (Custom(), "test_round_trip.Custom"),
    "set": ({1}, "'set'"),
    "function": (len, "builtin"),
    "subclass of dict": (type("Sub", (dict,), {})(), "Sub"),
    "subclass of array": (np.zeros(2).view(type("Sub", (np.ndarray,), {})), "Sub"),
    "python class": (int, "'type'"),
    "time zone": (
        dt.datetime(2020, 1, 1, tzinfo=type("Zone", (dt.tzinfo,), {"utcoffset": lambda s, d: dt.timedelta()})()),
        "Zone",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    value, found = REFUSED[name]
    with pytest.raises(PlanError, match=r"the object\['a'\]\[1\]\[7\]: expected .*found.*") as error:
        h5z.save({"a": [0, {7: value}]}, tmp_path / "x.zarr")
    assert found in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_pickled_only_where_allowed_both_times(tmp_path: Path) -> None:
    store = tmp_path / "x.zarr"
    value = {"a": [Custom(), 1], "b": {1, 2}}
    h5z.save(value, store, allow_pickle=True)
    with pytest.raises(PlanError, match=r"x.zarr/b: expected allow_pickle=True"):
        h5z.load(store)
    with pytest.raises(PlanError, match=r"x.zarr/a/0: expected allow_pickle=True"):
        h5z.load(store, "a")
    assert h5z.load(store, "a/1") == 1
    assert h5z.load(store, allow_pickle=True) == value


def test_a_tree_that_contains_itself_is_refused(tmp_path: Path) -> None:
    value: dict[str, Any] = {"a": [1]}
    value["a"].append(value)
    with pytest.raises(PlanError, match=r"the object\['a'\]\[1\].*contains itself"):
        h5z.save(value, tmp_path / "x.zarr")
    twice = [1.5, "x"]
    assert back({"a": twice, "b": twice}) == {"a": twice, "b": twice}


@pytest.mark.parametrize("key", [frozenset({1}), Custom, len])
def test_keys_that_cannot_be_written_down_are_refused(key: Any, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="the object: expected a number"):
        h5z.save({key: 1}, tmp_path / "x.zarr", allow_pickle=True)
