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
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from zarr.abc.store import Store
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from h5z.documents import consolidated, dump, plan_documents
from h5z.errors import (
    H5zError,
    PlanError,
    TargetError,
    TargetExistsError,
    TransientError,
    UnfinishedTargetError,
    one_line,
)
from h5z.nodes import Json
from h5z.plan import Plan

_MARK = ".h5z"
_NEW = f"{_MARK}/new/"
_CONCURRENCY = 32
_CLIENTS = ("botocore", "aiobotocore", "obstore")
ROOT_DOCUMENTS = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata", ".zarray")


@dataclass(frozen=True)
class Target:
    """A Zarr store by path, URL or `Store`; picklable, opened where it is used.

    Attributes
    ----------
    prefix : str
        Where in the store the hierarchy lies: empty, or the place of an overwriting run's new target.
    """

    where: str | Store
    storage_options: dict[str, Any] | None = field(default=None, repr=False)
    prefix: str = ""

    @classmethod
    def of(cls, where: Any, storage_options: dict[str, Any] | None = None) -> Target:
        """A target from what a user gives: a path, a URL, or a zarr Store."""
        if isinstance(where, Target | Store):
            return where if isinstance(where, Target) else cls(where)
        if not isinstance(where, str | os.PathLike):
            raise PlanError(f"target: expected a path, a URL or a zarr Store, found {where!r}")
        return cls(os.fspath(where).removeprefix("file://"), storage_options)

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
        with reaching(self.name):
            return cast(Store, FsspecStore.from_url(self.where, storage_options=self.storage_options))

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: the store is opened anew where it arrives."""
        return {"where": self.where, "storage_options": self.storage_options, "prefix": self.prefix}

    def get(self, key: str) -> bytes | None:
        """Read one object, None if it is not there."""
        with reaching(f"{self.name}/{key}"):
            folder = self.path
            if folder is not None:
                try:
                    return (folder / self.prefix / key).read_bytes()
                except (FileNotFoundError, NotADirectoryError):
                    return None
            found = sync(self.store.get(self.prefix + key, default_buffer_prototype()))
            return None if found is None else found.to_bytes()

    def put(self, objects: Mapping[str, Any]) -> None:
        """Write objects (bytes by key), each whole and atomically."""
        with reaching(self.name):
            folder = self.path
            if folder is not None:
                for key, value in objects.items():
                    _write_whole(folder / self.prefix, key, value)
            else:
                self._put_remote(objects)

    def _put_remote(self, objects: Mapping[str, Any]) -> None:
        make = default_buffer_prototype().buffer.from_bytes

        async def write() -> None:
            gate = asyncio.Semaphore(_CONCURRENCY)

            async def one(key: str, value: Any) -> None:
                async with gate:
                    await self.store.set(self.prefix + key, make(bytes(value)))

            await asyncio.gather(*(one(key, value) for key, value in objects.items()))

        sync(write())

    def listing(self, below: str = "") -> list[str]:
        """Keys below a prefix, relative to the target."""
        with reaching(self.name):
            folder = self.path
            if folder is not None:
                root = folder / self.prefix
                return [str(path.relative_to(root)) for path in (root / below).rglob("*") if path.is_file()]

            async def collect() -> list[str]:
                return [key async for key in self.store.list_prefix(self.prefix + below)]

            return [key[len(self.prefix) :] for key in sync(collect())]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""

        async def remove() -> None:
            await asyncio.gather(*(self.store.delete(self.prefix + key) for key in keys))

        with reaching(self.name):
            sync(remove())

    def clear(self, below: str = "") -> None:
        """Delete everything below a prefix, folders included where there are any."""
        folder = self.path
        if folder is not None:
            shutil.rmtree(folder / (self.prefix + below), ignore_errors=True)
        else:
            self.delete(self.listing(below))

    def exists(self) -> bool:
        """Whether there is anything at the target's place."""
        folder = self.path
        if folder is not None:
            if not folder.is_dir():
                return folder.is_symlink() or folder.exists()
            begun = folder / self.prefix / _MARK / "plan.json"  # without it, its folder is what a kill left
            return begun.exists() or any(entry.name != _MARK for entry in (folder / self.prefix).iterdir())
        with reaching(self.name):
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

    def begun(self) -> Plan | None:
        """The plan of an unfinished run of this target, or of its successor; None where there is none."""
        return self.pending() or replace(self, prefix=_NEW).pending()

    def done(self) -> dict[int, dict[str, Json]]:
        """What the tasks of an unfinished run recorded when they ended, by number."""
        keys = self.listing(f"{_MARK}/done/")
        return {
            int(key.rpartition("/")[2]): json.loads(self.get(key) or b"{}") for key in keys if key.rpartition("/")[2].isdigit()
        }

    def mark_verified(self, level: str) -> None:
        """Record that all that is written was compared with its source, for the commit record."""
        self.put({f"{_MARK}/verified": level.encode()})

    def mark_done(self, number: int, record: dict[str, Json]) -> None:
        """Record that a task has ended."""
        self.put({f"{_MARK}/done/{number}": json.dumps(record).encode()})


