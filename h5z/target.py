"""The Zarr store that a migration writes: all metadata but the root's first, whole write units, the root's metadata last.

While a migration runs, the target holds its plan under ``.h5z/plan.json`` and a mark per finished task under ``.h5z/done/``;
what a rerun may skip is read from those. The root's metadata document is the commit record: until it is written the target
does not open. A target that is to be overwritten stays as it is while its successor grows under ``.h5z/new/``.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.dtype import VariableLengthBytes, VariableLengthUTF8, ZDType, parse_dtype
from zarr.storage import FsspecStore, LocalStore, StorePath

from h5z.attributes import number
from h5z.codecs import to_v2
from h5z.errors import H5zError, PlanError, TargetError, TargetExistsError, TransientError, UnfinishedTargetError, one_line
from h5z.grid import Region
from h5z.nodes import Json
from h5z.plan import FORMAT, ArrayPlan, Plan

_MARK = ".h5z"
_NEW = f"{_MARK}/new/"
_CONCURRENCY = 32
ROOT_DOCUMENTS = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata", ".zarray")
Documents = dict[str, dict[str, Json]]


@dataclass(frozen=True)
class Target:
    """A Zarr store by path, URL or `Store`; picklable, opened where it is used.

    Attributes
    ----------
    prefix : str
        Where in the store the hierarchy lies: empty, or the place of an overwriting run's new target.
    """

    where: str | Store
    storage_options: dict[str, Any] | None = None
    prefix: str = ""

    @classmethod
    def of(cls, where: Any, storage_options: dict[str, Any] | None = None) -> Target:
        """A target from what a user gives: a path, a URL, or a zarr Store."""
        if isinstance(where, Target | Store):
            return where if isinstance(where, Target) else cls(where)
        if not isinstance(where, str | os.PathLike):
            raise PlanError(f"target: expected a path, a URL or a zarr Store, found {where!r}")
        return cls(os.fspath(where), storage_options)

    @property
    def name(self) -> str:
        """The target as a user named it; without credentials."""
        text = self.where if isinstance(self.where, str) else str(self.where)
        scheme, found, rest = text.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}" if found else text

    @property
    def path(self) -> Path | None:
        """The local folder, or None for what is not one."""
        if isinstance(self.where, LocalStore):
            return self.where.root
        return Path(self.where) if isinstance(self.where, str) and "://" not in self.where else None

    @cached_property
    def store(self) -> Store:
        """The open store."""
        if isinstance(self.where, Store):
            return self.where
        if "://" not in self.where:
            return LocalStore(self.where)
        with _reaching(self.name):
            return cast(Store, FsspecStore.from_url(self.where, storage_options=self.storage_options))

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: the store is opened anew where it arrives."""
        return {"where": self.where, "storage_options": self.storage_options, "prefix": self.prefix}

    def get(self, key: str) -> bytes | None:
        """Read one object, None if it is not there."""
        with _reaching(f"{self.name}/{key}"):
            found = sync(self.store.get(self.prefix + key, default_buffer_prototype()))
            return None if found is None else cast(bytes, found.to_bytes())

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Write objects, each whole and atomically, some at a time together."""
        make = default_buffer_prototype().buffer.from_bytes

        async def write() -> None:
            gate = asyncio.Semaphore(_CONCURRENCY)

            async def one(key: str, value: bytes) -> None:
                async with gate:
                    await self.store.set(self.prefix + key, make(value))

            await asyncio.gather(*(one(key, value) for key, value in objects.items()))

        with _reaching(self.name):
            sync(write())

    def keys(self, below: str = "") -> list[str]:
        """Keys below a prefix, relative to the target."""

        async def collect() -> list[str]:
            return [key async for key in self.store.list_prefix(self.prefix + below)]

        with _reaching(self.name):
            return [key[len(self.prefix) :] for key in sync(collect())]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""

        async def remove() -> None:
            await asyncio.gather(*(self.store.delete(self.prefix + key) for key in keys))

        with _reaching(self.name):
            sync(remove())

    def clear(self, below: str = "") -> None:
        """Delete everything below a prefix, folders included where there are any."""
        folder = self.path
        if folder is not None:
            shutil.rmtree(folder / (self.prefix + below), ignore_errors=True)
        else:
            self.delete(self.keys(below))

    def exists(self) -> bool:
        """Whether there is anything at the target's place."""
        folder = self.path
        if folder is not None:
            return folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir())))
        with _reaching(self.name):
            return not sync(self.store.is_empty(self.prefix.rstrip("/")))

    def root(self) -> dict[str, Json] | None:
        """The attributes of a finished target's root, or None where no hierarchy opens."""
        for key in ("zarr.json", ".zgroup"):
            raw = self.get(key)
            if raw is not None:
                attributes = json.loads(raw).get("attributes", {}) if key == "zarr.json" else self.get(".zattrs") or b"{}"
                return json.loads(attributes) if isinstance(attributes, bytes) else cast(dict[str, Json], attributes)
        return None

    def pending(self) -> Plan | None:
        """The plan of an unfinished run, or None."""
        raw = self.get(f"{_MARK}/plan.json")
        return None if raw is None else Plan.from_dict(json.loads(raw))

    def done(self) -> dict[int, dict[str, Json]]:
        """What the tasks of an unfinished run recorded when they ended, by number."""
        keys = self.keys(f"{_MARK}/done/")
        return {int(key.rpartition("/")[2]): json.loads(self.get(key) or b"{}") for key in keys if key.rpartition("/")[2].isdigit()}

    def mark_done(self, number: int, record: dict[str, Json]) -> None:
        """Record that a task has ended."""
        self.put({f"{_MARK}/done/{number}": json.dumps(record).encode()})


