"""What one array becomes, and what of it a task holds in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from h5z.attributes import decode
from h5z.columns import HEAP_NBYTES, MIB, SLAB_NBYTES, row_nbytes
from h5z.grid import ChunkGrid, Region, grow, intersect
from h5z.leaves import Leaf
from h5z.nodes import Datatype, Json, Record, Shape
from h5z.payload import block_nbytes, heaviest, mean_nbytes
from h5z.records import json_name

DEFAULT_MEMORY = 1 << 30
BLOCK_NBYTES = 32 * MIB  # what a task reads and writes, where memory allows


@dataclass(frozen=True)
class ArrayPlan(Record):
    """What becomes of one array: where it comes from, its Zarr metadata, and how its units are written.

    Attributes
    ----------
    path, source : str
        Its path in the target, and its dataset's in the source.
    steps, described, extra, ragged :
        The leaf of the dataset that it carries (`h5z.leaves.Leaf`); `whole` is the dataset's own datatype, where another.
    dtype : str or list
        numpy's type string, or field list; ``string`` or ``bytes`` for variable-length elements.
    source_shape : tuple of int
        The dataset's own shape.
    fill : JSON
        The fill value, encoded as `h5z.attributes` encodes it; None for the type's zero.
    dense : bool
        Whether chunks that hold only fill values are written too.
    block : tuple of int
        Shape of what one task writes: a multiple of the write unit.
    stage : tuple of int, optional
        On the staged route, the shape of what one task reads: a multiple of the source's chunks.
    reads : float
        How often the route decodes each of the source's chunks, on average.
    marks : tuple
        Of a ragged array: per write unit, the row that holds its first element and that row's first element.
    payload : tuple
        Of variable-length data, as `ArrayNode.payload`: how many elements of the dataset, their bytes, those of the largest.
    offset : int, optional
        Where the dataset's bytes lie together in its file, as they are in memory.
    axis : int, optional
        Of an array that is joined of several files: the axis along which they follow each other.
    kept : int
        How much of that axis the target has already.
    """

    path: str
    source: str
    described: Datatype
    dtype: Any
    shape: Shape
    source_shape: Shape
    chunks: Shape
    block: Shape
    route: str
    shards: Shape | None = None
    steps: tuple[str, ...] = ()
    extra: Shape = ()
    ragged: bool = False
    codecs: tuple[dict[str, Any], ...] = ()
    fill: Json = None
    dense: bool = False
    names: tuple[str, ...] = ()
    attributes: dict[str, Json] = field(default_factory=dict)
    marks: tuple[tuple[int, int], ...] = ()
    source_chunks: Shape | None = None
    source_nbytes: int = 0
    whole: Datatype | None = None
    stage: Shape | None = None
    reads: float = 1.0
    payload: tuple[tuple[int, int, int], ...] = ()
    offset: int | None = None
    axis: int | None = None
    kept: int = 0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ArrayPlan:
        """Build the array plan that `to_dict` described."""
        out = dict(data)
        for name in ("shape", "source_shape", "chunks", "block", "shards", "extra", "source_chunks", "stage"):
            if out.get(name) is not None:
                out[name] = tuple(out[name])
        for name in ("steps", "codecs", "names"):
            out[name] = tuple(out.get(name, ()))
        for name in ("marks", "payload"):
            out[name] = tuple(tuple(item) for item in out.get(name, ()))
        return cls(**out)

    @property
    def unit(self) -> Shape:
        """The write unit: the shard, or the chunk where there is none."""
        return self.shards or self.chunks

    @property
    def units(self) -> ChunkGrid:
        """The grid of write units."""
        return ChunkGrid(self.shape, self.unit)

    @property
    def separator(self) -> str:
        """What stands between the numbers of a unit's key in Zarr format 3: no folders for an array of one unit, for good."""
        return "/" if self.units.size > 1 or self.axis is not None else "."

    @property
    def blocks(self) -> ChunkGrid:
        """The grid of blocks, each the work of one task."""
        return ChunkGrid(self.shape, self.block)

    def cells(self, cell: Shape) -> Iterator[Region]:
        """The regions that a grid of cells cuts of what is to be written: of an array that grows, from its last whole unit on."""
        grid = ChunkGrid(self.shape, cell)
        if self.axis is None or not self.kept:
            return map(grid.region, grid.indices())
        first = self.kept // self.unit[self.axis] * self.unit[self.axis]
        new = tuple(slice(first if axis == self.axis else 0, n) for axis, n in enumerate(self.shape))
        return (intersect(grid.region(index), new) for index in grid.overlapping(new))

    @property
    def own(self) -> Shape | None:
        """The source's chunk as a cell of this array; None where it is not cut by those."""
        if not self.source_chunks or not self.source_shape or self.ragged:
            return None
        return self.source_chunks + self.extra

    @property
    def is_column(self) -> bool:
        """Whether it is one of several arrays of which each takes its part of a dataset's rows."""
        return bool(self.steps) and not self.ragged and self.axis is None

    @cached_property
    def row(self) -> int:
        """Bytes that are read for an element, but for what it points to."""
        if self.steps:
            return row_nbytes(self.whole or self.described)
        return (HEAP_NBYTES if self.payload else self.itemsize) * math.prod(self.extra)

    @cached_property
    def witness(self) -> Shape:
        """What verification reads of the source at once: whole chunks of it, about as much as a task writes at once."""
        at_once = self.unit if self.streamed else self.block
        return grow(self.own, self.shape, math.prod(at_once)) if self.own and not self.payload else at_once

    @property
    def streamed(self) -> bool:
        """Whether a task holds one write unit at a time, however large its block."""
        return self.route in ("copy", "recode") and not self.steps

    @property
    def itemsize(self) -> int:
        """Bytes of an element in memory; where they vary, their mean as it was measured, or what is assumed."""
        return mean_nbytes(self.payload) if self.is_text else numpy_dtype(self.dtype).itemsize

    @property
    def is_text(self) -> bool:
        """Whether elements are of variable length: text or bytes."""
        return self.dtype in ("string", "bytes")

    @property
    def kind(self) -> str:
        """The data type in a word."""
        return self.dtype if isinstance(self.dtype, str) else "struct"

    @property
    def codec_names(self) -> str:
        """The codecs in a word."""
        return "+".join(str(codec["name"]) for codec in self.codecs) or "none"

    @property
    def nbytes(self) -> int:
        """Decoded bytes of the array, but for what its target has already."""
        shape = (n - self.kept if axis == self.axis else n for axis, n in enumerate(self.shape))
        return math.prod(shape) * self.itemsize

    def leaf(self) -> Leaf:
        """The leaf of the dataset that this array carries."""
        dtype = self.dtype if self.is_text else numpy_dtype(self.dtype)
        return Leaf(self.steps, dtype, self.extra, self.ragged, self.described)

    def fill_scalar(self) -> Any:
        """The fill value as the dtype's scalar, or None for its zero."""
        if self.fill is None or self.is_text:
            return self.fill
        return decode(self.fill, self.described).astype(numpy_dtype(self.dtype))


