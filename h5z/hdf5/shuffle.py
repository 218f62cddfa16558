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
_FRAME = struct.Struct("<BBBBIIIII")
_LARGEST_ITEM = 255
_LARGEST_FRAME = (1 << 31) - 1 - 64


def unshuffle(stored: Any, itemsize: int) -> Any:
    """Put the bytes of elements together again; those past the last whole element are as they were.

    >>> bytes(unshuffle(b"acebdfX", 2))
    b'abcdefX'
    """
    data = memoryview(stored).cast("B")
    nbytes = len(data)
    if itemsize < 2 or nbytes < itemsize:
        return data
    if itemsize > _LARGEST_ITEM or nbytes + _FRAME.size > _LARGEST_FRAME:
        whole = nbytes // itemsize * itemsize
        plain = numcodecs.Shuffle(itemsize).decode(data[:whole], np.empty(whole, np.uint8))  # it would fill it with zeros first
        return plain if whole == nbytes else bytes(plain) + bytes(data[whole:])
    frame = np.empty(_FRAME.size + nbytes, np.uint8)
    flags = _SHUFFLED | _NOT_SPLIT | _ZSTD
    header = _FRAME.pack(_VERSION, _LZ4_VERSION, flags, itemsize, nbytes, nbytes, frame.size, _FRAME.size - 4, nbytes)
    frame[: _FRAME.size] = np.frombuffer(header, np.uint8)
    frame[_FRAME.size :] = data
    return blosc.decompress(frame)
