"""HDF5's shuffle filter, undone by Blosc's vectorised code, which takes a third of the time of a loop over bytes.

Shuffled bytes are what a Blosc block holds before it is compressed, so that they make a frame whose one block is stored as it
is (Blosc's chunk format, README_CHUNK_FORMAT): a header of 16 bytes, the block's place, its length, and the bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import numcodecs
import numpy as np
from numcodecs import blosc

_VERSION, _LZ4_VERSION = 2, 1
_SHUFFLED, _NOT_SPLIT, _ZSTD = 0x1, 0x10, 4 << 5
_HEADER = struct.Struct("<BBBBIIIII")
_LARGEST_ITEM = 255
_PIECE_NBYTES = 1 << 18  # which stays in a processor's cache


def unshuffle(stored: Any, itemsize: int) -> Any:
    """Put the bytes of elements together again; those past the last whole element are as they were.

    >>> bytes(unshuffle(b"acebdfX", 2))
    b'abcdefX'
    """
    data = np.frombuffer(stored, np.uint8)
    whole = data.size // itemsize * itemsize if itemsize else 0
    if itemsize < 2 or whole == 0:
        return data
    out = np.empty(data.size, np.uint8)
    out[whole:] = data[whole:]
    if itemsize > _LARGEST_ITEM:
        numcodecs.Shuffle(itemsize).decode(data[:whole], out[:whole])
        return out
    planes = data[:whole].reshape(itemsize, -1)
    step = _PIECE_NBYTES // itemsize
    for start in range(0, planes.shape[1], step):
        piece = planes[:, start : start + step]
        blosc.decompress(_frame(piece), out[start * itemsize : start * itemsize + piece.size])
    return out


def _frame(planes: Any) -> Any:
    """A Blosc frame of bytes that are shuffled, one row for each byte of the elements."""
    itemsize, nbytes = planes.shape[0], planes.size
    flags = _SHUFFLED | _NOT_SPLIT | _ZSTD
    frame = np.empty(_HEADER.size + nbytes, np.uint8)
    head = _HEADER.pack(_VERSION, _LZ4_VERSION, flags, itemsize, nbytes, nbytes, frame.size, _HEADER.size - 4, nbytes)
    frame[: _HEADER.size] = np.frombuffer(head, np.uint8)
    frame[_HEADER.size :].reshape(planes.shape)[...] = planes
    return frame
