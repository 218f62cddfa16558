"""Rows on their way: batches of columns, and whatever a user has rows in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from h5z.errors import PlanError, RecordError
from h5z.events.schema import Entity, Schema
from h5z.events.values import Array, one_dimensional

BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Batch:
    """Some rows of one entity, column by column.

    Parameters
    ----------
    entity : str
        The entity's name.
    columns : mapping of str to sequence
        Values by attribute, ``id`` (or ``<entity>_id``) among them; all of the same length. None, masked, NaN and NaT are
        missing, and so is every value of an attribute that is not there.
    """

    entity: str
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class Records:
    """The rows of one session.

    Parameters
    ----------
    session_id : str
        The session's id.
    batches : callable
        Called without arguments, gives the batches from the start; entities in any order.
    attributes : mapping
        What else is known of the session; becomes attributes of the Dataset.
    source : str
        Where the rows come from, for messages.
    """

    session_id: str
    batches: Callable[[], Iterable[Batch]]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def __iter__(self) -> Iterator[Batch]:
        """Go through the batches from the start."""
        return iter(self.batches())


Rows: TypeAlias = Records | Iterable[Batch] | Mapping[str, Any]


@dataclass(frozen=True)
class Columns:
    """A batch whose columns are arrays of one length: ids apart, the rest by attribute, and names that no schema knows."""

    rows: int
    ids: Array | None
    known: Mapping[str, Array]
    unknown: tuple[str, ...]


def batches(records: Rows, schema: Schema) -> Iterator[Batch]:
    """Batches of whatever rows are in.

    Parameters
    ----------
    records : Records, iterable of Batch, or mapping
        A mapping has, for each entity, its rows (mappings of attribute to value), its columns (a mapping of attribute to
        values), a structured array, or a pandas DataFrame. Rows are taken up by `BATCH_ROWS`.
    schema : Schema
        What entities there are.

    Raises
    ------
    PlanError
        For anything else, or an entity that the schema does not know.
    """
    if isinstance(records, Mapping):
        for entity, rows in records.items():
            yield from _entity_batches(schema[entity].name, rows)
        return
    if not isinstance(records, Iterable):
        raise PlanError(f"records: expected Records, batches, or rows by entity; found {type(records).__name__}")
    for batch in records:
        if not isinstance(batch, Batch):
            raise PlanError(f"records: expected batches of rows, found {type(batch).__name__}")
        schema[batch.entity]
        yield batch


def _entity_batches(entity: str, rows: Any) -> Iterator[Batch]:
    if isinstance(rows, np.ndarray) and rows.dtype.names:
        rows = {name: rows[name] for name in rows.dtype.names}
    elif hasattr(rows, "columns") and hasattr(rows, "to_numpy"):  # a pandas DataFrame
        rows = {str(name): rows[name] for name in rows.columns}
    if isinstance(rows, Mapping):
        yield Batch(entity, rows)
        return
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise PlanError(f"records: {entity}: expected rows or columns, found {type(rows).__name__}")
    waiting = iter(rows)
    first = 0
    while some := list(islice(waiting, BATCH_ROWS)):
        yield _of_rows(entity, some, first)
        first += len(some)


def _of_rows(entity: str, rows: list[Any], first: int) -> Batch:
    names: dict[str, None] = {}
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise RecordError(f"{entity} row {first + i}: expected attributes by name, found {type(row).__name__}")
        names.update(dict.fromkeys(row))
    return Batch(entity, {name: _object_column([row.get(name) for row in rows]) for name in names})


def _object_column(values: list[Any]) -> Array:
    """Values one a row, whatever they are: a list among them is a value of a wrong type, not a further dimension."""
    out = np.empty(len(values), object)
    for i, value in enumerate(values):
        out[i] = value
    return out


def columns_of(batch: Batch, entity: Entity) -> Columns:
    """A batch's columns as arrays of one length.

    Raises
    ------
    RecordError
        If they are not of one length, or have more than one value a row.
    """
    arrays: dict[str, Array] = {}
    length: tuple[str, int] | None = None
    for name, column in batch.columns.items():
        array = one_dimensional(column)
        if array is None:
            raise RecordError(f"{entity.name}: {name}: expected one value a row, found an array of more dimensions")
        length = length or (name, len(array))
        if len(array) != length[1]:
            raise RecordError(f"{entity.name}: {name}: expected {length[1]} values as {length[0]} has, found {len(array)}")
        arrays[name] = array
    given = [name for name in ("id", entity.id_name) if name in arrays]
    if len(given) > 1:
        raise RecordError(f"{entity.name}: expected one column of ids, found {' and '.join(given)}")
    ids = arrays.pop(given[0]) if given else None
    known = {name: array for name, array in arrays.items() if name in entity.columns}
    unknown = tuple(str(name) for name in arrays if name not in entity.columns)
    return Columns(length[1] if length else 0, ids, known, unknown)
