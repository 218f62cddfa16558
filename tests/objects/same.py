"""Whether two objects are the same: equal, of the same types all the way down, NaN like NaN, in the same order."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np


def assert_same(a: Any, b: Any, where: str = "obj") -> None:
    """Compare two trees of objects."""
    assert type(a) is type(b), f"{where}: {type(a)} and {type(b)}"
    if isinstance(a, dict):
        assert len(a) == len(b), where
        for (key, item), (other, found) in zip(a.items(), b.items(), strict=True):
            assert_same(key, other, f"{where}.key")
            assert_same(item, found, f"{where}[{key!r}]")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), f"{where}: {len(a)} and {len(b)}"
        for i, (item, found) in enumerate(zip(a, b, strict=True)):
            assert_same(item, found, f"{where}[{i}]")
    elif a is np.ma.masked:
        assert b is np.ma.masked, where
    elif isinstance(a, np.ma.MaskedArray):
        assert_same(np.asarray(a.data), np.asarray(b.data), f"{where}.data")
        assert (a.mask is np.ma.nomask) == (b.mask is np.ma.nomask), where
        assert_same(np.asarray(a.mask), np.asarray(b.mask), f"{where}.mask")
        assert_same(np.asarray(a.fill_value), np.asarray(b.fill_value), f"{where}.fill_value")
        assert a.hardmask == b.hardmask, where
    elif isinstance(a, np.ndarray | np.generic):
        same_array(a, b, where)
    elif isinstance(a, float):
        assert a == b or (math.isnan(a) and math.isnan(b)), f"{where}: {a} and {b}"
        assert math.copysign(1, a) == math.copysign(1, b) or math.isnan(a), where
    elif isinstance(a, complex):
        assert_same(a.real, b.real, f"{where}.real")
        assert_same(a.imag, b.imag, f"{where}.imag")
    elif isinstance(a, dt.datetime | dt.time):
        assert (a, a.fold, a.utcoffset(), a.tzname()) == (b, b.fold, b.utcoffset(), b.tzname()), f"{where}: {a!r} and {b!r}"
        assert type(a.tzinfo) is type(b.tzinfo), where
    else:
        assert a == b, f"{where}: {a!r} and {b!r}"


def same_array(a: Any, b: Any, where: str) -> None:
    """Compare arrays: shape, dtype with its layout, and every element."""
    assert a.shape == b.shape, f"{where}: {a.shape} and {b.shape}"
    assert a.dtype == b.dtype, f"{where}: {a.dtype} and {b.dtype}"
    assert repr(a.dtype) == repr(b.dtype), f"{where}: {a.dtype!r} and {b.dtype!r}"
    if a.dtype.names is not None:
        for name in a.dtype.names:
            same_array(np.asarray(a[name]), np.asarray(b[name]), f"{where}.{name}")
    elif a.dtype == object:
        for i, (item, found) in enumerate(zip(a.flat, b.flat, strict=True)):
            assert_same(item, found, f"{where}.flat[{i}]")
    elif isinstance(a.dtype, np.dtypes.StringDType):
        missing = getattr(a.dtype, "na_object", "")
        for item, found in zip(a.flat, b.flat, strict=True):
            assert item == found or (item is missing and found is missing), where
    elif a.dtype.kind == "g" or a.dtype.char in "gG":
        assert np.array_equal(a, b, equal_nan=True), where
    else:
        assert a.tobytes() == b.tobytes(), f"{where}: {a!r} and {b!r}"
