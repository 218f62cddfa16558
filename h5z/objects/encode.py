"""Python objects -> leaves and branches, without recursion: depth costs nothing."""

from __future__ import annotations

import datetime as dt
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from h5z.errors import PlanError, one_line
from h5z.names import unique
from h5z.nodes import Json
from h5z.objects.elements import Stored, describe_dtype, stored_as
from h5z.objects.keys import key_mark, name_of
from h5z.objects.nodes import Branch, Leaf, Node, array_leaf, number_leaf, text_leaf
from h5z.objects.tags import untag
from h5z.objects.times import article, time_fields

_LONGEST_TEXT = 1 << 28  # characters; beyond it, a Zarr string's 32-bit length might not do
_DEEPEST_LIST = 16
_BYTES = Stored("plain", np.dtype("u1"))
_SUPPORTED = (
    "dict, list, tuple, None, bool, int, float, complex, str, bytes, datetime, date, time, timedelta, "
    "numpy scalars and arrays, dask arrays, pandas DataFrame, Series and Index, xarray Dataset and DataArray"
)


def encode(value: Any, *, allow_pickle: bool = False) -> Iterator[tuple[str, Node]]:
    """Every node that an object becomes, by its path (``""`` for the object itself), parents before children.

    Raises
    ------
    PlanError
        For an object that has no place in a Zarr store, or that contains itself; with its place in the tree.
    """
    waiting: list[tuple[str, Any, dict[str, Json], Any]] = [("", value, {}, None)]
    while waiting:
        path, item, extra, above = waiting.pop()
        try:
            node = describe(item, allow_pickle)
        except PlanError as error:
            raise PlanError(f"{place(above)}: {one_line(error)}") from None
        yield path, replace(node, mark={**node.mark, **extra})
        if isinstance(node, Branch):
            _refuse_cycle(item, above)
            for name, mark, child in reversed(node.items):
                label = int(name) if type(item) in (list, tuple) else untag(mark.get("key", name))
                waiting.append((f"{path}/{name}", child, mark, (item, above, label)))


def _refuse_cycle(item: Any, above: Any) -> None:
    level = above
    while level is not None:
        if level[0] is item:
            raise PlanError(f"{place(above)}: expected a tree, found an object that contains itself")
        level = level[1]


def place(above: Any) -> str:
    """Where in the tree an object is, for a message.

    >>> place((1, (0, None, "a"), 3))
    "the object['a'][3]"
    """
    labels: list[str] = []
    while above is not None:
        labels.append(f"[{above[2]!r}]")
        above = above[1]
    return "the object" + "".join(reversed(labels))


def describe(value: Any, allow_pickle: bool) -> Node:
    """The leaf or branch that one object becomes."""
    if isinstance(value, Leaf | Branch):
        return value
    kind = type(value)
    try:
        if kind in _MAKERS:
            return _MAKERS[kind](value)
        found = _library_object(value)
    except PlanError:
        if not allow_pickle or kind in (dict, OrderedDict, list, tuple):
            raise
        found = None
    if found is not None:
        return found
    if not allow_pickle:
        raise PlanError(f"expected {_SUPPORTED}; found {article(value)} (allow_pickle=True pickles it)")
    return _pickled(value)


def _library_object(value: Any) -> Node | None:
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, np.generic):
        return _scalar(value)
    library = type(value).__module__.partition(".")[0]
    if library == "dask" and type(value).__qualname__ == "Array":
        return _dask_array(value)
    if library == "pandas":
        from h5z.objects.frames import describe_pandas

        return describe_pandas(value)
    if library == "xarray":
        from h5z.objects.labelled import describe_xarray

        return describe_xarray(value)
    return None


def _pickled(value: Any) -> Leaf:
    try:
        raw = pickle.dumps(value)
    except Exception as error:  # whatever an object's own code raises
        raise PlanError(f"{article(value)} cannot be pickled ({one_line(error)})") from None
    return Leaf(np.frombuffer(raw, np.uint8), _BYTES, {"type": "pickle"})


def _dict(value: Any) -> Branch:
    taken: set[str] = set()
    items = []
    for key, item in value.items():
        name = unique(name_of(key), taken)
        taken.add(name)
        items.append((name, key_mark(key, name), item))
    names = [name for name, _, _ in items]
    order = {} if names == sorted(names) else {"order": names}
    return Branch({"type": type(value).__name__, **order}, items)


def _sequence(value: Any) -> Node:
    uniform = _uniform(value)
    if uniform is not None:
        return uniform
    mark = {"type": type(value).__name__, "length": len(value)}
    return Branch(mark, [(str(i), {}, item) for i, item in enumerate(value)])


def _uniform(value: Any) -> Leaf | None:
    """Lists and tuples, nested evenly, of one kind of plain value, as one array."""
    levels, shape, items = [type(value).__name__], [len(value)], value
    while items and len(levels) < _DEEPEST_LIST:
        kinds = set(map(type, items))
        kind = kinds.pop()
        if kinds or kind not in (list, tuple, *_OF):
            return None
        if kind in _OF:
            array = _OF[kind](items)
            if array is None:
                return None
            mark = {"type": levels[0], "of": kind.__name__, **({"levels": levels} if len(levels) > 1 else {})}
            return Leaf(array.reshape(shape), _TEXTS if kind is str else Stored("plain", array.dtype), mark)
        lengths = set(map(len, items))
        if len(lengths) > 1 or 0 in lengths:
            return None
        levels.append(kind.__name__)
        shape.append(lengths.pop())
        items = [item for row in items for item in row]
    return None


_TEXTS = Stored("text", "string")


