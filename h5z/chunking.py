"""How arrays are cut: chunks and shards from source and policy, blocks from the memory given; arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, cast

import numpy as np

from h5z.arrayplan import BLOCK_NBYTES, DEFAULT_MEMORY, ArrayPlan, task_nbytes
from h5z.columns import MIB, row_nbytes, rows_of_chunks
from h5z.dtypes import variable
from h5z.errors import PlanError
from h5z.grid import ChunkGrid, grow
from h5z.isolation.machine import memory_nbytes
from h5z.nodes import ArrayNode, Json, Shape, Tree
from h5z.payload import block_nbytes
from h5z.policy import Policy

STORED_NBYTES = 4 * MIB  # what an automatic chunk aims at, encoded
LARGEST_CHUNK_NBYTES = 32 * MIB  # and its largest decoded size
SHARD_NBYTES = 64 * MIB
LEAST_COPIED_NBYTES = 1 << 18  # of an encoded chunk of the source that is worth keeping as it is
LEAST_KEPT_NBYTES = 1 << 12  # of a decoded chunk of the source that codec="keep" keeps, where there are more than a few
FEW_CHUNKS = 1000
MOST_TASKS = 50_000  # of a whole plan: larger ones get larger tasks
STAGED_READS = 3.0  # of each source chunk, beyond which a scratch is cheaper
LEAST_PIECE_NBYTES = 1 << 14  # of a piece in the scratch, on average
# Of headers in memory, with all that becomes of them until the commit, as measured: an array, a group, a number, a letter.
_ARRAY_NBYTES, _GROUP_NBYTES, _NUMBER_NBYTES, _LETTER_NBYTES, _FEW_NBYTES = 10 << 10, 3 << 9, 72, 6, MIB
LEAST_PROSPECT = 1024  # of an axis along which files will follow


def zip_own(chunks: Shape, shape: Shape, own: Shape | None) -> Iterator[tuple[int, int, int]]:
    """Per axis: chunk, length, and the source's own chunk."""
    return zip(chunks, shape, own + chunks[len(own) :] if own else chunks, strict=True)


