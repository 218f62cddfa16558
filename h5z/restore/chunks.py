"""Chunks as an HDF5 file stores them, out of a store's arrays; no lock of libhdf5's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from h5z.grid import Region, region_shape, within
from h5z.hdf5.filters import FLETCHER32
from h5z.hdf5.typeids import InMemory
from h5z.restore.encoding import encode
from h5z.restore.image import Refer, image_of_arrays, image_of_json
from h5z.restore.routes import Move

Chunk = tuple[tuple[int, ...], int, Any]  # offset, filter mask, bytes
Chosen = tuple[tuple[int, ...], int]  # index in the grid, filter mask


@dataclass(frozen=True)
class ChunkMaker:
    """Makes the chunks of one dataset of a fixed-size datatype."""

    move: Move
    refer: Refer

    def allocated(self, region: Region) -> Iterator[Chosen]:
        """The chunks in a region that are allocated."""
        grid, states = self.move.grid, self.move.states
        for index in grid.overlapping(region):
            state = int(states[np.ravel_multi_index(index, grid.counts)])
            if state >= 0:
                yield index, state

    def copied(self, chosen: Sequence[Chosen]) -> list[Chunk]:
        """Chunks that are stored as the file's pipeline writes them; those that skipped a filter are encoded anew."""
        return [self._copied(index, mask) for index, mask in chosen]

    def _copied(self, index: tuple[int, ...], mask: int) -> Chunk:
        array, filters = self.move.parts[()], self.move.node.filters
        data = array.stored((*index, *self._inner(0))) if mask == 0 and not self._is_unfiltered(index) else None
        if data is None:
            return self._encoded(index, mask, self._read(self.move.grid.region(index)))
        if filters and filters[-1][0] == FLETCHER32:
            data = encode(data, filters[-1:])
        return self._offset(index), 0, data

    def encoded(self, region: Region, chosen: Sequence[Chosen]) -> list[Chunk]:
        """Chunks of a region, which is read at once."""
        grid = self.move.grid
        if len(chosen) == 1:
            return [self._encoded(*chosen[0], self._read(grid.region(chosen[0][0])))]
        values = self._read(region)
        return [self._encoded(index, mask, values[within(grid.region(index), region)]) for index, mask in chosen]

    def plain(self, index: tuple[int, ...]) -> Any:
        """A chunk's values as they lie in the file before any filter, in the shape of what it has of the array."""
        return self._values(index, self._read(self.move.grid.region(index)))

    def unencoded(self, index: tuple[int, ...]) -> Chunk:
        """A chunk that skips every filter."""
        every = (1 << len(self.move.node.filters)) - 1
        return self._encoded(index, every, self._read(self.move.grid.region(index)))

    def _encoded(self, index: tuple[int, ...], mask: int, values: Any) -> Chunk:
        grid, filters = self.move.grid, self.move.node.filters
        plain = self._values(index, values)
        shape = region_shape(grid.region(index))
        if shape != grid.chunks:  # past the array's end a chunk holds fill values
            whole = np.empty(grid.chunks + plain.shape[len(shape) :], plain.dtype)
            whole[...] = self._fill
            whole[tuple(slice(0, n) for n in shape)] = plain
            plain = whole
        data = np.ascontiguousarray(plain).reshape(-1).view(np.uint8).data
        return (
            (self._offset(index), 0, data)
            if self._is_unfiltered(index)
            else (self._offset(index), mask, encode(data, filters, mask))
        )

    def _values(self, index: tuple[int, ...], values: Any) -> Any:
        shape = region_shape(self.move.grid.region(index))
        count = int(np.prod(shape, dtype=np.int64))
        found = image_of_arrays(self.move.node.dtype, {(): values}, count, self.refer).values
        return found.reshape(shape + found.shape[1:])

    @cached_property
    def _fill(self) -> Any:
        node = self.move.node
        if node.fill and "value" in node.fill:
            return image_of_json(node.dtype, [node.fill["value"]], self.refer).values[0]
        return np.zeros(1, InMemory.of(node.dtype).dtype)[0]

    def _read(self, region: Region) -> Any:
        array = self.move.parts[()]
        return array.read((*region, *(slice(0, n) for n in array.shape[len(region) :])))

    def _inner(self, index: int) -> tuple[int, ...]:
        rank = len(self.move.grid.chunks)
        return (index,) * (len(self.move.parts[()].shape) - rank)

    def _is_unfiltered(self, index: tuple[int, ...]) -> bool:
        """Whether a chunk reaches past the array's end, and such chunks skip the filters without saying so."""
        return bool(self.move.node.edges) and region_shape(self.move.grid.region(index)) != self.move.grid.chunks

    def _offset(self, index: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(i * c for i, c in zip(index, self.move.grid.chunks, strict=True))
