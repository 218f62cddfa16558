"""The codecs' floor: decode each source chunk once, encode each target chunk once, nothing else timed."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from numcodecs import Blosc, blosc

from h5z.hdf5.filters import decode

from .cases import DATASET, Case

Block = npt.NDArray[np.float32]


class Stopwatch:
    """CPU seconds of this process inside its ``with`` blocks, summed."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.process_time()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.process_time() - self._start


def codec_seconds(case: Case, source: Path) -> float:
    """Seconds that decoding and encoding alone would take on all cores.

    The fastest libraries that are known decode, those that h5z has chosen; Blosc encodes in one thread; a contiguous source
    needs no decoding.

    Raises
    ------
    ValueError
        If a decoded chunk is not what h5py reads: the floor would be of something else.
    """
    blosc.use_threads = False
    codec, watch = Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE), Stopwatch()
    with h5py.File(source) as file:
        for values in _thick_slabs(file[DATASET], case.grid[0], watch):
            for chunk in _cut(values, case.grid):
                with watch:
                    codec.encode(chunk)
    return watch.seconds / (os.cpu_count() or 1)


def _thick_slabs(dataset: h5py.Dataset, thickness: int, watch: Stopwatch) -> Iterator[Block]:
    """The array by slabs that hold whole chunks of source and target."""
    source = dataset.chunks
    rows = math.lcm(thickness, source[0]) if source else thickness
    for start in range(0, dataset.shape[0], rows):
        shape = (min(rows, dataset.shape[0] - start), *dataset.shape[1:])
        if source is None:
            yield dataset[start : start + rows]
            continue
        values = np.empty(shape, dataset.dtype)
        for offset in np.ndindex(*(-(-n // c) for n, c in zip(shape, source, strict=True))):
            first = [i * c for i, c in zip(offset, source, strict=True)]
            decoded = _decode(dataset, (start + first[0], *first[1:]), watch)
            where = tuple(slice(f, f + c) for f, c in zip(first, source, strict=True))
            room = values[where]
            room[...] = decoded[tuple(map(slice, room.shape))]
        if start == 0 and not np.array_equal(values, dataset[: len(values)]):
            raise ValueError(f"the floor decodes {dataset.file.filename} {dataset.name} otherwise than h5py")
        yield values


def _decode(dataset: h5py.Dataset, offset: tuple[int, ...], watch: Stopwatch) -> Block:
    plist = dataset.id.get_create_plist()
    filters = [(number, "", 0, options) for number, _, options, _ in map(plist.get_filter, range(plist.get_nfilters()))]
    mask, encoded = dataset.id.read_direct_chunk(offset)
    nbytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    with watch:
        plain: Any = decode(encoded, filters, mask, nbytes)
    return np.frombuffer(plain, dataset.dtype).reshape(dataset.chunks)


def _cut(values: Block, grid: tuple[int, ...]) -> Iterator[Block]:
    """A slab's target chunks, each in one piece of memory; those at the far edge as they are."""
    for index in np.ndindex(*(-(-n // c) for n, c in zip(values.shape, grid, strict=True))):
        where = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, grid, strict=True))
        yield np.ascontiguousarray(values[where])
