"""Opening HDF5 files, and the files that this process read last, kept open with the readers of their datasets."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import h5py
from h5py import h5d, h5f, h5p

from h5z.errors import H5zError, SourceError, one_line
from h5z.grid import Region
from h5z.hdf5.direct import DirectReader, direct_reader
from h5z.hdf5.fetch import Fetch, local_fetch
from h5z.hdf5.filters import BUILTIN, load_plugins
from h5z.hdf5.identity import changed
from h5z.hdf5.ranged import RangedFile, Ranges
from h5z.hdf5.references import lone_paths
from h5z.hdf5.roots import Roots, folder_of
from h5z.nodes import Datatype

_OPEN_FILES = 32
_READERS = 64  # each with an open dataset, whose last chunks libhdf5 keeps
_DATASETS = 8  # each with a chunk cache of its own
_METADATA_NBYTES = 1 << 17
_CHUNK_CACHE: dict[str, Any] = {"rdcc_nbytes": 1 << 20, "rdcc_nslots": 127}  # whole chunks are read; HDF5 2 would take 8 MiB


_HEAD_NBYTES = 1024
_DRIVERS = {
    b"NCSAfami": "the first of a family of files (HDF5's family driver), which h5repart -family_to_single makes one",
    b"NCSAmult": "one of several files of HDF5's multi or split driver",
}


def open_file(name: str, storage_options: dict[str, Any] | None = None) -> h5py.File:
    """Open an HDF5 file (a path, or a URL through fsspec) for reading.

    Raises
    ------
    SourceError
        With one line that says why it cannot be opened.
    """
    if "://" in name:
        return open_url(name, storage_options)[0]
    _see_regular(name)
    try:
        return _small_caches(h5py.File(name, "r", **_CHUNK_CACHE))
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{name}: {_why(name, error)}") from None


def _see_regular(name: str) -> None:
    if not os.path.exists(name):
        raise SourceError(f"{name or repr(name)}: no such file")
    if os.path.isdir(name):
        raise SourceError(f"{name}: expected an HDF5 file, found a directory")
    if not os.path.isfile(name):
        raise SourceError(f"{name}: expected an HDF5 file, found a pipe, a socket or a device")


def _small_caches(file: h5py.File) -> h5py.File:
    """Bound libhdf5's cache of a file's metadata: a B-tree's nodes take a hundred times their size in the file there."""
    config = file.id.get_mdc_config()
    config.set_initial_size = True
    config.min_size, config.initial_size, config.max_size = _METADATA_NBYTES // 4, _METADATA_NBYTES, _METADATA_NBYTES
    file.id.set_mdc_config(config)
    return file


def _why(name: str, error: BaseException) -> str:
    if isinstance(error, PermissionError):
        return "cannot be read (permission denied)"
    text = one_line(error)
    inner = text[text.find("(") + 1 : text.rfind(")")] if "(" in text else text
    with open(name, "rb") as file:
        head = file.read(_HEAD_NBYTES)
    if "signature not found" not in text:
        told = next((kind for mark, kind in _DRIVERS.items() if mark in head), None)  # in the superblock's driver information
        return f"expected a whole HDF5 file, found {told}" if told else f"not a readable HDF5 file ({inner})"
    known = {b"CDF": "netCDF-3", b"\x0e\x03\x13\x01": "HDF4", b"PK": "ZIP", b"MATLAB 5": "MATLAB 5"}
    found = next((kind for magic, kind in known.items() if head.startswith(magic)), None)
    if found is None:
        found = "an empty file" if not head else "a file without the HDF5 signature"
    return f"expected an HDF5 file, found {found}"


def open_url(name: str, storage_options: dict[str, Any] | None) -> tuple[h5py.File, Ranges]:
    """Open an HDF5 file by URL, and what reads its bytes from the same blocks.

    Raises
    ------
    SourceError
        With one line that says why it cannot be opened.
    """
    ranges = _ranges(name, storage_options)
    return _open_ranges(ranges, name), ranges


def _ranges(name: str, storage_options: dict[str, Any] | None) -> Ranges:
    with _opening(name):
        return Ranges(name, storage_options)


def _open_ranges(ranges: Ranges, name: str) -> h5py.File:
    with _opening(name):
        return _small_caches(h5py.File(RangedFile(ranges), "r", **_CHUNK_CACHE))


@contextmanager
def _opening(name: str) -> Iterator[None]:
    """Turn what opening a URL raises into a `SourceError`."""
    try:
        yield
    except H5zError:
        raise
    except FileNotFoundError as error:  # fsspec's word for a server that does not answer, too
        status = getattr(error.__cause__, "status", None)  # what the server says may repeat a URL that is signed
        why = f" (status {status})" if status else f" ({one_line(error.__cause__)})" if error.__cause__ else ""
        raise SourceError(f"{name}: no such object{why}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{name}: not a readable HDF5 file ({one_line(error)})") from None


