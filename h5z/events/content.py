"""A Dataset's variables as Zarr keeps them, region by region, and a digest of all they hold."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from h5z.errors import PlanError
from h5z.events.values import TEXT, Array
from h5z.grid import Region
from h5z.nodes import Json

if TYPE_CHECKING:
    import xarray as xr

# What says when, and by what call, a Dataset was made: two of the same content may differ in it.
CIRCUMSTANCES = ("creation_time", "input_digest")
_RECORDS = ("h5z", "row_counts", "content_digest")  # what stores have beside what a Dataset brings
_NOT_A_TIME = int(np.iinfo(np.int64).min)
_TIME = {"units": "nanoseconds since 1970-01-01", "calendar": "proleptic_gregorian", "_FillValue": _NOT_A_TIME}
_DIGEST_ROWS = 65_536


@dataclass(frozen=True)
class Variable:
    """A variable of a Dataset, numpy's or lazy.

    Attributes
    ----------
    dtype : str
        ``string``, or numpy's type string, as it is stored: times as int64 of nanoseconds.
    """

    name: str
    data: Any
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    attributes: dict[str, Json]

    def read(self, region: Region) -> Array:
        """A region's values, as they are stored."""
        values = np.asarray(self.data[region].values)
        if self.dtype == "string":
            if values.dtype.kind == "O":
                _check_text(self.name, values)
            return values.astype(TEXT)
        if values.dtype.kind == "M":
            values = values.astype("datetime64[ns]").view(np.int64)
        return values.astype(self.dtype)


def variables(dataset: xr.Dataset) -> list[Variable]:
    """All variables of a Dataset, coordinates among them, by name.

    Raises
    ------
    PlanError
        For one of a type that is neither text, bool, number nor time, or an attribute that JSON does not hold.
    """
    out = []
    for name, data in sorted(dataset.variables.items(), key=lambda item: str(item[0])):
        attributes = plain(data.attrs, str(name))
        kind = data.dtype.kind
        if kind in "TUO":
            dtype = "string"
        elif kind in "biufc":
            dtype = data.dtype.newbyteorder("<").str
        elif kind == "M":
            dtype, attributes = "<i8", {**attributes, **_TIME}
        else:
            raise PlanError(f"{name}: expected text, bool, numbers or times, found {data.dtype}")
        out.append(Variable(str(name), data, tuple(map(str, data.dims)), tuple(data.shape), dtype, attributes))
    return out


def _check_text(name: str, values: Array) -> None:
    for value in values.flat:
        if not isinstance(value, str):
            raise PlanError(f"{name}: expected text, found {type(value).__name__} (missing values go into a mask: to_dataset)")


def plain(attributes: Mapping[Any, Any], where: str) -> dict[str, Json]:
    """Attributes as JSON's own types, without those that an earlier store added.

    Raises
    ------
    PlanError
        For a value that JSON does not hold.
    """
    return {str(name): _json(value, f"{where}@{name}") for name, value in attributes.items() if name not in _RECORDS}


def _json(value: Any, where: str) -> Json:
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if isinstance(value, Mapping):
        return {str(key): _json(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item, where) for item in value]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise PlanError(f"{where}: expected text that UTF-8 holds, found {value!r}") from None
        return value
    raise PlanError(f"{where}: expected a value that JSON holds, found {value!r}")


def digest(found: list[Variable], attributes: Mapping[str, Json]) -> str:
    """SHA-256 of names, types, attributes and values; not of how they are chunked, nor of when they were made."""
    total = hashlib.sha256()
    steady = {name: value for name, value in attributes.items() if name not in CIRCUMSTANCES}
    total.update(json.dumps(steady, sort_keys=True).encode())
    for item in found:
        head = [item.name, item.dims, item.shape, item.dtype, item.attributes]
        total.update(json.dumps(head, sort_keys=True).encode())
        for part in _parts(item):
            total.update(part)
    return total.hexdigest()


def _parts(item: Variable) -> Iterator[bytes]:
    """A variable's values as bytes, some rows at a time; of text the lengths first."""
    whole = tuple(slice(0, n) for n in item.shape)
    starts = range(0, item.shape[0], _DIGEST_ROWS) if item.shape else [0]
    for start in starts:
        stop = min(start + _DIGEST_ROWS, item.shape[0]) if item.shape else 0
        values = item.read((slice(start, stop), *whole[1:]) if item.shape else ())
        if item.dtype == "string":
            yield np.strings.str_len(values).astype("<i8").tobytes()
            yield "".join(values.ravel().tolist()).encode()
        else:
            yield values.tobytes()
