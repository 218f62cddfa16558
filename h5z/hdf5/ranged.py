"""A remote file as libhdf5 and the readers past it want it: few, large requests for what is small and scattered.

Headers lie in small pieces all over a file. They are read in blocks, kept for the next piece; what is large is asked for
as it is.
"""

from __future__ import annotations

import io
import posixpath
import threading
from collections import OrderedDict
from typing import Any

from h5z.credentials import joined
from h5z.errors import one_line
from h5z.stores.remote import ranged
from h5z.stores.retries import answered

BLOCK_NBYTES = 2 << 20
MOST_BLOCKS = 16
WHOLE_NBYTES = 8 << 20  # a file of up to so many bytes is one request


class Ranges:
    """Reads ranges of a remote file, from any thread.

    Parameters
    ----------
    name : str
        Its URL.
    storage_options : dict, optional
        What fsspec takes.

    Raises
    ------
    FileNotFoundError, OSError
        If there is no such file, or it cannot be reached.
    """

    def __init__(self, name: str, storage_options: dict[str, Any] | None = None) -> None:
        from fsspec.core import url_to_fs

        self.name = name
        url, options = joined(name, storage_options)
        self._filesystem, self._path = url_to_fs(url, **options)
        self._filesystem.invalidate_cache(posixpath.dirname(self._path))  # it may have grown since it was listed
        self.nbytes = int(answered(name, lambda: self._filesystem.info(self._path))["size"])
        self._fetch = ranged(url, options) or self._from_filesystem
        self._block = self.nbytes if self.nbytes <= WHOLE_NBYTES else BLOCK_NBYTES
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, offset: int, nbytes: int) -> bytes:
        """Read a range; what is small from a block that is kept.

        Raises
        ------
        OSError
            If the file ends before.
        """
        if nbytes * 4 >= self._block and self.nbytes > WHOLE_NBYTES:
            return self._request(offset, nbytes)
        first, last = offset // max(1, self._block), (offset + max(nbytes, 1) - 1) // max(1, self._block)
        parts = b"".join(self._kept(number) for number in range(first, last + 1))
        found = parts[offset - first * self._block : offset - first * self._block + nbytes]
        if len(found) != nbytes:
            raise OSError(f"expected {nbytes} bytes at {offset}, found {len(found)}")
        return found

    def _kept(self, number: int) -> bytes:
        with self._lock:  # two threads that want one block make one request
            block = self._blocks.pop(number, None)
            if block is None:
                start = number * self._block
                block = self._request(start, max(0, min(self._block, self.nbytes - start)))
            self._blocks[number] = block
            while len(self._blocks) > MOST_BLOCKS:
                self._blocks.popitem(last=False)
            return block

    def _request(self, offset: int, nbytes: int) -> bytes:
        if nbytes == 0:
            return b""
        found = answered(self.name, lambda: self._fetch(offset, offset + nbytes))
        if len(found) != nbytes:
            raise OSError(f"expected {nbytes} bytes at {offset}, found {len(found)}")
        return found

    def _from_filesystem(self, start: int, end: int) -> bytes:
        found: bytes = self._filesystem.cat_file(self._path, start=start, end=end)
        return found


class RangedFile(io.RawIOBase):
    """A remote file as a file object, for libhdf5."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self._at = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.ranges.nbytes}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, to its end or the file's."""
        view = memoryview(buffer).cast("B")
        nbytes = max(0, min(len(view), self.ranges.nbytes - self._at))
        try:
            view[:nbytes] = self.ranges.read(self._at, nbytes)
        except OSError:
            raise
        except Exception as error:  # libhdf5 passes on only what it knows
            raise OSError(one_line(error)) from error
        self._at += nbytes
        return nbytes
