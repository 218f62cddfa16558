"""Zarr's shards: inner chunks one after the other, and an index of where each lies.

Source: Zarr v3, sharding codec, section "Binary shard format"; the index is at the end, little endian, with a CRC-32C.
zarr-python's own pipeline would do it too, but encodes through codecs of its own, of which gzip stores the time of day.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import google_crc32c
import numpy as np

from h5z.grid import ChunkGrid

_MISSING = (1 << 64) - 1


def shard(
    values: Any,
    unit: tuple[int, ...],
    chunks: tuple[int, ...],
    encode: Callable[[Any], Any],
    skip: Callable[[Any], bool],
) -> bytes:
    """Encode a shard.

    Parameters
    ----------
    values : numpy.ndarray
        What the array holds of it; less than `unit` at the array's end.
    unit, chunks : tuple of int
        Shapes of the shard and of its chunks.
    encode : callable
        Encodes the values of a chunk, which may be fewer than a whole chunk's.
    skip : callable
        Whether a chunk of these values is left out.
    """
    counts = tuple(n // c for n, c in zip(unit, chunks, strict=True))
    index = np.full((*counts, 2), _MISSING, "<u8")
    parts: list[Any] = []
    end = 0
    grid = ChunkGrid(values.shape, chunks)
    for place in grid.indices():
        inner = values[(*grid.region(place), ...)]
        if not skip(inner):
            parts.append(memoryview(encode(inner)).cast("B"))
            index[place] = end, parts[-1].nbytes
            end += parts[-1].nbytes
    tail = index.tobytes()
    return b"".join([*parts, tail, google_crc32c.value(tail).to_bytes(4, "little")])
