"""pandas' tables and labels <-> groups that xarray opens as datasets: an array a column, rows along one named dimension.

A column whose type Zarr has no word for shows what plain readers can use (codes, values with a fill value, texts); what
completes it lies in the subgroup ``%parts``, whose name no column can have.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd

from h5z.errors import PlanError
from h5z.names import escape, unique
from h5z.nodes import Json
from h5z.objects.decode import Found, array_of
from h5z.objects.elements import Stored, stored_as
from h5z.objects.nodes import Branch, Leaf, array_leaf, attributes_in, attributes_of
from h5z.objects.tags import tag, untag
from h5z.objects.times import zone_fields, zone_of

PARTS = "%parts"
_TEXT = Stored("text", "string")
_MISSING = {"None": 1, "nan": 2, "NA": 3, "NaT": 4}  # kinds of what stands for a missing text


def describe_pandas(value: Any) -> Branch | Leaf | None:
    """The node of a DataFrame, a Series, an Index, or one of pandas' scalars; None for anything else."""
    if type(value) is pd.DataFrame:
        return _frame(value)
    if type(value) is pd.Series:
        return _series(value)
    if isinstance(value, pd.Index) and type(value).__module__.startswith("pandas."):
        return _labels_branch(value)
    return _scalar(value)


def _labels_branch(index: pd.Index) -> Branch:
    return Table("Index").index(index, index.name if index.nlevels == 1 else None).branch()


def _scalar(value: Any) -> Leaf | None:
    if value is pd.NaT or value is pd.NA:
        return Leaf(np.zeros(0, np.bool_), Stored("plain", np.dtype(bool)), {"type": "NaT" if value is pd.NaT else "NA"})
    if type(value) is pd.Timestamp:
        mark: dict[str, Json] = {} if value.tz is None else {"zone": zone_fields(value.tz)}
        stamp = value if value.tz is None else value.tz_convert(None)
        return array_leaf(
            np.asarray(stamp.to_datetime64()), Stored("plain", np.dtype(f"M8[{value.unit}]")), "Timestamp", mark=mark
        )
    if type(value) is pd.Timedelta:
        return array_leaf(np.asarray(value.to_timedelta64()), Stored("plain", np.dtype(f"m8[{value.unit}]")), "Timedelta")
    return None


class Table:
    """A group in the making: variables along one dimension, and their parts."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.taken: set[str] = {PARTS}
        self.items: list[tuple[str, dict[str, Json], Any]] = []
        self.parts: list[tuple[str, dict[str, Json], Any]] = []
        self.mark: dict[str, Json] = {}
        self.dim = "index"

    def name(self, label: Any) -> str:
        """A node's name for a label, not taken yet."""
        text = str(label).encode("utf-8", "backslashreplace").decode()
        found = unique(escape(text) if text else "%", self.taken)
        self.taken.add(found)
        return found

    def index(self, index: pd.Index, label: Any) -> Table:
        """Add the rows' labels, and name their dimension."""
        self.dim = self.name("index" if label is None else label)
        self.mark["index"] = self._labels(index, [self.dim])
        return self

    def _labels(self, index: pd.Index, names: list[str]) -> dict[str, Json]:
        if isinstance(index, pd.RangeIndex):
            return {"range": [index.start, index.stop, index.step], "name": tag(index.name)}
        if isinstance(index, pd.MultiIndex):
            levels = []
            for i in range(index.nlevels):
                name = self.name(f"{self.dim}_level_{i}" if index.names[i] is None else index.names[i])
                levels.append(name)
                self.add(name, index.get_level_values(i).array)
            return {"levels": levels, "names": [tag(name) for name in index.names]}
        freq = getattr(index, "freqstr", None) if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) else None
        self.add(names[0], index.array)
        return {"values": names[0], "name": tag(index.name), **({"freq": freq} if freq else {})}

    def add(self, name: str, values: Any) -> None:
        """Add a variable along the dimension."""
        leaf, parts = column(values, (self.dim,))
        self.items.append((name, {}, leaf))
        if parts:
            self.parts.append((name, {}, Branch({"type": "dict"}, [(key, {}, part) for key, part in parts.items()])))

    def branch(self, seen: dict[str, Json] | None = None, /, **mark: Json) -> Branch:
        """The group."""
        parts: list[Any] = [(PARTS, {}, Branch({"type": "dict"}, self.parts))] if self.parts else []
        full = {"type": self.kind, **self.mark, **mark}
        return Branch(full, [*self.items, *parts], seen or {}, labelled=True)