@contextmanager
def _reaching(name: str) -> Any:
    """Turn what a store raises into a `TargetError` or, where it may pass, a `TransientError`."""
    try:
        yield
    except H5zError:
        raise
    except (ConnectionError, TimeoutError, asyncio.TimeoutError) as error:
        raise TransientError(f"{name}: the store did not answer ({one_line(error)})") from None
    except (OSError, ValueError, ImportError) as error:
        raise TargetError(f"{name}: cannot be read or written ({one_line(error)})") from None


def prepare(target: Target, plan: Plan, *, overwrite: bool = False) -> tuple[Target, bool]:
    """Bring a target to where its tasks can run, or find that nothing is left to do.

    Returns
    -------
    target : Target
        Where to write: the target itself, or the place of its successor.
    finished : bool
        Whether this same migration is already complete.

    Raises
    ------
    TargetExistsError
        If something else is there and `overwrite` is not given, or is there and is no Zarr hierarchy.
    """
    _check_place(target, plan)
    root = target.root() if target.exists() else None
    if root is not None and _fingerprint(root) == plan.fingerprint:
        target.clear(_MARK)
        return target, True
    waiting = target.pending() if target.exists() else None
    if root is None and waiting is not None:
        if waiting.fingerprint == plan.fingerprint:
            return target, False
        if not overwrite:
            what = f"an unfinished migration of {waiting.source} by another plan, or that file has changed since"
            raise TargetExistsError(f"{target.name}: expected nothing, or this migration; found {what} (overwrite starts anew)")
        target.clear()
    elif target.exists():
        _refuse(target, root, overwrite)
        return _successor(target, plan), False
    _create(target, plan)
    return target, False


def _check_place(target: Target, plan: Plan) -> None:
    folder = target.path
    if folder is None:
        return
    folder = folder.absolute()
    if "://" not in plan.source and (Path(plan.source).absolute() in (folder, *folder.parents)):
        raise PlanError(f"{target.name}: the target lies inside its source {plan.source}")
    if folder.exists() and not folder.is_dir():
        raise TargetExistsError(f"{target.name}: expected nothing, or a folder; found a file")


