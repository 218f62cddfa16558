"""Reading a dataset's bytes straight from its file: the chunk index once, then pread or ranged requests, off HDF5's lock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from h5py import h5d, h5s

from h5z.dtypes import class_of, parts, raw_layout
from h5z.grid import ChunkGrid, Region, intersect, region_shape, within
from h5z.hdf5.blosc2frames import UnusualError
from h5z.hdf5.fetch import Contiguous, Fetch, external_fetch
from h5z.hdf5.filters import Filter, decodable, decode, filter_available, without_checksum
from h5z.hdf5.terminated import as_padded
from h5z.nodes import Datatype

Through = Callable[[Any, Region, "np.dtype[Any]"], Any]
_LARGEST_INDEX = 50_000_000
_LOOKED_UP = 20_000  # of the chunks in an index at most, at some microseconds each
_ASKED = 64  # of the chunks of a region that the index does not tell of
_SUPERBLOCK_NBYTES = 48  # at least, at the beginning of a file
_SLACK = 1 << 20  # by which filters may enlarge a chunk, beyond doubling it
_PLAIN = frozenset({"number", "bool", "enum", "complex", "opaque", "bitfield", "time", "compound", "array", "string"})


class DamagedIndexError(Exception):
    """An index of chunks that does not agree with itself: what is stored, libhdf5 alone can say."""


def is_plain(dtype: Datatype) -> bool:
    """Whether a datatype's bytes in the file are its values, so that no conversion of libhdf5's is needed.

    >>> is_plain("<f4"), is_plain({"class": "vlen", "base": "<i4"})
    (True, False)
    """
    for part in parts(dtype):
        kind = class_of(part)
        if kind not in _PLAIN or (
            kind == "string" and isinstance(part, dict) and (not part["size"] or part["padding"] != "nullpad")
        ):
            return False
        if kind == "complex" and isinstance(part, dict) and part["class"] == "complex" and not isinstance(part["base"], str):
            return False
    return True


class DirectReader:
    """Reads regions of one dataset from its file's bytes; values as `raw_layout` has them.

    Attributes
    ----------
    offsets, sizes, masks : numpy.ndarray
        Of each chunk, in C order of the grid: where it lies in the file (-1: not allocated), its bytes there, and which
        filters it skipped (a bit each).
    only : bool
        Whether nothing else can read it: libhdf5 lacks one of its filters here.
    """

    def __init__(
        self, did: Any, dtype: Datatype, fetch: Fetch, *, external: bool = False, through: Through | None = None
    ) -> None:
        self.fetch, self.dtype, self.external = fetch, raw_layout(dtype), external
        self.through = through or _through_hdf5
        plist = did.get_create_plist()
        self.shape = tuple(map(int, did.shape))
        self.filters = tuple(_pipeline(plist))
        self.only = not all(filter_available(item[0]) for item in self.filters)
        self.together: Contiguous | None = None
        self.grid: ChunkGrid | None = None
        self.did = did
        if plist.get_layout() == h5d.CHUNKED:
            self.grid = ChunkGrid(self.shape, tuple(map(int, plist.get_chunk())))
            self.nbytes = math.prod(self.grid.chunks) * self.dtype.itemsize
            self._index(did, self.grid)
        else:
            offset = 0 if external else Contiguous.offset_of(did)
            self.together = None if offset is None else Contiguous(offset, self.shape)

    def _index(self, did: Any, grid: ChunkGrid) -> None:
        found: list[tuple[tuple[int, ...], int, int, int]] = []
        did.chunk_iter(lambda c: found.append((c.chunk_offset, c.byte_offset, c.size, c.filter_mask)))
        self.offsets = np.full(grid.size, -1, np.int64)
        self.sizes = np.zeros(grid.size, np.int64)
        self.masks = np.zeros(grid.size, np.uint32)
        if found:
            places, offsets, sizes, masks = zip(*found, strict=True)
            if max(offsets) + max(sizes) >= 1 << 63 or min(offsets) < _SUPERBLOCK_NBYTES:
                raise DamagedIndexError
            index, past = np.divmod(np.asarray(places, np.int64), np.asarray(grid.chunks))
            if past.any() or not _in_order(index) or not _all_found(did, places):
                raise DamagedIndexError
            inside = (index < np.asarray(grid.counts)).all(axis=1)  # chunks past a shrunk array's end may linger
            numbers = np.ravel_multi_index(tuple(index[inside].T), grid.counts)
            self.offsets[numbers] = np.asarray(offsets)[inside]
            self.sizes[numbers] = np.asarray(sizes)[inside]
            self.masks[numbers] = np.asarray(masks)[inside]

    def read(self, region: Region) -> Any:
        """Read a region.

        Raises
        ------
        OSError, ValueError
            If the file ends too early, or a chunk cannot be decoded.
        """
        if self.grid is None:
            found = self.together and self.together.read(self.fetch, region, self.dtype)
            return self.through(self.did, region, self.dtype) if found is None else found
        base, extra = (self.dtype.base, self.dtype.shape)
        alone = self._alone(region)
        if alone is not None:
            return self.decoded(alone)
        out = np.empty(region_shape(region) + extra, base)
        for index in self.grid.overlapping(region):
            cell = self.grid.region(index)
            shared = intersect(cell, region)
            number = self._number(index)
            if self.offsets[number] < 0 or self._doubtful(number, cell):
                out[within(shared, region)] = self.through(self.did, shared, self.dtype)
            else:
                out[within(shared, region)] = self.decoded(number)[within(shared, cell)]
        return out

    def untouched(self, region: Region) -> bool:
        """Whether nothing is stored of a region: no chunk of the index touches it, nor does libhdf5 find one if it is asked."""
        if self.grid is None:
            return self.together is None
        box = [slice(s.start // c, -(-s.stop // c)) for s, c in zip(region, self.grid.chunks, strict=True)]
        inside = self.offsets.reshape(self.grid.counts)[tuple(box)]
        if (inside >= 0).any():
            return False
        cells = ChunkGrid(inside.shape, (1,) * inside.ndim)
        for number in range(0, cells.size, 1 + cells.size // _ASKED):
            index = zip(cells.index(number), box, self.grid.chunks, strict=True)
            if _is_found(self.did, tuple((i + s.start) * c for i, s, c in index)):
                return False
        return True

    def _alone(self, region: Region) -> int | None:
        """The number of the chunk that a region is, where it is exactly one whole chunk that can be decoded here."""
        grid = self.grid
        if (
            grid is None
            or not region
            or region_shape(region) != grid.chunks
            or any(s.start % c for s, c in zip(region, grid.chunks, strict=True))
        ):
            return None
        number = self._number(tuple(s.start // c for s, c in zip(region, grid.chunks, strict=True)))
        return number if self.offsets[number] >= 0 else None

    def _number(self, index: tuple[int, ...]) -> int:
        counts = self.grid.counts if self.grid else ()
        return int(np.ravel_multi_index(index, counts)) if index else 0

    def _doubtful(self, number: int, cell: Region) -> bool:
        """Whether a chunk may be unfiltered though it does not say so.

        HDF5 can leave those that reach past the array's end so (H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS).
        """
        cut = self.grid is not None and region_shape(cell) != self.grid.chunks
        return cut and bool(self.filters) and self.sizes[number] == self.nbytes

    def unchanged(self, index: tuple[int, ...]) -> bytes | None:
        """A chunk's bytes as the whole pipeline wrote them: empty if not allocated, None if it skipped a filter or may have."""
        grid = self.grid
        if grid is None or any(i >= n for i, n in zip(index, grid.counts, strict=True)):
            return b""
        number = self._number(index)
        if self.offsets[number] < 0:
            return b""
        every = (1 << len(self.filters)) - 1
        if self.masks[number] & every or self._doubtful(number, grid.region(index)):
            return None
        return bytes(without_checksum(self.stored(number), self.filters))

    def decoded(self, number: int) -> Any:
        """A chunk's values, in the chunk's shape, by its number in C order of the grid."""
        chunks = self.grid.chunks if self.grid else ()
        try:
            plain = decode(self.stored(number), self.filters, int(self.masks[number]), self.nbytes)
        except UnusualError:
            return self._left_to_hdf5(number)
        except (OSError, ValueError) as error:
            where = ",".join(f"{s.start}:{s.stop}" for s in self._cell(number))
            raise type(error)(f"chunk [{where}]: {error}") from None
        return np.frombuffer(plain, self.dtype.base).reshape(chunks + self.dtype.shape)

    def _left_to_hdf5(self, number: int) -> Any:
        """A whole chunk's values through libhdf5; past the array's end it holds zeros."""
        cell = self._cell(number)
        out = np.zeros((self.grid.chunks if self.grid else ()) + self.dtype.shape, self.dtype.base)
        out[within(cell, cell)] = self.through(self.did, cell, self.dtype)
        return out

    def _cell(self, number: int) -> Region:
        if self.grid is None or not self.grid.counts:
            return ()
        return self.grid.region(tuple(map(int, np.unravel_index(number, self.grid.counts))))

    def stored(self, number: int) -> bytes:
        """A chunk's bytes as they lie in the file."""
        size = int(self.sizes[number])
        if size != self.nbytes and (not self.filters or size > 2 * self.nbytes + _SLACK):
            raise ValueError(f"expected a chunk of {self.nbytes} bytes, found {size} stored for it")
        return self.fetch(int(self.offsets[number]), size)