def _frame(frame: pd.DataFrame) -> Branch:
    table = Table("DataFrame").index(frame.index, frame.index.name if frame.index.nlevels == 1 else None)
    names = []
    for i in range(frame.shape[1]):
        name = table.name(frame.columns[i])
        names.append(name)
        try:
            table.add(name, frame.iloc[:, i].array)
        except PlanError as error:
            raise PlanError(f"column {frame.columns[i]!r}: {error}") from None
    columns = frame.columns
    plain = type(columns) is pd.Index and columns.dtype == object and columns.name is None and list(columns) == names
    if not plain:
        table.parts.append(("%columns", {}, _labels_branch(columns)))
    seen, exact = attributes_of(frame.attrs)
    flags = {} if frame.flags.allows_duplicate_labels else {"unique": True}
    return table.branch(seen, columns=names, **exact, **flags)


def _series(series: pd.Series) -> Branch:
    table = Table("Series").index(series.index, series.index.name if series.index.nlevels == 1 else None)
    name = table.name("values" if series.name is None else series.name)
    table.add(name, series.array)
    seen, exact = attributes_of(series.attrs)
    flags = {} if series.flags.allows_duplicate_labels else {"unique": True}
    return table.branch(seen, columns=[name], name=tag(series.name), **exact, **flags)