def _refuse(target: Target, root: dict[str, Json] | None, overwrite: bool) -> None:
    if root is None and target.get(".zarray") is None:
        raise TargetExistsError(f"{target.name}: expected nothing, or a Zarr hierarchy; found other data, which is never overwritten")
    if not overwrite:
        ours = root is not None and _fingerprint(root) is not None
        found = "another migration's result, or that of a source or policy since changed" if ours else "a Zarr hierarchy"
        raise TargetExistsError(f"{target.name}: expected nothing, or this migration; found {found} (overwrite replaces it)")


def _fingerprint(root: dict[str, Json]) -> str | None:
    record = root.get("h5z")
    return record.get("fingerprint") if isinstance(record, dict) else None


def _successor(target: Target, plan: Plan) -> Target:
    """The place of a target's successor, made ready, or found where an earlier run left it."""
    new = replace(target, prefix=_NEW)
    waiting = new.pending()
    if waiting is None or waiting.fingerprint != plan.fingerprint:
        new.clear()
        _create(new, plan)
    return new


def _create(target: Target, plan: Plan) -> None:
    """Write the plan, then all metadata but the root's."""
    folder = target.path
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TargetError(f"{target.name}: cannot be created ({error.strerror or one_line(error)})") from None
        _check_case(folder, plan)
    text = json.dumps(plan.to_dict(), sort_keys=True)
    target.put({f"{_MARK}/plan.json": text.encode("utf-8", "surrogatepass")})
    documents = plan_documents(plan)
    target.put({key: _dump(value) for key, value in documents.items() if "/" in key})


def _check_case(folder: Path, plan: Plan) -> None:
    """Refuse names that differ by case alone where the file system takes them for one."""
    folded: dict[str, str] = {}
    for path in (*plan.groups, *(array.path for array in plan.arrays)):
        other = folded.setdefault(path.casefold(), path)
        if other != path:
            probe = folder / f"{_MARK}-Case-{uuid.uuid4().hex}"
            probe.touch()
            same = Path(str(probe).swapcase()).exists() or (folder / probe.name.swapcase()).exists()
            probe.unlink()
            if same:
                raise PlanError(f"{folder}: {other} and {path} differ by case alone, and this file system takes them for one")
            return


def finalize(where: Any, *, storage_options: dict[str, Any] | None = None) -> None:
    """Commit a target whose tasks have all ended: write its root's metadata, consolidated, in one atomic write.

    Parameters
    ----------
    where : path, URL or zarr Store
        The target; finalizing it a second time does nothing.

    Raises
    ------
    UnfinishedTargetError
        If tasks are still to do; naming how many.
    TargetError
        If there is no migration at that place.
    """
    target = Target.of(where, storage_options)
    new = target if target.prefix else replace(target, prefix=_NEW)
    if new.pending() is not None:
        _commit(new)
        _swap(replace(target, prefix=""), new)
    elif target.pending() is not None and target.root() is None:
        _commit(target)
    elif target.root() is None:
        raise TargetError(f"{target.name}: expected a migration to finalize, found none")
    target = replace(target, prefix="")
    target.clear(_MARK)


def _commit(target: Target) -> None:
    plan = cast(Plan, target.pending())
    done = target.done()
    left = [task.number for task in plan.tasks() if task.number not in done]
    if left:
        raise UnfinishedTargetError(f"{target.name}: {len(left)} of {len(left) + len(done)} tasks are still to do")
    documents = plan_documents(plan)
    root = {key: value for key, value in documents.items() if "/" not in key}
    if plan.policy.consolidate:
        root |= _consolidated(plan, documents)
    for key in sorted(root, key=("zarr.json", ".zgroup", ".zmetadata", ".zattrs").index, reverse=True):
        target.put({key: _dump(root[key])})


def _consolidated(plan: Plan, documents: Documents) -> Documents:
    if plan.policy.zarr_format == 2:
        return {".zmetadata": {"zarr_consolidated_format": 1, "metadata": dict(sorted(documents.items()))}}
    inner = {key.removesuffix("/zarr.json"): value for key, value in sorted(documents.items()) if "/" in key}
    whole = {"kind": "inline", "must_understand": False, "metadata": inner}
    return {"zarr.json": {**documents["zarr.json"], "consolidated_metadata": whole}}


