"""Opening HDF5 files, and the files that this process read last, kept open with the readers of their datasets."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
from h5py import h5d, h5f, h5p

from h5z.direct import DirectReader, direct_reader, local_fetch, url_fetch
from h5z.errors import H5zError, SourceError, one_line
from h5z.filters import BUILTIN, load_plugins
from h5z.grid import Region
from h5z.identity import changed
from h5z.nodes import Datatype
from h5z.retries import PersistentFile, answered

if TYPE_CHECKING:
    pass

_OPEN_FILES = 32
_READERS = 256


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
        file = answered(name, lambda: fsspec.open(name, "rb", **(storage_options or {})).open())
        return h5py.File(PersistentFile(name, file), "r")
    except H5zError:
        raise
    except FileNotFoundError:
        raise SourceError(f"{name}: no such object") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{name}: not a readable HDF5 file ({one_line(error)})") from None


class OpenFile:
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


class Files:
    """The files that this process read last, open; at most `_OPEN_FILES`, keyed by what they were when opened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[tuple[Any, ...], OpenFile] = OrderedDict()

    def get(self, name: str, storage_options: dict[str, Any] | None, stamp: tuple[int, int] | None = None) -> OpenFile:
        """Return the open file, opening it if it is not, or no longer, the one at that path.

        Raises
        ------
        SourceChangedError
            If its size and time are not those of the `stamp`; those of a URL are not looked at.
        """
        key: tuple[Any, ...] = (name,)
        if "://" not in name and os.path.exists(name):
            stat = os.stat(name)
            key = (name, stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp is not None and stamp != (stat.st_size, stat.st_mtime_ns):
                raise changed(name)
        with self._lock:
            file = self._files.pop(key, None) or OpenFile(name, storage_options)
            self._files[key] = file
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)
            return file

    def forget(self, name: str) -> None:
        """Let go of a file: it is closed when nobody reads it any more."""
        with self._lock:
            for key in [key for key in self._files if key[0] == name]:
                file = self._files.pop(key)
                if "://" in name:  # what libhdf5 reads through Python must be closed before Python ends
                    file.file.close()


files = Files()


def forget(name: str) -> None:
    """Let go of what this process keeps open of a file, so that others may write to it."""
    files.forget(name)


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
    except H5zError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        where = ",".join(f"{s.start}:{s.stop}" for s in region)
        raise SourceError(f"{file}: {path}[{where}] cannot be read ({one_line(error)})") from None
