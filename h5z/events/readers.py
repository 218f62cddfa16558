"""HDF5 -> records: datasets of compounds, groups of columns, groups a row; read in batches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import h5py
import numpy as np

from h5z.errors import SourceError
from h5z.events.layout import Layout, SessionLayout
from h5z.events.places import Place, SourceFile, scalar
from h5z.events.records import BATCH_ROWS, Batch, Records
from h5z.events.schema import FLOATS, INTEGERS, Schema
from h5z.events.values import Array
from h5z.hdf5.files import open_file, reading

_BATCH_NBYTES = 32 << 20
_GROUP_ROWS = 4096
Raw = dict[str, Any]


def read(
    source: str | os.PathLike[str],
    layout: SessionLayout,
    schema: Schema,
    *,
    storage_options: dict[str, Any] | None = None,
) -> Records:
    """Read the rows of a session from an HDF5 file, a batch at a time.

    Parameters
    ----------
    source : path or URL
        The file.
    layout : SessionLayout
        Where in it the rows are.
    schema : Schema
        What they are.
    storage_options : dict, optional
        For a URL, as fsspec takes them.

    Returns
    -------
    Records
        Nothing but the session's id has been read yet; each time they are gone through, the file is opened anew.

    Raises
    ------
    SourceError
        If the file cannot be read; when the records are gone through, also if something is not where the layout says, or is
        kept outside of the file. One line, with file and object.
    PlanError
        If the layout does not fit the schema.
    """
    name = os.fspath(source)
    layout.check(schema)
    with open_file(name, storage_options) as file:
        session = session_id(SourceFile(name, file), layout)

    def batches() -> Iterator[Batch]:
        with open_file(name, storage_options) as opened:
            for entity in schema.entities:
                for place in layout.entities.get(entity.name, ()):
                    yield from _Reader(SourceFile(name, opened), schema, entity.name, place).batches()

    return Records(session, batches, source=name)


def session_id(file: SourceFile, layout: SessionLayout) -> str:
    """The id of the session that a file holds.

    Raises
    ------
    SourceError
        If it is not where the layout says, or is neither text nor an integer.
    """
    where = layout.session
    if where == "auto":
        where = "@session_id" if "session_id" in file.file.attrs else "name"
    if where == "name":
        return os.path.splitext(os.path.basename(file.name.rstrip("/")))[0]
    path, found, attribute = where.rpartition("@")
    label = where if found else attribute
    with file.reading(label):
        node = file.file[(path if found else attribute) or "/"]
        value = scalar(node.attrs[attribute] if found else node[()])
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise SourceError(f"{file.name}: {label}: expected the session's id, found {value!r}")
    return value


class _Reader:
    """Reads the rows of one entity from what one layout names in an open file."""

    def __init__(self, file: SourceFile, schema: Schema, entity: str, layout: Layout) -> None:
        self.file = file
        self.layout = layout
        self.entity = schema[entity]
        self.dtypes = {"id": self.entity.id_dtype} | {item.name: item.dtype for item in self.entity.attributes}
        self.dtypes |= {item.attribute: schema[item.to].id_dtype for item in self.entity.relations}

    def batches(self) -> Iterator[Batch]:
        """Batches of all places that the path names."""
        kind = h5py.Dataset if self.layout.kind == "table" else h5py.Group
        places = self.file.find(self.layout.components, kind)
        if self.layout.kind == "groups":
            while some := list(islice(places, _GROUP_ROWS)):
                yield self._batch(_columns_of_rows([self._row(place) for place in some]), {})
            return
        for place in places:
            for columns in self._table(place) if self.layout.kind == "table" else self._columns(place):
                yield self._batch(columns, place.captured)

    def _wanted(self, there: Any) -> dict[str, str]:
        """What is there of what the schema has: its name in the file, by attribute."""
        out = {}
        for column in (*self.entity.columns, "id"):
            name = self.layout.names.get(column, column)
            if column == "id" and name not in there:
                name = self.layout.names.get(self.entity.id_name, self.entity.id_name)
            if name in there:
                out[column] = name
        return out

    def _others(self, there: Any, wanted: Mapping[str, str], place: str, rows: int) -> Raw:
        """What the schema does not have: named, not read."""
        nothing = np.broadcast_to(np.array(None, object), (rows,))
        return {f"{place}: {name}": nothing for name in there if name not in wanted.values()}

    def _table(self, place: Place) -> Iterator[Raw]:
        dataset = self.file.dataset(place.path, place.node)
        dtype, shape = dataset.dtype, (0,) if dataset.shape is None else dataset.shape
        if not dtype.names:
            raise SourceError(f"{self.file.name}: {place.path}: expected a table (a dataset of compounds), found {dtype}")
        if len(shape) != 1:
            raise SourceError(f"{self.file.name}: {place.path}: expected a table of one dimension, found shape {shape}")
        wanted = self._wanted(dtype.names)
        for window in _windows(shape[0], dataset):
            with reading(self.file.name, place.path, (window,)):
                names = list(dict.fromkeys(wanted.values()))
                rows = dataset.fields(names)[window] if names and shape[0] else np.zeros(window.stop - window.start, dtype)
            columns = {column: self._named(column, dtype[name], rows[name]) for column, name in wanted.items()}
            yield columns | self._others(dtype.names, wanted, place.path, len(rows))

    def _columns(self, place: Place) -> Iterator[Raw]:
        if not isinstance(place.node, h5py.Group):
            raise SourceError(f"{self.file.name}: {place.path}: expected a group of columns, found a dataset")
        there = self.file.members(place.node)
        wanted = self._wanted(there)
        paths = {column: f"{place.path}/{name}" for column, name in wanted.items()}
        datasets = {
            column: self.file.dataset(paths[column], self.file.open(place.node, place.path, name))
            for column, name in wanted.items()
        }
        for window in _windows(self._length(paths, datasets), *datasets.values()):
            columns = {}
            for column, dataset in datasets.items():
                with reading(self.file.name, paths[column], (window,)):
                    values = dataset[window] if dataset.shape is not None else np.zeros(0, dataset.dtype)
                columns[column] = self._named(column, dataset.dtype, values)
            yield columns | self._others(there, wanted, place.path, window.stop - window.start)

    def _length(self, paths: Mapping[str, str], datasets: Mapping[str, h5py.Dataset]) -> int:
        """The one length that columns have."""
        first: tuple[str, int] | None = None
        for column, dataset in datasets.items():
            shape = (0,) if dataset.shape is None else dataset.shape
            first = first or (paths[column], shape[0] if shape else 1)
            if len(shape) != 1 or shape[0] != first[1]:
                expected = f"a column of {first[1]} values as {first[0]} has"
                raise SourceError(f"{self.file.name}: {paths[column]}: expected {expected}, found shape {shape}")
        return first[1] if first else 0

    def _row(self, place: Place) -> Raw:
        """A group's attributes and scalar datasets: those that are wanted by value, others by name."""
        group = place.node
        if not isinstance(group, h5py.Group):
            raise SourceError(f"{self.file.name}: {place.path}: expected a group a row, found a dataset")
        with self.file.reading(place.path):
            attributes = set(group.attrs)
            datasets = {name for name in group if group.get(name, getclass=True) is h5py.Dataset}
        there = attributes | datasets
        wanted = self._wanted(there)
        out: Raw = {f"{self.layout.path}: {name}": None for name in sorted(there - set(wanted.values()))}
        for column, name in wanted.items():
            if name in attributes:
                with self.file.reading(f"{place.path}@{name}"):
                    dtype, value = group.attrs.get_id(name).dtype, scalar(group.attrs[name])
            else:
                path = f"{place.path}/{name}"
                dataset = self.file.dataset(path, self.file.open(group, place.path, name))
                with self.file.reading(path):
                    dtype, value = dataset.dtype, scalar(dataset[()])
            named = isinstance(value, int) and not isinstance(value, bool)
            out[column] = self._named(column, dtype, np.array([value])).tolist()[0] if named else value
        return out | self._given(place.captured)

    def _named(self, column: str, dtype: Any, values: Array) -> Array:
        """Members of an enumeration by their names, where text is wanted."""
        members = h5py.check_enum_dtype(dtype)
        if members is None or self.dtypes[column] != "string":
            return values
        names = {number: name for name, number in members.items()}
        return np.array([names.get(number, number) for number in values.tolist()], object)

    def _given(self, values: Mapping[str, Any]) -> Raw:
        """What the path or the layout says of attributes; text as the number that its attribute is, where it is one."""
        out = {}
        for name, value in values.items():
            column = "id" if name == self.entity.id_name else name
            dtype = self.dtypes[column]
            if isinstance(value, str) and dtype in (*INTEGERS, *FLOATS):
                with suppress(ValueError):
                    value = int(value) if dtype in INTEGERS else float(value)
            out[column] = value
        return out

    def _batch(self, columns: Raw, captured: Mapping[str, str]) -> Batch:
        """A batch with what the path and the layout say, and without what stands for nothing."""
        rows = max((len(column) for column in columns.values()), default=0)
        out = dict(columns)
        for name, value in self._given({**captured, **self.layout.constants}).items():
            out[name] = np.full(rows, value, object)
        for name, values in self.layout.missing.items():
            column = "id" if name == self.entity.id_name else name
            if column in out:
                out[column] = _without(out[column], list(values) if isinstance(values, list | tuple) else [values])
        return Batch(self.entity.name, out)