def auto_chunks(node: ArrayNode, own: Shape | None, shape: Shape, itemsize: int) -> Shape:
    """Near the source's chunks, of a few MiB encoded: joined where they are small, cut only where they are huge."""
    size = math.prod(shape) * itemsize
    if not shape or size == 0:
        return tuple(1 for _ in shape)
    ratio = min(1.0, max(0.05, node.storage_nbytes / size)) if node.storage_nbytes and node.filters else 1.0
    if variable(node.dtype):
        ratio = 1.0  # what is stored of it are places in the heap
    limit = max(1, int(min(STORED_NBYTES / ratio, LARGEST_CHUNK_NBYTES)) // itemsize)
    if own is None:
        return grow((1,) * len(shape), shape, limit)
    if math.prod(own) * itemsize > 2 * LARGEST_CHUNK_NBYTES:
        return grow((1,) * len(shape), tuple(map(min, own, shape)), limit)
    return widen(own, shape, limit)


def column_chunks(node: ArrayNode, columns: Sequence[int]) -> Shape:
    """The rows that the chunks of a table's columns hold, the same for all columns, which have elements of so many bytes."""
    shape, size = node.shape or (), max(columns)
    chunks, own = auto_chunks(node, node.chunks, shape, size), node.chunks or tuple(1 for _ in shape)
    most = rows_of_chunks(row_nbytes(node.dtype), size)
    while math.prod(chunks) > most and any(c > o for c, o in zip(chunks, own, strict=True)):
        axis = next(i for i, (c, o) in enumerate(zip(chunks, own, strict=True)) if c > o)
        half = -(-chunks[axis] // (2 * own[axis])) * own[axis]  # of whole chunks of the source
        chunks = (*chunks[:axis], half, *chunks[axis + 1 :])
    return chunks


def widen(cell: Shape, shape: Shape, limit: int) -> Shape:
    """Double a cell along the axis that is cut most often, as long as it holds no more than `limit` elements.

    >>> widen((16, 128, 128), (512, 512, 512), 1 << 20)
    (64, 128, 128)
    """
    out = list(cell)
    while True:
        counts = [-(-n // c) for n, c in zip(shape, out, strict=True)]
        axis = max(range(len(out)), key=lambda i: (counts[i], -i)) if out else 0
        if not out or counts[axis] < 2 or 2 * math.prod(out) > limit:
            return tuple(out)
        out[axis] *= 2


@dataclass(frozen=True)
class Join:
    """How an array is joined of several files' (`h5z.joining.trees`).

    Attributes
    ----------
    axis, lengths, start :
        Along which axis, how much of it each file has, and where the first of them begins.
    alike : bool
        Whether all files have cut and encoded it alike.
    cut : mapping, optional
        ``chunks``, ``shards`` and ``codecs`` that the target has already, by the steps of each leaf.
    """

    axis: int
    lengths: tuple[int, ...]
    start: int = 0
    alike: bool = True
    cut: Mapping[str, Any] | None = None

    def aligned(self, chunks: Shape | None) -> bool:
        """Whether every file begins where a chunk does, and all have the same chunks."""
        starts = accumulate(self.lengths[:-1], initial=self.start)
        return chunks is not None and self.alike and all(start % chunks[self.axis] == 0 for start in starts)

    def prospect(self, node: ArrayNode) -> ArrayNode:
        """The array as it may become: chunks are chosen for that, since files that are added later must do with them."""
        length = (node.shape or ())[self.axis]
        longer = max(length, LEAST_PROSPECT, 8 * max(self.lengths))
        shape = tuple(longer if axis == self.axis else n for axis, n in enumerate(node.shape or ()))
        return replace(node, shape=shape, storage_nbytes=node.storage_nbytes * longer // max(1, length))

    def fit(self, chunks: Shape, own: Shape | None) -> Shape:
        """Automatic chunks made such that files begin where one does, where that leaves them a fair size.

        >>> [Join(0, lengths).fit((100, 8), None) for lengths in ((365, 365, 31), (24, 24), (31, 28, 31))]
        [(73, 8), (96, 8), (100, 8)]
        """
        whole, wanted = math.gcd(*(self.lengths[:-1] or self.lengths)), chunks[self.axis]
        step = own[self.axis] if own and whole and whole % own[self.axis] == 0 else 1
        if whole and wanted >= whole:
            found = wanted // whole * whole
        else:
            fair = range(step, min(whole, 3 * wanted // 2) + 1, step)
            found = min((n for n in fair if whole and whole % n == 0), key=lambda n: abs(n - wanted), default=0)
        return tuple(found if axis == self.axis and 2 * found >= wanted else n for axis, n in enumerate(chunks))


def lighter(chunks: Shape, node: ArrayNode) -> Shape:
    """Chunks cut until the variable-length data that are read for one are no larger than the largest automatic chunk."""
    out, own = chunks, node.shape or ()
    while block_nbytes(node.payload, own, out) > LARGEST_CHUNK_NBYTES and math.prod(out[: len(own)]) > 1:
        axis = next(i for i, n in enumerate(out) if n > 1)
        out = (*out[:axis], -(-out[axis] // 2), *out[axis + 1 :])
    return out


def marks(counts: list[int], step: int) -> tuple[tuple[int, int], ...]:
    """Row, and first element of that row, that hold each multiple of `step` elements.

    >>> marks([3, 0, 4], 2)
    ((0, 0), (0, 0), (2, 3), (2, 3))
    """
    ends = np.cumsum(np.asarray(counts, dtype=np.int64))
    total = int(ends[-1]) if len(ends) else 0
    starts = np.arange(0, max(total, 1), step)
    rows = np.minimum(np.searchsorted(ends, starts, side="right"), max(len(ends) - 1, 0))
    firsts = [int(ends[row - 1]) if row else 0 for row in rows]
    return tuple((int(row), first) for row, first in zip(rows, firsts, strict=True))


def headers_nbytes(tree: Tree) -> int:
    """Bytes of memory that a file's headers take at most, from the scan to the commit: as nodes, as a plan, as documents.

    Those of a hundred arrays have room in what the interpreter holds free.
    """
    arrays = sum(1 for _ in tree.arrays)
    attributes = sum(_value_nbytes(item.value) for node in tree.nodes.values() for item in node.attributes)
    return max(0, arrays * _ARRAY_NBYTES + (len(tree.nodes) - arrays) * _GROUP_NBYTES + attributes - _FEW_NBYTES)


def _value_nbytes(value: Json) -> int:
    if isinstance(value, str):
        return _LETTER_NBYTES * len(value)
    if isinstance(value, list | dict):
        return sum(map(_value_nbytes, value.values() if isinstance(value, dict) else value))
    return _NUMBER_NBYTES


def fit_memory(arrays: list[ArrayPlan], policy: Policy, workers: int, headers: int = 0) -> tuple[list[ArrayPlan], int]:
    """Blocks as large as serves and memory allows; fewer workers where a single write unit is large.

    Parameters
    ----------
    headers : int
        Bytes of memory that are taken already (`headers_nbytes`).

    Raises
    ------
    PlanError
        If even one worker with the smallest blocks needs more, with the least that would do.
    """
    memory = cast(int, policy.memory or DEFAULT_MEMORY)
    least = max(map(_least, arrays), default=0)
    given = memory if policy.memory is not None else memory_nbytes()
    if arrays and least + headers > given:
        worst = max(arrays, key=_least)
        what = "one of its write units and the headers of all objects"
        raise PlanError(f"memory: {worst.path} needs at least {least + headers} bytes for {what}, found {given}")
    room = max(0, memory - headers)
    count = max(1, min(workers, room // max(least, 1)))
    goal = max(BLOCK_NBYTES, sum(array.nbytes for array in arrays) // MOST_TASKS)
    return [_blocked(array, room // count, goal, policy.pick("route", array.source)) for array in arrays], count


def _least(array: ArrayPlan) -> int:
    """Bytes that an array's smallest tasks take: writing one unit, or reading one of the source's chunks to verify."""
    return max(task_nbytes(array, array.unit), task_nbytes(array, array.witness))


def _blocked(array: ArrayPlan, memory: int, goal: int, wanted: str) -> ArrayPlan:
    """An array with blocks that fit in a worker's memory; staged where they would decode the source's chunks too often."""
    room = goal if array.streamed else min(goal, max(0, memory - task_nbytes(array, (0,))) // 4)
    limit = max(1, room // array.itemsize)
    own = array.own
    if array.is_column and goal == BLOCK_NBYTES:
        limit = 1  # so that a task has many columns of few rows
    block = grow(array.unit, array.shape, limit, own)
    while array.payload and block != array.unit and task_nbytes(array, block) > memory:
        limit //= 2  # elements are larger here than they are on average
        block = grow(array.unit, array.shape, limit, own)
    reads = amplification(array.shape, own, block) if own else 1.0
    needless = reads <= STAGED_READS if wanted == "auto" else wanted != "staged"
    if own is None or array.route != "regrid" or array.is_text or array.steps or needless or not array.nbytes:
        return replace(array, block=block, reads=reads)
    stage = grow(own, array.shape, limit)
    if task_nbytes(array, stage) > max(memory, task_nbytes(array, block)):
        return replace(array, block=block, reads=reads)
    pieces = ChunkGrid(array.shape, stage).size * amplification(array.shape, stage, block)
    if array.nbytes / pieces < LEAST_PIECE_NBYTES and wanted == "auto":
        return replace(array, block=block, reads=reads)
    return replace(array, block=block, stage=stage, route="staged", reads=1.0)


def amplification(shape: Shape, cells: Shape, blocks: Shape) -> float:
    """How many blocks touch each cell of another grid, on average.

    >>> amplification((512, 512, 512), (1, 512, 512), (512, 32, 64))
    128.0
    """
    out = 1.0
    for length, cell, block in zip(shape, cells, blocks, strict=True):
        touched = sum(-(-min(start + block, length) // cell) - start // cell for start in range(0, length, block))
        out *= touched / max(1, -(-length // cell))
    return out
