"""What hypothesis draws: every kind of object that `h5z.save` takes, and trees of them."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

TEXT = st.text(st.characters(), max_size=8)  # lone surrogates too
ZONES = st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=-3, seconds=7), "odd"), zoneinfo.ZoneInfo("Europe/Paris")])
TIMES = st.one_of(
    st.datetimes(timezones=ZONES),
    st.dates(),
    st.times(timezones=st.just(dt.UTC) | st.none()),
    st.timedeltas(),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(allow_nan=True),
    st.complex_numbers(),
    TEXT,
    st.binary(max_size=8),
    st.binary(max_size=4).map(bytearray),
    TIMES,
)
KEYS = st.one_of(
    TEXT,
    st.sampled_from(["a/b", "zarr.json", "c", "..", ".h5z", "%41", "5", "a%2Fb", "x" * 300, "é" * 200, "A", "a"]),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False),
    st.tuples(st.integers(), TEXT),
    st.binary(max_size=3),
    st.dates(),
)
PLAIN_DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
    hnp.byte_string_dtypes(min_len=1, max_len=5),
    hnp.unicode_string_dtypes(min_len=1, max_len=5, endianness="?"),
    st.sampled_from(
        [np.dtype("g"), np.dtype("G"), np.dtype("V3"), np.dtype("S0"), np.dtype("U0"), np.dtype("V0"), np.dtype("q")]
    ),
)
SIZED_DTYPES = PLAIN_DTYPES.filter(lambda dtype: dtype.itemsize > 0)
STRUCTURES = hnp.nested_dtypes(SIZED_DTYPES, max_itemsize=100).filter(lambda dtype: dtype.subdtype is None)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def _raw(draw: Any, dtypes: Any = PLAIN_DTYPES | STRUCTURES) -> Any:
    """An array of any bits, but those of text, which must be characters."""
    dtype, shape = draw(dtypes), draw(SHAPES)
    made = np.zeros(shape, dtype)
    if _holds_text(dtype) or dtype.hasobject:
        if dtype.kind == "U" and dtype.itemsize and made.size:
            texts = draw(st.lists(st.text(st.characters(), max_size=dtype.itemsize // 4), min_size=1, max_size=3))
            made.flat = [texts[i % len(texts)] for i in range(made.size)]
        return made
    count = made.size * dtype.itemsize
    seed = draw(st.binary(min_size=1, max_size=16))
    raw = (seed * (count // len(seed) + 1))[:count]
    return np.frombuffer(bytearray(raw), dtype).reshape(shape) if count else made


def _holds_text(dtype: Any) -> bool:
    if dtype.subdtype is not None:
        return _holds_text(dtype.subdtype[0])
    if dtype.names is not None:
        return any(_holds_text(dtype[name]) for name in dtype.names)
    return bool(dtype.kind in "Ub" or dtype.char in "gG")


OBJECT_ARRAYS = st.lists(SCALARS | st.lists(st.integers(), max_size=2), max_size=5).map(lambda items: _objects(items))
STRING_ARRAYS = st.lists(st.text(max_size=5), max_size=5).map(lambda texts: np.array(texts, np.dtypes.StringDType()))
NUMBER_ARRAYS = hnp.arrays(st.one_of(hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.boolean_dtypes()), SHAPES)


def _objects(items: list[Any]) -> Any:
    out = np.empty(len(items), object)
    for i, item in enumerate(items):
        out[i] = item
    return out


@st.composite
def _masked(draw: Any) -> Any:
    data = draw(NUMBER_ARRAYS)
    mask = draw(st.just(np.ma.nomask) | hnp.arrays(bool, data.shape))
    return np.ma.MaskedArray(data, mask=mask, hard_mask=draw(st.booleans()))


ARRAYS = st.one_of(_raw(), NUMBER_ARRAYS, OBJECT_ARRAYS, STRING_ARRAYS, _masked())
NUMPY_SCALARS = _raw(SIZED_DTYPES).filter(lambda a: a.size).map(lambda a: a.flat[0])
LEAVES = st.one_of(SCALARS, ARRAYS, NUMPY_SCALARS)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
    ),
    max_leaves=8,
)
UNIFORM = st.one_of(
    st.lists(st.lists(st.floats(), min_size=2, max_size=2), max_size=4),
    st.lists(st.tuples(st.text(max_size=3)), max_size=3),
    st.lists(st.integers(-5, 5)),
    st.lists(st.booleans()).map(tuple),
)
