"""A picklable handle on one dataset, which reads regions of it; as a lazy dask array, `lazy_array`.

Handles carry (file, dataset, region) and no open file; each process keeps the files that it read last open.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import h5py
import numpy as np
from h5py import h5d, h5f, h5o, h5p, h5r, h5s

from h5z.direct import DirectReader, direct_reader, local_fetch, url_fetch
from h5z.dtypes import Leaf, access, memory, relabelled
from h5z.errors import SourceError, one_line
from h5z.filters import BUILTIN, load_plugins
from h5z.grid import Region, region_shape
from h5z.nodes import Datatype

if TYPE_CHECKING:
    import dask.array as da

_OPEN_FILES = 32
_READERS = 256
_SLAB_ELEMENTS = 1 << 16


def open_file(name: str, storage_options: dict[str, Any] | None = None) -> h5py.File:
    """Open an HDF5 file (a path, or a URL through fsspec) for reading.

    Raises
    ------
    SourceError
        With one line that says why it cannot be opened.
    """
    if "://" in name:
        return _open_url(name, storage_options)
    if not os.path.exists(name):
        raise SourceError(f"{name}: no such file")
    if os.path.isdir(name):
        raise SourceError(f"{name}: expected an HDF5 file, found a directory")
    try:
        return h5py.File(name, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{name}: {_why(name, error)}") from None


def _why(name: str, error: BaseException) -> str:
    text = one_line(error)
    inner = text[text.find("(") + 1 : text.rfind(")")] if "(" in text else text
    if "signature not found" not in text:
        return f"not a readable HDF5 file ({inner})"
    with open(name, "rb") as file:
        head = file.read(8)
    known = {b"CDF": "netCDF-3", b"\x0e\x03\x13\x01": "HDF4", b"PK": "ZIP", b"MATLAB 5": "MATLAB 5"}
    found = next((kind for magic, kind in known.items() if head.startswith(magic)), None)
    if found is None:
        found = "an empty file" if not head else "a file without the HDF5 signature"
    return f"expected an HDF5 file, found {found}"


def _open_url(name: str, storage_options: dict[str, Any] | None) -> h5py.File:
    import fsspec

    try:
        file = fsspec.open(name, "rb", **(storage_options or {})).open()
        return h5py.File(file, "r")
    except FileNotFoundError:
        raise SourceError(f"{name}: no such object") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{name}: not a readable HDF5 file ({one_line(error)})") from None


class _Open:
    """An open file with the readers of its datasets."""

    def __init__(self, name: str, storage_options: dict[str, Any] | None) -> None:
        self.file = open_file(name, storage_options)
        self.fetch = url_fetch(name, storage_options) if "://" in name else local_fetch(self.file)
        self._datasets: OrderedDict[str, Any] = OrderedDict()
        self._readers: OrderedDict[str, DirectReader | None] = OrderedDict()
        self._lock = threading.RLock()

    def dataset(self, path: str) -> Any:
        """An open dataset, one for all who read it: its external files are found by who opened it first."""
        with self._lock:
            if path not in self._datasets:
                self._datasets[path] = open_dataset(self.file, path)
                _trim(self._datasets, _READERS)
            return self._datasets[path]

    def reader(self, path: str, dtype: Datatype) -> DirectReader | None:
        """The reader of a dataset past libhdf5, made at the first call; None where only libhdf5 can read it."""
        with self._lock:
            if path not in self._readers:
                did = h5d.open(self.file.id, path.encode("utf-8", "surrogateescape"))
                here = h5f.get_name(did) == h5f.get_name(self.file.id)  # an external link leads into another file
                self._readers[path] = direct_reader(did, dtype, self.fetch) if here else None
                _trim(self._readers, _READERS)
            return self._readers[path]


def _trim(cache: OrderedDict[str, Any], most: int) -> None:
    while len(cache) > most:
        cache.popitem(last=False)


class _Files:
    """The files that this process read last, open; at most `_OPEN_FILES`, keyed by what they were when opened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[tuple[Any, ...], _Open] = OrderedDict()

    def get(self, name: str, storage_options: dict[str, Any] | None) -> _Open:
        """Return the open file, opening it if it is not, or no longer, the one at that path."""
        key: tuple[Any, ...] = (name,)
        if "://" not in name and os.path.exists(name):
            stat = os.stat(name)
            key = (name, stat.st_mtime_ns, stat.st_size, stat.st_ino)
        with self._lock:
            file = self._files.pop(key, None) or _Open(name, storage_options)
            self._files[key] = file
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)
            return file

    def forget(self, name: str) -> None:
        """Let go of a file: it is closed when nobody reads it any more."""
        with self._lock:
            for key in [key for key in self._files if key[0] == name]:
                del self._files[key]


