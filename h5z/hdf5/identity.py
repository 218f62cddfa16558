"""What tells one source from another: name, size, time, and a digest of its header and of where its data lie."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np

from h5z.credentials import joined
from h5z.errors import SourceChangedError, SourceError, TransientError, is_transient, one_line
from h5z.hdf5.listing import identify
from h5z.hdf5.ranged import Ranges
from h5z.nodes import ArrayNode
from h5z.stores.retries import ATTEMPTS, persist

_HEADER = 1 << 16
_DIGITS = 32


def header_digest(name: str, storage_options: dict[str, Any] | None = None, ranges: Ranges | None = None) -> str:
    """32 hexadecimal digits of the SHA-256 of a file's first 64 KiB: superblock, and as a rule the root's header.

    Of an open remote file `ranges` has read it already.
    """
    if ranges is not None:
        head = ranges.read(0, min(_HEADER, ranges.nbytes))
    elif "://" in name:
        from fsspec.core import url_to_fs

        url, options = joined(name, storage_options)
        filesystem, path = url_to_fs(url, **options)
        head = filesystem.cat_file(path, start=0, end=_HEADER)
    else:
        with open(name, "rb") as file:
            head = file.read(_HEADER)
    return hashlib.sha256(head).hexdigest()[:_DIGITS]


class ChunkIndex:
    """A digest of where the bytes of a file's datasets lie, and how many: it changes with any chunk that is written anew."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, node: ArrayNode, did: Any, folder: str = "") -> None:
        """Take in a dataset: offset, size and filter mask of each chunk, or its offset and size; and the files that it names."""
        self._hash.update(node.path.encode("utf-8", "surrogatepass") + b"\0")
        try:
            self._hash.update(_places(did, node.layout == "chunked").tobytes())
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            self._hash.update(type(error).__name__.encode())
        for file in node.files:
            if file == ".":  # HDF5's word for the file itself; here it would be the folder, which changes with what is put there
                continue
            try:
                found = os.stat(os.path.join(folder, file))
                self._hash.update(f"{file}\0{found.st_size}\0{found.st_mtime_ns}".encode("utf-8", "surrogatepass"))
            except (OSError, ValueError):
                self._hash.update(file.encode("utf-8", "surrogatepass"))

    def digest(self) -> str:
        """32 hexadecimal digits."""
        return self._hash.hexdigest()[:_DIGITS]


def _places(did: Any, chunked: bool) -> Any:
    if chunked:
        found: list[tuple[Any, ...]] = []
        did.chunk_iter(lambda chunk: found.append((*chunk.chunk_offset, chunk.byte_offset, chunk.size, chunk.filter_mask)))
        return np.asarray(sorted(found), np.uint64)
    return np.asarray([did.get_offset() or 0, did.get_storage_size()], np.uint64)


def unchanged(
    name: str, size: int, mtime_ns: int, digest: str, storage_options: dict[str, Any] | None = None, attempts: int = ATTEMPTS
) -> None:
    """See that a source is still what was planned: by its size, its time, and the digest of its header.

    Raises
    ------
    SourceChangedError
        If it is not, or cannot be reached any more.
    """
    try:
        found = persist(lambda: identify(name, storage_options), attempts, remote="://" in name)
        if found == (size, mtime_ns):
            head = persist(lambda: header_digest(name, storage_options), attempts, remote="://" in name)
            if head == digest[:_DIGITS] or not digest:
                return
    except FileNotFoundError:
        raise SourceChangedError(f"{name}: no such file any more; it was there when it was planned") from None
    except Exception as error:
        if is_transient(error, remote="://" in name):
            raise TransientError(f"{name}: does not answer any more ({one_line(error)})") from None
        if isinstance(error, OSError):
            raise SourceChangedError(f"{name}: cannot be read any more ({one_line(error)})") from None
        raise
    raise changed(name)


def changed(name: str) -> SourceError:
    """The error of a source that is not what was planned."""
    return SourceChangedError(f"{name}: expected the file that was planned, found that it has changed since")
