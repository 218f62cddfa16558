"""HDF5's filter pipeline, encoded outside libhdf5 and so outside its lock: the inverse of `h5z.hdf5.filters.decode`.

Deflate is zlib's own, not a faster library's: most files were written with it, and come back byte for byte.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numcodecs
from numcodecs import blosc

from h5z.hdf5.filters import BLOSC, BZIP2, DEFLATE, FLETCHER32, SHUFFLE, ZSTD, Filter, blosc_name

Encoder = Callable[[Any, Filter], Any]
SZIP, NBIT, SCALEOFFSET, LZF, LZ4, BITSHUFFLE = 4, 5, 6, 32000, 32004, 32008
LOSSLESS = frozenset({DEFLATE, SHUFFLE, FLETCHER32, SZIP, LZF, LZ4, BITSHUFFLE, BZIP2, BLOSC, ZSTD})


def encodable(filters: Sequence[Filter]) -> bool:
    """Whether a whole pipeline can be encoded here.

    >>> encodable([(2, "shuffle", 0, (4,)), (1, "deflate", 0, (6,))]), encodable([(6, "scaleoffset", 0, ())])
    (True, False)
    """
    return all(_encodable(number, options) for number, _, _, options in filters)


def _encodable(number: int, options: Sequence[int]) -> bool:
    if number == BLOSC:
        return len(options) > 6 and blosc_name(options[6]) is not None
    return number in _ENCODERS and (number != SHUFFLE or bool(options))


def encode(plain: Any, filters: Sequence[Filter], mask: int = 0) -> Any:
    """Encode a chunk's bytes.

    Parameters
    ----------
    filters : sequence of Filter
        The dataset's pipeline, in the order in which it encodes.
    mask : int
        Bit i is set where filter i shall be skipped.
    """
    for i, item in enumerate(filters):
        if not mask >> i & 1:
            plain = _ENCODERS[item[0]](plain, item)
    return plain


def _shuffle(plain: Any, item: Filter) -> Any:
    data, itemsize = memoryview(plain).cast("B"), item[3][0]
    whole = len(data) // itemsize * itemsize
    if itemsize < 2 or whole == 0:
        return data
    shuffled = numcodecs.Shuffle(itemsize).encode(data[:whole])
    return shuffled if whole == len(data) else bytes(shuffled) + bytes(data[whole:])


def _fletcher32(plain: Any, _: Filter) -> Any:
    """HDF5 sums 16-bit words, and takes a zero for the byte that an odd length lacks."""
    data = bytes(plain)
    return data + bytes(numcodecs.Fletcher32().encode(data + bytes(len(data) % 2)))[-4:]


def _blosc(plain: Any, item: Filter) -> Any:
    options = item[3]
    cname = (blosc_name(options[6]) or "").encode()
    return blosc.compress(plain, cname, options[4], options[5], 0, max(1, options[2]))


def _level(options: Sequence[int], usual: int) -> int:
    level = options[0] if options else usual
    return level if level < 1 << 31 else level - (1 << 32)  # a signed number in an unsigned place


_ENCODERS: dict[int, Encoder] = {
    DEFLATE: lambda plain, item: zlib.compress(plain, _level(item[3], 6)),
    SHUFFLE: _shuffle,
    FLETCHER32: _fletcher32,
    BZIP2: lambda plain, item: bz2.compress(plain, _level(item[3], 9)),
    BLOSC: _blosc,
    ZSTD: lambda plain, item: numcodecs.Zstd(_level(item[3], 3)).encode(plain),
}
