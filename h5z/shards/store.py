"""A Zarr store over a folder whose chunks live in HDF5 containers and whose metadata are plain files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from typing import Any, Literal, Self, TypeAlias

from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer import default_buffer_prototype

from h5z.bars import Progress
from h5z.container import LOCK_TIMEOUT
from h5z.errors import PlanError
from h5z.shards import moving as shards
from h5z.shards.export import export
from h5z.shards.folder import ShardFolder
from h5z.shards.report import ShardReport

Mode = Literal["r", "r+", "a", "w", "w-"]
_Buffers: TypeAlias = list[Buffer | None]  # in the class, `list` is a method
_Keys: TypeAlias = list[str]


class H5ShardStore(Store):
    """A Zarr store, v2 or v3, over a folder whose chunks live in HDF5 containers.

    Of a chunk's indices, the last ``consolidate_depth - 1`` name a member of a container, the others its path: at depth 3, chunk
    ``c/0/1/2`` of an array is ``1.2`` in ``c/0.h5``. All of an array of fewer dimensions than that is in its ``c.h5``. A chunk
    that is there as a plain file, as `zarr.storage.LocalStore` writes them, takes precedence over the container's; writing it
    again moves it in. Reads what `H5_Nested_Store` has written, at whatever depth.

    Threads, processes and the workers of a cluster may write at the same time, to the same container too: who appends holds
    its lock. A write that is killed leaves the old chunk or the new one (see `h5z.container`). Containers are HDF5 files at
    every moment; `close`, and the end of the process, have them show the last chunks that were written, too.

    Parameters
    ----------
    path : path
        The store's root.
    consolidate_depth : int
        How much of an array one container holds, 2 or more. An array that has containers keeps its depth.
    mode : {"r", "r+", "a", "w", "w-"}
        Read; read and write what must exist; create if needed; delete what is there, at once; refuse what is there.
    write_direct : bool
        Whether chunks are written to containers; else as plain files, until `h5z.shards.consolidate`.
    container_ext : str
        The suffix of containers.
    lock_timeout : float
        Seconds after which a write fails whose container another writer holds.
    read_only : bool
        As ``mode="r"``.

    Raises
    ------
    PlanError
        If a parameter is wrong.
    SourceError
        From reads: a container that is damaged, cut short or unreadable, or a chunk whose checksum is wrong. Only what is not
        there reads as a missing chunk.
    TargetError
        From writes: what cannot be written, or is locked by another for too long.
    """

    supports_writes: bool = True
    supports_deletes: bool = True
    supports_listing: bool = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        consolidate_depth: int = 3,
        mode: Mode = "a",
        write_direct: bool = True,
        container_ext: str = "h5",
        lock_timeout: float = LOCK_TIMEOUT,
        read_only: bool = False,
    ) -> None:
        if mode not in ("r", "r+", "a", "w", "w-"):
            raise PlanError(f"mode: expected 'r', 'r+', 'a', 'w' or 'w-', found {mode!r}")
        super().__init__(read_only=read_only or mode == "r")
        self._folder = ShardFolder(
            os.path.abspath(path),
            depth=consolidate_depth,
            suffix=f".{container_ext.lstrip('.')}",
            direct=write_direct,
            lock_timeout=lock_timeout,
        )
        if mode in ("w", "w-") and not self.read_only:
            self._folder.open(mode)  # now, and not once more in each copy
            mode = "r+"
        self._mode: Mode = "r" if self.read_only else mode

    @property
    def root(self) -> str:
        """The store's folder."""
        return self._folder.root

    @property
    def container_ext(self) -> str:
        """The suffix of containers, without its dot."""
        return self._folder.suffix[1:]

    @property
    def consolidate_depth(self) -> int:
        """The depth of arrays that have no containers yet."""
        return self._folder.depth

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what is open or would happen a second time."""
        return {"folder": self._folder, "read_only": self.read_only, "mode": self._mode}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up what `__getstate__` gave."""
        super().__init__(read_only=state["read_only"])
        self._folder, self._mode = state["folder"], state["mode"]

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return a store of the same folder that may write, or may not."""
        made = object.__new__(type(self))
        mode = "r" if read_only else "a" if self._mode == "r" else self._mode
        made.__setstate__({"folder": self._folder, "read_only": read_only, "mode": mode})
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._folder == other._folder

    def __str__(self) -> str:
        return f"h5shards://{self.root}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root!r}, consolidate_depth={self.consolidate_depth}, mode={self._mode!r})"

    # Opening and closing

    async def _open(self) -> None:
        await asyncio.to_thread(self._folder.open, self._mode)
        await super()._open()

    def _open_now(self) -> None:
        if not self._is_open:
            self._folder.open(self._mode)
            self._is_open = True

    def close(self) -> None:
        """Have libhdf5 see all chunks that this process has written; the store can still be used."""
        self._folder.seal()
        super().close()

    async def clear(self) -> None:
        """Delete all that the store holds."""
        await self.delete_dir("")

    # Reading

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a value, or a range of its bytes; None if there is none. Whole chunks are compared with their checksums."""
        self._open_now()
        data = self._folder.get(key, *_bounds(byte_range))
        return None if data is None else (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a value, or a range of its bytes; None if there is none. Whole chunks are compared with their checksums."""
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> _Buffers:
        """Read ranges of bytes of several values."""
        return [*await asyncio.gather(*(self.get(key, prototype, wanted) for key, wanted in key_ranges))]

    async def exists(self, key: str) -> bool:
        """Whether there is a value."""
        return await asyncio.to_thread(self._folder.nbytes, key) is not None

    async def getsize(self, key: str) -> int:
        """The size of a value in bytes."""
        found = await asyncio.to_thread(self._folder.nbytes, key)
        if found is None:
            raise FileNotFoundError(key)
        return found

    async def getsize_prefix(self, prefix: str) -> int:
        """The size of all values below a prefix in bytes."""
        prefix = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
        return await asyncio.to_thread(lambda: sum(nbytes for _, nbytes in self._folder.items(prefix)))

    async def list(self) -> AsyncIterator[str]:
        """All keys."""
        for key in await asyncio.to_thread(self._keys, ""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """All keys that begin so."""
        for key in await asyncio.to_thread(self._keys, prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The next component of keys below a prefix."""
        for name in await asyncio.to_thread(self._folder.children, prefix.rstrip("/")):
            yield name

    def _keys(self, prefix: str) -> _Keys:
        return [key for key, _ in self._folder.items(prefix)]

    # Writing

    def set_sync(self, key: str, value: Buffer) -> None:
        """Store a value, atomically."""
        self._set(key, value, replace=True)

    async def set(self, key: str, value: Buffer) -> None:
        """Store a value, atomically."""
        await asyncio.to_thread(self._set, key, value, replace=True)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store a value unless there is one."""
        await asyncio.to_thread(self._set, key, value, replace=False)

    def _set(self, key: str, value: Buffer, *, replace: bool) -> None:
        self._open_now()
        self._check_writable()
        if not isinstance(value, Buffer):
            raise TypeError(f"{self}: {key}: expected a zarr Buffer, found {type(value).__name__}")
        self._folder.set(key, value.as_buffer_like(), replace=replace)

    def delete_sync(self, key: str) -> None:
        """Delete a value; nothing happens if there is none."""
        self._open_now()
        self._check_writable()
        self._folder.delete(key)

    async def delete(self, key: str) -> None:
        """Delete a value; nothing happens if there is none."""
        await asyncio.to_thread(self.delete_sync, key)

    async def delete_dir(self, prefix: str) -> None:
        """Delete all values below a prefix."""
        await self._ensure_open()
        self._check_writable()
        await asyncio.to_thread(self._folder.delete_below, prefix.strip("/"))

    # The whole store

    def consolidate(self, *, scheduler: Any = None, workers: int | None = None, progress: Progress = False) -> ShardReport:
        """Move loose chunks into containers, in place: see `h5z.shards.consolidate`."""
        self._check_writable()
        return shards.consolidate(self, scheduler=scheduler, workers=workers, progress=progress)

    def unconsolidate(self, *, scheduler: Any = None, workers: int | None = None, progress: Progress = False) -> ShardReport:
        """Move chunks out of containers, in place: see `h5z.shards.unconsolidate`."""
        self._check_writable()
        return shards.unconsolidate(self, scheduler=scheduler, workers=workers, progress=progress)

    def export(
        self, target: str | os.PathLike[str], *, scheduler: Any = None, workers: int | None = None, progress: Progress = False
    ) -> ShardReport:
        """Write a plain Zarr v3 store with the sharding codec: see `h5z.shards.export.export`."""
        return export(self, target, scheduler=scheduler, workers=workers, progress=progress)

    def check(
        self, *, repair: bool = False, scheduler: Any = None, workers: int | None = None, progress: Progress = False
    ) -> ShardReport:
        """Compare every chunk in containers with its checksum: see `h5z.shards.check`."""
        return shards.check(self, repair=repair, scheduler=scheduler, workers=workers, progress=progress)


def _bounds(wanted: ByteRequest | None) -> tuple[int, int | None]:
    """Start and stop of a range, as of a slice.

    >>> _bounds(RangeByteRequest(2, 5)), _bounds(SuffixByteRequest(3)), _bounds(None)
    ((2, 5), (-3, None), (0, None))
    """
    match wanted:
        case None:
            return 0, None
        case RangeByteRequest(start, end):
            return start, end
        case OffsetByteRequest(offset):
            return offset, None
        case SuffixByteRequest(suffix):
            return (-suffix, None) if suffix else (0, 0)
    raise TypeError(f"Unexpected byte_range, got {wanted}.")
