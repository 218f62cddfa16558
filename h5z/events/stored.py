"""Stored sessions, opened lazily: one, or several as one Dataset in which the same queries hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from h5z.errors import PlanError, TargetError, one_line
from h5z.events.dataset import with_indexes
from h5z.events.schema import MISSING, Schema
from h5z.events.values import TEXT, Array
from h5z.target import Target, reaching

if TYPE_CHECKING:
    import xarray as xr

_AT_ONCE = 16


def open_session(where: Any, *, storage_options: dict[str, Any] | None = None) -> xr.Dataset:
    """Open a session's store; values are read when they are used, and then only the chunks that hold them.

    ``xarray.open_zarr`` opens it as well; but that reads all ids, for indexes, where this does so for smaller tables only.

    Parameters
    ----------
    where : path, URL or zarr Store
        Where `publish` put it.

    Raises
    ------
    TargetError
        If there is no complete store.
    """
    return with_indexes(_opened(where, storage_options, None))


def _opened(where: Any, storage_options: dict[str, Any] | None, chunks: Any) -> xr.Dataset:
    import xarray as xr

    target = Target.of(where, storage_options)
    root = target.root()
    if root is None:
        state = "one that is not complete" if target.exists() and target.begun() is not None else "none"
        raise TargetError(f"{target.name}: expected the store of a session, found {state}")
    if "schema" not in root or "session_id" not in root:
        raise TargetError(f"{target.name}: expected the store of a session, found another hierarchy")
    with reaching(target.name):
        return cast("xr.Dataset", xr.open_zarr(target.store, chunks=chunks, create_default_indexes=False))


def schema_of(dataset: xr.Dataset) -> Schema:
    """The schema that a Dataset carries.

    Raises
    ------
    PlanError
        If it carries none.
    """
    text: Any = dataset.attrs.get("schema")
    try:
        return Schema.from_dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise PlanError(f"dataset: expected events with their schema, found {text!r} ({one_line(error)})") from None


def open_sessions(where: Iterable[Any], *, storage_options: dict[str, Any] | None = None) -> xr.Dataset:
    """Open several sessions of one schema as one Dataset, lazily.

    Rows of each entity follow each other session by session; relations lead to rows of the whole. ``session_id`` is a further
    dimension, ``<entity>_session_index`` says of which session a row is, and ``session_<entity>_first`` and
    ``session_<entity>_count`` where a session's rows are. Ids need not be unique over sessions, and have no index.

    Parameters
    ----------
    where : iterable of path, URL or zarr Store
        Where `publish` put them.

    Raises
    ------
    PlanError
        If there are none, two have one id, or their schemas differ.
    TargetError
        If one is not there, or not complete.
    """
    places = [where] if isinstance(where, str) else list(where)
    if not places:
        raise PlanError("sessions: expected at least one store, found none")
    with ThreadPoolExecutor(min(_AT_ONCE, len(places))) as pool:
        opened = list(pool.map(lambda place: _opened(place, storage_options, {}), places))
    names = [Target.of(place).name for place in places]
    seen: dict[str, str] = {}
    for name, dataset in zip(names, opened, strict=True):
        session = str(dataset.attrs["session_id"])
        if session in seen:
            raise PlanError(f"sessions: {seen[session]} and {name} are both of session {session!r}")
        seen[session] = name
    schemas = [schema_of(dataset) for dataset in opened]
    for name, schema in zip(names, schemas, strict=True):
        if schema != schemas[0]:
            raise PlanError(f"{name}: expected the schema, and types of ids, that {names[0]} has; found others")
    return _Combination(schemas[0], list(seen), opened).dataset()


@dataclass(frozen=True)
class _Combination:
    """Sessions of one schema, on their way to one Dataset."""

    schema: Schema
    sessions: list[str]
    opened: list[xr.Dataset]

    def _starts(self, dim: str) -> Array:
        """The row of the whole at which each session's rows of a dimension start, and their number at the end."""
        return np.concatenate(([0], np.cumsum([dataset.sizes.get(dim, 0) for dataset in self.opened])))

    def dataset(self) -> xr.Dataset:
        """All of them as one."""
        import xarray as xr

        known = {f"{entity.name}{end}" for entity in self.schema.entities for end in ("_id", "_zone")}
        names = dict.fromkeys(str(name) for dataset in self.opened for name in dataset.variables)
        shifts = self._shifts()
        out: dict[str, Any] = {}
        left: list[str] = []
        for name in names:
            first = next(dataset[name] for dataset in self.opened if name in dataset.variables)
            if len(first.dims) != 1 or first.dims[0] not in known:
                left.append(name)
            else:
                out[name] = self._joined(name, str(first.dims[0]), dict(first.attrs), shifts.get(name))
        out |= self._sessions()
        ids = {name: out.pop(name) for name in [*(f"{entity.name}_id" for entity in self.schema.entities), "session_id"]}
        counts = [int(dataset.attrs.get("problem_count", 0)) for dataset in self.opened]
        attributes = {name: self.opened[0].attrs[name] for name in ("transform", "version", "schema")}
        attributes |= {"problem_count": sum(counts)} | ({"not_combined": left} if left else {})
        whole = xr.Dataset(out, xr.Coordinates(ids, indexes={}), attributes)
        return whole.set_xindex("session_id")  # the other ids need not be unique

    def _shifts(self) -> dict[str, Callable[[int, Any], Any]]:
        """What becomes of row numbers of a session in the whole, by variable."""
        out: dict[str, Callable[[int, Any], Any]] = {}

        def shifted(dim: str) -> Callable[[int, Any], Any]:
            starts = self._starts(dim)
            return lambda session, values: values + (values >= 0) * starts[session]

        for entity in self.schema.entities:
            for relation in entity.relations:
                out[entity.index(relation)] = shifted(f"{relation.to}_id")
            if entity.container is not None:
                out[self.schema.first(entity)] = shifted(entity.id_name)
            out[f"{entity.name}_zone_first"] = shifted(entity.id_name)
            if entity.type_attribute is not None:
                out[f"{entity.name}_type_index"] = self._renumbered(f"{entity.name}_type_index")
        return out

    def _types(self, name: str) -> list[str]:
        return sorted({text for dataset in self.opened for text in dataset[name].attrs["types"]})

    def _renumbered(self, name: str) -> Callable[[int, Any], Any]:
        """Types by their numbers among those of all sessions."""
        types = self._types(name)

        def renumber(session: int, values: Any) -> Any:
            own = self.opened[session][name].attrs["types"]
            numbers = np.array([*(types.index(text) for text in own), -1], np.int32)  # -1 takes the last
            return values.map_blocks(lambda block: numbers[block], dtype=np.int32)

        return renumber

    def _joined(
        self, name: str, dim: str, attributes: dict[str, Any], change: Callable[[int, Any], Any] | None
    ) -> tuple[str, Any, dict[str, Any]]:
        """One variable of all sessions, lazy."""
        import dask.array as da

        parts = []
        dtype = next(dataset[name].dtype for dataset in self.opened if name in dataset.variables)
        for i, dataset in enumerate(self.opened):
            if name in dataset.variables:
                part = dataset[name].data
            elif name.endswith(MISSING):  # where nothing is missing, a required attribute has no mask
                part = da.zeros(dataset.sizes[dim], dtype=bool, chunks=-1)
            else:
                raise PlanError(f"session {self.sessions[i]}: expected a variable {name}, which session {self.sessions[0]} has")
            if part.dtype != dtype:
                raise PlanError(f"session {self.sessions[i]}: {name}: expected {dtype}, found {part.dtype}")
            parts.append(part if change is None else change(i, part))
        if "types" in attributes:
            types = self._types(name)
            attributes = {"types": types, "flag_values": list(range(len(types)))}
        attributes = {**attributes, **({"row_count": int(self._starts(dim)[-1])} if dim == name else {})}
        return dim, da.concatenate(parts), attributes

    def _sessions(self) -> Mapping[str, tuple[str, Any, dict[str, Any]]]:
        """The session of each row, and each session's rows."""
        count = {"row_count": len(self.sessions)}
        out: dict[str, tuple[str, Any, dict[str, Any]]] = {"session_id": ("session_id", np.array(self.sessions, TEXT), count)}
        for entity in self.schema.entities:
            starts = self._starts(entity.id_name)
            numbers = np.repeat(np.arange(len(self.sessions), dtype=np.int32), np.diff(starts))
            out[f"{entity.name}_session_index"] = (entity.id_name, numbers, {"instance_dimension": "session_id"})
            held = {"sample_dimension": entity.id_name}
            out[f"session_{entity.name}_count"] = ("session_id", np.diff(starts), held)
            out[f"session_{entity.name}_first"] = ("session_id", starts[:-1], {})
        return out