def _ints(items: Any) -> Any:
    low, high = min(items), max(items)
    return np.array(items, np.int64) if low >= -(1 << 63) and high < 1 << 63 else None


def _texts(items: Any) -> Any:
    array = np.empty(len(items), object)
    array[:] = items
    return array if stored_as(array.dtype, array) is not None else None


_OF: dict[type, Callable[[Any], Any]] = {
    bool: lambda items: np.array(items, np.bool_),
    int: _ints,
    float: lambda items: np.array(items, np.float64),
    complex: lambda items: np.array(items, np.complex128),
    str: _texts,
}


def _int(value: int) -> Leaf:
    if -(1 << 63) <= value < 1 << 63:
        return number_leaf(value, "<i8", {"type": "int"})
    if 0 < value < 1 << 64:
        return number_leaf(value, "<u8", {"type": "int"})
    return text_leaf(hex(value), {"type": "int"})


def _str(value: str) -> Leaf:
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "surrogatepass")
        return Leaf(np.frombuffer(raw, np.uint8), _BYTES, {"type": "str", "encoding": "utf-8"})
    if len(value) > _LONGEST_TEXT:
        return Leaf(np.frombuffer(raw, np.uint8), _BYTES, {"type": "str", "encoding": "utf-8"})
    return text_leaf(value, {"type": "str"})


def _bytes(value: Any) -> Leaf:
    return Leaf(np.frombuffer(bytes(value), np.uint8), _BYTES, {"type": type(value).__name__})


def _time(value: Any) -> Leaf:
    mark = {"type": type(value).__name__, **time_fields(value)}
    mark.pop("value")
    return text_leaf(value.isoformat(), mark)


def _timedelta(value: dt.timedelta) -> Leaf:
    microseconds = (value.days * 86400 + value.seconds) * 10**6 + value.microseconds
    if abs(microseconds) < 1 << 63:
        return number_leaf(np.timedelta64(microseconds, "us"), "<m8[us]", {"type": "timedelta"})
    return text_leaf(time_fields(value)["value"], {"type": "timedelta"})


def _scalar(value: Any) -> Node:
    array = np.asarray(value)
    if type(array[()]) is not type(value):
        raise PlanError(f"expected one of numpy's own scalars, found {article(value)}")
    node = _plain_array(array)
    return replace(node, mark={**node.mark, "scalar": True})


def _array(value: Any) -> Node:
    kind = type(value)
    if kind is np.ma.MaskedArray:
        mark: dict[str, Json] = {"type": "masked", "hard": bool(value.hardmask)}
        mask: list[Any] = [] if value.mask is np.ma.nomask else [("mask", {}, np.asarray(value.mask))]
        fill = np.asarray(value.fill_value)
        usual = np.asarray(np.ma.default_fill_value(value))
        own: list[Any] = [] if fill.tobytes() == usual.tobytes() else [("fill_value", {}, fill)]
        return Branch(mark, [("data", {}, value.data), *mask, *own])
    if value is np.ma.masked:
        return Leaf(np.zeros(0, np.bool_), Stored("plain", np.dtype(bool)), {"type": "masked constant"})
    if kind in (np.recarray, np.matrix):
        node = _plain_array(value.view(np.ndarray))
        return replace(node, mark={**node.mark, "class": kind.__name__})
    if kind not in (np.ndarray, np.memmap):
        raise PlanError(f"expected a numpy array, found {article(value)}, which holds more than its values")
    return _plain_array(np.asarray(value))


def _plain_array(value: Any) -> Node:
    described = describe_dtype(value.dtype)
    stored = stored_as(value.dtype, value)
    if stored is not None:
        return array_leaf(value, stored)
    mark: dict[str, Json] = {"type": "ndarray", "dtype": described, "shape": list(value.shape)}
    if value.dtype.names is not None:
        return Branch(mark, [(name_of(name), key_mark(name, name_of(name)), value[name]) for name in value.dtype.names])
    if value.dtype.kind == "O":
        return Branch(mark, [(str(i), {}, item) for i, item in enumerate(value.reshape(-1))])
    missing = np.array([item is value.dtype.na_object for item in value.reshape(-1)], bool).reshape(value.shape)
    texts = np.where(missing, np.array("", object), value.astype(object))
    text = Leaf(texts, _TEXTS, {"type": "ndarray", "dtype": "|O", "form": "text"})
    return Branch(mark, [("values", {}, text), ("missing", {}, missing)])


def _dask_array(value: Any) -> Leaf:
    if any(n != n for n in value.shape):
        raise PlanError("expected a dask array of known chunks, found unknown ones (compute_chunk_sizes() finds them out)")
    stored = stored_as(value.dtype)
    if stored is None:
        raise PlanError(f"expected a dask array of a dtype that one Zarr array holds, found {value.dtype}")
    return array_leaf(value, stored, "dask")


_MAKERS: dict[type, Callable[[Any], Node]] = {
    dict: _dict,
    OrderedDict: _dict,
    list: _sequence,
    tuple: _sequence,
    type(None): lambda value: Leaf(np.zeros(0, np.bool_), Stored("plain", np.dtype(bool)), {"type": "None"}),
    bool: lambda value: number_leaf(value, "?", {"type": "bool"}),
    int: _int,
    float: lambda value: number_leaf(value, "<f8", {"type": "float"}),
    complex: lambda value: number_leaf(value, "<c16", {"type": "complex"}),
    str: _str,
    bytes: _bytes,
    bytearray: _bytes,
    dt.datetime: _time,
    dt.date: _time,
    dt.time: _time,
    dt.timedelta: _timedelta,
}
