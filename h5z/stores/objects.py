"""Zarr stores by path, URL or object, and how they are written to: whole objects, some of them only where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from zarr.abc.store import ByteRequest, Store
from zarr.buffer import default_buffer_prototype
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore

from h5z.stores.retries import ATTEMPTS, persist_async

T = TypeVar("T")

_CONCURRENCY = 32


def is_store(what: object) -> bool:
    """Whether something is a zarr Store."""
    return isinstance(what, Store)


def folder_of(store: Store) -> Path | None:
    """The local folder that a store is, or None."""
    return store.root if type(store) is LocalStore else None  # a subclass may do otherwise


def is_shared(store: Store) -> bool:
    """Whether other processes reach the same store; what lies in this one's memory they do not."""
    if isinstance(store, FsspecStore):
        kinds = store.fs.protocol
        return "memory" not in ((kinds,) if isinstance(kinds, str) else kinds)
    inner = getattr(store, "store", store)  # of zarr's ObjectStore: obstore's
    return not isinstance(store, MemoryStore) and type(inner).__name__ != "MemoryStore"


def local_store(path: str) -> Store:
    """The zarr Store of a folder."""
    return LocalStore(path)


class Objects:
    """The objects of a zarr Store by key, many at once; not asynchronous."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: str) -> bytes | None:
        """Read one object, None if it is not there."""
        return sync(self._get(key))

    async def _get(self, key: str) -> bytes | None:
        found = await self._store.get(key, default_buffer_prototype())
        return None if found is None else found.to_bytes()

    def get_all(self, keys: Iterable[str]) -> dict[str, bytes | None]:
        """Read many objects."""
        wanted = list(keys)
        return dict(zip(wanted, sync(_at_once(self._get, wanted)), strict=True))

    def put(self, objects: Mapping[str, Any]) -> None:
        """Write objects."""
        make = default_buffer_prototype().buffer.from_bytes

        async def one(key: str) -> None:
            await self._store.set(key, make(bytes(objects[key])))

        sync(_at_once(one, objects))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""
        sync(_at_once(self._store.delete, keys))

    def listing(self, below: str) -> list[str]:
        """Keys below a prefix."""

        async def collect() -> list[str]:
            return [key async for key in self._store.list_prefix(below)]

        return sync(collect())

    def names(self, place: str) -> set[str]:
        """Names right at a place."""

        async def collect() -> set[str]:
            return {name.rstrip("/").rpartition("/")[2] async for name in self._store.list_dir(place)}

        return sync(collect())


async def _at_once(work: Callable[[str], Coroutine[Any, Any, T]], keys: Iterable[str]) -> list[T]:
    gate = asyncio.Semaphore(_CONCURRENCY)

    async def one(key: str) -> T:
        async with gate:
            return await work(key)

    return await asyncio.gather(*map(one, keys))


class PersistentStore(WrapperStore[Store]):
    """A zarr Store whose reads, writes, deletions and listings are tried again; each is the same twice as once."""

    def __init__(self, store: Store, attempts: int = ATTEMPTS) -> None:
        super().__init__(store)
        self.attempts = attempts

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read an object, or a range of it."""
        return await persist_async(lambda: super(PersistentStore, self).get(key, prototype, byte_range), self.attempts)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read ranges of objects."""
        wanted = list(key_ranges)
        return await persist_async(lambda: super(PersistentStore, self).get_partial_values(prototype, wanted), self.attempts)

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return await persist_async(lambda: super(PersistentStore, self).exists(key), self.attempts)

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        await persist_async(lambda: super(PersistentStore, self).set(key, value), self.attempts)

    async def delete(self, key: str) -> None:
        """Delete an object."""
        await persist_async(lambda: super(PersistentStore, self).delete(key), self.attempts)

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Keys below a prefix."""

        async def collect() -> list[str]:
            return [key async for key in super(PersistentStore, self).list_prefix(prefix)]

        for key in await persist_async(collect, self.attempts):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names right below a prefix."""

        async def collect() -> list[str]:
            return [key async for key in super(PersistentStore, self).list_dir(prefix)]

        for key in await persist_async(collect, self.attempts):
            yield key
