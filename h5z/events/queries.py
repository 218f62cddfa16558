"""What users ask of stored sessions: rows of a container, of a type, in a span of time; each reads only the chunks it needs.

A container's rows lie together, and say where; of each run of rows the earliest start and latest end are kept. So no query reads
a whole table of segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from h5z.errors import PlanError
from h5z.events.records import BATCH_ROWS
from h5z.events.schema import MISSING, TIME, Entity, Relation, Schema
from h5z.events.stored import schema_of
from h5z.events.values import Array, show

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Span = tuple[int, int]


def find(dataset: xr.Dataset, entity: str, id: str | int, *, session: str | None = None) -> int:  # noqa: A002
    """The row that has an id; the first, where an id was kept twice.

    Parameters
    ----------
    dataset : xarray.Dataset
        Of `open_session`, `open_sessions` or `to_dataset`, with all its rows.
    entity : str
        Of what; ``session`` too, where several are opened together.
    session : str, optional
        Of which session.

    Raises
    ------
    PlanError
        If there is none, or one in several sessions and none is named.
    """
    name = _id_name(dataset, entity)
    low, high = _session_span(dataset, entity, session)
    if isinstance(id, str) != (dataset[name].dtype.kind in "TUO"):
        kind = "text" if dataset[name].dtype.kind in "TUO" else "an integer"
        raise PlanError(f"{entity}: expected an id that is {kind}, found {id!r}")
    ids = dataset[name].values if session is None else dataset[name][low:high].values  # whole, xarray keeps them
    found = low + np.flatnonzero(np.asarray(ids == id))
    if f"{name}{MISSING}" in dataset and len(found):
        found = found[~dataset[f"{name}{MISSING}"][found].values]
    if not len(found):
        raise PlanError(f"{entity}: expected the id of one of {high - low} rows, found {show(id)}")
    if f"{entity}_session_index" in dataset and session is None:
        sessions = np.unique(dataset[f"{entity}_session_index"][found].values)
        if len(sessions) > 1:
            names = ", ".join(dataset["session_id"][sessions].values.tolist())
            raise PlanError(f"{entity}: {show(id)} is an id in sessions {names}: expected session= to say which")
    return int(found[0])


def children(
    dataset: xr.Dataset,
    parent: str,
    id: str | int,  # noqa: A002
    child: str,
    *,
    type: str | Sequence[str] | None = None,  # noqa: A002
    relation: str | None = None,
    session: str | None = None,
) -> xr.Dataset:
    """The rows that belong to another, directly or through what lies between; lazy.

    Parameters
    ----------
    dataset : xarray.Dataset
        Of `open_session`, `open_sessions` or `to_dataset`, with all its rows.
    parent, id : str, str or int
        To what: ``"element", "e-17"``. Where several sessions are opened together also ``"session", "s-1"``.
    child : str
        Rows of what.
    type : str or sequence of str, optional
        Of what types.
    relation : str, optional
        The attribute by which they belong to it, where it is not what contains them: ``"next_element_id"``.
    session : str, optional
        Of which session, where several are opened together.

    Returns
    -------
    xarray.Dataset
        The variables of those rows.

    Raises
    ------
    PlanError
        If there is no such row, entity or relation.

    Examples
    --------
    ``children(dataset, "task", "t-3", "element")``, ``children(dataset, "element", "e-17", "segment", type="speech")``
    """
    schema = schema_of(dataset)
    entity = schema[child]
    _check_whole(dataset, entity)
    row = find(dataset, parent, id, session=session)
    if relation is not None:
        named = _relation(entity, parent, relation)
        if named != entity.container:
            rows = np.flatnonzero(dataset[entity.index(named)].values == row)
            return _selected(dataset, entity, _of_type(dataset, entity, rows, type))
    low, high = (row, row + 1)
    for first, count in _steps(schema, parent, entity):
        low, high = _below(dataset, first, count, (low, high))
    if parent != "session" and entity.container is not None and parent == entity.container.to:
        _check_children(dataset, entity, row, (low, high))
    return _selected(dataset, entity, _of_type(dataset, entity, np.arange(low, high), type))


def between(
    dataset: xr.Dataset,
    entity: str,
    start: Any = None,
    end: Any = None,
    *,
    type: str | Sequence[str] | None = None,  # noqa: A002
    session: str | None = None,
) -> xr.Dataset:
    """The rows whose time overlaps ``[start, end)``; lazy.

    A row without an end is taken to end when it starts; one without a start is at no time.

    Parameters
    ----------
    dataset : xarray.Dataset
        Of `open_session`, `open_sessions` or `to_dataset`, with all its rows.
    entity : str
        Rows of what; it has an interval in the schema.
    start, end : number or time, optional
        In the unit of that interval; None is no bound.
    type, session
        As for `children`.

    Raises
    ------
    PlanError
        If the entity has no interval, or the bounds are none.
    """
    schema = schema_of(dataset)
    wanted = schema[entity]
    _check_whole(dataset, wanted)
    if wanted.interval is None:
        raise PlanError(f"{entity}: expected an entity with an interval of time, found one without")
    dtype = next(item.dtype for item in wanted.attributes if item.name == wanted.interval[0])
    lower, upper = (_moment(bound, dtype) for bound in (start, end))
    if lower is not None and upper is not None and not lower <= upper:
        raise PlanError(f"{entity}: expected a start before the end, found {start!r} and {end!r}")
    runs = _runs(dataset, wanted, lower, upper, _session_span(dataset, entity, session))
    found = [low + np.flatnonzero(_overlap(part, wanted, lower, upper)) for low, part in _loaded(dataset, wanted, runs)]
    rows = np.concatenate(found) if found else np.zeros(0, np.int64)
    return _selected(dataset, wanted, _of_type(dataset, wanted, rows, type))


def rows(dataset: xr.Dataset, entity: str) -> Iterator[dict[str, Any]]:
    """Rows as mappings of attribute to value, None for what is missing; read by batches.

    Parameters
    ----------
    dataset : xarray.Dataset
        With all rows of an entity, or with those that a query gave.
    """
    wanted = schema_of(dataset)[entity]
    names = {"id": wanted.id_name} | {column: wanted.variable(column) for column in wanted.columns}
    for low in range(0, dataset.sizes[wanted.id_name], BATCH_ROWS):
        columns = {}
        for column, name in names.items():
            values, missing = _column(dataset, name, slice(low, low + BATCH_ROWS), wanted)
            listed = list(values) if values.dtype.kind == "M" else values.tolist()
            columns[column] = [None if gone else value for value, gone in zip(listed, missing, strict=True)]
        for items in zip(*columns.values(), strict=True):
            yield dict(zip(columns, items, strict=True))


def frame(dataset: xr.Dataset, entity: str) -> pd.DataFrame:
    """Rows as a pandas DataFrame by id, in pandas' types that know missing values: no integer turns float.

    Parameters
    ----------
    dataset : xarray.Dataset
        With all rows of an entity, or with those that a query gave.
    """
    import pandas as pd

    wanted = schema_of(dataset)[entity]
    columns: dict[str, Any] = {}
    for column, name in {"id": wanted.id_name, **{c: wanted.variable(c) for c in wanted.columns}}.items():
        values, missing = _column(dataset, name, slice(None), wanted)
        if values.dtype.kind == "T":
            texts = values.astype(object)
            texts[missing] = pd.NA
            columns[column] = pd.array(texts, dtype="string")
        elif values.dtype.kind in "fM":
            columns[column] = values
        elif values.dtype.kind == "b":
            columns[column] = pd.arrays.BooleanArray(values, missing)
        else:
            columns[column] = pd.arrays.IntegerArray(values, missing)
    return pd.DataFrame(columns).set_index("id")


def _column(dataset: xr.Dataset, name: str, window: slice, entity: Entity) -> tuple[Array, Array]:
    """A column's values, and where there are none."""
    where = {entity.id_name: window}
    values = dataset[name].isel(where).values
    if values.dtype.kind in "OU":
        values = values.astype(np.dtypes.StringDType())
    if f"{name}{MISSING}" in dataset:
        return values, dataset[f"{name}{MISSING}"].isel(where).values
    return values, np.asarray(values != values) if values.dtype.kind in "fM" else np.zeros(len(values), bool)