def _windows(rows: int, *datasets: h5py.Dataset) -> Iterator[slice]:
    """Runs of rows that hold whole chunks, where those are not too large; an empty one where there are no rows."""
    if not rows:
        yield slice(0, 0)
        return
    widest = max(1, sum(dataset.dtype.itemsize for dataset in datasets))
    step = max(1, min(BATCH_ROWS, _BATCH_NBYTES // widest))
    chunk = max((dataset.chunks[0] for dataset in datasets if dataset.chunks), default=1)
    step = step // chunk * chunk or step
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def _columns_of_rows(rows: list[Raw]) -> Raw:
    columns: Raw = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        columns[name] = column = np.empty(len(rows), object)
        for i, row in enumerate(rows):
            column[i] = row.get(name)
    return columns


def _without(column: Array, values: list[Any]) -> Array:
    """A column masked where it holds one of some values."""
    mask = np.zeros(len(column), bool)
    for value in values:
        if column.dtype.kind == "O":
            texts = (value, value.encode()) if isinstance(value, str) else (value,)
            mask |= np.fromiter((any(type(item) is type(text) and item == text for text in texts) for item in column), bool)
        else:
            encoded = value.encode() if isinstance(value, str) and column.dtype.kind == "S" else value
            mask |= np.asarray(column == encoded) & (isinstance(value, str) == (column.dtype.kind in "SUT"))
    return np.ma.MaskedArray(column, mask)
