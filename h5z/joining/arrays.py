"""One array of several files that follow each other along an axis: reads like the array of one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from h5z.grid import Region, intersect, region_shape, within
from h5z.joining.epochs import Shift, shifted
from h5z.source import SourceArray


class Readable(Protocol):
    """What a piece is read from: a dataset; or, of what a target has already, the target."""

    def read(self, region: Region) -> Any:
        """Read a region's values."""


@dataclass(frozen=True)
class Piece:
    """What one file holds of an array: from `start` on, up to `stop`, along the axis.

    Attributes
    ----------
    lacks_axis : bool
        Whether the file has all axes but that one, which is the first: it is one step along it.
    """

    start: int
    stop: int
    source: Readable
    shift: Shift | None = None
    lacks_axis: bool = False

    def read(self, region: Region) -> Any:
        """Read a region, in the piece's own coordinates."""
        values = self.source.read(region)
        if self.lacks_axis:
            values = np.asarray(values)[np.newaxis]
        if self.shift is None:
            return values
        name = self.source.dataset.file if isinstance(self.source, SourceArray) else ""
        return shifted(values, self.shift, name)


@dataclass(frozen=True)
class JoinedArray:
    """The pieces of an array, in order; a handle as picklable as theirs."""

    axis: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: tuple[Piece, ...]

    def read(self, region: Region) -> Any:
        """Read a region, of as many files as it takes."""
        found = self._found(region)
        if len(found) == 1:
            return found[0][0].read(self._own(*found[0]))
        out = np.empty(region_shape(region), self.dtype)
        for piece, part in found:
            out[within(part, region)] = piece.read(self._own(piece, part))
        return out

    def constant(self, region: Region) -> Any | None:
        """The value of every element of a region of which nothing is stored (`SourceArray.constant`), where one file holds it."""
        found = self._found(region)
        if len(found) != 1 or found[0][0].shift is not None or not isinstance(found[0][0].source, SourceArray):
            return None
        return found[0][0].source.constant(self._own(*found[0]))

    def stored(self, index: tuple[int, ...]) -> bytes | None:
        """A chunk's bytes as they lie in its file: every file begins where a chunk does."""
        for piece in self.pieces:
            if isinstance(piece.source, SourceArray):
                if piece.lacks_axis:
                    if piece.start == index[self.axis]:
                        return piece.source.stored(index[1:])
                    continue
                length = (piece.source.chunks or (1,) * len(index))[self.axis]
                number = index[self.axis] - piece.start // length
                if 0 <= number * length < piece.stop - piece.start:
                    return piece.source.stored((*index[: self.axis], number, *index[self.axis + 1 :]))
        return None

    def narrowed(self, region: Region) -> JoinedArray:
        """The same with those pieces alone that a region touches: what travels with a task."""
        span = region[self.axis]
        first = bisect_right(self.pieces, span.start, key=lambda piece: piece.stop)
        last = bisect_left(self.pieces, span.stop, key=lambda piece: piece.start)
        return replace(self, pieces=self.pieces[first:last])

    def _found(self, region: Region) -> list[tuple[Piece, Region]]:
        """The pieces that hold some of a region, and what each has of it."""
        parts = ((piece, self._part(piece, region)) for piece in self.narrowed(region).pieces)
        return [(piece, part) for piece, part in parts if all(s.start < s.stop for s in part)]

    def _part(self, piece: Piece, region: Region) -> Region:
        whole = tuple(slice(piece.start, piece.stop) if a == self.axis else slice(0, n) for a, n in enumerate(self.shape))
        return intersect(whole, region)

    def _own(self, piece: Piece, part: Region) -> Region:
        if not isinstance(piece.source, SourceArray):
            return part  # the target has it where it shall be
        if piece.lacks_axis:
            return part[1:]
        return tuple(
            slice(s.start - piece.start, s.stop - piece.start) if axis == self.axis else s for axis, s in enumerate(part)
        )


def narrowed(source: Any, region: Region) -> Any:
    """A source with what a region needs of it."""
    return source.narrowed(region) if isinstance(source, JoinedArray) else source


def places(lengths: Sequence[int], start: int = 0) -> list[tuple[int, int]]:
    """Where pieces of these lengths lie, one after the other.

    >>> places([3, 1], 10)
    [(10, 13), (13, 14)]
    """
    out = []
    for length in lengths:
        out.append((start, start + length))
        start += length
    return out
