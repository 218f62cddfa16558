"""xarray's Datasets and DataArrays <-> groups that xarray itself opens: an array a variable, its dimensions by name.

What xarray's own format loses (exact types, attributes that JSON cannot hold, indexes of several levels, coordinates without
index) is noted in the mark; variables that dask computes are streamed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from h5z.errors import PlanError
from h5z.names import escape, unique
from h5z.nodes import Json
from h5z.objects.decode import Found
from h5z.objects.elements import stored_as
from h5z.objects.frames import Half, column
from h5z.objects.nodes import Branch, Leaf, array_leaf, attributes_in, attributes_of
from h5z.objects.tags import tag, untag

# Attributes by which xarray decodes what it reads: a user's own of these names are noted in the mark alone.
_RESERVED = ("coordinates", "_FillValue", "missing_value", "scale_factor", "add_offset", "dtype", "_Unsigned")
_PARTS = "%parts"
_LONE = "values"  # the variable of a DataArray


def describe_xarray(value: Any) -> Branch | None:
    """The group of a Dataset or a DataArray; None for anything else."""
    if type(value) is xr.Dataset:
        return _dataset(value, {"type": "Dataset"})
    if type(value) is xr.DataArray:
        name = unique(_LONE, {str(key) for key in value.coords} | {str(dim) for dim in value.dims})
        lone = value.to_dataset(name=name)
        return _dataset(lone, {"type": "DataArray", "lone": name, "name": tag(value.name)})
    return None


def _dataset(dataset: xr.Dataset, mark: dict[str, Json]) -> Branch:
    taken = {_PARTS}
    dims = {dim: _name(dim, taken) for dim in dataset.sizes}
    items: list[tuple[str, dict[str, Json], Any]] = []
    parts: list[tuple[str, dict[str, Json], Any]] = []
    variables: list[tuple[str, dict[str, Json]]] = []
    indexes = _indexes(dataset)
    stacked = {untag(item["dim"]) for item in indexes if "levels" in item}
    for label, variable in dataset.variables.items():
        if label in stacked:  # tuples of what its levels hold
            continue
        name = dims[label] if label in dims else _name(label, taken)
        try:
            item, completing, described = _variable(variable, tuple(dims[dim] for dim in variable.dims))
        except PlanError as error:
            raise PlanError(f"variable {label!r}: {error}") from None
        entry = {"dims": [tag(dim) for dim in variable.dims], "label": tag(label), **described}
        variables.append((name, {**entry, **({"coordinate": True} if label in dataset.coords else {})}))
        items.append((name, {}, item))
        if completing:
            parts.append((name, {}, Branch({"type": "dict"}, [(key, {}, part) for key, part in completing.items()])))
    seen, exact = attributes_of(dict(dataset.attrs), _RESERVED)
    shown = [name for name, entry in variables if entry.get("coordinate") and name not in dims.values()]
    if shown and not any(" " in name for name in shown):
        seen["coordinates"] = " ".join(shown)
        exact = exact or {"attributes": [[tag(key), tag(value)] for key, value in dataset.attrs.items()]}
    sizes = [[tag(dim), name, int(dataset.sizes[dim])] for dim, name in dims.items()]
    full = {**mark, "variables": variables, "sizes": sizes, "indexes": indexes, **exact}
    if parts:
        items.append((_PARTS, {}, Branch({"type": "dict"}, parts)))
    return Branch(full, items, seen, labelled=True)


def _name(label: Any, taken: set[str]) -> str:
    text = str(label).encode("utf-8", "backslashreplace").decode()
    found = unique(escape(text) if text else "%", taken)
    taken.add(found)
    return found


def _variable(variable: xr.Variable, dims: tuple[str, ...]) -> tuple[Any, dict[str, Any], dict[str, Json]]:
    """A variable's array, what completes it, and what its dataset's mark says of it."""
    times = ("units", "calendar") if variable.dtype.kind in "mM" else ()
    seen, exact = attributes_of(dict(variable.attrs), (*_RESERVED, *times))
    values = variable.data
    if hasattr(values, "dask"):
        stored = stored_as(values.dtype)
        if type(values).__qualname__ != "Array" or stored is None:
            raise PlanError(f"expected a dask array of a dtype that one Zarr array holds, found {values.dtype}")
        return array_leaf(values, stored, "dask", dims=dims, attributes=seen), {}, exact
    if not isinstance(values, np.ndarray):
        extension = getattr(values, "array", values)
        if not hasattr(extension, "dtype") or not type(extension).__module__.startswith("pandas."):
            raise PlanError(f"expected numpy or dask arrays, found {type(values).__qualname__!r}")
        item, completing = column(extension, dims)
    elif type(values) is not np.ndarray:
        raise PlanError(f"expected numpy or dask arrays, found {type(values).__qualname__!r}")
    else:
        stored = stored_as(values.dtype, values)
        item, completing = (values if stored is None else array_leaf(values, stored, dims=dims)), {}
    if isinstance(item, Leaf) and not item.attributes:
        item = replace(item, attributes=seen)
    elif not exact:  # no array to carry them, or one with others of its own
        exact = {"attributes": [[tag(key), tag(value)] for key, value in variable.attrs.items()]}
    return item, completing, exact


def _indexes(dataset: xr.Dataset) -> list[Json]:
    """The indexes, each by the labels of its variables; of several levels, with its dimension first."""
    out: list[Json] = []
    for index, variables in dataset.xindexes.group_by_index():
        labels = [tag(label) for label in variables]
        if type(index) is xr.indexes.PandasMultiIndex:
            out.append({"dim": tag(index.dim), "levels": [label for label in labels if label != tag(index.dim)]})
        elif type(index) is xr.indexes.PandasIndex:
            out.append({"label": labels[0]})
        else:
            raise PlanError(f"expected an index of pandas, found {type(index).__qualname__!r}")
    return out


def build_xarray(found: Found) -> Any:
    """The Dataset or DataArray that a group holds."""
    parts = found.members.get(_PARTS, {})
    variables: dict[Any, xr.Variable] = {}
    coordinates: dict[Any, xr.Variable] = {}
    for name, entry in found.mark["variables"]:
        label = untag(entry["label"])
        values = found.members[name]
        if isinstance(values, Half):
            values = values.whole(parts.get(name, {}))
            if (
                values.dtype.kind in "MO"
            ):  # xarray makes objects of arrays of zoned times and of periods, but not of their indexes
                values = pd.Index(values, dtype=values.dtype)
        own = attributes_in(entry, found.below.get(name, {}))
        made = xr.Variable([untag(dim) for dim in entry["dims"]], values, own)
        (coordinates if entry.get("coordinate") else variables)[label] = made
    dataset = xr.Dataset(
        variables, coords=xr.Coordinates(coordinates, indexes={}), attrs=attributes_in(found.mark, found.attributes)
    )
    for item in found.mark["indexes"]:
        if "levels" in item:
            names = [untag(label) for label in item["levels"]]
            dataset = dataset.set_xindex(names, xr.indexes.PandasMultiIndex)
        else:
            dataset = dataset.set_xindex(untag(item["label"]))
    if found.kind == "Dataset":
        return dataset
    return dataset[found.mark["lone"]].rename(untag(found.mark["name"]))