def _write_whole(root: Path, key: str, value: Any) -> None:
    """Write a file under a name of its own, then rename it: what a kill leaves of it goes with the run's other marks."""
    path = root / key
    draft = root / _MARK / "drafts" / uuid.uuid4().hex
    for _ in range(2):
        try:
            with open(draft, "xb") as file:
                file.write(value)
            break
        except FileNotFoundError:
            draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(draft, path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(draft, path)


@contextmanager
def reaching(name: str) -> Any:
    """Turn what a store raises into a `TargetError` or, where it may pass, a `TransientError`."""
    try:
        yield
    except H5zError:
        raise
    except (ConnectionError, TimeoutError) as error:
        raise TransientError(f"{name}: the store did not answer ({one_line(error)})") from None
    except (OSError, ValueError, ImportError) as error:
        raise TargetError(f"{name}: cannot be read or written ({one_line(error)})") from None
    except Exception as error:  # clients of object stores have errors of their own
        if any(word in type(error).__name__ for word in ("Connect", "Timeout")):
            raise TransientError(f"{name}: the store did not answer ({one_line(error)})") from None
        if type(error).__module__.partition(".")[0] in _CLIENTS:
            raise TargetError(f"{name}: cannot be read or written ({one_line(error)})") from None
        raise


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
    if isinstance(target.where, Store) and target.where.read_only:
        raise TargetError(f"{target.name}: expected a store that can be written, found one that is read-only")
    _end_swap(target)
    root = target.root() if target.exists() else None
    if root is not None and _fingerprint(root) == plan.fingerprint:
        target.clear(_MARK)
        return target, True
    waiting = target.pending() if target.exists() else None
    if root is None and waiting is not None:
        if waiting.fingerprint == plan.fingerprint:
            _complete(target, waiting)
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
        raise TargetExistsError(
            f"{target.name}: expected nothing, or a Zarr hierarchy; found other data, which is never overwritten"
        )
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
    else:
        _complete(new, waiting)
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
    text = json.dumps(plan.to_dict())
    target.put({f"{_MARK}/plan.json": text.encode("utf-8", "surrogatepass")})
    _complete(target, plan)


def _complete(target: Target, plan: Plan) -> None:
    """Write all metadata but the root's, unless a run has already written them all."""
    if target.get(f"{_MARK}/created") is None:
        documents = plan_documents(plan)
        target.put({key: dump(value) for key, value in documents.items() if "/" in key})
        target.put({f"{_MARK}/created": b""})


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
    level = target.get(f"{_MARK}/verified")
    documents = plan_documents(plan, checksums(done), level.decode() if level else None)
    root = {key: value for key, value in documents.items() if "/" not in key}
    if plan.policy.consolidate:
        root |= consolidated(plan, documents)
    for key in sorted(root, key=("zarr.json", ".zgroup", ".zmetadata", ".zattrs").index, reverse=True):
        target.put({key: dump(root[key])})


def checksums(done: Mapping[int, dict[str, Json]]) -> dict[str, str]:
    """Each array's checksum of its stored bytes (`h5z.units.checksum`), from what the tasks recorded."""
    sums: dict[str, int] = {}
    for record in done.values():
        for path, value in record.get("checksums", {}).items():
            sums[path] = (sums.get(path, 0) + value) % (1 << 64)
    return {path: f"{value:016x}" for path, value in sorted(sums.items())}


def _end_swap(target: Target) -> None:
    """End what a kill broke off: a committed successor is put in its target's place."""
    folder = target.path
    if folder is not None and not target.prefix:
        aside = _aside(folder)
        successor = aside / _NEW.rstrip("/")
        if not folder.exists() and successor.exists():
            successor.rename(folder)
        if aside.exists():
            shutil.rmtree(aside, ignore_errors=True)
    new = replace(target, prefix=_NEW)
    if not target.prefix and new.root() is not None:
        _swap(target, new)
        target.clear(_MARK)


def _aside(folder: Path) -> Path:
    """Where an old target goes while its successor takes its place."""
    return folder.with_name(f".{folder.name}.h5z-old")


def _swap(target: Target, new: Target) -> None:
    """Put a committed successor in its target's place: two renames in a folder, else key by key, the root's document last."""
    folder = target.path
    if folder is not None:
        aside = _aside(folder)
        folder.rename(aside)
        (aside / _NEW.rstrip("/")).rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
        return
    target.delete([key for key in ROOT_DOCUMENTS if target.get(key) is not None])
    target.delete([key for key in target.listing() if not key.startswith(f"{_MARK}/")])
    keys = [key for key in new.listing() if not key.startswith(f"{_MARK}/")]
    for key in sorted(keys, key=lambda key: key in ROOT_DOCUMENTS):
        target.put({key: cast(bytes, new.get(key))})
    new.delete([key for key in keys if key in ROOT_DOCUMENTS])  # before the rest: what has no root is no successor
