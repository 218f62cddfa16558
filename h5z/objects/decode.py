"""Nodes of a Zarr hierarchy -> Python objects: by the mark that `save` left, or plainly where there is none."""

from __future__ import annotations

import datetime as dt
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from h5z.errors import PlanError
from h5z.nodes import Json
from h5z.objects.elements import Stored, dtype_of, owned, stored_as
from h5z.objects.tags import untag
from h5z.objects.times import time_of


@dataclass
class Found:
    """A node of a store.

    Attributes
    ----------
    mark : dict
        What `save` noted of it.
    read : callable, optional
        Of an array: reads all of it.
    lazy : callable, optional
        Of an array: makes a dask array of it.
    members, keys, below : dict
        Of a group: its members' objects, keys and attributes, by name, as they are decoded.
    """

    name: str
    mark: dict[str, Json]
    attributes: dict[str, Json]
    shape: tuple[int, ...] | None = None
    read: Callable[[], Any] | None = None
    lazy: Callable[[], Any] | None = None
    members: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    below: dict[str, dict[str, Json]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What the mark says it holds."""
        return str(self.mark.get("type", "array" if self.read is not None else "dict"))

    @property
    def key(self) -> Any:
        """The key of the dict that it is the value of."""
        return untag(self.mark["key"]) if "key" in self.mark else self.name


def decode(found: Found, *, allow_pickle: bool = False) -> Any:
    """The object that a node holds; a group's members are decoded before.

    Raises
    ------
    PlanError
        For a pickled object without `allow_pickle`.
    ValueError, TypeError, KeyError, OverflowError
        If the mark does not fit what is there.
    """
    kind = found.kind
    if kind == "pickle":
        if not allow_pickle:
            raise PlanError("expected allow_pickle=True: what is stored there is a pickled object, which may run any code")
        return pickle.loads(_raw(found))
    if found.read is None:
        return _BRANCHES[kind](found)
    if "of" in found.mark:
        return _uniform(found)
    return _LEAVES[kind](found)


def _raw(found: Found) -> bytes:
    return np.asarray(_all(found), np.uint8).tobytes()


def _all(found: Found) -> Any:
    if found.read is None:
        raise ValueError("expected an array, found a group")
    return found.read()


def _item(found: Found) -> Any:
    return _all(found)[()]


def _stored(found: Found) -> Stored:
    described = found.mark.get("dtype")
    if described is None:
        return Stored("plain", "string")
    dtype = dtype_of(described)
    form = found.mark.get("form", "plain")
    if form == "text":
        return Stored("text", "string")
    if form == "characters":
        return Stored("characters", np.dtype("<u4"), (dtype.itemsize // 4,))
    found_form = stored_as(dtype)
    if found_form is None or found_form.form != form:
        raise ValueError(f"expected values of {dtype}, stored as {form}")
    return found_form


def array_of(found: Found) -> Any:
    """An array in its own dtype."""
    values = _all(found)
    if "dtype" in found.mark:
        values = _stored(found).get(values, dtype_of(found.mark["dtype"]))
    return owned(values)


def _ndarray(found: Found) -> Any:
    return _of_class(found.mark, array_of(found))


def _column(found: Found) -> Any:
    from h5z.objects.frames import Half

    return Half(array_of(found), found.mark)


def _of_class(mark: Mapping[str, Json], values: Any) -> Any:
    if mark.get("scalar"):
        return values[()]
    if mark.get("class") == "recarray":
        return values.view(np.recarray)
    return values.view(np.matrix) if mark.get("class") == "matrix" else values


def _uniform(found: Found) -> Any:
    kinds = {"list": list, "tuple": tuple}
    levels = [kinds[level] for level in found.mark.get("levels", [found.kind])]
    values = _all(found)
    rows = list(map(str, values)) if found.mark["of"] == "str" and values.ndim == 1 else values.tolist()

    def build(items: Any, level: int) -> Any:
        below = items if level + 1 == len(levels) else (build(item, level + 1) for item in items)
        return levels[level](below)

    return build(rows, 0)


def _int(found: Found) -> int:
    value = _item(found)
    return int(value, 0) if isinstance(value, str) else int(value)


def _str(found: Found) -> str:
    return _raw(found).decode("utf-8", "surrogatepass") if found.mark.get("encoding") else str(_item(found))


def _time(found: Found) -> Any:
    value = _TIMES[found.kind].fromisoformat(str(_item(found)))
    if found.mark.get("zone") is None:
        return value.replace(fold=1) if found.mark.get("fold") else value
    return time_of(found.kind, found.mark, value.replace(tzinfo=None).isoformat())


_TIMES: dict[str, Any] = {"datetime": dt.datetime, "date": dt.date, "time": dt.time}


def _timedelta(found: Found) -> dt.timedelta:
    value = _item(found)
    if isinstance(value, str):
        days, seconds, microseconds = map(int, value.split())
        return dt.timedelta(days, seconds, microseconds)
    return dt.timedelta(microseconds=int(value.astype("m8[us]").astype(np.int64)))


def _plain(found: Found) -> Any:
    """An array that `save` did not write: itself; a single element where it has no dimensions."""
    values = _all(found)
    return owned(values) if values.ndim else values[()]


def _dask(found: Found) -> Any:
    if found.lazy is None:
        raise ValueError("expected an array, found a group")
    made = found.lazy()
    if "dtype" not in found.mark:
        return made
    dtype = dtype_of(found.mark["dtype"])
    stored = _stored(found)
    axes = list(range(made.ndim - len(stored.extra), made.ndim))
    made = made.rechunk(dict.fromkeys(axes, -1))
    return made.map_blocks(stored.get, dtype, dtype=dtype, drop_axis=axes, meta=np.empty((0,) * (made.ndim - len(axes)), dtype))


def _dict(found: Found) -> Any:
    order = [name for name in found.mark.get("order", ()) if name in found.members]
    names = dict.fromkeys((*order, *sorted(found.members)))
    out: dict[Any, Any] = OrderedDict() if found.kind == "OrderedDict" else {}
    for name in names:
        out[found.keys[name]] = found.members[name]
    return out


def _sequence(found: Found) -> Any:
    items = [found.members[str(i)] for i in range(found.mark["length"])]
    return tuple(items) if found.kind == "tuple" else items


def _members_array(found: Found) -> Any:
    """An array that is stored as several."""
    dtype, shape = dtype_of(found.mark["dtype"]), tuple(found.mark["shape"])
    values = np.empty(shape, dtype)
    if isinstance(dtype, np.dtypes.StringDType):
        values[...] = found.members["values"].astype(dtype)
        values[found.members["missing"]] = dtype.na_object
    elif dtype.names is not None:
        for name, member in found.members.items():
            values[found.keys[name]] = member
    else:
        flat = np.empty(values.size, object)
        for i in range(values.size):
            flat[i] = found.members[str(i)]
        values = flat.reshape(shape)
    return _of_class(found.mark, values)


def _masked(found: Found) -> Any:
    members = found.members
    mask = members.get("mask", np.ma.nomask)
    made: Any = np.ma.MaskedArray(members["data"], mask=mask, hard_mask=found.mark.get("hard", False))
    if "fill_value" in members:
        made.fill_value = members["fill_value"]
    return made


def _labelled(found: Found) -> Any:
    if found.kind in ("Dataset", "DataArray"):
        from h5z.objects.labelled import build_xarray

        return build_xarray(found)
    from h5z.objects.frames import build_pandas

    return build_pandas(found)


_LEAVES: dict[str, Callable[[Found], Any]] = {
    "array": _plain,
    "ndarray": _ndarray,
    "dask": _dask,
    "None": lambda found: None,
    "bool": lambda found: bool(_item(found)),
    "int": _int,
    "float": lambda found: float(_item(found)),
    "complex": lambda found: complex(_item(found)),
    "str": _str,
    "bytes": _raw,
    "bytearray": lambda found: bytearray(_raw(found)),
    "datetime": _time,
    "date": _time,
    "time": _time,
    "timedelta": _timedelta,
    "column": _column,
    "Timestamp": _labelled,
    "Timedelta": _labelled,
    "NaT": _labelled,
    "NA": _labelled,
    "masked constant": lambda found: np.ma.masked,
}
_BRANCHES: dict[str, Callable[[Found], Any]] = {
    "dict": _dict,
    "OrderedDict": _dict,
    "list": _sequence,
    "tuple": _sequence,
    "ndarray": _members_array,
    "masked": _masked,
    "DataFrame": _labelled,
    "Series": _labelled,
    "Index": _labelled,
    "Dataset": _labelled,
    "DataArray": _labelled,
}