def column(values: Any, dims: tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
    """What a column becomes: the array (or, of mixed objects, the group) that readers see, and parts that complete it.

    Raises
    ------
    PlanError
        For a type of column that is not known.
    """
    dtype = values.dtype
    if isinstance(dtype, np.dtype) or type(values) is pd.arrays.NumpyExtensionArray:
        return _numpy_column(np.asarray(values), dims)
    if isinstance(dtype, pd.CategoricalDtype):
        categories = _labels_branch(dtype.categories)
        leaf = _leaf(values.codes, dims, {"extension": "category", "ordered": bool(dtype.ordered)}, _meanings(dtype))
        return leaf, {"categories": categories}
    if isinstance(dtype, pd.DatetimeTZDtype):
        stamps = np.asarray(values.tz_convert(None), f"M8[{dtype.unit}]")
        return _leaf(stamps, dims, {"extension": "datetime", "zone": zone_fields(dtype.tz)}), {}
    if isinstance(dtype, pd.StringDtype):
        return _texts(values.to_numpy(object, na_value=None), dims, _string_mark(dtype))
    if isinstance(dtype, pd.PeriodDtype):
        ordinals = np.asarray(pd.PeriodIndex(values).asi8)
        freq = dtype.name.removeprefix("period[").removesuffix("]")
        return _leaf(ordinals, dims, {"extension": "period", "freq": freq}, {"freq": freq}), {}
    if isinstance(dtype, pd.IntervalDtype):
        valid = _leaf(np.asarray(~pd.isna(values)), dims, {"extension": "interval", "closed": dtype.closed})
        return valid, {"left": _labels_branch(pd.Index(values.left)), "right": _labels_branch(pd.Index(values.right))}
    if isinstance(values, pd.arrays.IntegerArray | pd.arrays.FloatingArray | pd.arrays.BooleanArray):
        return _nullable(values, dims)
    raise PlanError(f"expected a column of one of pandas' own types, found {dtype!r}")


def _leaf(values: Any, dims: tuple[str, ...], mark: dict[str, Json], attributes: dict[str, Json] | None = None) -> Leaf:
    stored = cast(Stored, stored_as(values.dtype, values))
    return array_leaf(values, stored, "column", dims=dims, attributes=attributes, mark=mark)


def _meanings(dtype: pd.CategoricalDtype) -> dict[str, Json]:
    """CF's names of the codes, where the categories are words."""
    words = list(dtype.categories)
    if not words or not all(type(word) is str and word and not set(word) & set(" \t\n") for word in words):
        return {}
    return {"flag_values": list(range(len(words))), "flag_meanings": " ".join(words)}


def _numpy_column(values: Any, dims: tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
    stored = stored_as(values.dtype, values)
    if stored is not None:
        return array_leaf(values, stored, dims=dims), {}
    if values.dtype == object and values.size and all(type(item) is str or _missing(item) for item in values):
        return _texts(values, dims, {"extension": "object"})
    return values, {}


def _missing(item: Any) -> str:
    """The word for what stands for a missing value, or none."""
    if item is None:
        return "None"
    if item is pd.NA:
        return "NA"
    if item is pd.NaT:
        return "NaT"
    return "nan" if type(item) is float and item != item else ""


def _texts(values: Any, dims: tuple[str, ...], mark: dict[str, Json]) -> tuple[Any, dict[str, Any]]:
    kinds = np.array([_MISSING.get(_missing(item), 0) for item in values], np.int8)
    texts = np.where(kinds > 0, np.array("", object), values)
    stored = stored_as(texts.dtype, texts)
    if stored is None and texts.size:
        if mark["extension"] != "object":
            raise PlanError("expected text that UTF-8 can hold, found lone surrogates")
        return values, {}
    leaf = Leaf(texts, _TEXT, {"type": "column", "dtype": "|O", "form": "text", **mark}, dims)
    return leaf, ({"missing": kinds} if kinds.any() else {})


def _string_mark(dtype: pd.StringDtype) -> dict[str, Json]:
    missing = getattr(dtype, "na_value", pd.NA)
    return {"extension": "string", "storage": dtype.storage, "na": "NA" if missing is pd.NA else "nan"}


def _nullable(values: Any, dims: tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
    """Numbers with a mask: to plain readers, missing ones are NaN, or a fill value that no number has."""
    dtype = np.dtype(values.dtype.numpy_dtype)
    mask = np.asarray(values.isna())
    if dtype.kind == "b" and mask.any():
        dtype = np.dtype(np.int8)
    fill: Any = np.nan if dtype.kind == "f" else False if dtype.kind == "b" else _unlikely(dtype)
    numbers = values.to_numpy(dtype, na_value=dtype.type(fill))
    clear = dtype.kind in "iu" and bool(mask.any()) and not bool((numbers[~mask] == fill).any())
    attributes: dict[str, Json] = {"_FillValue": int(fill)} if clear else {}
    leaf = _leaf(numbers, dims, {"extension": "nullable", "name": str(values.dtype)}, attributes)
    return leaf, ({"mask": mask} if mask.any() else {})


def _unlikely(dtype: np.dtype[Any]) -> int:
    info = np.iinfo(dtype)
    return int(info.min if dtype.kind == "i" else info.max)


def build_pandas(found: Found) -> Any:
    """The DataFrame, Series, Index or scalar that a node holds."""
    mark, members = found.mark, found.members
    if found.kind in _SCALARS:
        return _SCALARS[found.kind](found)
    parts = members.get(PARTS, {})
    index = _index(mark["index"], found, parts)
    if found.kind == "Index":
        return index
    columns = [_whole(found, name, parts) for name in mark["columns"]]
    if found.kind == "Series":
        made: Any = pd.Series(columns[0], index=index, dtype=columns[0].dtype, name=untag(mark["name"]), copy=False)
    else:
        data = {i: pd.Series(values, index=index, dtype=values.dtype, copy=False) for i, values in enumerate(columns)}
        made = pd.DataFrame(data, index=index, columns=pd.RangeIndex(len(columns)), copy=False)
        labels = parts.get("%columns")
        made.columns = pd.Index(mark["columns"], dtype=object) if labels is None else labels
    made.attrs = attributes_in(mark, found.attributes)
    return made.set_flags(allows_duplicate_labels=False) if mark.get("unique") else made


def _index(described: dict[str, Json], found: Found, parts: dict[str, Any]) -> pd.Index:
    if "range" in described:
        return pd.RangeIndex(*described["range"], name=untag(described["name"]))
    if "levels" in described:
        levels = [_labels(_whole(found, name, parts)) for name in described["levels"]]
        return pd.MultiIndex.from_arrays(levels, names=[untag(name) for name in described["names"]])
    made = _labels(_whole(found, described["values"], parts), untag(described["name"]))
    if described.get("freq"):
        made = type(made)(made, freq=described["freq"], name=made.name)
    return made


def _labels(values: Any, name: Any = None) -> Any:
    return pd.Index(values, name=name, dtype=values.dtype, copy=False)


def _whole(found: Found, name: str, parts: dict[str, Any]) -> Any:
    """A column's values with what completes them."""
    half = found.members[name]
    return half.whole(parts.get(name, {})) if isinstance(half, Half) else half


class Half:
    """A column's array, before its parts are at hand."""

    def __init__(self, values: Any, mark: dict[str, Json]) -> None:
        self.values, self.mark = values, mark

    def whole(self, parts: dict[str, Any]) -> Any:
        """The column, as the array that pandas keeps."""
        mark, values = self.mark, self.values
        kind = mark["extension"]
        if kind == "category":
            return pd.Categorical.from_codes(values, dtype=pd.CategoricalDtype(parts["categories"], mark["ordered"]))
        if kind == "datetime":
            zone = zone_of(mark["zone"])
            return pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(zone).array
        if kind == "period":
            return pd.PeriodIndex.from_ordinals(values, freq=mark["freq"]).array
        if kind == "interval":
            return pd.arrays.IntervalArray.from_arrays(parts["left"], parts["right"], closed=mark["closed"])
        if kind == "nullable":
            mask = parts.get("mask", np.zeros(values.shape, bool))
            if mark["name"] == "boolean":
                values = (values == 1) if values.dtype.kind == "i" else values
            return _NULLABLE[values.dtype.kind](values, mask)
        return self._texts(parts.get("missing"))

    def alone(self) -> Any:
        """The column, where it is all that was asked for.

        Raises
        ------
        PlanError
            If it is not whole without its table.
        """
        if self.mark["extension"] not in ("datetime", "period"):
            raise PlanError(f"expected the key of a table, found that of a column of type {self.mark['extension']!r} in it")
        return self.whole({})

    def _texts(self, missing: Any) -> Any:
        texts = self.values.astype(object)
        words = {1: None, 2: np.nan, 3: pd.NA, 4: pd.NaT}
        for i in np.flatnonzero(missing) if missing is not None else ():
            texts[i] = words[int(missing[i])]
        if self.mark["extension"] == "object":
            return texts
        keywords = {"na_value": np.nan} if self.mark["na"] == "nan" else {}
        return pd.array(texts, dtype=cast(Any, pd.StringDtype(self.mark["storage"], **keywords)))


def _timestamp(found: Found) -> Any:
    values = pd.DatetimeIndex(np.atleast_1d(array_of(found)))
    zone = found.mark.get("zone")
    return values[0] if zone is None else values.tz_localize("UTC").tz_convert(zone_of(zone))[0]


_SCALARS: dict[str, Any] = {
    "NaT": lambda found: pd.NaT,
    "NA": lambda found: pd.NA,
    "Timestamp": _timestamp,
    "Timedelta": lambda found: pd.TimedeltaIndex(np.atleast_1d(array_of(found)))[0],
}
_NULLABLE: dict[str, Any] = {
    "b": pd.arrays.BooleanArray,
    "i": pd.arrays.IntegerArray,
    "u": pd.arrays.IntegerArray,
    "f": pd.arrays.FloatingArray,
}
