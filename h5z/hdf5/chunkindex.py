"""Which chunks of a dataset are allocated, and which filters each of them skipped."""

from __future__ import annotations

from functools import cache
from threading import get_ident
from typing import Any

import h5py
import numpy as np
from h5py import h5s

from h5z.grid import ChunkGrid
from h5z.hdf5.libhdf5 import EXTENSIBLE_ARRAY, chunk_index
from h5z.limits import MOST_CHUNKS, at_most


def chunk_states(did: Any, grid: ChunkGrid) -> Any:
    """Per chunk of an open dataset in C order: -1 where it is not allocated, else the filters that it skipped, a bit each."""
    at_most(MOST_CHUNKS, grid.size, "chunks")
    count = did.get_num_chunks()
    if count == grid.size and not did.get_create_plist().get_nfilters():
        return np.zeros(grid.size, np.int64)
    states = np.full(grid.size, -1, np.int64)
    found: list[tuple[tuple[int, ...], int]] = []
    if count:
        did.chunk_iter(lambda info: found.append((info.chunk_offset, info.filter_mask)))
    if found:
        index = np.asarray([place for place, _ in found], np.int64) // np.asarray(grid.chunks)
        index = _unswizzled(did, grid, index)
        inside = (index < np.asarray(grid.counts)).all(axis=1)  # chunks past a shrunk array's end may linger
        masks = np.asarray([mask for _, mask in found], np.int64)
        states[np.ravel_multi_index(tuple(index[inside].T), grid.counts)] = masks[inside]
    return states


def _unswizzled(did: Any, grid: ChunkGrid, index: Any) -> Any:
    """Chunks' true places in an extensible array, whose unlimited axis comes first in the index wherever it is in the shape.

    libhdf5 2.0 numbers those chunks right, and tells their places as though the axes had kept their order.
    """
    limits = did.get_space().get_simple_extent_dims(True)
    unlimited = [axis for axis, limit in enumerate(limits) if limit == h5s.UNLIMITED]
    if len(unlimited) != 1 or unlimited == [0] or chunk_index(did) != EXTENSIBLE_ARRAY or not _swizzles():
        return index
    (axis,) = unlimited
    counts = [-(-int(limit) // c) if i != axis else 1 for i, (limit, c) in enumerate(zip(limits, grid.chunks, strict=True))]
    after = int(np.prod(counts[axis + 1 :]))
    tail = np.ravel_multi_index(tuple(index[:, axis + 1 :].T), counts[axis + 1 :]) if counts[axis + 1 :] else 0
    number = index[:, axis] * after + tail
    others = int(np.prod(counts))
    out = np.stack(np.unravel_index(number % others, counts), axis=1).astype(np.int64)
    out[:, axis] = number // others
    return out


@cache
def _swizzles() -> bool:
    """Whether this libhdf5 tells wrong places."""
    with h5py.File(f"probe {get_ident()}", "w", driver="core", backing_store=False, libver="latest") as file:
        made = file.create_dataset("x", (4, 2), "<i2", chunks=(1, 1), maxshape=(4, None))
        made[1, 1] = 1
        return bool(made.id.get_chunk_info(0).chunk_offset != (1, 1))