def _swap(target: Target, new: Target) -> None:
    """Put a committed successor in its target's place: two renames in a folder, else key by key, the root's document last."""
    folder = target.path
    if folder is not None:
        aside = folder.with_name(f".{folder.name}.h5z-{uuid.uuid4().hex[:8]}")
        folder.rename(aside)
        (aside / _NEW.rstrip("/")).rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
        return
    target.delete([key for key in ROOT_DOCUMENTS if target.get(key) is not None])
    target.delete([key for key in target.keys() if not key.startswith(f"{_MARK}/")])
    keys = [key for key in new.keys() if not key.startswith(f"{_MARK}/")]
    for key in sorted(keys, key=lambda key: key in ROOT_DOCUMENTS):
        target.put({key: cast(bytes, new.get(key))})


def _dump(document: dict[str, Json]) -> bytes:
    """Strict JSON, one form for the same document."""
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False).encode()


def plan_documents(plan: Plan) -> Documents:
    """Every metadata document of a plan's target, by key."""
    out: Documents = {}
    for path, attributes in plan.groups.items():
        shown = _root_attributes(plan, attributes) if path == "" else attributes
        _add(out, path, {"node_type": "group"}, shown, plan.policy.zarr_format)
    for array in plan.arrays:
        document = array_document(array, plan.policy.zarr_format)
        attributes = document.pop("attributes")
        _add(out, array.path, document, attributes, plan.policy.zarr_format)
    return out


def _add(out: Documents, path: str, document: dict[str, Json], attributes: dict[str, Json], zarr_format: int) -> None:
    place = f"{path.lstrip('/')}/" if path else ""
    if zarr_format == 3:
        out[f"{place}zarr.json"] = {"zarr_format": 3, **document, "attributes": attributes}
        return
    kind = document.pop("node_type")
    out[f"{place}.z{kind}"] = {"zarr_format": 2, **document}
    if attributes:
        out[f"{place}.zattrs"] = attributes


def _root_attributes(plan: Plan, attributes: dict[str, Json]) -> dict[str, Json]:
    identity = {"name": os.path.basename(plan.source), "size": plan.size, "mtime_ns": plan.mtime_ns}
    commit = {"format": FORMAT, "fingerprint": plan.fingerprint, "source": identity, "policy": plan.policy.to_dict()}
    if plan.not_carried:
        commit["not_carried"] = [problem.to_dict() for problem in plan.not_carried]
    return {**attributes, "h5z": {**cast(dict[str, Json], attributes.get("h5z", {})), **commit}}