class OpenFile:
    """An open file with the readers of its datasets; libhdf5 opens it when it is first asked."""

    def __init__(self, name: str, storage_options: dict[str, Any] | None, roots: tuple[str, ...]) -> None:
        self.name = name
        self.roots = Roots(name, roots)
        self._ranges = _ranges(name, storage_options) if "://" in name else None
        if self._ranges is None:
            _see_regular(name)
        self.fetch: Fetch = local_fetch(name) if self._ranges is None else self._ranges.read  # whose blocks headers share
        self._datasets: OrderedDict[str, Any] = OrderedDict()
        self._readers: OrderedDict[str, DirectReader | None] = OrderedDict()
        self._lock = threading.RLock()
        self._file: h5py.File | None = None

    @property
    def file(self) -> h5py.File:
        """The file as libhdf5 has it open."""
        with self._lock:
            if self._file is None:
                self._file = open_file(self.name) if self._ranges is None else _open_ranges(self._ranges, self.name)
            return self._file

    def close(self) -> None:
        """Close a file by URL, which libhdf5 reads through Python: that must be before Python ends."""
        if self._ranges is not None and self._file is not None:
            self._file.close()

    def dataset(self, path: str) -> Any:
        """An open dataset, one for all who read it: its external files are found by who opened it first."""
        with self._lock:
            if path not in self._datasets:
                self._datasets[path] = open_dataset(self.file, path, self.roots)
                _trim(self._datasets, _DATASETS)
            return self._datasets[path]

    @cached_property
    def lone(self) -> dict[tuple[int, int], str]:
        """Paths of the file's objects, for references to them."""
        return lone_paths(self.file.id)

    def reader(self, path: str, dtype: Datatype) -> DirectReader | None:
        """The reader of a dataset past libhdf5, made at the first call; None where only libhdf5 can read it."""
        with self._lock:
            if path not in self._readers:
                did, _ = _open_inside(self.file, path, self.roots)
                here = h5f.get_name(did) == h5f.get_name(self.file.id)  # an external link leads into another file
                self._readers[path] = direct_reader(did, dtype, self.fetch) if here else None
                _trim(self._readers, _READERS)
            return self._readers[path]


def _trim(cache: OrderedDict[str, Any], most: int) -> None:
    while len(cache) > most:
        cache.popitem(last=False)


class Files:
    """The files that this process read last, open; at most `_OPEN_FILES`, keyed by what they were when opened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[tuple[Any, ...], OpenFile] = OrderedDict()

    def get(
        self,
        name: str,
        storage_options: dict[str, Any] | None,
        roots: tuple[str, ...] = (),
        stamp: tuple[int, int] | None = None,
    ) -> OpenFile:
        """Return the open file, opening it if it is not, or no longer, the one at that path.

        Raises
        ------
        SourceChangedError
            If its size and time are not those of the `stamp`; those of a URL are not looked at.
        """
        key: tuple[Any, ...] = (name, roots)
        try:
            stat = None if "://" in name else os.stat(name)
        except OSError:  # opening it says what is wrong
            stat = None
        if stat is not None:
            key = (name, roots, stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp is not None and stamp != (stat.st_size, stat.st_mtime_ns):
                raise changed(name)
        with self._lock:
            file = self._files.pop(key, None) or OpenFile(name, storage_options, roots)
            self._files[key] = file
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)
            return file

    def forget(self, name: str) -> None:
        """Let go of a file: it is closed when nobody reads it any more."""
        with self._lock:
            for key in [key for key in self._files if key[0] == name]:
                self._files.pop(key).close()


files = Files()


def forget(name: str) -> None:
    """Let go of what this process keeps open of a file, so that others may write to it."""
    files.forget(name)


def open_dataset(file: h5py.File, path: str, roots: Roots | None = None) -> Any:
    """Open a dataset, if nothing that it reads lies outside the roots: by default, its file's folder.

    Its external files are looked for in that folder.

    Who opens such a dataset first decides where they are looked for: nobody else may hold it open.

    Raises
    ------
    SourceError
        If it leads outside the roots.
    """
    did, where = _open_inside(file, path, roots or Roots(file.filename))
    plist = did.get_create_plist()
    if any(plist.get_filter(i)[0] not in BUILTIN for i in range(plist.get_nfilters())):
        load_plugins()
    if plist.get_external_count() == 0:
        return did
    access_list = h5p.create(h5p.DATASET_ACCESS)
    access_list.set_efile_prefix(os.fsencode(folder_of(os.fsdecode(h5f.get_name(did)))))
    did.close()
    return h5d.open(*where, access_list)


def _open_inside(file: h5py.File, path: str, roots: Roots) -> tuple[Any, tuple[Any, bytes]]:
    try:
        where = roots.locate(file.id, path.encode("utf-8", "surrogateescape"))
        did = h5d.open(*where)
        roots.check(did)
    except SourceError as error:
        raise SourceError(f"{file.filename}: {path}: {error}") from None
    return did, where


@contextmanager
def reading(file: str, path: str, region: Region) -> Iterator[None]:
    """Turn what a read raises into a `SourceError` that names file, dataset and region."""
    try:
        yield
    except H5zError:
        raise
    except Exception as error:  # h5py may raise anything on damaged bytes
        where = ",".join(f"{s.start}:{s.stop}" for s in region)
        raise SourceError(f"{file}: {path}[{where}] cannot be read ({one_line(error)})") from None
