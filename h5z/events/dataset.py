"""Rows -> one xarray Dataset: a dimension an entity, relations as row numbers, an index for queries.

A missing value does not change its variable's type: it is NaN among floats and NaT among times; beside each variable of
another type that may lack values stands ``<variable>_missing``, of bool (an ancillary variable, CF 3.4), and the value itself is
0, the empty text or False. Rows that belong together lie
together (CF's contiguous ragged array): ``<container>_<entity>_count`` and ``<container>_<entity>_first`` say where.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from h5z.errors import PlanError
from h5z.events.problems import OnProblem, Problems
from h5z.events.records import Records, Rows, batches
from h5z.events.schema import MISSING, Entity, Relation, Schema
from h5z.events.tables import Column, Table, read_tables
from h5z.events.values import Array, show

if TYPE_CHECKING:
    import xarray as xr

TRANSFORM = "h5z.events"
ZONE_ROWS = 4096
_TEXTS = 1 << 16  # texts that are Python objects at once
INDEXED_ROWS = 10_000  # an xarray index holds each id of text as a Python object: larger tables go without
Variables = dict[str, tuple[str, Any, dict[str, Any]]]


def to_dataset(
    records: Rows,
    schema: Schema,
    *,
    session_id: str | int | None = None,
    problems: OnProblem = "error",
    transform: str = TRANSFORM,
    version: str | None = None,
    creation_time: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Make one Dataset of the rows of a session.

    Parameters
    ----------
    records : Records, iterable of Batch, or mapping
        The rows: see `h5z.events.records.batches`. They are taken up batch by batch, as typed columns.
    schema : Schema
        What they are.
    session_id : str or int, optional
        The session's id; by default that of `Records`, or what a mapping has under ``session_id``.
    problems : {"error", "report"}
        What becomes of rows that break the schema: an error, or they are kept (what is not of its type as missing, a relation
        that leads nowhere as -1 in its index) and named in the attributes ``problems`` and ``problem_count``.
    transform, version, creation_time : str
        Attributes; the schema's version and now (ISO 8601, UTC) by default.
    attributes : mapping, optional
        Further attributes.

    Returns
    -------
    xarray.Dataset
        Rows in the order of their source, but those of one container together. Attributes that the rows have and the
        schema has not are named in ``not_carried``.

    Raises
    ------
    RecordError
        For a row that breaks the schema; one line that names entity, id and attribute.
    PlanError
        If the call is wrong.
    """
    own = getattr(records, "session_id", None)
    if isinstance(records, Mapping):
        own = records.get("session_id")
        records = {name: rows for name, rows in records.items() if name != "session_id"}
    session = _session_id(own if session_id is None else session_id)
    found = Problems(session, problems, getattr(records, "source", ""))
    tables = read_tables(batches(records, schema), schema, found)
    for table in tables.values():
        _check_ids(table, found)
    source = {entity.name: _arrange(tables[entity.name], tables, found) for entity in schema.entities}
    variables: Variables = {}
    for name, table in tables.items():
        variables |= _variables(table, source[name], tables, schema, found)
    resolved = schema.with_ids({name: _id_dtype(table) for name, table in tables.items()})
    lacking = [f"{name}: {column}" for name, table in tables.items() for column in table.unknown]
    known = {
        "session_id": session,
        "transform": transform,
        "version": schema.version if version is None else version,
        "creation_time": creation_time or dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "schema": resolved.to_json(),
        **(records.attributes if isinstance(records, Records) else {}),
        **(attributes or {}),
        **({"not_carried": lacking} if lacking else {}),
        **found.to_attributes(),
    }
    return _assembled(variables, {entity.id_name for entity in schema.entities}, known)


def _session_id(given: Any) -> str:
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str) or not given:
        raise PlanError(f"session_id: expected the session's id, found {given!r}")
    return given