def in_order(arrays: Sequence[ArrayPlan], cell: Callable[[ArrayPlan], Shape]) -> Iterator[tuple[int, Region, bool]]:
    """The regions that cells cut of arrays, array by array, but those of a table's columns rows by rows.

    Returns
    -------
    iterator of (int, Region, bool)
        The array's number, the region, and whether it is of the same rows as the one before.
    """
    for numbers in tables(arrays, cell):
        for regions in zip(*(arrays[i].cells(cell(arrays[i])) for i in numbers), strict=True):
            yield from ((i, region, i > numbers.start) for i, region in zip(numbers, regions, strict=True))


def tables(arrays: Sequence[ArrayPlan], cell: Callable[[ArrayPlan], Shape]) -> Iterator[range]:
    """The numbers of arrays that follow each other, together where they are columns of a table that cells cut alike."""
    start = 0
    for stop in range(1, len(arrays) + 1):
        if stop == len(arrays) or not _beside(arrays[start], arrays[stop], cell):
            yield range(start, stop)
            start = stop


def _beside(one: ArrayPlan, other: ArrayPlan, cell: Callable[[ArrayPlan], Shape]) -> bool:
    """Whether two arrays are columns of a table, with the same rows in their cells."""
    if not (one.is_column and other.is_column and one.source == other.source):
        return False
    rank = len(one.source_shape)
    grids = [ChunkGrid(array.shape, cell(array)) for array in (one, other)]
    return grids[0].chunks[:rank] == grids[1].chunks[:rank] and grids[0].size == grids[1].size


