"""h5py's lock is held across no call of a store: zarr's own thread may want it while it answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr
from h5py._objects import phil
from zarr.storage import MemoryStore

import h5z


class WatchingStore(MemoryStore):
    """A store that looks, at each object that it is given, whether another thread could have h5py's lock."""

    free: list[bool]
    patience = 500

    async def set(self, key: str, value: Any, byte_range: Any = None) -> None:
        def look() -> None:
            found = phil.acquire(False)
            for _ in range(self.patience):  # others may have it for a moment
                if found:
                    break
                time.sleep(0.01)
                found = phil.acquire(False)
            self.free.append(found)
            if found:
                phil.release()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        await super().set(key, value)


@pytest.mark.parametrize("name", ["builtin_filters", "variable_strings", "virtual_dataset_of_the_same_file"])
def test_no_store_is_written_to_under_the_lock(oddity: Callable[[str], Path], name: str) -> None:
    store = WatchingStore()
    store.free = []
    report = h5z.convert(oddity(name), store, verify="full", scheduler="synchronous", workers=1)
    assert report.ok
    assert len(store.free) > 3
    assert all(store.free)


def test_the_store_would_see_it() -> None:
    store = WatchingStore()
    store.free, store.patience = [], 3
    with phil:
        zarr.open_group(store, mode="w")
    assert not any(store.free)