def _id_dtype(table: Table) -> str:
    kind = table.ids.values.dtype
    return "string" if kind.kind == "T" else kind.name


def _check_ids(table: Table, problems: Problems) -> None:
    again = table.identifiers.duplicates()
    problems.rows(table.entity.name, "id", again, "an id of its own", lambda _: "that of an earlier row", table.label)


def _arrange(table: Table, tables: Mapping[str, Table], problems: Problems) -> Array:
    """Bring an entity's rows into its containers' order; return the row of the source that each was."""
    relation = table.entity.container
    source = np.arange(len(table), dtype=np.int64)
    if relation is None:
        return source
    leads = _resolve(table, relation, tables[relation.to], problems)
    key = np.where(leads < 0, len(tables[relation.to]), leads)
    if (key[1:] < key[:-1]).any():
        source = np.argsort(key, kind="stable").astype(np.int64)
        table.take(source)
        leads = leads[source]
    table.leads[relation] = leads
    return source


def _variables(table: Table, source: Array, tables: Mapping[str, Table], schema: Schema, problems: Problems) -> Variables:
    """An entity's variables, when all entities are in order."""
    entity = table.entity
    out: Variables = {}
    _put(out, entity, entity.id_name, table.ids, optional=False)
    out[entity.id_name][2]["row_count"] = len(table)  # by which a query sees that rows were taken away
    for item in entity.attributes:
        _put(out, entity, entity.variable(item.name), table.columns[item.name], optional=not item.required)
        if item.types:
            out |= _type_index(entity, table.columns[item.name])
    for relation in entity.relations:
        to = tables[relation.to]
        _put(out, entity, entity.variable(relation.attribute), table.columns[relation.attribute], optional=not relation.required)
        if relation not in table.leads:
            table.leads[relation] = _resolve(table, relation, to, problems)
        out |= _relation_variables(schema, entity, relation, table.leads[relation], len(to))
    if entity.container is not None:
        out[f"{entity.name}_source_row"] = (entity.id_name, source, {"long_name": "row in the source, from 0"})
    if entity.interval is not None:
        out |= _zones(entity, *(table.columns[name] for name in entity.interval))
    return out


def _resolve(table: Table, relation: Relation, to: Table, problems: Problems) -> Array:
    """The row to which each row's relation leads, -1 for none."""
    column = table.columns[relation.attribute]
    found = to.identifiers.rows(column.values)
    found[column.missing] = -1
    broken = np.flatnonzero((found < 0) & ~column.missing)
    expected = f"the id of a row of {relation.to}"
    problems.rows(table.entity.name, relation.attribute, broken, expected, lambda row: show(column.values[row]), table.label)
    return found


def _put(out: Variables, entity: Entity, variable: str, column: Column, *, optional: bool) -> None:
    """Put a column, and a mask beside it if it may lack values, or does, and its type has no value that says so."""
    about: dict[str, Any] = {}
    out[variable] = (entity.id_name, column.values, about)
    if column.values.dtype.kind not in "fM" and (optional or column.missing.any()):
        about["ancillary_variables"] = f"{variable}{MISSING}"
        label = {"long_name": f"whether {variable} has no value"}
        out[f"{variable}{MISSING}"] = (entity.id_name, column.missing, label)


def _type_index(entity: Entity, column: Column) -> Variables:
    """Of each row, the number of its type among those there are, in their alphabetical order; -1 for none."""
    numbers: dict[str, int] = {}
    found = np.empty(len(column.values), np.int32)
    for start in range(0, len(found), _TEXTS):  # types are few: numbering them as they come is faster than sorting all rows
        texts = column.values[start : start + _TEXTS].tolist()
        found[start : start + len(texts)] = [numbers.setdefault(text, len(numbers)) for text in texts]
    found[column.missing] = -1
    counts = np.bincount(found[found >= 0], minlength=len(numbers))
    names = sorted(text for text, number in numbers.items() if counts[number])
    place = np.full(len(numbers) + 1, -1, np.int32)  # the last for none
    place[[numbers[name] for name in names]] = range(len(names))
    index = place[found]
    about: dict[str, Any] = {"types": names, "flag_values": list(range(len(names)))}
    if names and not any(" " in name or not name for name in names):  # CF separates them by blanks
        about["flag_meanings"] = " ".join(names)
    return {f"{entity.name}_type_index": (entity.id_name, index, about)}


