"""Index arithmetic of chunks, shards, blocks and regions; no I/O, no data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

Region = tuple[slice, ...]


@dataclass(frozen=True)
class ChunkGrid:
    """A regular grid of cells over an array; the last cell of an axis may reach past the array's end.

    Parameters
    ----------
    shape : tuple of int
        The array's shape; may hold zeros, and is ``()`` for a scalar.
    chunks : tuple of int
        The cell's shape, of the same rank, each ≥ 1.

    Examples
    --------
    >>> grid = ChunkGrid((5, 4), (2, 4))
    >>> grid.counts, grid.size
    ((3, 1), 3)
    >>> grid.region((2, 0))
    (slice(4, 5, None), slice(0, 4, None))
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.chunks) or any(c < 1 for c in self.chunks):
            raise ValueError(f"chunks {self.chunks} do not divide an array of shape {self.shape}")

    @property
    def counts(self) -> tuple[int, ...]:
        """Cells along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    @property
    def size(self) -> int:
        """Cells in all: 1 for a scalar, 0 for an array without elements."""
        return math.prod(self.counts)

    def indices(self) -> Iterator[tuple[int, ...]]:
        """Index of each cell, in C order."""
        return product(*map(range, self.counts))

    def index(self, number: int) -> tuple[int, ...]:
        """Index of the cell of that number in C order.

        >>> ChunkGrid((5, 4), (2, 2)).index(3)
        (1, 1)
        """
        out = []
        for count in reversed(self.counts):
            number, remainder = divmod(number, count)
            out.append(remainder)
        return tuple(reversed(out))

    def region(self, index: tuple[int, ...]) -> Region:
        """The part of the array that a cell covers, cut at the array's end."""
        return tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(index, self.chunks, self.shape, strict=True))

    def overlapping(self, region: Region) -> Iterator[tuple[int, ...]]:
        """Index of each cell that a region touches, in C order.

        >>> list(ChunkGrid((10,), (4,)).overlapping((slice(3, 5),)))
        [(0,), (1,)]
        """
        spans = [range(s.start // c, -(-s.stop // c)) for s, c in zip(region, self.chunks, strict=True)]
        if any(s.start >= s.stop for s in region):
            return iter(())
        return product(*spans)


def region_shape(region: Region) -> tuple[int, ...]:
    """Shape of a region.

    >>> region_shape((slice(2, 5), slice(0, 1)))
    (3, 1)
    """
    return tuple(s.stop - s.start for s in region)


def within(region: Region, outer: Region) -> Region:
    """A region in the coordinates of another that contains it.

    >>> within((slice(4, 6),), (slice(3, 9),))
    (slice(1, 3, None),)
    """
    return tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(region, outer, strict=True))


def intersect(a: Region, b: Region) -> Region:
    """The part that two regions share; empty axes have stop ≤ start.

    >>> intersect((slice(0, 4),), (slice(2, 9),))
    (slice(2, 4, None),)
    """
    return tuple(slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


def grow(unit: tuple[int, ...], shape: tuple[int, ...], limit: int, align: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Grow a cell to whole multiples of itself, up to a number of elements, so that few source cells are cut.

    First each axis, last to first, takes the least common multiple with `align`; then the axes are extended, last to first,
    so that the cell stays a run of the array's own order. A cell never shrinks below `unit`.

    Examples
    --------
    >>> grow((4, 4), (100, 100), limit=400)
    (4, 100)
    >>> grow((4, 4), (100, 100), limit=800)
    (8, 100)
    >>> grow((4, 4), (100, 100), limit=200, align=(6, 4))
    (12, 16)
    """
    cell = list(unit)
    for axis in reversed(range(len(cell))) if align else ():
        multiple = math.lcm(unit[axis], align[axis])  # type: ignore[index]
        whole = -(-shape[axis] // unit[axis]) * unit[axis]
        wanted = min(multiple, max(whole, unit[axis]))
        if math.prod(cell) // cell[axis] * wanted <= limit:
            cell[axis] = wanted
    for axis in reversed(range(len(cell))):
        room = limit // max(1, math.prod(cell))
        whole = max(1, -(-shape[axis] // cell[axis]))
        cell[axis] *= max(1, min(room, whole))
        if room < whole:
            break
    return tuple(cell)