def _id_name(dataset: xr.Dataset, entity: str) -> str:
    if entity == "session" and "session_id" in dataset.coords:
        return "session_id"
    return schema_of(dataset)[entity].id_name


def _check_whole(dataset: xr.Dataset, entity: Entity) -> None:
    """Refuse a Dataset of which rows were taken away: row numbers in it lead astray."""
    size, whole = dataset.sizes.get(entity.id_name), dataset[entity.id_name].attrs.get("row_count")
    if size != whole:
        raise PlanError(f"{entity.name}: expected a Dataset with all its {whole} rows, found {size}: query it before selecting")


def _check_children(dataset: xr.Dataset, entity: Entity, row: int, span: Span) -> None:
    index = dataset[entity.index(cast(Relation, entity.container))][span[0] : span[1]].values
    if (index != row).any():
        raise PlanError(f"{entity.name}: expected a Dataset with its rows in the order that they were stored in, found another")


def _session_span(dataset: xr.Dataset, entity: str, session: str | None) -> Span:
    """The rows of a session, or all."""
    if session is None:
        return 0, dataset.sizes[_id_name(dataset, entity)]
    if "session_id" not in dataset.coords:
        if session != dataset.attrs.get("session_id"):
            raise PlanError(f"session: expected {dataset.attrs.get('session_id')!r}, the one that is open; found {session!r}")
        return 0, dataset.sizes[_id_name(dataset, entity)]
    found = np.flatnonzero(dataset["session_id"].values == session)
    if not len(found):
        raise PlanError(f"session: expected one of {dataset.sizes['session_id']} that are open, found {session!r}")
    first = int(dataset[f"session_{entity}_first"][found[0]])
    return first, first + int(dataset[f"session_{entity}_count"][found[0]])