def _pipeline(plist: Any) -> list[Filter]:
    found = (plist.get_filter(i) for i in range(plist.get_nfilters()))
    return [(int(number), name.decode("latin-1"), int(flags), tuple(map(int, options))) for number, flags, options, name in found]


def _through_hdf5(did: Any, region: Region, dtype: np.dtype[Any]) -> Any:
    """The same bytes through libhdf5, without conversion: fill values of chunks that are not there, and oddities."""
    out = np.zeros(region_shape(region), dtype)  # where nothing was written and no fill value is defined, libhdf5 leaves it so
    space = did.get_space()
    if region:
        space.select_hyperslab(tuple(s.start for s in region), region_shape(region))
    did.read(h5s.create_simple(region_shape(region)) if region else h5s.ALL, space if region else h5s.ALL, out, did.get_type())
    return out


def direct_reader(did: Any, dtype: Datatype, fetch: Fetch, *, through: Through | None = None) -> DirectReader | None:
    """A reader for a dataset, or None where only libhdf5 can read it; `through` reads what was never written, in its place."""
    plist = did.get_create_plist()
    layout = plist.get_layout()
    if layout not in (h5d.CHUNKED, h5d.CONTIGUOUS) or did.shape is None or 0 in did.shape:
        return None
    pipeline = _pipeline(plist)
    only = not all(filter_available(item[0]) for item in pipeline)
    if not is_plain(as_padded(dtype) if only else dtype) or not decodable(pipeline):
        return None
    if plist.get_external_count():
        return DirectReader(did, dtype, external_fetch(did, plist), external=True, through=through)
    if layout == h5d.CHUNKED and (_misindexed(did) or ChunkGrid(did.shape, plist.get_chunk()).size > _LARGEST_INDEX):
        return None
    try:
        return DirectReader(did, dtype, fetch, through=through)
    except DamagedIndexError:
        return None


