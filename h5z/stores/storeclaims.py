"""Claims to a target in an object store, or whatever zarr's stores reach: created by conditional PUTs where it has them."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from zarr.abc.store import Store
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, ObjectStore

from h5z.stores.claims import Claims
from h5z.stores.retries import ATTEMPTS, persist


class StoreClaims:
    """Claims to any zarr Store, exclusive as its `set_if_not_exists` is."""

    def __init__(self, store: Store, prefix: str, attempts: int = ATTEMPTS) -> None:
        self._store, self._prefix, self._attempts = store, prefix, attempts

    def _try(self, make: Callable[[], Any]) -> Any:
        return persist(lambda: sync(make()), self._attempts)

    def names(self) -> list[str]:
        """Names of the claims that there are."""

        async def collect() -> list[str]:
            return [key async for key in self._store.list_prefix(self._prefix)]

        found = (key[len(self._prefix) :] for key in self._try(collect))
        return [name for name in found if name.isdigit()]

    def read(self, name: str) -> bytes | None:
        """A claim's text, or None."""
        found = self._try(lambda: self._store.get(self._prefix + name, default_buffer_prototype()))
        return None if found is None else cast(bytes, found.to_bytes())

    def create(self, name: str, data: bytes) -> bool:
        """Create a claim unless there is one of that name; whether it holds this text now."""
        make = default_buffer_prototype().buffer.from_bytes
        self._try(lambda: self._store.set_if_not_exists(self._prefix + name, make(data)))
        return self.read(name) == data

    def renew(self, name: str, data: bytes) -> None:
        """Write its text anew."""
        if self.read(name) is not None:
            make = default_buffer_prototype().buffer.from_bytes
            self._try(lambda: self._store.set(self._prefix + name, make(data)))

    def retire(self, name: str, data: bytes) -> None:
        """Write its last text."""
        self.renew(name, data)

    def remove(self, name: str) -> None:
        """Remove a claim."""
        self._try(lambda: self._store.delete(self._prefix + name))

    def sign(self, name: str) -> Any:
        """Its text."""
        return self.read(name)

    def age(self, name: str) -> float | None:
        """There is no telling."""
        return None


class UrlClaims:
    """Claims to what fsspec reaches: conditional PUTs where its file system has them (S3, GCS, Azure), and the server's clock.

    Parameters
    ----------
    filesystem : fsspec.AbstractFileSystem
        Not asynchronous.
    folder : str
        The path below which they lie.
    """

    def __init__(self, filesystem: Any, folder: str, attempts: int = ATTEMPTS) -> None:
        self._fs, self._folder, self._attempts = filesystem, folder.rstrip("/"), attempts
        self._tags: dict[str, str] = {}
        self._is_s3 = "s3" in (filesystem.protocol if isinstance(filesystem.protocol, tuple) else (filesystem.protocol,))

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _try(self, call: Callable[[], Any]) -> Any:
        return persist(call, self._attempts)

    def names(self) -> list[str]:
        """Names of the claims that there are."""
        self._fs.invalidate_cache()
        found = self._try(lambda: self._fs.find(self._folder))
        return [name for name in (key.rpartition("/")[2] for key in found) if name.isdigit()]

    def read(self, name: str) -> bytes | None:
        """A claim's text, or None."""
        try:
            return cast(bytes, self._try(lambda: self._fs.cat_file(self._path(name))))
        except FileNotFoundError:
            return None

    def create(self, name: str, data: bytes) -> bool:
        """Create a claim unless there is one of that name; whether it holds this text now."""

        def put() -> bool:
            try:
                self._keep(name, self._fs.pipe_file(self._path(name), data, mode="create"))
            except Exception as error:  # there is one, or it is ours and the answer was lost: what is there tells
                found = self.read(name)
                if found is not None:
                    return found == data
                if getattr(error, "errno", None) != errno.ENOSYS:
                    raise
                self._keep(name, self._fs.pipe_file(self._path(name), data))  # a server without conditional PUTs
                return self.read(name) == data
            return self._is_s3 or self.read(name) == data

        return cast(bool, self._try(put))

    def renew(self, name: str, data: bytes) -> None:
        """Write its text anew, on S3 only over the text that this process wrote last."""
        if not self._is_s3 or name not in self._tags:
            if self.read(name) is not None:
                self._keep(name, self._try(lambda: self._fs.pipe_file(self._path(name), data)))
            return

        def put() -> None:
            try:
                self._keep(name, self._fs.pipe_file(self._path(name), data, IfMatch=self._tags[name]))
            except OSError as error:
                if self.read(name) == data:  # an earlier attempt whose answer was lost
                    self._fs.invalidate_cache()
                    self._tags[name] = self._fs.info(self._path(name))["ETag"]
                elif error.errno == errno.ENOSYS:
                    self._fs.pipe_file(self._path(name), data)
                elif error.errno not in (errno.EINVAL, errno.ENOENT) and not isinstance(error, FileNotFoundError):
                    raise

        self._try(put)

    def _keep(self, name: str, answer: Any) -> None:
        if isinstance(answer, dict) and "ETag" in answer:
            self._tags[name] = answer["ETag"]

    def retire(self, name: str, data: bytes) -> None:
        """Write its last text."""
        self.renew(name, data)

    def remove(self, name: str) -> None:
        """Remove a claim."""
        with suppress(FileNotFoundError):
            self._try(lambda: self._fs.rm_file(self._path(name)))

    def sign(self, name: str) -> Any:
        """Its text."""
        return self.read(name)

    def age(self, name: str) -> float | None:
        """Seconds between its time and that of an object written now, less the second to which servers round."""
        now = self._path(f"{uuid.uuid4().hex}.now")
        try:
            self._fs.pipe_file(now, b"")
            try:
                self._fs.invalidate_cache()
                spent = self._fs.modified(now) - self._fs.modified(self._path(name))
            finally:
                self._fs.rm_file(now)
        except (OSError, NotImplementedError, AttributeError, KeyError, TypeError):
            return None
        return cast(float, spent.total_seconds()) - 1.0


