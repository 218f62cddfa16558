"""H5ShardStore by zarr's own tests of stores: plain keys, and chunks in containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from zarr.abc.buffer import Buffer
from zarr.buffer import cpu
from zarr.testing.store import StoreTests

from h5z import H5ShardStore
from h5z.shards.arrays import Array, Chunk
from h5z.shards.folder import ShardFolder
from h5z.shards.places import Layout


class TestPlainKeys(StoreTests[H5ShardStore, cpu.Buffer]):
    """Zarr's tests where no key is a chunk of an array: all are plain files."""

    store_cls = H5ShardStore
    buffer_cls = cpu.Buffer

    async def set(self, store: H5ShardStore, key: str, value: Buffer) -> None:
        path = Path(store.root, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value.to_bytes())

    async def get(self, store: H5ShardStore, key: str) -> Buffer:
        return self.buffer_cls.from_bytes(Path(store.root, key).read_bytes())

    @pytest.fixture
    def store_kwargs(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": str(tmp_path)}

    def test_store_repr(self, store: H5ShardStore) -> None:
        assert repr(store) == f"H5ShardStore({store.root!r}, consolidate_depth=3, mode='a')"
        assert str(store) == f"h5shards://{store.root}"

    def test_store_supports_writes(self, store: H5ShardStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: H5ShardStore) -> None:
        assert store.supports_listing


# The arrays that the keys of zarr's tests are made chunks of; between them, every key with an index in it.
ONE = (Layout("c", 1, "/", False), Layout("foo", 2, "/", False))
TWO = (Layout("c", 2, "/", False), Layout("foo", 1, "/", True))
THREE = (Layout("", 1, "/", True), Layout("foo/c", 2, ".", False))


class Folder(ShardFolder):
    """Takes arrays for there whose metadata are not."""

    layouts = ONE

    def array(self, path: str) -> Array | None:
        found = next((layout for layout in self.layouts if layout.path == path), None)
        return None if found is None else Array(found, self.depth, recorded=True)


class FolderTwo(Folder):
    layouts = TWO


class FolderThree(Folder):
    layouts = THREE


class Store(H5ShardStore):
    """The store over such a folder."""

    folder_class: type[Folder] = Folder

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        super().__init__(path, read_only=read_only)
        self._folder = self.folder_class(self.root)


class StoreTwo(Store):
    folder_class = FolderTwo


class StoreThree(Store):
    folder_class = FolderThree


class TestChunks(TestPlainKeys):
    """The same tests where keys are chunks of arrays, in containers."""

    store_cls = Store

    async def set(self, store: H5ShardStore, key: str, value: Buffer) -> None:
        place = self.place(store, key)
        if place is None:
            await super().set(store, key, value)
        else:
            place[0].put(place[1], value.to_bytes())

    async def get(self, store: H5ShardStore, key: str) -> Buffer:
        place = self.place(store, key)
        if place is None:
            return await super().get(store, key)
        data = place[0].get(place[1])
        assert data is not None
        assert not Path(store.root, key).exists()
        return self.buffer_cls.from_bytes(data)

    def place(self, store: H5ShardStore, key: str) -> Any:
        chunk: Chunk | None = store._folder.chunk(key)
        return None if chunk is None else next(store._folder.places(chunk))

    def test_store_repr(self, store: H5ShardStore) -> None:
        assert store.root in repr(store)


class TestMoreChunks(TestChunks):
    store_cls = StoreTwo


class TestChunksOfTheRoot(TestChunks):
    store_cls = StoreThree


@pytest.mark.parametrize("store", [Store, StoreTwo, StoreThree])
def test_the_tests_above_do_write_containers(store: type[Store], tmp_path: Path) -> None:
    made = store(str(tmp_path))
    for key in ("c/0", "foo/c/0.0", "foo/0/0", "foo/c/1", "c/0/0", "0"):
        made.set_sync(key, cpu.Buffer.from_bytes(key.encode()))
    assert sum(path.suffix == ".h5" for path in tmp_path.rglob("*")) >= 2
