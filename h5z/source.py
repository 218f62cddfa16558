"""A picklable handle on one dataset, which reads regions of it; as a lazy dask array, `lazy_array`.

Handles carry (file, dataset, region) and no open file; each process keeps the files that it read last open.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import h5py
import numpy as np
from h5py import h5s

from h5z.columns import SLAB_NBYTES, row_nbytes, slabs
from h5z.dtypes import access, raw_layout, relabelled
from h5z.errors import SourceError
from h5z.grid import Region, region_shape, within
from h5z.hdf5 import libhdf5
from h5z.hdf5.direct import DirectReader
from h5z.hdf5.fetch import Contiguous
from h5z.hdf5.files import OpenFile, files, reading
from h5z.hdf5.references import reference_text
from h5z.hdf5.terminated import cut
from h5z.hdf5.typeids import layout, memory, regions
from h5z.isolation.heartbeat import beat
from h5z.leaves import Leaf
from h5z.nodes import Datatype
from h5z.records import json_name

if TYPE_CHECKING:
    import dask.array as da

_SLAB_ELEMENTS = 1 << 16


@dataclass(frozen=True)
class Dataset:
    """A dataset by file and path, and its described datatype; reads regions.

    Attributes
    ----------
    direct : bool
        Whether to read past libhdf5 where that can be done; verification does not, so that libhdf5 is its witness of all
        but what it has no filter for here.
    roots : tuple of str
        Folders, beside the file's own, in which other files may lie from which its values come.
    stamp : (int, int), optional
        The file's size and time, where it must be the one that has these.
    at : Contiguous, optional
        Where all of it lies together in the file: then libhdf5 need not be asked.
    """

    file: str
    path: str
    dtype: Datatype
    storage_options: dict[str, Any] | None = field(default=None, repr=False)
    direct: bool = True
    roots: tuple[str, ...] = ()
    stamp: tuple[int, int] | None = None
    at: Contiguous | None = None

    def open(self) -> Any:
        """Open the dataset: external files and virtual sources are looked for beside the file that names them."""
        return self._file.dataset(self.path)

    def read(self, region: Region) -> Any:
        """Read a region; scalars by the empty region.

        Raises
        ------
        SourceError
            If HDF5 cannot read it: a corrupt chunk, a failed checksum, a file that vanished.
        """
        with reading(self.file, self.path, region):
            values = self.at and self.at.read(self._file.fetch, region, raw_layout(self.dtype))
            if values is not None:
                return values
            reader = self.reader()
            if reader is not None and (self.direct or reader.external or reader.only):
                values = reader.read(region)
                return cut(values, self.dtype) if reader.only else values
            return self.read_from(self.open(), region)

    def stored(self, index: tuple[int, ...]) -> bytes | None:
        """A chunk's bytes as they lie in the file; None where they must be decoded and encoded instead.

        That is where the chunk skipped a filter, or may have; of a chunk that is not allocated there is nothing: ``b""``.
        """
        if self.at:
            return None
        with reading(self.file, self.path, tuple(slice(i, i + 1) for i in index)):
            reader = self.reader()
        if reader is None or reader.grid is None:
            return None
        with reading(self.file, self.path, reader.grid.region(index)):
            return reader.unchanged(index)

    def untouched(self, region: Region) -> bool:
        """Whether nothing is stored of a region, as far as that is known."""
        if self.at:
            return False
        with reading(self.file, self.path, region):
            reader = self.reader()
            return reader is not None and reader.untouched(region)

    def reader(self) -> DirectReader | None:
        """The reader that goes past libhdf5, or None."""
        return self._file.reader(self.path, self.dtype)

    @property
    def _file(self) -> OpenFile:
        return files.get(self.file, self.storage_options, self.roots, self.stamp)

    def text_of(self, ref: Any) -> str:
        """Where a reference points that was read from the dataset."""
        return reference_text(ref, self._file.file.id, self._file.lone)

    def read_from(self, did: Any, region: Region) -> Any:
        """Read a region from the open dataset."""
        how = access(self.dtype)
        if how == "h5py":
            return h5py.Dataset(did)[region or ...]
        space = did.get_space()
        if region:
            space.select_hyperslab(tuple(s.start for s in region), region_shape(region))
        if how == "lent":
            inside, mtype = layout(self.dtype, False)
            return regions(libhdf5.read(did, mtype, inside, space), region_shape(region))
        out, mtype = memory(self.dtype, did.get_type(), region_shape(region))
        if region:
            selected = h5s.create_simple(region_shape(region))
            did.read(selected, space, out, mtype)
        else:
            did.read(h5s.ALL, h5s.ALL, out, mtype)
        return out

    def rows(self, shape: tuple[int, ...]) -> Iterator[Region]:
        """Slabs of whole rows (indices of the first axis), for a pass in bounded pieces."""
        if not shape:
            yield ()
            return
        most = min(_SLAB_ELEMENTS, SLAB_NBYTES // max(1, row_nbytes(self.dtype)))
        step = max(1, most // max(1, math.prod(shape[1:])))
        for start in range(0, shape[0], step):
            beat()
            yield (slice(start, min(start + step, shape[0])), *(slice(0, n) for n in shape[1:]))


def split(values: Any, steps: tuple[str, ...]) -> Any:
    """Take one leaf's values out of a dataset's.

    >>> rows = np.empty(2, object); rows[:] = [np.array([1, 2]), np.array([3])]
    >>> split(rows, ("values",)), split(rows, ("lengths",))
    (array([1, 2, 3]), array([2, 1], dtype=uint64))
    """
    for step in steps:
        if step == "lengths":
            lengths = [0 if item is None else len(item) for item in values.ravel()]
            values = np.array(lengths, "<u8").reshape(values.shape)
        elif step == "values":
            items = [np.asarray(item) for item in values.ravel() if item is not None and len(item)]
            values = np.concatenate(items) if items else np.zeros((0,), _element_dtype(values))
        else:
            values = values[step[1:]]
    return values


def _element_dtype(values: Any) -> Any:
    found = h5py.check_vlen_dtype(values.dtype)
    return found if isinstance(found, np.dtype) else np.dtype(object)


@dataclass(frozen=True)
class SourceArray:
    """What becomes one Zarr array: a leaf of a dataset, with the target's shape and dtype; reads like an array.

    Attributes
    ----------
    marks : tuple of (int, int)
        Of a ragged leaf: for each multiple of `step` elements, the row that holds it and that row's first element.
    chunks : tuple of int, optional
        The dataset's own, where its chunks are asked for as they are stored.
    """

    dataset: Dataset
    leaf: Leaf
    shape: tuple[int, ...]
    fill: Any = None
    step: int = 0
    marks: tuple[tuple[int, int], ...] = ()
    source_shape: tuple[int, ...] = ()
    chunks: tuple[int, ...] | None = None

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Numpy's dtype of what is read; text is objects."""
        return np.dtype(object) if isinstance(self.leaf.dtype, str) else self.leaf.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, index: tuple[slice | int, ...]) -> Any:
        """Read what an integer or a slice for each axis chooses: what dask makes of a selection's selection."""
        chosen = [range(n)[item] for item, n in zip(index, self.shape, strict=True)]
        ranges = [range(item, item + 1) if isinstance(item, int) else item for item in chosen]
        region = tuple(slice(min(r[0], r[-1]), max(r[0], r[-1]) + 1) if r else slice(0, 0) for r in ranges)
        rest = tuple(0 if isinstance(item, int) else slice(None, None, item.step) for item in chosen)
        return self.read(region)[rest]

    def read(self, region: Region) -> Any:
        """Read a region of the target's array from the source, in the dtype that Zarr stores.

        Returns
        -------
        numpy.ndarray
            Of the region's shape; of objects (str or bytes) where the array is text.
        """
        if any(s.start >= s.stop for s in region):
            return np.zeros(region_shape(region), self.dtype)
        if self.leaf.ragged:
            return self._carry(self._ragged(region[0])[(slice(None), *region[1:])], region)
        if self.leaf.steps:
            return read_columns([self], [region])[0]
        if self.shape[: len(self.source_shape)] != self.source_shape:
            return self._padded(region)
        return self.taken(self.dataset.read(region[: len(self.source_shape)]), region)

    def taken(self, rows: Any, region: Region) -> Any:
        """What the array has of a region, of whose rows the dataset's elements are given."""
        rank = len(self.source_shape)
        values = split(rows, self.leaf.steps)
        if self.leaf.extra and region[rank:] != tuple(slice(0, n) for n in self.leaf.extra):
            values = np.asarray(values)[cast(Any, (..., *region[rank:]))]
        return self._carry(values, region)

    def slabs(self, rows: Region) -> Iterator[Region]:
        """The parts of the dataset's rows that are read at once."""
        chunks = self.chunks and self.chunks[: len(self.source_shape)]
        return slabs(rows, self.source_shape, chunks, row_nbytes(self.dataset.dtype))

    def stored(self, index: tuple[int, ...]) -> bytes | None:
        """A chunk's bytes as they lie in the file (`Dataset.stored`), by its index in the target's array."""
        return self.dataset.stored(index[: len(self.source_shape)])

    def constant(self, region: Region) -> Any | None:
        """The value of every element of a region of which nothing is stored, as an array without axes; None of any other.

        It is what is read at the region's two ends.
        """
        rank = len(self.source_shape)
        if not rank or self.leaf.ragged or isinstance(self.leaf.dtype, str) or self.shape[:rank] != self.source_shape:
            return None
        if any(s.start >= s.stop for s in region) or not self.dataset.untouched(region[:rank]):
            return None
        first = self.read((*(slice(s.start, s.start + 1) for s in region[:rank]), *region[rank:]))
        last = self.read((*(slice(s.stop - 1, s.stop) for s in region[:rank]), *region[rank:]))
        value = first.reshape(-1)[:1].reshape(())
        return value if first.tobytes() == last.tobytes() == value.tobytes() * first.size else None

    def _padded(self, region: Region) -> Any:
        """A region of an array that netCDF-4 shows longer than it is stored: fill values past its end."""
        stored = tuple(slice(s.start, max(s.start, min(s.stop, n))) for s, n in zip(region, self.source_shape, strict=True))
        empty: Any = (
            ("" if self.leaf.dtype == "string" else b"") if isinstance(self.leaf.dtype, str) else np.zeros((), self.dtype)
        )
        out = np.full(region_shape(region), empty if self.fill is None else self.fill, self.dtype)
        if all(s.start < s.stop for s in stored):
            exact = SourceArray(self.dataset, self.leaf, self.source_shape, source_shape=self.source_shape)
            out[tuple(slice(0, s.stop - s.start) for s in stored)] = exact.read(stored)
        return out

    def _ragged(self, wanted: slice) -> Any:
        first, last = wanted.start // self.step, -(-wanted.stop // self.step)
        row, start = self.marks[first]
        stop = self.marks[last][0] + 1 if last < len(self.marks) else (self.source_shape or (1,))[0]
        rows: Region = (slice(row, stop), *(slice(0, n) for n in self.source_shape[1:])) if self.source_shape else ()
        step = max(1, SLAB_NBYTES // (row_nbytes(self.dataset.dtype) * max(1, math.prod(self.source_shape[1:]))))
        cut = [(slice(i, min(i + step, stop)), *rows[1:]) for i in range(row, stop, step)] if rows else [rows]
        found = [relabelled(split(self.dataset.read(part), self.leaf.steps), self.leaf.described) for part in cut]
        full = [values for values in found if len(values)] or found[:1]
        values = full[0] if len(full) == 1 else np.concatenate(full)
        return values[wanted.start - start : wanted.stop - start]

    def _carry(self, values: Any, region: Region) -> Any:
        if isinstance(self.leaf.dtype, str):
            return self._text(values, region)
        array = np.asarray(values)
        if _holds_odd_truth(array, self.leaf.dtype):
            raise SourceError(f"{self.dataset.file}: {self.dataset.path} holds truth values that are neither FALSE nor TRUE")
        if array.dtype != self.leaf.dtype:
            array = _retyped(array, self.leaf.dtype)
        return array.reshape(region_shape(region))

    def _text(self, values: Any, region: Region) -> Any:
        flat = np.asarray(values, dtype=object).ravel()
        out = np.empty(flat.shape, dtype=object)
        if cast(dict[str, Any], self.leaf.described)["class"] == "reference":
            out[:] = [json_name(self.dataset.text_of(item)) for item in flat]
        elif self.leaf.dtype == "bytes":
            out[:] = [item.encode("utf-8", "surrogateescape") if isinstance(item, str) else bytes(item or b"") for item in flat]
        else:
            try:
                out[:] = [item.decode("utf-8") if isinstance(item, bytes) else item or "" for item in flat]
            except UnicodeDecodeError as error:
                raise SourceError(
                    f"{self.dataset.file}: {self.dataset.path} holds text that is not UTF-8 ({error.reason}): "
                    "strings='bytes' carries it over as bytes"
                ) from None
        return out.reshape(region_shape(region))


def read_columns(columns: Sequence[SourceArray], regions: Sequence[Region]) -> list[Any]:
    """What columns of a table have in the same rows, which are read once, slab by slab."""
    first, rank = columns[0], len(columns[0].source_shape)
    parts = list(first.slabs(regions[0][:rank]))
    if len(parts) == 1:
        rows = first.dataset.read(parts[0])
        return [column.taken(rows, region) for column, region in zip(columns, regions, strict=True)]
    out = [np.empty(region_shape(region), column.dtype) for column, region in zip(columns, regions, strict=True)]
    for slab in parts:
        beat()
        rows = first.dataset.read(slab)
        for column, region, values in zip(columns, regions, out, strict=True):
            part = (*slab, *region[rank:])
            values[within(part, region)] = column.taken(rows, part)
    return out


def _holds_odd_truth(array: Any, dtype: np.dtype[Any]) -> bool:
    """Whether any of what shall be truth values is a number other than 0 and 1: of HDF5's enumeration, neither name."""
    if dtype.kind == "b":
        return bool(array.size) and int(array.view(np.uint8).max()) > 1
    names = zip(array.dtype.names or (), dtype.names or (), strict=False)
    return any(_holds_odd_truth(array[theirs], dtype[ours]) for theirs, ours in names)


def _retyped(array: Any, dtype: np.dtype[Any]) -> Any:
    """The same values in the dtype that Zarr stores: packed structs, bytes of what has no number, the file's byte order."""
    if dtype.kind == "V" and not dtype.names and array.dtype.itemsize == dtype.itemsize:
        return np.ascontiguousarray(array).view(dtype)
    if dtype.names and array.dtype.names:
        out = np.empty(array.shape, dtype)
        for theirs, ours in zip(array.dtype.names, dtype.names, strict=True):
            out[ours] = _retyped(array[theirs], dtype[ours])
        return out
    return array.astype(dtype)


def lazy_array(source: SourceArray, chunks: tuple[int, ...], name: str | None = None) -> da.Array:
    """A dask array over a source: one block per chunk, each read by a handle without open files."""
    import dask.array as da

    meta = np.empty((0,) * source.ndim, source.dtype)
    how: dict[str, Any] = {"asarray": False, "fancy": False, "inline_array": True, "meta": meta}
    made: da.Array = da.from_array(source, chunks=chunks, name=name or True, **how)
    return made