class ObjectClaims(StoreClaims):
    """Claims to an object store through obstore: conditional PUTs, and the server's clock."""

    def __init__(self, store: Any, prefix: str, attempts: int = ATTEMPTS) -> None:
        super().__init__(store, prefix, attempts)
        self._objects = store.store

    def renew(self, name: str, data: bytes) -> None:
        """Write its text anew over the version that was read as this process's own."""
        import obstore

        def put() -> None:
            with suppress(FileNotFoundError, obstore.exceptions.PreconditionError):
                found = obstore.head(self._objects, self._prefix + name)
                version: Any = {key: found[key] for key in ("e_tag", "version") if found.get(key) is not None}
                if self.read(name) is not None:
                    try:
                        obstore.put(self._objects, self._prefix + name, data, mode=version)
                    except obstore.exceptions.NotSupportedError:
                        obstore.put(self._objects, self._prefix + name, data)

        persist(put, self._attempts)

    def age(self, name: str) -> float | None:
        """Seconds between its time and that of an object written now, less the second to which servers round."""
        import obstore

        now = f"{self._prefix}{uuid.uuid4().hex}.now"
        try:
            obstore.put(self._objects, now, b"")
            try:
                times = [obstore.head(self._objects, key)["last_modified"] for key in (now, self._prefix + name)]
            finally:
                obstore.delete(self._objects, now)
        except OSError:
            return None
        return float((times[0] - times[1]).total_seconds()) - 1.0


def store_claims(store: Store, prefix: str, attempts: int = ATTEMPTS) -> Claims:
    """The claims to a zarr Store, by the best means that it has."""
    if isinstance(store, ObjectStore):
        return ObjectClaims(store, prefix, attempts)
    if isinstance(store, FsspecStore):
        filesystem = _synchronous(store.fs)
        if filesystem is not None:
            return UrlClaims(filesystem, f"{store.path.rstrip('/')}/{prefix}", attempts)
    return StoreClaims(store, prefix, attempts)


def _synchronous(filesystem: Any) -> Any | None:
    """A file system like an asynchronous one, to be called from any thread; None where it cannot be had."""
    wrapped = getattr(filesystem, "sync_fs", None)
    if wrapped is not None:
        return wrapped
    options = {key: value for key, value in filesystem.storage_options.items() if key not in ("asynchronous", "loop")}
    try:
        return type(filesystem)(*filesystem.storage_args, **options)
    except (TypeError, ValueError):
        return None
