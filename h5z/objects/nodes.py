"""What becomes of Python objects in a Zarr store: leaves, which are arrays, and branches, which are groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from h5z.nodes import Json
from h5z.objects.elements import Stored, describe_dtype, implied
from h5z.objects.tags import is_plain, plain_json, tag, untag

MARK = "object"  # under a node's attribute ``h5z``


@dataclass(frozen=True)
class Leaf:
    """An array.

    Attributes
    ----------
    values : numpy or dask array
        In their own dtype.
    mark : dict
        What the node's ``h5z`` says of the object.
    dims : tuple of str, optional
        Names of the values' dimensions.
    attributes : dict
        What plain readers see.
    """

    values: Any
    stored: Stored
    mark: dict[str, Json]
    dims: tuple[str, ...] | None = None
    attributes: dict[str, Json] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """The stored array's shape."""
        return (*map(int, self.values.shape), *self.stored.extra)


@dataclass(frozen=True)
class Branch:
    """A group: its members by name, each with what their mark says beside, and an object, a leaf or a branch.

    Attributes
    ----------
    labelled : bool
        Whether it is a table or a dataset that xarray opens: one thing, whose metadata are consolidated in its own group.
    """

    mark: dict[str, Json]
    items: list[tuple[str, dict[str, Json], Any]]
    attributes: dict[str, Json] = field(default_factory=dict)
    labelled: bool = False


Node: TypeAlias = Leaf | Branch


def array_leaf(
    values: Any,
    stored: Stored,
    kind: str = "ndarray",
    *,
    dims: tuple[str, ...] | None = None,
    attributes: dict[str, Json] | None = None,
    mark: dict[str, Json] | None = None,
) -> Leaf:
    """The leaf of an array, its exact dtype in the mark where the Zarr array alone does not say it."""
    full: dict[str, Json] = {"type": kind, **(mark or {})}
    if stored.form != "plain" or not implied(values.dtype):
        full["dtype"] = describe_dtype(values.dtype)
        full["form"] = stored.form
    return Leaf(values, stored, full, dims, attributes or {})


def text_leaf(text: str, mark: dict[str, Json]) -> Leaf:
    """A single text."""
    value = np.empty((), object)
    value[()] = text
    return Leaf(value, Stored("text", "string"), mark)


def number_leaf(value: Any, dtype: str, mark: dict[str, Json]) -> Leaf:
    """A single number, or several."""
    array = np.array(value, dtype)
    return Leaf(array, Stored("plain", array.dtype), mark)


def attributes_of(given: dict[Any, Any], reserved: tuple[str, ...] = ()) -> tuple[dict[str, Json], dict[str, Json]]:
    """Attributes that a user gave: what plain readers see of them, and what the mark says where that is not all.

    >>> attributes_of({"units": "m", "range": (0, 1)})
    ({'units': 'm', 'range': [0, 1]}, {'attributes': [['units', 'm'], ['range', {'type': 'tuple', 'items': [0, 1]}]]})
    """
    seen = {key: plain_json(value) for key, value in given.items() if type(key) is str and key not in ("h5z", *reserved)}
    exact = len(seen) == len(given) and all(map(is_plain, given.values())) and is_plain(list(given))
    return seen, {} if exact else {"attributes": [[tag(key), tag(value)] for key, value in given.items()]}


def attributes_in(mark: Mapping[str, Json], seen: Mapping[str, Json]) -> dict[Any, Any]:
    """The attributes that `attributes_of` split.

    >>> attributes_in({}, {"units": "m", "h5z": {}}), attributes_in({"attributes": [["a", {"type": "tuple", "items": []}]]}, {})
    ({'units': 'm'}, {'a': ()})
    """
    if "attributes" in mark:
        return {untag(key): untag(value) for key, value in mark["attributes"]}
    return {key: value for key, value in seen.items() if key != "h5z"}
