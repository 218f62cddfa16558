"""Passing over variable-length data in pieces of bounded memory, though no header says how long an element is.

What a dataset of sequences or text holds are their lengths and places in HDF5's heap (HDF5 file format specification, appendix
on types of indexes and "Global Heap"): lengths are read from the file's bytes before the elements themselves; where that cannot
be done, pieces grow slowly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

import numpy as np
from h5py import h5d, h5i

from h5z.columns import row_nbytes
from h5z.dtypes import class_of, is_string
from h5z.grid import Region, region_shape
from h5z.hdf5.direct import DirectReader, direct_reader
from h5z.hdf5.fetch import Fetch
from h5z.limits import MOST_SHARING, at_most
from h5z.nodes import ArrayNode, Datatype
from h5z.payload import Run

PIECE_NBYTES = 4 << 20  # of variable-length data that are read at once, where an element is not larger
PIECE_ELEMENTS = 1 << 16
FIRST_ELEMENTS = 64  # read to see how large they are, where nothing says
_LARGEST_ARRAY = 1000  # of variable-length parts in one element
_NESTED_NBYTES = 64  # assumed of a sequence's element that itself has no fixed length


def pieces(node: ArrayNode, did: Any, fetch: Fetch | None, runs: Sequence[Run], *, by_row: bool) -> Iterator[Region]:
    """Regions of a dataset in C order, each a run of its elements.

    Parameters
    ----------
    did : h5py.h5d.DatasetID
        The open dataset.
    fetch : callable, optional
        Reads bytes of the dataset's file.
    runs : sequence of Run
        What the pieces before turned out to hold; the caller appends to it.
    by_row : bool
        Whether rows (indices of the first axis) must stay whole.

    Raises
    ------
    UnsupportedError
        If the lengths add up to far more than the file holds.
    """
    shape = cast(tuple[int, ...], node.shape)
    if not shape:
        yield ()
        return
    axis, room = 0, max(1, min(PIECE_ELEMENTS, PIECE_NBYTES // row_nbytes(node.dtype)))
    while not by_row and axis < len(shape) - 1 and math.prod(shape[axis + 1 :]) > room:
        axis += 1
    line = math.prod(shape[axis + 1 :])
    most = max(1, room // line)
    lengths = _Lengths.of(node, did, fetch)
    most_nbytes, nbytes = MOST_SHARING * int(h5i.get_file_id(did).get_filesize()), 0
    for index in np.ndindex(*shape[:axis]):
        for start in range(0, shape[axis], most):
            stop = min(start + most, shape[axis])
            weights = lengths.of_lines(_region(index, start, stop, shape), axis) if lengths else None
            nbytes += 0 if weights is None else int(weights.sum())
            at_most(most_nbytes, nbytes, "bytes of variable length in a file of this size")
            while start < stop:
                if weights is None:
                    end = start + max(1, _elements(runs) // line)
                else:
                    heavy = np.cumsum(weights[len(weights) - (stop - start) :])
                    end = start + max(1, int(np.searchsorted(heavy, PIECE_NBYTES, side="right")))
                end = min(end, stop)
                yield _region(index, start, end, shape)
                start = end


def _region(index: tuple[int, ...], start: int, stop: int, shape: tuple[int, ...]) -> Region:
    lead = tuple(slice(i, i + 1) for i in index)
    return (*lead, slice(start, stop), *(slice(0, n) for n in shape[len(index) + 1 :]))


def _elements(runs: Sequence[Run]) -> int:
    """How many elements to read next, by those read last."""
    if not runs:
        return FIRST_ELEMENTS
    count, nbytes, largest = runs[-1]
    return min(4 * count, PIECE_NBYTES // max(1, nbytes // count, largest // 8), PIECE_ELEMENTS)


class _Lengths:
    """Reads how many bytes the elements of a dataset take in the heap."""

    def __init__(self, reader: DirectReader, places: list[tuple[int, int]]) -> None:
        self.reader, self.places = reader, places

    @classmethod
    def of(cls, node: ArrayNode, did: Any, fetch: Fetch | None) -> _Lengths | None:
        """The lengths' reader, or None where the file's bytes do not tell them."""
        if fetch is None or did.get_create_plist().get_layout() not in (h5d.CHUNKED, h5d.CONTIGUOUS):
            return None
        pointer = 8 + int(h5i.get_file_id(did).get_create_plist().get_sizes()[0])
        try:
            _, stored, places = _layout(node.dtype, pointer)
        except ValueError:
            return None
        reader = direct_reader(did, {"class": "opaque", "size": stored, "tag": ""}, fetch, through=_nothing)
        return cls(reader, places) if reader is not None and places else None

    def of_lines(self, region: Region, axis: int) -> Any:
        """Bytes in the heap of what lies at each index of an axis, before which there is but one; None if unreadable."""
        with suppress(OSError, ValueError):
            raw = np.ascontiguousarray(self.reader.read(region))
            rows = raw.reshape(-1).view("u1").reshape(raw.size, -1)
            found = np.zeros(raw.size, np.int64)
            for offset, scale in self.places:
                found += scale * np.ascontiguousarray(rows[:, offset : offset + 4]).view("<u4")[:, 0].astype(np.int64)
            return found.reshape(region_shape(region)[axis], -1).sum(axis=1)
        return None


def _nothing(_: Any, region: Region, dtype: np.dtype[Any]) -> Any:
    """What was never written: libhdf5 would make pointers of it."""
    return np.zeros(region_shape(region), dtype)


def _layout(dtype: Datatype, pointer: int) -> tuple[int, int, list[tuple[int, int]]]:
    """An element's bytes in libhdf5's memory and in the file; there, where lengths lie and the bytes of one unit of each.

    >>> _layout({"class": "vlen", "base": "<i4"}, 16), _layout("<f8", 16)
    ((16, 16, [(0, 4)]), (8, 8, []))
    """
    kind = class_of(dtype)
    if isinstance(dtype, dict) and is_string(dtype) and dtype["size"] is None:
        return 8, pointer, [(0, 1)]
    if isinstance(dtype, dict) and kind == "vlen":
        size, _, nested = _layout(dtype["base"], pointer)
        return 16, pointer, [(0, size + len(nested) * _NESTED_NBYTES)]
    if isinstance(dtype, dict) and kind == "reference":
        size = {"object": 8, "region": 12}.get(dtype["kind"], 0)
        if not size:
            raise ValueError("a reference of unknown size")
        return size, size, []
    if isinstance(dtype, dict) and kind == "array":
        size, stored, places = _layout(dtype["base"], pointer)
        count = math.prod(dtype["shape"])
        if places and count > _LARGEST_ARRAY:
            raise ValueError("an array of many sequences")
        return count * size, count * stored, [(i * stored + at, scale) for i in range(count) for at, scale in places]
    if isinstance(dtype, dict) and kind == "compound":
        return _compound(dtype, pointer)
    size = np.dtype(dtype).itemsize if isinstance(dtype, str) else _fixed(dtype)
    return size, size, []


def _compound(dtype: dict[str, Any], pointer: int) -> tuple[int, int, list[tuple[int, int]]]:
    """In the file its members lie as they do in memory, but for what pointers to the heap take there."""
    shift, places = 0, []
    for _, offset, member in sorted(dtype["members"], key=lambda item: item[1]):
        size, stored, inside = _layout(member, pointer)
        places += [(offset + shift + at, scale) for at, scale in inside]
        shift += stored - size
    return dtype["size"], dtype["size"] + shift, places


def _fixed(dtype: dict[str, Any]) -> int:
    if "base" in dtype:
        return _layout(dtype["base"], 0)[0] * (2 if dtype["class"] == "complex" else 1)
    return int(dtype["size"])
