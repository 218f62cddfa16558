"""Decompressors that stop at a size: what a chunk's bytes say of their own length is not to be believed.

Each gives at most `most` bytes, or raises (ValueError, or what its library raises); what it allocates before is in proportion.
"""

from __future__ import annotations

import bz2
import struct
from contextlib import suppress
from functools import cache
from typing import Any

import numcodecs
import numpy as np
from isal import isal_zlib
from numcodecs import blosc

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def inflate(stored: Any, most: int) -> Any:
    """Decode deflate with zlib's header (RFC 1950), its checksum verified.

    Libdeflate does it where imagecodecs is installed; isal where it is not, or to say what is wrong.

    >>> import zlib
    >>> bytes(inflate(zlib.compress(b"abc"), 3))
    b'abc'
    >>> inflate(zlib.compress(bytes(1 << 20)), 1000)
    Traceback (most recent call last):
    ValueError: it holds more than 1000 bytes
    """
    decode = _libdeflate()
    if decode is not None:
        with suppress(Exception):  # which only says that it failed
            return decode(stored, out=np.empty(most, np.uint8))
    return _whole(isal_zlib.decompressobj(), stored, most)


@cache
def _libdeflate() -> Any:
    """What decodes deflate as a whole, into room that is given; or None."""
    try:
        import imagecodecs
    except ImportError:
        return None
    return imagecodecs.deflate_decode if imagecodecs.DEFLATE.available else None


def bunzip2(stored: Any, most: int) -> bytes:
    """Decode bzip2."""
    return _whole(bz2.BZ2Decompressor(), stored, most)


def _whole(decompressor: Any, stored: Any, most: int) -> bytes:
    plain: bytes = decompressor.decompress(stored, most + 1)
    if len(plain) > most:
        raise ValueError(f"it holds more than {most} bytes")
    if not decompressor.eof:
        raise ValueError("it ends too early")
    return plain


def unzstd(stored: Any, most: int) -> Any:
    """Decode a Zstandard frame (RFC 8878) that says its length, as HDF5's filter writes it."""
    total = _content_nbytes(bytes(memoryview(stored)[:18]))
    if total is None or total > most:
        raise ValueError(f"expected a frame of at most {most} bytes, found one of {'unknown length' if total is None else total}")
    return numcodecs.Zstd().decode(stored)


def _content_nbytes(head: bytes) -> int | None:
    """The length that a frame says it has (RFC 8878, 3.1.1.1); None where it says none."""
    if head[:4] != _ZSTD_MAGIC or len(head) < 6:
        raise ValueError("it has no Zstandard header")
    said, single = head[4] >> 6, head[4] >> 5 & 1
    width = (single, 2, 4, 8)[said]
    at = 5 + (not single) + (0, 1, 2, 4)[head[4] & 3]
    raw = head[at : at + width]
    if len(raw) < width:
        raise ValueError("its header is cut off")
    return int.from_bytes(raw, "little") + (256 if said == 1 else 0) if width else None


def unblosc(stored: Any, most: int) -> Any:
    """Decode Blosc 1, which believes what its header says."""
    if len(stored) < 16:
        raise ValueError("its header is cut off")
    total, block, encoded = struct.unpack_from("<III", stored, 4)
    if total > most or not 0 < block <= max(total, 1) or not 16 <= encoded <= len(stored):
        raise ValueError(
            f"its header tells of {total} bytes in blocks of {block}, encoded in {encoded}; at most {most} were expected"
        )
    return blosc.decompress(stored)


def unlzo(stored: Any, most: int) -> Any:
    """Decode LZO1X, as PyTables' filter writes it, without a header."""
    import imagecodecs

    return imagecodecs.lzo_decode(stored, header=False, out=most)


def unlz4(stored: Any, most: int) -> bytearray:
    """Decode HDF5's LZ4 frames (registry page of filter 32004).

    Big-endian total and block sizes, then blocks, each with its own length; a block that LZ4 could not shrink is plain.
    """
    data = memoryview(stored).cast("B")
    total, block = struct.unpack_from(">QI", data)
    if total > most:
        raise ValueError(f"it tells of {total} bytes; at most {most} were expected")
    out, at = bytearray(), 12
    codec = numcodecs.LZ4()
    while len(out) < total:
        (length,) = struct.unpack_from(">I", data, at)
        piece, at = data[at + 4 : at + 4 + length], at + 4 + length
        plain = min(block, total - len(out))
        if not plain or len(piece) < length:
            raise ValueError("it ends too early")
        out += piece if length == plain else codec.decode(struct.pack("<I", plain) + bytes(piece))
    return out
