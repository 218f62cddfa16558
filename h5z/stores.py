"""Zarr stores by path, URL or object, and how they are written to: whole objects, some of them only where there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from h5z.retries import ATTEMPTS, persist_async


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
