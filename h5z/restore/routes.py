"""How a dataset's data get back, and in which pieces: arithmetic on headers, fixed before the first byte is read.

``copy``: stored objects are the file's chunks. ``encode``: chunks are encoded here, off libhdf5's lock, and written as they
are. ``library``: through libhdf5: data in one piece, of variable length, and filters that only it or a plugin has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from h5z.codecs import Chain, from_filters
from h5z.dtypes import access, class_of, raw_layout, variable
from h5z.errors import PlanError
from h5z.grid import ChunkGrid, grow
from h5z.hdf5.filters import filter_available
from h5z.hdf5.typeids import layout
from h5z.leaves import leaves
from h5z.nodes import ArrayNode, Shape
from h5z.restore.encoding import LOSSLESS, encodable
from h5z.restore.headers import Parts
from h5z.restore.stored import StoredArray
from h5z.runs import decode_runs

BLOCK_NBYTES = 16 << 20
_TEXT_NBYTES = 64
_HELD = 4  # of a block at once: stored, decoded, encoded, waiting to be written


@dataclass(frozen=True)
class Move:
    """What becomes of one dataset's data.

    Attributes
    ----------
    block : tuple of int
        Shape of what one job reads: whole chunks.
    skipped : int
        Filters that no chunk goes through, a bit each: they cannot be applied here.
    checked : bool
        Whether each chunk is read again after it was encoded, since its filters may change values.
    """

    node: ArrayNode
    parts: Parts
    route: str
    block: Shape = ()
    itemsize: int = 1
    skipped: int = 0
    checked: bool = False

    @property
    def nbytes(self) -> int:
        """Decoded bytes of all elements."""
        return math.prod(self.node.shape or ()) * self.itemsize if self.route != "none" else 0

    @property
    def peak_nbytes(self) -> int:
        """Bytes that a job holds at most: its block, and what is decoded for a part of it, as it is stored too."""
        return _HELD * math.prod(self.block) * self.itemsize + self._decoded_nbytes

    @cached_property
    def _decoded_nbytes(self) -> int:
        if self.route not in ("encode", "library") or all(part.chunks == self.block for part in self.parts.values()):
            return 0
        return _decoded_nbytes(self.parts)

    @cached_property
    def grid(self) -> ChunkGrid:
        """The grid of the file's chunks; of one cell where it has none."""
        shape = self.node.shape or ()
        return ChunkGrid(shape, self.node.chunks or tuple(max(1, n) for n in shape))

    @cached_property
    def states(self) -> Any:
        """Per chunk in C order, -1 where it stays unallocated, else the filters that it skips, a bit each."""
        found = decode_runs(self.node.allocated, self.grid.size) if self.node.layout == "chunked" else np.zeros(1, int)
        return np.where(found < 0, found, found | self.skipped)

    @property
    def whole(self) -> bool:
        """Whether every chunk is allocated."""
        return bool((self.states >= 0).all())


def plan_move(node: ArrayNode, parts: Parts, limit: int, memory: int) -> Move:
    """Choose the route of one dataset, with blocks of up to `limit` bytes where its chunks allow, which `memory` has room for.

    Parameters
    ----------
    parts : mapping
        The arrays that carry it; none for a dimension without variable.
    """
    if node.shape is None or 0 in node.shape or _unallocated(node) or node.layout == "virtual":
        return Move(node, parts, "none")
    direct = set(parts) == {()} and not variable(node.dtype) and access(node.dtype) != "convert"
    itemsize = layout(node.dtype, True)[0].itemsize if direct else _itemsize(node)
    if not parts:
        return Move(node, parts, "content", node.shape, itemsize)
    skipped = sum(1 << i for i, item in enumerate(node.filters) if not encodable([item]) and not filter_available(item[0]))
    applied = [item for i, item in enumerate(node.filters) if not skipped >> i & 1]
    route = "library"
    if direct and node.layout == "chunked" and (skipped or encodable(applied)):
        skipped |= sum(1 << i for i, item in enumerate(node.filters) if not encodable([item]))
        route = "copy" if not skipped and _is_copy(node, parts[()]) else "encode"
    block = _block(node, parts, itemsize, limit if route == "copy" else min(limit, memory - _decoded_nbytes(parts)), route)
    checked = route == "library" and direct and any(item[0] not in LOSSLESS for item in applied)
    return Move(node, parts, route, block, itemsize, skipped, checked)


def _decoded_nbytes(parts: Parts) -> int:
    """Bytes of the largest chunk that is decoded to read a part of it: as it is stored, at most, and decoded."""
    sizes = (math.prod(part.chunks) * (_TEXT_NBYTES if part.text else part.dtype.itemsize) for part in parts.values())
    return 2 * max(sizes, default=0)


def _unallocated(node: ArrayNode) -> bool:
    runs = node.allocated
    return isinstance(runs, list) and all(state < 0 for _, state in runs)


def _itemsize(node: ArrayNode) -> int:
    return sum(
        (_TEXT_NBYTES if isinstance(leaf.dtype, str) else leaf.dtype.itemsize) * math.prod(leaf.extra)
        for leaf in leaves(node.dtype)
    )


def _block(node: ArrayNode, parts: Parts, itemsize: int, limit: int, route: str) -> Shape:
    shape = node.shape or ()
    elements = max(1, limit // _HELD // itemsize)
    cell = node.chunks or tuple(1 for _ in shape)
    if route == "copy":
        return cell
    stored = parts[()].unit[: len(shape)] if set(parts) == {()} else None
    return tuple(min(n, -(-s // c) * c) for n, s, c in zip(grow(cell, shape, elements, stored), shape, cell, strict=True))


def _is_copy(node: ArrayNode, array: StoredArray) -> bool:
    """Whether a stored object is a chunk's bytes as the file's own pipeline writes them, but for a checksum at the end."""
    extra = leaves(node.dtype)[0].extra
    if node.chunks is None or array.unit != node.chunks + extra or array.chunks != array.unit or array.text:
        return False
    described = leaves(node.dtype)[0].described
    same = array.dtype == raw_layout(described) or (array.dtype == bool and class_of(described) == "bool")
    wanted = from_filters(node.filters, array.dtype.itemsize)
    return same and array.chain is not None and wanted is not None and _bare(array.chain) == _bare(wanted)


def _bare(chain: Chain) -> Chain:
    """A codec chain without what Zarr format 2 does not say."""
    return [{**item, "configuration": {k: v for k, v in item["configuration"].items() if k != "typesize"}} for item in chain]


def check_memory(moves: list[Move], memory: int | None) -> None:
    """Refuse a budget that the largest block does not fit in.

    Raises
    ------
    PlanError
        With the least that would do.
    """
    worst = max(moves, key=lambda move: move.peak_nbytes, default=None)
    if memory is not None and worst is not None and worst.peak_nbytes > memory:
        raise PlanError(
            f"memory: {worst.node.path} needs at least {worst.peak_nbytes} bytes for one of its chunks, found {memory}"
        )
