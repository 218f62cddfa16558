"""Batches -> one table an entity: typed columns, with what is wrong in them noted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from h5z.events.identifiers import Identifiers
from h5z.events.problems import Problems
from h5z.events.records import Batch, Columns, columns_of
from h5z.events.schema import ANY_ID, Entity, Relation, Schema
from h5z.events.values import Array, concatenated, nothing, numpy_dtype, resolved, show, typed

_ID = ""  # the place of ids among an entity's columns


@dataclass
class Column:
    """A column: values, and where there are none."""

    values: Array
    missing: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.int64]) -> None:
        """Bring the rows into another order."""
        self.values = self.values[rows]
        self.missing = self.missing[rows]


@dataclass
class Table:
    """All rows of one entity.

    Attributes
    ----------
    leads : dict
        The row to which each row's relation leads, -1 for none; once that is known.
    """

    entity: Entity
    ids: Column
    columns: dict[str, Column]
    unknown: tuple[str, ...] = ()
    leads: dict[Relation, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        """Rows."""
        return len(self.ids.values)

    @property
    def identifiers(self) -> Identifiers:
        """The rows by their ids."""
        return Identifiers(self.ids.values, self.ids.missing)

    def label(self, row: int) -> str:
        """A row in a message: its id, or its number where it has none."""
        return f"row {row}" if self.ids.missing[row] else show(self.ids.values[row])

    def take(self, rows: npt.NDArray[np.int64]) -> None:
        """Bring the rows into another order, one column after the other."""
        for column in (self.ids, *self.columns.values()):
            column.take(rows)


@dataclass
class _Growing:
    """A column of which more is to come."""

    dtype: str
    values: list[Array] = field(default_factory=list)
    missing: list[npt.NDArray[np.bool_]] = field(default_factory=list)


class TableBuilder:
    """Takes up batches of one entity.

    Parameters
    ----------
    entity : Entity
        What the rows are.
    schema : Schema
        Which says of what type the ids are that relations lead to.
    problems : Problems
        Where what is wrong with them is noted.
    """

    def __init__(self, entity: Entity, schema: Schema, problems: Problems) -> None:
        self._entity = entity
        self._problems = problems
        self._rows = 0
        self._columns = {_ID: _Growing(entity.id_dtype)}
        self._columns |= {item.name: _Growing(item.dtype) for item in entity.attributes}
        self._columns |= {item.attribute: _Growing(schema[item.to].id_dtype) for item in entity.relations}
        required = {item.name for item in entity.attributes if item.required}
        self._required = required | {item.attribute for item in entity.relations if item.required}
        self._unknown: dict[str, None] = {}

    def add(self, batch: Batch) -> None:
        """Take up a batch, and note what is wrong with it."""
        found = columns_of(batch, self._entity)
        self._unknown.update(dict.fromkeys(found.unknown))
        if not found.rows:
            self._remember_types(found)
            return
        ids = found.ids if found.ids is not None else np.full(found.rows, None)
        self._extend(_ID, ids)
        for name in self._entity.columns:
            if name in found.known:
                self._extend(name, found.known[name])
            else:
                self._leave_out(name, found.rows)
        self._rows += found.rows

    def _remember_types(self, found: Columns) -> None:
        """An empty table's ids are of the type that its file gives them."""
        for name, column in ((_ID, found.ids), *found.known.items()):
            growing = self._columns[name]
            if column is not None and growing.dtype == ANY_ID and column.dtype.kind in "iu":
                growing.values.append(column.astype(np.int64))
                growing.missing.append(np.zeros(0, bool))
                growing.dtype = "int64"

    def _extend(self, name: str, column: Array) -> None:
        growing = self._columns[name]
        dtype = resolved(growing.dtype, column)
        if dtype is None:  # no id in it yet, to tell a type by
            growing.values.append(np.zeros(len(column), np.int8))
            growing.missing.append(np.ones(len(column), bool))
            wrong: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        else:
            growing.dtype = dtype
            made = typed(column, dtype)
            growing.values.append(made.values)
            growing.missing.append(made.missing)
            wrong = made.wrong
        shown = name or "id"
        self._problems.rows(
            self._entity.name, shown, wrong, str(dtype), lambda row: show(column[row]), self._label if name else self._row
        )
        if name in self._required or name == _ID:
            absent = growing.missing[-1].copy()
            absent[wrong] = False
            rows = np.flatnonzero(absent)
            label = self._label if name else self._row
            self._problems.rows(self._entity.name, shown, rows, "a value (it is required)", lambda _: "none", label)

    def _row(self, row: int) -> str:
        return f"row {self._rows + row}"

    def _label(self, row: int) -> str:
        """A row of the batch at hand."""
        ids = self._columns[_ID]
        return self._row(row) if ids.missing[-1][row] else show(ids.values[-1][row])

    def _leave_out(self, name: str, rows: int) -> None:
        growing = self._columns[name]
        growing.missing.append(np.ones(rows, bool))
        growing.values.append(
            np.zeros(rows, np.int8)
            if growing.dtype == ANY_ID
            else np.full(rows, nothing(growing.dtype), numpy_dtype(growing.dtype))
        )
        if name in self._required:
            others = f" (but {', '.join(self._unknown)})" if self._unknown else ""
            self._problems.column(self._entity.name, name, "a value in each row (it is required)", f"none{others}", rows)

    def finish(self) -> Table:
        """The table of all rows taken up."""
        made = {name: self._whole(name) for name in list(self._columns)}
        return Table(self._entity, made.pop(_ID), made, tuple(self._unknown))

    def _whole(self, name: str) -> Column:
        growing = self._columns.pop(name)
        dtype = "string" if growing.dtype == ANY_ID else growing.dtype
        target = numpy_dtype(dtype)
        # What was left open before the first id came along holds nothing, in any type.
        parts = [part if part.dtype == target else np.full(len(part), nothing(dtype), target) for part in growing.values]
        missing = concatenated(growing.missing, "bool")
        return Column(concatenated(parts, dtype), missing)


def read_tables(batches: Iterable[Batch], schema: Schema, problems: Problems) -> dict[str, Table]:
    """Tables by entity; those of which there is no batch are empty."""
    builders = {entity.name: TableBuilder(entity, schema, problems) for entity in schema.entities}
    for batch in batches:
        builders[batch.entity].add(batch)
    return {name: builder.finish() for name, builder in builders.items()}