def _relation_variables(schema: Schema, entity: Entity, relation: Relation, leads: Array, rows: int) -> Variables:
    """The index of a relation, and what it counts and holds together (CF 9.3.3, 9.3.4)."""
    count = np.bincount(leads[leads >= 0], minlength=rows).astype(np.int64)
    place = f"{relation.to}_id"
    about = {"long_name": f"row of {relation.to}, -1 for none", "instance_dimension": place}
    held = {"long_name": f"rows of {entity.name}"}
    if relation is not entity.container:
        return {entity.index(relation): (entity.id_name, leads, about), schema.count(entity, relation): (place, count, held)}
    first = np.concatenate((np.zeros(1, np.int64), np.cumsum(count)))[:-1]
    return {
        entity.index(relation): (entity.id_name, leads, about),
        schema.count(entity, relation): (place, count, {**held, "sample_dimension": entity.id_name}),
        schema.first(entity): (place, first, {"long_name": f"row of the first {entity.name}"}),
    }


def _zones(entity: Entity, start: Column, end: Column) -> Variables:
    """The earliest start and latest end in each run of `ZONE_ROWS` rows: what a query by time need not read.

    A row that does not say when it ends ends when it starts; one that does not say when it starts is in no zone's bounds.
    """
    first = np.arange(0, len(start.values), ZONE_ROWS, dtype=np.int64)
    low, high = extremes(start.values.dtype)
    until = np.where(end.missing, start.values, end.values)
    earliest = np.where(start.missing, high, start.values).astype(start.values.dtype)
    latest = np.where(start.missing, low, np.maximum(until, start.values)).astype(start.values.dtype)
    place = f"{entity.name}_zone"
    out: Variables = {f"{place}_first": (place, first, {"long_name": f"first row of {entity.name}"})}
    for name, bound, values in (("start", np.minimum, earliest), ("end", np.maximum, latest)):
        found = bound.reduceat(values, first) if len(first) else values[:0]
        out[f"{place}_{name}"] = (place, found, {})
    return out


def extremes(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """What is before, and what is after, every value of a type.

    >>> extremes(np.dtype("int8"))
    (-128, 127)
    """
    if dtype.kind == "f":
        return -np.inf, np.inf
    if dtype.kind == "M":
        ends = np.iinfo(np.int64)
        return np.datetime64(ends.min + 1, "ns"), np.datetime64(ends.max, "ns")
    limits = np.iinfo(dtype)
    return limits.min, limits.max


def _assembled(variables: Variables, ids: set[str], attributes: Mapping[str, Any]) -> xr.Dataset:
    import xarray as xr

    coordinates = {name: item for name, item in variables.items() if name in ids}
    rest = {name: item for name, item in variables.items() if name not in ids}
    bare = xr.Coordinates(coordinates, indexes={})
    return with_indexes(xr.Dataset(rest, bare, dict(attributes)))


def with_indexes(dataset: xr.Dataset) -> xr.Dataset:
    """Give the ids of tables that are not large indexes, so that ``.sel`` finds rows by them; others get none.

    An index of text holds every id as a Python object. Queries of this package need none;
    ``dataset.set_xindex("segment_id")`` makes one.
    """
    for name in [str(name) for name in dataset.coords if name in dataset.dims and name not in dataset.xindexes]:
        if dataset.sizes[name] <= INDEXED_ROWS or dataset[name].dtype.kind in "iu":
            dataset = dataset.set_xindex(name)
    return dataset
