"""Which chunks of a dataset HDF5 has allocated, and which a Zarr array in a folder has stored."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TypeAlias

import h5py
import zarr
from h5py import h5d

Units: TypeAlias = set[tuple[int, ...]]


def unit_shape(target: zarr.Array) -> tuple[int, ...]:
    """Shape of what one stored object covers."""
    return target.shards or target.chunks


def allocated_units(target: zarr.Array) -> Units:
    """Every stored object that the array could have."""
    counts = [-(-n // c) for n, c in zip(target.shape, unit_shape(target), strict=True)]
    return set(product(*map(range, counts)))


def stored_units(root: Path, target: zarr.Array) -> Units:
    """Index of each stored object of an array, from the folder alone."""
    return {index for index in allocated_units(target) if unit_path(root, target, index).exists()}


def unit_path(root: Path, target: zarr.Array, index: tuple[int, ...]) -> Path:
    """File of a stored object."""
    return root / target.path / target.metadata.encode_chunk_key(index)


def expected_units(source: h5py.Dataset, target: zarr.Array) -> Units | None:
    """The objects that hold what HDF5 has allocated; None where HDF5 does not say (virtual and external data)."""
    if source.shape is None or 0 in target.shape:
        return set()
    plist = source.id.get_create_plist()
    if plist.get_layout() == h5d.VIRTUAL or plist.get_external_count():
        return None
    if source.chunks is None:
        return allocated_units(target) if source.id.get_storage_size() else set()
    extra = target.shape[len(source.shape) :]
    out: Units = set()
    for number in range(source.id.get_num_chunks()):
        start = source.id.get_chunk_info(number).chunk_offset
        if any(s >= n for s, n in zip(start, source.shape, strict=True)):
            continue
        ends = [min(s + c, n) for s, c, n in zip(start, source.chunks, source.shape, strict=True)]
        spans = [range(s // u, -(-e // u)) for s, e, u in zip(start, ends, unit_shape(target)[: len(start)], strict=True)]
        whole = [range(-(-n // u)) for n, u in zip(extra, unit_shape(target)[len(start) :], strict=True)]
        out |= set(product(*spans, *whole))
    return out
