"""The Zarr store that a migration writes: whole objects, each written atomically, by the run that holds it.

While a migration runs, the target holds its plan under ``.h5z/plan.json`` and a mark per finished task under ``.h5z/done/``;
what a rerun may skip is read from those. The root's metadata document is the commit record: until it is written the target
does not open. A target that is to be overwritten stays as it is while its successor grows under ``.h5z/new/``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from h5z.credentials import joined, redact, separate
from h5z.digest import Digest
from h5z.errors import H5zError, LeaseLostError, PlanError, TargetError, TargetExistsError, TransientError, is_transient, one_line
from h5z.nodes import Json
from h5z.plan import Plan
from h5z.stores.claims import Claims, FolderClaims
from h5z.stores.disk import clear_folder, remove, remove_empty, write_whole
from h5z.stores.lease import Lease, acquire, check, ending, let_go
from h5z.stores.remote import open_url
from h5z.stores.retries import ATTEMPTS, persist

if TYPE_CHECKING:
    from zarr.abc.store import Store

    from h5z.stores.objects import Objects

MARK = ".h5z"
NEW = f"{MARK}/new/"
_CLIENTS = ("obstore", "botocore", "aiohttp", "gcsfs", "azure")
ROOT_DOCUMENTS = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata", ".zarray")


@dataclass(frozen=True)
class Target:
    """A Zarr store by path, URL or `Store`; picklable, opened where it is used.

    Attributes
    ----------
    prefix : str
        Where in the store the hierarchy lies: empty, or the place of an overwriting run's new target.
    lease : Lease, optional
        The run's hold on it; who writes sees first that the run has it still.
    durable : "none", "commit" or "always"
        When what is written into a folder is made to reach the disk (`Policy.durable`).
    attempts : int
        How often a request of a store is made at most where it fails in a way that may pass.
    """

    where: str | Store
    storage_options: dict[str, Any] | None = field(default=None, repr=False)
    prefix: str = ""
    lease: Lease | None = None
    durable: str = "commit"
    attempts: int = ATTEMPTS

    @classmethod
    def of(cls, where: Any, storage_options: dict[str, Any] | None = None) -> Target:
        """A target from what a user gives: a path, a URL, or a zarr Store."""
        if isinstance(where, Target):
            return where
        if not isinstance(where, str | os.PathLike):
            from h5z.stores.objects import is_store

            if is_store(where):
                return cls(where)
            raise PlanError(f"target: expected a path, a URL or a zarr Store, found {where!r}")
        name = os.fspath(where).removeprefix("file://")
        if not name:
            raise PlanError(f"target: expected a path, a URL or a zarr Store, found {os.fspath(where)!r}")
        return cls(*separate(name, storage_options))

    @property
    def name(self) -> str:
        """The target as a user named it; without credentials."""
        return self.where if isinstance(self.where, str) else redact(str(self.where))

    @cached_property
    def path(self) -> Path | None:
        """The local folder, or None for what is not one."""
        if isinstance(self.where, str):
            return None if "://" in self.where else Path(self.where)
        from h5z.stores.objects import folder_of

        return folder_of(self.where)

    @property
    def shared(self) -> bool:
        """Whether other processes reach the same target; what lies in this one's memory they do not."""
        if isinstance(self.where, str):
            return not self.where.startswith("memory://")
        from h5z.stores.objects import is_shared

        return is_shared(self.where)

    @cached_property
    def _opened(self) -> Store:
        if not isinstance(self.where, str):
            return self.where
        if "://" not in self.where:
            from h5z.stores.objects import local_store

            return local_store(self.where)
        with reaching(self.name):
            return open_url(*joined(self.where, self.storage_options))

    def __repr__(self) -> str:
        """The target without credentials, for whoever prints the arguments of a task."""
        return f"{type(self).__name__}({self.name!r}, prefix={self.prefix!r})"

    @cached_property
    def store(self) -> Store:
        """The open store; one that is no folder tries again what fails in a way that may pass."""
        if self.path is not None:
            return self._opened
        from h5z.stores.objects import PersistentStore

        return PersistentStore(self._opened, self.attempts)

    @cached_property
    def _objects(self) -> Objects:
        """What is in the store, where that is no folder."""
        from h5z.stores.objects import Objects

        return Objects(self.store)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: the store is opened anew where it arrives."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def get(self, key: str) -> bytes | None:
        """Read one object, None if it is not there."""
        with reaching(f"{self.name}/{key}"):
            folder = self.path
            if folder is not None:
                try:
                    return persist((folder / self.prefix / key).read_bytes, self.attempts, remote=False)
                except (FileNotFoundError, NotADirectoryError):
                    return None
            return self._objects.get(self.prefix + key)

    def get_all(self, keys: Iterable[str]) -> dict[str, bytes | None]:
        """Read many objects, many at once where that is faster."""
        if self.path is not None:
            return {key: self.get(key) for key in keys}
        with reaching(self.name):
            wanted = list(keys)
            found = self._objects.get_all(self.prefix + key for key in wanted)
            return {key: found[self.prefix + key] for key in wanted}

    def put(self, objects: Mapping[str, Any]) -> None:
        """Write objects (bytes by key), each whole and atomically.

        Raises
        ------
        LeaseLostError
            If another run holds the target by now; nothing is written then.
        """
        self.check()
        with reaching(self.name):
            folder = self.path
            if folder is not None:
                for key, value in objects.items():
                    self._put_file(folder, key, value)
            else:
                self._objects.put({self.prefix + key: value for key, value in objects.items()})

    def _put_file(self, folder: Path, key: str, value: Any) -> None:
        """Drafts of a run lie in a folder of its own, made once: who takes the target over takes that away."""
        if ".." in key.split("/") or key.startswith("/"):  # a plan that was not written by h5z
            raise TargetError(f"{self.name}: expected a place inside the target, found {key!r}")
        drafts = f"{folder}/{MARK}/drafts/{self.lease.run if self.lease else '0'}"
        write = partial(write_whole, f"{folder}/{self.prefix}{key}", value, drafts, durable=self.durable)
        try:
            persist(write, self.attempts, remote=False)
        except FileNotFoundError:
            if self.lease is not None:
                self.check(now=True)
                raise TargetError(f"{self.name}: was removed, in part or whole, while it was being written") from None
            os.makedirs(drafts, exist_ok=True)
            write()

    def listing(self, below: str = "") -> list[str]:
        """Keys below a prefix, relative to the target."""
        with reaching(self.name):
            folder = self.path
            if folder is not None:
                root = os.path.join(folder, self.prefix)
                return [os.path.join(at, name)[len(root) :] for at, _, files in os.walk(root + below) for name in files]
            return [key[len(self.prefix) :] for key in self._objects.listing(self.prefix + below)]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""
        self.check()
        with reaching(self.name):
            folder = self.path
            if folder is None:
                self._objects.delete(self.prefix + key for key in keys)
            else:
                for key in keys:
                    persist(partial(remove, folder / self.prefix / key), self.attempts, remote=False)

    def clear(self, below: str = "") -> None:
        """Delete everything below a prefix, folders included where there are any; but not leases, nor the run's own drafts."""
        self.check()
        kept = [f"{MARK}/lease", f"{MARK}/drafts"]
        last = f"{MARK}/plan.json"  # what has no plan any more is not known as a run's
        with reaching(self.name):
            folder = self.path
            if folder is not None:
                base = folder / self.prefix
                clear_folder(base / below, [base / last, *(folder / name for name in kept)])
                clear_folder(base / below, [folder / name for name in kept])
            else:
                keys = {key for key in self.listing(below) if not (self.prefix + key).startswith(f"{kept[0]}/")}
                self.delete(keys - {last})
                self.delete(keys & {last})

    def names(self) -> set[str]:
        """Names right at the target's place, of objects and of folders."""
        with reaching(self.name):
            folder = self.path
            if folder is not None:
                try:
                    return set(os.listdir(folder / self.prefix))
                except FileNotFoundError:
                    return set()
            if hasattr(self._opened, "fs"):
                self._opened.fs.invalidate_cache()  # others write here too
            return self._objects.names(self.prefix.rstrip("/"))

    def exists(self) -> bool:
        """Whether there is anything at the target's place; under the mark, what counts is a plan: a kill may leave the rest."""
        folder = self.path
        if folder is not None and not folder.is_dir():
            return folder.is_symlink() or folder.exists()
        names = self.names()
        return bool(names - {MARK}) or (MARK in names and self.pending() is not None)

    def root(self) -> dict[str, Json] | None:
        """The attributes of a finished target's root, or None where no hierarchy opens."""
        for key in ("zarr.json", ".zgroup"):
            raw = self.get(key)
            if raw is not None:
                attributes = json.loads(raw).get("attributes", {}) if key == "zarr.json" else self.get(".zattrs") or b"{}"
                return json.loads(attributes) if isinstance(attributes, bytes) else cast(dict[str, Json], attributes)
        return None

    def seat_of(self, plan: Plan) -> Target:
        """Where a plan's units go: of one that adds to a finished target, to their places in that."""
        return replace(self, prefix="") if plan.grows else self

    def pending(self) -> Plan | None:
        """The plan of an unfinished run, or None."""
        raw = self.get(f"{MARK}/plan.json")
        try:
            return None if raw is None else Plan.from_dict(json.loads(raw))
        except json.JSONDecodeError:  # the power failed before it reached the disk
            return None
        except (TypeError, KeyError, AttributeError, PlanError) as error:
            what = f"an unfinished migration by another version of h5z ({one_line(error)})"
            raise TargetExistsError(f"{self.name}: expected nothing, or this migration; found {what}") from None

    def begun(self) -> Plan | None:
        """The plan of an unfinished run of this target, or of its successor; None where there is none."""
        return self.pending() or replace(self, prefix=NEW).pending()

    def done(self) -> dict[int, dict[str, Json]]:
        """What the tasks of an unfinished run recorded when they ended, by number."""
        keys = [key for key in self.listing(f"{MARK}/done/") if key.rpartition("/")[2].isdigit()]
        return {int(key.rpartition("/")[2]): json.loads(raw) for key, raw in self.get_all(keys).items() if raw}

    def record(self, number: int) -> dict[str, Json] | None:
        """What a task recorded when it ended, or None."""
        raw = self.get(f"{MARK}/done/{number}")
        return cast(dict[str, Json], json.loads(raw)) if raw else None

    def mark_verified(self, level: str, digests: Mapping[str, Digest]) -> None:
        """Record that all that is written was compared with its source, and digests found by that, for the commit record."""
        record = {"level": level, "digests": {path: str(found) for path, found in sorted(digests.items())}}
        self.put({f"{MARK}/verified": json.dumps(record).encode()})

    def mark_done(self, number: int, record: dict[str, Json]) -> None:
        """Record that a task has ended."""
        self.put({f"{MARK}/done/{number}": json.dumps(record).encode()})

    @cached_property
    def claims(self) -> Claims:
        """Where the leases of its runs are."""
        folder = self.path
        if folder is not None:
            return FolderClaims(partial(seat, folder))
        from h5z.stores.storeclaims import store_claims

        return store_claims(self._opened, f"{MARK}/lease/", self.attempts)

    def hold(self, *, shared: bool = False, adopt: bool = False, patient: bool = False) -> Target:
        """The target with the lease on it taken (`h5z.stores.lease.acquire`); `release` it at the end.

        Raises
        ------
        TargetHeldError
            If another run holds it.
        """
        with reaching(self.name):
            lease = acquire(self.claims, self.name, shared=shared, adopt=adopt, patient=patient)
            folder = self.path
            if folder is not None:
                drafts = seat(folder) / MARK / "drafts"
                remove(drafts)  # another run's: it can put nothing in place any more
                (drafts / lease.run).mkdir(parents=True)
        return replace(self, lease=lease)

    def check(self, *, now: bool = False) -> None:
        """See that this run still holds the target, where it has to; `now` by asking the store.

        Raises
        ------
        LeaseLostError
            If it does not.
        """
        if self.lease is not None:
            with reaching(self.name):
                check(self.claims, self.lease, self.name, now=now)

    def release(self, *, tidy: bool = False) -> None:
        """Let go of the lease.

        Parameters
        ----------
        tidy : bool
            With every trace of the run; by default where the lease is all that is left of it, and of others.
        """
        if self.lease is None:
            return
        with reaching(self.name), ending(self.lease):
            try:
                tidy = self._tidy(all_of_it=tidy)
            except LeaseLostError:  # what is there is another run's
                tidy = False
            let_go(self.claims, self.lease, remove=tidy)
            folder = self.path
            if folder is not None and tidy:
                remove_empty(folder / MARK / "lease", folder / MARK, folder)

    def _tidy(self, *, all_of_it: bool) -> bool:
        """Take away what runs have left, but for the lease, if that is all there is, or `all_of_it`; whether that was done."""
        folder, base = self.path, replace(self, prefix="")
        marks = base.listing(f"{MARK}/")
        if not all_of_it and not all(key.startswith((f"{MARK}/lease/", f"{MARK}/drafts/")) for key in marks):
            return False
        self.check()
        if folder is not None:
            clear_folder(folder / MARK, [folder / key for key in marks if self._is_later(key)])
        else:
            base.delete(key for key in marks if not self._is_later(key))
        return True

    def _is_later(self, key: str) -> bool:
        """Whether an object is the lease that this run holds, or one that follows on it."""
        name = key.removeprefix(f"{MARK}/lease/")
        return self.lease is not None and name.isdigit() and int(name) >= self.lease.number


def seat(folder: Path) -> Path:
    """The folder that a target is in now: its own, or, between the two renames of a swap, its successor's beside it."""
    beside = successor_beside(folder)
    return beside if not folder.exists() and beside.exists() else folder


def successor_beside(folder: Path) -> Path:
    """Where a committed successor lies, on its way to its target's place."""
    real = Path(os.path.realpath(folder))
    if not real.name:
        raise TargetError(f"{folder}: expected a folder for the target alone, found the file system's root")
    return real.with_name(f".{real.name}.h5z-new")


@contextmanager
def reaching(name: str) -> Iterator[None]:
    """Turn what a store raises into a `TargetError` or, where it may pass, a `TransientError`."""
    try:
        yield
    except H5zError:
        raise
    except Exception as error:  # clients of object stores have errors of their own
        if is_transient(error, remote="://" in name):
            raise TransientError(f"{name}: the store did not answer ({one_line(error)})") from None
        if isinstance(error, OSError | ValueError | ImportError) or type(error).__module__.startswith(_CLIENTS):
            raise TargetError(f"{name}: cannot be read or written ({one_line(error)})") from None
        raise