def numpy_dtype(description: Any) -> np.dtype[Any]:
    """Numpy's dtype of a plan's JSON.

    >>> numpy_dtype([["a", "<i4"], ["b", [["c", "<f8"]]]])
    dtype([('a', '<i4'), ('b', [('c', '<f8')])])
    """
    if isinstance(description, str):
        return np.dtype(description)
    return np.dtype([(name, numpy_dtype(inner)) for name, inner in description])


def describe_numpy(dtype: np.dtype[Any]) -> Any:
    """A numpy dtype as a plan's JSON."""
    if dtype.names:  # Zarr v3 says no byte order for members
        return [[json_name(name), describe_numpy(dtype[name].newbyteorder("<"))] for name in dtype.names]
    return dtype.str


def task_nbytes(array: ArrayPlan, block: Shape) -> int:
    """Bytes that a task holds for a block at most: what it reads, what it writes, and one unit encoded.

    HDF5 decodes whole source chunks, so that those at the block's edges count too.
    """
    unit = _held_nbytes(array, array.unit)
    inside = unit if array.streamed else _held_nbytes(array, block)
    rank = len(array.source_shape)
    held = 3  # of a source chunk at once while it is decoded: stored, inflated, unshuffled
    cell = math.prod(array.source_chunks) * array.row if array.source_chunks and rank else 0
    chunk = held * cell
    if array.steps:  # whole rows, and a part of them
        rows = math.prod(array.source_shape if array.ragged else block[:rank])
        chunk += 2 * min(max(SLAB_NBYTES, cell), rows * array.row)
    factor = 4 if array.is_text or array.steps else 2
    if array.is_text and array.payload:
        factor = 10  # as libhdf5 has it, as bytes, as text, encoded; and verified, as zarr has it
    return factor * inside + 2 * unit + chunk


def column_nbytes(array: ArrayPlan, block: Shape) -> int:
    """Bytes of a column's own part of a block of rows."""
    return _held_nbytes(array, block) if array.is_text else math.prod(block) * array.itemsize


def _held_nbytes(array: ArrayPlan, block: Shape) -> int:
    """Bytes of a block's values in memory at most, with what must be read to have them."""
    pointers = array.is_text and array.payload  # numpy's to objects, and zarr's to text
    return math.prod(block) * (HEAP_NBYTES if pointers else array.itemsize) + payload_nbytes(array, block)


def payload_nbytes(array: ArrayPlan, block: Shape) -> int:
    """Bytes of the variable-length data at most that are read for a block of an array, wherever it lies."""
    if not array.payload or not array.ragged or 0 in block:
        return block_nbytes(array.payload, array.source_shape, block)
    row = math.prod(array.source_shape[1:])
    step = block[0] // array.unit[0]
    rows = [mark[0] for mark in array.marks]
    starts = [first * row for first in rows[::step]]
    stops = [(first + 1) * row for first in rows[step::step]] + [math.prod(array.source_shape)]
    return heaviest(array.payload, starts, stops)