_files = _Files()


def forget(name: str) -> None:
    """Let go of what this process keeps open of a file, so that others may write to it."""
    _files.forget(name)


@dataclass(frozen=True)
class Dataset:
    """A dataset by file and path, and its described datatype; reads regions.

    Attributes
    ----------
    direct : bool
        Whether to read past libhdf5 where that can be done; verification does not, so that libhdf5 is its witness.
    """

    file: str
    path: str
    dtype: Datatype
    storage_options: dict[str, Any] | None = None
    direct: bool = True

    def open(self) -> Any:
        """Open the dataset: external files and virtual sources are looked for beside the file that names them."""
        return _files.get(self.file, self.storage_options).dataset(self.path)

    def read(self, region: Region) -> Any:
        """Read a region; scalars by the empty region.

        Raises
        ------
        SourceError
            If HDF5 cannot read it: a corrupt chunk, a failed checksum, a file that vanished.
        """
        with reading(self.file, self.path, region):
            reader = self.reader()
            if reader is not None and (self.direct or reader.external):
                return reader.read(region)
            return self.read_from(self.open(), region)

    def stored(self, index: tuple[int, ...]) -> bytes | None:
        """A chunk's bytes as they lie in the file; None where they must be decoded and encoded instead.

        That is where the chunk skipped a filter, or may have; of a chunk that is not allocated there is nothing: ``b""``.
        """
        reader = self.reader()
        with reading(self.file, self.path, ()):
            return None if reader is None else reader.unchanged(index)

    def reader(self) -> DirectReader | None:
        """The reader that goes past libhdf5, or None."""
        return _files.get(self.file, self.storage_options).reader(self.path, self.dtype)

    def read_from(self, did: Any, region: Region) -> Any:
        """Read a region from the open dataset."""
        how = access(self.dtype)
        if how == "h5py":
            return h5py.Dataset(did)[region or ...]
        out, mtype = memory(self.dtype, did.get_type(), region_shape(region))
        space = did.get_space()
        if region:
            space.select_hyperslab(tuple(s.start for s in region), region_shape(region))
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
        step = max(1, _SLAB_ELEMENTS // max(1, math.prod(shape[1:])))
        for start in range(0, shape[0], step):
            yield (slice(start, min(start + step, shape[0])), *(slice(0, n) for n in shape[1:]))


def open_dataset(file: h5py.File, path: str) -> Any:
    """Open a dataset, its external files looked for in the folder of its own file.

    Who opens such a dataset first decides where they are looked for: nobody else may hold it open.
    """
    raw = path.encode("utf-8", "surrogateescape")
    did = h5d.open(file.id, raw)
    plist = did.get_create_plist()
    if any(plist.get_filter(i)[0] not in BUILTIN for i in range(plist.get_nfilters())):
        load_plugins()
    if plist.get_external_count() == 0:
        return did
    did.close()
    access_list = h5p.create(h5p.DATASET_ACCESS)
    access_list.set_efile_prefix(os.path.dirname(os.path.abspath(file.filename)).encode())
    return h5d.open(file.id, raw, access_list)


@contextmanager
def reading(file: str, path: str, region: Region) -> Iterator[None]:
    """Turn what a read raises into a `SourceError` that names file, dataset and region."""
    try:
        yield
    except SourceError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        where = ",".join(f"{s.start}:{s.stop}" for s in region)
        raise SourceError(f"{file}: {path}[{where}] cannot be read ({one_line(error)})") from None


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


def address(oid: Any) -> tuple[int, int]:
    """What tells an open object from all others: its file's number and its address in it."""
    info = h5o.get_info(oid)
    return info.fileno, info.addr


def reference_text(ref: Any, fid: Any, paths: dict[tuple[int, int], str] | None = None) -> str:
    """The path, and for a region the selection, that a reference points to; empty for a null reference.

    Raises
    ------
    SourceError
        If the reference points to nothing.
    """
    if not ref:
        return ""
    try:
        target = h5r.dereference(ref, fid)
        path = (paths or {}).get(address(target)) or (h5r.get_name(ref, fid) or b"").decode("utf-8", "surrogateescape")
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"a reference points to nothing ({one_line(error)})") from None
    return path + f"[{space_text(h5r.get_region(ref, fid))}]" if isinstance(ref, h5py.RegionReference) else path