def _relation(entity: Entity, parent: str, attribute: str) -> Relation:
    for relation in entity.relations:
        if relation.attribute == attribute and relation.to == parent:
            return relation
    known = ", ".join(f"{item.attribute} (to {item.to})" for item in entity.relations) or "none"
    raise PlanError(f"{entity.name}: expected a relation to {parent} ({known}), found {attribute!r}")


def _steps(schema: Schema, parent: str, child: Entity) -> list[tuple[str, str]]:
    """The variables that lead from a parent's rows to a child's: first row and count, entity by entity."""
    if parent == "session":
        return [(f"session_{child.name}_first", f"session_{child.name}_count")]
    steps: list[tuple[str, str]] = []
    below = child
    while below.container is not None:
        steps.append((schema.first(below), schema.count(below, below.container)))
        if below.container.to == parent:
            return steps[::-1]
        below = schema[below.container.to]
    raise PlanError(f"{child.name}: expected what belongs to a {parent}, found that it belongs to none")


def _below(dataset: xr.Dataset, first: str, count: str, span: Span) -> Span:
    """The rows that belong to a run of rows."""
    low, high = span
    if low >= high:
        return 0, 0
    end = int(dataset[first][high - 1]) + int(dataset[count][high - 1])
    return int(dataset[first][low]), end


def _of_type(dataset: xr.Dataset, entity: Entity, found: Array, wanted: str | Sequence[str] | None) -> Array:
    """Those rows that are of some types."""
    if wanted is None or not len(found):
        return found
    name = f"{entity.name}_type_index"
    if name not in dataset:
        raise PlanError(f"{entity.name}: expected an entity of several types, found one without a type index")
    types = dataset[name].attrs["types"]
    numbers = [types.index(item) for item in ([wanted] if isinstance(wanted, str) else wanted) if item in types]
    own = dataset[name].isel({entity.id_name: _as_slice(found)}).values
    return found[np.isin(own, numbers)]


def _moment(bound: Any, dtype: str) -> Any:
    """A bound of time in the interval's type."""
    if bound is None:
        return None
    try:
        found = np.datetime64(bound).astype(TIME) if dtype == TIME else np.float64(bound) if "f" in dtype else int(bound)
    except (TypeError, ValueError, OverflowError):
        found = None
    if found is None or found != found:
        raise PlanError(f"expected a bound of time that is {dtype}, found {bound!r}")
    return found


def _runs(dataset: xr.Dataset, entity: Entity, lower: Any, upper: Any, span: Span) -> list[Span]:
    """Runs of rows among which some may be in a span of time, by the bounds of zones."""
    place = f"{entity.name}_zone"
    first, start, end = (dataset[f"{place}_{part}"].values for part in ("first", "start", "end"))
    ends = np.append(first[1:], dataset.sizes[entity.id_name])
    may = np.ones(len(first), bool)
    if upper is not None:
        may &= start < upper
    if lower is not None:
        may &= end >= lower
    runs: list[Span] = []
    for zone in np.flatnonzero(may).tolist():
        low, high = max(int(first[zone]), span[0]), min(int(ends[zone]), span[1])
        if low >= high:
            continue
        if runs and runs[-1][1] == low:
            runs[-1] = (runs[-1][0], high)
        else:
            runs.append((low, high))
    return runs


def _loaded(dataset: xr.Dataset, entity: Entity, runs: Sequence[Span]) -> list[tuple[int, xr.Dataset]]:
    """The intervals of runs of rows; those of lazy arrays all at once."""
    from dask.base import compute

    variables = [entity.variable(name) for name in dict.fromkeys(entity.interval or ())]
    names = [name for variable in variables for name in (variable, f"{variable}{MISSING}") if name in dataset]
    parts = [dataset[names].drop_vars(entity.id_name).isel({entity.id_name: slice(*run)}) for run in runs]
    loaded = compute(*parts)
    return [(low, part) for (low, _), part in zip(runs, loaded, strict=True)]


def _overlap(part: xr.Dataset, entity: Entity, lower: Any, upper: Any) -> Array:
    """Which rows overlap a span of time."""
    assert entity.interval is not None
    (start, no_start), (end, no_end) = (_column(part, entity.variable(name), slice(None), entity) for name in entity.interval)
    until = np.where(no_end, start, np.maximum(start, end))
    hit = ~no_start
    if upper is not None:
        hit &= start < upper
    if lower is not None:
        hit &= (until > lower) | (start >= lower)
    return hit


def _as_slice(found: Array) -> Any:
    """Rows as a slice where they follow each other: that reads less."""
    if len(found) and int(found[-1]) - int(found[0]) == len(found) - 1 and (np.diff(found) == 1).all():
        return slice(int(found[0]), int(found[-1]) + 1)
    return found if len(found) else slice(0, 0)


def _selected(dataset: xr.Dataset, entity: Entity, found: Array) -> xr.Dataset:
    """The entity's variables, of some rows."""
    names = [name for name, variable in dataset.variables.items() if variable.dims == (entity.id_name,)]
    return dataset[names].isel({entity.id_name: _as_slice(found)})
