"""Bytes of HDF5 files: what fetches them, and datasets whose values lie together, of which nobody need ask libhdf5."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from h5py import h5f

from h5z.grid import Region, region_shape
from h5z.nodes import Shape

Fetch = Callable[[int, int], bytes]  # (offset, nbytes) -> bytes
_RUNS = 4096  # of bytes that one read of a region may take; beyond, libhdf5 gathers them better


@dataclass(frozen=True)
class Contiguous:
    """Where the values of a dataset lie that is not cut into chunks.

    Attributes
    ----------
    offset : int
        Of its first byte.
    shape : tuple of int
        The dataset's own.
    """

    offset: int
    shape: Shape

    @staticmethod
    def offset_of(did: Any) -> int | None:
        """Where an open dataset's bytes begin; None where there are none: behind a user block libhdf5 tells a place even then."""
        return did.get_offset() if did.get_storage_size() else None

    def read(self, fetch: Fetch, region: Region, dtype: np.dtype[Any]) -> Any | None:
        """Read a region's values as they lie in the file; None where they lie in too many runs of bytes.

        Raises
        ------
        OSError
            If the file ends too early.
        """
        shape, wanted = self.shape, region_shape(region)
        whole = len(shape)
        while whole and wanted[whole - 1] == shape[whole - 1]:
            whole -= 1
        whole = max(whole - 1, 0)  # axes before this one are walked, those from it on lie together
        if math.prod(wanted[:whole]) > _RUNS:
            return None
        strides = [math.prod(shape[i + 1 :]) * dtype.itemsize for i in range(len(shape))]
        start = self.offset + sum(s.start * stride for s, stride in zip(region, strides, strict=True))
        run = math.prod(wanted[whole:]) * dtype.itemsize
        pieces = [
            fetch(start + sum(i * stride for i, stride in zip(index, strides, strict=False)), run)
            for index in product(*map(range, wanted[:whole]))
        ]
        raw = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return np.frombuffer(raw, dtype.base).reshape(wanted + dtype.shape)


def local_fetch(name: str) -> Fetch:
    """Read a local file's bytes by `os.pread`; it is open for as long as anybody holds what is returned."""
    return _LocalFile(name).read


class _LocalFile:
    def __init__(self, name: str) -> None:
        self.fd = os.open(name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self.fd)

    def read(self, offset: int, nbytes: int) -> bytes:
        end = os.fstat(self.fd).st_size
        if not 0 <= offset <= offset + nbytes <= end:
            raise OSError(f"expected {nbytes} bytes at {offset}, found the file's end at {end}")
        found = os.pread(self.fd, nbytes, offset)
        while len(found) < nbytes:
            more = os.pread(self.fd, nbytes - len(found), offset + len(found))
            if not more:
                raise OSError(f"expected {nbytes} bytes at {offset}, found the file's end after {len(found)}")
            found += more
        return found


def external_fetch(did: Any, plist: Any) -> Fetch:
    """Read the raw files of a dataset with external storage, beside the file that names them, as one run of bytes.

    Past the end of such a file there are zeros, as libhdf5 has it.
    """
    folder = os.path.dirname(os.path.realpath(os.fsdecode(h5f.get_name(did))))
    parts = [plist.get_external(i) for i in range(plist.get_external_count())]
    files = [
        (os.path.join(folder, name.decode("utf-8", "surrogateescape")), int(start), int(size)) for name, start, size in parts
    ]

    def fetch(offset: int, nbytes: int) -> bytes:
        out = b""
        for name, start, size in files:
            if len(out) < nbytes and offset < size:
                with open(name, "rb") as raw:
                    raw.seek(start + offset)
                    wanted = min(size - offset, nbytes - len(out))
                    out += raw.read(wanted).ljust(wanted, b"\0")
                offset = size
            offset -= size
        return out.ljust(nbytes, b"\0")

    return fetch
