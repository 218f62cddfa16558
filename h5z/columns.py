"""Tables: datasets that several arrays carry, one a column. Their rows are read whole, in slabs; arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import numpy as np

from h5z.grid import ChunkGrid, Region, grow, intersect
from h5z.nodes import Datatype, Shape

MIB = 1 << 20
HEAP_NBYTES = 16  # of a variable-length element where the dataset itself lies, and of what points to it in memory
SLAB_NBYTES = 4 * MIB  # of whole rows that are read at once, where the source's chunks are no larger
ROWS_NBYTES = 32 * MIB  # of the whole rows that a column's chunk is taken from: few more are read again for the next column
FEWEST_ROWS = 1 << 15  # of a column's chunk all the same


def row_nbytes(dtype: Datatype) -> int:
    """Bytes of an element in memory, about, without what it points to.

    >>> row_nbytes({"class": "array", "shape": [3], "base": {"class": "compound", "size": 12, "members": []}})
    36
    """
    if isinstance(dtype, str):
        return np.dtype(dtype).itemsize
    size, kind = cast("int | None", dtype.get("size")), dtype["class"]
    if kind == "array":
        return math.prod(dtype["shape"]) * row_nbytes(dtype["base"])
    if kind in ("vlen", "reference") or (kind == "string" and size is None):
        return HEAP_NBYTES
    return size if size is not None else (2 if kind == "complex" else 1) * row_nbytes(dtype["base"])


def rows_of_chunks(row: int, column: int) -> int:
    """How many rows the chunks of a table's columns hold at most, of rows and widest columns of so many bytes.

    >>> rows_of_chunks(16, 8), rows_of_chunks(500, 8), rows_of_chunks(100_000, 8), rows_of_chunks(1 << 20, 1 << 19)
    (2097152, 67108, 32768, 64)
    """
    return max(1, ROWS_NBYTES // max(1, row), min(FEWEST_ROWS, ROWS_NBYTES // max(1, column)))


def slabs(region: Region, shape: Shape, chunks: Shape | None, row: int) -> Iterator[Region]:
    """The parts of a region of a table that are read at once: whole chunks of the source, of some MiB; in C order of a grid.

    >>> list(slabs((slice(1, 9),), (10,), (2,), SLAB_NBYTES // 4))
    [(slice(1, 4, None),), (slice(4, 8, None),), (slice(8, 9, None),)]
    """
    grid = ChunkGrid(shape, grow(chunks or tuple(1 for _ in shape), shape, SLAB_NBYTES // max(1, row)))
    return (intersect(grid.region(index), region) for index in grid.overlapping(region))