def array_document(array: ArrayPlan, zarr_format: int) -> dict[str, Json]:
    """An array's Zarr metadata, attributes included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # data types that zarr-python stores but the specification has not named yet
        dtype = _zarr_dtype(array, zarr_format)
        fill = _fill_json(array, dtype, zarr_format)
        kind = dtype.to_json(zarr_format=cast(Any, zarr_format))
    if zarr_format == 2:
        return _v2(array, cast(dict[str, Any], kind)["name"], fill)
    codecs: list[Any] = [_serializer(array), *array.codecs]
    if array.shards:
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        inner = {"chunk_shape": list(array.chunks), "codecs": codecs, "index_codecs": index, "index_location": "end"}
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
    return {
        "node_type": "array",
        "shape": list(array.shape),
        "data_type": kind,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(array.unit)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "dimension_names": list(array.names),
        "storage_transformers": [],
        "attributes": array.attributes,
    }


def _v2(array: ArrayPlan, kind: Json, fill: Json) -> dict[str, Json]:
    filters, compressor = to_v2(list(array.codecs))
    if array.is_text:
        filters = [{"id": "vlen-utf8" if array.dtype == "string" else "vlen-bytes"}, *(filters or [])]
    return {
        "node_type": "array",
        "shape": list(array.shape),
        "chunks": list(array.chunks),
        "dtype": kind,
        "fill_value": fill,
        "order": "C",
        "filters": filters,
        "compressor": compressor,
        "dimension_separator": ".",
        "attributes": {**array.attributes, "_ARRAY_DIMENSIONS": list(array.names)},
    }


def _zarr_dtype(array: ArrayPlan, zarr_format: int) -> ZDType[Any, Any]:
    if array.is_text:
        return VariableLengthUTF8() if array.dtype == "string" else VariableLengthBytes()
    return parse_dtype(array.leaf().dtype, zarr_format=cast(Any, zarr_format))


def _serializer(array: ArrayPlan) -> dict[str, Json]:
    if array.is_text:
        return {"name": "vlen-utf8" if array.dtype == "string" else "vlen-bytes"}
    dtype = cast("np.dtype[Any]", array.leaf().dtype)
    if dtype.itemsize == 1 or dtype.kind in "SV" and not dtype.names:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "big" if dtype.byteorder == ">" else "little"}}


def _fill_json(array: ArrayPlan, dtype: ZDType[Any, Any], zarr_format: int) -> Json:
    fill = array.fill_scalar()
    if fill is None:
        if zarr_format == 2:
            return None
        fill = "" if array.dtype == "string" else b"" if array.dtype == "bytes" else np.zeros((), array.leaf().dtype)[()]
    kind = np.asarray(fill).dtype.kind
    if zarr_format == 3 and kind in "fc":  # a NaN keeps its bits, as the specification provides
        return number(fill) if kind == "f" else [number(fill.real), number(fill.imag)]
    return cast(Json, dtype.to_json_scalar(fill, zarr_format=cast(Any, zarr_format)))


@dataclass(frozen=True)
class TargetArray:
    """A picklable handle on one array of a target: reads regions, writes whole write units."""

    target: Target
    plan: ArrayPlan
    zarr_format: int

    @cached_property
    def array(self) -> zarr.Array[Any]:
        """zarr's own array, made of the planned metadata without reading the store."""
        document = array_document(self.plan, self.zarr_format)
        if self.zarr_format == 3:
            document["zarr_format"] = 3
        else:
            document.pop("node_type")
            document["zarr_format"] = 2
        with zarr.config.set({"array.write_empty_chunks": True}), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = (self.target.prefix + self.plan.path.lstrip("/")).rstrip("/")
            return zarr.Array.from_dict(StorePath(self.target.store, path), document)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone."""
        return {"target": self.target, "plan": self.plan, "zarr_format": self.zarr_format}

    def read(self, region: Region) -> Any:
        """Read a region, as zarr decodes it."""
        with _reaching(f"{self.target.name}{self.plan.path}"):
            return np.asarray(self.array[region])

    def write(self, region: Region, block: Any) -> int:
        """Write a region of whole units; returns the units stored, those of fill values alone left out."""
        stored = 0
        for index in self.plan.units.overlapping(region):
            unit = self.plan.units.region(index)
            values = block[tuple(slice(u.start - r.start, u.stop - r.start) for u, r in zip(unit, region, strict=True))]
            if not self.plan.dense and self._is_fill(values):
                continue
            with _reaching(f"{self.target.name}{self.plan.path}"):
                self.array[unit if unit else ...] = values
            stored += 1
        return stored

    @cached_property
    def _fill(self) -> Any:
        fill = self.plan.fill_scalar()
        if self.plan.is_text:
            return ("" if self.plan.dtype == "string" else b"") if fill is None else fill
        dtype = cast("np.dtype[Any]", self.plan.leaf().dtype)
        return np.zeros((), dtype)[()] if fill is None else np.asarray(fill, dtype)[()]

    def _is_fill(self, values: Any) -> bool:
        """Whether every element has exactly the fill value's bits."""
        flat = np.ravel(values)
        if self.plan.is_text:
            return all(item == self._fill for item in flat)
        fill = np.asarray(self._fill, flat.dtype)
        if flat.size and flat[:1].tobytes() != fill.tobytes():
            return False
        kind = np.dtype(f"u{flat.dtype.itemsize}") if flat.dtype.itemsize in (1, 2, 4, 8) else None
        if kind is None:
            return flat.tobytes() == fill.tobytes() * flat.size
        return bool((np.ascontiguousarray(flat).view(kind) == fill.view(kind)).all())