def _all_found(did: Any, places: Sequence[tuple[int, ...]]) -> bool:
    """Whether libhdf5, asked for each chunk, finds what it told of: in a damaged index it may not, and read a fill value."""
    return all(_is_found(did, place) for place in places[:: 1 + len(places) // _LOOKED_UP])


def _is_found(did: Any, place: tuple[int, ...]) -> bool:
    """Whether libhdf5, asked for a chunk, finds it.

    For a buffer of no bytes h5py reads none; of a chunk that is not found, libhdf5 cannot say how many it would be.
    """
    try:
        did.read_direct_chunk(place, out=np.empty(0, np.uint8))
    except ValueError:
        return True
    except (OSError, RuntimeError):
        return False
    return True


def _in_order(index: Any) -> bool:
    """Whether chunks are told of in C order of the grid, each once, as by every index that is what it was written to be.

    >>> _in_order(np.array([[0, 0], [0, 2], [1, 0]])), _in_order(np.array([[0, 0], [2, 0], [1, 0]]))
    (True, False)
    """
    steps = np.diff(index, axis=0)
    first = (steps != 0).argmax(axis=1)
    return bool((np.take_along_axis(steps, first[:, None], axis=1) > 0).all())


def _misindexed(did: Any) -> bool:
    """Whether libhdf5 (2.0) may tell wrong places of chunks: it does of an extensible array.

    HDF5 1.10's format has those where one axis is unlimited; the places are wrong unless that is the first.
    """
    limits = did.get_space().get_simple_extent_dims(True)
    unlimited = [axis for axis, limit in enumerate(limits) if limit == h5s.UNLIMITED]
    return len(unlimited) == 1 and unlimited != [0]