def space_text(space: Any) -> str:
    """A dataspace's selection as text: ``0:3,4:6`` per block, ``(0,1)`` per point, joined by ``;``.

    >>> space = h5s.create_simple((4, 5)); space.select_hyperslab((0, 1), (1, 1), block=(2, 3)); space_text(space)
    '0:2,1:4'
    """
    kind = space.get_select_type()
    if kind == h5s.SEL_ALL:
        return ",".join(f"0:{n}" for n in space.get_simple_extent_dims())
    if kind == h5s.SEL_NONE:
        return ""
    if kind == h5s.SEL_POINTS:
        return ";".join("({})".format(",".join(map(str, point))) for point in space.get_select_elem_pointlist())
    if space.is_regular_hyperslab():
        start, stride, count, block = space.get_regular_hyperslab()
        if any(c == h5s.UNLIMITED or b == h5s.UNLIMITED for c, b in zip(count, block, strict=True)):
            terms = zip(start, stride, count, block, strict=True)
            return ",".join(f"{a}:{s}:{_limit(c)}:{_limit(b)}" for a, s, c, b in terms)
    blocks = space.get_select_hyper_blocklist()
    return ";".join(",".join(f"{a}:{b + 1}" for a, b in zip(low, high, strict=True)) for low, high in blocks)


def _limit(count: int) -> str:
    return "inf" if count == h5s.UNLIMITED else str(count)


@dataclass(frozen=True)
class SourceArray:
    """What becomes one Zarr array: a leaf of a dataset, with the target's shape and dtype; reads like an array.

    Attributes
    ----------
    marks : tuple of (int, int)
        Of a ragged leaf: for each multiple of `step` elements, the row that holds it and that row's first element.
    """

    dataset: Dataset
    leaf: Leaf
    shape: tuple[int, ...]
    fill: Any = None
    step: int = 0
    marks: tuple[tuple[int, int], ...] = ()
    source_shape: tuple[int, ...] = ()

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Numpy's dtype of what is read; text is objects."""
        return np.dtype(object) if isinstance(self.leaf.dtype, str) else self.leaf.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, region: Region) -> Any:
        """Read a region, given as a tuple of slices with start and stop."""
        region = tuple(slice(*s.indices(n)) for s, n in zip(region, self.shape, strict=True))
        return self.read(region)

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
            values = self._ragged(region[0])[(slice(None), *region[1:])]
        elif self.leaf.steps == () and self.shape[: len(self.source_shape)] != self.source_shape:
            return self._padded(region)
        else:
            rank = len(self.source_shape)
            rows = self.dataset.read(region[:rank])
            values = split(rows, self.leaf.steps)
            if self.leaf.extra and region[rank:] != tuple(slice(0, n) for n in self.leaf.extra):
                values = np.asarray(values)[cast(Any, (..., *region[rank:]))]
        return self._carry(values, region)

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
        values = relabelled(split(self.dataset.read(rows), self.leaf.steps), self.leaf.described)
        return values[wanted.start - start : wanted.stop - start]

    def _carry(self, values: Any, region: Region) -> Any:
        if isinstance(self.leaf.dtype, str):
            return self._text(values, region)
        array = np.asarray(values)
        if array.dtype != self.leaf.dtype:
            array = _retyped(array, self.leaf.dtype)
        return array.reshape(region_shape(region))

    def _text(self, values: Any, region: Region) -> Any:
        flat = np.asarray(values, dtype=object).ravel()
        out = np.empty(flat.shape, dtype=object)
        if cast(dict[str, Any], self.leaf.described)["class"] == "reference":
            fid = _files.get(self.dataset.file, self.dataset.storage_options).file.id
            out[:] = [reference_text(ref, fid) for ref in flat]
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
    made: da.Array = da.from_array(source, chunks=chunks, name=name or True, asarray=False, inline_array=True, meta=meta)
    return made
